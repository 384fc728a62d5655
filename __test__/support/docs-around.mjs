// What a block of the documentation has around it when it runs, against the local cloud that the environment names.

import assert from 'node:assert/strict'

import { provisionVM } from 'provision-vm'
import { startLocalCloud } from 'provision-vm/local-cloud'
import { verifyCallback } from 'provision-vm/webhook'
import ts from 'typescript'

const job = { jobId: 'job-42', agentId: '550e8400-e29b', region: 'us-east' }
const secret = '0123456789abcdef0123456789abcdef'

// What a block may use without saying where it comes from; `docs-types.js` has the types.
Object.assign(globalThis, {
  provisionVM,
  params: job,
  job,
  jobs: [1, 2, 3].map((number) => ({ ...job, jobId: `job-${number}` })),
  secret,
  POST: async (request) => Response.json(await verifyCallback(request, { secret })),
  __says: says,
})
// One that somebody has started. It ends with this process.
if (process.env.CLOUD) globalThis.cloud = await startLocalCloud()

/** What stands for `…`. */
const MORE = '__more'

/** Holds a value against the comment that says what it is. `…` stands for more fields, and a bare name for whatever the field holds. */
function says(value, comment) {
  const expected = comment.replaceAll('…', MORE)
  const { statements: [statement], parseDiagnostics } = ts.createSourceFile('comment.js', `(${expected})`, ts.ScriptTarget.ES2022, true)
  assert.equal(parseDiagnostics.length, 0, `the comment is no value: ${comment}`)
  fits(value, statement.expression.expression, comment)
}

function fits(value, node, comment) {
  if (ts.isArrayLiteralExpression(node)) {
    assert.ok(Array.isArray(value), comment)
    if (node.elements.length === 0) return assert.deepEqual(value, [], comment)
    assert.ok(value.length > 0, `nothing came of: ${comment}`)
    // One stands for each there is; several are all that there are.
    if (node.elements.length > 1) assert.equal(value.length, node.elements.length, comment)
    return value.forEach((item, at) => fits(item, node.elements[at] ?? node.elements[0], comment))
  }
  if (!ts.isObjectLiteralExpression(node)) return assert.deepEqual(value, new Function(`return ${node.getText()}`)(), comment)
  const names = node.properties.map((field) => field.name.getText())
  if (!names.includes(MORE)) assert.deepEqual(Object.keys(value).filter((name) => !names.includes(name)), [], `there is more: ${comment}`)
  for (const field of node.properties) {
    const name = field.name.getText()
    if (name === MORE) continue
    assert.ok(value[name] !== undefined && value[name] !== null, `there is no ${name}: ${comment}`)
    if (ts.isPropertyAssignment(field)) fits(value[name], field.initializer, comment)
  }
}

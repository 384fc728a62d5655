'use strict'

// Runs a block of the documentation that stands on standard input, against the local cloud that the environment names.

const assert = require('node:assert/strict')
const { createRequire } = require('node:module')
const path = require('node:path')
const { text } = require('node:stream/consumers')

const ts = require('typescript')

const { provisionVM } = require('provision-vm')
const { verifyCallback } = require('provision-vm/webhook')

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

/** Holds a value against the comment that says what it is. `…` stands for more fields, and a bare name for whatever the field holds. */
function says(value, comment) {
  const expected = comment.replace(/,? *…/g, '')
  const { statements: [statement], parseDiagnostics } = ts.createSourceFile('comment.js', `(${expected})`, ts.ScriptTarget.ES2022, true)
  assert.equal(parseDiagnostics.length, 0, `the comment is no value: ${comment}`)
  fits(value, statement.expression.expression, comment)
}

function fits(value, node, comment) {
  if (ts.isArrayLiteralExpression(node)) {
    assert.ok(Array.isArray(value), comment)
    if (node.elements.length === 0) return assert.deepEqual(value, [], comment)
    assert.ok(value.length > 0, `nothing came of: ${comment}`)
    return value.forEach((item) => fits(item, node.elements[0], comment))
  }
  if (!ts.isObjectLiteralExpression(node)) return assert.deepEqual(value, new Function(`return ${node.getText()}`)(), comment)
  for (const field of node.properties) {
    const name = field.name.getText()
    assert.notEqual(value[name], undefined, `there is no ${name}: ${comment}`)
    if (ts.isPropertyAssignment(field)) fits(value[name], field.initializer, comment)
  }
}

const AsyncFunction = (async () => {}).constructor

text(process.stdin).then(async (code) => {
  const isStarted = /\bcloud\b/.test(code) && !/\bcloud\b[^\n]*=/.test(code)
  if (isStarted) globalThis.cloud = await require('provision-vm/local-cloud').startLocalCloud()
  // A block lies where the tests lie.
  await new AsyncFunction('require', 'exports', code)(createRequire(path.join(__dirname, '..', 'block.js')), {})
  if (isStarted) await globalThis.cloud.stop()
})

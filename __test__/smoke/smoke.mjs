// What an app does with the installed package, on whatever runtime this is: no test framework, and nothing that only one of
// them has. The environment says where the clouds are. It ends by itself; its last line says what it has left standing.
// Run by `runtimes.test.js`.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import process from 'node:process'
import { isMainThread, Worker, workerData } from 'node:worker_threads'

import * as namespace from 'provision-vm'
import { deprovisionVM, generateCloudInitConfig, listDevices, provisionMany, provisionVM } from 'provision-vm'
import { signCallback, verifyCallback } from 'provision-vm/webhook'

const require = createRequire(import.meta.url)

if (isMainThread) await main()
else await inWorker()

async function main() {
  moduleSystems()
  await errors()
  firstBoot()
  const kept = await provision()
  await many()
  await removal()
  await abort()
  await callback()
  await worker()
  const { bun, deno, node } = process.versions
  console.log(JSON.stringify({ version: bun ?? deno ?? node, kept }))
}

/** `import` sees by its name each function that `require` gives. */
function moduleSystems() {
  const required = require('provision-vm')
  // Newer Node.js and Deno have `module.exports` beside `default`.
  const { default: whole, 'module.exports': same, ...named } = namespace
  assert.deepEqual(named, { ...required })
  assert.equal(whole, required)
  assert.equal(require('provision-vm/webhook').verifyCallback, verifyCallback)
}

/** Whichever function fails, its error is a whole one, and its stack leads to the app. */
async function errors() {
  // What only counts does not fail.
  const { ProvisionError, isProvisionError, getMetrics, default: _, 'module.exports': __, ...functions } = namespace
  assert.equal(getMetrics().underway, 0)
  for (const [name, call] of Object.entries(functions)) {
    const error = await failureOf(async () => {
      const outcome = call(5, 5, 5)
      // Of many jobs it is the summary that fails.
      await (outcome.summary ?? outcome)
    })
    assert.ok(error instanceof Error && error instanceof ProvisionError && isProvisionError(error), name)
    assert.deepEqual([error.name, error.code, error.step], ['ProvisionError', 'INVALID_INPUT', 'validate'], name)
    assert.ok(error.stack.includes('smoke.mjs'), `${name}: ${error.stack}`)
  }
  const error = await failureOf(() => provisionVM({ ...job('bad'), region: 5 }))
  assert.equal(error.field, 'params.region')
  assert.equal(JSON.parse(JSON.stringify(error)).field, 'params.region')
}

function firstBoot() {
  const document = generateCloudInitConfig({ tailscaleAuthKey: 'tskey-auth-k1-x', hostname: 'web-1' })
  assert.ok(document.startsWith('#cloud-config\n') && document.includes('web-1'), document)
}

async function provision() {
  const steps = []
  const vm = await provisionVM(job('kept'), { onProgress: ({ step }) => steps.push(step) })
  assert.deepEqual([steps[0], steps.at(-1)], ['validate', 'ready'])
  assert.deepEqual((await listDevices()).map(({ nodeId }) => nodeId), [vm.nodeId])
  return vm
}

/** The job that stands, and one that is wrong: nothing more is made. */
async function many() {
  const ends = []
  const run = provisionMany([job('kept'), { ...job('bad'), region: 5 }], { logger: false })
  for await (const { index, status } of run) ends[index] = status
  assert.deepEqual(ends, ['fulfilled', 'rejected'])
  const { ready, reused, failed } = await run.summary
  assert.deepEqual([ready, reused, failed], [1, 1, 1])
}

async function removal() {
  const { serverId } = await provisionVM(job('removed'), { logger: false })
  const { servers, leftovers } = await deprovisionVM({ jobId: 'removed' }, { logger: false })
  assert.deepEqual(servers.map((server) => [server.serverId, server.removed]), [[serverId, true]])
  assert.deepEqual(leftovers, [])
}

/** Given up when its server is there already. */
async function abort() {
  const controller = new AbortController()
  const reason = new Error('the user left')
  const onProgress = ({ serverId }) => serverId && controller.abort(reason)
  const error = await failureOf(() => provisionVM(job('aborted'), { signal: controller.signal, onProgress, logger: false }))
  assert.deepEqual([error.name, error.code, error.leftovers], ['AbortError', 'ABORTED', []])
  assert.equal(error.cause, reason)
}

async function callback() {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const body = JSON.stringify({ type: 'heartbeat', job_id: 'job-1' })
  const headers = await signCallback({ body, secret, id: 'msg-1' })
  const request = () => new Request('https://app.example/', { method: 'POST', headers, body })
  const { id, payload } = await verifyCallback(request(), { secret })
  assert.deepEqual([id, payload], ['msg-1', { type: 'heartbeat', job_id: 'job-1' }])
  const error = await failureOf(() => verifyCallback(request(), { secret: 'another secret of 16 bytes' }))
  assert.deepEqual([error.name, error.code], ['CallbackError', 'BAD_SIGNATURE'])
}

/** A thread has an environment of its own, which native code alone would not see. */
async function worker() {
  const options = { env: {}, workerData: { ...process.env } }
  const worker = new Worker(new URL(import.meta.url), options)
  const code = await new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject))
  assert.equal(code, 0)
}

async function inWorker() {
  const error = await failureOf(() => listDevices())
  assert.deepEqual([error.code, error.field], ['CONFIG', 'TAILSCALE_OAUTH_CLIENT_ID'])
  Object.assign(process.env, workerData)
  assert.equal((await listDevices()).length, 1)
}

function job(jobId) {
  return { jobId, agentId: '550e8400-e29b', region: 'us-east' }
}

async function failureOf(call) {
  try {
    await call()
  } catch (error) {
    return error
  }
  assert.fail('it succeeded')
}

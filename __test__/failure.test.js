'use strict'

// What the wrapper itself promises when a call fails or is misused; the core's own faults are in `cargo test`.

const assert = require('node:assert/strict')
const { getEventListeners } = require('node:events')
const { after, before, beforeEach, test } = require('node:test')

const { ProvisionError, provisionVM } = require('..')
const { leftIn, newJob, startCloud } = require('./support/simulator.js')

/**
 * A deadline counts in real time and the life of a key in the world's, one minute more than the deadline: slower than
 * elsewhere, so that no key is too old by the time it is revoked.
 */
const TIME_SCALE = 10

let cloud
before(async () => (cloud = await startCloud({ timeScale: TIME_SCALE })))
after(() => cloud.stop())
beforeEach(() => cloud.reset())

const quiet = (more) => ({ env: cloud.env(), logger: false, ...more })

/** What a call rejects with. */
async function failure(params, options) {
  const call = provisionVM(params, options)
  assert.ok(call instanceof Promise, 'nothing is thrown at the caller')
  const error = await call.then(() => assert.fail('the call succeeded'), (error) => error)
  assert.ok(error instanceof ProvisionError, error.stack)
  return error
}

/** What goes wrong in the world, and the code and step that it becomes. */
const FAULTS = [
  ['a device that never joins', { machine: { boot: 'never_joins' } }, 'ENROLL_TIMEOUT', 'wait'],
  ['a machine that never boots', { machine: { boot: 'never_boots' } }, 'ENROLL_TIMEOUT', 'wait'],
  ['a create action that never ends', { hetzner: { create_action: 'never' } }, 'ACTION_TIMEOUT', 'wait'],
  ['a project that is full', { hetzner: { server_limit: 0 } }, 'QUOTA', 'server'],
]

for (const [name, patch, code, step] of FAULTS) {
  test(`${name}: ${code}, and the key is revoked, not merely too old`, async () => {
    await cloud.configure(patch)
    const error = await failure(newJob(), quiet({ timeoutMs: 3000 }))
    assert.deepEqual([error.code, error.step, error.leftovers], [code, step, []], error.stack)
    const world = await cloud.world()
    assert.deepEqual(leftIn(world), [])
    assert.ok(world.keys.length > 0 && world.keys.every((key) => key.revoked))
  })
}

test('what cannot be removed is named', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const refusal = { status: 403, json: { error: { code: 'forbidden', message: 'insufficient permissions' } } }
  await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 1000, kind: { answer: refusal } })
  const error = await failure(newJob(), quiet({ timeoutMs: 2000 }))
  assert.equal(error.code, 'ENROLL_TIMEOUT', 'the undo does not hide the first cause')
  const [server] = (await cloud.world()).servers
  const named = error.leftovers.find(({ kind }) => kind === 'server')
  assert.deepEqual([named.id, named.name], [String(server.id), server.name])
  assert.ok(named.why.length > 0)
})

test('every property of an error is its own data, and its message can be read by itself', async () => {
  const error = await failure(newJob(), quiet({ env: cloud.env({ HETZNER_API_TOKEN: 'wrong-token-1234' }) }))
  assert.ok(error.message.includes(error.cause.message), error.message)
  const data = JSON.parse(JSON.stringify(error))
  for (const field of ['code', 'step', 'retryable', 'attempts', 'requestIds', 'requests', 'leftovers', 'hint']) {
    assert.ok(Object.hasOwn(error, field), field)
    assert.deepEqual(data[field], error[field], field)
  }
  assert.deepEqual([data.name, data.message, data.cause], ['ProvisionError', error.message, error.cause.message])
})

test('arguments that JSON cannot hold, and options that stay in JavaScript, are named before any request', async () => {
  const circular = newJob()
  circular.region = circular
  const trapped = {
    ...newJob(),
    get jobId() {
      throw new Error('trap')
    },
  }
  for (const [params, options, field] of [
    [() => newJob(), {}, 'params'],
    [[], {}, 'params'],
    [newJob({ agentId: Symbol('agent') }), {}, 'params.agentId'],
    [circular, {}, 'params.region'],
    [trapped, {}, 'params.jobId'],
    [newJob(), { timeoutMs: NaN }, 'options.timeoutMs'],
    [newJob(), { timeoutMs: Infinity }, 'options.timeoutMs'],
    [newJob(), { serverTypes: ['cpx11', 5n] }, 'options.serverTypes[1]'],
    [newJob(), { strictRegion: () => true }, 'options.strictRegion'],
    [newJob(), { signal: {} }, 'options.signal'],
    // It would be found out only when the call is over, and hide how it ended.
    [newJob(), { signal: { aborted: false, addEventListener() {} } }, 'options.signal'],
    [newJob(), { onProgress: 'log' }, 'options.onProgress'],
    [newJob(), { onSecret: 1 }, 'options.onSecret'],
    [newJob(), { logger: { info() {} } }, 'options.logger'],
    [newJob(), { logger: true }, 'options.logger'],
    [newJob(), { env: 'PATH' }, 'options.env'],
  ]) {
    const error = await failure(params, quiet(options))
    assert.deepEqual([error.code, error.field, error.step], ['INVALID_INPUT', field, 'validate'], error.message)
    assert.ok(error.message.startsWith(`${field}: `) && error.hint.length > 0, error.message)
  }
  for (const options of ['fast', 5, [], () => ({})]) {
    // With these there is no environment either, so nothing could be sent anywhere but to the cloud of `process.env`.
    assert.equal((await failure(newJob(), options)).field, 'options')
  }
  assert.equal(await cloud.requests(), 0)
})

test('a setting that is no text is named', async () => {
  const error = await failure(newJob(), quiet({ env: cloud.env({ HETZNER_API_TOKEN: 5 }) }))
  assert.deepEqual([error.code, error.field], ['CONFIG', 'HETZNER_API_TOKEN'])
})

test('a signal is left as it was found, however the call ends', async () => {
  const { signal } = new AbortController()
  signal.onabort = () => {}
  const { onabort } = signal
  await provisionVM(newJob(), quiet({ signal }))
  await failure(newJob({ jobId: '' }), quiet({ signal }))
  assert.equal(signal.onabort, onabort)
  assert.deepEqual(getEventListeners(signal, 'abort').filter((listener) => listener !== onabort).length, 1, 'only onabort')
})

test('listeners that reject, and loggers that throw, are warnings', async () => {
  const warnings = []
  const onWarning = (warning) => warnings.push(`${warning.name}: ${warning.message}`)
  process.on('warning', onWarning)
  const fail = () => {
    throw new Error('no disk')
  }
  const onProgress = async () => fail()
  const onSecret = async () => fail()
  await provisionVM(newJob(), { env: cloud.env(), logger: { info: fail, warn: fail }, onProgress, onSecret })
  await new Promise(setImmediate)
  process.off('warning', onWarning)
  for (const name of ['onProgress', 'onSecret', 'logger']) {
    assert.ok(warnings.includes(`ProvisionVMWarning: ${name} failed: Error: no disk`), `${name}: ${warnings}`)
  }
})

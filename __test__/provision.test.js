'use strict'

const assert = require('node:assert/strict')
const { execFile, spawn } = require('node:child_process')
const { once } = require('node:events')
const { after, before, beforeEach, test } = require('node:test')
const { promisify } = require('node:util')
const { Worker } = require('node:worker_threads')

const { provisionVM, ProvisionError } = require('..')
const { leftIn, newJob, ROOT, startCloud, usable } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
after(() => cloud.stop())
beforeEach(() => cloud.reset())

const quiet = (more) => ({ env: cloud.env(), logger: false, ...more })

/** The call must fail; what it failed with. */
async function failure(call) {
  const error = await call.then(
    (value) => assert.fail(`the call succeeded: ${JSON.stringify(value)}`),
    (error) => error,
  )
  assert.ok(error instanceof ProvisionError, error.stack)
  return error
}

async function assertOneReady(result) {
  const world = await cloud.world()
  assert.deepEqual(world.servers.map(({ id }) => id), [result.serverId])
  assert.equal(world.servers[0].labels.state, 'ready')
  assert.equal(world.servers[0].node, result.nodeId)
  assert.deepEqual(usable(world), [])
  return world
}

test('a job becomes one machine in the tailnet, and the result says all about it', async () => {
  const params = newJob()
  const result = await provisionVM(params, quiet())
  const world = await assertOneReady(result)
  const [server] = world.servers
  assert.equal(result.serverName, server.name)
  assert.equal(result.serverIp, server.ipv4)
  assert.equal(result.tailscaleIp, world.devices[0].ip)
  assert.equal(server.labels.provisioning_job_id, params.jobId)
  assert.equal(server.labels.agent_id, params.agentId)
  assert.match(result.serverName, /^agent-550e8400-[0-9a-f]{12}$/)
  assert.deepEqual(result.attempts, [{ serverType: 'cpx11', location: 'ash' }])
  assert.deepEqual(result.price, { hourly: '0.033', monthly: '20.49' })
  assert.deepEqual([result.usedSnapshot, result.reused, result.warnings], [false, false, []])
  assert.equal(result.requests.hetzner, world.requests.hetzner)
})

test('every region and an unknown one get a server, and say where and of which type', async () => {
  const regions = {
    'us-east': 'ash',
    'us-west': 'hil',
    'eu-central': 'nbg1',
    'eu-west': 'fsn1',
    'eu-north': 'hel1',
    'ap-southeast': 'sin',
    mars: 'nbg1',
  }
  const calls = Object.keys(regions).map((region) => provisionVM(newJob({ region }), quiet()))
  for (const [index, result] of (await Promise.all(calls)).entries()) {
    const [region, location] = Object.entries(regions)[index]
    assert.equal(result.location, location, region)
    const withdrawn = !['ash', 'hil'].includes(location)
    assert.equal(result.serverType, withdrawn ? 'cpx12' : 'cpx11', region)
    assert.equal(result.attempts[0].serverType, 'cpx11')
    assert.equal(result.attempts[0].refused !== undefined, withdrawn, region)
    assert.equal(result.warnings.length, region === 'mars' ? 1 : 0)
  }
})

test('the same job again gives the same server', async () => {
  const params = newJob()
  const first = await provisionVM(params, quiet())
  const second = await provisionVM(params, quiet())
  assert.equal(second.serverId, first.serverId)
  assert.deepEqual([first.reused, second.reused], [false, true])
  assert.equal((await assertOneReady(second)).servers_ever, 1)
})

test('two processes at once end with one server for both', async () => {
  const params = JSON.stringify(newJob())
  const program = `require('provision-vm').provisionVM(${params}, { logger: false }).then((r) => console.log(JSON.stringify(r)))`
  const run = () => promisify(execFile)(process.execPath, ['-e', program.replace('provision-vm', ROOT)], { env: cloud.env() })
  const [one, two] = (await Promise.all([run(), run()])).map(({ stdout }) => JSON.parse(stdout))
  assert.equal(one.serverId, two.serverId)
  assert.equal((await assertOneReady(one)).servers_ever, 1)
})

test('it is there for CommonJS, ESM, and a worker thread with an environment of its own', async () => {
  const esm = `import { provisionVM } from 'provision-vm'
    const result = await provisionVM(${JSON.stringify(newJob())}, { logger: false })
    process.stdout.write(String(result.serverId))`
  // The package resolves by its own name from within itself.
  const child = spawn(process.execPath, ['--input-type=module', '-e', esm], { cwd: ROOT, env: cloud.env() })
  let said = ''
  child.stdout.on('data', (chunk) => (said += chunk))
  child.stderr.on('data', (chunk) => (said += chunk))
  assert.deepEqual(await once(child, 'close'), [0, null], said)
  assert.match(said, /^\d+$/)

  const source = `const { parentPort, workerData } = require('node:worker_threads')
    Object.assign(process.env, workerData.env)
    require(workerData.root).provisionVM(workerData.params, { logger: false }).then((r) => parentPort.postMessage(r.serverId))`
  const worker = new Worker(source, { eval: true, workerData: { root: ROOT, env: cloud.env(), params: newJob() } })
  const [id] = await once(worker, 'message')
  assert.equal(process.env.HETZNER_API_TOKEN, undefined, 'only the worker has settings')
  assert.ok((await cloud.world()).servers.some((server) => server.id === id))
})

test('an action that fails: a documented code, and nothing is left', async () => {
  const failed = { error: { code: 'action_failed', message: 'Action failed' } }
  for (const [patch, code] of [
    [{ hetzner: { create_action: failed } }, 'ACTION_FAILED'],
    [{ hetzner: { start_action: failed } }, 'ACTION_FAILED'],
  ]) {
    await cloud.reset()
    await cloud.configure(patch)
    const error = await failure(provisionVM(newJob(), quiet()))
    assert.deepEqual([error.code, error.leftovers], [code, []])
    assert.deepEqual(leftIn(await cloud.world()), [])
    assert.ok(error.hint.length > 20)
  }
})

test('a lost reply to the order ends with one server and success', async () => {
  for (const kind of ['reset_after_apply', 'truncate', 'empty', { answer: { status: 504, text: '<html>', apply: true } }]) {
    await cloud.reset()
    await cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', kind })
    const world = await assertOneReady(await provisionVM(newJob(), quiet()))
    assert.deepEqual([world.servers_ever, world.faults_fired], [1, 1], JSON.stringify(kind))
  }
})

test('wrong input and missing settings are named before any request', async () => {
  const circular = {}
  circular.self = circular
  const without = (name) => ({ ...cloud.env(), [name]: undefined })
  for (const [params, options, code, field] of [
    [undefined, {}, 'INVALID_INPUT', 'params'],
    ['job', {}, 'INVALID_INPUT', 'params'],
    [newJob({ jobId: 5 }), {}, 'INVALID_INPUT', 'params.jobId'],
    [newJob({ jobId: () => 'x' }), {}, 'INVALID_INPUT', 'params.jobId'],
    [newJob({ jobId: 5n }), {}, 'INVALID_INPUT', 'params.jobId'],
    [newJob({ jobId: circular }), {}, 'INVALID_INPUT', 'params.jobId'],
    [newJob({ jobId: 'x'.repeat(64) }), {}, 'INVALID_INPUT', 'params.jobId'],
    [newJob({ agentId: '$(id)' }), {}, 'INVALID_INPUT', 'params.agentId'],
    [newJob({ region: undefined }), {}, 'INVALID_INPUT', 'params.region'],
    [newJob({ region: 'mars' }), { strictRegion: true }, 'INVALID_INPUT', 'params.region'],
    [newJob(), { timeoutMs: '5' }, 'INVALID_INPUT', 'options.timeoutMs'],
    [newJob(), { serverTypes: 'cpx11' }, 'INVALID_INPUT', 'options.serverTypes'],
    [newJob(), { env: without('HETZNER_API_TOKEN') }, 'CONFIG', 'HETZNER_API_TOKEN'],
    [newJob(), { env: without('HETZNER_SSH_KEY_ID') }, 'CONFIG', 'HETZNER_SSH_KEY_ID'],
    [newJob(), { env: without('TAILSCALE_OAUTH_CLIENT_ID') }, 'CONFIG', 'TAILSCALE_OAUTH_CLIENT_ID'],
    [newJob(), { env: without('TAILSCALE_OAUTH_CLIENT_SECRET') }, 'CONFIG', 'TAILSCALE_OAUTH_CLIENT_SECRET'],
    [newJob(), { env: cloud.env({ HETZNER_API_URL: 'http://192.0.2.1/v1' }) }, 'CONFIG', 'HETZNER_API_URL'],
    [newJob(), { env: cloud.env({ PROVISION_TIMEOUT_SECONDS: 'soon' }) }, 'CONFIG', 'PROVISION_TIMEOUT_SECONDS'],
  ]) {
    const error = await failure(provisionVM(params, quiet(options)))
    assert.deepEqual([error.code, error.field, error.step, error.retryable], [code, field, 'validate', false], error.message)
    assert.ok(error.message.startsWith(field), error.message)
  }
  assert.equal(await cloud.requests(), 0)
})

test('abort: before, during and after', async () => {
  const reason = new Error('the user left')
  const before = await failure(provisionVM(newJob(), quiet({ signal: AbortSignal.abort(reason) })))
  assert.deepEqual([before.code, before.cause, await cloud.requests()], ['ABORTED', reason, 0])

  const during = new AbortController()
  const onProgress = ({ serverId }) => serverId && during.abort(reason)
  const error = await failure(provisionVM(newJob(), quiet({ signal: during.signal, onProgress })))
  assert.deepEqual([error.code, error.cause, error.leftovers], ['ABORTED', reason, []])
  assert.deepEqual(leftIn(await cloud.world()), [])

  const late = new AbortController()
  const result = await provisionVM(newJob(), quiet({ signal: late.signal }))
  late.abort()
  await assertOneReady(result)
})

test('events come in order, all of them before the promise settles, and a listener that throws harms nothing', async () => {
  const warnings = []
  const onWarning = (warning) => warnings.push(warning.message)
  process.on('warning', onWarning)
  const events = []
  const logged = []
  // Some loggers are functions with methods.
  const logger = Object.assign(() => {}, { info: (line) => logged.push(line), warn: (line) => logged.push(line) })
  const onProgress = (event) => {
    events.push(event)
    throw new Error('a listener of no use')
  }
  const result = await provisionVM(newJob(), { env: cloud.env(), logger, onProgress })
  await new Promise(setImmediate)
  process.off('warning', onWarning)
  await assertOneReady(result)
  assert.ok(warnings.every((text) => text.includes('a listener of no use')) && warnings.length > 0)
  assert.equal(events.at(-1).message, `Hetzner server marked ready: id=${result.serverId}`)
  assert.equal(events.at(-1).tailscaleIp, result.tailscaleIp)
  assert.deepEqual(logged, events.map(({ scope, message }) => `[${scope}] ${message}`))
  const known = events.find(({ serverId }) => serverId)
  assert.deepEqual([known.serverId, known.serverIp, known.step], [result.serverId, result.serverIp, 'server'])
  assert.ok(events.every((event, index) => index === 0 || event.elapsedMs >= events[index - 1].elapsedMs))
})

test('unknown options are reported, not refused', async () => {
  const result = await provisionVM(newJob(), quiet({ onProgess: 1 }))
  assert.deepEqual(result.warnings, ['Unknown option onProgess is ignored; did you mean onProgress?'])
})

test('an error is an Error with data: own class, the caller in its stack, no secret in its JSON', async () => {
  async function theCaller() {
    return await provisionVM(newJob(), quiet({ env: cloud.env({ HETZNER_API_TOKEN: 'wrong-token-1234' }) }))
  }
  const error = await failure(theCaller())
  assert.deepEqual([error.name, error.code, error.step], ['ProvisionError', 'AUTH_HETZNER', 'lookup'])
  assert.match(error.stack, /theCaller/)
  assert.match(error.cause.message, /401 unauthorized/)
  assert.equal(error.requestIds.length, 1)
  const json = JSON.stringify(error)
  assert.ok(json.includes('AUTH_HETZNER') && json.includes('the token you have provided is invalid'))
  assert.ok(!json.includes('wrong-token-1234'))
})

test('a process that has its answer ends by itself', async () => {
  const program = `require(${JSON.stringify(ROOT)}).provisionVM(${JSON.stringify(newJob())}, { logger: false })
    .then(() => process.stdout.write('settled')).catch((error) => process.stdout.write(error.code))`
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', program], { env: cloud.env(), timeout: 20_000 })
  assert.equal(stdout, 'settled')
})

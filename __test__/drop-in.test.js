'use strict'

// The functions of the app's old modules, under their old names, as the app calls them.

const assert = require('node:assert/strict')
const { readFileSync, rmSync, writeFileSync } = require('node:fs')
const path = require('node:path')
const { after, before, beforeEach, test } = require('node:test')

const ts = require('typescript')

const api = require('..')
const { startCloud, leftIn, usable, newJob } = require('./support/simulator.js')

let cloud
let app
const compiled = path.join(__dirname, 'app', `lifecycle.${process.pid}.cjs`)

before(async () => {
  cloud = await startCloud({ timeScale: 50 })
  Object.assign(process.env, cloud.env())
  const source = readFileSync(path.join(__dirname, 'app', 'lifecycle.ts'), 'utf8')
  const options = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 }
  writeFileSync(compiled, ts.transpileModule(source, { compilerOptions: options, reportDiagnostics: true }).outputText)
  app = require(compiled)
})
after(async () => {
  rmSync(compiled, { force: true })
  await cloud.stop()
})
beforeEach(() => cloud.reset())

test("the app's lifecycle runs unchanged: create, stop, start, destroy", async () => {
  const instance = await app.create('agent-550e8400-1')
  assert.match(instance.publicIp, /^203\.0\.113\./)
  assert.match(instance.tailscaleIp, /^100\./)
  await app.stop(instance)
  assert.equal((await cloud.world()).servers[0].status, 'off')
  assert.equal(await app.start(instance), instance.tailscaleIp)
  await app.cutPower(instance)
  assert.equal((await cloud.world()).servers[0].status, 'off')
  assert.equal(await app.countDevices(), 1)
  assert.equal(await app.destroy(instance), true)
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test("the app's lifecycle rolls back, and what is gone is no trouble", async () => {
  const instance = await app.create('agent-550e8400-2', '301000001')
  await app.rollback(instance)
  assert.deepEqual(leftIn(await cloud.world()), [])
  await app.rollback(instance)
  await app.rollback({})
  assert.equal(await app.destroy(instance), false)
})

test('an ephemeral device is lost while its machine is off for two hours, a lasting one is not', async () => {
  for (const ephemeral of [true, false]) {
    await cloud.reset()
    const lines = []
    const logger = { info: () => {}, warn: (line) => lines.push(line) }
    const { serverId, serverName, tailscaleIp } = await api.provisionVM(newJob(), { ephemeral, logger: false })
    await api.shutdownServer(serverId, { logger })
    assert.ok(lines.some((line) => line.startsWith('[Tailscale] ') && line.includes('ephemeral: false')), lines.join())
    await cloud.advance(2 * 3600)
    await api.powerOnServer(serverId, { logger: false })
    const verified = api.verifyEnrollment(serverName, { maxRetries: 20, intervalMs: 10 }, { logger: false })
    if (ephemeral) await assert.rejects(verified, { code: 'ENROLL_TIMEOUT' })
    else assert.equal((await verified).tailscaleIp, tailscaleIp)
  }
})

test('a wrong argument is named, before any request', async () => {
  const cases = [
    [() => api.createServer('web'), 'config'],
    [() => api.createServer({ server_type: 'cpx11' }), 'config.name'],
    [() => api.createServer({ name: 'web 1' }), 'config.name'],
    [() => api.createServer({ name: 'web-1', labels: 'x' }), 'config.labels'],
    [() => api.createServer({ name: 'web-1', volumes: [() => 1] }), 'config.volumes[0]'],
    [() => api.createServer({ name: 'web-1', user_data: 'x'.repeat(32769) }), 'config.user_data'],
    [() => api.deleteServer(NaN), 'id'],
    [() => api.deleteServer('131072001'), 'id'],
    [() => api.deleteServer(1.5), 'id'],
    [() => api.deleteServer(0), 'id'],
    [() => api.deleteServer(2 ** 53), 'id'],
    [() => api.waitForAction(), 'id'],
    [() => api.waitForAction(5, { maxRetries: 0 }), 'options.maxRetries'],
    [() => api.waitForAction(5, { intervalMs: '5' }), 'options.intervalMs'],
    [() => api.waitForAction(5, 7), 'options'],
    [() => api.shutdownServer(undefined), 'id'],
    [() => api.powerOnServer(-1), 'id'],
    [() => api.powerOffServer({}), 'id'],
    [() => api.createAuthKey({ expirySeconds: 5 }), 'options.expirySeconds'],
    [() => api.createAuthKey({ ephemeral: 'yes' }), 'options.ephemeral'],
    [() => api.verifyEnrollment('a b'), 'hostname'],
    [() => api.verifyEnrollment(), 'hostname'],
    [() => api.deleteDevice('../keys'), 'id'],
    [() => api.deleteDevice(5), 'id'],
    [() => api.findDeviceByIp('web-1'), 'ip'],
    [() => api.listDevices(5), 'options'],
    [() => api.getOAuthToken({ signal: 5 }), 'options.signal'],
  ]
  for (const [call, field] of cases) await assert.rejects(call(), { code: 'INVALID_INPUT', field }, String(call))
  for (const [params, field] of [
    [{ tailscaleAuthKey: 'tskey-auth-k1-x', hostname: '$(id)' }, 'params.hostname'],
    [{ tailscaleAuthKey: 'tskey auth', hostname: 'a' }, 'params.tailscaleAuthKey'],
    [{ hostname: 'a' }, 'params.tailscaleAuthKey'],
    [undefined, 'params'],
  ]) {
    assert.throws(() => api.generateCloudInitConfig(params), { name: 'ProvisionError', code: 'INVALID_INPUT', field })
  }
  assert.equal(await cloud.requests(), 0)
})

test('each function needs the settings of its own cloud alone', async () => {
  const { HETZNER_API_TOKEN, HETZNER_API_URL, ...tailscale } = cloud.env()
  const hetzner = { HETZNER_API_TOKEN, HETZNER_API_URL }
  await api.deleteServer(77, { env: hetzner })
  assert.deepEqual(await api.listDevices({ env: tailscale }), [])
  await assert.rejects(api.deleteServer(77, { env: tailscale }), { code: 'CONFIG', field: 'HETZNER_API_TOKEN' })
  await assert.rejects(api.listDevices({ env: hetzner }), { code: 'CONFIG', field: 'TAILSCALE_OAUTH_CLIENT_ID' })
})

test('a lost answer makes no second server, and the document is whole', async () => {
  await cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', kind: 'reset_after_apply' })
  const config = { name: 'web-1', server_type: 'cpx11', image: 'ubuntu-22.04', location: 'ash', ssh_keys: [4711], labels: { a: 'b' } }
  const { server, action, next_actions: next, root_password: password } = await api.createServer(config, { logger: false })
  const world = await cloud.world()
  assert.deepEqual([world.servers.length, world.servers_ever, world.servers[0].id], [1, 1, server.id])
  assert.deepEqual([action.command, next[0].command, password], ['create_server', 'start_server', null])
  assert.equal(server.labels.a, 'b')
})

test('an abort leaves nothing, and looks like one', async () => {
  const config = { name: 'web-1', server_type: 'cpx11', image: 'ubuntu-22.04', location: 'ash', ssh_keys: [4711] }
  const reason = new Error('the user left')
  for (const when of ['before', 'during']) {
    await cloud.reset()
    const controller = new AbortController()
    if (when === 'before') controller.abort(reason)
    else await cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', kind: { slow: { ms: 4000 } } })
    const call = api.createServer(config, { signal: controller.signal, logger: false })
    if (when === 'during') {
      await cloud.untilAsked('POST /v1/servers')
      controller.abort(reason)
    }
    const error = await call.then(() => assert.fail('it succeeded'), (error) => error)
    assert.deepEqual([error.name, error.code, error.cause, error.leftovers], ['AbortError', 'ABORTED', reason, []])
    assert.match(error.stack, /^AbortError: the call was aborted/)
    assert.ok(error instanceof api.ProvisionError && api.isProvisionError(error))
    assert.deepEqual(leftIn(await cloud.world()), [])
  }
})

test('a key that is minted is told to onSecret, and its machine joins', async () => {
  const secrets = []
  const { key, id } = await api.createAuthKey({ onSecret: (secret) => secrets.push(secret), ephemeral: false })
  assert.ok(secrets.includes(key) && key.includes(id))
  const world = await cloud.world()
  assert.deepEqual(usable(world).map((key) => key.id), [id])
})

test('isProvisionError knows errors of another copy, and nothing else', () => {
  delete require.cache[require.resolve('..')]
  const other = require('..')
  assert.notEqual(other.ProvisionError, api.ProvisionError)
  let error
  try {
    other.generateCloudInitConfig({})
  } catch (thrown) {
    error = thrown
  }
  assert.ok(!(error instanceof api.ProvisionError) && api.isProvisionError(error))
  for (const it of [undefined, null, 5, 'x', new Error('x'), { name: 'ProvisionError' }, new DOMException('x', 'AbortError')]) {
    assert.equal(api.isProvisionError(it), false)
  }
})

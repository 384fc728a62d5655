'use strict'

// Giving up: already given up, at every step, in flight, and after the end. For every function.

const assert = require('node:assert/strict')
const { after, before, beforeEach, test } = require('node:test')

const api = require('..')
const { leftIn, newJob, startCloud, usable } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
after(() => cloud.stop())
beforeEach(() => cloud.reset())

const reason = new Error('the user left')
const quiet = (more) => ({ env: cloud.env(), logger: false, ...more })

/** What `fetch` and its kin reject with has this name, and the signal's reason is kept. */
async function givenUp(call) {
  const error = await call.then((value) => assert.fail(`it succeeded: ${JSON.stringify(value)}`), (error) => error)
  assert.deepEqual([error.name, error.code, error.cause], ['AbortError', 'ABORTED', reason], error.stack)
  assert.ok(error instanceof Error && error instanceof api.ProvisionError)
  return error
}

const order = () => ({ name: 'web-1', server_type: 'cpx11', image: 'ubuntu-22.04', location: 'ash', ssh_keys: [4711] })

/** What became of the only job of several. */
async function onlyOf(run) {
  for await (const { value, reason } of run) {
    if (reason) throw reason
    return value
  }
}

/** Every function that sends anything. */
const CALLS = {
  provisionVM: (options) => api.provisionVM(newJob(), options),
  'provisionVM without waiting': (options) => api.provisionVM(newJob(), { ...options, wait: false }),
  provisionMany: (options) => onlyOf(api.provisionMany([newJob()], options)),
  deprovisionVM: (options) => api.deprovisionVM({ jobId: 'a' }, options),
  getProvisioning: (options) => api.getProvisioning({ jobId: 'a' }, options),
  listVMs: (options) => api.listVMs(options),
  plan: (options) => api.plan({ jobId: 'a', agentId: 'b', region: 'us-east' }, options),
  doctor: (options) => api.doctor({}, options),
  cleanUpRun: (options) => api.cleanUpRun({ jobId: 'a', runIds: ['1-1'] }, options),
  reap: (options) => api.reap(options),
  createServer: (options) => api.createServer(order(), options),
  waitForAction: (options) => api.waitForAction(1, null, options),
  deleteServer: (options) => api.deleteServer(77, options),
  shutdownServer: (options) => api.shutdownServer(77, options),
  powerOnServer: (options) => api.powerOnServer(77, options),
  powerOffServer: (options) => api.powerOffServer(77, options),
  getOAuthToken: (options) => api.getOAuthToken(options),
  createAuthKey: (options) => api.createAuthKey(options),
  verifyEnrollment: (options) => api.verifyEnrollment('web-1', null, options),
  listDevices: (options) => api.listDevices(options),
  deleteDevice: (options) => api.deleteDevice('n1CNTRL', options),
  findDeviceByIp: (options) => api.findDeviceByIp('100.64.0.9', options),
}

/** What is to be deleted stays, and is named. */
const STAYS = { deleteServer: ['server', '77'], deleteDevice: ['device', 'n1CNTRL'] }

test('every function that sends anything is here', () => {
  const here = Object.keys(CALLS).map((name) => name.split(' ')[0])
  const silent = ['getMetrics', 'generateCloudInitConfig', 'generateSnapshotCloudInitConfig', 'isProvisionError', 'ProvisionError']
  assert.deepEqual(new Set([...here, ...silent]), new Set(Object.keys(api)))
})

for (const [name, call] of Object.entries(CALLS)) {
  const named = ({ leftovers }) => leftovers.map(({ kind, id }) => [kind, id])
  const stays = name in STAYS ? [STAYS[name]] : []

  test(`${name}: given up before, it sends nothing`, async () => {
    const error = await givenUp(call(quiet({ signal: AbortSignal.abort(reason) })))
    assert.deepEqual([named(error), await cloud.requests()], [stays, 0])
  })

  test(`${name}: given up in flight, it ends and leaves nothing`, async () => {
    // No answer comes in time, whatever is asked.
    await cloud.configure({ latency_ms: [30_000, 30_000] })
    const controller = new AbortController()
    const outcome = givenUp(call(quiet({ signal: controller.signal })))
    await cloud.until(({ requests: { hetzner, tailscale } }) => hetzner + tailscale > 0)
    await cloud.configure({ latency_ms: [5, 10] })
    controller.abort(reason)
    assert.deepEqual(named(await outcome), stays)
    assert.deepEqual(leftIn(await cloud.world()), [])
  })
}

test('provisionVM: given up at every single event, it is undone, or has succeeded', async () => {
  const events = []
  const calm = await api.provisionVM(newJob(), quiet({ onProgress: (event) => events.push(event) }))
  await api.deprovisionVM({ serverId: calm.serverId }, quiet())
  const steps = new Set(events.map(({ step }) => step))
  assert.deepEqual([...steps], ['validate', 'lookup', 'auth_key', 'first_boot', 'server', 'wait', 'verify', 'ready'])
  const ends = events.map(async (_, last) => {
    const controller = new AbortController()
    let seen = 0
    const onProgress = () => seen++ === last && controller.abort(reason)
    const call = api.provisionVM(newJob(), quiet({ signal: controller.signal, onProgress }))
    // From the machine's verification on, the result wins.
    if (['verify', 'ready'].includes(events[last].step)) return [(await call).serverId]
    assert.deepEqual((await givenUp(call)).leftovers, [], events[last].message)
    return []
  })
  const made = (await Promise.all(ends)).flat()
  const world = await cloud.world()
  assert.deepEqual(world.servers.map(({ id }) => id).sort(), made.sort())
  assert.deepEqual([world.devices.length, usable(world)], [made.length, []])
})

test('after the end a signal changes nothing, and nobody listens to it any more', async () => {
  const { getEventListeners } = require('node:events')
  const late = new AbortController()
  const { serverId } = await api.provisionVM(newJob(), quiet({ signal: late.signal }))
  assert.deepEqual(getEventListeners(late.signal, 'abort'), [])
  late.abort(reason)
  assert.deepEqual((await cloud.world()).servers.map(({ id }) => id), [serverId])
  await api.deleteServer(serverId, quiet())
  assert.deepEqual(leftIn(await cloud.world()).filter((left) => left.includes('server_type')), [])
})

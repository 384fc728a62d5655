'use strict'

// The local cloud as the tests of an app use it. Its packages, and the suite of its page: `local-cloud-packed.test.js`.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, beforeEach, describe, test } = require('node:test')
const { setTimeout: pause } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')

const { provisionVM, reap } = require('..')
const { findProgram, LocalCloudError, startLocalCloud } = require('../js/local-cloud.js')
const { leftIn } = require('./support/simulator.js')

/** Machines that boot at once. */
const FAST = {
  hetzner: { create_seconds: [1, 1], start_seconds: [1, 1] },
  machine: { kernel_seconds: [1, 1], install_seconds: [1, 1] },
}
const JOB = { jobId: 'job-42', agentId: '550e8400-e29b', region: 'us-east' }
const MODULE = JSON.stringify(path.join(__dirname, '..', 'js', 'local-cloud.js'))

/** Why a call was refused. */
async function refusal(call) {
  const error = await call.then(() => assert.fail('it was not refused'), (error) => error)
  assert.ok(error instanceof LocalCloudError, error.stack)
  return error
}

/** Whether somebody answers there; it may take a moment until nobody does. */
async function isGone(url) {
  for (let tries = 0; tries < 100; tries += 1, await pause(50)) {
    if (await fetch(`${url}/_sim/health`).then(() => false, () => true)) return true
  }
  return false
}

describe('a local cloud', () => {
  let cloud
  before(async () => (cloud = await startLocalCloud({ config: FAST })))
  after(() => cloud.stop())
  beforeEach(() => cloud.reset())

  const provision = (more) => provisionVM(JOB, { env: cloud.env, logger: false, ...more })

  test('has the machine of a job, and says what was asked', async () => {
    const vm = await provision()
    const world = await cloud.world()
    assert.deepEqual(world.servers.map(({ id, ipv4, labels }) => [id, ipv4, labels.state]), [[vm.serverId, vm.serverIp, 'ready']])
    assert.deepEqual(world.devices.map(({ ip, tags }) => [ip, tags]), [[vm.tailscaleIp, ['tag:agent']]])
    assert.deepEqual(world.keys.map(({ used, revoked }) => [used, revoked]), [[true, true]])
    const requests = await cloud.requests()
    assert.equal(requests.length, world.requests.hetzner + world.requests.tailscale)
    const [order, ...others] = requests.filter(({ method, path }) => method === 'POST' && path === '/servers')
    assert.deepEqual([order.api, order.status, order.fault, others], ['hetzner', 201, undefined, []])
    assert.match(requests[0].query, /label_selector=.*job-42/)
    assert.ok((await cloud.journal()).some(({ who, what }) => who === 'world' && what.endsWith(' joins')))
  })

  test('begins anew after a reset, as it was at the start', async () => {
    await provision()
    await cloud.fault({ kind: 'reset_before_apply', times: 1000 })
    await cloud.configure({ machine: { boot: 'never_joins' } })
    await cloud.reset()
    assert.deepEqual(leftIn(await cloud.world()), [])
    assert.deepEqual(await cloud.requests(), [])
    assert.equal((await provision()).reused, false)
    const { elapsed_ms: began } = await cloud.world()
    assert.equal((await provision()).reused, true)
    const { elapsed_ms: now } = await cloud.world()
    assert.ok(now > began)
  })

  test('does what a fault says, and tells of it', async () => {
    await cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', kind: 'reset_after_apply' })
    await provision()
    const { servers_ever: ever, faults_fired: fired } = await cloud.world()
    assert.deepEqual({ ever, fired }, { ever: 1, fired: 1 })
    const met = (await cloud.requests()).filter(({ fault }) => fault)
    assert.deepEqual(met.map(({ method, path, fault, cut, status }) => [method, path, fault, cut, status]), [
      ['POST', '/servers', 'reset_after_apply', 'reset', undefined],
    ])
  })

  test('carries an order out when its sender has given it up, and says that it came late', async () => {
    await cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', kind: { reset_then_apply: { after_ms: 3000 } } })
    await provision()
    assert.equal((await cloud.world()).servers_ever, 1)
    const orders = (await cloud.requests()).filter(({ method, path }) => method === 'POST' && path === '/servers')
    assert.deepEqual(orders.map(({ fault, late }) => [fault, late]), [['reset_then_apply', undefined], [undefined, true]])
  })

  test('lets no machine join if it is told so, which leaves nothing; what cannot be removed is named', async () => {
    await cloud.configure({ machine: { boot: 'never_joins' } })
    const failed = await provision({ timeoutMs: 3000 }).catch((error) => error)
    assert.deepEqual([failed.code, failed.leftovers], ['ENROLL_TIMEOUT', []])
    assert.deepEqual(leftIn(await cloud.world()), [])

    const json = { error: { code: 'forbidden', message: 'insufficient permissions' } }
    const forbidden = { answer: { status: 403, json, headers: [['x-from', 'the test']] } }
    await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 1000, kind: forbidden })
    const stuck = await provision({ timeoutMs: 3000 }).catch((error) => error)
    const [{ id }] = (await cloud.world()).servers
    assert.equal(Number(stuck.leftovers.find(({ kind }) => kind === 'server').id), id)
    await cloud.clearFaults()
    // Its label says until when it may be somebody's.
    await cloud.advance(3600)
    const { servers } = await reap({ env: cloud.env, logger: false, dryRun: false })
    assert.deepEqual(servers.map(({ serverId, outcome }) => [serverId, outcome]), [[id, 'removed']])
  })

  test('has what other people do', async () => {
    const server = await cloud.addServer({ name: 'foreign', labels: { of: 'others' }, location: 'nbg1', protected: true })
    const device = await cloud.addDevice({ hostname: 'laptop', tags: ['tag:agent'] })
    const { servers, devices } = await cloud.world()
    assert.deepEqual(servers.map(({ id, name, location, protected: is }) => [id, name, location, is]), [[server, 'foreign', 'nbg1', true]])
    assert.deepEqual(devices.map(({ node_id: id, hostname }) => [id, hostname]), [[device, 'laptop']])
    await cloud.powerOff(server)
    assert.equal((await cloud.world()).servers[0].status, 'off')
    await cloud.removeServer(server)
    assert.deepEqual((await cloud.world()).servers, [])
  })

  test('refuses what makes no sense, in its own words', async () => {
    const unknown = await refusal(cloud.fault({ kind: 'explode' }))
    assert.equal(unknown.code, 'REFUSED')
    assert.match(unknown.message, /unknown variant `explode`, expected one of `refuse`, `dns`, .*`stale_read`/)
    for (const [call, why] of [
      [() => cloud.fault({ path: 'servers', kind: 'refuse' }), /path: expected one that begins with \//],
      [() => cloud.fault({ path: '/v1/servers', kind: 'refuse' }), /below the API's base/],
      [() => cloud.fault({ method: 'GTE', kind: 'refuse' }), /method: expected one of GET/],
      [() => cloud.fault({ times: 0, kind: 'refuse' }), /times: expected 1 or more/],
      [() => cloud.fault({ path: '/servers?name=a', kind: 'refuse' }), /without a query/],
      [() => cloud.fault({ path: '/servers/', kind: 'refuse' }), /without \/ at its end/],
      [() => cloud.fault({ path: '/api/v2', kind: 'refuse' }), /below the API's base/],
      [() => cloud.removeServer('abc'), /expected the id of a server, got abc/],
      [() => cloud.powerOff('abc'), /expected the id of a server, got abc/],
      [() => cloud.advance(-5), /seconds: expected a number/],
      [() => cloud.advance('x'), /seconds: expected a number/],
      [() => cloud.addServer({ name: 'a', server_type: 'zzz' }), /server_type: there is no zzz/],
      [() => cloud.addServer({ name: 'a', location: 'mars' }), /location: there is no mars/],
    ]) {
      const { code, message } = await refusal(call())
      assert.equal(code, 'REFUSED', String(call))
      assert.match(message, why)
    }
    await cloud.removeServer(99)
    await cloud.fault({ method: 'post', path: '/servers', kind: 'refuse' })
    await cloud.clearFaults()
    assert.equal((await refusal(startLocalCloud('x'))).code, 'INVALID_OPTION')
    assert.match((await refusal(cloud.configure({ machines: {} }))).message, /unknown field `machines`/)
    const { code, message } = await refusal(startLocalCloud({ config: { machine: { boot: 'explodes' } } }))
    assert.deepEqual([code, /unknown variant `explodes`/.test(message)], ['REFUSED', true])
  })

  test('hands out settings of nobody, and empties those that have no place in it', () => {
    const { HETZNER_API_URL, TAILSCALE_API_URL, TAILSCALE_AUTH_KEY, HETZNER_SNAPSHOT_ID } = cloud.env
    assert.deepEqual([HETZNER_API_URL, TAILSCALE_API_URL], [cloud.urls.hetzner, cloud.urls.tailscale])
    assert.deepEqual([TAILSCALE_AUTH_KEY, HETZNER_SNAPSHOT_ID], ['', ''])
    assert.ok(Object.isFrozen(cloud.env))
  })
})

test('it stops once, and says afterwards that it was stopped', async () => {
  const cloud = await startLocalCloud()
  assert.equal(await cloud.stop(), undefined)
  assert.ok(await isGone(cloud.urls.cloud))
  await cloud.stop()
  const { code, message } = await refusal(cloud.world())
  assert.deepEqual([code, message], ['ENDED', 'the local cloud does not answer: it was stopped'])
})

test('it stops at the end of its scope, and when its signal is aborted', async () => {
  const disposed = await startLocalCloud()
  await disposed[Symbol.asyncDispose]()
  assert.ok(await isGone(disposed.urls.cloud))

  const giveUp = new AbortController()
  const cloud = await startLocalCloud({ signal: giveUp.signal })
  giveUp.abort()
  assert.ok(await isGone(cloud.urls.cloud))
  await assert.rejects(startLocalCloud({ signal: giveUp.signal }), { name: 'AbortError' })
  const midway = new AbortController()
  const starting = startLocalCloud({ signal: midway.signal })
  midway.abort(new Error('enough'))
  await assert.rejects(starting, /^Error: enough$/)
})

describe('it ends with the process that started it', () => {
  /** A process that starts a cloud, says where, and then does this. */
  const start = (then) => {
    const code = `require(${MODULE}).startLocalCloud().then(({ urls }) => { console.log(urls.cloud); ${then} })`
    const child = spawn(process.execPath, ['--eval', code], { stdio: ['ignore', 'pipe', 'inherit'] })
    return { child, url: once(child.stdout, 'data').then(([line]) => String(line).trim()), ended: once(child, 'exit') }
  }

  test('that has nothing more to do, and is not held back by it', async () => {
    const { url, ended } = start('')
    assert.deepEqual(await ended, [0, null])
    assert.ok(await isGone(await url))
  })

  test('that is killed', async () => {
    const { child, url, ended } = start('setInterval(() => {}, 1000)')
    const where = await url
    assert.ok((await fetch(`${where}/_sim/health`)).ok)
    child.kill('SIGKILL')
    await ended
    assert.ok(await isGone(where))
  })

  test('or with the worker thread', async () => {
    const tell = "require('node:worker_threads').parentPort.postMessage(urls.cloud)"
    const code = `require(${MODULE}).startLocalCloud().then(({ urls }) => { ${tell}; setInterval(() => {}, 1000) })`
    const worker = new Worker(code, { eval: true })
    const [url] = await once(worker, 'message')
    await worker.terminate()
    assert.ok(await isGone(url))
  })
})

describe('it says why it does not start', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-local-cloud-'))
  after(() => rmSync(folder, { recursive: true }))

  test('when an option cannot be used', async () => {
    for (const [options, complaint] of [
      [{ timescale: 5 }, 'there is no option timescale'],
      [{ timeScale: 0 }, 'timeScale: expected a positive number'],
      [{ timeScale: 26 }, 'timeScale: at most 25, as provision-vm would take a world that is faster for a machine that has slept'],
      [{ seed: -1 }, 'seed: expected a whole number from 0 on'],
      [{ port: 65_536 }, 'port: expected a whole number up to 65535'],
      [{ config: [] }, 'config: expected an object'],
      [{ program: 5 }, 'program: expected a path'],
      [{ signal: {} }, 'signal: expected an AbortSignal'],
    ]) {
      const { code, message } = await refusal(startLocalCloud(options))
      assert.deepEqual([code, message], ['INVALID_OPTION', complaint])
    }
  })

  test('in the words of the program', async () => {
    const cloud = await startLocalCloud({ timeScale: null, seed: 7 })
    const { code, message } = await refusal(startLocalCloud({ port: Number(new URL(cloud.urls.cloud).port) }))
    await cloud.stop()
    assert.equal(code, 'NOT_STARTED')
    assert.match(message, /^the program of the local cloud ended with code 1: simulator: cannot listen on 127\.0\.0\.1:\d+: /)
  })

  test('when there is no program, or another one', async () => {
    const started = (program) => refusal(startLocalCloud({ program }))
    const none = await started(path.join(folder, 'none'))
    assert.equal(none.code, 'NOT_STARTED')
    assert.match(none.message, /cannot be started: spawn .*ENOENT/)
    assert.match((await started(process.execPath)).message, /ended with code 9: .*bad option: --port/)
    if (process.platform === 'win32') return
    const file = path.join(folder, 'program')
    writeFileSync(file, '#!/bin/sh\necho hello\nsleep 60\n', { mode: 0o644 })
    assert.match((await started(file)).message, /cannot be started: spawn .*EACCES/)
    rmSync(file)
    writeFileSync(file, '#!/bin/sh\necho hello\nexec sleep 60\n', { mode: 0o755 })
    assert.equal((await started(file)).message, 'the program is no local cloud; it said: hello')
  })

  test('when a variable names none', () => {
    process.env.PROVISION_VM_SIMULATOR = path.join(folder, 'none')
    try {
      assert.throws(findProgram, { code: 'NOT_INSTALLED', message: /^PROVISION_VM_SIMULATOR names .*none, and there is no such file$/ })
      process.env.PROVISION_VM_SIMULATOR = process.execPath
      assert.equal(findProgram(), process.execPath)
    } finally {
      delete process.env.PROVISION_VM_SIMULATOR
    }
    assert.match(findProgram(), /simulator(?:\.exe)?$/)
  })
})

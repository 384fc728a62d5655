'use strict'

// The real script, killed at named points of a job: what exists afterwards, and who names it (fault sheet 2.6, F17).

const assert = require('node:assert/strict')
const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, describe, it } = require('node:test')

const { POINTS, readOutputs, watch } = require('./support/points.js')
const { leftIn, newJob, runScript, startCloud, usable } = require('./support/simulator.js')
const { DEADLINE_SECONDS, assertReaped, count } = require('./support/reaped.js')

/** Most of the time is spent waiting, so there may be more of them than processors. */
const AT_ONCE = 24

const EXIT = { SIGINT: 130, SIGTERM: 143 }

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-kill-'))
after(() => rmSync(folder, { recursive: true }))

const SURVIVABLE = POINTS.filter(({ isUndo }) => !isUndo)
const RUNNING = POINTS.find(({ name }) => name === 'with a running server')

describe('F17 the script is killed', { concurrency: AT_ONCE }, () => {
  each(SURVIVABLE, ['SIGINT', 'SIGTERM'], 'undone, or named', async (t, point, signal) => {
    const { cloud, file, run } = await stopAt(t, point, signal)
    const { code, stdout, stderr } = await run.ended
    const world = await cloud.world()
    assert.equal(stdout.split('\n').length, 2, `one line of JSON, not: ${stdout}`)
    if (point.won) return assertWon(JSON.parse(stdout), code, world, file)

    const { error } = JSON.parse(stdout)
    assert.equal(error.code, 'ABORTED', stderr)
    assert.deepEqual(error.leftovers.map(({ kind }) => kind), point.named ?? [], stderr)
    assert.equal(code, point.named ? 1 : EXIT[signal], stderr)
    assertSaid(error.leftovers, stderr)
    assert.deepEqual(leftIn(world), [])
    // Nor does anything come later.
    const { servers_ever: before } = world
    const later = await cloud.advance(600)
    assert.deepEqual([leftIn(later), later.servers_ever], [[], before])
  })

  each([RUNNING], ['SIGINT', 'SIGTERM'], 'what an operator protects meanwhile is named', async (t, point, signal) => {
    const protect = async (cloud, run) => {
      const { servers: [server] } = await point.reached(cloud, run)
      await cloud.control('PATCH', `servers/${server.id}`, { protected: true })
    }
    const { cloud, run } = await stopAt(t, { ...point, reached: protect }, signal)
    const { code, stdout, stderr } = await run.ended
    const { error } = JSON.parse(stdout)
    const world = await cloud.world()
    assert.deepEqual([code, error.code], [1, 'ABORTED'], stderr)
    const named = error.leftovers.map(({ kind, id, name }) => ({ kind, id, name }))
    assert.deepEqual(named, world.servers.map(({ id, name }) => ({ kind: 'server', id: String(id), name })))
    assert.deepEqual(count(world), { servers: 1, keys: 0, devices: 0 })
    assertSaid(error.leftovers, stderr)
  })

  each(POINTS.filter(({ isUndo }) => isUndo), ['SIGINT', 'SIGTERM'], 'what may be left is named', async (t, point, signal) => {
    const { cloud, run } = await stopAt(t, point, signal)
    const { code, stdout, stderr } = await run.ended
    const world = await cloud.world()
    assert.deepEqual([code, stdout], [EXIT[signal], ''], stderr)
    assert.deepEqual(count(world), point.left)
    const [{ id, name, ipv4 }] = world.servers
    assert.ok(stderr.includes(`May be left behind: server ${id} (${name}, ${ipv4})`), stderr)
    await assertReaped(cloud, point.reaped)
  })

  each(POINTS, ['SIGKILL'], 'the outputs name it, and one reap past its end deals with it', async (t, point, signal) => {
    const { cloud, file, params, run } = await stopAt(t, point, signal)
    const { code, signal: ending } = await run.ended
    assert.deepEqual([code, ending], [null, 'SIGKILL'])
    const world = await cloud.until(({ servers }) => !point.later || servers.length > 0)
    assert.deepEqual(count(world), point.later ?? point.left, 'nothing is undone')
    const outputs = readOutputs(file)
    assert.deepEqual(Object.keys(outputs), point.told)
    for (const { id, name, ipv4, labels } of world.servers) {
      const truth = { server_name: name, server_id: String(id), server_ip: ipv4 }
      for (const told of point.told) assert.equal(outputs[told], truth[told], told)
      // Who knows no more than the job finds it by its label.
      assert.equal(labels.provisioning_job_id, params.jobId)
    }
    await assertReaped(cloud, point.reaped)
  })
})

/** A test for each point and signal. */
function each(points, signals, promise, check) {
  for (const point of points) {
    for (const signal of signals) it(`${signal} ${point.name}: ${promise}`, (t) => check(t, point, signal))
  }
}

/** Lets a job come to a point in a world of its own, and sends the script a signal there. */
async function stopAt(t, point, signal) {
  const cloud = await startCloud()
  t.after(() => cloud.stop())
  if (point.config) await cloud.configure(point.config)
  for (const fault of point.faults ?? []) await cloud.fault(fault)
  const params = newJob()
  const file = path.join(folder, params.jobId)
  const env = { GITHUB_OUTPUT: file, PROVISION_TIMEOUT_SECONDS: DEADLINE_SECONDS, DIE_BY: signal }
  const run = watch(runScript(cloud, { params, env, node: point.node }), file)
  // A point that comes before the script can be watched has the signal in the script itself.
  if (point.node) return { cloud, file, params, run }
  await run.tells(point.told)
  await point.reached?.(cloud, run)
  assert.equal(run.child.exitCode, null, `it ended before it came there: ${run.said.stderr}`)
  run.child.kill(signal)
  return { cloud, file, params, run }
}

/** Standard error names the same as the error. */
function assertSaid(leftovers, stderr) {
  for (const { kind, id, name } of leftovers) assert.ok(stderr.includes(`Left behind: ${kind} ${id ?? name}`), stderr)
  assert.equal(stderr.includes('Nothing was left behind'), leftovers.length === 0, stderr)
}

/** The result was there before the signal: handed over, and kept. */
function assertWon(result, code, world, file) {
  assert.equal(code, 0)
  const [server] = world.servers
  assert.deepEqual([world.servers_ever, server.id, server.labels.state], [1, result.serverId, 'ready'])
  assert.deepEqual(usable(world), [])
  assert.equal(readOutputs(file).tailscale_ip, result.tailscaleIp)
}

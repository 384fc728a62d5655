'use strict'

// What becomes of the remains of a dead attempt once it is past its end.

const assert = require('node:assert/strict')

const { reap } = require('../..')
const { leftIn, usable } = require('./simulator.js')

/** Nothing expires during a test with this deadline, although time is fast there. */
const DEADLINE_SECONDS = '3600'
/** Longer than an attempt or a key lives with that deadline, in the world's seconds. */
const PAST_ANY_END = 2 * 3600
/** By then an ephemeral device whose machine is gone has left by itself. */
const PAST_EPHEMERAL = 2 * 3600

/** Servers, keys that still serve, devices. */
function count(world) {
  return { servers: world.servers.length, keys: usable(world).length, devices: world.devices.length }
}

/** Once everything of the dead attempt is past its end, one `reap` has this outcome, and the world is as it says. */
async function assertReaped(cloud, outcome) {
  await cloud.control('DELETE', 'faults')
  const { servers, keys } = await cloud.advance(PAST_ANY_END)
  assert.deepEqual(keys.filter(({ usable }) => usable), [], 'the keys of a dead attempt are dead')
  const report = await reap({ env: cloud.env(), logger: false, dryRun: false, graceMs: 0 })
  const expected = outcome === 'untouched' ? [] : servers.map(({ id, name }) => ({ id, name, outcome }))
  assert.deepEqual(report.servers.map(({ serverId, serverName, outcome }) => ({ id: serverId, name: serverName, outcome })), expected)
  const named = report.servers.flatMap(({ leftovers }) => leftovers).map(({ kind, id }) => `${kind} ${id}`)
  if (outcome === 'left') {
    // A wrong delete is worse than an orphan: what may be a machine in use is reported, and a person decides.
    const [server] = servers
    assert.ok(named.includes(`server ${server.id}`), `${server.id} is not in ${named}`)
    assert.deepEqual((await cloud.world()).servers.map(({ id }) => id), [server.id])
    return
  }
  assert.deepEqual(named, [])
  const world = await cloud.advance(PAST_EPHEMERAL)
  if (outcome === 'removed' || outcome === undefined) return assert.deepEqual(leftIn(world), [])
  // A machine that verifies is never removed; it is what the next call for the job returns.
  const [server] = world.servers
  const [device] = world.devices
  assert.deepEqual(count(world), { servers: 1, keys: 0, devices: 1 })
  assert.deepEqual([server.labels.state, server.node], ['ready', device.node_id])
}

module.exports = { DEADLINE_SECONDS, assertReaped, count }

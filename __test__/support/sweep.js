'use strict'

// What becomes of the remains of a dead attempt once it is past its end.

const assert = require('node:assert/strict')

const { leftIn, runScript, usable } = require('./simulator.js')

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

/**
 * Once everything of the dead attempt is past its end, one sweep deals with it: its server is `removed` and the world
 * is empty, or it is `ready` because its machine verifies.
 */
async function assertSwept(cloud, params, outcome) {
  const before = await cloud.advance(PAST_ANY_END)
  assert.deepEqual(usable(before), [], 'the keys of a dead attempt are dead')
  const done = await sweep(cloud, params, before)
  assert.deepEqual(done, before.servers.map(({ id }) => ({ serverId: id, outcome })))
  const world = await cloud.advance(PAST_EPHEMERAL)
  if (outcome !== 'ready') return assert.deepEqual(leftIn(world), [])
  // A machine that verifies is never removed; it is what the next call for the job returns.
  const [server] = world.servers
  const [device] = world.devices
  assert.deepEqual(count(world), { servers: 1, keys: 0, devices: 1 })
  assert.deepEqual([server.labels.state, server.node], ['ready', device.node_id])
}

/**
 * Clears away what dead attempts left, and says what became of each server.
 *
 * Stands in for `reap` until there is one: a second run of the job takes the dead attempt over, and a server that it
 * makes itself is then removed by hand.
 */
async function sweep(cloud, params, before) {
  await cloud.control('DELETE', 'faults')
  await cloud.configure({
    hetzner: { create_seconds: [3, 8], start_seconds: [2, 4] },
    machine: { kernel_seconds: [6, 9], install_seconds: [7, 11] },
    tailscale: { connected_after_seconds: 0, visibility_seconds: 0.5 },
  })
  const { code, stdout, stderr } = await runScript(cloud, { params, env: { PROVISION_TIMEOUT_SECONDS: DEADLINE_SECONDS } }).ended
  assert.equal(code, 0, stderr)
  const { serverId } = JSON.parse(stdout)
  const dead = before.servers.map(({ id }) => id)
  if (!dead.includes(serverId)) await cloud.control('DELETE', `servers/${serverId}`)
  const standing = (await cloud.world()).servers.map(({ id }) => id)
  return dead.map((id) => ({ serverId: id, outcome: standing.includes(id) ? 'ready' : 'removed' }))
}

module.exports = { DEADLINE_SECONDS, assertSwept, count }

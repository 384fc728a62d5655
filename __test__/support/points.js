'use strict'

// Named points of a job at which the script can be killed (fault sheet 2.6), each with a world that stands still there.

const { existsSync, readFileSync } = require('node:fs')

const { eventually } = require('./simulator.js')

/** A reply that takes a minute of the world's time, which is short enough for an undo to hear it out. */
const slow = (api, method, path, more) => ({ api, method, path, kind: { slow: { ms: 60_000 } }, ...more })

/** So many seconds that nothing else happens in a test. */
const AGES = 100_000

const NOTHING = { servers: 0, keys: 0, devices: 0 }

/**
 * Each point:
 *
 * - `config`, `faults`: the world in which the job stands still there;
 * - `reached(cloud, run)`: ends when it is there, by the world's truth or by what the script has told;
 * - `told`: what the outputs of the script hold by then;
 * - `left`: what the world holds then, and still holds after a SIGKILL: servers, usable keys, devices;
 * - `later`: what it holds when everything that was under way has happened, if that is more;
 * - `reaped`: what `reap` makes of the server once its attempt is dead: `removed`, `marked_ready` if its machine verifies,
 *   `left` if a device of it is there that does not; `untouched` if it was ready before;
 * - `won`: the result is there already, so a signal changes nothing;
 * - `named`: the kinds that an undo cannot rule out, and therefore names.
 */
const POINTS = [
  {
    name: 'before its first request',
    node: ['--require', require.resolve('./signal-at-the-door.js')],
    told: [],
    left: NOTHING,
  },
  {
    name: 'with its first look-up in flight',
    faults: [slow('hetzner', 'GET', '/servers', { times: 2 })],
    reached: (cloud) => cloud.untilAsked('GET /v1/servers'),
    told: ['server_name'],
    left: NOTHING,
  },
  {
    name: 'with the catalogue of server types in flight',
    faults: [slow('hetzner', 'GET', '/server_types')],
    reached: (cloud) => cloud.untilAsked('GET /v1/server_types'),
    told: ['server_name'],
    left: NOTHING,
  },
  {
    name: 'with its token request in flight',
    faults: [slow('tailscale', 'POST', '/oauth/token')],
    reached: (cloud) => cloud.untilAsked('POST /api/v2/oauth/token'),
    told: ['server_name'],
    left: NOTHING,
  },
  {
    name: 'with the order of its key in flight',
    faults: [slow('tailscale', 'POST', '/tailnet/-/keys')],
    reached: (cloud) => cloud.until(({ keys }) => keys.length > 0),
    told: ['server_name'],
    left: { ...NOTHING, keys: 1 },
  },
  {
    name: 'with the order of its server in flight, carried out already',
    config: { hetzner: { create_seconds: [AGES, AGES] } },
    faults: [slow('hetzner', 'POST', '/servers')],
    reached: (cloud) => cloud.until(({ servers }) => servers.length > 0),
    told: ['server_name'],
    left: { servers: 1, keys: 1, devices: 0 },
    reaped: 'removed',
  },
  {
    name: 'with the order of its server in flight, never to be carried out',
    faults: [{ api: 'hetzner', method: 'POST', path: '/servers', kind: 'hang_before_apply' }],
    reached: (cloud) => cloud.untilAsked('POST /v1/servers'),
    told: ['server_name'],
    left: { ...NOTHING, keys: 1 },
    named: ['server'],
  },
  {
    name: 'with the order of its server lost, to be carried out in a minute',
    config: { hetzner: { create_seconds: [AGES, AGES] } },
    faults: [{ api: 'hetzner', method: 'POST', path: '/servers', kind: { reset_then_apply: { after_ms: 60_000 } } }],
    reached: (cloud) => cloud.untilAsked('POST /v1/servers'),
    told: ['server_name'],
    left: { ...NOTHING, keys: 1 },
    later: { servers: 1, keys: 1, devices: 0 },
    reaped: 'removed',
  },
  {
    name: 'with a new server, locked by its making',
    config: { hetzner: { create_seconds: [50, 50], start_seconds: [AGES, AGES], locked_while_creating: true } },
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 1, devices: 0 },
    reaped: 'removed',
  },
  {
    name: 'with its create action done',
    config: { hetzner: { start_seconds: [AGES, AGES] } },
    reached: (cloud) => cloud.until(({ servers: [server] }) => server?.status === 'starting'),
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 1, devices: 0 },
    reaped: 'removed',
  },
  {
    name: 'with a running server',
    config: { machine: { kernel_seconds: [AGES, AGES] } },
    reached: (cloud) => cloud.until(({ servers: [server] }) => server?.status === 'running'),
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 1, devices: 0 },
    reaped: 'removed',
  },
  {
    name: 'with a booted machine',
    config: { machine: { install_seconds: [AGES, AGES] } },
    reached: (cloud) => cloud.until(({ servers: [server] }) => server?.first_boot_done),
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 1, devices: 0 },
    reaped: 'removed',
  },
  {
    name: 'with a device that shows only later',
    // Long enough for the waits, short enough for an undo, which looks for a while.
    config: { tailscale: { visibility_seconds: 150 } },
    reached: (cloud) => cloud.until(({ devices }) => devices.length > 0),
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 0, devices: 1 },
    reaped: 'marked_ready',
  },
  {
    name: 'with a device that shows but is not connected',
    config: { tailscale: { connected_after_seconds: AGES } },
    reached: (_cloud, run) => run.hears('the device is not connected'),
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 0, devices: 1 },
    reaped: 'left',
  },
  {
    name: 'with a verified machine that is not marked ready',
    // The look-up of the beginning passes.
    faults: [slow('hetzner', 'GET', '/servers', { skip: 1 })],
    reached: (_cloud, run) => run.hears('Tailscale enrollment verified'),
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 0, devices: 1 },
    reaped: 'marked_ready',
    won: true,
  },
  {
    name: 'with its ready mark in flight',
    faults: [slow('hetzner', 'PUT', '/servers/*')],
    reached: (cloud) => cloud.untilAsked('PUT /v1/servers/'),
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 0, devices: 1 },
    reaped: 'untouched',
    won: true,
  },
  {
    name: 'during its undo',
    config: { machine: { kernel_seconds: [AGES, AGES] } },
    faults: [{ api: 'hetzner', method: 'DELETE', path: '/servers/*', kind: 'hang_before_apply' }],
    reached: async (cloud, run) => {
      await run.tells(['server_id', 'server_ip'])
      run.child.kill('SIGTERM')
      await cloud.untilAsked('DELETE /v1/servers/')
    },
    told: ['server_name', 'server_id', 'server_ip'],
    left: { servers: 1, keys: 1, devices: 0 },
    reaped: 'removed',
    isUndo: true,
  },
]

/** The outputs that the script has written so far. */
function readOutputs(file) {
  if (!existsSync(file)) return {}
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
  return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s)))
}

/** Adds to a run what a point asks of it. */
function watch(run, file) {
  const hears = (words) =>
    eventually(async () => (run.said.stderr.includes(words) ? { found: true } : { instead: run.said.stderr }))
  const tells = (names) =>
    eventually(async () => {
      const outputs = readOutputs(file)
      return names.every((name) => name in outputs) ? { found: outputs } : { instead: outputs }
    })
  return { ...run, hears, tells }
}

module.exports = { POINTS, readOutputs, watch }

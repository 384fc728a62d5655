'use strict'

// What the package costs before it does anything. Every figure is a median over fresh processes, taken in turn with those it is compared
// with, on the machine as it is.

const { execFileSync, spawn } = require('node:child_process')
const { once } = require('node:events')
const { readdirSync, statSync } = require('node:fs')
const { createServer } = require('node:net')
const { join } = require('node:path')

const { ROOT } = require('../../scripts/setup.js')
const { MIB, median } = require('./figures.js')
const { BARE_ENV, launch } = require('./ways.js')

const OURS = [process.execPath, join(ROOT, 'scripts', 'provision.js')]

/** The figures against their budgets, and how long other commands take to their first request. */
async function measureStartup(rounds, others = []) {
  const listener = await listen()
  const bare = []
  const loads = []
  const first = [OURS, ...others].map(() => [])
  for (let round = 0; round < rounds; round += 1) {
    bare.push(await timeBareNode())
    for (const [at, command] of [OURS, ...others].entries()) first[at].push(await timeFirstRequest(listener, command))
    loads.push(measureRequire())
  }
  listener.server.close()

  const nodeMs = median(bare)
  const [firstMs, ...othersMs] = first.map(median)
  const budgets = [
    ['first request, beyond node -e 0', firstMs - nodeMs, 150, 'ms'],
    ["require('provision-vm')", median(loads.map(({ ms }) => ms)), 10, 'ms'],
    ["memory of require('provision-vm')", median(loads.map(({ bytes }) => bytes)) / MIB, 10, 'MiB'],
    ['release binary', binarySize() / MIB, 4, 'MiB'],
  ]
  return { nodeMs, firstMs, othersMs, budgets }
}

/** A listener that tells when the first byte of a connection came, and never answers. */
async function listen() {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { server, url: `http://127.0.0.1:${server.address().port}` }
}

async function timeBareNode() {
  const began = performance.now()
  await once(spawn(process.execPath, ['-e', '0'], { env: BARE_ENV, stdio: 'ignore' }), 'exit')
  return performance.now() - began
}

async function timeFirstRequest({ server, url }, command) {
  const env = {
    JOB_ID: 'bench',
    AGENT_ID: 'bench',
    HETZNER_API_URL: url,
    HETZNER_API_TOKEN: 'none',
    HETZNER_SSH_KEY_ID: '1',
    TAILSCALE_API_URL: url,
    TAILSCALE_OAUTH_CLIENT_ID: 'none',
    TAILSCALE_OAUTH_CLIENT_SECRET: 'none',
  }
  const arrival = once(server, 'connection').then(async ([socket]) => {
    socket.on('error', () => {})
    await once(socket, 'data')
    return performance.now()
  })
  const began = performance.now()
  const { child, end } = launch(command, env, 'ignore')
  const ended = once(child, 'exit')
  const early = ended.then(([code]) => Promise.reject(new Error(`${command.join(' ')} ended with ${code} before its first request`)))
  const at = await Promise.race([arrival, early])
  early.catch(() => {})
  // It has asked nobody for anything, so there is nothing to undo.
  end()
  await ended
  return at - began
}

/** Time and resident memory that loading the package adds to a bare process. */
function measureRequire() {
  const code = `const before = process.memoryUsage.rss()
    const began = performance.now()
    require(${JSON.stringify(ROOT)})
    const ms = performance.now() - began
    console.log(JSON.stringify({ ms, bytes: process.memoryUsage.rss() - before }))`
  return JSON.parse(execFileSync(process.execPath, ['-e', code], { env: BARE_ENV, encoding: 'utf8' }))
}

/** The largest of the native modules that were built here. */
function binarySize() {
  const modules = readdirSync(ROOT).filter((name) => name.startsWith('provision-vm.') && name.endsWith('.node'))
  return Math.max(...modules.map((name) => statSync(join(ROOT, name)).size))
}

module.exports = { measureStartup }

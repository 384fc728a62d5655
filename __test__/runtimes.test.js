'use strict'

// The packed and installed package on each runtime that it is for. `smoke/package.json` pins them; each is the platform
// package that npm carries, so no script of theirs is run and none is installed anywhere else.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { copyFileSync, existsSync, mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')

const { installPacked, npm } = require('./support/packed.js')
const { startCloud, usable } = require('./support/simulator.js')

const SMOKE = path.join(__dirname, 'smoke')

/** Where each has its program, and what it has to be told. Deno's permissions are all that the package needs. */
const RUNTIMES = [
  { name: 'node-20', program: 'bin/node', args: [] },
  { name: 'node-22', program: 'bin/node', args: [] },
  { name: 'node-24', program: 'bin/node', args: [] },
  { name: 'bun', program: 'bin/bun', args: [] },
  { name: 'deno', program: 'deno', args: ['run', '--no-prompt', '--allow-env', '--allow-ffi', '--allow-read'] },
]

/** Longer than any of them takes, many times. */
const PATIENCE_MS = 90_000

const elsewhere = process.platform !== 'linux' && 'npm carries these runtimes for Linux; CI runs there'

describe('the package works on', { concurrency: true, skip: elsewhere }, () => {
  const app = mkdtempSync(path.join(tmpdir(), 'provision-vm-runtimes-'))
  before(() => {
    installRuntimes()
    installPacked(app)
    copyFileSync(path.join(SMOKE, 'smoke.mjs'), path.join(app, 'smoke.mjs'))
  })
  after(() => rmSync(app, { recursive: true }))

  for (const { name, program, args } of RUNTIMES) {
    test(name, async (t) => {
      assert.ok(existsSync(path.join(home(name), program)), `npm brought no ${name} for ${process.arch}`)
      const cloud = await startCloud()
      try {
        const { version, kept } = await smoke(cloud, app, path.join(home(name), program), args)
        t.diagnostic(`${name}: ${version}`)
        assert.equal(version, pinned(name))
        const world = await cloud.world()
        // Three were made; one was removed, one was given up in the making.
        assert.equal(world.servers_ever, 3)
        assert.deepEqual(world.servers.map(({ id, name }) => [id, name]), [[kept.serverId, kept.serverName]])
        assert.equal(world.devices.length, 1)
        assert.deepEqual(usable(world), [])
      } finally {
        await cloud.stop()
      }
    })
  }
})

/** Runs it to its end, which has to come by itself, and at once after its last line. */
async function smoke(cloud, app, program, args) {
  const own = { PATH: process.env.PATH, HOME: app, DENO_DIR: path.join(app, 'deno'), DENO_NO_UPDATE_CHECK: '1' }
  const options = { cwd: app, env: cloud.env(own), timeout: PATIENCE_MS, stdio: ['ignore', 'pipe', 'pipe'] }
  const child = spawn(program, [...args, 'smoke.mjs'], options)
  let stdout = ''
  let stderr = ''
  let spoke = Date.now()
  child.stdout.on('data', (chunk) => {
    stdout += chunk
    spoke = Date.now()
  })
  child.stderr.on('data', (chunk) => (stderr += chunk))
  const [code, signal] = await once(child, 'close')
  const silence = Date.now() - spoke
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, stdout + stderr)
  assert.ok(silence < 5000, `it ended only ${silence} ms after its last line`)
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

/** npm leaves out in silence what it cannot have of these; the test of each looks for it. */
function installRuntimes() {
  const isThere = ({ name, program }) => existsSync(path.join(home(name), program)) && installed(name) === pinned(name)
  if (!RUNTIMES.every(isThere)) npm(['ci', '--ignore-scripts'], SMOKE)
}

function home(name) {
  return path.join(SMOKE, 'node_modules', `${name}-${process.arch}`)
}

function installed(name) {
  return require(path.join(home(name), 'package.json')).version
}

function pinned(name) {
  const { optionalDependencies } = require('./smoke/package.json')
  return optionalDependencies[`${name}-${process.arch}`].split('@').at(-1)
}

'use strict'

// What a stranger does: install it in an empty folder, and run three lines. No script of a package runs.

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const { promisify } = require('node:util')

const { packAll } = require('../scripts/pack.js')
const { SIMULATOR } = require('../scripts/setup.js')
const { installPacked } = require('./support/packed.js')
const { startRegistry } = require('./support/registry.js')
const { startCloud } = require('./support/simulator.js')

const THREE_LINES = `
const { provisionVM } = require('provision-vm')
const vm = provisionVM({ jobId: 'job-42', agentId: '550e8400-e29b', region: 'us-east' }, { logger: false })
vm.then((vm) => console.log(JSON.stringify(vm)))
`

/** All platforms that a release has, of which one is this machine's. */
const PLATFORMS = [
  'darwin-arm64', 'darwin-x64', 'linux-arm64-gnu', 'linux-arm64-musl', 'linux-x64-gnu', 'linux-x64-musl', 'win32-arm64-msvc',
  'win32-x64-msvc',
]

const run = promisify(execFile)

describe('the packed package', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-packed-'))
  const folderFor = (name) => {
    mkdirSync(path.join(folder, name))
    writeFileSync(path.join(folder, name, 'package.json'), '{ "private": true }')
    return path.join(folder, name)
  }
  let cloud
  before(async () => (cloud = await startCloud()))
  after(async () => {
    await cloud.stop()
    rmSync(folder, { recursive: true })
  })

  /** Runs the three lines in an app, and sees what has become of them. */
  async function provisionIn(app) {
    await cloud.reset()
    writeFileSync(path.join(app, 'main.js'), THREE_LINES)
    const env = cloud.env({ PATH: process.env.PATH })
    const { stdout } = await run(process.execPath, ['main.js'], { cwd: app, env })
    const { serverId, serverIp, tailscaleIp } = JSON.parse(stdout)
    const { servers, devices } = await cloud.world()
    assert.deepEqual(servers.map(({ id, ipv4, labels }) => [id, ipv4, labels.state]), [[serverId, serverIp, 'ready']])
    assert.deepEqual(devices.map(({ ip }) => ip), [tailscaleIp])
  }

  test('is installed from its tarballs in an empty folder, and makes a machine with three lines', async () => {
    const app = folderFor('tarballs')
    installPacked(app)
    await provisionIn(app)
  })

  test('is installed from a registry by its name, with the module of this platform alone', async () => {
    const packed = packAll({ out: path.join(folder, 'packages') })
    const [platform] = packed
    const version = JSON.parse(readFileSync(path.join(__dirname, '..', 'package.json'), 'utf8')).version
    const manifests = path.join(folder, 'packages', 'npm')
    assert.deepEqual(readdirSync(manifests).sort(), PLATFORMS)
    const all = PLATFORMS.map((name) => JSON.parse(readFileSync(path.join(manifests, name, 'package.json'), 'utf8')))
    const others = all.filter(({ name }) => name !== platform.name)
    const registry = await startRegistry(packed.map(({ tarball }) => tarball), others)
    try {
      const app = folderFor('registry')
      const args = ['install', 'provision-vm', '--ignore-scripts', '--registry', registry.url, '--cache', path.join(folder, 'cache')]
      await run('npm', [...args, '--no-audit', '--no-fund'], { cwd: app, shell: process.platform === 'win32' })
      const installed = readdirSync(path.join(app, 'node_modules')).filter((name) => !name.startsWith('.'))
      assert.deepEqual(installed.sort(), ['provision-vm', platform.name].sort())
      assert.deepEqual(registry.asked.filter((name) => name.endsWith('.tgz')).sort(), packed.map(({ tarball }) => path.basename(tarball)).sort())
      // A lock file that was made here has what other platforms need.
      const lock = JSON.parse(readFileSync(path.join(app, 'package-lock.json'), 'utf8'))
      for (const { name } of all) assert.equal(lock.packages[`node_modules/${name}`]?.version, version, name)
      await provisionIn(app)
    } finally {
      registry.stop()
    }
  })

  test('is tried as a release tries it', async () => {
    const out = path.join(folder, 'release')
    packAll({ out })
    const { stdout } = await run(process.execPath, [path.join(__dirname, 'smoke', 'run.js'), out, SIMULATOR])
    assert.match(stdout, /^provision-vm \d+\.\d+\.\d+ works on /m)
    const nothing = run(process.execPath, [path.join(__dirname, 'smoke', 'run.js'), path.join(out, 'npm'), SIMULATOR])
    await assert.rejects(nothing, /there are no tarballs for this platform/)
    const dead = run(process.execPath, [path.join(__dirname, 'smoke', 'run.js'), out, process.execPath])
    await assert.rejects(dead, /the local cloud ended with code 9/)
  })

  test('is packed nowhere but in a folder of packages, and as a whole only if nothing is missing', () => {
    const out = folderFor('mine')
    assert.throws(() => packAll({ out }), /is not a folder of packages: it has package\.json/)
    assert.ok(readFileSync(path.join(out, 'package.json')))
    assert.throws(() => packAll({ out: path.join(folder, 'whole'), isComplete: true }), /there is no native module for .*provision-vm-/)
  })

  test('is released with what the changes say of its version', async () => {
    const { version } = require('../package.json')
    const notes = (tag) => run(process.execPath, [path.join(__dirname, '..', 'scripts', 'packing', 'release-notes.js'), tag])
    assert.match((await notes(`v${version}`)).stdout, /\S/)
    await assert.rejects(notes('v99.0.0'), /the tag is v99\.0\.0, the version of the package/)
  })

  test('says what is the matter where its module is missing, and where there is none', async () => {
    const app = folderFor('missing')
    const [platform] = installPacked(app)
    rmSync(path.join(app, 'node_modules', platform.name), { recursive: true })
    const complaint = async (prelude = '', env = {}) => {
      const code = `${prelude}try { require('provision-vm') } catch (error) { console.log(error.message) }`
      return (await run(process.execPath, ['--eval', code], { cwd: app, env: { PATH: process.env.PATH, ...env } })).stdout
    }
    assert.match(await complaint(), /the one for \S+ is not installed\. npm has it as an optional dependency: install without --omit=optional/)
    assert.match(await complaint('', { NAPI_RS_NATIVE_LIBRARY_PATH: '/none.node' }), /NAPI_RS_NATIVE_LIBRARY_PATH names one that cannot be loaded/)
    const elsewhere = "Object.defineProperty(process, 'arch', { value: 'riscv64' }); "
    assert.match(await complaint(elsewhere), /there is none for \w+-riscv64, only for Linux, macOS and Windows on x64 and arm64/)
    const broken = path.join(app, 'node_modules', platform.name)
    mkdirSync(broken)
    writeFileSync(path.join(broken, 'package.json'), '{ "main": "broken.node" }')
    writeFileSync(path.join(broken, 'broken.node'), 'no library')
    assert.match(await complaint(), /the one for \S+ is there, but Node\.js \S+ cannot or may not load it/)
  })
})

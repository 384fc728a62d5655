'use strict'

// What a workflow does first in a fresh clone: it leaves a native module behind that can be loaded.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, beforeEach, test } = require('node:test')

const { cloneInto } = require('./support/clone.js')
const { ROOT } = require('./support/simulator.js')

const [MODULE] = readdirSync(ROOT).filter((name) => name.endsWith('.node'))
const PLATFORM = MODULE.split('.')[1]

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-install-'))
const clone = path.join(folder, 'clone')
const outputs = path.join(folder, 'outputs')
beforeEach(() => {
  rmSync(clone, { recursive: true, force: true })
  cloneInto(clone)
  writeFileSync(outputs, '')
})
after(() => rmSync(folder, { recursive: true }))

/** A path on which there is nothing but Node.js, npm and a shell. */
function pathWithout() {
  const bin = path.join(folder, 'bin')
  mkdirSync(bin, { recursive: true })
  const find = (name) => spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim()
  for (const name of ['node', 'npm', 'sh', 'bash', 'env']) {
    if (!existsSync(path.join(bin, name))) symlinkSync(find(name), path.join(bin, name))
  }
  return bin
}

function install(env = {}) {
  const all = { PATH: process.env.PATH, HOME: process.env.HOME, GITHUB_OUTPUT: outputs, ...env }
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/install.js'], { cwd: clone, env: all, encoding: 'utf8' })
  return { status, stdout, stderr, said: stdout + stderr }
}

/** Loaded by a process of its own, as the next step would. */
function loads() {
  const code = "if (typeof require('.').provisionVM !== 'function') process.exit(1)"
  return spawnSync(process.execPath, ['--eval', code], { cwd: clone }).status === 0
}

test('without a prebuilt module it is built, without any package of development', () => {
  assert.ok(!loads())
  // Compiled beside everything else and in the same way, so that the libraries are compiled once.
  const [, host] = /^host: (.*)$/m.exec(spawnSync('rustc', ['-vV'], { encoding: 'utf8' }).stdout)
  const target = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target')
  const { status, said } = install({ CARGO_TARGET_DIR: target, CARGO_BUILD_TARGET: host })
  assert.equal(status, 0, said)
  assert.ok(loads() && said.includes('is built'), said)
  assert.ok(!existsSync(path.join(clone, 'node_modules', '@napi-rs')), said)
  assert.match(install().stdout, /^The native module is there\.$/m)
})

test('a prebuilt module that the lock file names is taken, and nothing is built', () => {
  const prebuilt = path.join(folder, 'prebuilt')
  mkdirSync(prebuilt, { recursive: true })
  cpSync(path.join(ROOT, MODULE), path.join(prebuilt, MODULE))
  const { version } = JSON.parse(readFileSync(path.join(clone, 'package.json'), 'utf8'))
  const manifest = { name: `provision-vm-${PLATFORM}`, version, main: MODULE, os: [process.platform], cpu: [process.arch] }
  writeFileSync(path.join(prebuilt, 'package.json'), JSON.stringify(manifest))
  const npm = (args, cwd) => {
    const { status, stdout, stderr } = spawnSync('npm', args, { cwd, encoding: 'utf8' })
    assert.equal(status, 0, stderr)
    return stdout
  }
  const tarball = path.join(folder, npm(['pack', '--silent', '--pack-destination', folder], prebuilt).trim())
  npm(['install', '--package-lock-only', '--save-optional', '--ignore-scripts', '--no-audit', '--no-fund', tarball], clone)

  const { status, said } = install({ PATH: pathWithout() })
  assert.equal(status, 0, said)
  assert.ok(loads() && said.includes('prebuilt native module is installed'), said)
  assert.ok(!existsSync(path.join(clone, MODULE)) && !existsSync(path.join(clone, 'target')))
})

test('where nothing is prebuilt and nothing can be built it says so, and a later step can tell the app', () => {
  const { status, said } = install({ PATH: pathWithout() })
  assert.equal(status, 1)
  assert.ok(said.includes(`no prebuilt native module for ${PLATFORM}, and no Rust (cargo)`), said)
  assert.match(readFileSync(outputs, 'utf8'), /^error=there is no prebuilt native module for .*\nfailed_step=install\n$/)
})

'use strict'

// What is published: the tarball, as npm makes it.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { mkdtempSync, readFileSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, test } = require('node:test')

const { ROOT } = require('../scripts/setup.js')
const { pack } = require('./support/packed.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-package-'))
after(() => rmSync(folder, { recursive: true }))
const { tarball, files } = pack(folder)

test('what is meant is in it, and nothing else', () => {
  // The native modules have packages of their own, one for each platform.
  assert.deepEqual(files, [
    'LICENSE',
    'README.md',
    'index.d.ts',
    'index.js',
    'js/boot-report.d.ts',
    'js/boot-report.js',
    'js/support/bytes.js',
    'js/support/reading.js',
    'js/support/refusal.js',
    'js/webhook.d.ts',
    'js/webhook.js',
    'native.d.ts',
    'native.js',
    'package.json',
    'scripts/callback.js',
    'scripts/cleanup.js',
    'scripts/provision.js',
    'scripts/reap.js',
    'scripts/support/actions.js',
    'scripts/support/delivery.js',
    'scripts/support/display.js',
    'scripts/support/heartbeat.js',
    'scripts/support/message.js',
    'scripts/support/progress.js',
    'scripts/support/run.js',
    'scripts/support/summary.js',
    'scripts/support/target.js',
  ])
})

test('publint has nothing to say', async () => {
  const { publint } = await import('publint')
  const { buffer } = readFileSync(tarball)
  const { messages } = await publint({ pack: { tarball: buffer }, level: 'suggestion', strict: true })
  assert.deepEqual(messages, [])
})

// The strict profile: also as TypeScript resolved before there was `exports`, which old configurations still ask for.
test('Are The Types Wrong finds none, however they are resolved', () => {
  const attw = path.join(ROOT, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js')
  const args = [attw, tarball, '--profile', 'strict', '--format', 'ascii', '--no-color', '--no-emoji']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' })
  assert.equal(status, 0, stdout + stderr)
  for (const entry of ['"provision-vm"', '"provision-vm/webhook"', '"provision-vm/boot-report"']) assert.ok(stdout.includes(entry), stdout)
})

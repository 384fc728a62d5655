'use strict'

// What is published: the tarballs, as npm makes them.

const assert = require('node:assert/strict')
const { execFileSync, spawnSync } = require('node:child_process')
const { mkdtempSync, readFileSync, rmSync, statSync } = require('node:fs')
const { homedir, tmpdir } = require('node:os')
const path = require('node:path')
const { after, test } = require('node:test')

const { packAll } = require('../scripts/pack.js')
const { shrink } = require('../scripts/packing/shrink.js')
const { ROOT } = require('../scripts/setup.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-package-'))
after(() => rmSync(folder, { recursive: true }))
const [platform, main] = packAll({ out: path.join(folder, 'packages') })
const { tarball, files } = main

test('what is meant is in it, and nothing else', () => {
  // The native modules have packages of their own, one for each platform.
  assert.deepEqual(files, [
    'LICENSE',
    'README.md',
    'index.d.ts',
    'index.js',
    'js/boot-report.d.ts',
    'js/boot-report.js',
    'js/cli/arguments.js',
    'js/cli/callback-check.js',
    'js/cli/commands/destroy.js',
    'js/cli/commands/doctor.js',
    'js/cli/commands/list.js',
    'js/cli/commands/plan.js',
    'js/cli/commands/provision.js',
    'js/cli/commands/reap.js',
    'js/cli/commands/simulate.js',
    'js/cli/commands/status.js',
    'js/cli/failure.js',
    'js/cli/interruption.js',
    'js/cli/local-cloud.js',
    'js/cli/main.js',
    'js/cli/manual.js',
    'js/cli/nearest.js',
    'js/cli/provisioning-flags.js',
    'js/cli/table.js',
    'js/cli/terminal.js',
    'js/cli/words.js',
    'js/local-cloud.d.ts',
    'js/local-cloud.js',
    'js/support/bytes.js',
    'js/support/local-cloud-program.js',
    'js/support/reading.js',
    'js/support/refusal.js',
    'js/survey.d.ts',
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
    'scripts/support/known.js',
    'scripts/support/message.js',
    'scripts/support/progress.js',
    'scripts/support/run.js',
    'scripts/support/summary.js',
    'scripts/support/target.js',
  ])
})

test('the package of a platform has its module, what is linked into it, and nothing that runs at installation', () => {
  const module = `provision-vm.${platform.name.slice('provision-vm-'.length)}.node`
  assert.deepEqual(platform.files, ['LICENSE', 'README.md', 'THIRD-PARTY-NOTICES.md', 'package.json', module])
  for (const { name, tarball } of [platform, main]) {
    const { version, scripts, dependencies, devDependencies, optionalDependencies = {} } = JSON.parse(fileIn(tarball, 'package.json'))
    assert.deepEqual({ scripts, dependencies, devDependencies }, { scripts: undefined, dependencies: undefined, devDependencies: undefined })
    assert.equal(Object.keys(optionalDependencies).length, name === 'provision-vm' ? 8 : 0)
    assert.deepEqual(Object.values(optionalDependencies).filter((it) => it !== version), [], 'exact versions')
  }
  const notices = fileIn(platform.tarball, 'THIRD-PARTY-NOTICES.md')
  for (const name of ['hyper', 'napi', 'ring', 'rustls', 'tokio', 'webpki-roots']) assert.match(notices, new RegExp(`^- ${name} \\d`, 'm'))
  for (const name of ['simulator', 'proptest', 'provision-vm', 'serde_derive']) assert.doesNotMatch(notices, new RegExp(`^- ${name} \\d`, 'm'))
})

test('each is small enough when it is published', async (t) => {
  for (const packed of [platform, main]) {
    const { name, bytes, limit } = await shrink(packed)
    t.diagnostic(`${name}: ${bytes} bytes packed, at most ${limit}`)
    assert.ok(bytes <= limit, `${name} has ${bytes} bytes`)
    assert.equal(statSync(packed.tarball).size, bytes)
  }
})

test('its bill of materials has what the notices have', () => {
  const bill = JSON.parse(readFileSync(platform.tarball.replace('.tgz', '.cdx.json'), 'utf8'))
  const listed = [...fileIn(platform.tarball, 'THIRD-PARTY-NOTICES.md').matchAll(/^- (\S+) (\S+): /gm)].map(([, name, version]) => `${name} ${version}`)
  assert.deepEqual(bill.components.map(({ name, version }) => `${name} ${version}`), listed)
  assert.ok(listed.length > 50 && bill.metadata.component.purl.startsWith('pkg:npm/provision-vm-'))
})

test('the module tells nothing of the machine that it was built on', () => {
  const module = fileIn(platform.tarball, platform.files.find((file) => file.endsWith('.node')))
  for (const place of [ROOT, homedir() + path.sep + '.cargo', tmpdir() + path.sep]) assert.ok(!module.includes(place), place)
})

test('publint has nothing to say', async () => {
  const { publint } = await import('publint')
  for (const { tarball } of [platform, main]) {
    const { buffer } = readFileSync(tarball)
    const { messages } = await publint({ pack: { tarball: buffer }, level: 'suggestion', strict: true })
    assert.deepEqual(messages, [])
  }
})

// The strict profile: also as TypeScript resolved before there was `exports`, which old configurations still ask for.
test('Are The Types Wrong finds none, however they are resolved', () => {
  const attw = path.join(ROOT, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js')
  const args = [attw, tarball, '--profile', 'strict', '--format', 'ascii', '--no-color', '--no-emoji']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' })
  assert.equal(status, 0, stdout + stderr)
  for (const entry of ['"provision-vm"', '"provision-vm/webhook"', '"provision-vm/boot-report"', '"provision-vm/local-cloud"']) assert.ok(stdout.includes(entry), stdout)
})

/** A file of a tarball; every byte is one character of it. */
function fileIn(tarball, name) {
  return execFileSync('tar', ['-xzOf', tarball, `package/${name}`], { encoding: 'latin1', maxBuffer: Infinity })
}

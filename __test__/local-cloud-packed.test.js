'use strict'

// The local cloud as an app installs it, beside the package and not with it; and the suite of docs/local-cloud.md, which runs there.

const assert = require('node:assert/strict')
const { execFile, execFileSync, spawnSync } = require('node:child_process')
const { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const { promisify } = require('node:util')

const { ModuleKind, transpileModule } = require('typescript')
const { findProgram, startLocalCloud } = require('../js/local-cloud.js')
const { packAll } = require('../scripts/pack.js')
const { packLocalCloud } = require('../scripts/packing/local-cloud.js')
const { ROOT } = require('../scripts/setup.js')
const { npm } = require('./support/packed.js')

const PAGE = readFileSync(path.join(ROOT, 'docs', 'local-cloud.md'), 'utf8')
const TYPES = readFileSync(path.join(ROOT, 'js', 'local-cloud.d.ts'), 'utf8')

/** As much of Vitest as the page needs, by Node.js itself: another runner, as the page says. */
const RUNNER = `
import assert from 'node:assert/strict'
import { after, before, beforeEach, test as run } from 'node:test'
const part = (it, like) => {
  if (typeof like !== 'object' || like === null) return assert.deepEqual(it, like)
  if (Array.isArray(like)) assert.equal(it.length, like.length)
  for (const [name, value] of Object.entries(like)) part(it[name], value)
}
export const expect = (it) => ({
  toBe: (other) => assert.equal(it, other),
  toEqual: (other) => assert.deepEqual(it, other),
  toMatchObject: (like) => part(it, like),
})
export const test = (name, body, timeout) => run(name, { timeout }, body)
export { before as beforeAll, after as afterAll, beforeEach }
`
const RUNNER_TYPES = `
type Body = () => unknown
export declare function test(name: string, body: Body, timeout?: number): void
export declare function beforeAll(body: Body): void
export declare function afterAll(body: Body): void
export declare function beforeEach(body: Body): void
export declare function expect(it: unknown): { toBe(it: unknown): void; toEqual(it: unknown): void; toMatchObject(it: object): void }
`

/** Around what the page shows alone. */
const SCOPE = `
import { startLocalCloud } from 'provision-vm/local-cloud'
await using cloud = await startLocalCloud({ seed: 1 })
`
const WRONG = `
// @ts-expect-error
await cloud.fault({ kind: 'explode' })
// @ts-expect-error
await startLocalCloud({ timescale: 1 })
`

const run = promisify(execFile)
const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-local-cloud-packed-'))
const out = path.join(folder, 'packages')
const programs = path.join(folder, 'programs')

let main, local
before(() => {
  main = packAll({ out })
  const [, target] = /^host: (\S+)$/m.exec(execFileSync('rustc', ['-vV'], { encoding: 'utf8' }))
  mkdirSync(programs)
  copyFileSync(findProgram(), path.join(programs, `simulator.${target}${process.platform === 'win32' ? '.exe' : ''}`))
  local = packLocalCloud({ out, programs })
})
after(() => rmSync(folder, { recursive: true }))

/** An app that has these installed. */
function install(name, packed) {
  const app = path.join(folder, name)
  mkdirSync(app)
  writeFileSync(path.join(app, 'package.json'), '{ "private": true, "type": "module" }')
  npm(['install', '--offline', '--ignore-scripts', ...packed.map(({ tarball }) => tarball)], app)
  return app
}

/** Runs code in an app, without any setting of this machine's. */
async function runIn(app, args) {
  return (await run(process.execPath, args, { cwd: app, env: { PATH: process.env.PATH } })).stdout
}

/** What the package of a module is called here. */
const renamed = (name) => name.replace('provision-vm', 'provision-vm-local-cloud')
const fileIn = (tarball, name) => execFileSync('tar', ['-xzOf', tarball, `package/${name}`], { encoding: 'utf8', maxBuffer: Infinity })

describe('the packages of the local cloud', () => {
  test('are one that is installed, and one for each platform, with the program and what is linked into it', () => {
    const [platform, whole] = local
    assert.deepEqual([platform.name, whole.name], [renamed(main[0].name), 'provision-vm-local-cloud'])
    const program = process.platform === 'win32' ? 'simulator.exe' : 'simulator'
    assert.deepEqual(platform.files, ['LICENSE', 'README.md', 'THIRD-PARTY-NOTICES.md', 'package.json', program])
    assert.deepEqual(whole.files, ['LICENSE', 'README.md', 'package.json'])
    const [own, all] = [platform, whole].map(({ tarball }) => JSON.parse(fileIn(tarball, 'package.json')))
    assert.deepEqual([own.os, own.cpu], [[process.platform], [process.arch]])
    const modules = JSON.parse(fileIn(main.at(-1).tarball, 'package.json')).optionalDependencies
    assert.deepEqual(Object.entries(all.optionalDependencies), Object.entries(modules).map(([name, version]) => [renamed(name), version]))
    for (const { scripts, dependencies, devDependencies } of [own, all]) assert.ok(!scripts && !dependencies && !devDependencies)
    const notices = fileIn(platform.tarball, 'THIRD-PARTY-NOTICES.md')
    assert.match(notices, /^# What is linked into the local cloud of provision-vm for \S+\n\nThe program is made of /)
    for (const name of ['hyper', 'serde-saphyr', 'tokio']) assert.match(notices, new RegExp(`^- ${name} \\d`, 'm'))
    for (const name of ['napi', 'ring', 'simulator', 'jsonschema']) assert.doesNotMatch(notices, new RegExp(`^- ${name} \\d`, 'm'))
    const bill = JSON.parse(readFileSync(platform.tarball.replace('.tgz', '.cdx.json'), 'utf8'))
    const listed = [...notices.matchAll(/^- (\S+) (\S+): /gm)].map(([, name, version]) => `${name} ${version}`)
    assert.deepEqual(bill.components.map(({ name, version }) => `${name} ${version}`), listed)
  })

  test('leave what else was packed where it is, and are complete in a release', () => {
    assert.ok(readdirSync(out).includes(path.basename(main[0].tarball)))
    const missing = () => packLocalCloud({ out: path.join(folder, 'all'), programs, isComplete: true })
    assert.throws(missing, /there is no program of the local cloud for \S+/)
    assert.deepEqual(packLocalCloud({ out: path.join(folder, 'none'), programs: folder }), [])
    assert.throws(() => packLocalCloud({ out: programs, programs }), /is not a folder of packages: it has simulator\./)
  })

  test('publint has nothing to say', async () => {
    const { publint } = await import('publint')
    for (const { tarball } of local) {
      // A small file's buffer is part of a larger one.
      const { buffer } = Uint8Array.from(readFileSync(tarball))
      const { messages } = await publint({ pack: { tarball: buffer }, level: 'suggestion', strict: true })
      assert.deepEqual(messages, [])
    }
  })
})

describe('an app that has them', () => {
  let app
  before(() => {
    app = install('app', [...main, ...local])
    const runner = path.join(app, 'node_modules', 'vitest')
    mkdirSync(runner)
    writeFileSync(path.join(runner, 'package.json'), '{ "name": "vitest", "type": "module", "exports": "./index.js" }')
    writeFileSync(path.join(runner, 'index.js'), RUNNER)
    writeFileSync(path.join(runner, 'index.d.ts'), RUNNER_TYPES)
    for (const [, file, source] of PAGE.matchAll(/^```ts\n\/\/ (\S+)\n([^]*?)^```$/gm)) {
      mkdirSync(path.dirname(path.join(app, file)), { recursive: true })
      writeFileSync(path.join(app, file), source)
      const { outputText } = transpileModule(source, { compilerOptions: { module: ModuleKind.ESNext, target: 'es2022' } })
      writeFileSync(path.join(app, file.replace(/\.ts$/, '.js')), outputText)
    }
  })

  test('runs the suite of the page', async () => {
    const report = await runIn(app, ['--test', '--test-reporter', 'tap', 'test/agents.test.js'])
    assert.match(report, /^# pass 5$/m)
    assert.match(report, /^# fail 0$/m)
  })

  test('has types for it, also of what the page shows alone', () => {
    const alone = PAGE.match(/^```ts\n(await [^]*?)^```$/m)[1]
    writeFileSync(path.join(app, 'test', 'alone.ts'), SCOPE + alone + WRONG)
    const options = { strict: true, noEmit: true, target: 'es2022', module: 'nodenext', exactOptionalPropertyTypes: true }
    const compilerOptions = { ...options, skipLibCheck: false, types: ['node'], typeRoots: [path.join(ROOT, 'node_modules', '@types')] }
    writeFileSync(path.join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src/*.ts', 'test/*.ts'] }))
    const tsc = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
    const { status, stdout } = spawnSync(process.execPath, [tsc, '--pretty', 'false', '--project', app], { encoding: 'utf8' })
    assert.equal(status, 0, stdout)
  })

  test('does what the package itself shows', async () => {
    const readme = readFileSync(path.join(app, 'node_modules', 'provision-vm-local-cloud', 'README.md'), 'utf8')
    const [, source] = readme.match(/^```js\n([^]*?)^```$/m)
    writeFileSync(path.join(app, 'readme.js'), `${source}console.log(vm.tailscaleIp)\n`)
    assert.match(await runIn(app, ['readme.js']), /^100\.\d+\.\d+\.\d+$/m)
  })

  test('hears of another version of it', async () => {
    const file = path.join(app, 'node_modules', 'provision-vm-local-cloud', 'package.json')
    const before = readFileSync(file, 'utf8')
    const { version } = JSON.parse(before)
    writeFileSync(file, before.replace(`"version": "${version}"`, '"version": "99.0.0"'))
    const told = "process.on('warning', ({ name, code, message }) => console.log(name, code, message)); "
    const said = await runIn(app, ['--input-type=commonjs', '--eval', `${told}require('provision-vm/local-cloud').findProgram()`])
    writeFileSync(file, before)
    assert.match(said, /^ProvisionVMWarning LOCAL_CLOUD_VERSION provision-vm is \S+ and its local cloud 99\.0\.0: npm install /)
  })
})

test('an app that has them not, or not all, is told what to install', async () => {
  const app = install('without', main)
  const complaint = (prelude = '') => {
    const code = `${prelude}require('provision-vm/local-cloud').startLocalCloud().catch(({ code, message }) => console.log(code, message))`
    return runIn(app, ['--input-type=commonjs', '--eval', code])
  }
  const { version } = require('../package.json')
  const command = `npm install --save-dev provision-vm-local-cloud@${version}\n`
  assert.equal(await complaint(), `NOT_INSTALLED the local cloud is not installed: ${command}`)
  npm(['install', '--offline', '--ignore-scripts', '--omit=optional', '--save-dev', local.at(-1).tarball], app)
  const half = await complaint()
  assert.match(half, /^NOT_INSTALLED the local cloud is installed without its program; the one for \S+ is an optional dependency\. /)
  assert.ok(half.endsWith(`: ${command}`), half)
  const elsewhere = "Object.defineProperty(process, 'arch', { value: 'riscv64' }); "
  assert.match(await complaint(elsewhere), /^NOT_SERVED there is no local cloud for \w+-riscv64, only for Linux, macOS and Windows on /)
})

test('the kinds of faults are the same in the program, in the types and on the page', async () => {
  const cloud = await startLocalCloud()
  const { message } = await cloud.fault({ kind: 'none' }).catch((error) => error)
  await cloud.stop()
  const kinds = [...message.split('expected one of')[1].matchAll(/`(\w+)`/g)].map(([, kind]) => kind)
  assert.ok(kinds.length > 15)
  const [, types] = /export type FaultKind =\n([^]*?)\n\n/.exec(TYPES)
  const declared = [...types.matchAll(/^ {2}\| (?:'(\w+)'|\{ (\w+): )/gm)].map(([, word, name]) => word ?? name)
  assert.deepEqual([...declared].sort(), [...kinds].sort())
  const rows = PAGE.slice(PAGE.indexOf('| `kind` |')).split('\n\n')[0].split('\n').slice(2)
  const told = rows.flatMap((row) => [...row.split(' | ')[0].matchAll(/`(?:\{ )?(\w+)/g)].map(([, kind]) => kind))
  assert.deepEqual([...told].sort(), [...kinds].sort())
})

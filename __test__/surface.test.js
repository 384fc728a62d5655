'use strict'

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { existsSync, readFileSync, readdirSync } = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')

const { ROOT } = require('../scripts/setup.js')

const read = (file) => readFileSync(path.join(ROOT, file), 'utf8')

test('the package exports what its types say', async () => {
  const commonjs = require('..')
  const declared = [...read('index.d.ts').matchAll(/^export declare (?:function|class) (\w+)/gm)].map(([, name]) => name)
  assert.ok(declared.length > 15)
  assert.deepEqual(Object.keys(commonjs), declared)
  const esm = await import('../index.js')
  assert.equal(esm.provisionVM, commonjs.provisionVM)
  assert.equal(esm.ProvisionError, commonjs.ProvisionError)
})

test('the types compile under strict, and know the error codes', () => {
  const tsc = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  execFileSync(process.execPath, [tsc, '--project', path.join(__dirname, 'types')], { stdio: 'pipe' })
})

test('the codes of the types, of the core and of the pages are the same', () => {
  const types = [...read('index.d.ts').matchAll(/^ {2}\| '([A-Z_]+)'$/gm)].map(([, code]) => code)
  const core = [...read('src/provision/code.rs').matchAll(/^ {4}\w+ "([A-Z_]+)" (?:true|false),$/gm)].map(([, code]) => code)
  const pages = readdirSync(path.join(ROOT, 'docs', 'errors')).map((file) => path.parse(file).name).filter((name) => name !== 'README')
  assert.ok(types.length > 20)
  assert.deepEqual(types, core)
  assert.deepEqual([...types].sort(), pages.sort())
})

test('the generated files are those that the build writes', (t) => {
  if (!existsSync(path.join(ROOT, '.git'))) return t.skip('not a git checkout')
  // The build, which ran before the tests, writes them anew.
  execFileSync('git', ['diff', '--exit-code', '--stat', 'HEAD', '--', 'native.js', 'native.d.ts'], { cwd: ROOT, stdio: 'pipe' })
})

test('what the package lists is there, and the lock file names no address', () => {
  const { files, exports, main, types } = require('../package.json')
  for (const file of [...files, main, types, exports['.'].types, exports['.'].default]) {
    assert.ok(existsSync(path.join(ROOT, file)), file)
  }
  assert.ok(!read('package-lock.json').includes('"resolved"'))
})

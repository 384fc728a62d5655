'use strict'

const assert = require('node:assert/strict')
const { execFileSync, spawnSync } = require('node:child_process')
const { existsSync, readFileSync, readdirSync } = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')

const { ROOT } = require('../scripts/setup.js')

const read = (file) => readFileSync(path.join(ROOT, file), 'utf8')

const ENTRIES = [
  ['provision-vm', 'index.d.ts'],
  ['provision-vm/webhook', 'js/webhook.d.ts'],
  ['provision-vm/boot-report', 'js/boot-report.d.ts'],
  ['provision-vm/local-cloud', 'js/local-cloud.d.ts'],
]
for (const [name, types] of ENTRIES) {
  test(`${name} exports what its types say, to \`require\` and by name to \`import\``, async () => {
    const commonjs = require(name)
    const declared = [...read(types).matchAll(/^export declare (?:function|class) (\w+)/gm)].map(([, name]) => name)
    assert.ok(declared.length > 2)
    assert.deepEqual(new Set(Object.keys(commonjs)), new Set(declared))
    // Newer Node.js has `module.exports` beside `default`.
    const { default: whole, 'module.exports': same, ...named } = await import(name)
    assert.deepEqual(named, { ...commonjs })
    assert.equal(whole, commonjs)
  })
}

// For Node.js from an ES module and from CommonJS, without the types of a browser; and for what a bundler puts together.
for (const [reader, project] of [['Node.js', 'tsconfig.json'], ['a bundler', 'tsconfig.bundler.json']]) {
  test(`the types compile under strict, as ${reader} resolves them`, () => {
    const tsc = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
    const args = [tsc, '--pretty', 'false', '--project', path.join(__dirname, 'types', project)]
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    assert.equal(status, 0, stdout)
  })
}

test('the codes of the types, of the core and of the pages are the same', () => {
  const types = [...read('index.d.ts').matchAll(/^ {2}\| '([A-Z_]+)'$/gm)].map(([, code]) => code)
  const core = [...read('src/provision/code.rs').matchAll(/^ {4}\w+ "([A-Z_]+)" (?:true|false),$/gm)].map(([, code]) => code)
  const pages = readdirSync(path.join(ROOT, 'docs', 'errors')).map((file) => path.parse(file).name).filter((name) => name !== 'README')
  assert.ok(types.length > 20)
  assert.deepEqual(types, core)
  assert.deepEqual([...types].sort(), pages.sort())
})

test('the generated types are those that the build writes', (t) => {
  if (!existsSync(path.join(ROOT, '.git'))) return t.skip('not a git checkout')
  // The build, which ran before the tests, writes them anew.
  execFileSync('git', ['diff', '--exit-code', '--stat', 'HEAD', '--', 'native.d.ts'], { cwd: ROOT, stdio: 'pipe' })
})

test('what the package lists is there, and no lock file names an address', () => {
  const { files, exports, main, types } = require('../package.json')
  for (const file of [...files, main, types, exports['.'].types, exports['.'].default]) {
    assert.ok(existsSync(path.join(ROOT, file)), file)
  }
  for (const lock of ['package-lock.json', '__test__/smoke/package-lock.json']) assert.ok(!read(lock).includes('"resolved"'), lock)
})

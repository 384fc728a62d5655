'use strict'

// Every block of the documentation is executed or type-checked, every link leads somewhere, and every table that repeats what the code
// says is held against the code.
//
// By the language of a block:
//   ts, tsx, js   compiled under strict options against the package's own types. What loads only `provision-vm`, Node.js's own modules
//                 and the local cloud of the tests, and exports nothing, is executed as well, in a local cloud; its comments of the
//                 form `// { ... }` have to be true
//   text          is what the block before it prints, numbers of seconds and milliseconds aside; or stands in `WORDS` with a reason
//   sh            bash understands it, and what it calls is there, with its flags
//   yaml, json    can be read; a workflow keeps the rules of ours
//   mermaid       its arrows between rooms are those that `tests/layers.rs` allows
//   none          stands in `WORDS` with a reason
// Any other language fails.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { existsSync, readFileSync, readdirSync } = require('node:fs')
const { once } = require('node:events')
const path = require('node:path')
const { text } = require('node:stream/consumers')
const { pathToFileURL } = require('node:url')
const { test } = require('node:test')

const yaml = require('yaml')

const native = require('../native.js')
const { ROOT, anchors, blocks, brokenLink, links, names, pages, prose, read, rows, section } = require('./support/docs.js')
const { shellFaults } = require('./support/docs-shell.js')
const { complaints, declarations, runnable } = require('./support/docs-types.js')
const { startCloud } = require('./support/simulator.js')

/** Blocks that are neither code nor what code prints: the page, the line that they begin with, and how they are held true. */
const WORDS = [
  // A drawing of folders: those at the beginning of its lines are looked for.
  { page: 'ARCHITECTURE.md', begins: 'index.js ', check: foldersAreThere },
]

/** What a block has around it when it runs. */
const AROUND = pathToFileURL(path.join(__dirname, 'support', 'docs-around.mjs')).href

const PAGES = pages()
const BLOCKS = PAGES.flatMap((page) => blocks(page))
const TYPED = ['ts', 'tsx', 'js']

/** What is wrong with blocks, apart from what only running them shows. */
function faultsOf(some) {
  const typed = complaints(some.filter(({ language }) => TYPED.includes(language)))
  const others = some.filter(({ language }) => !TYPED.includes(language)).map((block) => [block, faultOf(block, some)])
  return [...typed, ...others.flatMap(([{ page, line }, faults]) => faults.map((fault) => `${page}:${line}: ${fault}`))]
}

function faultOf(block, all) {
  const { page, language, code } = block
  switch (language) {
    case 'sh':
      return shellFaults(code)
    case 'yaml':
      return yamlFaults(code)
    case 'mermaid':
      return drawingFaults(code)
    case 'json':
      return attempt(() => JSON.parse(code))
    case 'text':
      if (printedBy(block, all)) return []
      break
    case '':
      break
    default:
      return [`nobody has said how a block of the language ${language} is checked`]
  }
  const words = WORDS.find((words) => words.page === page && code.startsWith(words.begins))
  return words ? words.check(code) : ['it is no output of the block before it, and is not listed in WORDS']
}

function attempt(read) {
  try {
    read()
    return []
  } catch (error) {
    return [error.message]
  }
}

/** The block that prints what a block of text says: the one before it, if it runs. */
function printedBy(block, all) {
  const before = all[all.indexOf(block) - 1]
  return before?.page === block.page && TYPED.includes(before.language) && runnable(before) ? before : undefined
}

function foldersAreThere(code) {
  const begins = (line) => /^((?:[\w.]+\/?)+(?: {2}(?=\w+\/)|(?= )))+/.exec(line)?.[0].trim().split(/ +/)
  const named = code.split('\n').filter((line) => /^\S/.test(line)).flatMap((line) => begins(line) ?? [line])
  return named.filter((name) => !existsSync(path.join(ROOT, name))).map((name) => `there is no ${name}`)
}

/** Arrows between the rooms of the core: all that there are, and no others. To `secret` there is one from everywhere. */
function drawingFaults(code) {
  const [, table] = /const ROOMS: [^=]*= \[\n([^]*?)\n\];/.exec(read('tests/layers.rs'))
  const rooms = [...table.matchAll(/\("(\w+)", &\[(.*?)\]\)/g)].map(([, room, below]) => [room, below.match(/\w+/g) ?? []])
  const names = rooms.map(([room]) => room)
  const drawn = [...code.matchAll(/^ *(\w+) --> ([\w &]+)$/gm)].flatMap(([, from, to]) => to.split(' & ').map((one) => `${from} --> ${one}`))
  const arrows = drawn.filter((arrow) => arrow.split(' --> ').every((name) => names.includes(name)))
  const allowed = rooms.flatMap(([room, below]) => below.filter((name) => name !== 'secret').map((name) => `${room} --> ${name}`))
  const missing = allowed.filter((arrow) => !arrows.includes(arrow)).map((arrow) => `${arrow} is not drawn`)
  return [...missing, ...arrows.filter((arrow) => !allowed.includes(arrow)).map((arrow) => `${arrow} is not allowed`)]
}

/** YAML, and if it is a workflow, the rules that ours keep (`workflow-file.test.js`). */
function yamlFaults(code) {
  const document = yaml.parseDocument(code, { version: '1.2' })
  const faults = [...document.errors, ...document.warnings].map(({ message }) => message)
  const workflow = document.toJS()
  if (faults.length > 0 || !workflow?.jobs) return faults
  const rule = (holds, fault) => holds || faults.push(fault)
  rule(workflow.on, 'nothing starts the workflow')
  rule(workflow.permissions && Object.keys(workflow.permissions).length === 0, 'it does not begin with permissions: {}')
  for (const [name, job] of Object.entries(workflow.jobs)) {
    rule(job['timeout-minutes'] > 0, `the job ${name} has no time limit`)
    for (const { uses, run, with: given = {} } of job.steps ?? []) {
      rule(!run?.includes('${{'), `the job ${name} has an expression in a script`)
      if (!uses || uses.startsWith('./')) continue
      rule(/@[0-9a-f]{40}$/.test(uses), `${uses} is not pinned by its commit`)
      const [, own] = /^[\w-]+\/provision-vm(\/[\w-]+)?@/.test(uses) ? [true, uses.split('@')[0].split('/').slice(2).join('/')] : []
      if (own === undefined) continue
      const { inputs } = yaml.parse(readFileSync(path.join(ROOT, own, 'action.yml'), 'utf8'))
      for (const input of Object.keys(given)) rule(inputs[input], `${uses} takes no ${input}`)
      for (const [input, { required }] of Object.entries(inputs)) rule(!required || input in given, `${uses} needs ${input}`)
    }
  }
  return faults
}

test('there are blocks, and each is what its language says', () => {
  assert.ok(BLOCKS.length > 20)
  assert.deepEqual(faultsOf(BLOCKS), [])
})

/** What is wrong with the commands that stand between words; from `<` on they are left open. */
function commandFaults(page, text) {
  const spans = [...prose(text).matchAll(/(?<!`)`((?:npm|npx|node|cargo) [^`]+)`(?!`)/g)]
  const found = spans.map(([, command]) => command.replaceAll('\n', ' ').replace(/<.*/, ''))
  return found.flatMap((command) => shellFaults(command).map((fault) => `${page}: ${command}: ${fault}`))
}

test('the commands between the words are there as well', () => {
  assert.deepEqual(PAGES.flatMap((page) => commandFaults(page, read(page))), [])
  assert.match(commandFaults('README.md', 'Call `npm run nothing`.').join(), /no script nothing/)
})

test('a bad block is noticed', () => {
  const workflow = (step) => `on: push\npermissions: {}\njobs:\n  a:\n    timeout-minutes: 5\n    steps:\n      - ${step}`
  const bad = [
    ['ts', "import { provisionVM } from 'provision-vm'\nawait provisionVM({ jobId: 'a', agentId: 'b' })", /^bad-0:3: [^]*region/],
    ['ts', "import { provisionVm } from 'provision-vm'\nconsole.log(provisionVm)", /provisionVm/],
    ['ts', "const { serverIP } = await provisionVM(params)\nconsole.log(serverIP)", /serverIP/],
    ['ts', "try { await provisionVM(params) } catch (error) { console.log(error.code) }", /unknown/],
    ['ts', "import { x } from '@/lib/nowhere'\nx()", /nowhere/],
    ['js', "import { reap } from 'provision-vm'\nawait reap({ dryrun: false })", /:3: .*dryrun/],
    ['js', 'await provisionVM(parms)', /parms/],
    ['js', 'const a = ', /expected/],
    ['sh', "echo 'a", /unexpected EOF|unterminated/],
    ['sh', 'npm run biuld', /no script biuld/],
    ['sh', 'NAME=1 node scripts/nowhere.js', /no scripts\/nowhere\.js/],
    ['sh', 'true | node scripts/pack.js --everything', /what is true[^]*knows no --everything/],
    ['sh', 'node scripts/callback.js success', /no command success/],
    ['sh', 'cargo run -p simulator -- --speed 5', /knows no --speed/],
    ['sh', 'cargo test --test nothing', /no test nothing/],
    ['sh', 'node --test __test__/nothing-*.test.js', /nothing-/],
    ['yaml', 'a: [', /./],
    ['yaml', 'a: 1\na: 2', /unique/],
    ['yaml', workflow('uses: actions/checkout@v5'), /not pinned/],
    ['yaml', workflow('run: echo ${{ inputs.a }}'), /expression in a script/],
    ['yaml', workflow(`uses: o/provision-vm@${'a'.repeat(40)}\n        with: { job: 1 }`), /takes no job/],
    ['json', '{ "a": 1, }', /JSON/],
    ['mermaid', 'flowchart TD\n  transport --> provision', /binding --> provision is not drawn[^]*transport --> provision is not allowed/],
    ['text', 'Anything goes', /WORDS/],
    ['', 'Anything goes', /WORDS/],
    ['python', 'print()', /language python/],
  ]
  // All at once, as pages of one block each: the compiler is slow to start.
  const planted = bad.flatMap(([language, code], at) => blocks(`bad-${at}`, `\`\`\`${language}\n${code}\n\`\`\`\n`))
  const faults = faultsOf(planted)
  for (const [at, [, code, why]] of bad.entries()) {
    assert.match(faults.filter((fault) => fault.startsWith(`bad-${at}:`)).join('\n'), why, code)
  }
  assert.throws(() => blocks('README.md', '```js\n1\n'), /never closed/)
  assert.throws(() => blocks('README.md', '  ```js\n1\n```\n'), /margin/)
  assert.match(foldersAreThere('src/nowhere/   a room').join(), /no src\/nowhere/)
})

// What can run, does.

/** Runs a block in a world of its own, and gives what it printed. */
async function run(block) {
  const cloud = await startCloud()
  try {
    // So that whoever looks for the dead finds one.
    if (/\breap\(/.test(block.code)) await leaveDeadAttempt(cloud)
    // As a file of its own, in the words that it has: what loads by `require` cannot await at its top.
    const isAround = /\bcloud\b/.test(block.code) && !/\bcloud\b[^\n]*=/.test(block.code)
    const kind = /\brequire\('/.test(block.code) ? 'commonjs' : 'module'
    const child = spawn(process.execPath, ['--import', AROUND, `--input-type=${kind}`], {
      cwd: __dirname,
      env: { PATH: process.env.PATH, ...cloud.env(), CLOUD: isAround ? '1' : '' },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: 60_000,
    })
    child.stdin.end(runnable(block))
    const [printed, complained, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
    assert.equal(code, 0, `${block.page}:${block.line}\n${printed}\n${complained}`)
    return printed
  } finally {
    await cloud.stop()
  }
}

async function leaveDeadAttempt(cloud) {
  const { provisionVM } = require('provision-vm')
  await provisionVM({ jobId: 'job-7', agentId: 'a', region: 'us-east' }, { env: cloud.env(), logger: false, wait: false })
  await cloud.configure({ machine: { boot: 'never_joins' } })
  // Its ten minutes, the six until it counts as dead, and five of grace.
  await cloud.advance(1300)
}

/** How long something took is nobody's promise. */
const timeless = (printed) => printed.replace(/ *\b\d+(\.\d+)? (ms|s)\b/g, ' # $2').trimEnd()

// They wait for their machines more than they work.
test('what can run, runs', { concurrency: 4 }, async (t) => {
  const running = BLOCKS.filter((block) => TYPED.includes(block.language) && runnable(block) !== undefined)
  assert.ok(running.length > 10)
  await Promise.all(
    running.map((block) => {
      const said = BLOCKS[BLOCKS.indexOf(block) + 1]
      const isSaid = said?.language === 'text' && printedBy(said, BLOCKS) === block
      return t.test(`${block.page}:${block.line}${isSaid ? ', and prints what stands below it' : ''}`, async () => {
        const printed = await run(block)
        if (isSaid) assert.equal(timeless(printed), timeless(said.code))
      })
    }),
  )
})

test('a block that fails, or says what is not so, is noticed', async () => {
  const block = (code, language = 'js') => ({ page: 'README.md', line: 1, language, code })
  await assert.rejects(run(block("throw new Error('no')")), /no/)
  await assert.rejects(run(block("const a = { b: 1 }\n// { b: 2 }")), /b: 2/)
  await assert.rejects(run(block("const a = { b: 1 } // { b, c, … }")), /no c/)
  await assert.rejects(run(block('const a = [] // [{ b }]', 'ts')), /nothing came/)
  await assert.rejects(run(block('const a = [1, 1] // [1, 2]')), /1, 2/)
  await assert.rejects(run(block('const a = { b: 1, c: 2 } // { b: 1 }')), /there is more/)
  await assert.rejects(run(block('const a = { b: null } // { b }')), /no b/)
  await assert.rejects(run(block("const { reap } = require('provision-vm')\nawait reap()")), /await/)
  const reaps = "import { reap } from 'provision-vm'\nconst report = await reap()\nreport.servers // [{ outcome: 'removed', … }]"
  await assert.rejects(run(block(reaps)), /would_remove/)
  await run(block('const a = { b: 1, c: 2 }\n// { b: 1, … }'))
  assert.equal(timeless('  1.2 s  made in 25 ms\n'), timeless('0.8 s  made in 9 ms'))
  assert.equal(runnable(block("import { a } from '@/lib/a'", 'ts')), undefined)
  assert.equal(runnable(block('export const a = 1', 'ts')), undefined)
})

// Links.

test('every link leads to what is there', () => {
  const all = PAGES.flatMap((page) => links(read(page)).map((link) => ({ page, ...link, why: brokenLink(page, link.target) })))
  assert.ok(all.length > 100)
  assert.deepEqual(all.filter(({ why }) => why), [])
})

test('a broken link is noticed', () => {
  assert.match(brokenLink('README.md', 'docs/nowhere.md'), /no docs\/nowhere/)
  assert.match(brokenLink('docs/scale.md', '../../outside'), /out of the repository/)
  assert.match(brokenLink('docs/scale.md', '../README.md#nowhere'), /no heading #nowhere/)
  assert.match(brokenLink('docs/scale.md', '#nowhere'), /no heading/)
  assert.equal(brokenLink('docs/scale.md', '#one-process'), undefined)
  assert.deepEqual(anchors('# A `b` of *c*, d-e_f!\n## [G](h)\n```sh\n# no\n```\n# G\n'), ['a-b-of-c-d-e_f', 'g', 'g-1'])
  const found = links('[a](b "t") `[c](d)` <img src="e">\n```js\n[f](g)\n```\n[h]: i\n')
  assert.deepEqual(found.map(({ target }) => target), ['b', 'e', 'i'])
})

test('docs/README.md names every page once', () => {
  const named = links(read('docs/README.md')).map(({ target }) => target)
  const there = readdirSync(path.join(ROOT, 'docs')).filter((name) => name.endsWith('.md') && name !== 'README.md')
  assert.deepEqual(named.filter((target) => !target.startsWith('../')).sort(), [...there, 'errors/README.md'].sort())
})

test('every name in capitals is one that the code has', () => {
  const known = new Set(sources().match(/\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b/g))
  const named = (text) => [...prose(text).matchAll(/`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`/g)].map(([, name]) => name)
  const unknown = (page, text) => named(text).filter((name) => !known.has(name)).map((name) => `${page}: ${name}`)
  assert.deepEqual(PAGES.flatMap((page) => unknown(page, read(page))), [])
  const wrong = '`ENROLL_TIMEOUT` and `ENROLL_TIME` with `REAP_REMOVES=true`'
  assert.deepEqual(unknown('README.md', wrong), ['README.md: ENROLL_TIME', 'README.md: REAP_REMOVES'])
})

/** The text of all that is no documentation, and not the test of it. */
function sources() {
  const folders = ['src', 'js', 'scripts', 'simulator/src', 'bench', 'tests', '__test__', 'clean-up', '.github', '.ci']
  const list = (folder) => readdirSync(path.join(ROOT, folder), { recursive: true }).map((name) => path.join(folder, name))
  const isSource = (name) => /\.(rs|js|ts|mts|yml|sh)$|\brun$/.test(name) && !/\bdocs[\w-]*(\.test)?\.js$/.test(name)
  const files = ['index.js', 'index.d.ts', 'native.js', 'action.yml', ...folders.flatMap(list).filter(isSource)]
  return files.map(source).join('\n')
}

// Tables that repeat what the code says.

/** The names in the first cells of the tables under a heading. */
const listed = (page, heading) => rows(section(read(page), heading)).flatMap(([cell]) => names(cell))

const source = (file) => readFileSync(path.join(ROOT, file), 'utf8')

test('docs/settings.md has each setting that the core reads, and the option that wins over it', () => {
  const table = rows(section(read('docs/settings.md'), '## Variables'))
  assert.deepEqual(table.flatMap(([name]) => names(name)).sort(), native.settingNames().sort())
  const options = table.flatMap(([name, option]) => names(option).map((option) => [names(name)[0], option]))
  const pairs = source('src/binding/settings.rs').matchAll(/^ {4}\("(\w+)", "([A-Z_]+)"\),$/gm)
  const core = [...pairs].map(([, option, name]) => [name, option])
  assert.equal(core.length, 10)
  assert.deepEqual(options.filter(([name]) => name !== 'PROVISION_TIMEOUT_SECONDS').sort(), core.sort())
})

for (const [heading, type] of [
  ['### Of every call', 'CallOptions'],
  ['### Of `provisionVM` and `provisionMany`', 'ProvisionOptions'],
  ['### Of `provisionMany` alone', 'ProvisionManyOptions'],
  ['### Of `deprovisionVM`', 'DeprovisionOptions'],
  ['### Of `reap`', 'ReapOptions'],
  ['### Of `waitForAction` and `verifyEnrollment`', 'Polling'],
  ['### Of `createAuthKey`', 'AuthKeyOptions'],
  ['### `publicNet`', 'PublicNet'],
  ['### `userData`', 'UserData'],
  ['### `userData.users`', 'UserAccount'],
  ['### `userData.files`', 'UserFile'],
]) {
  test(`docs/settings.md has each option of ${type}`, () => {
    assert.deepEqual(listed('docs/settings.md', heading).sort(), declarations().own(type).sort())
  })
}

test('docs/errors.md has each field of an error, and each code with what the core says of it', () => {
  const types = declarations()
  const fields = ['message', 'stack', ...types.own('ProvisionError')]
  assert.deepEqual(listed('docs/errors.md', '## What an error has').sort(), fields.sort())
  const lines = source('src/provision/code.rs').matchAll(/^ {4}\w+ "([A-Z_]+)" (true|false),$/gm)
  const core = [...lines].map(([, code, retryable]) => [code, retryable])
  const table = rows(section(read('docs/errors.md'), '## The codes'))
  const expected = core.map(([code, retryable]) => [`[${code}](errors/${code}.md)`, retryable === 'true' ? 'yes' : 'no'])
  assert.deepEqual(table.map(([code, retryable]) => [code, retryable]), expected)
  assert.deepEqual(core.map(([code]) => code), types.texts('ProvisionErrorCode'))
  const [, kinds] = /kind: ((?:'\w+'(?: \| )?)+)/.exec(source('native.d.ts'))
  assert.deepEqual(listed('docs/errors.md', '## What is left behind').sort(), [...kinds.matchAll(/'(\w+)'/g)].map(([, kind]) => kind).sort())
})

test('docs/events.md has each field, each step in its order, and each kind of detail with its fields', () => {
  const types = declarations()
  assert.deepEqual(listed('docs/events.md', '## What an event has').sort(), types.fields('ProgressEvent').sort())
  assert.deepEqual(listed('docs/events.md', '## Steps'), types.texts('Step'))
  const kinds = rows(section(read('docs/events.md'), '## Details')).map(([kind, fields]) => [names(kind)[0], names(fields)])
  assert.deepEqual(kinds, types.variants('EventDetail', 'kind'))
})

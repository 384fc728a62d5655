'use strict'

// Which boot reports are believed, and which refused. What a job makes of them is in `boot-report-job.test.js`.

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')

const { BootReportError, isBootReportError, verifyBootReport } = require('provision-vm/boot-report')
const { ROOT } = require('../scripts/setup.js')
const { CLAIMS, EXP, OTHER_SECRET, posted, reportOf, SECRET, tokenOf } = require('./support/boot-reports.js')
const { loadInEdge } = require('./support/callbacks.js')

/** What each code has to answer: written down anew, since the answer is part of the contract. */
const STATUS = {
  CONFIG: 500,
  MISSING_TOKEN: 401,
  BAD_TOKEN: 401,
  EXPIRED: 401,
  TOO_LARGE: 413,
  BAD_BODY: 400,
  BAD_PAYLOAD: 400,
}

const verify = (request, options) => verifyBootReport(request, { secret: SECRET, now: () => (EXP - 500) * 1000, ...options })

/** `ok`, or the code of the refusal, which has to keep the promises that hold for each. */
async function outcome(request, options) {
  try {
    await verify(request, options)
    return 'ok'
  } catch (error) {
    if (!(error instanceof BootReportError)) throw error
    assert.ok(isBootReportError(error) && error.name === 'BootReportError')
    assert.equal(error.status, STATUS[error.code], `status of ${error.code}`)
    const said = JSON.stringify(error) + error.stack
    for (const secret of [SECRET, OTHER_SECRET.slice(6), tokenOf().slice(-43), CLAIMS.job]) assert.ok(!said.includes(secret), said)
    return error.code
  }
}

test('a good report says whose it is, and holds what is known and nothing else', async () => {
  const expected = {
    id: '00ff00ff00ff00ff-3',
    jobId: 'job-1',
    serverName: 'agent-a-1',
    attempt: '00ff00ff00ff00ff',
    event: 'failed',
    class: 'key-refused',
    at: new Date((EXP - 600) * 1000),
    seq: 3,
  }
  assert.deepEqual(await verify(posted()), expected)
  const more = reportOf({ jobId: 'another', id: 'x', note: '<script>', host: { name: 'a' } })
  assert.deepEqual(await verify(posted(more)), expected, 'unknown fields are kept out')
  assert.deepEqual(await verify(posted()), expected, 'a copy has the same id')
  const { class: none, ...started } = await verify(posted({ event: 'started', at: 0, seq: 1 }))
  assert.deepEqual([none, started.event, started.at.getTime(), started.id], [undefined, 'started', 0, '00ff00ff00ff00ff-1'])
})

// The same token stands in `src/cloud_init/report.rs`, which makes it with other hands.
test('the token that the core makes of a known secret is the one that node:crypto makes', () => {
  const source = readFileSync(path.join(ROOT, 'src', 'cloud_init', 'report.rs'), 'utf8')
  for (const secret of [SECRET, OTHER_SECRET]) {
    const [, payload, signature] = tokenOf(CLAIMS, secret).split('.')
    assert.ok(source.replace(/",\s*"/g, '').includes(`"${payload}"`), payload)
    assert.ok(source.includes(`"${signature}"`), signature)
  }
})

const authorized = (authorization) => ({ ...posted(), headers: { authorization } })
const good = tokenOf()

/** Name, request, expected outcome, options. */
const TABLE = [
  ['no headers', { ...posted(), headers: {} }, 'MISSING_TOKEN'],
  ['an empty header', authorized(' '), 'MISSING_TOKEN'],
  ['the scheme in small letters', authorized(`bearer ${good}`), 'ok'],
  ['another scheme', authorized(`Basic ${good}`), 'BAD_TOKEN'],
  ['no scheme', authorized(good), 'BAD_TOKEN'],
  ['two tokens', { ...posted(), headers: { authorization: [`Bearer ${good}`, `Bearer ${good}`] } }, 'BAD_TOKEN'],
  ['two tokens in one', authorized(`Bearer ${good}, Bearer ${good}`), 'BAD_TOKEN'],
  ['junk behind it', authorized(`Bearer ${good} x`), 'BAD_TOKEN'],
  ['a token of no version', authorized(`Bearer ${good.slice(5)}`), 'BAD_TOKEN'],
  ['the version of tomorrow', authorized(`Bearer ${good.replace('pvb1', 'pvb2')}`), 'BAD_TOKEN'],
  ['padding behind it', authorized(`Bearer ${good}=`), 'BAD_TOKEN'],
  ['no signature', authorized(`Bearer ${good.slice(0, -43)}`), 'BAD_TOKEN'],
  ['another secret', posted(reportOf(), tokenOf(CLAIMS, OTHER_SECRET)), 'BAD_TOKEN'],
  ['a token that says nothing, although signed', posted(reportOf(), tokenOf('null')), 'BAD_TOKEN'],
  ['a token that is no JSON, although signed', posted(reportOf(), tokenOf('{')), 'BAD_TOKEN'],
  ...['job', 'server', 'attempt', 'exp'].flatMap((claim) => [
    [`a token without ${claim}, although signed`, posted(reportOf(), tokenOf({ ...CLAIMS, [claim]: undefined })), 'BAD_TOKEN'],
    [`a token with an empty ${claim}, although signed`, posted(reportOf(), tokenOf({ ...CLAIMS, [claim]: '' })), 'BAD_TOKEN'],
  ]),
  ['the last second of its token', posted(), 'ok', { now: () => EXP * 1000 }],
  ['a moment later', posted(), 'EXPIRED', { now: () => EXP * 1000 + 1 }],
  ['a token that ends at no moment, although signed', posted(reportOf(), tokenOf({ ...CLAIMS, exp: 1.5 })), 'BAD_TOKEN'],
  ['two secrets, the new one first', posted(), 'ok', { secret: [OTHER_SECRET, SECRET] }],
  ['two secrets, and the new one made it', posted(reportOf(), tokenOf(CLAIMS, OTHER_SECRET)), 'ok', { secret: [OTHER_SECRET, SECRET] }],
  ['two secrets, and neither made it', posted(reportOf(), tokenOf(CLAIMS, 'a-third-secret-text')), 'BAD_TOKEN', { secret: [OTHER_SECRET, SECRET] }],
  ['no secret', posted(), 'CONFIG', { secret: undefined }],
  ['an empty secret', posted(), 'CONFIG', { secret: '' }],
  ['a short secret', posted(), 'CONFIG', { secret: 'fifteen-letters' }],
  ['no secrets', posted(), 'CONFIG', { secret: [] }],
  ['a clock that is none', posted(), 'CONFIG', { now: () => NaN }],
  ['a limit that is none', posted(), 'CONFIG', { maxBytes: 0 }],
  ['a parsed body', { ...posted(), body: reportOf() }, 'CONFIG'],
  ['as much as is read', posted(JSON.stringify(reportOf()).padEnd(4096)), 'ok'],
  ['a byte more', posted(JSON.stringify(reportOf()).padEnd(4097)), 'TOO_LARGE'],
  ['a limit of its own', posted(), 'TOO_LARGE', { maxBytes: 20 }],
  ['no body', posted(''), 'BAD_BODY'],
  ['half a body', posted('{"event":'), 'BAD_BODY'],
  ['a field twice', posted('{"event":"started","event":"joined","at":1,"seq":1}'), 'BAD_BODY'],
  ['an unsafe field', posted('{"event":"started","__proto__":{},"at":1,"seq":1}'), 'BAD_BODY'],
  ...['null', '[]', '5', '"started"'].map((body) => [`the body ${body}`, posted(body), 'BAD_PAYLOAD']),
  ...['started', 'clock', 'package', 'joined'].flatMap((event) => [
    [event, posted(reportOf({ event, class: undefined })), 'ok'],
    [`${event} with a class`, posted(reportOf({ event })), 'BAD_PAYLOAD'],
  ]),
  ...['clock', 'download', 'signature', 'package', 'daemon', 'key-refused', 'up-timeout', 'up', 'no-key', 'approval'].map((name) => [
    `failed: ${name}`, posted(reportOf({ class: name })), 'ok',
  ]),
  ...[undefined, 'other', '', 'Clock', 5, null, ['clock'], 'constructor'].map((name) => [
    `failed: ${JSON.stringify(name)}`, posted(reportOf({ class: name })), 'BAD_PAYLOAD',
  ]),
  ...[undefined, 'hello', '', null, 1].map((event) => [`the event ${JSON.stringify(event)}`, posted(reportOf({ event })), 'BAD_PAYLOAD']),
  ...[undefined, '1', -1, 1.5, 1e16, null].map((at) => [`at ${JSON.stringify(at)}`, posted(reportOf({ at })), 'BAD_PAYLOAD']),
  ...[undefined, '1', 0, 1.5, 21, null].map((seq) => [`the number ${JSON.stringify(seq)}`, posted(reportOf({ seq })), 'BAD_PAYLOAD']),
]
for (const [name, request, expected, options] of TABLE) {
  test(`${name}: ${expected}`, async () => assert.equal(await outcome(request, options), expected))
}

test('no byte of a token can be changed', async () => {
  for (let at = 0; at < good.length; at += 1) {
    // The next letter, which at the end differs only in bits that no byte uses; none; and one that is not of the alphabet.
    const next = String.fromCharCode(good.charCodeAt(at) + 1)
    for (const letter of [next, good[at] === 'A' ? 'B' : 'A', '', '.', '%']) {
      if (letter === good[at]) continue
      const token = good.slice(0, at) + letter + good.slice(at + 1)
      assert.equal(await outcome(posted(reportOf(), token)), 'BAD_TOKEN', `${at}: ${letter}`)
    }
  }
})

test('nothing is read of a body whose token is not good, and a stream no further than it may be', async () => {
  let pulled = 0
  const endless = () => new ReadableStream({ pull: (controller) => (pulled += 1, controller.enqueue(new Uint8Array(1024))) })
  const request = (authorization) => new Request('https://app.example', {
    method: 'POST', body: endless(), duplex: 'half', headers: { authorization },
  })
  assert.equal(await outcome(request('Bearer x')), 'BAD_TOKEN')
  const before = pulled
  assert.equal(await outcome(request(`Bearer ${good}`)), 'TOO_LARGE')
  assert.ok(before <= 1 && pulled < 10, `${before}, ${pulled}`)
})

test('each secret is tried, whichever made the token', async () => {
  const { subtle } = crypto
  let hashes = 0
  const sign = (...all) => ((hashes += 1), subtle.sign(...all))
  const edge = loadInEdge({ crypto: { subtle: { importKey: subtle.importKey.bind(subtle), sign } } }, 'boot-report.js')
  const now = () => EXP * 1000
  for (const secret of [[SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET]]) {
    hashes = 0
    assert.equal((await edge.verifyBootReport(posted(), { secret, now })).id, '00ff00ff00ff00ff-3')
    assert.equal(hashes, 2)
  }
})

test('it works where there are Web APIs only, and takes a Fetch request', async () => {
  const edge = loadInEdge({}, 'boot-report.js')
  const options = { secret: SECRET, now: () => EXP * 1000 }
  const { body, headers } = posted()
  const request = () => new Request('https://app.example', { method: 'POST', body, headers })
  assert.equal((await edge.verifyBootReport(request(), options)).jobId, 'job-1')
  assert.equal((await verify(request())).jobId, 'job-1')
  await assert.rejects(edge.verifyBootReport({ body, headers: {} }, options), (error) => {
    // Of another copy of the module.
    return isBootReportError(error) && !(error instanceof BootReportError) && error.code === 'MISSING_TOKEN'
  })
  for (const other of [undefined, null, 'BootReportError', new Error('x'), { name: 'BootReportError' }]) {
    assert.equal(isBootReportError(other), false)
  }
})

test('the examples of docs/boot-reports.md are those that are type-checked, and the receiver does as it says', async () => {
  const { ModuleKind, transpileModule } = require('typescript')
  const doc = readFileSync(path.join(ROOT, 'docs', 'boot-reports.md'), 'utf8')
  const blocks = [...doc.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, source]) => source)
  const files = ['boot-report-route.ts', 'boot-report-use.ts']
  assert.deepEqual(blocks, files.map((file) => readFileSync(path.join(__dirname, 'types', file), 'utf8')))

  const kept = []
  const modules = { '@/lib/boot-reports': { keep: async ({ id }) => void kept.push(id) } }
  const { outputText } = transpileModule(blocks[0], { compilerOptions: { module: ModuleKind.CommonJS, target: 'es2022' } })
  const route = {}
  const app = { env: { BOOT_REPORT_SECRET: SECRET } }
  new Function('require', 'exports', 'process', 'console', outputText)((name) => modules[name] ?? require(name), route, app, { warn() {} })
  const post = async ({ body, headers }) => (await route.POST(new Request('https://app.example', { method: 'POST', body, headers }))).status
  const living = { ...CLAIMS, exp: Math.floor(Date.now() / 1000) + 3600 }
  assert.equal(await post(posted(reportOf(), tokenOf(living))), 204)
  assert.equal(await post(posted(reportOf({ event: 'hello' }), tokenOf(living))), 400)
  assert.equal(await post(posted(reportOf(), tokenOf({ ...living, exp: 1 }))), 401)
  assert.deepEqual(kept, ['00ff00ff00ff00ff-3'])
})

test('the classes of the verifier, of the core, of the types and of the page are the same', () => {
  const read = (file) => readFileSync(path.join(ROOT, file), 'utf8')
  const words = (text, pattern) => [...text.matchAll(pattern)].map(([, word]) => word)
  const core = words(read('src/cloud_init/news.rs'), /^ {8}\(Self::\w+, "([a-z-]+)"\),$/gm)
  assert.equal(core.length, 10)
  const [, types] = /export type BootFailure =\n([^]*?)\n\n/.exec(read('js/boot-report.d.ts'))
  assert.deepEqual(words(types, /'([a-z-]+)'/g), core)
  const [, verifier] = /const CLASSES = new Set\(\[([^]*?)\]\)/.exec(read('js/boot-report.js'))
  assert.deepEqual(words(verifier, /'([a-z-]+)'/g), core)
  assert.deepEqual(words(read('docs/boot-reports.md'), /^\| `failed` \| `([a-z-]+)` \|/gm), core)
})

'use strict'

// Held against others: published vectors, the npm package `standardwebhooks`, an Edge-like context, `node:http`, and the
// examples of docs/webhook.md.

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const { createServer } = require('node:http')
const path = require('node:path')
const { test } = require('node:test')

const { Webhook } = require('standardwebhooks')
const { signCallback, verifyCallback } = require('provision-vm/webhook')
const { ROOT } = require('../scripts/setup.js')
const { HEARTBEAT, hmac, legacy, loadInEdge, message, outcome, SECONDS, SECRET } = require('./support/callbacks.js')

// github.com/standard-webhooks/standard-webhooks, at the commits named. They carry no callback of ours, so a signature
// that fits is seen from the payload being what is refused.
for (const [source, secret, id, seconds, body, signature] of [
  [
    'libraries/javascript/src/webhook.test.ts, libraries/go/webhook_test.go (10d3e46)',
    'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    'msg_p5jXN8AQM9LWM0D4loKWxJek',
    1614265330,
    '{"test": 2432232314}',
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  ],
  [
    'libraries/rust/src/lib.rs (1e88c9c)',
    'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
    'msg_27UH4WbU6Z5A5EzD8u03UvzRbpk',
    1649367553,
    '{"email":"test@example.com","username":"test_user"}',
    'v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=',
  ],
]) {
  test(`Y17 the published vector of ${source}`, async () => {
    const headers = await signCallback({ body, secret, id, timestamp: new Date(seconds * 1000) })
    assert.equal(headers['webhook-signature'], signature)
    const options = { secret, now: () => seconds * 1000 }
    const others = ['v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=', 'v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=']
    for (const [signatures, expected] of [
      [[signature], 'BAD_PAYLOAD'],
      [[...others, signature, others[0]], 'BAD_PAYLOAD'],
      [others, 'BAD_SIGNATURE'],
      [['v1,dawfeoifkpqwoekfpqoekf'], 'BAD_SIGNATURE'],
      [[signature.slice(0, 8)], 'BAD_SIGNATURE'],
      [['v1,'], 'BAD_SIGNATURE'],
    ]) {
      const request = { body, headers: { ...headers, 'webhook-signature': signatures.join(' ') } }
      assert.equal(await outcome(request, options), expected, String(signatures))
    }
  })
}

// RFC 4231: the old header is plain HMAC-SHA256. Keys that are no text, or too short to be a secret, come as base64 or not at all.
for (const [name, key, data, mac] of [
  ['1', Buffer.alloc(20, 0x0b), 'Hi There', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
  ['3', Buffer.alloc(20, 0xaa), Buffer.alloc(50, 0xdd), '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe'],
  ['6', Buffer.alloc(131, 0xaa), 'Test Using Larger Than Block-Size Key - Hash Key First', '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54'],
]) {
  test(`V10 the old header of RFC 4231, test case ${name}`, async () => {
    const secret = `whsec_${key.toString('base64')}`
    assert.equal((await signCallback({ body: data, secret, id: 'a' }))['x-signature'], mac)
    const options = { secret, allowLegacy: true }
    assert.equal(await outcome({ body: data, headers: { 'x-signature': mac } }, options), 'BAD_BODY')
  })
}

/** The same sequence for the same seed (mulberry32). */
function random(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

const ALPHABET = [...'aZ09 "\\/{}[]:,.\n\t\u0000\u007f€é漢🚀\u2028\ufeff']
const randomText = (next, length) => Array.from({ length }, () => ALPHABET[next(ALPHABET.length)]).join('')

test('Y17 what standardwebhooks signs is accepted, and what we sign it accepts', async () => {
  const next = random(17)
  const raw = 'a-plain-secret-of-24-bytes'
  const peers = [
    [SECRET, new Webhook(SECRET, { format: 'raw' })],
    [raw, new Webhook(raw, { format: 'raw' })],
    ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', new Webhook('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')],
  ]
  const counts = { ok: 0, BAD_BODY: 0, BAD_PAYLOAD: 0 }
  for (let round = 0; round < 300; round += 1) {
    const [secret, peer] = peers[next(peers.length)]
    const id = `msg_${next(1e9).toString(36)}`
    // The peer reads the real clock.
    const timestamp = new Date(Date.now() + (next(500) - 250) * 1000)
    const text = round === 0 ? '' : randomText(next, next(60))
    const body = [JSON.stringify({ job_id: 'a', type: 'heartbeat', text }), text, JSON.stringify([text])][round % 3]

    const ours = await signCallback({ body, secret, id, timestamp })
    peer.verify(body, ours, { jsonParse: false })
    peer.verify(Buffer.from(body), ours, { jsonParse: false })
    assert.equal(ours['webhook-signature'], peer.sign(id, timestamp, body))

    const seconds = String(Math.floor(timestamp / 1000))
    const headers = { 'webhook-id': id, 'webhook-timestamp': seconds, 'webhook-signature': peer.sign(id, timestamp, body) }
    const seen = await outcome({ body, headers }, { secret, now: Date.now })
    assert.ok(seen in counts, `${seen}: ${JSON.stringify(body)}`)
    counts[seen] += 1
    const changed = { body: `${body} `, headers }
    assert.equal(await outcome(changed, { secret, now: Date.now }), 'BAD_SIGNATURE')
    assert.throws(() => peer.verify(changed.body, ours))
  }
  assert.ok(counts.ok >= 100 && counts.BAD_BODY > 50 && counts.BAD_PAYLOAD > 50, JSON.stringify(counts))
})

test('Y17 bytes that are no text are signed as they are, as node:crypto does', async () => {
  // `standardwebhooks` makes a text of them first, and so signs something else.
  const next = random(18)
  for (let round = 0; round < 200; round += 1) {
    const body = Uint8Array.from({ length: next(300) }, () => next(256))
    const timestamp = new Date(SECONDS * 1000)
    const headers = await signCallback({ body, secret: SECRET, id: 'msg_1', timestamp })
    const { headers: theirs } = message(body, { id: 'msg_1' })
    assert.deepEqual(headers, { ...theirs, 'x-signature': hmac(SECRET, body).digest('hex') })
    assert.equal(await outcome({ body, headers: theirs }), 'BAD_BODY')
  }
})

test('it works where there are Web APIs only, and loads nothing', async () => {
  const files = ['webhook.js', 'boot-report.js', 'support/bytes.js', 'support/reading.js', 'support/refusal.js']
  const sources = files.map((file) => readFileSync(path.join(ROOT, 'js', file), 'utf8'))
  const source = sources.join('').replace(/\/\/.*|\/\*[^]*?\*\/|require\('\.\/[a-z./-]+'\)/g, '')
  assert.doesNotMatch(source, /\brequire\b|\bimport\b|\bBuffer\b|node:|\bprocess\.|\b__dirname\b|\beval\b|\bFunction\b|setImmediate/)
  const edge = loadInEdge()
  const timestamp = new Date(SECONDS * 1000)
  const headers = await edge.signCallback({ body: HEARTBEAT, secret: SECRET, id: 'msg_1', timestamp })
  const { 'x-signature': hex, ...standard } = headers
  assert.deepEqual(standard, message(HEARTBEAT, { id: 'msg_1' }).headers)
  assert.equal(hex, legacy().headers['X-Signature'])
  const options = { secret: [`whsec_${btoa('x'.repeat(24))}`, SECRET], now: () => SECONDS * 1000 }
  for (const body of [HEARTBEAT, Buffer.from(HEARTBEAT), Uint8Array.from(Buffer.from(HEARTBEAT)).buffer]) {
    assert.equal((await edge.verifyCallback({ body, headers }, options)).payload.job_id, 'job-42')
  }
  const request = new Request('https://app.example', { method: 'POST', body: HEARTBEAT, headers })
  assert.equal((await edge.verifyCallback(request, options)).id, 'msg_1')
  await assert.rejects(edge.verifyCallback({ body: HEARTBEAT, headers: {} }, options), { code: 'MISSING_HEADERS' })
})

test('it is one module for require and import, and does not load the native one', async () => {
  const imported = await import('provision-vm/webhook')
  assert.equal(imported.verifyCallback, verifyCallback)
  assert.deepEqual(Object.keys(require('provision-vm/webhook')), ['verifyCallback', 'signCallback', 'CallbackError', 'isCallbackError'])
  for (const name of Object.keys(require('provision-vm/webhook'))) assert.ok(name in imported, name)
  assert.ok(!Object.keys(require.cache).some((file) => /native\.js$|\.node$/.test(file)))
})

test('it takes what node:http gives', async () => {
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    const answer = async (headers) => (await verifyCallback({ body, headers }, { secret: SECRET })).payload.job_id
    response.end(JSON.stringify([await answer(request.headers), await answer(request.headersDistinct)]))
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const body = JSON.stringify({ job_id: 'jöb', type: 'heartbeat' })
    const { 'webhook-signature': signature, ...headers } = await signCallback({ body, secret: SECRET, id: 'msg_1' })
    // Two headers of one name, as a sender that has two secrets may send them.
    const list = [...Object.entries(headers), ['webhook-signature', 'v1,x'], ['webhook-signature', signature]]
    const answer = await fetch(`http://127.0.0.1:${server.address().port}`, { method: 'POST', body, headers: list })
    assert.deepEqual(await answer.json(), ['jöb', 'jöb'])
  } finally {
    server.close()
    server.closeAllConnections()
  }
})

/** The fenced blocks of docs/webhook.md, as functions of what they import and use. */
function readExamples() {
  const { ModuleKind, transpileModule } = require('typescript')
  const blocks = [...readFileSync(path.join(ROOT, 'docs', 'webhook.md'), 'utf8').matchAll(/^```(?:ts|js)\n([^]*?)^```$/gm)]
  return blocks.map(([, source]) => ({
    source,
    run(modules, names = {}) {
      const { outputText } = transpileModule(source, { compilerOptions: { module: ModuleKind.CommonJS, target: 'es2022' } })
      const load = (name) => modules[name] ?? require(name)
      const exports = {}
      const code = outputText.includes('exports.') ? outputText : `return (async () => {${outputText}; return answer })()`
      const result = new Function('require', 'exports', 'process', 'console', ...Object.keys(names), code)(
        load, exports, { env: { GH_CALLBACK_SECRET: SECRET } }, { warn: () => {} }, ...Object.values(names),
      )
      return result ?? exports
    },
  }))
}

/** A database that knows one table and can take back. */
function fakeDatabase() {
  const rows = new Set()
  const begin = async (work) => {
    const before = new Set(rows)
    try {
      await work(async (text, id) => {
        assert.match(text.join('?'), /^insert into callbacks \(id\) values \(\?\) on conflict do nothing returning id$/)
        return rows.has(id) ? [] : (rows.add(id), [{ id }])
      })
    } catch (error) {
      rows.clear()
      for (const row of before) rows.add(row)
      throw error
    }
  }
  return { sql: { begin } }
}

test('V03 the examples of docs/webhook.md compile as they stand there, run, and give a copy no effect', async () => {
  const [route, once, sender, ...rest] = readExamples()
  assert.equal(rest.length, 0)
  for (const [example, file] of [[route, 'webhook-route.ts'], [once, 'webhook-once.ts']]) {
    // The files are type-checked.
    assert.equal(example.source, readFileSync(path.join(__dirname, 'types', file), 'utf8'))
  }

  const calls = []
  const note = (name) => async (...all) => void calls.push([name, ...all])
  const names = ['start', 'keepAlive', 'finish', 'fail']
  const jobs = { ...Object.fromEntries(names.map((name) => [name, note(name)])), ...once.run({ '@/lib/db': fakeDatabase() }) }
  const { POST } = route.run({ '@/lib/jobs': jobs })
  const send = async (payload, id, changes) => {
    const body = JSON.stringify({ job_id: 'job-42', ...payload })
    const headers = await signCallback({ body, secret: SECRET, id, ...changes })
    return POST(new Request('https://app.example', { method: 'POST', body, headers }))
  }

  const running = { status: 'running', server_id: '42', server_ip: '203.0.113.2', tailscale_ip: '100.64.0.1' }
  assert.equal((await send({ status: 'provisioning', workflow_run_id: '7' }, 'msg_a')).status, 200)
  assert.equal((await send(running, 'msg_b')).status, 200)
  assert.deepEqual(await (await send(running, 'msg_b')).json(), { received: true })
  assert.equal((await send({ status: 'failed', error: 'e', failed_step: 's' }, 'msg_c')).status, 200)
  const answer = await sender.run({}, { secret: SECRET, POST })
  assert.equal(answer.status, 200)
  assert.deepEqual(calls, [
    ['start', 'job-42', '7'],
    ['finish', 'job-42', '42', '203.0.113.2', '100.64.0.1'],
    ['fail', 'job-42', 'e', 's'],
    ['keepAlive', 'job-42'],
  ])

  const late = await send(running, 'msg_d', { timestamp: new Date(Date.now() - 400_000) })
  assert.equal(late.status, 401)
  const { error, serverTime } = await late.json()
  assert.equal(error, 'TOO_OLD')
  assert.ok(Math.abs(Date.parse(serverTime) - Date.now()) < 5000)
  assert.deepEqual(await (await send(running, 'msg_e', { secret: 'another-plain-secret' })).json(), { error: 'BAD_SIGNATURE' })
  assert.equal((await send({ status: 'ready' }, 'msg_f')).status, 400)

  // An effect that fails leaves the way free for the next try.
  jobs.keepAlive = async () => Promise.reject(new Error('database is gone'))
  await assert.rejects(send({ type: 'heartbeat' }, 'msg_g'), /database is gone/)
  jobs.keepAlive = note('keepAlive')
  await send({ type: 'heartbeat' }, 'msg_g')
  assert.equal(calls.length, 5)
})

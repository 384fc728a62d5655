'use strict'

// The forms in which a callback is handed over, what it may say, and how the app is told of its own mistakes.

const assert = require('node:assert/strict')
const { test } = require('node:test')

const { CallbackError, isCallbackError, signCallback, verifyCallback } = require('provision-vm/webhook')
const { HEARTBEAT, ID, loadInEdge, message, outcome, SECONDS, SECRET, sign, verify } = require('./support/callbacks.js')

const good = message()
const pairs = Object.entries(good.headers)
/** One test for each line: name, request, expected outcome, options. */
function table(lines) {
  for (const [name, request, expected, options] of lines) {
    test(name, async () => assert.equal(await outcome(request, options), expected))
  }
}
const withForm = (headers) => ({ body: HEARTBEAT, headers })

table([
  ['headers: an object in capitals', withForm(Object.fromEntries(pairs.map(([name, value]) => [name.toUpperCase(), value]))), 'ok'],
  ['headers: a Headers', withForm(new Headers(good.headers)), 'ok'],
  ['headers: a Headers with one name twice', withForm(new Headers([...pairs, ['webhook-signature', 'v1,x']])), 'ok'],
  ['headers: an object of lists', withForm(Object.fromEntries(pairs.map(([name, value]) => [name, [value]]))), 'ok'],
  ['headers: an object without a prototype', withForm(Object.assign(Object.create(null), good.headers)), 'ok'],
  ['headers: pairs', withForm(pairs), 'ok'],
  ['headers: a Map', withForm(new Map(pairs)), 'ok'],
  ['headers: a generator', withForm((function* () { yield* pairs })()), 'ok'],
  ['headers: only a get()', withForm({ get: (name) => good.headers[name] ?? null }), 'ok'],
  ['headers: names that every object has', withForm([['__proto__', 'a'], ['constructor', 'b'], ['toString', 'c'], ...pairs]), 'ok'],
  ['headers: others in any form', withForm({ ...good.headers, cookie: ['a', 'b'], host: undefined, age: 1 }), 'ok'],
  ['headers: the flat list of node:http', withForm(pairs.flat()), 'CONFIG'],
  ['headers: a text', withForm('webhook-id: a'), 'CONFIG'],
  ['headers: a number as a value', withForm({ ...good.headers, 'webhook-timestamp': SECONDS }), 'CONFIG'],
  ['headers: null', withForm(null), 'CONFIG'],
  ['headers: none', { body: HEARTBEAT }, 'CONFIG'],
  ['no request', undefined, 'CONFIG'],
])

/** A Fetch `Request` whose body comes in these chunks. */
function stream(chunks, headers = good.headers) {
  const body = new ReadableStream({
    start(controller) {
      for (const chunk of chunks) {
        if (chunk instanceof Error) return controller.error(chunk)
        controller.enqueue(chunk)
      }
      controller.close()
    },
  })
  return new Request('https://app.example/api', { method: 'POST', body, headers, duplex: 'half' })
}

const euro = message('{"job_id":"€ 漢字 🚀","type":"heartbeat"}')
const euroBytes = Buffer.from(euro.body)
const inside = Buffer.concat([Buffer.from('{"'), euroBytes, Buffer.from('"}')]).subarray(2, -2)
const empty = message('')
table([
  ['body: a text beyond ASCII', euro, 'ok'],
  ['body: a Buffer', { ...euro, body: euroBytes }, 'ok'],
  ['body: a part of a larger buffer', { ...euro, body: inside }, 'ok'],
  ['body: a Uint8Array', { ...euro, body: Uint8Array.from(euroBytes) }, 'ok'],
  ['body: an ArrayBuffer', { ...euro, body: Uint8Array.from(euroBytes).buffer }, 'ok'],
  ['body: a Request with a text', new Request('https://app.example', { method: 'POST', ...euro }), 'ok'],
  ['body: a Request of single bytes', stream(Array.from(euroBytes, (byte) => Uint8Array.of(byte)), euro.headers), 'ok'],
  ['body: a Request that breaks off', stream([Buffer.from('{'), new Error('reset')]), 'BAD_BODY'],
  ['body: a Request of texts', stream([HEARTBEAT]), 'BAD_BODY'],
  ['body: a Request without a body', new Request('https://app.example', { headers: empty.headers }), 'BAD_BODY'],
  ['body: a Request without its body', new Request('https://app.example', { headers: good.headers }), 'BAD_SIGNATURE'],
  ['body: empty', empty, 'BAD_BODY'],
  ['body: null', { ...good, body: null }, 'CONFIG'],
  ['body: a stream alone', { ...good, body: stream([]).body }, 'CONFIG'],
  ['body: a list of numbers', { ...good, body: [...euroBytes] }, 'CONFIG'],
])

test('what is read is what was proven, even if the bytes change meanwhile', async () => {
  const bytes = Uint8Array.from(Buffer.from(HEARTBEAT))
  for (const body of [bytes, bytes.buffer]) {
    bytes.set(Buffer.from(HEARTBEAT))
    const verifying = verify({ ...good, body })
    bytes.fill(32)
    assert.equal((await verifying).payload.job_id, 'job-42')
  }
})

test('a body that breaks off keeps its cause, and no other refusal has one', async () => {
  const cause = new Error('reset')
  const error = await verify(stream([cause]))
  assert.deepEqual([error.code, error.message, error.cause], ['BAD_BODY', 'the raw body broke off', cause])
  assert.ok(!('cause' in (await verify(message('{')))))
})

const says = (payload) => message(JSON.stringify({ job_id: 'job-42', ...payload }))
const addresses = { server_id: '42', server_ip: '203.0.113.2', tailscale_ip: '100.64.0.1' }
const failure = { error: 'no capacity', failed_step: 'provision' }

// The bodies of the workflow that the app has today.
for (const [type, fields] of [
  ['provisioning', { status: 'provisioning', workflow_run_id: '123' }],
  ['provisioning', { status: 'provisioning', step: 'vm_created', used_snapshot: 'false' }],
  ['heartbeat', { type: 'heartbeat' }],
  ['running', { status: 'running', ...addresses, used_snapshot: '' }],
  ['failed', { status: 'failed', ...failure, step: 'provision', server_id: '', server_ip: '', tailscale_ip: '', used_snapshot: '' }],
]) {
  test(`payload: ${JSON.stringify(fields)}`, async () => {
    assert.deepEqual((await verify(says(fields))).payload, { job_id: 'job-42', ...fields, type })
  })
}

table([
  ['payload: type and status that agree', says({ type: 'running', status: 'running', ...addresses }), 'ok'],
  ['payload: type alone', says({ type: 'failed', ...failure }), 'ok'],
  ['payload: unknown fields of any kind', says({ type: 'heartbeat', seq: 7, leftovers: [{ kind: 'server' }], deadline: null }), 'ok'],
  ['payload: numbers beyond all limits', message(`{"job_id":"a","type":"heartbeat","n":1e999,"m":${'9'.repeat(9999)}}`), 'ok'],
  ['payload: a field that looks like another one\'s', says({ type: 'heartbeat', server_id: 42 }), 'ok'],
])

/** What is signed and yet no callback, with the field that the refusal names. */
for (const [name, payload, field] of [
  ['no event', { status: undefined }, 'status'],
  ['an unknown status', { status: 'ready' }, 'status'],
  ['an unknown type', { type: 'ready' }, 'type'],
  ['the name of a method', { status: 'constructor' }, 'status'],
  ['a status that is no text', { status: ['running'] }, 'status'],
  ['type and status that differ', { type: 'heartbeat', status: 'failed', ...failure }, 'type'],
  ['type null beside a status', { type: null, status: 'running', ...addresses }, 'type'],
  ['no job', { job_id: undefined, type: 'heartbeat' }, 'job_id'],
  ['an empty job', { job_id: '', type: 'heartbeat' }, 'job_id'],
  ['a job that is a number', { job_id: 1e21, type: 'heartbeat' }, 'job_id'],
  ['an empty run', { status: 'provisioning', workflow_run_id: '' }, 'workflow_run_id'],
  ['a run that is a number', { status: 'provisioning', workflow_run_id: 123 }, 'workflow_run_id'],
  ...Object.keys(addresses).flatMap((field) => [
    [`running without ${field}`, { status: 'running', ...addresses, [field]: undefined }, field],
    [`running with an empty ${field}`, { status: 'running', ...addresses, [field]: ' ' }, field],
  ]),
  ['an address that is a number', { status: 'running', ...addresses, server_id: 42 }, 'server_id'],
  ...Object.keys(failure).map((field) => [`failed without ${field}`, { status: 'failed', ...failure, [field]: '' }, field]),
]) {
  test(`payload: ${name} is BAD_PAYLOAD and names ${field}`, async () => {
    const error = await verify(says(payload))
    assert.deepEqual([error.code, error.field, error.message.split(':')[0]], ['BAD_PAYLOAD', field, field])
  })
}

const beat = (inner) => message(`{"job_id":"a","type":"heartbeat",${inner}}`)
const nested = (depth, [open, close] = '[]') => open.repeat(depth) + close.repeat(depth)
table([
  ['V09 null', message('null'), 'BAD_PAYLOAD'],
  ['V09 an array', message(`[${HEARTBEAT}]`), 'BAD_PAYLOAD'],
  ['V09 a text', message('"heartbeat"'), 'BAD_PAYLOAD'],
  ['V09 a number', message('1'), 'BAD_PAYLOAD'],
  ['V09 no JSON', message('job_id=job-42&type=heartbeat'), 'BAD_BODY'],
  ['V09 two values', message(HEARTBEAT + HEARTBEAT), 'BAD_BODY'],
  ['V09 a comment', message(`${HEARTBEAT}//`), 'BAD_BODY'],
  ['V09 a field twice', beat('"job_id":"b"'), 'BAD_BODY'],
  ['V09 a field twice, spelled differently', beat('"job\\u005fid":"b"'), 'BAD_BODY'],
  ['V09 a field twice, further in', beat('"a":[{"b":1,"b" : 2}]'), 'BAD_BODY'],
  ['V09 a field with quotes in its name twice', beat('"\\"\\\\":1,"\\"\\\\":2'), 'BAD_BODY'],
  ['V09 one name in two objects', beat('"a":{"b":1},"c":[{"b":2},{"b":3}],"d":"b"'), 'ok'],
  ['V09 many objects and lists side by side', beat(`"a":[${Array(99).fill('{"b":[]}')}],"b":{}`), 'ok'],
  ['V09 a field twice, after an object has ended', beat('"a":{"b":{}},"a":1'), 'BAD_BODY'],
  ['V09 a text that looks like a field', beat('"a":"\\"a\\":1,{[","b":["a","b:","c"]'), 'ok'],
  ['V09 __proto__', beat('"__proto__":{"isAdmin":true}'), 'BAD_BODY'],
  ['V09 __proto__ in other letters', beat('"\\u005f_proto__":{}'), 'BAD_BODY'],
  ['V09 __proto__ further in', beat('"a":[{"__proto__":1}]'), 'BAD_BODY'],
  ['V09 constructor', beat('"constructor":{"prototype":{}}'), 'BAD_BODY'],
  ['V09 prototype', beat('"prototype":1'), 'BAD_BODY'],
  ['V09 as deep as allowed', beat(`"a":${nested(31)}`), 'ok'],
  ['V09 one deeper', beat(`"a":${nested(32)}`), 'BAD_BODY'],
  ['V09 10 000 arrays', beat(`"a":${nested(10_000)}`), 'BAD_BODY'],
  ['V09 10 000 objects', beat(`"a":${'{"a":'.repeat(9000)}1${'}'.repeat(9000)}`), 'BAD_BODY', { maxBytes: 100_000 }],
  ['V09 10 000 000 brackets, where the app allows it', message('['.repeat(1e7)), 'BAD_BODY', { maxBytes: 1e8 }],
])

const sixteen = 'x'.repeat(16)
const base64 = (size) => Buffer.alloc(size, 7).toString('base64')
const signedWith = (key) => message(HEARTBEAT, { key })
table([
  ['secret: 16 bytes', signedWith(sixteen), 'ok', { secret: sixteen }],
  ['secret: 8 characters of 2 bytes', signedWith('é'.repeat(8)), 'ok', { secret: 'é'.repeat(8) }],
  ['secret: 500 bytes', signedWith('x'.repeat(500)), 'ok', { secret: 'x'.repeat(500) }],
  ['secret: spaces belong to it', signedWith(` ${sixteen} `), 'ok', { secret: ` ${sixteen} ` }],
  ['secret: base64 after whsec_', signedWith(Buffer.alloc(32, 7)), 'ok', { secret: `whsec_${base64(32)}` }],
  ['secret: base64 without padding', signedWith(Buffer.alloc(32, 7)), 'ok', { secret: `whsec_${base64(32).slice(0, -1)}` }],
  ['options: null is as good as nothing', good, 'ok', { toleranceSeconds: null, maxBytes: null, allowLegacy: null }],
  ['secret: base64 without whsec_ is a text', signedWith(base64(32)), 'ok', { secret: base64(32) }],
])

/** The app's own mistakes: status 500, whatever the sender did. */
for (const [field, options] of [
  ['options.secret', undefined],
  ...[undefined, null, '', 'x'.repeat(15), `whsec_${base64(15)}`, 'whsec_', 'whsec_a b', `whsec_${base64(32)}\n`, 'whsec_-_-_', 'whsec_A', 7, {}, [], Buffer.from(SECRET)]
    .map((secret) => ['options.secret', { secret }]),
  ['options.secret[1]', { secret: [SECRET, ''] }],
  ['options.secret[1]', { secret: [SECRET, undefined] }],
  ['options.secret[0]', { secret: [[SECRET]] }],
  ...[NaN, Infinity, -1, '300'].map((toleranceSeconds) => ['options.toleranceSeconds', { secret: SECRET, toleranceSeconds }]),
  ...[0, -1, 1.5, NaN, Infinity, '1'].map((maxBytes) => ['options.maxBytes', { secret: SECRET, maxBytes }]),
  ...[SECONDS, () => NaN, () => new Date(), () => '1'].map((now) => ['options.now', { secret: SECRET, now }]),
  ...['false', 1].map((allowLegacy) => ['options.allowLegacy', { secret: SECRET, allowLegacy }]),
]) {
  test(`${field} is at fault: ${Object.values(options ?? {}).map(String)}`, async () => {
    const error = await verifyCallback({ body: '', headers: {} }, options).catch((error) => error)
    assert.deepEqual([error.code, error.status, error.field], ['CONFIG', 500, field])
    assert.ok(!error.message.includes(SECRET) && !error.message.includes(base64(15)), error.message)
  })
}

test('the window is 300 s of the real clock by default', async () => {
  const seconds = Math.floor(Date.now() / 1000)
  const { timestamp } = await verifyCallback(message(HEARTBEAT, { seconds: seconds - 290 }), { secret: SECRET })
  assert.equal(timestamp.getTime(), (seconds - 290) * 1000)
  await assert.rejects(verifyCallback(message(HEARTBEAT, { seconds: seconds - 310 }), { secret: SECRET }), { code: 'TOO_OLD' })
})

test('an error is an Error, shows all of itself as JSON, and is known across copies of the module', async () => {
  const error = await verify(message(HEARTBEAT, { seconds: SECONDS - 301 }))
  assert.ok(error instanceof Error && error instanceof CallbackError)
  assert.match(error.stack, /^CallbackError: webhook-timestamp is 301 s behind/)
  const { name, message: text, code, status } = error
  const data = { name, message: text, code, status, serverTime: new Date(SECONDS * 1000).toISOString() }
  assert.deepEqual(JSON.parse(JSON.stringify(error)), data)
  assert.equal(name, 'CallbackError')

  const foreign = await loadInEdge().verifyCallback(good, { secret: '' }).catch((error) => error)
  assert.ok(!(foreign instanceof CallbackError) && isCallbackError(foreign))
  for (const other of [undefined, null, 'CallbackError', new Error('x'), { name: 'CallbackError', code: 'CONFIG' }]) {
    assert.equal(isCallbackError(other), false)
  }
})

test('signCallback signs with each secret, and the old header with the first', async () => {
  const secret = [SECRET, `whsec_${base64(32)}`]
  const timestamp = new Date(SECONDS * 1000 + 999)
  const headers = await signCallback({ body: HEARTBEAT, secret, id: ID, timestamp })
  const all = [sign(HEARTBEAT), sign(HEARTBEAT, { key: Buffer.alloc(32, 7) })].join(' ')
  assert.deepEqual({ ...headers, 'x-signature': undefined }, { ...good.headers, 'webhook-signature': all, 'x-signature': undefined })
  for (const one of secret) assert.equal(await outcome({ body: HEARTBEAT, headers }, { secret: one }), 'ok')
  const { 'x-signature': hex } = headers
  assert.equal(await outcome({ body: HEARTBEAT, headers: { 'x-signature': hex } }, { allowLegacy: true }), 'ok')
})

test('signCallback refuses what verifyCallback would, and dates by the clock', async () => {
  for (const [field, changes] of [
    ['secret', { secret: 'short' }],
    ...['', 'a.b', 'a b', 'a,b', 7, undefined].map((id) => ['id', { id }]),
    ...[SECONDS, '2023', null, new Date(NaN), new Date(-1)].map((timestamp) => ['timestamp', { timestamp }]),
    ...[undefined, null, {}].map((body) => ['body', { body }]),
  ]) {
    await assert.rejects(signCallback({ body: '', secret: SECRET, id: ID, ...changes }), { code: 'CONFIG', field }, JSON.stringify(changes))
  }
  const headers = await signCallback({ body: HEARTBEAT, secret: SECRET, id: ID })
  assert.equal((await verifyCallback({ body: HEARTBEAT, headers }, { secret: SECRET })).id, ID)
})

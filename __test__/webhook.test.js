'use strict'

// What is proven, and what is refused. The ids are those of the fault table; V07 and V08 are for the app to check.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { gzipSync } = require('node:zlib')

const { countingCrypto, HEARTBEAT, hmac, ID, legacy, loadInEdge, message, OTHER_SECRET, outcome } = require('./support/callbacks.js')
const { SECONDS, SECRET, sign, verify, withHeaders } = require('./support/callbacks.js')

const good = message()
const signature = good.headers['webhook-signature']
const wrong = sign('another body')
/** One test for each line: name, request, expected outcome, options. */
function table(lines) {
  for (const [name, request, expected, options] of lines) {
    test(name, async () => assert.equal(await outcome(await request, options), expected))
  }
}
const change = (changes) => withHeaders(good, changes)
const signedAs = (value) => change({ 'webhook-signature': value })

test('a good message gives its id, its time and its content', async () => {
  const { id, timestamp, legacy, payload } = await verify(good)
  assert.deepEqual({ id, timestamp, legacy }, { id: ID, timestamp: new Date(SECONDS * 1000), legacy: false })
  assert.deepEqual(payload, { job_id: 'job-42', type: 'heartbeat' })
})

table([
  ['V01 a wrong key', message(HEARTBEAT, { key: 'another-plain-secret' }), 'BAD_SIGNATURE'],
  ['V01 no headers', { body: HEARTBEAT, headers: {} }, 'MISSING_HEADERS'],
  ...Object.keys(good.headers).flatMap((name) => [
    [`V01 no ${name}`, change({ [name]: undefined }), 'MISSING_HEADERS'],
    [`V01 an empty ${name}`, change({ [name]: '' }), 'MISSING_HEADERS'],
  ]),
  ['V01 nothing after the version', signedAs('v1,'), 'BAD_SIGNATURE'],
  ['V01 no version', signedAs(signature.slice(3)), 'BAD_SIGNATURE'],
  ['V01 a signature cut short', signedAs(signature.slice(0, 20)), 'BAD_SIGNATURE'],
  ['V01 no padding', signedAs(signature.slice(0, -1)), 'BAD_SIGNATURE'],
  ['V01 trailing junk', signedAs(`${signature}A`), 'BAD_SIGNATURE'],
  ['V01 trailing control character', signedAs(`${signature}\n`), 'BAD_SIGNATURE'],
  ['V01 other letters for the same bytes', signedAs(signature.replace(/.=$/, (end) => respell(end[0]) + '=')), 'BAD_SIGNATURE'],
  ['V01 no base64', signedAs(`v1,${'!'.repeat(43)}=`), 'BAD_SIGNATURE'],
  ['V01 hex instead of base64', signedAs(`v1,${Buffer.from(signature.slice(3), 'base64').toString('hex')}`), 'BAD_SIGNATURE'],
  ['V01 an asymmetric signature alone', signedAs(signature.replace('v1', 'v1a')), 'BAD_SIGNATURE'],
  ['V01 the version of tomorrow alone', signedAs(signature.replace('v1', 'v2')), 'BAD_SIGNATURE'],
  ['V01 another id', change({ 'webhook-id': 'msg_another' }), 'BAD_SIGNATURE'],
  ['V01 another time', change({ 'webhook-timestamp': String(SECONDS + 1) }), 'BAD_SIGNATURE'],
  ['V01 another body', { ...good, body: HEARTBEAT.replace('42', '43') }, 'BAD_SIGNATURE'],
  ...['a b', 'a.b', 'a,b', 'ä', 'a\n', 'x'.repeat(257)].map((id) => [
    `V01 the id ${JSON.stringify(id.slice(0, 9))}, although signed`, message(HEARTBEAT, { id }), 'BAD_ID',
  ]),
  ...['x', '!"#$%&\'()*+-/:;<=>?@[\\]^_`{|}~', 'x'.repeat(256)].map((id) => [
    `the id ${id.slice(0, 40)}`, message(HEARTBEAT, { id }), 'ok',
  ]),
])

/** The next letter differs only in bits that the last byte does not use. */
function respell(letter) {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  return letters[letters.indexOf(letter) + 1]
}

table([
  ...[[-301, 'TOO_OLD'], [-300, 'ok'], [-299, 'ok'], [0, 'ok'], [299, 'ok'], [300, 'ok'], [301, 'TOO_NEW']].map(([age, expected]) => [
    `V02 a message ${Math.abs(age)} s ${age < 0 ? 'old' : 'ahead'}`, message(HEARTBEAT, { seconds: SECONDS + age }), expected,
  ]),
  ['V02 300.999 s old: whole seconds count', message(HEARTBEAT, { seconds: SECONDS - 300 }), 'ok', { now: () => SECONDS * 1000 + 999 }],
  ['V02 a narrower window', message(HEARTBEAT, { seconds: SECONDS - 11 }), 'TOO_OLD', { toleranceSeconds: 10 }],
  ['V02 no window', good, 'ok', { toleranceSeconds: 0 }],
  ['V02 no window, one second old', message(HEARTBEAT, { seconds: SECONDS - 1 }), 'TOO_OLD', { toleranceSeconds: 0 }],
  ['V02 no window, one second ahead', message(HEARTBEAT, { seconds: SECONDS + 1 }), 'TOO_NEW', { toleranceSeconds: 0 }],
  ['V02 the first second of all', message(HEARTBEAT, { seconds: 0 }), 'ok', { now: () => 0 }],
  ...['hello', `+${SECONDS}`, ` ${SECONDS}`, `0${SECONDS}`, `${SECONDS}.0`, `${SECONDS}x`, '1.7e9', '0x6553f100', '-1', 'NaN', 'Infinity',
    '１７００００００００', `${SECONDS}000000`].map((seconds) => [
    `V02 the time ${seconds}, although signed`, message(HEARTBEAT, { seconds }), 'BAD_TIMESTAMP',
  ]),
  ['V02 milliseconds instead of seconds', message(HEARTBEAT, { seconds: SECONDS * 1000 - 1 }), 'BAD_TIMESTAMP'],
])

test('V02 too old or too new comes with this server\'s time', async () => {
  for (const [seconds, text] of [[SECONDS - 301, /is 301 s behind/], [SECONDS + 301, /is 301 s ahead of/]]) {
    const { serverTime, message: said } = await verify(message(HEARTBEAT, { seconds }))
    assert.match(said, text)
    assert.equal(JSON.stringify({ serverTime }), '{"serverTime":"2023-11-14T22:13:20.000Z"}')
  }
})

test('V03 a copy within the window passes with the same id, so that the app can know it', async () => {
  const ids = [(await verify(good)).id, (await verify(good)).id]
  assert.deepEqual(ids, [ID, ID])
})

const BOM = Buffer.from([0xef, 0xbb, 0xbf])
const zipped = gzipSync(HEARTBEAT)
table([
  ['V04 a body that was parsed and written anew', { ...message('{ "job_id": "job-42", "type": "heartbeat" }'), body: HEARTBEAT }, 'BAD_SIGNATURE'],
  ['V04 a byte order mark, although signed', message(Buffer.concat([BOM, Buffer.from(HEARTBEAT)])), 'BAD_BODY'],
  ['V04 a byte order mark that was lost', { ...message(Buffer.concat([BOM, Buffer.from(HEARTBEAT)])), body: HEARTBEAT }, 'BAD_SIGNATURE'],
  ['V04 UTF-16, although signed', message(Buffer.from(HEARTBEAT, 'utf16le')), 'BAD_BODY'],
  ['V04 Latin-1, although signed', message(Buffer.from(HEARTBEAT.replace('job-42', 'jöb'), 'latin1')), 'BAD_BODY'],
  ['V04 gzip, although signed', message(zipped), 'BAD_BODY'],
  ['V04 gzip that was unpacked on its way', { ...message(zipped), body: HEARTBEAT }, 'BAD_SIGNATURE'],
  ['V04 a parsed body', { ...good, body: JSON.parse(HEARTBEAT) }, 'CONFIG'],
  ['V04 no body at all', { headers: good.headers }, 'CONFIG'],
])

test('V04 whoever has lost the raw body is told of it', async () => {
  const read = toRequest(good)
  await read.text()
  const locked = toRequest(good)
  locked.body.getReader()
  for (const request of [{ ...good, body: {} }, { ...good, body: HEARTBEAT + ' ' }, { ...message(zipped) }, read, locked]) {
    assert.match((await verify(request)).message, /raw body/)
  }
})

test('V05 a body over the limit is refused before anything is hashed, and not read to its end', async () => {
  const { crypto, ...counted } = countingCrypto()
  const edge = loadInEdge({ crypto })
  let pulled = 0
  let cancelled = false
  const endless = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(1000).fill((pulled += 1))),
    cancel: () => (cancelled = true),
  })
  for (const body of ['x'.repeat(65_537), endless]) {
    const request = typeof body === 'string' ? { ...good, body } : toRequest({ ...good, body })
    await assert.rejects(edge.verifyCallback(request, { secret: SECRET, now: () => SECONDS * 1000 }), { code: 'TOO_LARGE', status: 413 })
  }
  assert.equal(counted.hashes, 0)
  assert.ok(cancelled && pulled < 70, `${pulled} chunks`)
})

const sized = (size) => message(HEARTBEAT.padEnd(size))
table([
  ['V05 exactly 64 KiB', sized(65_536), 'ok'],
  ['V05 one byte more', sized(65_537), 'TOO_LARGE'],
  ['V05 exactly 64 KiB, as it comes', toRequest(sized(65_536)), 'ok'],
  ['V05 one byte more, as it comes', toRequest(sized(65_537)), 'TOO_LARGE'],
  ['V05 bytes count, not characters', message(JSON.stringify({ job_id: 'é'.repeat(40_000), type: 'heartbeat' })), 'TOO_LARGE'],
  ['V05 a limit of one\'s own', sized(101), 'TOO_LARGE', { maxBytes: 100 }],
  ['V05 a limit beyond the default', sized(1_000_000), 'ok', { maxBytes: 1_000_000 }],
])

const many = (count) => Array(count).fill(wrong)
table([
  ['V06 old and new signature', signedAs(`${wrong} ${signature}`), 'ok'],
  ['V06 other versions between', signedAs(`v1a,abc= ${wrong} v2,${'x'.repeat(44)} ${signature} v9,`), 'ok'],
  ['V06 several spaces', signedAs(`  ${wrong}   ${signature} `), 'ok'],
  ['V06 two headers, joined', signedAs(`${wrong}, ${signature}`), 'ok'],
  ['V06 two headers, joined without a space', signedAs(`${signature},${wrong}`), 'ok'],
  ['V06 two headers, in a list', signedAs([wrong, signature]), 'ok'],
  ['V06 two that are wrong', signedAs([wrong, wrong]), 'BAD_SIGNATURE'],
  ['V06 the eighth signature', signedAs([...many(7), signature].join(' ')), 'ok'],
  ['V06 the ninth signature', signedAs([...many(8), signature].join(' ')), 'BAD_SIGNATURE'],
  ['V06 other versions do not count', signedAs([...Array(99).fill('v2,x'), ...many(7), signature].join(' ')), 'ok'],
  ['V06 the id twice', change({ 'webhook-id': [ID, ID] }), 'BAD_ID'],
  ['V06 two ids, joined', change({ 'webhook-id': `${ID}, ${ID}` }), 'BAD_ID'],
  ['V06 the time twice', change({ 'webhook-timestamp': [`${SECONDS}`, `${SECONDS}`] }), 'BAD_TIMESTAMP'],
  ['V06 the name in two cases', change({ 'Webhook-Id': ID }), 'BAD_ID'],
  ['V06 signed with the new secret', good, 'ok', { secret: [SECRET, OTHER_SECRET] }],
  ['V06 signed with the old secret', good, 'ok', { secret: [OTHER_SECRET, SECRET] }],
  ['V06 signed with one that is gone', good, 'BAD_SIGNATURE', { secret: [OTHER_SECRET, 'another-plain-secret'] }],
])

test('V01 every secret is used, wherever the right one stands and whatever was sent', async () => {
  const counted = countingCrypto()
  const edge = loadInEdge({ crypto: counted.crypto })
  const others = [OTHER_SECRET, 'another-plain-secret']
  for (const secret of [[SECRET, ...others], [...others, SECRET], [...others, 'a-third-plain-secret']]) {
    for (const request of [good, signedAs('v1,'), signedAs(`${wrong} ${signature}`)]) {
      counted.hashes = 0
      await edge.verifyCallback(request, { secret, now: () => SECONDS * 1000 }).catch(() => {})
      assert.equal(counted.hashes, 3)
    }
  }
})

test('V01 no bit of signature, id, time or body can be changed', async () => {
  const flips = (text) => Array.from({ length: text.length * 8 }, (_, bit) => flip(text, bit))
  const changed = [
    ...Object.entries(good.headers).flatMap(([name, text]) => flips(text).map((value) => change({ [name]: value }))),
    ...flips(HEARTBEAT).map((body) => ({ ...good, body: Buffer.from(body, 'latin1') })),
  ]
  assert.ok(changed.length > 900)
  for (const request of changed) assert.equal((await verify(request)).status, 401, JSON.stringify(request))
})

function flip(text, bit) {
  const bytes = Buffer.from(text, 'latin1')
  bytes[bit >> 3] ^= 1 << (bit & 7)
  return bytes.toString('latin1')
}

const old = legacy()
const hex = old.headers['X-Signature']
const oldAs = (value) => withHeaders(old, { 'X-Signature': value })
const allowLegacy = true
table([
  ['V10 the old header alone', old, 'MISSING_HEADERS'],
  ['V10 the old header alone, allowed', old, 'ok', { allowLegacy }],
  ['V10 the old header under an old secret', old, 'ok', { allowLegacy, secret: [OTHER_SECRET, SECRET] }],
  ['V10 capital digits, as the app takes them today', oldAs(hex.toUpperCase()), 'ok', { allowLegacy }],
  ['V10 a wrong key', legacy(HEARTBEAT, 'another-plain-secret'), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 a prefix, which the app does not take today', oldAs(`sha256=${hex}`), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 trailing junk', oldAs(`${hex}zz`), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 a signature cut short', oldAs(hex.slice(0, 62)), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 no hex', oldAs('z'.repeat(64)), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 base64 instead of hex', oldAs(Buffer.from(hex, 'hex').toString('base64')), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 an empty header', oldAs(''), 'MISSING_HEADERS', { allowLegacy }],
  ['V10 the header twice', oldAs([hex, hex]), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 another body', { ...old, body: HEARTBEAT + ' ' }, 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 both, both good', change({ ...old.headers }), 'ok', { allowLegacy }],
  ['V10 the old one wrong beside the new ones', change({ 'x-signature': 'junk' }), 'ok', { allowLegacy }],
  ['V10 the old one cannot save a wrong new one', withHeaders(signedAs(wrong), old.headers), 'BAD_SIGNATURE', { allowLegacy }],
  ['V10 nor one that is too old', withHeaders(message(HEARTBEAT, { seconds: 1 }), old.headers), 'TOO_OLD', { allowLegacy }],
  ...Object.keys(good.headers).flatMap((name) => [
    [`V10 nor a missing ${name}`, change({ ...old.headers, [name]: undefined }), 'MISSING_HEADERS', { allowLegacy }],
    [`V10 nor an empty ${name} alone`, withHeaders(old, { [name]: '' }), 'MISSING_HEADERS', { allowLegacy }],
  ]),
])

test('V10 no bit of the old header can be changed, but for the case of its letters', async () => {
  for (let bit = 0; bit < hex.length * 8; bit += 1) {
    const changed = flip(hex, bit)
    const expected = changed.toLowerCase() === hex ? 'ok' : 'BAD_SIGNATURE'
    assert.equal(await outcome(oldAs(changed), { allowLegacy }), expected, changed)
  }
})

test('V10 an old message says that it is one, and the process warns once', async () => {
  const { id, timestamp, legacy: isLegacy } = await verify(old, { allowLegacy })
  assert.deepEqual([id, timestamp, isLegacy], [undefined, undefined, true])
  const warnings = []
  const edge = loadInEdge({ console: { warn: (line) => warnings.push(line) } })
  const node = loadInEdge({ process: { emitWarning: (...all) => warnings.push(all) } })
  for (const { verifyCallback } of [edge, edge, node, node, loadInEdge()]) await verifyCallback(old, { secret: SECRET, allowLegacy })
  await assert.rejects(loadInEdge({ console }).verifyCallback(oldAs('0'), { secret: SECRET, allowLegacy }))
  assert.equal(warnings.length, 2)
  assert.match(warnings[0], /recorded copy/)
  assert.deepEqual(warnings[1], [warnings[0], 'ProvisionVMWarning'])
})

function toRequest({ body, headers }) {
  return new Request('https://app.example/api', { method: 'POST', body, headers, duplex: 'half' })
}

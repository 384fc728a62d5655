'use strict'

// What is tried again, and what is not: one delivery in process, against a receiver on loopback (fault sheet 2.8, Y13, Y14).

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const https = require('node:https')
const net = require('node:net')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, afterEach, before, test } = require('node:test')
const { setTimeout: pause } = require('node:timers/promises')

const { deliver, PLANS, PORTS } = require('../scripts/support/delivery.js')
const { readTarget } = require('../scripts/support/target.js')
const { startReceiver } = require('./support/receiver.js')
const { SECRET } = require('./support/sender.js')

let receiver
before(async () => (receiver = await startReceiver({ secret: SECRET })))
afterEach(() => receiver.reset())
after(() => receiver.stop())

const BEAT = { id: 'beat-1', body: '{"job_id":"job-42","type":"heartbeat"}' }

/** A delivery in a world whose pauses take no time, but are counted. */
async function send(plan, { ports, url = receiver.url, message = BEAT, signal = new AbortController().signal } = {}) {
  const pauses = []
  let elapsed = 0
  const world = {
    ...PORTS,
    now: () => Date.now() + elapsed,
    elapsed: () => elapsed,
    sleep: async (ms) => {
      pauses.push(ms)
      elapsed += ms
    },
    random: () => 1,
    ...ports,
  }
  const target = readTarget({ CALLBACK_URL: url })
  const outcome = await deliver(message, { target, secret: SECRET, plan, signal }, world)
  return { ...outcome, pauses, elapsed }
}

/** For what is not answered: long enough for a busy machine, short enough to wait for. */
const SHORT = { ...PLANS.provisioning, tries: 2, tryMs: 600 }

test('W03 a redirect is a failure, and is not followed', async () => {
  for (const status of [300, 301, 302, 303, 304, 307, 308]) {
    receiver.reset()
    receiver.answer({ redirect: `${receiver.origin}/elsewhere`, status })
    const { kind, reason, tries } = await send(PLANS.running)
    assert.deepEqual([kind, tries, receiver.requests.length, receiver.events.length], ['refused', 1, 1, 0], String(status))
    assert.match(reason, new RegExp(`^the answer was ${status}: a redirect is not followed`))
  }
})

test('W04 an endless answer is read no further than its start', async () => {
  for (const [status, kind] of [[200, 'accepted'], [299, 'accepted'], [404, 'refused']]) {
    receiver.reset()
    receiver.answer({ endless: true, status })
    const began = performance.now()
    assert.equal((await send(PLANS.running)).kind, kind)
    assert.ok(performance.now() - began < 2_000)
    // What was written beyond it lies in the buffers of the sockets, and grows no more.
    const { sent } = receiver.requests[0]
    assert.ok(sent < 32 * 2 ** 20, String(sent))
    await pause(50)
    assert.equal(receiver.requests[0].sent, sent)
  }
})

test('W04 an answer of which only the head comes counts by its status', async () => {
  for (const [status, kind] of [[200, 'accepted'], [422, 'refused']]) {
    receiver.answer({ stall: true, status })
    assert.equal((await send({ ...SHORT, tries: 1 })).kind, kind)
  }
})

/** What may pass, each as the app or the way to it shows it. */
const PASSING = [
  ...[408, 425, 429, 500, 501, 502, 503, 504, 520, 530, 599].map((status) => [
    `a ${status}`, { status }, new RegExp(`^the answer was ${status}$`), PLANS.provisioning,
  ]),
  ['a connection that is closed', { drop: 'before' }, /^the connection broke off$/, PLANS.provisioning],
  ['silence', { hang: true }, /^no answer within 0\.6 s$/, SHORT],
]

test('W05 what may pass is tried again for progress, and passes', async (t) => {
  for (const [name, answer, expected, plan] of PASSING) {
    await t.test(name, async () => {
      receiver.reset()
      receiver.answer({ ...answer, times: plan.tries - 1 })
      const passed = await send(plan)
      assert.deepEqual([passed.kind, passed.tries, receiver.events.length], ['accepted', plan.tries, 1], passed.reason)
      receiver.reset()
      receiver.answer({ ...answer, times: Infinity })
      const { kind, reason } = await send(plan)
      assert.deepEqual([kind, receiver.requests.length, receiver.events.length], ['passing', plan.tries, 0])
      assert.match(reason, expected)
    })
  }
})

test('W05 a heartbeat is tried once', async () => {
  for (const [, answer, , { tryMs }] of PASSING) {
    receiver.reset()
    receiver.answer({ ...answer, times: Infinity })
    const { kind } = await send({ ...PLANS.heartbeat, tryMs })
    assert.deepEqual([kind, receiver.requests.length], ['passing', 1])
  }
})

test('W05 each kind of event has its plan', () => {
  assert.deepEqual(PLANS.heartbeat, { tries: 1, tryMs: 5_000, budgetMs: 5_000 })
  assert.deepEqual([PLANS.provisioning.tries, PLANS.provisioning.tryMs], [3, 10_000])
  for (const event of ['running', 'failed']) assert.deepEqual(PLANS[event], { tries: Infinity, tryMs: 10_000, budgetMs: 120_000 })
})

test('W05 the last news is tried until the budget is used up, with pauses that grow and are left to chance', async () => {
  receiver.answer({ status: 503, times: Infinity })
  const full = await send(PLANS.running, { ports: { random: () => 1 } })
  assert.equal(full.kind, 'passing')
  assert.deepEqual(full.pauses.slice(0, 7), [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000])
  assert.equal(full.elapsed, 119_000, 'the last try has a second')
  assert.equal(full.tries, full.pauses.length + 1)
  const half = await send(PLANS.running, { ports: { random: () => 0 } })
  assert.deepEqual(half.pauses.slice(0, 7), [250, 500, 1_000, 2_000, 4_000, 7_500, 7_500])
  assert.equal(half.elapsed, 119_000)
})

test('W05 no try outlasts the budget', async () => {
  receiver.answer({ hang: true, times: Infinity })
  const began = performance.now()
  const { kind, tries } = await send({ tries: Infinity, tryMs: 10_000, budgetMs: 200 })
  assert.deepEqual([kind, tries], ['passing', 1])
  assert.ok(performance.now() - began < 1_500)
})

test('W05 Retry-After is heeded within the budget', async () => {
  const date = (ms) => new Date(Date.UTC(2026, 0, 1) + ms).toUTCString()
  for (const [headers, expected, status = 429] of [
    [{ 'retry-after': '7' }, 7_000],
    [{ 'retry-after': '7' }, 7_000, 503],
    [{ 'retry-after': '118' }, 118_000],
    [{ 'retry-after': date(9_000), date: date(0) }, 9_000],
    // Its own pause, as without the header.
    [{}, 500],
    [{ 'retry-after': '120' }, 500],
    [{ 'retry-after': '1000000000000' }, 500],
    [{ 'retry-after': '0' }, 500],
    [{ 'retry-after': '-5' }, 500],
    [{ 'retry-after': 'soon' }, 500],
    [{ 'retry-after': date(-9_000), date: date(0) }, 500],
    [{ 'retry-after': date(1e9), date: date(0) }, 500],
  ]) {
    receiver.reset()
    receiver.answer({ status, headers })
    const { kind, pauses } = await send(PLANS.running)
    assert.deepEqual([kind, ...pauses], ['accepted', expected], JSON.stringify(headers))
  }
})

test('W05 each try is signed anew, under the same id', async () => {
  receiver.answer({ status: 503, times: 4 })
  await send(PLANS.running)
  assert.equal(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size, 1)
  const times = receiver.requests.map(({ headers }) => Number(headers['webhook-timestamp']))
  // The pauses before: 0.5, 1, 2 and 4 s.
  assert.ok(times[4] - times[0] >= 7 && times[4] - times[3] >= 3, times.join())
  for (const { checks } of receiver.requests) assert.equal(checks.standard, 'ok')
})

test('W05 a refused connection, and a name that cannot be looked up, may pass', async () => {
  const server = await listen(() => {})
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  const refused = await send(PLANS.provisioning, { url: `http://127.0.0.1:${port}` })
  assert.deepEqual([refused.kind, refused.tries, refused.reason], ['passing', 3, 'the connection was refused'])
  for (const [code, reason] of [['ENOTFOUND', 'the name has no address'], ['EAI_AGAIN', 'the name could not be looked up']]) {
    const lookup = async () => { throw Object.assign(new Error(), { code }) }
    const lost = await send(PLANS.provisioning, { url: 'https://app.example', ports: { lookup } })
    assert.deepEqual([lost.kind, lost.tries, lost.reason], ['passing', 3, reason])
  }
  const silent = { lookup: () => new Promise(() => {}) }
  const slow = await send({ ...SHORT, tryMs: 100 }, { url: 'https://app.example', ports: silent })
  assert.deepEqual([slow.kind, slow.tries], ['passing', 2])
})

const listen = async (take) => {
  const server = net.createServer(take)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return server
}

test('localhost is reached by whichever family listens', async () => {
  assert.equal((await send(PLANS.provisioning, { url: receiver.url.replace('127.0.0.1', 'localhost') })).kind, 'accepted')
})

test('W06 a refusal is not tried again, and says what to look at', async () => {
  for (const [status, words] of [
    [400, 'does not understand'], [401, 'GH_CALLBACK_SECRET'], [403, 'does not let'], [404, 'CALLBACK_URL'], [405, ''], [101, ''],
    [409, 'another state'], [410, 'any more'], [413, 'too large'], [415, ''], [422, 'does not understand'], [451, ''], [600, ''],
  ]) {
    receiver.reset()
    receiver.answer({ status, times: Infinity })
    const { kind, reason, tries } = await send(PLANS.running)
    assert.deepEqual([kind, tries, receiver.requests.length, receiver.events.length], ['refused', 1, 1, 0], String(status))
    assert.ok(reason.startsWith(`the answer was ${status}`) && reason.includes(words), reason)
  }
})

test('W06 a wrong clock is told from a wrong secret, if the app tells its time', async () => {
  const there = (ms) => ({ error: 'TOO_OLD', serverTime: new Date(Date.now() + ms).toISOString() })
  for (const [body, expected] of [
    [there(3_600_000), /this clock is (3599|3600) s behind that$/],
    [there(-7_200_000), /this clock is 720[01] s ahead of that$/],
    [{ error: 'BAD_SIGNATURE' }, /is this clock right\?$/],
    ['{"serverTime":', /is this clock right\?$/],
    [{ serverTime: '::error::x\n' }, /is this clock right\?$/],
    [null, /is this clock right\?$/],
    ['x'.repeat(100_000), /is this clock right\?$/],
  ]) {
    receiver.answer({ status: 401, body })
    assert.match((await send(PLANS.running)).reason, expected)
  }
})

test('W05 what is no HTTP may pass', async (t) => {
  const server = await listen((socket) => socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.6\r\n'))
  t.after(() => server.close())
  const { kind, tries, reason } = await send(PLANS.provisioning, { url: `http://127.0.0.1:${server.address().port}` })
  assert.deepEqual([kind, tries], ['passing', 3])
  assert.match(reason, /^the connection failed: "HPE_/)
})

test('a signal ends it, in a try or in a pause', async () => {
  for (const [answer, expected] of [
    [{ hang: true }, 'there was no answer yet'],
    [{ status: 503, headers: { 'retry-after': '60' } }, 'the answer was 503'],
  ]) {
    receiver.reset()
    receiver.answer(answer)
    const controller = new AbortController()
    const began = performance.now()
    const outcome = send(PLANS.running, { signal: controller.signal, ports: { sleep: PORTS.sleep } })
    while (receiver.requests.length === 0) await pause(5)
    await pause(50)
    controller.abort()
    const { kind, reason } = await outcome
    assert.deepEqual([kind, reason], ['stopped', expected])
    assert.ok(performance.now() - began < 1_500)
    assert.equal(receiver.requests.length, 1)
  }
  for (const plan of [PLANS.running, PLANS.heartbeat]) {
    const { kind } = await send(plan, { signal: AbortSignal.abort() })
    assert.deepEqual([kind, receiver.requests.length], ['stopped', 1])
  }
})

/** Certificates for app.example, one of them out of date, and the authority that signed them, by openssl. */
function makeCertificates(folder) {
  const file = (name) => path.join(folder, name)
  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' })
  const name = (text) => ['-subj', `/CN=${text}`, '-newkey', 'rsa:2048', '-nodes']
  const authority = [...name('test authority'), '-addext', 'basicConstraints=critical,CA:TRUE']
  openssl('req', '-x509', ...authority, '-keyout', file('ca.key'), '-out', file('ca.pem'))
  openssl('req', ...name('app.example'), '-keyout', file('key.pem'), '-out', file('csr.pem'))
  writeFileSync(file('ext'), 'subjectAltName=DNS:app.example\nbasicConstraints=CA:FALSE\n')
  const sign = (days) => {
    const by = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-extfile', file('ext')]
    return openssl('x509', '-req', '-in', file('csr.pem'), ...by, '-days', days)
  }
  const key = readFileSync(file('key.pem'))
  return { ca: readFileSync(file('ca.pem')), good: { key, cert: sign('2') }, expired: { key, cert: sign('-1') } }
}

const OLD_TLS = { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }

test('Y13 TLS goes to the vetted address and asks for the name; a certificate that does not fit is final', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-tls-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const { ca, good, expired } = makeCertificates(folder)
  const was = process.env.NODE_TLS_REJECT_UNAUTHORIZED
  t.after(() => {
    if (was === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = was
  })
  for (const [url, tls, authority, expected, reason] of [
    ['https://app.example/a', good, ca, 'accepted'],
    ['https://other.example/a', good, ca, 'refused', /ERR_TLS_CERT_ALTNAME_INVALID/],
    ['https://app.example/a', good, undefined, 'refused', /UNABLE_TO_|SELF_SIGNED/],
    ['https://app.example/a', expired, ca, 'refused', /CERT_HAS_EXPIRED/],
    ['https://app.example/a', { ...good, ...OLD_TLS }, ca, 'passing'],
  ]) {
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
    const app = await startReceiver({ secret: SECRET, tls })
    const names = []
    app.server.on('secureConnection', (socket) => names.push(socket.servername))
    const vetted = []
    const ports = {
      lookup: async () => [{ address: '8.8.8.8', family: 4 }],
      // All is as it is outside, except that 8.8.8.8 is this machine.
      request: (url, options) => https.request(url, {
        ...options,
        ca: authority,
        port: app.port,
        lookup: (name, asked, done) => options.lookup(name, asked, (_error, all) => {
          vetted.push(...all.map(({ address }) => address))
          done(null, [{ address: '127.0.0.1', family: 4 }])
        }),
      }),
    }
    const outcome = await send({ ...PLANS.provisioning, tries: 2 }, { url, ports })
    await app.stop()
    assert.equal(outcome.kind, expected, outcome.reason)
    if (reason) assert.match(outcome.reason, reason)
    assert.deepEqual(vetted, Array(expected === 'passing' ? 2 : 1).fill('8.8.8.8'))
    assert.equal(app.requests.length, expected === 'accepted' ? 1 : 0)
    if (expected === 'accepted') assert.deepEqual(names, ['app.example'])
  }
})

test('Y13 a handshake that is cut may pass', async (t) => {
  let connections = 0
  const server = await listen((socket) => {
    connections += 1
    socket.on('error', () => {}).destroy()
  })
  t.after(() => server.close())
  const { kind, tries } = await send(PLANS.provisioning, { url: `https://127.0.0.1:${server.address().port}` })
  assert.deepEqual([kind, tries, connections], ['passing', 3, 3])
})

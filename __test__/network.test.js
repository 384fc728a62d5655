'use strict'

// The real transport: TLS with an authority of one's own, bodies without end, redirects, silence.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { mkdtempSync, rmSync } = require('node:fs')
const http = require('node:http')
const https = require('node:https')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, beforeEach, test } = require('node:test')

const { provisionVM } = require('..')
const { leftIn, newJob, startCloud } = require('./support/simulator.js')
const { certificates, passOn, startProxy, whyNoCertificates } = require('./support/tls.js')

let cloud
const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-'))
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(async () => {
  rmSync(folder, { recursive: true })
  await cloud.stop()
})

const failure = (call) => call.then(() => assert.fail('the call succeeded'), (error) => error)

/** A front of the local cloud that speaks TLS. */
async function startFront(t, { newKey, ...options } = {}) {
  // Each has an authority of its own: files are read once.
  const { ca, key, cert } = certificates(mkdtempSync(path.join(folder, 'front-')), newKey)
  const front = https.createServer({ ...options, key, cert }, async (request, response) => (await passOn(cloud, request, response))())
  await once(front.listen(0, '127.0.0.1'), 'listening')
  t.after(() => {
    front.close()
    front.closeAllConnections()
  })
  return { ca, tls: { key, cert }, port: front.address().port }
}

const AWAY = { HETZNER_API_URL: 'https://hetzner.invalid/v1', TAILSCALE_API_URL: 'https://tailscale.invalid/api/v2' }

test('https: an unknown authority is refused, one that NODE_EXTRA_CA_CERTS names is accepted', async (t) => {
  if (whyNoCertificates()) return t.skip(whyNoCertificates())
  const { ca, port } = await startFront(t)
  const base = `https://localhost:${port}`
  const env = cloud.env({ HETZNER_API_URL: `${base}/v1`, TAILSCALE_API_URL: `${base}/api/v2` })

  const refused = await failure(provisionVM(newJob(), { env, logger: false }))
  assert.deepEqual([refused.code, refused.retryable], ['TLS', false])
  assert.equal(await cloud.requests(), 0)

  for (const name of ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE']) {
    const result = await provisionVM(newJob(), { env: { ...env, [name]: ca }, logger: false })
    assert.deepEqual(result.warnings, [])
  }
  const missing = { ...cloud.env(), NODE_EXTRA_CA_CERTS: path.join(folder, 'none.pem') }
  const { warnings } = await provisionVM(newJob(), { env: missing, logger: false })
  assert.match(warnings[0], /^no certificates could be read from /)
})

test('a proxy of the environment carries everything but loopback, sees no token, and NO_PROXY is heeded', async (t) => {
  const seen = []
  let target
  const address = await startProxy(t, () => target, seen)

  const direct = cloud.env({ HTTP_PROXY: address, HTTPS_PROXY: address, ALL_PROXY: address })
  await provisionVM(newJob(), { env: direct, logger: false })
  assert.deepEqual(seen, [], 'loopback is never proxied')

  const past = await failure(provisionVM(newJob(), { env: { ...direct, ...AWAY, NO_PROXY: 'hetzner.invalid' }, logger: false, timeoutMs: 2000 }))
  assert.ok(['UNREACHABLE', 'DEADLINE'].includes(past.code), past.message)
  assert.deepEqual(seen, [])

  if (whyNoCertificates()) return t.skip(whyNoCertificates())
  const front = await startFront(t)
  target = front.port
  await provisionVM(newJob(), { env: { ...direct, ...AWAY, NODE_EXTRA_CA_CERTS: front.ca }, logger: false })
  assert.deepEqual([...new Set(seen)].sort(), ['CONNECT hetzner.invalid:443 undefined', 'CONNECT tailscale.invalid:443 undefined'])
})

for (const [name, newKey, options] of [
  ['TLS 1.2 with a key of RSA', ['rsa:2048'], { maxVersion: 'TLSv1.2' }],
  ['TLS 1.2 with one of P-256', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' }],
  ['TLS 1.3 with one of P-384', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], { minVersion: 'TLSv1.3' }],
  ['TLS 1.3 by a server that would rather speak of others', ['rsa:3072'], { minVersion: 'TLSv1.3', ecdhCurve: 'X25519:P-384', ciphers: 'TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256' }],
]) {
  test(`${name} is spoken`, async (t) => {
    if (whyNoCertificates()) return t.skip(whyNoCertificates())
    const { ca, port } = await startFront(t, { newKey, ...options })
    const base = `https://localhost:${port}`
    const env = cloud.env({ HETZNER_API_URL: `${base}/v1`, TAILSCALE_API_URL: `${base}/api/v2`, NODE_EXTRA_CA_CERTS: ca })
    await provisionVM(newJob(), { env, logger: false })
  })
}

test('a server that has no curve of ours is told apart from one that is not there', async (t) => {
  if (whyNoCertificates()) return t.skip(whyNoCertificates())
  const { ca, port } = await startFront(t, { minVersion: 'TLSv1.3', ecdhCurve: 'X25519' })
  const env = cloud.env({ HETZNER_API_URL: `https://localhost:${port}/v1`, NODE_EXTRA_CA_CERTS: ca })
  const refused = await failure(provisionVM(newJob(), { env, logger: false }))
  assert.deepEqual([refused.code, refused.retryable], ['TLS', false])
  assert.match(refused.message, /speaks no TLS that is spoken here/)
})

test('a proxy may ask for TLS and a password, and what it refuses is said to be its refusal', async (t) => {
  if (whyNoCertificates()) return t.skip(whyNoCertificates())
  const { ca, tls, port } = await startFront(t)
  const seen = []
  const password = 'p@ss:w/rd'
  const proxy = await startProxy(t, () => port, seen, { tls, password })
  const through = (address) => ({ env: cloud.env({ ...AWAY, HTTPS_PROXY: address, NODE_EXTRA_CA_CERTS: ca }), logger: false })
  await provisionVM(newJob(), through(proxy))
  assert.deepEqual([...new Set(seen)].sort(), ['CONNECT hetzner.invalid:443 undefined', 'CONNECT tailscale.invalid:443 undefined'])

  const place = new URL(proxy).host
  for (const [address, why] of [
    [`https://user:wrong@${place}`, new RegExp(`^no connection to hetzner\\.invalid \\(by the proxy ${place}\\): .*proxy authorization required$`)],
    [`http://user:${encodeURIComponent(password)}@127.0.0.1:9`, /^hetzner\.invalid \(by the proxy 127\.0\.0\.1:9\) refused the connection$/],
  ]) {
    const refused = await failure(provisionVM(newJob(), through(address)))
    assert.deepEqual([refused.code, refused.step], ['UNREACHABLE', 'lookup'])
    assert.match(refused.cause.message, why)
    assert.doesNotMatch(`${refused.stack} ${refused.hint} ${refused.cause.stack}`, /wrong|p@ss|p%40ss/)
  }
  const unreadable = await failure(provisionVM(newJob(), through('socks5://127.0.0.1:9')))
  assert.deepEqual([unreadable.code, unreadable.field], ['CONFIG', 'HTTPS_PROXY'])
})

test('a body without end and a redirect are refused, and nothing is followed', async () => {
  const elsewhere = http.createServer((_, response) => response.end('{}'))
  let visits = 0
  elsewhere.on('request', () => (visits += 1))
  await once(elsewhere.listen(0, '127.0.0.1'), 'listening')
  const location = `http://127.0.0.1:${elsewhere.address().port}/v1/servers`
  for (const kind of ['oversize', { answer: { status: 302, headers: [['location', location]] } }]) {
    await cloud.reset()
    await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 2, kind })
    const error = await failure(provisionVM(newJob(), { env: cloud.env(), logger: false }))
    assert.deepEqual([error.code, error.step], ['PROTOCOL', 'lookup'], error.message)
  }
  assert.equal(visits, 0)
  elsewhere.close()
})

test('refused connections and silence end with a code of their own, and nothing is left', async () => {
  const closed = http.createServer()
  await once(closed.listen(0, '127.0.0.1'), 'listening')
  const gone = `http://127.0.0.1:${closed.address().port}/v1`
  await new Promise((resolve) => closed.close(resolve))
  const refused = await failure(provisionVM(newJob(), { env: cloud.env({ HETZNER_API_URL: gone }), logger: false }))
  assert.deepEqual([refused.code, refused.step, refused.retryable], ['UNREACHABLE', 'lookup', true])

  await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 9, kind: 'hang_before_apply' })
  const silent = await failure(provisionVM(newJob(), { env: cloud.env(), logger: false, timeoutMs: 500 }))
  assert.deepEqual([silent.code, silent.step], ['DEADLINE', 'lookup'])
  assert.deepEqual(leftIn(await cloud.world()), [])
})

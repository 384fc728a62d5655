'use strict'

// Web APIs only, as in `webhook.js` beside it.

const { isEqual, mac, toBase64 } = require('./support/bytes.js')
const { readers } = require('./support/reading.js')
const { refusalClass } = require('./support/refusal.js')

/** Proves that a boot report comes with the token of an attempt, and reads it. All about it: `boot-report.d.ts`. */
async function verifyBootReport(request, options) {
  const { keys, now, maxBytes } = readOptions({ ...options, secret: trimmed(options?.secret) }, 4096)
  const token = readToken(readHeaders(request?.headers, ['authorization']).authorization)
  await prove(token, keys)
  const { job, server, attempt } = readClaims(token.payload, now)
  const report = readReport(await readBody(request, maxBytes))
  return { id: `${attempt}-${report.seq}`, jobId: job, serverName: server, attempt, ...report }
}

/** As settings are read: a line end behind a secret is none of it. */
function trimmed(secret) {
  if (Array.isArray(secret)) return Array.from(secret, trimmed)
  return typeof secret === 'string' ? secret.trim() : secret
}

/** What each code answers to the machine. */
const STATUS = {
  CONFIG: 500,
  MISSING_TOKEN: 401,
  BAD_TOKEN: 401,
  EXPIRED: 401,
  TOO_LARGE: 413,
  BAD_BODY: 400,
  BAD_PAYLOAD: 400,
}

/** Why a boot report was refused, as data. */
const { Refusal: BootReportError, isRefusal: isBootReportError } = refusalClass('BootReportError', STATUS)
const { parse, readBody, readHeaders, readOptions } = readers((...all) => new BootReportError(...all))

module.exports = { verifyBootReport, BootReportError, isBootReportError }

/** `pvb1.<payload>.<HMAC-SHA256 of all before>`, both parts in base64url: 32 bytes are 43 letters. */
const TOKEN = /^(pvb1\.([A-Za-z0-9_-]{1,1000}))\.([A-Za-z0-9_-]{43})$/

function readToken(values) {
  const [value, ...more] = values
  if (value === undefined || value.trim() === '') throw new BootReportError('MISSING_TOKEN', 'no Authorization header')
  const bearer = /^bearer +(\S+)$/i.exec(value)
  const found = more.length === 0 && bearer ? TOKEN.exec(bearer[1]) : null
  if (!found) throw badToken('the Authorization header holds no token for boot reports')
  const [, signed, payload, signature] = found
  return { signed, payload, signature }
}

function badToken(why) {
  return new BootReportError('BAD_TOKEN', why)
}

/** Each secret is used and compared, so that the time taken does not tell which it was. As text: base64 has several spellings. */
async function prove({ signed, signature }, keys) {
  const content = new TextEncoder().encode(signed)
  const macs = await Promise.all(keys.map((key) => mac(key, content)))
  const fits = macs.reduce((fits, expected) => fits | isEqual(toBase64Url(expected), signature), 0)
  if (!fits) throw badToken('the token was not made with any secret')
}

function toBase64Url(bytes) {
  return toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

/** Whose token it is. It was proven, so only another version of this package could have written anything else. */
function readClaims(payload, now) {
  const { job, server, attempt, exp } = parseClaims(payload)
  const areTexts = [job, server, attempt].every((text) => typeof text === 'string' && text !== '')
  if (!areTexts || !Number.isSafeInteger(exp)) throw badToken('the token does not say whose it is')
  if (now / 1000 > exp) throw new BootReportError('EXPIRED', 'the token has expired: its attempt is over')
  return { job, server, attempt }
}

function parseClaims(payload) {
  try {
    return Object(JSON.parse(atob(payload.replaceAll('-', '+').replaceAll('_', '/'))))
  } catch {
    throw badToken('the token cannot be read')
  }
}

const EVENTS = new Set(['started', 'clock', 'package', 'joined', 'failed'])
const CLASSES = new Set([
  'clock', 'download', 'signature', 'package', 'daemon', 'key-refused', 'up-timeout', 'up', 'no-key', 'approval',
])
/** The last moment that a `Date` can hold, in seconds. */
const LATEST = 8_640_000_000_000
/** No boot has so much to tell. */
const MOST = 20

/** Only what is known, so that a machine cannot put anything else before whoever reads it. */
function readReport(body) {
  const report = parse(body)
  const isObject = typeof report === 'object' && report !== null && !Array.isArray(report)
  if (!isObject) throw badPayload('payload', 'expected an object')
  const { event, class: failure, at, seq } = report
  if (!EVENTS.has(event)) throw badPayload('event', 'expected a known event')
  const fits = event === 'failed' ? CLASSES.has(failure) : failure === undefined
  if (!fits) throw badPayload('class', 'expected a known class with `failed`, and none with any other event')
  if (!isWhole(at, 0, LATEST)) throw badPayload('at', 'expected whole seconds')
  if (!isWhole(seq, 1, MOST)) throw badPayload('seq', `expected a whole number between 1 and ${MOST}`)
  return { event, ...(failure === undefined ? {} : { class: failure }), at: new Date(at * 1000), seq }
}

function isWhole(number, least, most) {
  return Number.isSafeInteger(number) && number >= least && number <= most
}

function badPayload(field, why) {
  return new BootReportError('BAD_PAYLOAD', `${field}: ${why}`, { field })
}

'use strict'

// Web APIs only, no Node.js globals and nothing but its own parts: it has to load in an Edge runtime, where there is no native
// module.

const { concat, isEqual, mac, toBase64, toHex } = require('./support/bytes.js')
const { readers } = require('./support/reading.js')
const { refusalClass } = require('./support/refusal.js')

/** Proves that a callback comes from a holder of the secret and is fresh, and reads it. All about it: `webhook.d.ts`. */
async function verifyCallback(request, options) {
  const { keys, toleranceSeconds, now, maxBytes, allowLegacy } = takeOptions(options)
  const headers = readHeaders(request?.headers, [...STANDARD, LEGACY])
  const isStandard = STANDARD.some((name) => headers[name].length > 0)
  const claim = isStandard ? readStandard(headers, now, toleranceSeconds) : readLegacy(headers, allowLegacy)
  const body = await readBody(request, maxBytes)
  await prove(claim, keys, body)
  const payload = readPayload(body)
  if (claim.legacy) warnOfLegacy()
  return { id: claim.id, timestamp: claim.timestamp, legacy: claim.legacy, payload }
}

/** The headers of a callback, for those who send one. All about it: `webhook.d.ts`. */
async function signCallback({ body, secret, id, timestamp = new Date() }) {
  const keys = readSecrets('secret', secret)
  if (typeof id !== 'string' || !ID.test(id)) throw refuse('id', ID_RULE)
  // A number would leave open whether it means seconds or milliseconds.
  const seconds = String(Math.floor(timestamp?.getTime?.() / 1000))
  if (!SECONDS.test(seconds)) throw refuse('timestamp', 'expected a Date')
  const bytes = toBytes(body)
  const signatures = await Promise.all(keys.map((key) => mac(key, standardContent(id, seconds, bytes))))
  return {
    'webhook-id': id,
    'webhook-timestamp': seconds,
    'webhook-signature': signatures.map((signature) => `v1,${toBase64(signature)}`).join(' '),
    // The old header has room for one.
    'x-signature': toHex(await mac(keys[0], bytes)),
  }
}

/** What each code answers to the sender. */
const STATUS = {
  CONFIG: 500,
  MISSING_HEADERS: 401,
  BAD_ID: 401,
  BAD_TIMESTAMP: 401,
  TOO_OLD: 401,
  TOO_NEW: 401,
  BAD_SIGNATURE: 401,
  TOO_LARGE: 413,
  BAD_BODY: 400,
  BAD_PAYLOAD: 400,
}

/** Why a callback was refused, as data. */
const { Refusal: CallbackError, isRefusal: isCallbackError } = refusalClass('CallbackError', STATUS)
const { parse, readBody, readHeaders, readOptions, readSecrets, refuse, toBytes } = readers(
  (...all) => new CallbackError(...all),
)

module.exports = { verifyCallback, signCallback, CallbackError, isCallbackError }

function takeOptions(options) {
  const common = readOptions(options, 65_536)
  const toleranceSeconds = options.toleranceSeconds ?? 300
  const allowLegacy = options.allowLegacy ?? false
  // Every comparison with NaN is false, so it would let any age pass.
  if (!(Number.isFinite(toleranceSeconds) && toleranceSeconds >= 0)) {
    throw refuse('options.toleranceSeconds', 'expected a number of seconds')
  }
  if (typeof allowLegacy !== 'boolean') throw refuse('options.allowLegacy', 'expected true or false')
  return { ...common, toleranceSeconds, allowLegacy }
}

const STANDARD = ['webhook-id', 'webhook-timestamp', 'webhook-signature']
const LEGACY = 'x-signature'

/** No full stop, so that nothing can be moved over the borders of `id.timestamp.body`; no comma, which joins two. */
const ID = /^[!-+\-/-~]{1,256}$/
const ID_RULE = 'expected 1 to 256 visible ASCII characters without full stop or comma'
/** As a number is written, so that one moment has one text. */
const SECONDS = /^(?:0|[1-9]\d{0,11})$/

/** What the Standard Webhooks headers claim, with the time checked already, which costs nothing. */
function readStandard(headers, now, toleranceSeconds) {
  const [id, seconds, signatures] = STANDARD.map((name) => headers[name].join(' '))
  const missing = STANDARD.filter((name) => headers[name].join('') === '')
  if (missing.length > 0) throw new CallbackError('MISSING_HEADERS', `no ${missing.join(', ')}`)
  if (!ID.test(id)) throw new CallbackError('BAD_ID', `webhook-id: ${ID_RULE}`)
  if (!SECONDS.test(seconds)) throw new CallbackError('BAD_TIMESTAMP', 'webhook-timestamp: expected whole seconds')
  const age = Math.floor(now / 1000) - Number(seconds)
  if (Math.abs(age) > toleranceSeconds) {
    const [code, side] = age > 0 ? ['TOO_OLD', 'behind'] : ['TOO_NEW', 'ahead of']
    const message = `webhook-timestamp is ${Math.abs(age)} s ${side} this server's clock; ${toleranceSeconds} s are allowed`
    throw new CallbackError(code, message, { serverTime: new Date(now) })
  }
  return {
    id,
    timestamp: new Date(Number(seconds) * 1000),
    legacy: false,
    content: (body) => standardContent(id, seconds, body),
    encode: toBase64,
    candidates: readSignatures(signatures),
  }
}

/** More than a rotation needs; each one costs a comparison. */
const MOST_SIGNATURES = 8

/** The `v1` signatures. They are compared as text: base64 can spell the same bytes in more than one way. */
function readSignatures(text) {
  // Signatures stand apart by spaces; a server joins two headers of one name by a comma.
  const found = text.matchAll(/(?:^|[ ,])v1,([A-Za-z0-9+/]{43}=)(?=[ ,]|$)/g)
  return Array.from(found, ([, signature]) => signature).slice(0, MOST_SIGNATURES)
}

/** What the old header claims: only that the body was signed, at any time. */
function readLegacy(headers, allowLegacy) {
  const signature = headers[LEGACY].join(' ')
  if (signature === '') throw new CallbackError('MISSING_HEADERS', `no ${STANDARD.join(', ')}`)
  if (!allowLegacy) throw new CallbackError('MISSING_HEADERS', 'X-Signature alone is refused without allowLegacy')
  const isHex = /^[0-9a-f]{64}$/i.test(signature)
  const candidates = isHex ? [signature.toLowerCase()] : []
  return { id: undefined, timestamp: undefined, legacy: true, content: (body) => body, encode: toHex, candidates }
}

/**
 * Passes if one of the signatures fits one of the secrets.
 *
 * Each secret is used and each pair compared, whatever was found before, so that the time taken does not tell which
 * secret it was, nor how much of a signature was right.
 */
async function prove({ content, encode, candidates }, keys, body) {
  const macs = await Promise.all(keys.map((key) => mac(key, content(body))))
  let fits = 0
  for (const expected of macs.map(encode)) {
    for (const candidate of candidates) fits |= isEqual(expected, candidate)
  }
  if (!fits) throw new CallbackError('BAD_SIGNATURE', 'no signature fits the raw body under any secret')
}

function standardContent(id, seconds, body) {
  return concat([new TextEncoder().encode(`${id}.${seconds}.`), body])
}

/** For each event, the fields that it cannot do without, and those that it may have. All are texts with something in them. */
const EVENTS = new Map([
  ['provisioning', { required: [], optional: ['workflow_run_id'] }],
  ['heartbeat', { required: [], optional: [] }],
  ['running', { required: ['server_id', 'server_ip', 'tailscale_ip'], optional: [] }],
  ['failed', { required: ['error', 'failed_step'], optional: [] }],
])

function readPayload(body) {
  const payload = parse(body)
  const isObject = typeof payload === 'object' && payload !== null && !Array.isArray(payload)
  if (!isObject) throw badPayload('payload', 'expected an object')
  // A heartbeat says `type` and the others say `status`; the one union goes by `type`.
  const { type = payload.status, status = type } = payload
  if (type !== status) throw badPayload('type', 'is not the same as status')
  const fields = EVENTS.get(type)
  if (!fields) throw badPayload('type' in payload ? 'type' : 'status', 'expected a known event')
  for (const field of ['job_id', ...fields.required, ...fields.optional]) {
    const value = payload[field]
    if (value === undefined && fields.optional.includes(field)) continue
    if (typeof value !== 'string' || value.trim() === '') throw badPayload(field, 'expected a text that is not empty')
  }
  return { ...payload, type }
}

function badPayload(field, why) {
  return new CallbackError('BAD_PAYLOAD', `${field}: ${why}`, { field })
}

let hasWarned = false

/** Once for a process: whoever allows it knows, and a line for each heartbeat hides all others. */
function warnOfLegacy() {
  if (hasWarned) return
  hasWarned = true
  const text =
    'a callback was accepted by its X-Signature alone, which a recorded copy passes for ever; ' +
    'set allowLegacy to false once all senders sign with webhook-id and webhook-timestamp'
  const { process: node, console } = globalThis
  if (typeof node?.emitWarning === 'function') node.emitWarning(text, 'ProvisionVMWarning')
  else console?.warn(text)
}

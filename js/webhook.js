'use strict'

// Web APIs only, no `require` and no Node.js globals: it has to load in an Edge runtime, where there is no native module.

/** Proves that a callback comes from a holder of the secret and is fresh, and reads it. All about it: `webhook.d.ts`. */
async function verifyCallback(request, options) {
  const { keys, toleranceSeconds, now, maxBytes, allowLegacy } = takeOptions(options)
  const headers = readHeaders(request?.headers)
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

/** Two bundles of one app each have a class of their own; this mark is the same in both. */
const MARK = Symbol.for('provision-vm.CallbackError')

/** Why a callback was refused, as data. */
class CallbackError extends Error {
  constructor(code, message, data, cause) {
    super(message, cause === undefined ? undefined : { cause })
    Object.assign(this, { code, status: STATUS[code], ...data })
  }

  /** `JSON.stringify` leaves out an error's message. */
  toJSON() {
    return { name: this.name, message: this.message, ...this }
  }
}
// On the prototype, where the first line of `stack` finds it.
Object.defineProperty(CallbackError.prototype, 'name', { value: 'CallbackError', writable: true, configurable: true })
Object.defineProperty(CallbackError.prototype, MARK, { value: true })

function isCallbackError(error) {
  return typeof error === 'object' && error?.[MARK] === true
}

module.exports = { verifyCallback, signCallback, CallbackError, isCallbackError }

/** The app's own mistake; the sender did nothing wrong and may come again. */
function refuse(field, why) {
  return new CallbackError('CONFIG', `${field}: ${why}`, { field })
}

function takeOptions(options) {
  const keys = readSecrets('options.secret', options?.secret)
  const now = options.now ?? Date.now
  const toleranceSeconds = options.toleranceSeconds ?? 300
  const maxBytes = options.maxBytes ?? 65_536
  const allowLegacy = options.allowLegacy ?? false
  // Every comparison with NaN is false, so it would let any age pass.
  if (!(Number.isFinite(toleranceSeconds) && toleranceSeconds >= 0)) {
    throw refuse('options.toleranceSeconds', 'expected a number of seconds')
  }
  if (!(Number.isSafeInteger(maxBytes) && maxBytes > 0)) throw refuse('options.maxBytes', 'expected a number of bytes')
  if (typeof allowLegacy !== 'boolean') throw refuse('options.allowLegacy', 'expected true or false')
  const time = typeof now === 'function' ? now() : undefined
  if (!Number.isFinite(time)) throw refuse('options.now', 'expected a function that gives milliseconds')
  return { keys, toleranceSeconds, now: time, maxBytes, allowLegacy }
}

/** Standard Webhooks asks for 24 to 64 bytes. Fewer are in use with the old header; below 16 a key can be guessed. */
const SHORTEST_SECRET = 16

function readSecrets(field, secret) {
  if (!Array.isArray(secret)) return [readSecret(field, secret)]
  if (secret.length === 0) throw refuse(field, 'expected at least one secret')
  return Array.from(secret, (one, index) => readSecret(`${field}[${index}]`, one))
}

/** The key's bytes. The text of a secret never goes into a message. */
function readSecret(field, secret) {
  if (typeof secret !== 'string') throw refuse(field, 'expected a text')
  const key = secret.startsWith('whsec_') ? fromBase64(secret.slice('whsec_'.length)) : new TextEncoder().encode(secret)
  if (key === undefined) throw refuse(field, 'expected base64 after whsec_')
  if (key.length < SHORTEST_SECRET) throw refuse(field, `expected at least ${SHORTEST_SECRET} bytes, got ${key.length}`)
  return key
}

const STANDARD = ['webhook-id', 'webhook-timestamp', 'webhook-signature']
const LEGACY = 'x-signature'

/** All values of the headers that matter. Names come in any case, values alone, in lists or joined by commas. */
function readHeaders(headers) {
  const found = { __proto__: null }
  for (const name of [...STANDARD, LEGACY]) found[name] = []
  for (const [name, value] of listHeaders(headers, Object.keys(found))) {
    const values = found[String(name).toLowerCase()]
    if (!values || value === undefined || value === null) continue
    for (const one of Array.isArray(value) ? value : [value]) {
      if (typeof one !== 'string') throw refuse('headers', 'expected texts as values')
      values.push(one)
    }
  }
  return found
}

function listHeaders(headers, names) {
  if (typeof headers !== 'object' || headers === null) throw refuse('headers', 'expected the headers of the request')
  if (typeof headers[Symbol.iterator] === 'function') {
    const pairs = [...headers]
    // Node.js has a flat `rawHeaders` too, which would pass for a request without any header.
    if (!pairs.every(Array.isArray)) throw refuse('headers', 'expected pairs of name and value')
    return pairs
  }
  if (typeof headers.get === 'function') return names.map((name) => [name, headers.get(name)])
  return Object.entries(headers)
}

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

/**
 * 1 or 0, in a time that depends on the length alone, which is the same for all: no branch and no index comes from the
 * content. `crypto.subtle.verify` would hash the body anew for each pair, and no standard says that it takes constant time.
 */
function isEqual(a, b) {
  let difference = a.length ^ b.length
  for (let at = 0; at < a.length; at += 1) difference |= a.charCodeAt(at) ^ b.charCodeAt(at)
  return Number(difference === 0)
}

async function mac(key, content) {
  const { subtle } = globalThis.crypto
  const imported = await subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
  return new Uint8Array(await subtle.sign('HMAC', imported, content))
}

function standardContent(id, seconds, body) {
  return concat([new TextEncoder().encode(`${id}.${seconds}.`), body])
}

/** The body's bytes as they came. The result is a copy: what is read later is what was proven. */
async function readBody(request, maxBytes) {
  if (typeof request.arrayBuffer !== 'function') {
    const bytes = toBytes(request.body)
    if (bytes.length > maxBytes) throw tooLarge(maxBytes)
    return bytes
  }
  if (request.bodyUsed || request.body?.locked) {
    throw refuse('request', 'its raw body was read before; verify first, or hand over the bytes')
  }
  if (typeof request.body?.getReader === 'function') return readStream(request.body.getReader(), maxBytes)
  const bytes = toBytes(await request.arrayBuffer())
  if (bytes.length > maxBytes) throw tooLarge(maxBytes)
  return bytes
}

async function readStream(reader, maxBytes) {
  const chunks = []
  let length = 0
  for (;;) {
    const { done, value } = await reader.read().catch((cause) => {
      throw new CallbackError('BAD_BODY', 'the raw body broke off', undefined, cause)
    })
    if (done) return concat(chunks)
    if (!ArrayBuffer.isView(value)) throw new CallbackError('BAD_BODY', 'the raw body is not made of bytes')
    const chunk = toBytes(value)
    length += chunk.length
    if (length > maxBytes) {
      // Nobody waits for the sender to stop.
      reader.cancel().catch(() => {})
      throw tooLarge(maxBytes)
    }
    chunks.push(chunk)
  }
}

function tooLarge(maxBytes) {
  return new CallbackError('TOO_LARGE', `the raw body is larger than ${maxBytes} bytes`)
}

function toBytes(body) {
  if (typeof body === 'string') return new TextEncoder().encode(body)
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice()
  // Not `instanceof`, which does not know the buffers of another context.
  if (Object.prototype.toString.call(body) === '[object ArrayBuffer]') return new Uint8Array(body).slice()
  throw refuse('body', 'expected the raw body, as text or bytes, and not what was parsed from it')
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

function parse(body) {
  let text
  let value
  try {
    // A byte order mark stays, so that JSON refuses it.
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body)
    value = JSON.parse(text)
  } catch {
    // The parser's own message quotes the body.
    throw new CallbackError('BAD_BODY', 'the raw body is not JSON in UTF-8')
  }
  checkStructure(text)
  return value
}

/** Deeper than any callback of ours. */
const DEEPEST = 32
/** A careless merge of such a field changes more than the object that it is merged into. */
const UNSAFE_KEYS = new Set(['__proto__', 'constructor', 'prototype'])

/** Refuses what `JSON.parse` accepts and two readers may understand differently. The text is valid JSON. */
function checkStructure(text) {
  // The keys of each object that is open; none for an array.
  const open = []
  let start = -1
  let latest = ''
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at]
    if (start >= 0) {
      if (char === '\\') at += 1
      if (char !== '"') continue
      latest = text.slice(start, at + 1)
      start = -1
    } else if (char === '"') {
      start = at
    } else if (char === '{' || char === '[') {
      open.push(char === '{' ? new Set() : undefined)
      if (open.length > DEEPEST) throw new CallbackError('BAD_BODY', `the raw body is nested deeper than ${DEEPEST}`)
    } else if (char === '}' || char === ']') {
      open.pop()
    } else if (char === ':') {
      const key = JSON.parse(latest)
      const keys = open[open.length - 1]
      if (keys.has(key)) throw new CallbackError('BAD_BODY', 'the raw body has a field twice')
      if (UNSAFE_KEYS.has(key)) throw new CallbackError('BAD_BODY', 'the raw body has a field with an unsafe name')
      keys.add(key)
    }
  }
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

function concat(chunks) {
  const all = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.length
  }
  return all
}

function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes))
}

function fromBase64(text) {
  // `atob` skips white space, which a secret has only by mistake.
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))
  } catch {
    return undefined
  }
}

'use strict'

// What a verifier reads from a request and from its options. Web APIs only: it has to load in an Edge runtime.

const { concat, fromBase64 } = require('./bytes.js')

/** Standard Webhooks asks for 24 to 64 bytes. Fewer are in use with the old header; below 16 a key can be guessed. */
const SHORTEST_SECRET = 16

/** Deeper than anything of ours. */
const DEEPEST = 32
/** A careless merge of such a field changes more than the object that it is merged into. */
const UNSAFE_KEYS = new Set(['__proto__', 'constructor', 'prototype'])

/** The readers of one verifier: what they cannot accept, they throw as `refusal(code, message, data, cause)`. */
function readers(refusal) {
  return { parse, readBody, readHeaders, readOptions, readSecrets, refuse, toBytes }

  /** The app's own mistake; the sender did nothing wrong and may come again. */
  function refuse(field, why) {
    return refusal('CONFIG', `${field}: ${why}`, { field })
  }

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

  /** All values of these headers. Names come in any case, values alone, in lists or joined by commas. */
  function readHeaders(headers, names) {
    const found = { __proto__: null }
    for (const name of names) found[name] = []
    for (const [name, value] of listHeaders(headers, names)) {
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

  /** What both verifiers take: the keys, the time in milliseconds, and how much of a body is read. */
  function readOptions(options, usualMaxBytes) {
    const keys = readSecrets('options.secret', options?.secret)
    const now = options.now ?? Date.now
    const maxBytes = options.maxBytes ?? usualMaxBytes
    if (!(Number.isSafeInteger(maxBytes) && maxBytes > 0)) throw refuse('options.maxBytes', 'expected a number of bytes')
    const time = typeof now === 'function' ? now() : undefined
    if (!Number.isFinite(time)) throw refuse('options.now', 'expected a function that gives milliseconds')
    return { keys, now: time, maxBytes }
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
        throw refusal('BAD_BODY', 'the raw body broke off', undefined, cause)
      })
      if (done) return concat(chunks)
      if (!ArrayBuffer.isView(value)) throw refusal('BAD_BODY', 'the raw body is not made of bytes')
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
    return refusal('TOO_LARGE', `the raw body is larger than ${maxBytes} bytes`)
  }

  function toBytes(body) {
    if (typeof body === 'string') return new TextEncoder().encode(body)
    if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice()
    // Not `instanceof`, which does not know the buffers of another context.
    if (Object.prototype.toString.call(body) === '[object ArrayBuffer]') return new Uint8Array(body).slice()
    throw refuse('body', 'expected the raw body, as text or bytes, and not what was parsed from it')
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
      throw refusal('BAD_BODY', 'the raw body is not JSON in UTF-8')
    }
    checkStructure(text)
    return value
  }

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
        if (open.length > DEEPEST) throw refusal('BAD_BODY', `the raw body is nested deeper than ${DEEPEST}`)
      } else if (char === '}' || char === ']') {
        open.pop()
      } else if (char === ':') {
        const key = JSON.parse(latest)
        const keys = open[open.length - 1]
        if (keys.has(key)) throw refusal('BAD_BODY', 'the raw body has a field twice')
        if (UNSAFE_KEYS.has(key)) throw refusal('BAD_BODY', 'the raw body has a field with an unsafe name')
        keys.add(key)
      }
    }
  }
}

module.exports = { readers }

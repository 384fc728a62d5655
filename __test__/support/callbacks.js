'use strict'

// Callbacks as a sender makes them. The signatures come from `node:crypto`, so that ours are held against another hand's.

const assert = require('node:assert/strict')
const { createHmac } = require('node:crypto')
const { readFileSync } = require('node:fs')
const path = require('node:path')
const vm = require('node:vm')

const { ROOT } = require('../../scripts/setup.js')
const { CallbackError, isCallbackError, verifyCallback } = require('provision-vm/webhook')

const SECRET = 'the-plain-secret-of-a-workflow'
const OTHER_SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const SECONDS = 1_700_000_000
const ID = 'msg_p5jXN8AQM9LWM0D4loKWxJek'
const HEARTBEAT = '{"job_id":"job-42","type":"heartbeat"}'

/** What each code has to answer: written down anew, since the answer is part of the contract. */
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

const hmac = (key, ...parts) => parts.reduce((hash, part) => hash.update(part), createHmac('sha256', key))

/** One signature, in the form of `webhook-signature`. */
function sign(body, { id = ID, seconds = SECONDS, key = SECRET } = {}) {
  return `v1,${hmac(key, `${id}.${seconds}.`, body).digest('base64')}`
}

/** A message with a good signature. */
function message(body = HEARTBEAT, { id = ID, seconds = SECONDS, key = SECRET } = {}) {
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': sign(body, { id, seconds, key }) }
  return { body, headers }
}

/** A message as today's workflow sends it. */
function legacy(body = HEARTBEAT, key = SECRET) {
  return { body, headers: { 'X-Signature': hmac(key, body).digest('hex') } }
}

/** With some of its headers replaced, or taken away by `undefined`. */
function withHeaders({ body, headers }, changes) {
  return { body, headers: { ...headers, ...changes } }
}

/** Verifies under the fixed clock; a refusal has to keep the promises that hold for each. */
async function verify(request, options) {
  try {
    return await verifyCallback(request, { secret: SECRET, now: () => SECONDS * 1000, ...options })
  } catch (error) {
    if (!(error instanceof CallbackError)) throw error
    assert.equal(error.status, STATUS[error.code], `status of ${error.code}`)
    assert.ok(isCallbackError(error))
    const said = JSON.stringify(error) + error.stack
    for (const secret of [SECRET, OTHER_SECRET.slice(6), 'job-42', sign(HEARTBEAT).slice(3)]) assert.ok(!said.includes(secret), said)
    return error
  }
}

/** `ok`, or the code of the refusal. */
async function outcome(request, options) {
  return (await verify(request, options)).code ?? 'ok'
}

/** A module alone in a context that has what the web has: no `process`, `Buffer`, `console`, `eval`, and only its own parts. */
function loadInEdge(globals, file = 'webhook.js') {
  const web = { crypto, TextEncoder, TextDecoder, atob, btoa, ...globals }
  const context = vm.createContext(web, { codeGeneration: { strings: false, wasm: false } })
  const load = (file) => {
    const module = { exports: {} }
    const source = readFileSync(file, 'utf8')
    const own = (name) => {
      assert.match(name, /^\.\/[a-z./-]+\.js$/, `${file} loads ${name}`)
      return load(path.join(path.dirname(file), name))
    }
    vm.runInContext(`(function (module, exports, require) {${source}\n})`, context)(module, module.exports, own)
    return module.exports
  }
  return load(path.join(ROOT, 'js', file))
}

/** `crypto` that counts what is hashed. */
function countingCrypto() {
  const counted = { hashes: 0, crypto: undefined }
  const { subtle } = crypto
  const count = (...all) => ((counted.hashes += 1), subtle.sign(...all))
  counted.crypto = { subtle: { importKey: subtle.importKey.bind(subtle), sign: count } }
  return counted
}

module.exports = {
  countingCrypto,
  HEARTBEAT,
  hmac,
  ID,
  legacy,
  loadInEdge,
  message,
  OTHER_SECRET,
  outcome,
  SECONDS,
  SECRET,
  sign,
  verify,
  withHeaders,
}

'use strict'

// An app that receives callbacks, on loopback. It verifies each one by three hands: the old rule and nothing else, the
// package's verifier, and the npm package `standardwebhooks`. Only what all three accept counts.

const { createHmac } = require('node:crypto')
const { once } = require('node:events')
const http = require('node:http')
const https = require('node:https')

const { Webhook } = require('standardwebhooks')
const { verifyCallback } = require('provision-vm/webhook')

/**
 * Starts a receiver:
 *
 * - `url`, `origin`: what to put into `CALLBACK_URL` and `CALLBACK_ORIGINS`;
 * - `events`: the bodies that were accepted, parsed, in order; each message id once;
 * - `repeats`: how many of those came again, by their `webhook-id`;
 * - `requests`: all that came, each with `at`, `method`, `path`, `headers`, `body` (the raw text), `event` (parsed, if it
 *   is JSON), `name` (`running`, `heartbeat` ...), `checks` (`ok` or what is wrong, by each hand), `accepted`, `repeat`,
 *   and `sent`, the bytes of an endless answer;
 * - `answer(...)`: what to answer to the next requests, one each, see below; without any it is 200, or 401 to a forgery;
 * - `reset()`: forgets all of it;
 * - `stop()`.
 *
 * An answer has `status` (200), `headers`, `body` (a text, or what is made JSON), and
 *
 * - `event`: for events of this name only, such as `{ event: 'running', status: 503 }`;
 * - `times` (1): how often, `Infinity` for always;
 * - `drop`: `before`, the connection is closed and the message has no effect; `after`, it is accepted first;
 * - `hang`: it is never answered, and has no effect;
 * - `redirect`: 302 to this address;
 * - `endless`: the body goes on until the connection is closed;
 * - `stall`: the status and the headers come, the body does not.
 *
 * With `tls` (`key` and `cert`) it speaks https.
 */
async function startReceiver({ secret, tls }) {
  const receiver = new Receiver(secret)
  const take = (request, response) => receiver.take(request, response)
  const server = tls ? https.createServer(tls, take) : http.createServer(take)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  receiver.server = server
  receiver.port = server.address().port
  receiver.origin = `${tls ? 'https' : 'http'}://127.0.0.1:${receiver.port}`
  receiver.url = `${receiver.origin}/api/webhooks/github`
  return receiver
}

class Receiver {
  constructor(secret) {
    this.secret = secret
    this.reset()
  }

  reset() {
    this.events = []
    this.requests = []
    this.repeats = 0
    this.answers = []
    this.seen = new Set()
  }

  answer(...answers) {
    this.answers.push(...answers.map((answer) => ({ times: 1, ...answer })))
  }

  async stop() {
    const closed = once(this.server, 'close')
    this.server.close()
    this.server.closeAllConnections()
    await closed
  }

  async take(request, response) {
    // A sender that goes away in the middle has sent nothing.
    const chunks = await request.toArray().catch(() => undefined)
    if (!chunks) return
    const bytes = Buffer.concat(chunks)
    const { method, url, headers } = request
    const record = { at: Date.now(), method, path: url, headers, body: bytes.toString(), ...readEvent(bytes), sent: 0 }
    record.checks = await this.verify(bytes, headers, record.event)
    const isGood = Object.values(record.checks).every((check) => check === 'ok')
    const answer = this.next(record.name) ?? { status: isGood ? 200 : 401 }
    record.accepted = isGood && hasEffect(answer)
    record.repeat = record.accepted && this.seen.has(headers['webhook-id'])
    this.requests.push(record)
    if (record.accepted) this.keep(record)
    give(response, answer, record)
  }

  keep({ repeat, event, headers }) {
    if (repeat) return (this.repeats += 1)
    this.seen.add(headers['webhook-id'])
    this.events.push(event)
  }

  /** The first answer that is meant for such an event. */
  next(name) {
    const answer = this.answers.find(({ event = name }) => event === name)
    if (!answer) return undefined
    answer.times -= 1
    if (answer.times < 1) this.answers.splice(this.answers.indexOf(answer), 1)
    return answer
  }

  async verify(bytes, headers, event) {
    const body = bytes.toString()
    return {
      old: checkOld(bytes, headers, event, keyOf(this.secret)),
      standard: await said(async () => verifyCallback({ body: bytes, headers }, { secret: this.secret })),
      peer: await said(async () => peerOf(this.secret).verify(body, headers)),
    }
  }
}

/** The rule of the app before there was a verifier: the hex HMAC-SHA256 of the raw body, and the fields of each event. */
function checkOld(bytes, headers, event, key) {
  if (headers['x-signature'] !== createHmac('sha256', key).update(bytes).digest('hex')) return 'bad X-Signature'
  if (typeof event !== 'object' || event === null) return 'no object'
  const fields = FIELDS[event.type === 'heartbeat' ? 'heartbeat' : event.status]
  if (!fields) return 'unknown event'
  const missing = fields.filter((field) => typeof event[field] !== 'string' || event[field] === '')
  return missing.length > 0 ? `missing ${missing.join(', ')}` : 'ok'
}

const FIELDS = {
  provisioning: ['job_id', 'workflow_run_id'],
  heartbeat: ['job_id'],
  running: ['job_id', 'server_id', 'server_ip', 'tailscale_ip'],
  failed: ['job_id', 'error', 'failed_step'],
}

const isEncoded = (secret) => secret.startsWith('whsec_')
const keyOf = (secret) => (isEncoded(secret) ? Buffer.from(secret.slice(6), 'base64') : secret)
const peerOf = (secret) => new Webhook(secret, isEncoded(secret) ? undefined : { format: 'raw' })

async function said(call) {
  try {
    await call()
    return 'ok'
  } catch (error) {
    return `${error.code ?? error.name}: ${error.message}`
  }
}

function readEvent(bytes) {
  try {
    const event = JSON.parse(bytes)
    return { event, name: event.status ?? event.type }
  } catch {
    return { event: undefined, name: undefined }
  }
}

/** Whether the app has taken the message, whatever became of its answer. */
function hasEffect({ status = 200, drop, hang, redirect }) {
  if (drop) return drop === 'after'
  return !hang && !redirect && status >= 200 && status < 300
}

function give(response, answer, record) {
  const { status = 200, headers, body = { received: status < 300 }, drop, hang, redirect, endless, stall } = answer
  if (hang) return
  if (drop) return response.socket.destroy()
  if (redirect) return response.writeHead(status === 200 ? 302 : status, { location: redirect }).end()
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  if (stall) return response.flushHeaders()
  if (endless) return pour(response, record)
  response.end(typeof body === 'string' ? body : JSON.stringify(body))
}

/** Writes as fast as it is read, for as long as it is read. */
function pour(response, record) {
  const chunk = Buffer.alloc(65_536, 'x')
  const more = () => {
    while (!response.destroyed) {
      record.sent += chunk.length
      if (!response.write(chunk)) return response.once('drain', more)
    }
  }
  response.on('error', () => {})
  more()
}

module.exports = { startReceiver }

'use strict'

// Brings one signed event to the app, with as many tries as its kind is worth.

const dns = require('node:dns/promises')
const http = require('node:http')
const https = require('node:https')
const { setTimeout: sleep } = require('node:timers/promises')

const { version } = require('../../package.json')
const { signCallback } = require('../../js/webhook.js')
const { InputError, resolveTarget, show } = require('./target.js')

/** How long to try each kind of event. A terminal one is the last that the app hears of the job. */
const PLANS = {
  // Less than its step has: an app that is slow costs the job no VM.
  provisioning: { tries: 3, tryMs: 10_000, budgetMs: 40_000 },
  heartbeat: { tries: 1, tryMs: 5_000, budgetMs: 5_000 },
  running: { tries: Infinity, tryMs: 10_000, budgetMs: 120_000 },
  failed: { tries: Infinity, tryMs: 10_000, budgetMs: 120_000 },
}

/** The outer world, so that tests can have another one. `now` is for time stamps, `elapsed` for durations. */
const PORTS = {
  now: Date.now,
  elapsed: () => performance.now(),
  // A pause that a signal ends is over, and no failure.
  sleep: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => {}),
  random: Math.random,
  lookup: (name) => dns.lookup(name, { all: true }),
  request: (url, options) => (url.protocol === 'https:' ? https : http).request(url, options),
}

/** Too short for a try: better none than one that cannot succeed. */
const SHORTEST_TRY_MS = 1_000

/**
 * Sends a message until the app accepts it, refuses it for good, or the plan is used up. Never rejects; the outcome's
 * `kind` is
 *
 * - `accepted`;
 * - `refused`: it was answered, or its connection is such, that another try would change nothing;
 * - `unsafe`: the name has an address that must not be called;
 * - `passing`: the plan is used up, and the last try failed for a `reason` that may pass;
 * - `stopped`: `signal` has ended it.
 */
async function deliver(message, { target, secret, plan, signal, onRetry = () => {} }, ports = PORTS) {
  const end = ports.elapsed() + plan.budgetMs
  for (let tries = 1; ; tries += 1) {
    const ms = Math.min(plan.tryMs, end - ports.elapsed())
    const outcome = { ...(await tryOnce(message, { target, secret, ms, signal }, ports)), tries }
    if (outcome.kind !== 'passing' || tries >= plan.tries) return outcome
    const room = end - ports.elapsed() - SHORTEST_TRY_MS
    if (room <= 0) return outcome
    const pause = choosePause(tries, outcome.retryAfterMs, room, ports.random)
    onRetry(outcome, pause)
    await ports.sleep(pause, signal)
    if (signal.aborted) return { ...outcome, kind: 'stopped' }
  }
}

module.exports = { deliver, PLANS, PORTS }

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 15_000

/** The app's wish if there is room for it, else a pause that grows; chance in it keeps many jobs from coming together. */
function choosePause(tries, retryAfterMs, room, random) {
  if (retryAfterMs > 0 && retryAfterMs <= room) return retryAfterMs
  const full = Math.min(FIRST_PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS)
  return Math.min(full * (0.5 + random() / 2), room)
}

/** One try, signed anew: the receiver refuses what is older than a few minutes. */
async function tryOnce(message, { target, secret, ms, signal }, ports) {
  const limit = startLimit(ms, signal)
  try {
    const addresses = await limit.within(resolveTarget(target, ports.lookup))
    const { id, body } = message
    const signed = await signCallback({ body, secret, id, timestamp: new Date(ports.now()) })
    limit.signal.throwIfAborted()
    const options = optionsOf(signed, addresses, limit.signal)
    return judge(await exchange(ports.request(target.url, options), body), ports.now())
  } catch (error) {
    if (signal.aborted) return { kind: 'stopped', reason: 'there was no answer yet' }
    if (limit.signal.aborted) return { kind: 'passing', reason: `no answer within ${(ms / 1000).toFixed(1)} s` }
    return judgeError(error)
  } finally {
    limit.end()
  }
}

/** A signal that comes with the outer one, or when the time is over. */
function startLimit(ms, outer) {
  const controller = new AbortController()
  const abort = () => controller.abort()
  const timer = setTimeout(abort, ms)
  outer.addEventListener('abort', abort)
  if (outer.aborted) abort()
  const { signal } = controller
  return {
    signal,
    /** For what cannot be told to stop, such as the look-up of a name. */
    within: (work) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
        if (signal.aborted) reject(signal.reason)
        work.then(resolve, reject)
      }),
    end() {
      clearTimeout(timer)
      outer.removeEventListener('abort', abort)
    },
  }
}

function optionsOf(signed, addresses, signal) {
  return {
    method: 'POST',
    headers: {
      ...signed,
      'content-type': 'application/json',
      'user-agent': `provision-vm/${version}`,
    },
    signal,
    // A connection of its own, which no proxy of the environment takes over.
    agent: false,
    // The name was looked up before and its addresses were vetted; asking again could give others.
    lookup: (_name, { all }, done) => (all ? done(null, addresses) : done(null, addresses[0].address, addresses[0].family)),
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: 1_000,
    // Said here, so that NODE_TLS_REJECT_UNAUTHORIZED and --tls-min-v1.0 change nothing.
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
  }
}

/** The status and the start of the answer. Its status is all that decides, so an answer that breaks off after it counts. */
function exchange(request, body) {
  return new Promise((resolve, reject) => {
    request.on('error', reject)
    request.once('response', async (response) => {
      request.off('error', reject).on('error', () => {})
      const start = await readStart(response)
      request.destroy()
      resolve({ status: response.statusCode, headers: response.headers, body: start })
    })
    request.end(body)
  })
}

const LONGEST_ANSWER = 4096

async function readStart(response) {
  const chunks = []
  let length = 0
  try {
    // The end of the loop destroys the connection, whatever was still to come.
    for await (const chunk of response) {
      chunks.push(chunk)
      length += chunk.length
      if (length >= LONGEST_ANSWER) break
    }
  } catch {
    // What has come is enough.
  }
  return Buffer.concat(chunks).subarray(0, LONGEST_ANSWER).toString()
}

/** Statuses below 500 that may be others the next time. */
const PASSING = [408, 425, 429]

/** What a person should look at. */
const ADVICE = {
  400: 'the app does not understand the message',
  401: "is GH_CALLBACK_SECRET the app's, and is this clock right?",
  403: 'the app, or something before it, does not let this sender in',
  404: 'there is nothing at CALLBACK_URL; is its path right?',
  409: 'the app has the job in another state',
  410: 'the app does not want callbacks at this address any more',
  413: 'the app finds the message too large',
  422: 'the app does not understand the message',
}

function judge({ status, headers, body }, now) {
  if (status >= 200 && status < 300) return { kind: 'accepted', status }
  if (PASSING.includes(status) || (status >= 500 && status < 600)) {
    return { kind: 'passing', status, reason: `the answer was ${status}`, retryAfterMs: readRetryAfter(headers, now) }
  }
  const isRedirect = status >= 300 && status < 400
  const advice = isRedirect ? 'a redirect is not followed; CALLBACK_URL has to be the final address' : ADVICE[status]
  const words = status === 401 ? [advice, compareClocks(body, now)] : [advice]
  return { kind: 'refused', status, reason: [`the answer was ${status}`, ...words].filter(Boolean).join(': ') }
}

/** The pause that the app asks for: seconds, or a date, which is read by the app's own clock if it tells its time. */
function readRetryAfter({ 'retry-after': text = '', date }, now) {
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const base = Number.isNaN(Date.parse(date)) ? now : Date.parse(date)
  const ms = Date.parse(text) - base
  return ms > 0 ? ms : undefined
}

/** The app's time, if its answer tells it: a wrong clock is seen at once. */
function compareClocks(body, now) {
  const serverTime = Date.parse(parse(body)?.serverTime)
  if (Number.isNaN(serverTime)) return undefined
  const seconds = Math.round((now - serverTime) / 1000)
  const side = seconds < 0 ? 'behind' : 'ahead of'
  return `it is ${new Date(serverTime).toISOString()} there, and this clock is ${Math.abs(seconds)} s ${side} that`
}

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** A certificate that does not fit stays as it is; all else that OpenSSL says may come from a connection that was cut. */
const BAD_CERTIFICATE = new RegExp(
  '^(CERT_(?!.*CRL)|ERR_TLS_CERT_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_(GET_ISSUER|VERIFY)|' +
    'HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED)',
)

const WORDS = {
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection broke off',
  ENOTFOUND: 'the name has no address',
  EAI_AGAIN: 'the name could not be looked up',
}

/** Its message may hold what the other side has written, such as the names in a certificate; its code does not. */
function judgeError(error) {
  if (error instanceof InputError) return { kind: 'unsafe', reason: error.message }
  const code = String(error.code ?? error.name)
  if (BAD_CERTIFICATE.test(code)) return { kind: 'refused', reason: `the certificate is not good: ${code}` }
  return { kind: 'passing', reason: WORDS[code] ?? `the connection failed: ${show(code)}` }
}

'use strict'

// The local cloud for the tests of an app. It starts a program of another package and speaks to it over loopback: nothing of it is in
// the package that production installs.

const { once } = require('node:events')
const http = require('node:http')

const { findProgram, launch, LocalCloudError, PATIENCE_MS, settingsOf } = require('./support/local-cloud-program.js')

/** A machine that takes half a minute joins in three seconds, and the package may wait for an answer as long as 13 seconds. */
const TIME_SCALE = 10

/**
 * Above this the world's clock gains two minutes on this machine's between two looks of the package. It takes that for time that it has
 * slept, and its deadline for past.
 */
const HIGHEST_TIME_SCALE = 25

/** What an app's own settings must not bring into a world of tests: empty counts as absent. */
const FOREIGN = { HETZNER_SNAPSHOT_ID: '', TAILSCALE_AUTH_KEY: '', BOOT_REPORT_URL: '', BOOT_REPORT_SECRET: '' }

/** Starts a local cloud. What it takes and returns: `local-cloud.d.ts`. */
async function startLocalCloud(options) {
  if (options != null && typeof options !== 'object') throw new LocalCloudError('INVALID_OPTION', 'expected an object of options')
  const { signal, config, ...rest } = readOptions(options ?? {})
  signal?.throwIfAborted()
  const program = await launch(rest, signal)
  const cloud = new LocalCloud(program, config)
  const onAbort = () => void cloud.stop()
  signal?.addEventListener('abort', onAbort, { once: true })
  program.child.once('exit', () => signal?.removeEventListener('abort', onAbort))
  try {
    if (config) await cloud.configure(config)
    return cloud
  } catch (error) {
    await cloud.stop()
    throw signal?.aborted ? signal.reason : error
  }
}

module.exports = { startLocalCloud, findProgram, LocalCloudError }

/** In a test, a mistyped option is a mistake and not something to be overlooked. */
function readOptions({ timeScale, seed, port, config, program, signal, ...unknown }) {
  const refuse = (complaint) => {
    throw new LocalCloudError('INVALID_OPTION', complaint)
  }
  const isWhole = (it, most) => it == null || (Number.isSafeInteger(it) && it >= 0 && it <= most)
  for (const name of Object.keys(unknown)) refuse(`there is no option ${name}`)
  if (timeScale != null && !(Number.isFinite(timeScale) && timeScale > 0)) refuse('timeScale: expected a positive number')
  if (timeScale > HIGHEST_TIME_SCALE) {
    refuse(`timeScale: at most ${HIGHEST_TIME_SCALE}, as provision-vm would take a world that is faster for a machine that has slept`)
  }
  if (!isWhole(seed, Infinity)) refuse('seed: expected a whole number from 0 on')
  if (!isWhole(port, 65_535)) refuse('port: expected a whole number up to 65535')
  if (config != null && (typeof config !== 'object' || Array.isArray(config))) refuse('config: expected an object')
  if (program != null && typeof program !== 'string') refuse('program: expected a path')
  if (signal != null && typeof signal.addEventListener !== 'function') refuse('signal: expected an AbortSignal')
  return { timeScale: timeScale ?? TIME_SCALE, seed: seed ?? 1, port: port ?? 0, config, program: program ?? findProgram(), signal }
}

/** A running local cloud. All about it: `local-cloud.d.ts`. */
class LocalCloud {
  #program
  #config
  #stopping

  constructor(program, config) {
    const { url, hetzner, tailscale } = program.greeting
    this.#program = program
    this.#config = config
    this.urls = Object.freeze({ cloud: url, hetzner, tailscale })
    this.env = Object.freeze({ ...settingsOf(program.greeting), ...FOREIGN })
    // Older releases of Node.js 20 have no such symbol.
    if (Symbol.asyncDispose) Object.defineProperty(this, Symbol.asyncDispose, { value: () => this.stop() })
  }

  async fault(fault) {
    await this.#control('POST', 'faults', fault)
  }

  async clearFaults() {
    await this.#control('DELETE', 'faults')
  }

  async configure(patch) {
    await this.#control('PATCH', 'config', patch)
  }

  async world() {
    return await this.#control('GET', 'world')
  }

  async journal() {
    return (await this.#control('GET', 'journal')).journal
  }

  async requests() {
    return (await this.journal()).map(requestOf).filter((request) => request !== undefined)
  }

  async advance(seconds) {
    await this.#control('POST', 'advance', { seconds })
  }

  async addServer(server) {
    return (await this.#control('POST', 'servers', server)).id
  }

  async addDevice(device) {
    return (await this.#control('POST', 'devices', device)).nodeId
  }

  async removeServer(id) {
    await this.#control('DELETE', `servers/${encodeURIComponent(id)}`)
  }

  async powerOff(id) {
    await this.#control('POST', `servers/${encodeURIComponent(id)}/off`, {})
  }

  async reset() {
    await this.#control('POST', 'reset', {})
    if (this.#config) await this.configure(this.#config)
  }

  stop() {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop() {
    const { child } = this.#program
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.ref()
    child.stdin.end()
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
    await gone
    clearTimeout(timer)
  }

  async #control(method, where, body) {
    const { status, text } = await exchange(`${this.urls.cloud}/_sim/${where}`, method, body).catch((cause) => {
      const why = this.#stopping ? 'it was stopped' : this.#program.complaint()
      throw new LocalCloudError('ENDED', `the local cloud does not answer${why ? `: ${why}` : ''}`, { cause })
    })
    const answer = JSON.parse(text)
    if (status !== 200) throw new LocalCloudError('REFUSED', `the local cloud refuses ${method} ${where}: ${answer.error}`)
    return answer
  }
}

/** One exchange, without `fetch`: tests put other things in its place. */
function exchange(url, method, body) {
  const content = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    // Without an agent no connection stays open behind it.
    const request = http.request(url, { method, agent: false, headers: content && { 'content-type': 'application/json' } }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk))
      response.on('end', () => resolve({ status: response.statusCode, text })).on('error', reject)
    })
    request.on('error', reject).end(content)
  })
}

/** A request to an API, in the history's words: `POST /v1/servers?a=b (late)`. */
const REQUEST = /^(\S+) \/(?:v1|api\/v2|_sim\/oidc)([^?\s]*)(?:\?(\S*))?( \(late\))?$/

/** A line of the history in the words of a fault, if it is a request. */
function requestOf({ at_ms: atMs, who, what, outcome, fault }) {
  const [, method, where, query = '', late] = (['hetzner', 'tailscale', 'oidc'].includes(who) && REQUEST.exec(what)) || []
  if (!method) return undefined
  const end = /^\d+$/.test(outcome) ? { status: Number(outcome) } : { cut: outcome }
  const kind = fault && { fault: /^\w+/.exec(fault)[0].replace(/(?<=.)[A-Z]/g, '_$&').toLowerCase() }
  return { atMs, api: who, method, path: where, query, ...end, ...kind, ...(late && { late: true }) }
}

'use strict'

// A local cloud for one test file, and the ways to call the package against it.

const { spawn } = require('node:child_process')
const { createInterface } = require('node:readline')
const { once } = require('node:events')
const path = require('node:path')

const { settingsOf } = require('../../js/support/local-cloud-program.js')
const { ROOT, SIMULATOR } = require('../../scripts/setup.js')

/**
 * Starts a world in which a boot of 25 s takes one. In a much faster one its clock would run away from this machine's between two
 * looks of the package, which takes that for time that it has slept. `epoch` is when it begins, in unix seconds; `metadata` is where its metadata server is to be, if there is to be one; `program` is
 * another build of the simulator.
 */
async function startCloud({ timeScale = 25, seed = 1, epoch, metadata, program = SIMULATOR } = {}) {
  const args = ['--port', '0', '--seed', String(seed), '--time-scale', String(timeScale), '--exit-with-parent']
  if (epoch) args.push('--epoch', String(epoch))
  if (metadata) args.push('--metadata', metadata)
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const gone = new Promise((_, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`the local cloud ended with code ${code}`)))
  })
  const [line] = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), gone])
  return new Cloud(child, JSON.parse(line))
}

class Cloud {
  constructor(child, greeting) {
    this.child = child
    this.greeting = greeting
  }

  /** Settings that point at this world. */
  env(more = {}) {
    return { ...settingsOf(this.greeting), ...more }
  }

  async control(method, where, body) {
    const response = await fetch(`${this.greeting.url}/_sim/${where}`, { method, body: body && JSON.stringify(body) })
    const answer = await response.json()
    if (!response.ok) throw new Error(`${method} ${where}: ${answer.error}`)
    return answer
  }

  world() {
    return this.control('GET', 'world')
  }

  async journal() {
    return (await this.control('GET', 'journal')).journal
  }

  configure(patch) {
    return this.control('PATCH', 'config', patch)
  }

  fault(fault) {
    return this.control('POST', 'faults', fault)
  }

  /** Makes something of the project by Hetzner's API, as its owner would, and gives its id. */
  async make(kind, body) {
    const { HETZNER_API_URL, HETZNER_API_TOKEN } = this.env()
    const headers = { authorization: `Bearer ${HETZNER_API_TOKEN}`, 'content-type': 'application/json' }
    const response = await fetch(`${HETZNER_API_URL}/${kind}`, { method: 'POST', headers, body: JSON.stringify(body) })
    const answer = await response.json()
    if (response.status !== 201) throw new Error(`POST ${kind}: ${response.status} ${JSON.stringify(answer)}`)
    return Object.values(answer).find((it) => it?.id)?.id
  }

  /** A new world, with every default. */
  reset() {
    return this.control('POST', 'reset', {})
  }

  /** How many requests the world has had, other than control. */
  async requests() {
    const { requests } = await this.world()
    return requests.hetzner + requests.tailscale + requests.oidc
  }

  /** Lets this much of the world's time pass at once. */
  async advance(seconds) {
    await this.control('POST', 'advance', { seconds })
    return this.world()
  }

  /** Waits until the world's truth fits. */
  until(fits, ms) {
    return eventually(async () => {
      const world = await this.world()
      return fits(world) ? { found: world } : { instead: world }
    }, ms)
  }

  /** Waits until the world has had this request, such as `POST /v1/servers`; what follows it in the line is not looked at. */
  untilAsked(request, ms) {
    return eventually(async () => {
      const journal = await this.journal()
      return journal.some(({ what }) => what.startsWith(request)) ? { found: journal } : { instead: journal }
    }, ms)
  }

  stop() {
    const { child } = this
    child.stdin.end()
    const hasEnded = child.exitCode !== null || child.signalCode !== null
    return hasEnded ? undefined : once(child, 'exit')
  }
}

/** Looks again until something is `found`. */
async function eventually(look, ms = 20_000) {
  const end = Date.now() + ms
  for (;;) {
    const { found, instead } = await look()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error(`it never came to be; instead: ${JSON.stringify(instead)}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const usable = (world) => world.keys.filter((key) => key.usable)

/** What is wrong with a world that should hold nothing; nothing if it does. */
function leftIn(world) {
  const left = [...world.servers, ...world.devices, ...usable(world), ...world.primary_ips]
  return left.map((thing) => JSON.stringify(thing))
}

let jobs = 0
/** A job that no other test has. */
function newJob(more = {}) {
  jobs += 1
  return { jobId: `job-${process.pid}-${jobs}`, agentId: '550e8400-e29b', region: 'us-east', ...more }
}

/** Runs a script as a workflow would, and collects what it says. `node` are arguments of Node itself. */
function runScript(cloud, { script = 'provision.js', params = newJob(), env = {}, args = [], node = [] } = {}) {
  const variables = { PATH: process.env.PATH, JOB_ID: params.jobId, AGENT_ID: params.agentId, REGION: params.region }
  const all = { ...variables, ...(cloud ? cloud.env() : {}), ...env }
  for (const name of Object.keys(all)) if (all[name] === undefined) delete all[name]
  const command = [...node, path.join(ROOT, 'scripts', script), ...args]
  const child = spawn(process.execPath, command, { env: all, stdio: ['ignore', 'pipe', 'pipe'] })
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => (said.stdout += chunk))
  child.stderr.on('data', (chunk) => (said.stderr += chunk))
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, ...said }))
  return { child, ended, said }
}

module.exports = { startCloud, eventually, leftIn, usable, newJob, runScript, ROOT }

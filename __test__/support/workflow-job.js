'use strict'

// One job on a machine of its own: a workspace, a temporary folder, an environment, and what becomes of them.

const { mkdirSync, writeFileSync } = require('node:fs')
const { homedir } = require('node:os')
const path = require('node:path')

const { interpolateAll, interpolateTyped } = require('./workflow-expressions.js')
const { Masker, StepLog } = require('./workflow-log.js')
const { killMarked } = require('./workflow-process.js')
const { runSteps } = require('./workflow-step.js')

/** How long a cancelled job may take; then GitHub ends it. */
const CANCEL_LIMIT_MS = 5 * 60_000

const DEFAULT_LIMIT_MINUTES = 360

class Job {
  constructor({ run, id, spec, needs }) {
    const folder = path.join(run.folder, id)
    Object.assign(this, { run, id, spec, needs, timeScale: run.timeScale, actions: run.actions })
    this.temp = path.join(folder, '_temp')
    this.workspace = path.join(folder, run.github.repository.split('/')[1])
    this.tools = path.join(folder, '_tool')
    this.mark = `github_${run.runKey}_${id}`
    this.masker = new Masker([...Object.values(run.secrets), ...(this.mayAskForIdToken() ? [run.oidc.token] : [])])
    this.env = {}
    this.paths = []
    this.records = []
    this.listeners = new Set()
    this.isCancelled = false
    this.isGone = false
    this.counter = 0
    this.names = new Map()
    this.gone = new Promise((resolve) => (this.vanish = resolve))
    const { inputs } = run
    this.frame = { job: this, steps: {}, inputs, records: this.records, status: 'success', env: () => this.env }
    this.outputs = {}
  }

  /** Runs it to its end: `{ result, outputs, steps }`. */
  async execute() {
    for (const folder of [this.temp, this.workspace, this.tools]) mkdirSync(folder, { recursive: true })
    writeFileSync(path.join(this.temp, 'event.json'), JSON.stringify(this.run.github.event))
    this.log = this.openLog({ name: 'Set up job' })
    try {
      this.prepare()
      await runSteps(this.spec.steps, this.frame)
      if (!this.isGone) this.takeOutputs()
    } catch (error) {
      this.log.error(error.message)
      this.frame.status = 'failure'
    } finally {
      clearTimeout(this.limit)
      clearTimeout(this.lastLimit)
      this.leftProcesses = await killMarked(`RUNNER_TRACKING_ID=${this.mark}`)
    }
    return { result: this.result(), outputs: this.outputs, steps: this.records, orphans: this.leftProcesses.length }
  }

  prepare() {
    const scope = { values: this.run.contexts(this.needs, { withSecrets: true }) }
    Object.assign(this.env, interpolateAll(this.run.workflow.env, scope))
    Object.assign(this.env, interpolateAll(this.spec.env, scope))
    const defaults = { ...this.run.workflow.defaults?.run, ...this.spec.defaults?.run }
    this.runDefaults = interpolateAll(defaults, { values: { ...scope.values, env: this.env } })
    this.minutes = Number(interpolateTyped(this.spec['timeout-minutes'] ?? DEFAULT_LIMIT_MINUTES, scope))
    if (!(this.minutes > 0)) throw new Error(`timeout-minutes is no time: ${this.spec['timeout-minutes']}`)
    this.limit = setTimeout(() => this.overrun(), (this.minutes * 60_000) / this.timeScale)
  }

  result() {
    return this.endedAs ?? (this.isCancelled ? 'cancelled' : this.frame.status)
  }

  /** Ends what runs, unless its condition holds even then; later steps run by their conditions. */
  cancel() {
    if (this.isCancelled || this.isGone) return
    this.isCancelled = true
    this.lastLimit = setTimeout(() => this.abandon('cancelled'), CANCEL_LIMIT_MS / this.timeScale)
    for (const listener of this.listeners) listener()
  }

  onCancel(listener) {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Its time is up: GitHub cancels it. Whether later steps get to run then, sources disagree on. */
  overrun() {
    this.log.error(`The job has exceeded the maximum execution time of ${this.minutes}m0s`)
    if (this.run.isTimeoutAbrupt) this.abandon('cancelled')
    else this.cancel()
  }

  /** Everything of it ends at once, and nothing more is heard of it. */
  async abandon(result) {
    if (this.isGone) return
    this.isGone = true
    this.endedAs = result
    this.vanish(null)
    await killMarked(`RUNNER_TRACKING_ID=${this.mark}`)
  }

  /** Outputs that are empty, or have a secret in them, do not leave the job. */
  takeOutputs() {
    const scope = { values: { ...this.contexts(), env: this.env, steps: this.frame.steps, inputs: this.run.inputs } }
    for (const [name, value] of Object.entries(interpolateAll(this.spec.outputs, scope))) {
      const isSecret = this.masker.mask(value) !== value
      if (isSecret) this.log.annotate('warning', `Skip output '${name}' since it may contain secret.`)
      else if (value !== '') this.outputs[name] = value
    }
  }

  /** The contexts that do not depend on a step. */
  contexts() {
    const machine = { name: 'test', os: 'Linux', arch: 'X64', environment: 'github-hosted' }
    const runner = { ...machine, temp: this.temp, tool_cache: this.tools }
    const shared = this.run.contexts(this.needs, { withSecrets: true })
    const place = { workspace: this.workspace, event_path: path.join(this.temp, 'event.json') }
    const github = { ...shared.github, ...place, job: this.id }
    return { ...shared, github, runner, job: { status: this.isCancelled ? 'cancelled' : this.frame.status } }
  }

  /** What a process of a step is told: what the machine has, the step's variables, and over them those of GitHub. */
  processEnv({ env, files, frame, action }) {
    const machine = { PATH: process.env.PATH, HOME: homedir(), RUNNER_TRACKING_ID: this.mark, ...this.run.env }
    const all = { CI: 'true', ...machine, ...env, ...this.githubEnv({ ...frame.github, action }), ...files.variables }
    all.PATH = [...this.paths].reverse().concat(all.PATH).join(path.delimiter)
    return all
  }

  githubEnv(more) {
    const { runner, github } = this.contexts()
    const { event, token, ...plain } = { ...github, ...more }
    const { oidc } = this.run
    const ticket = { ACTIONS_ID_TOKEN_REQUEST_URL: oidc?.url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: oidc?.token }
    const variables = { ...upper('GITHUB', { ...plain, actions: true }), ...upper('RUNNER', runner) }
    return { ...variables, ...(this.mayAskForIdToken() ? ticket : {}) }
  }

  /** A job gets an identity token only if its permissions, or else the workflow's, say so. */
  mayAskForIdToken() {
    const permissions = this.spec.permissions ?? this.run.workflow.permissions
    return Boolean(this.run.oidc) && (permissions === 'write-all' || permissions?.['id-token'] === 'write')
  }

  addPaths(paths) {
    this.paths = [...this.paths.filter((it) => !paths.includes(it)), ...paths]
  }

  nextNumber() {
    return (this.counter += 1)
  }

  /** GITHUB_ACTION: the step's id, or a name made of what it uses. */
  actionName({ id, uses }) {
    if (id) return id
    const name = uses ? `__${uses.split('@')[0].replace(/[^\w-]/g, '_')}` : '__run'
    const count = (this.names.get(name) ?? 0) + 1
    this.names.set(name, count)
    return count === 1 ? name : `${name}_${count}`
  }

  openLog(record) {
    return new StepLog({
      masker: this.masker,
      isMuted: () => this.isGone,
      where: { job: this.id, step: record.name },
      onLine: (line, about) => this.run.onLine(this.id, line, about),
      onAnnotation: (annotation) => this.run.annotations.push(annotation),
      onMisuse: (misuse) => this.run.misuse.push(misuse),
    })
  }

  onStart(record) {
    this.run.onStart(this.id, record)
  }
}

/** As variables of the environment: `RUN_ID` with its prefix for `run_id`. */
function upper(prefix, values) {
  const pairs = Object.entries(values).map(([name, value]) => [`${prefix}_${name.toUpperCase()}`, String(value)])
  return Object.fromEntries(pairs)
}

module.exports = { Job }

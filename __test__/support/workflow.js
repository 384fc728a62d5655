'use strict'

// A runner for a GitHub Actions workflow file as it stands: what the runner and the service of GitHub do, as far as
// the workflows here need it. Where the documentation is silent, it goes by the source of the runner.

const { mkdtempSync, readdirSync, rmSync, symlinkSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')

const { holds, interpolate, interpolateTyped, loadExpressions } = require('./workflow-expressions.js')
const { ancestorsOf, readInputs, readWorkflow } = require('./workflow-file.js')
const { Job } = require('./workflow-job.js')

/**
 * Starts a run of the workflow in `file`.
 *
 * - `event` (`workflow_dispatch`), `inputs`, `secrets`, `vars`, `runId`, `attempt`, `github` (more of that context)
 * - `env`: what the machines have beside PATH and HOME
 * - `actions`: stand-ins by name, with or without `@ref`: a function, or the folder of a composite action
 * - `timeScale`: all time limits, and the pauses of the kill sequence, are divided by it
 * - `queue`: of createQueue(); runs and jobs of one concurrency group then wait for one another
 * - `oidc`: `{ url, token }` for jobs with `id-token: write`
 * - `isTimeoutAbrupt`: a job whose time is up ends at once, none of its later steps run
 */
function startRun(options) {
  const run = new Run(options)
  run.ended = run.execute()
  // Whoever waits for it gets the error as well.
  run.ended.catch(() => {})
  return run
}

class Run {
  constructor(options) {
    const { file, event = 'workflow_dispatch', inputs, secrets = {}, vars = {} } = options
    const { env = {}, actions = {}, timeScale = 1 } = options
    this.options = options
    this.workflow = readWorkflow(file)
    const { texts, values } = readInputs(this.workflow, event, inputs)
    Object.assign(this, { env, vars, actions, timeScale, inputs: values, queue: options.queue, oidc: options.oidc })
    this.isTimeoutAbrupt = options.isTimeoutAbrupt ?? false
    this.secrets = { GITHUB_TOKEN: 'ghs_0123456789abcdefghijklmnopqrstuvwxyz', ...secrets }
    this.github = githubContext(options, this.workflow, event, texts, this.secrets)
    this.runKey = `${process.pid}_${(runs += 1)}`
    this.kept = options.kept ?? {}
    this.jobs = {}
    this.active = new Map()
    this.lines = []
    this.started = []
    this.annotations = []
    this.misuse = []
    this.watchers = new Set()
    this.isCancelled = false
    this.isOver = false
  }

  async execute() {
    this.folder = mkdtempSync(path.join(tmpdir(), 'workflow-run-'))
    try {
      await loadExpressions()
      this.concurrency = readConcurrency(this.workflow.concurrency, { values: this.contexts() })
      this.ticket = this.enter(this.concurrency, () => this.cancel())
      // Cancelled before it had a place to wait at.
      if (this.isCancelled && !this.ticket.isInside) this.ticket.leave()
      const isAdmitted = await this.ticket.admitted
      if (isAdmitted) await this.runJobs()
      return this.describe()
    } finally {
      this.ticket?.leave()
      this.isOver = true
      this.look()
      rmSync(this.folder, { recursive: true, force: true })
    }
  }

  /** Each job starts once all that it needs have ended. */
  async runJobs() {
    const ends = {}
    const start = (id) => (ends[id] ??= this.runJob(id, () => this.workflow.jobs[id].needs.map(start)))
    await Promise.all(Object.keys(this.workflow.jobs).map(start))
  }

  async runJob(id, startNeeds) {
    const spec = this.workflow.jobs[id]
    await Promise.all(startNeeds())
    this.jobs[id] = this.kept[id] ?? (this.isDue(id) ? await this.execJob(id, spec) : withoutSteps('skipped'))
  }

  async execJob(id, spec) {
    const needs = this.needsOf(id)
    const concurrency = readConcurrency(spec.concurrency, { values: this.contexts(needs) })
    const job = new Job({ run: this, id, spec, needs })
    this.active.set(id, job)
    job.ticket = this.enter(concurrency, () => job.cancel())
    try {
      const mayStart = (await job.ticket.admitted) && !job.isCancelled
      const ended = mayStart ? await job.execute() : withoutSteps('cancelled')
      return { ...ended, timeoutMinutes: job.minutes, ...(concurrency && { concurrency }) }
    } finally {
      this.active.delete(id)
      job.ticket.leave()
    }
  }

  isDue(id) {
    const scope = { values: this.contexts(this.needsOf(id)), functions: this.statusFunctions(id) }
    return holds(this.workflow.jobs[id].if, scope)
  }

  statusFunctions(id) {
    const results = ancestorsOf(this.workflow, id).map((ancestor) => this.jobs[ancestor].result)
    return {
      always: () => true,
      cancelled: () => this.isCancelled,
      failure: () => !this.isCancelled && results.includes('failure'),
      success: () => !this.isCancelled && results.every((result) => result === 'success'),
    }
  }

  needsOf(id) {
    const { needs } = this.workflow.jobs[id]
    const known = ({ result, outputs }) => ({ result, outputs })
    return Object.fromEntries(needs.map((need) => [need, known(this.jobs[need])]))
  }

  /** The contexts that the service knows; with `secrets` where they may be named. */
  contexts(needs = {}, { withSecrets = false } = {}) {
    const { github, inputs, vars, secrets } = this
    return { github, inputs, vars, needs, ...(withSecrets ? { secrets } : {}) }
  }

  /** The button: jobs whose condition holds even then go on, and those that wait are asked for theirs in time. */
  cancel() {
    this.isCancelled = true
    if (!this.ticket?.isInside) return this.ticket?.leave()
    for (const [id, job] of this.active) if (!this.isDue(id)) job.cancel()
  }

  /** The machine of a running job goes away with all that runs on it. */
  lose(id) {
    const job = this.active.get(id)
    if (!job) throw new Error(`job ${id} is not running`)
    return job.abandon('failure')
  }

  /** Resolves when the step starts; with two arguments the first is the job. Rejects if the run ends without. */
  untilStep(...path) {
    const [name, id] = path.reverse()
    const isIt = (it) => it.record.name === name && (id ?? it.id) === it.id
    return this.until(`step ${name}`, () => this.started.find(isIt))
  }

  /** Resolves when a line of a step (not the text of a script) fits. Rejects if the run ends without. */
  untilLog(pattern) {
    const isIt = ({ line, isHeader }) => !isHeader && pattern.test(line)
    return this.until(`a line like ${pattern}`, () => this.lines.find(isIt))
  }

  until(what, find) {
    return new Promise((resolve, reject) => {
      const watcher = () => {
        const found = find()
        if (!found && !this.isOver) return
        this.watchers.delete(watcher)
        if (found) resolve(found)
        else reject(new Error(`the run ended without ${what}:\n${this.log()}`))
      }
      this.watchers.add(watcher)
      watcher()
    })
  }

  onStart(id, record) {
    this.started.push({ id, record })
    this.look()
  }

  onLine(id, line, { isHeader, raw }) {
    this.lines.push({ id, line, isHeader, raw })
    this.look()
  }

  look() {
    for (const watcher of [...this.watchers]) watcher()
  }

  log() {
    return this.lines.map(({ line }) => `${line}\n`).join('')
  }

  enter(concurrency, cancel) {
    if (this.queue && concurrency) return this.queue.enter(concurrency, cancel)
    return { admitted: Promise.resolve(true), isInside: true, leave: () => {} }
  }

  describe() {
    const ids = Object.keys(this.workflow.jobs)
    const jobs = Object.fromEntries(ids.map((id) => [id, this.jobs[id] ?? withoutSteps('cancelled')]))
    const results = Object.values(jobs).map(({ result }) => result)
    const conclusion = ['failure', 'cancelled'].find((result) => results.includes(result)) ?? 'success'
    const summary = Object.values(jobs).flatMap(({ steps }) => steps.map((step) => step.summary)).join('')
    const unmasked = this.lines.filter(({ isHeader }) => !isHeader).map(({ raw }) => `${raw}\n`).join('')
    const { annotations, misuse, concurrency } = this
    return { conclusion, jobs, log: this.log(), unmasked, annotations, misuse, summary, concurrency, github: this.github }
  }

  /** The same run again. With `failedOnly`, jobs that succeeded, and wait for none that runs again, stay as they were. */
  rerun({ failedOnly = false, ...changes } = {}) {
    if (!this.isOver) throw new Error('a run can be run again once it has ended')
    const again = (id) => !['success', 'skipped'].includes(this.jobs[id]?.result)
    const isKept = (id) => ![id, ...ancestorsOf(this.workflow, id)].some(again)
    const kept = failedOnly ? Object.fromEntries(Object.entries(this.jobs).filter(([id]) => isKept(id))) : {}
    const { run_id: runId, run_attempt: attempt } = this.github
    return startRun({ ...this.options, runId, attempt: Number(attempt) + 1, kept, ...changes })
  }
}

let runs = 0

function withoutSteps(result) {
  return { result, outputs: {}, steps: [] }
}

function githubContext(options, workflow, event, inputs, secrets) {
  const { runId = String(17_000_000_000 + runs), attempt = 1, github = {} } = options
  const server = 'https://github.com'
  const context = {
    actor: 'octocat',
    api_url: 'https://api.github.com',
    event: event === 'workflow_dispatch' ? { inputs } : {},
    event_name: event,
    ref: 'refs/heads/main',
    ref_name: 'main',
    ref_type: 'branch',
    repository: 'octo-org/octo-repo',
    repository_owner: 'octo-org',
    run_attempt: String(attempt),
    run_id: String(runId),
    run_number: '1',
    server_url: server,
    sha: '0123456789abcdef0123456789abcdef01234567',
    token: secrets.GITHUB_TOKEN,
    triggering_actor: 'octocat',
    workflow: workflow.name,
    ...github,
  }
  return { workflow_ref: `${context.repository}/.github/workflows/${workflow.file}@${context.ref}`, ...context }
}

function readConcurrency(concurrency, scope) {
  if (concurrency === undefined) return undefined
  const { group, queue, 'cancel-in-progress': cancel = false } = concurrency.group ? concurrency : { group: concurrency }
  const cancelInProgress = interpolateTyped(cancel, scope) === true
  return { group: interpolate(group, scope), cancelInProgress, isLong: queue === 'max' }
}

/**
 * Concurrency groups: one runs, one waits; a third takes the place of the one that waits, which is cancelled. With
 * `queue: max` all wait for their turn.
 */
function createQueue() {
  const groups = new Map()
  return {
    /** A ticket: `admitted` resolves with true once it may run, with false if it has lost its place. */
    enter({ group, cancelInProgress, isLong }, cancel) {
      const name = group.toLowerCase()
      const state = groups.get(name) ?? { waiting: [] }
      groups.set(name, state)
      const ticket = { cancel, isInside: false, leave: () => leave(state, ticket) }
      ticket.admitted = new Promise((resolve) => (ticket.settle = resolve))
      if (!state.inside) return admit(state, ticket)
      if (!isLong) for (const other of state.waiting.splice(0)) other.settle(false)
      state.waiting.push(ticket)
      if (cancelInProgress) state.inside.cancel()
      return ticket
    },
  }
}

function admit(state, ticket) {
  state.inside = ticket
  ticket.isInside = true
  ticket.settle(true)
  return ticket
}

function leave(state, ticket) {
  ticket.settle(false)
  state.waiting = state.waiting.filter((other) => other !== ticket)
  if (state.inside !== ticket) return
  state.inside = undefined
  const next = state.waiting.shift()
  if (next) admit(state, next)
}

/** A stand-in for `actions/checkout`: links what is in a folder into the workspace. */
function linkTree(folder) {
  return ({ workspace }) => {
    for (const name of readdirSync(folder)) {
      rmSync(path.join(workspace, name), { force: true, recursive: true })
      symlinkSync(path.join(folder, name), path.join(workspace, name))
    }
  }
}

module.exports = { createQueue, linkTree, startRun }

'use strict'

// The steps of a job or of a composite action, one after another.

const { writeFileSync } = require('node:fs')
const { constants } = require('node:os')
const path = require('node:path')

const { holds, interpolate, interpolateAll, interpolateTyped } = require('./workflow-expressions.js')
const { readAction } = require('./workflow-file.js')
const { openFiles } = require('./workflow-files.js')
const { runProcess } = require('./workflow-process.js')

/** How each shell is called; `{0}` is the script. Without one it is bash that does not mind what fails in a pipe. */
const SHELLS = {
  default: 'bash -e {0}',
  bash: 'bash --noprofile --norc -eo pipefail {0}',
  sh: 'sh -e {0}',
  python: 'python {0}',
}

/** Asks what is under way to end, once. */
class Stop {
  constructor() {
    this.listeners = new Set()
  }

  request(reason) {
    if (this.reason) return
    this.reason = reason
    for (const listener of this.listeners) listener(reason)
  }

  /** Calls back at the request, also if it is made already. Gives what ends that. */
  onRequest(listener) {
    if (this.reason) listener(this.reason)
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
}

/**
 * Runs steps. A frame is what they share: the job, `steps`, `inputs`, `env()`, `status`, where their records go, and
 * whether it `isEmbedded`, the inside of a composite action.
 */
async function runSteps(specs, frame) {
  for (const spec of specs) {
    if (frame.job.isGone) return
    await runStep(spec, frame)
  }
}

async function runStep(spec, frame) {
  const { job } = frame
  const record = { name: nameOf(spec), id: spec.id, outcome: null, conclusion: null, outputs: {}, summary: '' }
  const step = { spec, frame, record, env: { ...frame.env() }, stop: new Stop(), action: job.actionName(spec) }
  step.log = frame.log ?? job.openLog(record)
  frame.records.push(record)
  const forget = job.onCancel(() => reconsider(step))
  const began = performance.now()
  const firstLine = step.log.lines.length
  try {
    const result = (await decide(step)) ?? (await perform(step))
    complete(step, job.isGone ? null : result)
  } finally {
    forget()
    record.ms = performance.now() - began
    record.log = step.log.textFrom(firstLine)
  }
}

/** How the step ends without having begun, if it does. */
function decide(step) {
  try {
    step.own = interpolateAll(step.spec.env, scopeOf(step))
    Object.assign(step.env, step.own)
    return holds(step.spec.if, scopeOf(step, { isCondition: true })) ? undefined : 'skipped'
  } catch (error) {
    step.log.error(error.message)
    return 'failure'
  }
}

/** The job is cancelled while the step runs: a step that would run even so goes on. */
function reconsider(step) {
  let goesOn = false
  try {
    goesOn = holds(step.spec.if, scopeOf(step, { isCondition: true }))
  } catch (error) {
    step.log.error(error.message)
  }
  if (!goesOn) step.stop.request('cancel')
}

async function perform(step) {
  const { frame, record, stop, spec } = step
  const { job } = frame
  const forget = frame.stop?.onRequest((reason) => reason === 'timeout' && stop.request(reason))
  step.files = openFiles(path.join(job.temp, '_runner_file_commands'), job.nextNumber())
  let timer
  let result
  try {
    record.name = interpolate(nameOf(spec), scopeOf(step)).split('\n')[0]
    if (!frame.isEmbedded) job.onStart(record)
    const minutes = Number(interpolateTyped(spec['timeout-minutes'], scopeOf(step)))
    if (minutes > 0) timer = setTimeout(() => stop.request('timeout'), (minutes * 60_000) / job.timeScale)
    result = await Promise.race([spec.uses === undefined ? runScript(step) : runAction(step), job.gone])
  } catch (error) {
    step.log.error(error.message)
    result = 'failure'
  } finally {
    clearTimeout(timer)
    forget?.()
  }
  if (job.isGone) return null
  const ofCommands = step.log.hasFailed ? 'failure' : 'success'
  step.log.hasFailed = false
  return merge(endOf(step, result), takeFiles(step), ofCommands)
}

/** A step that was asked to end has not ended by itself, whatever its process says. */
function endOf({ log, frame, record, stop }, result) {
  if (stop.reason === 'cancel' && !record.steps) log.error('The operation was canceled.')
  if (stop.reason === 'timeout' && !frame.isEmbedded) log.error('The action has timed out.')
  return { cancel: 'cancelled', timeout: 'failure' }[stop.reason] ?? result
}

/** The worst of several results. */
function merge(...results) {
  return ['cancelled', 'failure'].find((result) => results.includes(result)) ?? 'success'
}

/** Makes known what the step has written to its files. */
function takeFiles({ files, frame, record, log }) {
  let result = 'success'
  const { outputs, env, paths, summary } = files.read((message, { isFatal }) => {
    log.error(message)
    if (isFatal) result = 'failure'
  })
  Object.assign(record.outputs, outputs)
  Object.assign(frame.job.env, env)
  frame.job.addPaths(paths)
  record.summary += frame.job.masker.mask(summary)
  return result
}

function complete(step, result) {
  const { record, frame, spec } = step
  record.outcome = result
  record.conclusion = result === 'failure' && continuesOnError(step) ? 'success' : result
  if (record.conclusion === 'failure' || (frame.isEmbedded && record.conclusion === 'cancelled')) {
    frame.status = merge(frame.status, record.conclusion)
  }
  if (frame.isEmbedded) frame.parent.summary += record.summary
  const { outputs, outcome, conclusion } = record
  if (spec.id) frame.steps[spec.id] = { outputs, outcome, conclusion }
}

function continuesOnError(step) {
  try {
    return interpolateTyped(step.spec['continue-on-error'], scopeOf(step)) === true
  } catch (error) {
    step.log.error(error.message)
    return false
  }
}

async function runScript(step) {
  const { spec, frame, log, stop } = step
  const { job } = frame
  const scope = scopeOf(step)
  const defaults = frame.isEmbedded ? {} : job.runDefaults
  const shell = interpolate(spec.shell ?? defaults.shell ?? 'default', scope)
  const form = SHELLS[shell] ?? shell
  if (!form.includes('{0}')) throw new Error(`Invalid shell option: ${shell}`)
  const script = path.join(job.temp, `${job.nextNumber()}.sh`)
  const text = interpolate(spec.run, scope)
  writeFileSync(script, text)
  printHeader(step, text, form)
  const [command, ...args] = form.split(/\s+/).map((word) => word.replace('{0}', script))
  const folder = spec['working-directory'] ?? defaults['working-directory'] ?? ''
  const cwd = path.resolve(job.workspace, interpolate(folder, scope))
  const common = { env: job.processEnv(step), onLine: (line) => log.take(line), stop, timeScale: job.timeScale }
  const { code, signal } = await runProcess({ command, args, cwd, ...common })
  if (code === 0) return 'success'
  if (!stop.reason) log.error(`Process completed with exit code ${code ?? 128 + constants.signals[signal]}.`)
  return 'failure'
}

/** As GitHub shows a script before it runs: with every expression replaced, and with the variables of the step. */
function printHeader({ log, env }, text, form) {
  const [first, ...more] = text.trim().split('\n')
  const variables = Object.entries(env).map(([name, value]) => `  ${name}: ${value}`)
  const all = [`Run ${first}`, first, ...more, `shell: ${form}`, ...(variables.length > 0 ? ['env:'] : []), ...variables]
  printGroup(log, all)
}

function printGroup(log, [title, ...lines]) {
  for (const line of [`##[group]${title}`, ...lines, '##[endgroup]']) log.show(line, { isHeader: true })
}

/** A local action is run from its file; for any other the test has a stand-in: a function, or a folder with an action. */
async function runAction(step) {
  const { spec, frame, record, log } = step
  const { job } = frame
  const given = interpolateAll(spec.with, scopeOf(step))
  printGroup(log, [`Run ${spec.uses}`, ...Object.entries(given).map(([name, value]) => `  ${name}: ${value}`)])
  if (spec.uses.startsWith('./')) return runComposite(step, path.join(job.workspace, spec.uses), given)
  const standIn = job.actions[spec.uses] ?? job.actions[spec.uses.split('@')[0]]
  if (typeof standIn === 'string') return runComposite(step, standIn, given)
  if (!standIn) throw new Error(`there is no stand-in for ${spec.uses}`)
  const machine = { workspace: job.workspace, env: job.processEnv(step), job: job.id }
  Object.assign(record.outputs, await standIn({ ...machine, with: given, log: (line) => log.take(line) }))
  return 'success'
}

async function runComposite(step, folder, given) {
  const { frame, record, log, stop } = step
  const { job } = frame
  const action = readAction(folder)
  const declared = action.inputs ?? {}
  const unexpected = Object.keys(given).filter((name) => !(name in declared))
  if (unexpected.length > 0) log.annotate('warning', `Unexpected input(s) '${unexpected.join("', '")}'`)
  const defaults = Object.entries(declared).map(([name, input]) => [name, input?.default ?? ''])
  const inner = {
    job, log, stop, steps: {}, records: [], status: 'success', isEmbedded: true, parent: record,
    inputs: { ...interpolateAll(Object.fromEntries(defaults), scopeOf(step)), ...given },
    github: { action_path: folder },
    env: () => ({ ...frame.env(), ...step.own }),
  }
  record.steps = inner.records
  await runSteps(action.runs.steps, inner)
  const scope = scopeOf({ ...step, frame: inner })
  for (const [name, { value }] of Object.entries(action.outputs ?? {})) record.outputs[name] = interpolate(value, scope)
  return inner.status
}

/** What the expressions of a step may name. Secrets are not for conditions, nor for the inside of an action. */
function scopeOf({ frame, env, files, action }, { isCondition = false } = {}) {
  const { job } = frame
  const { secrets, ...contexts } = job.contexts()
  const github = { ...contexts.github, ...frame.github, ...files?.context, action }
  const values = { ...contexts, github, env, steps: frame.steps, inputs: frame.inputs }
  if (!isCondition && !frame.isEmbedded) values.secrets = secrets
  const functions = {
    always: () => true,
    cancelled: () => job.isCancelled,
    failure: () => frame.status === 'failure' && (frame.isEmbedded || !job.isCancelled),
    success: () => frame.status === 'success' && !job.isCancelled,
  }
  return { values, functions: isCondition ? functions : {} }
}

function nameOf({ name, run, uses }) {
  return String(name ?? `Run ${uses ?? run.trimStart().split('\n')[0]}`)
}

module.exports = { runSteps }

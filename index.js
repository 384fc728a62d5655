'use strict'

const native = require('./native.js')

/**
 * Provisions one VM for one job. What it takes and returns: `index.d.ts`.
 *
 * Being `async`, it never throws; being JavaScript, its errors carry the caller's stack. It awaits what it returns, as do
 * all below, because the stacks of Bun go back through awaits only.
 */
async function provisionVM(params, options) {
  return await call('provisionVM', native.provisionVm, { params: toData(params) }, options)
}

/**
 * Provisions many jobs. What it takes and returns: `index.d.ts`.
 *
 * It begins at once, and goes on whether anybody iterates or not: jobs settle by themselves, and are kept until they are asked for.
 */
function provisionMany(jobs, options) {
  const settled = []
  let end, tellNews
  let news = new Promise((resolve) => (tellNews = resolve))
  const changed = () => {
    tellNews()
    news = new Promise((resolve) => (tellNews = resolve))
  }
  const onJob = (job) => {
    settled.push(job)
    changed()
  }
  const summary = (async () => await callForMany(jobs, options, onJob))()
  // Who only iterates hears of a failure there, and who does not has the summary.
  summary.then(() => ({}), (error) => ({ error })).then((how) => {
    end = how
    changed()
  })
  async function* results() {
    for (let next = 0; ; ) {
      if (next < settled.length) yield settled[next++]
      else if (end?.error) throw end.error
      else if (end) return
      else await news
    }
  }
  return { summary, [Symbol.asyncIterator]: results }
}

/** One call of the core for many jobs. Each job is data by itself, so that a thousand are not too much for one. */
async function callForMany(jobs, options, onJob) {
  if (typeof jobs?.[Symbol.iterator] !== 'function' || typeof jobs === 'string') refuse('jobs', 'expected a list of jobs')
  const data = []
  // Each at once: who makes them one by one may change the one before.
  for (const job of jobs) data.push(toData(job))
  const settle = (index, outcome) => {
    const { jobId } = data[index] ?? {}
    const job = { index, jobId: typeof jobId === 'string' ? jobId : undefined, ...outcome }
    onJob(job)
    return job
  }
  return await call('provisionMany', native.provisionMany, { jobs: data }, options, settle)
}

/** Finds what dead attempts left, and finishes or removes it. What it takes and returns: `index.d.ts`. */
async function reap(options) {
  return await call('reap', native.reap, {}, options)
}

/** Removes what stands for a job, with all that hangs on it. What it takes and returns: `index.d.ts`. */
async function deprovisionVM(target, options) {
  return await call('deprovisionVM', native.deprovisionVm, { target: toData(target) }, options)
}

/** Removes what runs of a workflow left of a job. What it takes and returns: `index.d.ts`. */
async function cleanUpRun(target, options) {
  return await call('cleanUpRun', native.cleanUpRun, { target: toData(target) }, options)
}

/** Looks where a job stands. What it takes and returns: `index.d.ts`. */
async function getProvisioning(target, options) {
  return await call('getProvisioning', native.getProvisioning, { target: toData(target) }, options)
}

// The functions of the app's old modules, by their old names. What they take and return: `index.d.ts`.

const createServer = (config, options) => perform('createServer', { config }, options)
const waitForAction = async (id, polling, options) =>
  (await perform('waitForAction', { id }, joined(polling, options))).action
const deleteServer = (id, options) => perform('deleteServer', { id }, options)
const shutdownServer = (id, options) => perform('shutdownServer', { id }, options)
const powerOnServer = (id, options) => perform('powerOnServer', { id }, options)
const powerOffServer = (id, options) => perform('powerOffServer', { id }, options)
const getOAuthToken = (options) => perform('getOAuthToken', {}, options)
const createAuthKey = (options) => perform('createAuthKey', {}, options)
const verifyEnrollment = async (hostname, polling, options) =>
  await perform('verifyEnrollment', { hostname }, joined(polling, options))
const listDevices = async (options) => (await perform('listDevices', {}, options)).devices ?? []
const deleteDevice = (id, options) => perform('deleteDevice', { id }, options)
const findDeviceByIp = (ip, options) => perform('findDeviceByIp', { ip }, options)
const generateCloudInitConfig = (params, options) => renderFirstBoot(params, options, false)
const generateSnapshotCloudInitConfig = (params, options) => renderFirstBoot(params, options, true)

const listVMs = (options) => look('listVMs', {}, options)
const plan = (params, options) => look('plan', toData(params), options)
const doctor = (what, options) => look('doctor', toData(what) ?? {}, options)

/** One look at more than a job. */
async function look(survey, params, options) {
  return JSON.parse(await call(survey, native.survey, { survey, params }, options))
}

/** One operation by its name. */
async function perform(operation, args, options) {
  const text = await call(operation, native.perform, { operation, args: toData(args) }, options)
  // Nothing was found, or there is nothing to say.
  return text === undefined || text === null ? undefined : JSON.parse(text)
}

/** As in the old modules, this one does not wait for anything, so it throws instead of rejecting. */
function renderFirstBoot(params, given, isSnapshot) {
  // `Array.prototype.map` passes the index, and took none for the old functions.
  const options = typeof given === 'number' ? undefined : given
  const input = JSON.stringify({ params: toData(params), options: toData(options), isSnapshot })
  const { value, fault } = native.renderFirstBoot(input)
  if (fault) throw new ProvisionError(fault)
  return JSON.parse(value)
}

/** The polling of the old modules and the options of this package, in one object; the latter win. */
function joined(polling, options) {
  const isObject = (it) => typeof it === 'object' && it !== null && !Array.isArray(it)
  // What is no object is for the core to refuse.
  if (!isObject(polling)) return polling ?? options
  if (!isObject(options)) return options ?? polling
  const names = [...Object.keys(polling), ...Object.keys(options)]
  return Object.fromEntries(names.map((name) => [name, read(options, name) ?? read(polling, name)]))
}

/**
 * One call of the core: data in, data out, with what JavaScript alone can do around it. With `settle` it is one for many jobs,
 * which is told how each of them ended and returns what `onSettled` hears.
 */
async function call(name, run, what, options, settle) {
  const count = begin(name)
  try {
    const value = await perceive(name, run, what, options, settle)
    count('ok')
    return value
  } catch (error) {
    count(error.code ?? 'INTERNAL')
    throw error
  }
}

async function perceive(name, run, what, options, settle) {
  const kinds = settle ? { ...OWN_OPTIONS, onSettled: OWN_OPTIONS.onProgress } : OWN_OPTIONS
  const { signal, onProgress, onSecret, onSpan, onSettled, traceparent, bootReports, env, logger, others } = takeOptions(options, kinds)
  const trace = onSpan && { name, parent: toData(traceparent) }
  const input = JSON.stringify({ ...what, options: toData(others), env: pickSettings(env), trace })
  // Some loggers with methods are functions themselves.
  const takesLines = logger && hasMethods(logger, 'info', 'warn')
  const log = guard('logger', (event) =>
    takesLines ? logger[event.level](`[${event.scope}] ${event.message}`) : logger(event),
  )
  const report = guard('onProgress', onProgress)
  const tellSpan = guard('onSpan', onSpan)
  const onEvent = (event) => {
    // `null` says that everything has arrived.
    if (event === null) return
    if (event.span !== undefined) return tellSpan(JSON.parse(event.span))
    if (logger) log(event)
    if (onProgress) report(event)
  }
  const tellSecret = guard('onSecret', onSecret)
  const onMinted = (secret) => {
    if (secret !== null) tellSecret(secret)
  }
  // Where nobody listens, nothing is said.
  const ears = [logger || onProgress || onSpan ? onEvent : null, onSecret ? onMinted : null]

  const tellSettled = guard('onSettled', onSettled)
  const arrivals = []
  const arrive = async ({ index, value, fault }) => {
    const reason = fault && failure(await heedReports(fault, bootReports), signal)
    const job = settle(index, reason ? { status: 'rejected', reason } : { status: 'fulfilled', value })
    if (onSettled) tellSettled(job)
  }
  const onJob = (job) => {
    if (job !== null) arrivals.push(arrive(job))
  }

  const cancel = new native.Cancel()
  const abort = () => cancel.cancel()
  if (signal?.aborted) abort()
  else signal?.addEventListener('abort', abort, { once: true })
  try {
    const { value, fault } = await run(input, cancel, ...ears, ...(settle ? [onJob] : []))
    await Promise.all(arrivals)
    if (fault) throw failure(await heedReports(fault, bootReports), signal)
    return value
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** Calls of this process by function and outcome, and those that are under way. */
const calls = new Map()
let underway = 0

/** Counts a call; what it returns is told how it ended. */
function begin(name) {
  const began = performance.now()
  underway += 1
  return (outcome) => {
    underway -= 1
    const key = `${name} ${outcome}`
    const known = calls.get(key) ?? { function: name, outcome, count: 0, seconds: 0 }
    calls.set(key, { ...known, count: known.count + 1, seconds: known.seconds + (performance.now() - began) / 1000 })
  }
}

/** What this process has done so far. What is in it: `index.d.ts`. */
function getMetrics() {
  return { underway, calls: [...calls.values()].map((it) => ({ ...it })), ...JSON.parse(native.countRequests()) }
}

/** How long to wait for what a caller kept of a machine's reports. */
const REPORTS_MS = 5000

/** The fault, with what its machine reported in the hint. Whatever goes wrong with that must not hide the fault. */
async function heedReports(fault, bootReports) {
  if (!fault.unheard || !bootReports) return fault
  const { jobId, serverName, attempt } = fault.unheard
  const complain = (why) => process.emitWarning(`bootReports: ${describe(why)}`, 'ProvisionVMWarning')
  let timer
  try {
    const late = new Promise((_, reject) => (timer = setTimeout(reject, REPORTS_MS, new Error('no answer within 5 s'))))
    const asked = (async () => await bootReports({ jobId, serverName }))()
    const reports = await Promise.race([asked, late])
    const given = Array.isArray(reports) ? reports.map(reportData) : toData(reports)
    const { hint, warnings } = native.adviseByReports(JSON.stringify({ hint: fault.hint, attempt, reports: given }))
    warnings.forEach(complain)
    return { ...fault, hint }
  } catch (error) {
    complain(error)
    return fault
  } finally {
    clearTimeout(timer)
  }
}

/** A report as data: JSON has no dates. What cannot be read is for the core to ignore. */
function reportData(report) {
  try {
    const { attempt, event, class: failure, seq, at } = report
    return toData({ attempt, event, class: failure, seq, at: new Date(at).getTime() })
  } catch {
    return null
  }
}

/** Why a VM was not provisioned, as data. */
class ProvisionError extends Error {
  constructor(fault, reason) {
    const { message, causes, unheard: _, ...data } = fault
    const cause = reason === undefined ? chain(causes) : reason
    // The outer message alone says what was tried; its causes say what happened.
    super([message, ...causes].join(': '), cause === undefined ? undefined : { cause })
    Object.assign(this, data)
  }

  /** `JSON.stringify` leaves out an error's message, and shows a cause as `{}`. */
  toJSON() {
    const cause = this.cause instanceof Error ? this.cause.message : this.cause && describe(this.cause)
    return { name: this.name, message: this.message, ...this, cause }
  }
}

/** A call that was given up: by the name that `fetch` and its kin have for it, with the signal's reason as its cause. */
class AbortError extends ProvisionError {}

// On the prototypes, where the first line of `stack` finds it.
for (const type of [ProvisionError, AbortError]) {
  Object.defineProperty(type.prototype, 'name', { value: type.name, writable: true, configurable: true })
}

/** The error of a fault. */
function failure(fault, signal) {
  return fault.code === 'ABORTED' ? new AbortError(fault, signal?.reason) : new ProvisionError(fault)
}

module.exports = {
  provisionVM,
  provisionMany,
  deprovisionVM,
  getProvisioning,
  cleanUpRun,
  reap,
  listVMs,
  plan,
  doctor,
  getMetrics,
  createServer,
  waitForAction,
  deleteServer,
  shutdownServer,
  powerOnServer,
  powerOffServer,
  getOAuthToken,
  createAuthKey,
  verifyEnrollment,
  listDevices,
  deleteDevice,
  findDeviceByIp,
  generateCloudInitConfig,
  generateSnapshotCloudInitConfig,
  isProvisionError,
  ProvisionError,
}

/** Whether an error is this package's, also if it was made by another copy of it (a bundle, a worker, a test runner). */
function isProvisionError(error) {
  if (error instanceof ProvisionError) return true
  const names = ['ProvisionError', 'AbortError']
  return names.includes(error?.name) && typeof error.code === 'string' && Array.isArray(error.leftovers)
}

/** The causes, outermost first, as a chain of errors. */
function chain(causes) {
  return causes.reduceRight((cause, message) => new Error(message, cause && { cause }), undefined)
}

/** What each option that stays in JavaScript has to be. The core reads and checks all others. */
const OWN_OPTIONS = {
  signal: ['an AbortSignal', isSignal],
  onProgress: ['a function', (it) => typeof it === 'function'],
  onSecret: ['a function', (it) => typeof it === 'function'],
  onSpan: ['a function', (it) => typeof it === 'function'],
  traceparent: ['a string', (it) => typeof it === 'string'],
  bootReports: ['a function', (it) => typeof it === 'function'],
  env: ['an object', (it) => typeof it === 'object' && Object.keys(it).length >= 0],
  logger: ['false, a function, or an object with info and warn', isLogger],
}

/** The options that stay here, checked, and all others. */
function takeOptions(options, kinds) {
  try {
    // What is no object at all is for the core to refuse.
    const isObject = typeof options === 'object' && options !== null && !Array.isArray(options)
    const own = Object.fromEntries(Object.keys(kinds).map((name) => [name, isObject ? takeOwn(options, name, kinds) : undefined]))
    // The environment is looked at now: a worker thread has its own, and Next.js fills it late.
    own.env ??= process.env
    own.logger ??= { info: console.log, warn: console.warn }
    const others = isObject ? Object.keys(options).filter((name) => !(name in kinds)) : undefined
    return { ...own, others: others ? Object.fromEntries(others.map((name) => [name, read(options, name)])) : options }
  } catch (error) {
    if (error instanceof ProvisionError) throw error
    return refuse('options', 'cannot be read')
  }
}

function takeOwn(options, name, kinds) {
  const [wanted, fits] = kinds[name]
  const value = read(options, name) ?? undefined
  let isFit = value === undefined
  try {
    isFit ||= fits(value)
  } catch {
    // A getter of its own that throws: it is not what is wanted.
  }
  return isFit ? value : refuse(`options.${name}`, `expected ${wanted}`)
}

function isSignal(it) {
  return typeof it.aborted === 'boolean' && hasMethods(it, 'addEventListener', 'removeEventListener')
}

function isLogger(it) {
  return it === false || typeof it === 'function' || hasMethods(it, 'info', 'warn')
}

function hasMethods(it, ...names) {
  return names.every((name) => typeof it[name] === 'function')
}

function refuse(field, why) {
  const hint = 'Correct the named argument; its type is in index.d.ts.'
  const rest = { retryable: false, attempts: [], requestIds: [], leftovers: [], hint, causes: [] }
  throw new ProvisionError({ code: 'INVALID_INPUT', step: 'validate', message: `${field}: ${why}`, field, ...rest })
}

/** Only what the core reads crosses over. */
function pickSettings(env) {
  return Object.fromEntries(native.settingNames().map((name) => [name, toData(read(env, name))]))
}

/** Deeper than any argument of ours, and larger; what lies beyond is refused as circular. */
const DEEPEST = 16
const LARGEST = 10_000

/** Stands for what threw when it was looked at. */
const UNREADABLE = Symbol('unreadable')

/**
 * A copy that JSON can hold. What it cannot hold becomes a mark, so that the core can name its path.
 *
 * In plain loops, because what iterators leave behind for a thousand jobs is half a megabyte that the process keeps.
 */
function toData(value, depth = 0, room = { left: LARGEST }) {
  room.left -= 1
  switch (typeof value) {
    case 'function':
    case 'bigint':
      return { $unsupported: typeof value }
    case 'symbol':
      return { $unsupported: value === UNREADABLE ? 'unreadable' : 'symbol' }
    case 'number':
      return Number.isFinite(value) ? value : { $unsupported: 'number' }
    case 'string':
      return value.isWellFormed() ? value : { $unsupported: 'text' }
    case 'object':
      break
    default:
      return value
  }
  if (value === null) return null
  if (depth > DEEPEST || room.left < 0) return { $unsupported: 'circular' }
  try {
    if (Array.isArray(value)) return listData(value, depth, room)
    const copy = {}
    const keys = Object.keys(value)
    for (let at = 0; at < keys.length; at += 1) {
      put(copy, keys[at].toWellFormed(), toData(read(value, keys[at]), depth + 1, room))
    }
    return copy
  } catch {
    return { $unsupported: 'unreadable' }
  }
}

function listData(list, depth, room) {
  const copy = []
  for (let at = 0; at < list.length; at += 1) copy.push(toData(read(list, at), depth + 1, room))
  return copy
}

/** Sets a field, also the one that would set the prototype if it were assigned. */
function put(object, name, value) {
  if (name !== '__proto__') object[name] = value
  else Object.defineProperty(object, name, { value, enumerable: true })
}

/** A getter that throws is no reason to break off without naming the argument. */
function read(object, key) {
  try {
    return object[key]
  } catch {
    return UNREADABLE
  }
}

/** A caller's function that fails must not end the job, nor the process. */
function guard(name, call) {
  const complain = (error) => process.emitWarning(`${name} failed: ${describe(error)}`, 'ProvisionVMWarning')
  return (argument) => {
    try {
      const result = call(argument)
      if (typeof result?.then === 'function') result.then(undefined, complain)
    } catch (error) {
      complain(error)
    }
  }
}

/** Anything can be thrown, and not everything can be a text. */
function describe(error) {
  try {
    return String(error)
  } catch {
    return typeof error
  }
}

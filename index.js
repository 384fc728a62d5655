'use strict'

const native = load()

/**
 * Provisions one VM for one job. What it takes and returns: `index.d.ts`.
 *
 * Being `async`, it never throws; being JavaScript, its errors carry the caller's stack.
 */
async function provisionVM(params, options) {
  return call(native.provisionVm, { params: toData(params) }, options)
}

/** Finds what dead attempts left, and finishes or removes it. What it takes and returns: `index.d.ts`. */
async function reap(options) {
  return call(native.reap, {}, options)
}

/** One call of the core: data in, data out, with what JavaScript alone can do around it. */
async function call(run, what, options) {
  const { signal, onProgress, onSecret, env, logger, others } = takeOptions(options)
  const input = JSON.stringify({ ...what, options: toData(others), env: pickSettings(env) })
  const log = guard('logger', (event) => logger[event.level](`[${event.scope}] ${event.message}`))
  const report = guard('onProgress', onProgress)
  const onEvent = (event) => {
    // `null` says that everything has arrived.
    if (event === null) return
    if (logger) log(event)
    if (onProgress) report(event)
  }
  const tellSecret = guard('onSecret', onSecret)
  const onMinted = (secret) => {
    if (secret !== null && onSecret) tellSecret(secret)
  }

  const cancel = new native.Cancel()
  const abort = () => cancel.cancel()
  if (signal?.aborted) abort()
  else signal?.addEventListener('abort', abort, { once: true })
  try {
    const { value, fault } = await run(input, cancel, onEvent, onMinted)
    if (fault) throw new ProvisionError(fault, fault.code === 'ABORTED' ? signal?.reason : undefined)
    return value
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** Why a VM was not provisioned, as data. */
class ProvisionError extends Error {
  constructor(fault, reason) {
    const { message, causes, ...data } = fault
    const cause = reason === undefined ? chain(causes) : reason
    // The outer message alone says what was tried; its causes say what happened.
    super([message, ...causes].join(': '), cause === undefined ? undefined : { cause })
    Object.assign(this, data)
  }

  /** `JSON.stringify` leaves out an error's message, and shows a cause as `{}`. */
  toJSON() {
    const cause = this.cause instanceof Error ? this.cause.message : this.cause && String(this.cause)
    return { name: this.name, message: this.message, ...this, cause }
  }
}
// On the prototype, where the first line of `stack` finds it.
Object.defineProperty(ProvisionError.prototype, 'name', { value: 'ProvisionError', writable: true, configurable: true })

module.exports = { provisionVM, reap, ProvisionError }

/** The causes, outermost first, as a chain of errors. */
function chain(causes) {
  return causes.reduceRight((cause, message) => new Error(message, cause && { cause }), undefined)
}

/** What each option that stays in JavaScript has to be. The core reads and checks all others. */
const OWN_OPTIONS = {
  signal: ['an AbortSignal', (it) => typeof it.aborted === 'boolean' && typeof it.addEventListener === 'function'],
  onProgress: ['a function', (it) => typeof it === 'function'],
  onSecret: ['a function', (it) => typeof it === 'function'],
  env: ['an object', (it) => typeof it === 'object' && Object.keys(it).length >= 0],
  logger: ['false or an object with info and warn', isLogger],
}

/** The options that stay here, checked, and all others. */
function takeOptions(options) {
  try {
    // What is no object at all is for the core to refuse.
    const isObject = typeof options === 'object' && options !== null && !Array.isArray(options)
    const own = Object.fromEntries(Object.keys(OWN_OPTIONS).map((name) => [name, isObject ? takeOwn(options, name) : undefined]))
    // The environment is looked at now: a worker thread has its own, and Next.js fills it late.
    own.env ??= process.env
    own.logger ??= { info: console.log, warn: console.warn }
    const others = isObject ? Object.keys(options).filter((name) => !(name in OWN_OPTIONS)) : undefined
    return { ...own, others: others ? Object.fromEntries(others.map((name) => [name, read(options, name)])) : options }
  } catch (error) {
    if (error instanceof ProvisionError) throw error
    return refuse('options', 'cannot be read')
  }
}

function takeOwn(options, name) {
  const [wanted, fits] = OWN_OPTIONS[name]
  const value = read(options, name) ?? undefined
  let isFit = value === undefined
  try {
    isFit ||= fits(value)
  } catch {
    // A getter of its own that throws: it is not what is wanted.
  }
  return isFit ? value : refuse(`options.${name}`, `expected ${wanted}`)
}

function isLogger(it) {
  return it === false || (typeof it === 'object' && typeof it.info === 'function' && typeof it.warn === 'function')
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

/** A copy that JSON can hold. What it cannot hold becomes a mark, so that the core can name its path. */
function toData(value, depth = 0, room = { left: LARGEST }) {
  const copy = (item) => toData(item, depth + 1, room)
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
    if (Array.isArray(value)) return Array.from(value.keys(), (index) => copy(read(value, index)))
    return Object.fromEntries(Object.keys(value).map((key) => [key.toWellFormed(), copy(read(value, key))]))
  } catch {
    return { $unsupported: 'unreadable' }
  }
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

/** The generated loader blames a bug of npm for a missing binary; the usual reason is the platform. */
function load() {
  try {
    return require('./native.js')
  } catch (cause) {
    const where = `${process.platform}-${process.arch}, Node.js ${process.versions.node}`
    throw new Error(`provision-vm has no native module for this place (${where}), or it may not be loaded here`, { cause })
  }
}

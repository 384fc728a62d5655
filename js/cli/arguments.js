'use strict'

// What was typed, as data. A mistake is told with what was probably meant, and before anything is done.

const { readFileSync } = require('node:fs')
const { parseArgs } = require('node:util')

const { nearest } = require('./nearest.js')

/** What every command takes. */
const COMMON = {
  json: { says: 'one JSON document on standard output, and nothing else there' },
  help: { short: 'h', says: 'this text' },
}

/** What every command takes that calls the module. */
const CALL = {
  timeout: { value: 'SECONDS', read: readLimit, option: 'timeoutMs', says: 'give up after this long; the undo has a minute more' },
}

/** A mistake in the arguments, or in what this program itself is told by the environment. */
class UsageError extends Error {
  constructor(message, hint, code = 'INVALID_INPUT') {
    super(message)
    Object.assign(this, { code, step: 'validate', hint, leftovers: [] })
  }

  /** `JSON.stringify` leaves out an error's message. */
  toJSON() {
    return { name: this.name, message: this.message, ...this }
  }
}
Object.defineProperty(UsageError.prototype, 'name', { value: 'UsageError', writable: true, configurable: true })

/** Reads the arguments: `name` of the command, `operand`, `flags`, and `wants` if only `help` or `version` is asked for. */
function readArguments(args, commands) {
  const at = args.findIndex((arg) => !arg.startsWith('-'))
  if (at < 0) return readWithoutCommand(args)
  const [name, others] = [args[at], args.toSpliced(at, 1)]
  if (name === 'help') return readHelp(others, commands)
  if (!Object.hasOwn(commands, name)) throw unknownCommand(name, commands, at > 0 ? others.slice(at) : [])
  const command = commands[name]
  const spec = flagsOf(command)
  const { flags, operands } = readFlags(name, others, spec)
  if (flags.help) return { wants: 'help', name }
  return { name, flags, operand: readOperand(name, command, operands, flags) }
}

/** All flags of a command. */
function flagsOf(command) {
  return { ...command.flags, ...(command.runsAlone ? {} : CALL), ...COMMON }
}

/** The options of the module that the flags stand for. */
function optionsOf(command, flags) {
  const options = {}
  for (const [name, { option, means, gather }] of Object.entries(command.flags)) {
    if (!option || flags[name] === undefined) continue
    const value = means ?? (gather ? gather(flags[name]) : flags[name])
    options[option] = typeof means === 'object' ? { ...options[option], ...means } : value
  }
  return options
}

module.exports = { UsageError, flagsOf, optionsOf, readArguments, readFile, readLimit, readNumber, readPair, readSeconds }

function readWithoutCommand(args) {
  const { flags } = readFlags('', args, { ...COMMON, version: {} })
  if (flags.version) return { wants: 'version' }
  if (flags.help) return { wants: 'help' }
  throw new UsageError('expected a command', 'provision-vm --help has all of them, with examples.')
}

function readHelp(others, commands) {
  const [name] = others.filter((arg) => !arg.startsWith('-'))
  if (name !== undefined && !Object.hasOwn(commands, name)) throw unknownCommand(name, commands)
  return { wants: 'help', name }
}

/** What people are used to type elsewhere. */
const OTHER_WORDS = {
  __proto__: null,
  ls: 'list',
  ps: 'list',
  rm: 'destroy',
  remove: 'destroy',
  delete: 'destroy',
  deprovision: 'destroy',
  create: 'provision',
  up: 'provision',
  get: 'status',
  show: 'status',
  preview: 'plan',
  cleanup: 'reap',
  check: 'doctor',
  simulator: 'simulate',
}

/** What stands `behind` it may be the command, if the value of a flag was taken for one. */
function unknownCommand(name, commands, behind = []) {
  const command = behind.find((arg) => Object.hasOwn(commands, arg))
  if (command) return new UsageError(`expected a command before ${JSON.stringify(name)}`, `Flags with values stand behind the command: provision-vm ${command} ...`)
  const meant = OTHER_WORDS[name] ?? nearest(name, Object.keys(commands))
  const hint = meant ? `Did you mean ${meant}?` : `There are ${Object.keys(commands).join(', ')}.`
  return new UsageError(`unknown command ${JSON.stringify(name)}`, `${hint} provision-vm --help says more.`)
}

/** Reads flags and operands. Not strict, because its own complaints know nothing of what was probably meant. */
function readFlags(name, args, spec) {
  const options = Object.fromEntries(
    Object.entries(spec).map(([flag, { value, short }]) => [flag, { type: value ? 'string' : 'boolean', ...(short ? { short } : {}) }]),
  )
  const { tokens } = parseArgs({ args, options, strict: false, allowPositionals: true, tokens: true })
  const [flags, operands] = [{}, []]
  const say = (text, hint = helpFor(name)) => new UsageError([name, text].filter(Boolean).join(': '), hint)
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value)
    if (token.kind !== 'option') continue
    if (!Object.hasOwn(spec, token.name)) throw say(`unknown flag ${token.rawName}`, hintFor(name, token, spec))
    const { value, read = (text) => text, many } = spec[token.name]
    const isMissing = token.value === undefined || (!token.inlineValue && token.value.startsWith('-') && token.value !== '-')
    if (value && isMissing) throw say(`${token.rawName} needs a value: ${value}`)
    if (!value && token.value !== undefined) throw say(`${token.rawName} takes no value`)
    const result = value ? read(token.value, (why) => say(`${token.rawName}: ${why}`)) : true
    flags[token.name] = many ? [...(flags[token.name] ?? []), result] : result
  }
  return { flags, operands }
}

function hintFor(name, token, spec) {
  const meant = nearest(token.name, Object.keys(spec).filter((flag) => flag.length > 1))
  return `${meant ? `Did you mean --${meant}? ` : ''}${helpFor(name)}`
}

function helpFor(name) {
  return `${['provision-vm', name, '--help'].filter(Boolean).join(' ')} has all flags.`
}

/** A command takes one operand or none; `instead` are flags that stand for it. */
function readOperand(name, { operand, instead = [], required = [] }, operands, flags) {
  const most = operand ? 1 : 0
  const say = (text) => new UsageError(`${name}: ${text}`, helpFor(name).replace('all flags', 'examples'))
  if (operands.length > most) throw say(`unexpected argument ${JSON.stringify(operands[most])}`)
  const standIns = instead.filter((flag) => flags[flag] !== undefined).map((flag) => `--${flag}`)
  const given = [...(operands.length > 0 ? [operand] : []), ...standIns]
  if (given.length > 1) throw say(`expected one of ${given.join(' and ')}, not both`)
  if (operand && given.length === 0) throw say(`expected ${[operand, ...instead.map((flag) => `--${flag}`)].join(' or ')}`)
  for (const flag of required) if (flags[flag] === undefined) throw say(`--${flag} is missing`)
  return operands[0]
}

/** Seconds, as milliseconds. */
function readSeconds(text, refuse) {
  if (!/^\d{1,9}(\.\d{1,3})?$/.test(text)) throw refuse(`expected seconds, such as 600, got ${JSON.stringify(text)}`)
  return Math.round(Number(text) * 1000)
}

/** How long something may take: a day at most. */
function readLimit(text, refuse) {
  const ms = readSeconds(text, refuse)
  if (ms < 1 || ms > 86_400_000) throw refuse('must be more than 0 and at most 86400 seconds')
  return ms
}

function readNumber(text, refuse) {
  if (!/^\d{1,15}$/.test(text)) throw refuse(`expected a whole number, got ${JSON.stringify(text)}`)
  return Number(text)
}

function readPair(text, refuse) {
  const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? []
  if (key === undefined) throw refuse(`expected KEY=VALUE, got ${JSON.stringify(text)}`)
  return [key, value]
}

/** What a file holds as JSON. Its contents are no part of a message: the first boot's may be confidential. */
function readFile(path, refuse) {
  let text
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw refuse(`cannot read ${path}: ${error.code}`)
  }
  try {
    return JSON.parse(text)
  } catch {
    throw refuse(`${path} is not JSON`)
  }
}

'use strict'

// What a failure is to a shell and to a person.

const { why } = require('../../scripts/support/display.js')
const { UsageError, flagsOf } = require('./arguments.js')
const { wrap } = require('./table.js')
const { describeTime } = require('./words.js')

const EXIT = { ok: 0, failed: 1, usage: 2, SIGHUP: 129, SIGINT: 130, SIGTERM: 143 }

/** The exit code of an error: a mistake, a signal after a complete undo, or a failure. */
function exitCode(error) {
  if (error.code === 'INVALID_INPUT' || error.code === 'CONFIG') return EXIT.usage
  const isUndone = error.code === 'ABORTED' && error.leftovers.length === 0
  return (isUndone && EXIT[error.signalName]) || EXIT.failed
}

/**
 * A failure in a few lines: what, what to do, what is left. Not the display's own, which is for calls that make something: a look
 * leaves nothing, and it would be odd to say so.
 */
function explain(error, { command, style, width }) {
  const { code, hint, requestIds = [], leftovers = [] } = error
  const message = inFlags(error, command)
  const makes = command?.undoes && code && error.step !== 'validate'
  const lines = [
    ...(hint ? [asFlags(hint, command)] : []),
    ...(error.retryAfterMs ? [`Try again in ${describeTime(error.retryAfterMs, Math.ceil)}.`] : []),
    ...(code ? [] : why(error)),
    ...(requestIds.length > 0 ? [`Request: ${requestIds.join(', ')}`] : []),
    ...(makes && leftovers.length === 0 ? ['Nothing was left behind.'] : []),
    ...describeLeftovers(leftovers),
  ]
  // The code of a mistake in the arguments is for programs: whoever typed them reads what was wrong with them.
  const what = code && !(error instanceof UsageError) ? `${code}: ${message}` : message
  return [`${style('red', 'error:')} ${style('bold', what)}`, ...lines.flatMap((line) => wrap(line, width - 2)).map((line) => `  ${line}`)]
}

/** A line for each thing that is still there, or may be. */
function describeLeftovers(leftovers) {
  return leftovers.map((left) => `Left behind: ${[left.kind.replace('_', ' '), left.id, left.name].filter(Boolean).join(' ')}: ${left.why}`)
}

/** What the module says of its options, with the flags that stand for them. */
function asFlags(text, command) {
  // A flag that means one value of its option does not stand for it.
  const options = Object.entries(command ? flagsOf(command) : {}).filter(([, { option, means }]) => option && (means === undefined || means === true))
  const flags = new Map(options.map(([flag, { option }]) => [option, `--${flag}`]))
  if (flags.size === 0) return text
  const known = [...flags.keys()].join('|')
  const inWords = new RegExp(`(?:the )?options? ((?:${known})(?:(?:, | and )(?:${known}))*)(?![\\w-])`, 'g')
  // Names of one word are words of prose too. What stands within something longer was typed by somebody.
  const ofTwo = [...flags.keys()].filter((name) => /[A-Z]/.test(name)).join('|')
  const alone = new RegExp(`(?<![\\w.-])(?:options\\.(${known})|(${ofTwo}))(?![\\w-])`, 'g')
  const each = (names) => names.replace(new RegExp(`\\b(?:${known})\\b`, 'g'), (name) => flags.get(name))
  const inSeconds = (_, least, most) => `between ${least / 1000} and ${most / 1000} seconds`
  const inFlags = text.replace(inWords, (_, names) => each(names)).replace(alone, (_, dotted, bare) => flags.get(dotted ?? bare))
  return inFlags.replace(/between (\d+) and (\d+) milliseconds/, inSeconds)
}

module.exports = { EXIT, asFlags, describeLeftovers, exitCode, explain }

/** The message, with what a person typed instead of the argument that this program made of it. */
function inFlags({ field, message }, command) {
  if (!command) return message
  if (typeof field !== 'string') return asFlags(message, command)
  const typed = { jobId: command.operand, agentId: '--agent', region: '--region', serverId: '--server-id', serverName: '--server-name' }
  const names = [
    ...Object.entries(typed).flatMap(([name, as]) => [[`params.${name}`, as], [`target.${name}`, as], [`what.${name}`, as]]),
    ...Object.entries(flagsOf(command)).map(([flag, { option }]) => [`options.${option}`, `--${flag}`]),
  ]
  const found = names.find(([name, as]) => as && (field === name || field.startsWith(`${name}[`) || field.startsWith(`${name}.`)))
  return asFlags(found ? message.replace(found[0], found[1]) : message, command)
}

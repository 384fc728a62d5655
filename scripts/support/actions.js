'use strict'

// What GitHub Actions reads from a step: commands among its lines, and two files.

const { appendFileSync } = require('node:fs')

/** Hides a text in the log from now on. A mask covers one line, so a text of several lines needs several. */
function mask(stream, text) {
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() !== '') stream.write(`::add-mask::${escapeData(line.trim())}\n`)
  }
}

/** What must not be seen in a log, beside the secrets that are minted on the way. */
const SECRET_SETTINGS = [
  'HETZNER_API_TOKEN',
  'TAILSCALE_OAUTH_CLIENT_SECRET',
  'TAILSCALE_AUTH_KEY',
  'BOOT_REPORT_SECRET',
  'ACTIONS_ID_TOKEN_REQUEST_TOKEN',
]

/** Hides the settings that are secret, and gives what hides others. Off Actions nobody reads commands, so nothing is said. */
function hideSettings(stream, env) {
  const hide = env.GITHUB_ACTIONS === 'true' ? (secret) => mask(stream, secret) : () => {}
  for (const name of SECRET_SETTINGS) hide(env[name] ?? '')
  return hide
}

/** Makes a failure an annotation of the run. */
function printError(stream, error, message) {
  const title = escapeProperty(error.code ?? error.name)
  const text = [message, error.hint].filter(Boolean).join('\n')
  stream.write(`::error title=${title}::${escapeData(text)}\n`)
}

/** The step's outputs. A value is written once, and again only if it changes: the runner takes the last. */
function openOutputs(file, complain) {
  const written = new Map()
  const outputs = {
    failed: false,
    set(name, value) {
      if (!file || value === undefined || written.get(name) === value) return
      written.set(name, value)
      outputs.failed = !append(file, `${name}=${oneLine(value)}\n`, complain) || outputs.failed
    },
  }
  return outputs
}

/** Makes a warning an annotation of the run. */
function printWarning(stream, title, message) {
  stream.write(`::warning title=${escapeProperty(title)}::${escapeData(message)}\n`)
}

/** Folds the lines that follow, until `endgroup`. */
function beginGroup(stream, title) {
  stream.write(`::group::${escapeData(title)}\n`)
}

function endGroup(stream) {
  stream.write('::endgroup::\n')
}

/** What a later step is to say of this one's failure. */
function appendError(env, step, message) {
  const outputs = openOutputs(env.GITHUB_OUTPUT, (complaint) => console.error(complaint))
  outputs.set('error', message)
  outputs.set('failed_step', step)
}

module.exports = { append, appendError, beginGroup, endGroup, hideSettings, mask, openOutputs, printError, printWarning }

/** Appends to one of the files, and says whether it could. */
function append(file, text, complain) {
  try {
    appendFileSync(file, text)
    return true
  } catch (error) {
    complain(`cannot write to ${file}: ${error.message}`)
    return false
  }
}

/** A later step gets it in its environment, where a variable that is too long keeps the step from starting at all. */
const LONGEST_OUTPUT = 4000

/** A line break in a value would begin another output. */
function oneLine(value) {
  return String(value).replace(/[\r\n]+/g, ' ').slice(0, LONGEST_OUTPUT)
}

function escapeData(text) {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
}

function escapeProperty(text) {
  return escapeData(text).replaceAll(':', '%3A').replaceAll(',', '%2C')
}

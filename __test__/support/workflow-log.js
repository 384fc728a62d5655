'use strict'

// What a step says: its lines, the commands among them, and what must not be seen.

/** Hides texts, as the runner of one job does: a secret hidden in one job is not hidden in another. */
class Masker {
  constructor(secrets = []) {
    this.hidden = new Set()
    for (const secret of secrets) this.hide(secret)
  }

  /** Hides a value, each of its lines, and the forms in which it may travel. */
  hide(value) {
    for (const text of [value, ...value.split(/[\r\n]+/)]) {
      if (text.trim() !== '') for (const form of formsOf(text)) this.hidden.add(form)
    }
    this.longestFirst = [...this.hidden].sort((a, b) => b.length - a.length)
  }

  mask(text) {
    return (this.longestFirst ?? []).reduce((masked, secret) => masked.replaceAll(secret, '***'), text)
  }
}

/** As the runner does it: the value itself, in JSON, in an address, and in Base64 at each of the three offsets. */
function formsOf(text) {
  const bytes = Buffer.from(text)
  const shifts = [0, 1, 2].filter((shift) => bytes.length > shift + 3)
  const shifted = shifts.map((shift) => bytes.subarray(shift).toString('base64'))
  return [text, JSON.stringify(text).slice(1, -1), encodeURIComponent(text), ...shifted]
}

const LEVELS = ['error', 'warning', 'notice']

/** Commands that GitHub still obeys, with a warning, and nobody should give: here they do nothing. */
const DEPRECATED = ['set-output', 'save-state']

/** Commands that GitHub refuses: the step fails. */
const REFUSED = ['set-env', 'add-path']

const OTHERS = ['add-mask', 'debug', 'echo', 'group', 'endgroup', 'add-matcher', 'remove-matcher']
const COMMANDS = [...LEVELS, ...DEPRECATED, ...REFUSED, ...OTHERS]

/**
 * The log of one step. `where` is what its annotations say of their origin; `onLine` gets every line as it is shown;
 * `hasFailed` tells whether a command was so bad that the step fails. Nothing more is heard of it once it `isMuted`.
 */
class StepLog {
  constructor({ masker, where, isMuted, onLine, onAnnotation, onMisuse }) {
    Object.assign(this, { masker, where, isMuted, onLine, onAnnotation, onMisuse })
    this.lines = []
    this.hasFailed = false
    this.stopToken = undefined
  }

  textFrom(index) {
    return this.lines.slice(index).map((line) => `${line}\n`).join('')
  }

  /** A line that the step's process has written. */
  take(line) {
    const command = parseCommand(line)
    if (!command || !this.obey(command, line)) this.show(line)
  }

  /** A line for people to see; masked by what is known at this moment. A header comes before the step runs. */
  show(line, { isHeader = false } = {}) {
    if (this.isMuted()) return
    const masked = this.masker.mask(line)
    this.lines.push(masked)
    this.onLine(masked, { isHeader, raw: line })
  }

  /** An annotation of the run, and a line. */
  annotate(level, message, properties = {}) {
    if (!this.isMuted()) this.onAnnotation({ ...this.where, level, message: this.masker.mask(message), ...properties })
    this.show(`##[${level}]${message}`)
  }

  error(message) {
    this.annotate('error', message)
  }

  /** Whether the line was a command, and is not shown. */
  obey({ name, properties, data }, line) {
    if (this.stopToken !== undefined) {
      if (name !== this.stopToken) return false
      this.stopToken = undefined
      return this.echo(line)
    }
    if (name === 'stop-commands') {
      this.stopToken = data.toLowerCase()
      return this.echo(line)
    }
    if (!COMMANDS.includes(name)) return false
    if (name === 'add-mask') this.hide(data)
    else if (LEVELS.includes(name)) this.annotate(name, data, properties)
    else if (name === 'group') this.group(data)
    else if (name === 'endgroup') this.show('##[endgroup]')
    else if (DEPRECATED.includes(name) || REFUSED.includes(name)) this.misuse(name, line)
    return true
  }

  hide(value) {
    if (value.trim() === '') this.annotate('warning', "Can't add secret mask for empty string in ##[add-mask] command.")
    else this.masker.hide(value)
  }

  group(title) {
    this.onAnnotation({ ...this.where, level: 'group', message: this.masker.mask(title) })
    this.show(`##[group]${title}`)
  }

  misuse(name, line) {
    this.onMisuse({ ...this.where, command: name, line: this.masker.mask(line) })
    const isDeprecated = DEPRECATED.includes(name)
    if (isDeprecated) return this.annotate('warning', `The \`${name}\` command is deprecated and will be disabled soon.`)
    this.error(`Unable to process command '${line}' successfully.`)
    this.hasFailed = true
  }

  echo(line) {
    this.show(line)
    return true
  }
}

/**
 * `::name key=value,key=value::data` at the start of a line, or `##[name key=value;key=value]data` anywhere in it: the
 * runner obeys both.
 */
function parseCommand(line) {
  const [, name, properties, data] = /^\s*::([^\s:]+)((?: (?:(?!::).)*)?)::(.*)$/s.exec(line) ?? []
  if (name !== undefined) return commandOf(name, properties, ',', data)
  const [, oldName, oldProperties, oldData] = /##\[([^\s\]]+)((?: [^\]]*)?)\](.*)$/s.exec(line) ?? []
  return oldName === undefined ? undefined : commandOf(oldName, oldProperties, ';', oldData)
}

function commandOf(name, properties, separator, data) {
  return { name: name.toLowerCase(), properties: parseProperties(properties, separator), data: unescape(data) }
}

function parseProperties(text, separator) {
  const pairs = text.trim().split(separator).map((pair) => /^([^=]+)=(.+)$/s.exec(pair))
  return Object.fromEntries(pairs.filter(Boolean).map(([, name, value]) => [name, unescape(value)]))
}

function unescape(text) {
  const signs = { '0D': '\r', '0A': '\n', '3A': ':', '2C': ',', '3B': ';', '5D': ']', 25: '%' }
  return text.replace(/%(0D|0A|3A|2C|3B|5D|25)/g, (_, code) => signs[code])
}

module.exports = { Masker, StepLog }

'use strict'

// Progress for people: on a terminal a list that grows above one live line, elsewhere plain lines.

/** What goes on after the last event of a step, for the live line. */
const UNDERWAY = {
  validate: 'Looking the job up, then making an auth key',
  lookup: 'Looking the job up',
  follow: 'Following the other attempt of this job',
  auth_key: 'Preparing the first boot',
  first_boot: 'Ordering the server',
  server: 'Waiting for the server and its device',
  wait: 'Waiting for the server and its device',
  verify: 'Verifying the device',
  reach: 'Connecting to the machine over the tailnet',
  ready: 'Marking the server ready',
  undo: 'Undoing what was begun',
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const FRAME_MS = 80

const STYLES = { dim: 2, bold: 1, red: 31, green: 32, yellow: 33, cyan: 36 }

/** How a settled line begins. */
const MARKS = { done: ['✔', 'green'], warn: ['!', 'yellow'], undo: ['↺', 'yellow'], failed: ['✖', 'red'] }

/** Opens the display that fits the stream. */
function openDisplay(stream, env) {
  return stream.isTTY && env.TERM !== 'dumb' ? new LiveDisplay(stream, paint(env)) : new PlainDisplay(stream)
}

/** For what nobody watches: plain lines also on a terminal. */
function openPlainDisplay(stream) {
  return new PlainDisplay(stream)
}

class PlainDisplay {
  constructor(stream) {
    this.stream = stream
  }

  event({ scope, level, message, elapsedMs }) {
    const warning = level === 'warn' ? 'warning: ' : ''
    this.line(`[${scope}] ${warning}${message} (${seconds(elapsedMs)})`)
  }

  warn(message) {
    this.line(`[ProvisionVM] warning: ${message}`)
  }

  success(result) {
    this.line(`[ProvisionVM] ${describe(result)}`)
  }

  failure(error, message) {
    for (const line of explain(error, message)) this.line(`[ProvisionVM] ${line}`)
  }

  /** What went wrong with a call that makes nothing, and so leaves nothing. */
  trouble(scope, error) {
    const { code, message, hint } = error
    for (const line of [code ? `${code}: ${message}` : message, ...(hint ? [hint] : why(error))]) this.line(`[${scope}] ${line}`)
  }

  line(text) {
    this.stream.write(`${text}\n`)
  }
}

class LiveDisplay {
  constructor(stream, style) {
    this.stream = stream
    this.style = style
    this.began = performance.now()
    this.frame = 0
    this.underway = 'Checking input and settings'
    this.timer = setInterval(() => this.draw(), FRAME_MS)
    // The display must not outlive the job.
    this.timer.unref()
    this.stream.write('\n\x1b[?25l')
    // Whatever ends the process, the cursor comes back.
    this.restore = () => this.stream.write('\x1b[?25h')
    process.once('exit', this.restore)
    this.draw()
  }

  event({ step, level, message, elapsedMs }) {
    const mood = level === 'warn' ? 'warn' : step === 'undo' ? 'undo' : 'done'
    this.settle(mood, message, elapsedMs)
    this.underway = UNDERWAY[step] ?? step
    this.draw()
  }

  warn(message) {
    this.settle('warn', message, performance.now() - this.began)
    if (this.timer) this.draw()
  }

  success(result) {
    this.close()
    this.stream.write(`\n  ${this.style('green', '✔')} ${this.style('bold', describe(result))}\n\n`)
  }

  failure(error, message) {
    this.close()
    const [first, ...rest] = explain(error, message)
    this.stream.write(`\n  ${this.style('red', '✖')} ${this.style('bold', first)}\n`)
    for (const line of rest) this.stream.write(`    ${line}\n`)
    this.stream.write('\n')
  }

  /** Puts a finished line above the live one. */
  settle(mood, message, elapsedMs) {
    const [mark, colour] = MARKS[mood]
    const time = this.style('dim', seconds(elapsedMs).padStart(7))
    const text = mood === 'warn' ? this.style('yellow', message) : message
    this.stream.write(`\r\x1b[K  ${this.style(colour, mark)} ${time}  ${text}\n`)
  }

  draw() {
    this.frame = (this.frame + 1) % FRAMES.length
    const time = seconds(performance.now() - this.began).padStart(7)
    const room = Math.max(0, (this.stream.columns ?? 80) - 15)
    const spinner = this.style('cyan', FRAMES[this.frame])
    this.stream.write(`\r\x1b[K  ${spinner} ${this.style('dim', time)}  ${this.style('dim', this.underway.slice(0, room))}`)
  }

  close() {
    clearInterval(this.timer)
    this.timer = undefined
    process.off('exit', this.restore)
    this.stream.write('\r\x1b[K')
    this.restore()
  }
}

/** Colours text, unless the user asked for none (no-color.org). */
function paint(env) {
  return env.NO_COLOR ? (_, text) => text : (name, text) => `\x1b[${STYLES[name]}m${text}\x1b[0m`
}

function describe(result) {
  const time = seconds(result.timings.reduce((sum, { ms }) => sum + ms, 0))
  const how = result.reused ? 'was there already and' : ''
  return [result.serverName, how, `is in the tailnet: ${result.tailscaleIp} (${result.serverIp}, ${time})`]
    .filter(Boolean)
    .join(' ')
}

/** A failure in a few lines: what, what to do, what is left. */
function explain(error, message) {
  const { code, hint, requestIds = [], leftovers = [] } = error
  return [
    code ? `${code}: ${message}` : message,
    ...(hint ? [hint] : []),
    ...(code ? [] : why(error)),
    ...(requestIds.length > 0 ? [`Request: ${requestIds.join(', ')}`] : []),
    ...(code && leftovers.length === 0 && error.step !== 'validate' ? ['Nothing was left behind.'] : []),
    ...leftovers.map((left) => `Left behind: ${[left.kind, left.id, left.name].filter(Boolean).join(' ')}: ${left.why}`),
  ]
}

/** Why the module could not even be loaded: the deepest cause, since those above it only guess. */
function why(error) {
  let deepest = error
  while (deepest.cause instanceof Error) deepest = deepest.cause
  return deepest === error ? [] : [`Because: ${deepest.message.split('\n')[0]}`]
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`
}

/** An error for a line of JSON: this package's as it is, of any other what `JSON.stringify` would leave out. */
function asData(error) {
  const { name, message, code } = error
  return typeof error.toJSON === 'function' ? error : { name, message, ...(code === undefined ? {} : { code }) }
}

/** Answers the arguments of a script that takes none but `--help`, and gives the exit code. */
function answerArguments(args, script, manual) {
  const asked = args.length === 1 && ['--help', '-h'].includes(args[0])
  if (asked) process.stdout.write(manual)
  else process.stderr.write(`${script}: unknown argument ${JSON.stringify(args.join(' '))}\n\n${manual}`)
  return asked ? 0 : 2
}

module.exports = { answerArguments, asData, openDisplay, openPlainDisplay, paint, seconds, why }

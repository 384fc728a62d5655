#!/usr/bin/env node
'use strict'

// The terminal's door to the package: `npx provision-vm <command>`. It reads arguments, calls one function of the module, and shows
// what came of it; what is right to do is decided in the module. `--help` is its manual.

const { hideSettings } = require('../../scripts/support/actions.js')
const { asData } = require('../../scripts/support/display.js')
const { readArguments } = require('./arguments.js')
const { EXIT, exitCode, explain } = require('./failure.js')
const { catchSignals } = require('./interruption.js')
const { manual, manualOf } = require('./manual.js')
const { openTerminal } = require('./terminal.js')

const COMMANDS = {
  provision: require('./commands/provision.js'),
  plan: require('./commands/plan.js'),
  list: require('./commands/list.js'),
  status: require('./commands/status.js'),
  destroy: require('./commands/destroy.js'),
  reap: require('./commands/reap.js'),
  doctor: require('./commands/doctor.js'),
  simulate: require('./commands/simulate.js'),
}

/** Runs one command and gives the exit code. `load` gives the module; the streams are those of the process unless a test has its own. */
async function main(args, { load = loadModule, env = process.env, stdin, stdout, stderr } = process) {
  let lost
  // A reader that went away is no reason to leave a machine half made. But an answer that could not be written is no success.
  stderr.on('error', () => {})
  stdout.on('error', (error) => (lost ??= error))
  const code = await runCommand(args, { load, env, stdin, stdout, stderr })
  // Only a stream of Node.js tells when all of it is written, or why not.
  if (stdout.writableLength !== undefined) await new Promise((resolve) => stdout.write('', resolve))
  if (!lost || lost.code === 'EPIPE' || code !== EXIT.ok) return code
  stderr.write(`error: the answer could not be written: ${lost.message}\n`)
  return EXIT.failed
}

async function runCommand(args, { load, env, stdin, stdout, stderr }) {
  const terminal = openTerminal({ stdin, stdout, stderr, env, asJson: wantsJson(args) })
  let request
  try {
    request = readArguments(args, COMMANDS)
    const { wants, name } = request
    if (wants) return answer(terminal, wants, name)
    return await perform({ ...request, command: COMMANDS[name] }, { load, env, terminal })
  } catch (error) {
    // Who gives no command has not seen yet what there is.
    if (args.length === 0) terminal.complain([manual(COMMANDS)])
    const { errorStyle: style, errorWidth: width } = terminal
    if (terminal.asJson) terminal.answer({ error: asData(error) })
    else terminal.complain(explain(error, { command: COMMANDS[request?.name], style, width }))
    return exitCode(error)
  }
}

module.exports = { COMMANDS, main }

/** Whether an error has to be JSON as well, also one in the arguments themselves. */
function wantsJson(args) {
  const end = args.indexOf('--')
  return args.slice(0, end < 0 ? args.length : end).includes('--json')
}

function answer(terminal, wants, name) {
  const { version } = require('../../package.json')
  if (wants === 'version') terminal.answer({ version }, () => [version])
  else terminal.page(name ? manualOf(name, COMMANDS[name]) : manual(COMMANDS))
  return EXIT.ok
}

/** Runs a command with what every call of the module takes: signal, environment, progress and masks. */
async function perform({ command, operand, flags }, { load, env, terminal }) {
  const hide = hideSettings(terminal.stderr, env)
  if (command.runsAlone) return await command.run({ flags, terminal, env })
  let display
  const interruption = catchSignals({
    command,
    onActions: env.GITHUB_ACTIONS === 'true',
    isIdle: () => terminal.isAsking,
    warn: (text) => (display ?? terminal).warn(text),
  })
  const common = { env, logger: false, onSecret: hide, signal: interruption.signal, timeoutMs: flags.timeout }
  /** One call of the module behind the display. */
  const call = async (work) => {
    display = terminal.openProgress(command)
    const onProgress = (event) => {
      interruption.note(event)
      display.event(event)
    }
    try {
      return await work(load(), { ...common, onProgress })
    } finally {
      display.close()
      display = undefined
    }
  }
  try {
    return await command.run({ operand, flags, call, terminal, env, signal: interruption.signal })
  } catch (error) {
    // Which signal it was decides on the exit code, and only this place knows.
    if (error.code === 'ABORTED') Object.defineProperty(error, 'signalName', { value: interruption.signal.reason })
    throw error
  } finally {
    interruption.end()
  }
}

/** Only when something is called: help and mistakes need no native module, and a signal during the loading is caught already. */
function loadModule() {
  return require('../..')
}

if (require.main === module) {
  main(process.argv.slice(2)).then((code) => {
    process.exitCode = code
  })
}

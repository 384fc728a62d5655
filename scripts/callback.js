#!/usr/bin/env node
'use strict'

// Tells the app how a job is going. `--help` is its manual.

const { signCallback } = require('../js/webhook.js')
const { appendError, mask, openOutputs, printError, printWarning } = require('./support/actions.js')
const { deliver, PLANS } = require('./support/delivery.js')
const { keepBeating, stopBeating } = require('./support/heartbeat.js')
const { makeMessage } = require('./support/message.js')
const { InputError, readId, readRegion, readTarget } = require('./support/target.js')

const HELP = `Tells the app how a job is going, by small signed HTTP requests.

Usage: node scripts/callback.js <command>

Commands:
  check            looks at the inputs JOB_ID, AGENT_ID, REGION, CALLBACK_URL; sends nothing
  provisioning     the job is begun: 3 tries
  heartbeat        the job is being worked on: sent again and again while the work lives, one try each. It is
                   made for the background, and ends by itself
  stop-heartbeat   ends the heartbeat; returns when no beat can follow
  running          the VM is there: tried until CALLBACK_TIMEOUT_SECONDS are over
  failed           the job has failed: the same

Environment:
  CALLBACK_URL, JOB_ID      required: where to send it, and the job. The address is https and public, by a name and
                            on port 443; for tests http to 127.0.0.1, [::1] or localhost, on any port
  AGENT_ID, REGION          for check
  GH_CALLBACK_SECRET        required except by check and stop-heartbeat: what the app verifies callbacks with
  CALLBACK_ORIGINS          if set, CALLBACK_URL has to begin with one of these, such as https://app.example;
                            separated by commas or blanks
  CALLBACK_TIMEOUT_SECONDS  how long running and failed are tried (120)
  HEARTBEAT_SECONDS         from one beat to the next (60)
  GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT
                            required, set by GitHub: with job and event they make a message the same one whenever
                            it is sent again. The attempt is 1 if it is not set
  SERVER_ID, SERVER_IP, TAILSCALE_IP
                            for running
  ERROR, FAILED_STEP        for failed
  JOB_STATE                 for failed: where the job stands, as scripts/provision.js saw it. If a server stands for it,
                            nothing is sent: the clean-up has to look first
  CONFLICT                  for failed: true if the app has answered 409 to provisioning. Nothing is sent then
  PROVISION_OUTCOME         for failed: how the step that provisions ended. If it is failure and there is no ERROR,
                            nothing is sent: scripts/cleanup.js has to look first
  PROVISION_PROGRESS_FILE   for heartbeat and stop-heartbeat: what scripts/provision.js writes while it works
  GITHUB_OUTPUT             delivered=<event> is appended once the app has accepted it; if check or provisioning
                            fails, error and failed_step, for failed; conflict=true if the app answers 409 to
                            provisioning: it has the job in another state
  GITHUB_ACTIONS            true: the secret is masked, and trouble becomes annotations

All lines go to standard error. SIGINT, SIGTERM and SIGHUP end it at once; a heartbeat does not heed SIGHUP.

Exit codes:
  0    delivered. Also if provisioning could not be delivered now, or the app has the job in another state:
       that is no reason not to work
  1    provisioning was refused for good
  2    bad input or configuration, no request was sent
  75   running or failed could not be delivered: it says what, and how to make up for it
  129, 130, 143   ended by SIGHUP, SIGINT, SIGTERM; it says what was not delivered
`

const EXIT = { ok: 0, refused: 1, usage: 2, undelivered: 75, SIGHUP: 129, SIGINT: 130, SIGTERM: 143 }

const COMMANDS = {
  check,
  provisioning: (env, report) => send('provisioning', env, report),
  heartbeat,
  'stop-heartbeat': stopHeartbeat,
  running: (env, report) => send('running', env, report),
  failed: sendFailed,
}

/** A server stands for the job: this run's, and then the clean-up removes it, or that of another that is at work. */
const IN_HAND = ['creating', 'booting', 'enrolled']

main(process.argv.slice(2), process.env)

async function main(args, env) {
  // A reader that went away is no reason to leave the app without news.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  if (args.length !== 1 || !Object.hasOwn(COMMANDS, args[0])) return help(args)
  const report = openReport(process.stderr, env)
  let code
  try {
    code = await COMMANDS[args[0]](env, report)
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    report.error(error, error.message)
    appendError(env, 'callback', error.message)
    code = EXIT.usage
  }
  // A look-up of a name cannot be told to stop, and would keep the process until it gives up by itself.
  process.exit(code)
}

function help(args) {
  const asked = args.length === 1 && ['--help', '-h'].includes(args[0])
  if (asked) return process.stdout.write(HELP)
  const what = args.length === 0 ? 'expected a command' : `unknown command ${JSON.stringify(args.join(' '))}`
  process.stderr.write(`callback: ${what}\n\n${HELP}`)
  process.exitCode = EXIT.usage
}

/** Complains about all inputs at once, so that one more dispatch is enough. */
function check(env, report) {
  const looks = [
    () => readId('JOB_ID', env.JOB_ID),
    () => readId('AGENT_ID', env.AGENT_ID),
    () => readRegion('REGION', env.REGION),
    () => readTarget(env),
  ]
  const complaints = looks.map(complaintOf).filter(Boolean)
  for (const complaint of complaints) report.error(complaint, complaint.message)
  if (complaints.length > 0) {
    appendError(env, 'validate', complaints.map(({ message }) => message).join('; '))
    return EXIT.usage
  }
  const isOpen = !env.CALLBACK_ORIGINS?.trim() && env.CALLBACK_URL.startsWith('https:')
  if (isOpen) report.warn('CALLBACK_ORIGINS is not set, so callbacks are signed for any public address that a dispatch names')
  report.line('the inputs are good')
  return EXIT.ok
}

function complaintOf(look) {
  try {
    look()
    return undefined
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    return error
  }
}

/**
 * Sends the failure, unless somebody knows better. An app may do away with what belongs to a job that failed, so it must not
 * hear that of a machine that was delivered.
 */
async function sendFailed(env, report) {
  const objection = objectionToFailed(env)
  if (objection) {
    report.warn(`${objection}. The clean-up looks where the job stands, and tells the app`)
    return EXIT.ok
  }
  const isBefore = env.PROVISION_OUTCOME === 'skipped' && !env.ERROR
  const before = { ERROR: 'the run failed before it began to provision', FAILED_STEP: 'setup' }
  return await send('failed', isBefore ? { ...env, ...before } : env, report)
}

function objectionToFailed(env) {
  if (env.JOB_STATE === 'ready') return 'this run has failed, but the VM of its job stands ready'
  if (IN_HAND.includes(env.JOB_STATE)) return 'this run has failed, but a server stands for its job that is not finished'
  if (env.CONFLICT === 'true') return 'this run has failed, but the app has said that it has the job in another state'
  if (env.PROVISION_OUTCOME === 'failure' && !env.ERROR) return 'the provisioning ended without a word'
  return undefined
}

/** Sends an event of which there is one in a run. */
async function send(event, env, report) {
  const secret = env.GH_CALLBACK_SECRET ?? ''
  if (report.onActions) mask(process.stderr, secret)
  const message = makeMessage(event, env)
  const target = readTarget(env)
  const plan = planOf(event, env)
  await checkSecret(secret)
  const host = target.url.host
  const interruption = catchSignals(['SIGHUP', 'SIGINT', 'SIGTERM'])
  const onRetry = ({ reason, tries }, pause) =>
    report.line(`${event}: try ${tries} at ${host} failed, ${reason}; the next one in ${seconds(pause)} s`)
  const outcome = await deliver(message, { target, secret, plan, signal: interruption.signal, onRetry })
  if (outcome.kind === 'accepted') {
    openOutputs(env.GITHUB_OUTPUT, report.warn).set('delivered', event)
    report.line(`${event}: delivered to ${host} (${outcome.status}, try ${outcome.tries})`)
    return EXIT.ok
  }
  const conclude = event === 'provisioning' ? concludeProgress : concludeTerminal
  return conclude(outcome, message, env, report, interruption.signal.reason)
}

/** The app does without this one if it has to; only if it does not want the job there is no sense in going on. */
function concludeProgress({ kind, status, reason, tries }, message, env, report, signalName) {
  const text = `provisioning was not delivered: ${reason}`
  if (kind === 'stopped') {
    report.warn(`${signalName}: ${text}`)
    return EXIT[signalName]
  }
  if (kind === 'passing' || status === 409) {
    if (status === 409) openOutputs(env.GITHUB_OUTPUT, report.warn).set('conflict', 'true')
    report.warn(`${text}. Going on without it`)
    return EXIT.ok
  }
  report.error({ name: 'provisioning not delivered' }, text)
  appendError(env, 'callback', text)
  // An unsafe address that is seen at once is as bad an input as an unsafe name.
  return kind === 'unsafe' && tries === 1 ? EXIT.usage : EXIT.refused
}

/** What a person, or the app, can do about the last news of a job: nothing may be lost by its not being delivered. */
function concludeTerminal({ kind, reason }, { event, jobId, fields }, env, report, signalName) {
  const isStopped = kind === 'stopped'
  const text = `${event} of job ${jobId} was not delivered: ${isStopped ? `${signalName}, and ${reason}` : reason}`
  const rest = event === 'running' ? RUNNING_REST : FAILED_REST
  report.error({ name: `${event} not delivered`, hint: rest }, text)
  report.line(rest)
  report.line('Either send it again, with these variables and GH_CALLBACK_SECRET:')
  for (const [name, value] of variablesOf(event, fields, env)) report.plain(`  ${name}=${quote(value)}`)
  report.plain(`  node scripts/callback.js ${event}`)
  report.line(`or let the app look the job up: getProvisioning({ jobId: '${jobId}' })`)
  return isStopped ? EXIT[signalName] : EXIT.undelivered
}

const RUNNING_REST = 'The VM is kept: it is ready, and the app only has to hear of it.'
const FAILED_REST = 'The app still takes the job for one that is being worked on.'

/** With the same run and attempt it is the same message, which the app takes once. */
function variablesOf(event, fields, env) {
  const inputs = ['JOB_ID', 'CALLBACK_URL', 'GITHUB_RUN_ID', 'GITHUB_RUN_ATTEMPT'].map((name) => [name, env[name]])
  const ownFields = event === 'running' ? ['server_id', 'server_ip', 'tailscale_ip'] : ['error', 'failed_step']
  return [...inputs.filter(([, value]) => value), ...ownFields.map((field) => [field.toUpperCase(), fields[field]])]
}

/** One word to a shell, and no command to the runner, which looks for `##[` anywhere in a line. */
function quote(text) {
  return `'${text.replaceAll("'", "'\\''").replaceAll('##[', '# #[')}'`
}

/** Sends heartbeats until the work is over. Its lines go to a file, where a mask would be no help and show the secret. */
async function heartbeat(env, report) {
  const secret = env.GH_CALLBACK_SECRET ?? ''
  const target = readTarget(env)
  const intervalMs = readSeconds('HEARTBEAT_SECONDS', env.HEARTBEAT_SECONDS, 60) * 1000
  const file = readProgressFile(env)
  // What a beat is made of is looked at before the first one is due.
  makeMessage('heartbeat', env, 1)
  await checkSecret(secret)
  // The step that starts it ends, and its terminal may go away with it.
  process.on('SIGHUP', () => {})
  const { signal } = catchSignals(['SIGINT', 'SIGTERM'])
  const beat = async (number, signal) => {
    const message = makeMessage('heartbeat', env, number)
    const { kind, status, reason } = await deliver(message, { target, secret, plan: PLANS.heartbeat, signal })
    report.line(`heartbeat ${number}: ${kind === 'accepted' ? `delivered (${status})` : `not delivered, ${reason}`}`)
  }
  const why = await besideFile(file, () => keepBeating({ file, intervalMs, beat, signal }))
  report.line(`no more heartbeats: ${why}`)
  return EXIT.ok
}

async function stopHeartbeat(env, report) {
  const file = readProgressFile(env)
  const { stopped, killed } = await besideFile(file, () => stopBeating(file))
  if (killed) report.warn('the heartbeat did not end when it was told to, so it was killed')
  else report.line(stopped ? 'the heartbeat has ended' : 'no heartbeat is running')
  return EXIT.ok
}

/** Small files stand beside the progress file, so its folder has to be there. */
async function besideFile(file, work) {
  try {
    return await work()
  } catch (error) {
    if (error.syscall === undefined) throw error
    throw new InputError('PROVISION_PROGRESS_FILE', `cannot write beside it: ${error.code}`)
  }
}

function readProgressFile({ PROVISION_PROGRESS_FILE: file }) {
  if (!file) throw new InputError('PROVISION_PROGRESS_FILE', 'is not set')
  return file
}

function planOf(event, { CALLBACK_TIMEOUT_SECONDS: text }) {
  const plan = PLANS[event]
  if (event === 'provisioning') return plan
  return { ...plan, budgetMs: readSeconds('CALLBACK_TIMEOUT_SECONDS', text, plan.budgetMs / 1000) * 1000 }
}

function readSeconds(variable, text, usual) {
  if (text === undefined || text === '') return usual
  const isGood = /^\d{1,5}(\.\d{1,3})?$/.test(text) && Number(text) > 0
  if (!isGood) throw new InputError(variable, 'expected a number of seconds above 0, such as 60')
  return Number(text)
}

/** Before anything is sent, as a secret that cannot sign is no fault of the connection. */
async function checkSecret(secret) {
  if (secret === '') throw new InputError('GH_CALLBACK_SECRET', 'is not set')
  try {
    await signCallback({ body: '', secret, id: 'check' })
  } catch (error) {
    throw new InputError('GH_CALLBACK_SECRET', error.message.replace(/^secret: /, ''))
  }
}

/** A signal that aborts with the name of what has ended the process. */
function catchSignals(names) {
  const controller = new AbortController()
  for (const name of names) process.once(name, () => controller.abort(name))
  return controller
}

/** What is said, as plain lines, and on Actions as annotations too. */
function openReport(stream, env) {
  const onActions = env.GITHUB_ACTIONS === 'true'
  const plain = (text) => stream.write(`${text}\n`)
  const line = (text) => plain(`[Callback] ${text}`)
  return {
    onActions,
    plain,
    line,
    warn(text) {
      line(`warning: ${text}`)
      if (onActions) printWarning(stream, 'Callback', text)
    },
    error(error, text) {
      line(`error: ${text}`)
      if (onActions) printError(stream, error, text)
    },
  }
}

function seconds(ms) {
  return (ms / 1000).toFixed(1)
}

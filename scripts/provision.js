#!/usr/bin/env node
'use strict'

// Provisions one VM from a workflow or a terminal. `--help` is its manual.

const { beginGroup, endGroup, hideSettings, openOutputs, printError } = require('./support/actions.js')
const { answerArguments, asData, openDisplay } = require('./support/display.js')
const { describeKnown, note, nothingKnown } = require('./support/known.js')
const { openProgress } = require('./support/progress.js')
const { readRun } = require('./support/run.js')
const { appendSummary, summarizeProvision } = require('./support/summary.js')

const HELP = `Provisions one Hetzner Cloud VM that joins the tailnet: one job, at most one server.

Usage: node scripts/provision.js [--help]

Environment:
  JOB_ID, AGENT_ID       required: the job, and the agent that the machine is for
  REGION                 us-east (default), us-west, eu-central, eu-west, eu-north, ap-southeast,
                         or the name of a Hetzner location
  HETZNER_API_TOKEN, HETZNER_SSH_KEY_ID, TAILSCALE_OAUTH_CLIENT_ID, TAILSCALE_OAUTH_CLIENT_SECRET
                         required settings; README.md has them all
  GITHUB_OUTPUT          server_name, server_id, server_ip are appended as soon as each is known,
                         tailscale_ip at the end; after a failure error, failed_step, and job_state:
                         where the job stands all the same
  GITHUB_STEP_SUMMARY    tables are appended: what came of it, each step's time, what was tried
  GITHUB_ACTIONS         true: secrets are masked, the progress is folded, a failure is an annotation
  GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT
                         the attempt carries them, so that scripts/cleanup.js finds what it left
  PROVISION_PROGRESS_FILE
                         a file that shows that the work goes on, for the heartbeat
  NO_COLOR               no colours

Standard output gets one line of JSON: the result, or { "error": ... }. All else goes to standard error.
The first SIGINT, SIGTERM or SIGHUP undoes what was begun. A second one says what may be left and ends at once; on
Actions, which has its own way of insisting, the undo goes on until the runner ends it.

Exit codes:
  0    provisioned                           2    bad input or configuration
  1    failed; nothing is left behind, or    74   provisioned, but GITHUB_OUTPUT could not be written
       the error names what is               129, 130, 143   ended by SIGHUP, SIGINT, SIGTERM; undone
`

const EXIT = { ok: 0, failed: 1, usage: 2, output: 74, SIGHUP: 129, SIGINT: 130, SIGTERM: 143 }

/** What ends the script after its undo. A closed terminal says SIGHUP. */
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM']

/** Where the arguments of the call come from, for messages. */
const SOURCES = { 'params.jobId': 'JOB_ID', 'params.agentId': 'AGENT_ID', 'params.region': 'REGION' }

/** Addresses that may hold a password. */
const PROXIES = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy']

/** The undo has a minute beyond the timeout; half of one is for a machine that is slow. */
const BEYOND_TIMEOUT_MS = 90_000
const USUAL_TIMEOUT_SECONDS = 600

/** How long to ask where a job stands that could not be provisioned. */
const LOOK_MS = 10_000

main(process.argv.slice(2), process.env)

async function main(args, env) {
  // A reader that went away is no reason to leave a machine half made.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  if (args.length > 0) {
    process.exitCode = answerArguments(args, 'provision', HELP)
    return
  }

  const onActions = env.GITHUB_ACTIONS === 'true'
  const hide = hideSettings(process.stderr, env)
  for (const name of PROXIES) hide(passwordOf(env[name]))

  const display = openDisplay(process.stderr, env)
  const complain = (complaint) => display.warn(complaint)
  const outputs = openOutputs(env.GITHUB_OUTPUT, complain)
  const progress = openProgress(env.PROVISION_PROGRESS_FILE, longestMs(env), complain)
  const known = nothingKnown()
  const interruption = catchSignals(display, known, onActions)
  const events = []

  const onProgress = (event) => {
    events.push(event)
    note(known, event)
    display.event(event)
    progress.advance()
    tellServer(outputs, event)
  }
  const params = { jobId: env.JOB_ID, agentId: env.AGENT_ID, region: env.REGION || 'us-east' }
  const summarize = (how) => appendSummary(env.GITHUB_STEP_SUMMARY, summarizeProvision({ params, events, ...how }), complain)
  if (onActions) beginGroup(process.stderr, `Provisioning for job ${params.jobId}`)
  try {
    // Only now: a signal during the loading of the module is caught already.
    const { provisionVM } = require('../index.js')
    const options = { signal: interruption.signal, onProgress, onSecret: hide, env, logger: false, runId: readRun(env) }
    const result = await provisionVM(params, options)
    // An adopted server may have been known by no event.
    tellServer(outputs, result)
    outputs.set('tailscale_ip', result.tailscaleIp)
    if (onActions) endGroup(process.stderr)
    display.success(result)
    console.log(JSON.stringify(result))
    summarize({ result })
    process.exitCode = outputs.failed ? EXIT.output : EXIT.ok
  } catch (error) {
    const message = inTermsOfTheJob(error)
    outputs.set('error', [error.code, message].filter(Boolean).join(': '))
    outputs.set('failed_step', error.step ?? 'load')
    if (onActions) endGroup(process.stderr)
    display.failure(error, message)
    if (onActions) printError(process.stderr, error, message)
    console.log(JSON.stringify({ error: asData(error) }))
    summarize({ error })
    outputs.set('job_state', await stateOfJob(params, error, env))
    process.exitCode = exitCode(error, interruption.signal.reason)
  } finally {
    progress.end()
    interruption.end()
  }
}

function tellServer(outputs, { serverName, serverId, serverIp }) {
  outputs.set('server_name', serverName)
  outputs.set('server_id', serverId)
  outputs.set('server_ip', serverIp)
}

function passwordOf(address) {
  return /\/\/[^/@]*:([^/@]+)@/.exec(address ?? '')?.[1] ?? ''
}

function longestMs({ PROVISION_TIMEOUT_SECONDS: seconds }) {
  // What is no number the core refuses, and then nothing lasts.
  return (Number(seconds) || USUAL_TIMEOUT_SECONDS) * 1000 + BEYOND_TIMEOUT_MS
}

/** The message, with the variable that a person can change instead of the argument that this script made of it. */
function inTermsOfTheJob({ field, message }) {
  return SOURCES[field] ? message.replace(field, SOURCES[field]) : message
}

/**
 * Where the job stands although this call failed: an earlier one may have delivered its machine, or another one may be at
 * work on it, and then the app must not hear that the job has failed.
 */
async function stateOfJob({ jobId }, error, env) {
  if (!error.code || error.code === 'ABORTED' || exitCode(error) === EXIT.usage) return undefined
  try {
    const { getProvisioning } = require('../index.js')
    return (await getProvisioning({ jobId }, { env, logger: false, timeoutMs: LOOK_MS })).state
  } catch {
    // What cannot be seen is not known.
    return undefined
  }
}

function exitCode(error, signalName) {
  if (error.code === 'INVALID_INPUT' || error.code === 'CONFIG') return EXIT.usage
  const isUndone = error.code === 'ABORTED' && error.leftovers.length === 0
  return isUndone ? EXIT[signalName] : EXIT.failed
}

/**
 * The first signal gives the job up; the second ends the process whatever the undo is doing.
 *
 * GitHub sends SIGINT, SIGTERM 7.5 s later, and kills 2.5 s after that. There the second signal is nobody's impatience, so
 * what may be left is said while there is time, and the undo goes on for as long as it may.
 */
function catchSignals(display, known, onActions) {
  const controller = new AbortController()
  const onSignal = (name) => {
    if (!controller.signal.aborted) {
      const second = onActions ? '' : '; a second signal ends at once and may leave something behind'
      display.warn(`${name}: undoing what was begun${second}`)
      return controller.abort(name)
    }
    const left = describeKnown(known)
    if (onActions) return display.warn(`${name}: the undo goes on. If it is cut short, this may be left behind: ${left}`)
    display.warn(`${name} again: ending at once. May be left behind: ${left}`)
    process.exit(EXIT[name])
  }
  for (const name of SIGNALS) process.on(name, onSignal)
  return {
    signal: controller.signal,
    end: () => SIGNALS.forEach((name) => process.off(name, onSignal)),
  }
}

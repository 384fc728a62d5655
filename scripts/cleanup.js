#!/usr/bin/env node
'use strict'

// Removes what this run of a workflow left of its job, and finds out what the app has to hear. `--help` is its manual.

const { beginGroup, endGroup, hideSettings, openOutputs, printError, printWarning } = require('./support/actions.js')
const { answerArguments, asData, openPlainDisplay, seconds } = require('./support/display.js')
const { readRuns } = require('./support/run.js')
const { appendSummary, describeLeftovers, summarizeCleanup } = require('./support/summary.js')
const { InputError, readId } = require('./support/target.js')

const HELP = `Removes what this run of a workflow left of its job, and finds out what the app has to hear.

Usage: node scripts/cleanup.js [--help]

It runs after the job that provisions, whatever became of that: failed, cancelled, timed out, lost. Only servers that an
attempt of this very run made and that are not ready are removed, with their auth keys and devices.

Environment:
  JOB_ID                 required: the job
  AGENT_ID               its agent: with it, a device that was left without its server is named
  GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT
                         required: the run; its earlier attempts are over as well
  HETZNER_API_TOKEN, TAILSCALE_OAUTH_CLIENT_ID, TAILSCALE_OAUTH_CLIENT_SECRET
                         required settings; README.md has them all
  PROVISION_RESULT       how the job that provisions ended: failure, cancelled, skipped or success
  PROVISION_OUTCOME      how its step that provisions ended; skipped if it never began
  ERROR, FAILED_STEP     what it said of its failure, if it could
  REPORTED               what it has told the app already: running or failed
  GITHUB_OUTPUT          event is appended: running, failed or none, and what goes with it: server_id,
                         server_ip and tailscale_ip, or error and failed_step
  GITHUB_STEP_SUMMARY    a small table is appended
  GITHUB_ACTIONS         true: secrets are masked, and trouble becomes an annotation

Standard output gets one line of JSON. All else goes to standard error.

Exit codes:
  0    nothing of this run is left           2    bad input or configuration
  1    something is left and named, or whether there is cannot be told, or a machine is ready and not connected
`

const EXIT = { ok: 0, failed: 1, usage: 2 }

/** What is said of a run that could say nothing itself. */
const ENDS = {
  cancelled: ['the run was cancelled or timed out', 'cancelled'],
  failure: ['the run ended without a word: its step or its machine was lost', 'lost'],
  skipped: ['the run ended before it began to provision', 'skipped'],
}
const BEFORE = ['the run failed before it began to provision', 'setup']

/** Until when, and how often, one looks again that cannot see, or sees a ready machine whose device does not show. */
const LOOK_FOR_MS = 60_000
const SHOW_FOR_MS = 6000
const LOOK_AGAIN_MS = 3000
/** How long one look may take. */
const LOOK_MS = 20_000

main(process.argv.slice(2), process.env)

async function main(args, env) {
  if (args.length > 0) {
    process.exitCode = answerArguments(args, 'cleanup', HELP)
    return
  }
  const onActions = env.GITHUB_ACTIONS === 'true'
  const hide = hideSettings(process.stderr, env)

  const display = openPlainDisplay(process.stderr)
  const complain = (complaint) => display.warn(complaint)
  const outputs = openOutputs(env.GITHUB_OUTPUT, complain)
  const { params, complaint } = readParams(env)
  if (complaint) {
    display.line(`[CleanUp] ${complaint}`)
    if (onActions) printError(process.stderr, { name: 'INVALID_INPUT' }, complaint)
    process.exitCode = EXIT.usage
    return
  }

  const options = { env, logger: false, onSecret: hide, onProgress: (event) => display.event(event) }
  if (onActions) beginGroup(process.stderr, `Cleaning up after run ${params.runIds[0]} of job ${params.jobId}`)
  const ended = await cleanUp(params, options, env)
  if (onActions) endGroup(process.stderr)
  const { report, status, error, event, fields, verdict } = ended
  outputs.set('event', event)
  for (const [name, value] of Object.entries(fields)) outputs.set(name, value)
  display.line(`[CleanUp] The app is told: ${verdict}`)
  console.log(JSON.stringify({ ...report, state: status?.state, event, ...fields, ...(error && { error: asData(error) }) }))
  appendSummary(env.GITHUB_STEP_SUMMARY, summarizeCleanup({ params, report, error, verdict }), complain)
  if (error) {
    display.trouble('CleanUp', error)
    if (onActions) printError(process.stderr, error, error.message)
  }
  if (report?.leftovers.length > 0) leave(report.leftovers, display, onActions)
  if (onActions && status && event === 'none' && !env.REPORTED) printWarning(process.stderr, 'The app was told nothing', verdict)
  // A machine that is ready and of which the app cannot be told is a person's to look at.
  const isTold = status?.state !== 'ready' || event === 'running' || Boolean(env.REPORTED)
  const isClean = !error && report.leftovers.length === 0 && isTold && !outputs.failed
  const isUsage = ['INVALID_INPUT', 'CONFIG'].includes(error?.code)
  process.exitCode = isClean ? EXIT.ok : isUsage ? EXIT.usage : EXIT.failed
}

/** Which job and which runs; or what is wrong with them, in a few words whatever they are. */
function readParams(env) {
  const runIds = readRuns(env)
  if (!runIds) return { complaint: 'GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT: expected the numbers of a run' }
  try {
    return { params: { jobId: readId('JOB_ID', env.JOB_ID), agentId: readAgent(env), runIds } }
  } catch (error) {
    if (!(error instanceof InputError)) throw error
    return { complaint: error.message }
  }
}

/** For what can be no agent no server was made. */
function readAgent({ AGENT_ID: agent }) {
  try {
    return readId('AGENT_ID', agent)
  } catch {
    return undefined
  }
}

/** Removes and looks. What the first has found out is told also if the second fails. */
async function cleanUp(params, options, env) {
  let report
  try {
    const { cleanUpRun, getProvisioning } = require('../index.js')
    report = await cleanUpRun(params, options)
    const once = () => getProvisioning({ jobId: params.jobId }, { ...options, onProgress: undefined, timeoutMs: LOOK_MS })
    const status = await look(once, patienceMs(env))
    return { report, status, ...judge(status, report, env) }
  } catch (error) {
    // An earlier run may have delivered the machine, and nobody could see.
    const verdict = 'nothing, since it is not known where the job stands; run the job Clean up again'
    return { report, error, event: undefined, fields: {}, verdict }
  }
}

/** Looks where the job stands: again if nothing can be seen, or if its machine is ready and its device does not show. */
async function look(once, lookForMs) {
  const began = performance.now()
  const since = () => performance.now() - began
  for (;;) {
    try {
      const status = await once()
      if (status.state !== 'ready' || status.tailscaleIp || since() > SHOW_FOR_MS) return status
    } catch (error) {
      if (!error.retryable || since() > lookForMs) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
  }
}

function patienceMs({ PROVISION_TIMEOUT_SECONDS: seconds }) {
  return Math.min(LOOK_FOR_MS, 1000 * (Number(seconds) || Infinity))
}

/**
 * What the app has to hear. A machine that was delivered stays delivered, whatever became of this run; and while another run
 * is at work on the job, that one has the last word.
 */
function judge(status, report, env) {
  const { state, serverId, serverIp, tailscaleIp } = status
  const isReady = state === 'ready'
  if (env.REPORTED && (env.REPORTED === 'running') === isReady) {
    return { event: 'none', fields: {}, verdict: `nothing more: it has heard "${env.REPORTED}" from this run` }
  }
  if (isReady && tailscaleIp) {
    const fields = { server_id: serverId, server_ip: serverIp, tailscale_ip: tailscaleIp }
    return { event: 'running', fields, verdict: `running: the machine of the job stands ready (server ${serverId})` }
  }
  if (isReady) {
    return { event: 'none', fields: {}, verdict: `nothing: server ${serverId} is ready, but its device is not connected (${status.obstacle})` }
  }
  const isLeft = report.servers.some((it) => it.serverId === serverId)
  if (state !== 'absent' && state !== 'expired' && !isLeft) {
    return { event: 'none', fields: {}, verdict: `nothing: ${describeOther(status)}` }
  }
  const isBefore = env.PROVISION_RESULT === 'failure' && env.PROVISION_OUTCOME === 'skipped'
  const [error, step] = isBefore ? BEFORE : (ENDS[env.PROVISION_RESULT] ?? ENDS.failure)
  const fields = { error: env.ERROR || error, failed_step: env.FAILED_STEP || step }
  return { event: 'failed', fields, verdict: `failed: ${fields.error}` }
}

/** Whether that one lives nobody can see; its label says from when on it counts as dead. */
function describeOther({ state, serverId, expiresInMs }) {
  const end = expiresInMs === undefined ? '' : `; if it does not finish within ${seconds(expiresInMs)}, it is dead, and the job can be dispatched again`
  return `another attempt has the job in hand (server ${serverId}, ${state})${end}`
}

function leave(leftovers, display, onActions) {
  const text = `Left behind: ${describeLeftovers(leftovers)}`
  display.line(`[CleanUp] ${text}`)
  const hint = 'Remove it by hand, or run the job Clean up again. What is unfinished the reaper removes once its attempt is dead.'
  if (onActions) printError(process.stderr, { code: 'LEFTOVERS', hint }, text)
}

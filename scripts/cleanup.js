#!/usr/bin/env node
'use strict'

// Removes what this run of a workflow left of its job, and finds out what the app has to hear. `--help` is its manual.

const { beginGroup, endGroup, mask, openOutputs, printError } = require('./support/actions.js')
const { openDisplay } = require('./support/display.js')
const { readRuns } = require('./support/run.js')
const { appendSummary, describeLeftovers, summarizeCleanup } = require('./support/summary.js')

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
  ERROR, FAILED_STEP     what it said of its failure, if it could
  REPORTED               what it has told the app already: running or failed
  GITHUB_OUTPUT          event is appended: running, failed or none, and what goes with it: server_id,
                         server_ip and tailscale_ip, or error and failed_step
  GITHUB_STEP_SUMMARY    a small table is appended
  GITHUB_ACTIONS         true: secrets are masked, and trouble becomes an annotation

Standard output gets one line of JSON. All else goes to standard error.

Exit codes:
  0    nothing of this run is left           2    bad input or configuration
  1    something is left and named, or whether there is cannot be told
`

const SECRET_SETTINGS = ['HETZNER_API_TOKEN', 'TAILSCALE_OAUTH_CLIENT_SECRET', 'ACTIONS_ID_TOKEN_REQUEST_TOKEN']

/** What is said of a run that could say nothing itself. */
const ENDS = {
  cancelled: ['the run was cancelled or timed out', 'cancelled'],
  failure: ['the run ended without a word: its step or its machine was lost', 'lost'],
  skipped: ['the run ended before it began to provision', 'skipped'],
}

/** How often, and how far apart, a ready machine is looked at whose device does not show. */
const LOOKS = 3
const LOOK_AGAIN_MS = 3000

main(process.argv.slice(2), process.env)

async function main(args, env) {
  if (args.length > 0) return help(args)
  const onActions = env.GITHUB_ACTIONS === 'true'
  const hide = onActions ? (secret) => mask(process.stderr, secret) : () => {}
  for (const name of SECRET_SETTINGS) hide(env[name] ?? '')

  const display = openDisplay(process.stderr, env)
  const complain = (complaint) => display.warn(complaint)
  const outputs = openOutputs(env.GITHUB_OUTPUT, complain)
  const params = { jobId: env.JOB_ID, agentId: env.AGENT_ID || undefined, runIds: readRuns(env) }
  const summarize = (how) => appendSummary(env.GITHUB_STEP_SUMMARY, summarizeCleanup({ params, ...how }), complain)
  if (params.runIds === undefined) {
    display.line('[CleanUp] GITHUB_RUN_ID, GITHUB_RUN_ATTEMPT: expected the numbers of a run')
    process.exitCode = 2
    return
  }

  const options = { env, logger: false, onSecret: hide, onProgress: (event) => display.event(event) }
  if (onActions) beginGroup(process.stderr, `Cleaning up after run ${params.runIds[0]} of job ${params.jobId}`)
  try {
    const { cleanUpRun, getProvisioning } = require('../index.js')
    const report = await cleanUpRun(params, options)
    const status = await look(() => getProvisioning({ jobId: params.jobId }, { ...options, onProgress: undefined }))
    const { event, fields, verdict } = judge(status, report, env)
    outputs.set('event', event)
    for (const [name, value] of Object.entries(fields)) outputs.set(name, value)
    if (onActions) endGroup(process.stderr)
    display.line(`[CleanUp] The app is told: ${verdict}`)
    console.log(JSON.stringify({ ...report, state: status.state, event, ...fields }))
    summarize({ report, verdict })
    if (report.leftovers.length > 0) return leave(report.leftovers, display, onActions)
    process.exitCode = outputs.failed ? 1 : 0
  } catch (error) {
    if (onActions) endGroup(process.stderr)
    display.failure(error, error.message)
    if (onActions) printError(process.stderr, error, error.message)
    console.log(JSON.stringify({ error: error.code ? error : { name: error.name, message: error.message } }))
    // Nothing is told: an earlier run may have delivered the machine, and nobody could see.
    summarize({ error, verdict: 'nothing, since it is not known where the job stands; run the failed jobs again' })
    process.exitCode = ['INVALID_INPUT', 'CONFIG'].includes(error.code) ? 2 : 1
  }
}

function help(args) {
  const asked = args.length === 1 && ['--help', '-h'].includes(args[0])
  if (asked) return process.stdout.write(HELP)
  process.stderr.write(`cleanup: unknown argument ${JSON.stringify(args.join(' '))}\n\n${HELP}`)
  process.exitCode = 2
}

/** Looks where the job stands; more than once if its machine is ready and its device does not show just now. */
async function look(once) {
  for (let tried = 1; ; tried += 1) {
    const status = await once()
    if (status.state !== 'ready' || status.tailscaleIp || tried === LOOKS) return status
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
  }
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
    return { event: 'none', fields: {}, verdict: `nothing: another run is at work on the job (${state})` }
  }
  const [error, step] = ENDS[env.PROVISION_RESULT] ?? ENDS.failure
  const fields = { error: env.ERROR || error, failed_step: env.FAILED_STEP || step }
  return { event: 'failed', fields, verdict: `failed: ${fields.error}` }
}

function leave(leftovers, display, onActions) {
  const text = `Left behind: ${describeLeftovers(leftovers)}`
  display.line(`[CleanUp] ${text}`)
  const hint = 'Remove it by hand, or run the failed jobs again. What is unfinished the reaper removes once its attempt is dead.'
  if (onActions) printError(process.stderr, { code: 'LEFTOVERS', hint }, text)
  process.exitCode = 1
}

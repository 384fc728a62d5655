#!/usr/bin/env node
'use strict'

// Provisions one VM from a workflow or a terminal. `--help` is its manual.

const { openDisplay } = require('./support/display.js')
const { appendSummary, mask, openOutputs, printError } = require('./support/actions.js')

const HELP = `Provisions one Hetzner Cloud VM that joins the tailnet: one job, at most one server.

Usage: node scripts/provision.js [--help]

Environment:
  JOB_ID, AGENT_ID       required: the job, and the agent that the machine is for
  REGION                 us-east (default), us-west, eu-central, eu-west, eu-north, ap-southeast,
                         or the name of a Hetzner location
  HETZNER_API_TOKEN, HETZNER_SSH_KEY_ID, TAILSCALE_OAUTH_CLIENT_ID, TAILSCALE_OAUTH_CLIENT_SECRET
                         required settings; README.md has them all
  GITHUB_OUTPUT          server_name, server_id, server_ip are appended as soon as each is known,
                         tailscale_ip at the end
  GITHUB_STEP_SUMMARY    a small table is appended
  GITHUB_ACTIONS         true: secrets are masked, and a failure becomes an annotation
  NO_COLOR               no colours

Standard output gets one line of JSON: the result, or { "error": ... }. All else goes to standard error.
The first SIGINT, SIGTERM or SIGHUP undoes what was begun; a second one ends at once and says what may be left.

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

/** What must not be seen in a log, beside the secrets that are minted on the way. */
const SECRET_SETTINGS = [
  'HETZNER_API_TOKEN',
  'TAILSCALE_OAUTH_CLIENT_SECRET',
  'TAILSCALE_AUTH_KEY',
  'ACTIONS_ID_TOKEN_REQUEST_TOKEN',
]

/** Addresses that may hold a password. */
const PROXIES = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy']

main(process.argv.slice(2), process.env)

async function main(args, env) {
  // A reader that went away is no reason to leave a machine half made.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  if (args.length > 0) return help(args)

  const onActions = env.GITHUB_ACTIONS === 'true'
  const hide = onActions ? (secret) => mask(process.stderr, secret) : () => {}
  for (const name of SECRET_SETTINGS) hide(env[name] ?? '')
  for (const name of PROXIES) hide(passwordOf(env[name]))

  const display = openDisplay(process.stderr, env)
  const outputs = openOutputs(env.GITHUB_OUTPUT, (complaint) => display.warn(complaint))
  const known = {}
  const interruption = catchSignals(display, known)

  const onProgress = (event) => {
    Object.assign(known, { name: event.serverName, id: event.serverId ?? known.id, ip: event.serverIp ?? known.ip })
    display.event(event)
    outputs.set('server_name', event.serverName)
    outputs.set('server_id', event.serverId)
    outputs.set('server_ip', event.serverIp)
  }
  const params = { jobId: env.JOB_ID, agentId: env.AGENT_ID, region: env.REGION || 'us-east' }
  try {
    // Only now: a signal during the loading of the module is caught already.
    const { provisionVM } = require('../index.js')
    const options = { signal: interruption.signal, onProgress, onSecret: hide, env, logger: false }
    const result = await provisionVM(params, options)
    // An adopted server may have been known by no event.
    outputs.set('server_name', result.serverName)
    outputs.set('server_id', result.serverId)
    outputs.set('server_ip', result.serverIp)
    outputs.set('tailscale_ip', result.tailscaleIp)
    display.success(result)
    console.log(JSON.stringify(result))
    appendSummary(env.GITHUB_STEP_SUMMARY, { params, result }, (complaint) => display.warn(complaint))
    process.exitCode = outputs.failed ? EXIT.output : EXIT.ok
  } catch (error) {
    const message = inTermsOfTheJob(error)
    display.failure(error, message)
    if (onActions) printError(process.stderr, error, message)
    console.log(JSON.stringify({ error: error.code ? error : { name: error.name, message: error.message } }))
    appendSummary(env.GITHUB_STEP_SUMMARY, { params, error }, (complaint) => display.warn(complaint))
    process.exitCode = exitCode(error, interruption.signal.reason)
  } finally {
    interruption.end()
  }
}

function help(args) {
  const asked = args.length === 1 && ['--help', '-h'].includes(args[0])
  if (asked) return process.stdout.write(HELP)
  process.stderr.write(`provision: unknown argument ${JSON.stringify(args.join(' '))}\n\n${HELP}`)
  process.exitCode = EXIT.usage
}

function passwordOf(address) {
  return /\/\/[^/@]*:([^/@]+)@/.exec(address ?? '')?.[1] ?? ''
}

/** The message, with the variable that a person can change instead of the argument that this script made of it. */
function inTermsOfTheJob({ field, message }) {
  return SOURCES[field] ? message.replace(field, SOURCES[field]) : message
}

function exitCode(error, signalName) {
  if (error.code === 'INVALID_INPUT' || error.code === 'CONFIG') return EXIT.usage
  const isUndone = error.code === 'ABORTED' && error.leftovers.length === 0
  return isUndone ? EXIT[signalName] : EXIT.failed
}

/** The first signal gives the job up; the second ends the process whatever the undo is doing. */
function catchSignals(display, known) {
  const controller = new AbortController()
  const onSignal = (name) => {
    if (!controller.signal.aborted) {
      display.warn(`${name}: undoing what was begun; a second signal ends at once and may leave something behind`)
      return controller.abort(name)
    }
    const server = known.id ? `server ${known.id} (${known.name}, ${known.ip})` : `a server named ${known.name}`
    const left = known.name ? `${server}, its device and its auth key` : 'nothing'
    display.warn(`${name} again: ending at once. May be left behind: ${left}`)
    process.exit(EXIT[name])
  }
  for (const name of SIGNALS) process.on(name, onSignal)
  return {
    signal: controller.signal,
    end: () => SIGNALS.forEach((name) => process.off(name, onSignal)),
  }
}

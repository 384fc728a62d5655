#!/usr/bin/env node
'use strict'

// Finds what dead attempts left, and removes it if told to. `--help` is its manual.

const { beginGroup, endGroup, mask, openOutputs, printError, printWarning } = require('./support/actions.js')
const { openPlainDisplay } = require('./support/display.js')
const { appendSummary, describeLeftovers, summarizeReap } = require('./support/summary.js')

const HELP = `Finds the servers of attempts that died without their undo. A dry run, unless told to remove them.

Usage: node scripts/reap.js [--help]

Environment:
  REAP_REMOVE            true: remove what has been dead for five minutes; all else is a dry run
  HETZNER_API_TOKEN, TAILSCALE_OAUTH_CLIENT_ID, TAILSCALE_OAUTH_CLIENT_SECRET
                         required settings; README.md has them all
  GITHUB_OUTPUT          dead and left are appended: how many were found, and how many are still there
  GITHUB_STEP_SUMMARY    a table is appended
  GITHUB_ACTIONS         true: secrets are masked, and what was found becomes an annotation

Standard output gets one line of JSON: the report. All else goes to standard error.

Exit codes:
  0    looked; in a dry run, whatever was found
  1    something could not be removed, or the look failed
  2    bad configuration
`

const SECRET_SETTINGS = ['HETZNER_API_TOKEN', 'TAILSCALE_OAUTH_CLIENT_SECRET', 'ACTIONS_ID_TOKEN_REQUEST_TOKEN']

main(process.argv.slice(2), process.env)

async function main(args, env) {
  if (args.length > 0) return help(args)
  const onActions = env.GITHUB_ACTIONS === 'true'
  const hide = onActions ? (secret) => mask(process.stderr, secret) : () => {}
  for (const name of SECRET_SETTINGS) hide(env[name] ?? '')

  const display = openPlainDisplay(process.stderr)
  const complain = (complaint) => display.warn(complaint)
  const outputs = openOutputs(env.GITHUB_OUTPUT, complain)
  const summarize = (how) => appendSummary(env.GITHUB_STEP_SUMMARY, summarizeReap(how), complain)
  if (onActions) beginGroup(process.stderr, 'Looking for dead attempts')
  try {
    const { reap } = require('../index.js')
    const dryRun = env.REAP_REMOVE !== 'true'
    const report = await reap({ env, dryRun, logger: false, onSecret: hide, onProgress: (event) => display.event(event) })
    if (onActions) endGroup(process.stderr)
    const left = report.servers.flatMap(({ leftovers }) => leftovers)
    outputs.set('dead', report.servers.length)
    outputs.set('left', left.length)
    console.log(JSON.stringify(report))
    summarize({ report })
    tell({ report, left, display, onActions })
    process.exitCode = left.length > 0 ? 1 : 0
  } catch (error) {
    if (onActions) endGroup(process.stderr)
    display.trouble('Reap', error)
    if (onActions) printError(process.stderr, error, error.message)
    console.log(JSON.stringify({ error: error.code ? error : { name: error.name, message: error.message } }))
    summarize({ error })
    process.exitCode = ['INVALID_INPUT', 'CONFIG'].includes(error.code) ? 2 : 1
  }
}

function help(args) {
  const asked = args.length === 1 && ['--help', '-h'].includes(args[0])
  if (asked) return process.stdout.write(HELP)
  process.stderr.write(`reap: unknown argument ${JSON.stringify(args.join(' '))}\n\n${HELP}`)
  process.exitCode = 2
}

function tell({ report, left, display, onActions }) {
  const { dryRun, servers, alive } = report
  const doing = dryRun ? 'a dry run, so all of it is still there' : `${left.length} things are left`
  const text = `${servers.length} servers of dead attempts, ${alive} under way${servers.length > 0 ? `; ${doing}` : ''}`
  display.line(`[Reap] ${text}`)
  if (left.length > 0) display.line(`[Reap] Left behind: ${describeLeftovers(left)}`)
  if (onActions && dryRun && servers.length > 0) printWarning(process.stderr, 'Dead attempts', text)
}

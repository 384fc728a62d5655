#!/usr/bin/env node
'use strict'

// Finds what dead attempts left, and removes it if told to. `--help` is its manual.

const { beginGroup, endGroup, hideSettings, openOutputs, printError, printWarning } = require('./support/actions.js')
const { answerArguments, asData, openPlainDisplay } = require('./support/display.js')
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

main(process.argv.slice(2), process.env)

async function main(args, env) {
  if (args.length > 0) {
    process.exitCode = answerArguments(args, 'reap', HELP)
    return
  }
  const onActions = env.GITHUB_ACTIONS === 'true'
  const hide = hideSettings(process.stderr, env)

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
    console.log(JSON.stringify({ error: asData(error) }))
    summarize({ error })
    process.exitCode = ['INVALID_INPUT', 'CONFIG'].includes(error.code) ? 2 : 1
  }
}

function tell({ report, left, display, onActions }) {
  const { dryRun, servers, alive } = report
  const doing = dryRun ? 'a dry run, so all of it is still there' : `${left.length} things are left`
  const text = `${servers.length} servers of dead attempts, ${alive} under way${servers.length > 0 ? `; ${doing}` : ''}`
  display.line(`[Reap] ${text}`)
  if (left.length > 0) display.line(`[Reap] Left behind: ${describeLeftovers(left)}`)
  if (onActions && dryRun && servers.length > 0) printWarning(process.stderr, 'Dead attempts', text)
}

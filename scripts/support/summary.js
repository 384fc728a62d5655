'use strict'

// What the page of a run shows: Markdown, of which the values have no part.

const { append } = require('./actions.js')
const { seconds } = require('./display.js')

/** How provisioning ended. `events` are those that were reported, for the times of a call that failed. */
function summarizeProvision({ params, result, error, events = [] }) {
  const rows = [['Job', params.jobId], ['Agent', params.agentId], ['Region', params.region]]
  if (result) {
    const tables = [
      table([...rows, ...describeResult(result)]),
      stepsTable(result.timings),
      candidatesTable(result.attempts),
    ]
    return page('VM provisioned', tables)
  }
  return page('VM not provisioned', [
    table([...rows, ...describeError(error), ['Time', events.length > 0 && seconds(events.at(-1).elapsedMs)]]),
    stepsTable(timingsOf(events)),
    candidatesTable(error.attempts ?? []),
  ])
}

/** What a clean-up found, and what the app is told. */
function summarizeCleanup({ params, report, error, verdict }) {
  const found = report ? [...report.servers.map(describeRemoval), ...report.revokedKeys.map((id) => `auth key ${id}: revoked`)] : []
  return page('Clean-up', [
    table([
      ['Job', params.jobId],
      ['Runs', params.runIds.join(', ')],
      ['Found', report && (found.join('; ') || 'nothing of this run')],
      ['Left behind', report && describeLeftovers(report.leftovers)],
      // What a look could not see is not known, and so is not nothing.
      ...(error ? describeError(error).filter(([name]) => name !== 'Left behind') : []),
      ['Left behind', !report && 'not known: nobody could look. Whatever this run made may stand there'],
      ['Requests', report && describeRequests(report.requests)],
      ['The app is told', verdict],
    ]),
  ])
}

/** What the reaper found, and what it did or would do. */
function summarizeReap({ report, error }) {
  if (error) return page('Reaper failed', [table(describeError(error))])
  const { servers, alive, dryRun, requests } = report
  const rows = servers.map((it) => [it.serverName, it.serverId, it.jobId, seconds(it.deadForMs), it.outcome.replaceAll('_', ' '), it.why])
  return page(dryRun ? 'Reaper: dry run' : 'Reaper', [
    table([['Dead attempts', servers.length], ['Under way', alive], ['Requests', describeRequests(requests)]]),
    list(['Server', 'Id', 'Job', 'Dead for', dryRun ? 'Would be' : 'Outcome', 'Why'], rows),
  ])
}

/** Appends a text to the page. Outside a workflow there is none. */
function appendSummary(file, text, complain) {
  if (file) append(file, text, complain)
}

module.exports = { appendSummary, describeLeftovers, summarizeCleanup, summarizeProvision, summarizeReap }

function describeResult(result) {
  return [
    ['Server', `${result.serverName} (${result.serverId})`],
    ['Type', `${result.serverType} in ${result.location}`],
    ['Price', result.price && `${result.price.hourly} an hour, ${result.price.monthly} a month`],
    ['Address', result.serverIp],
    ['Address in the tailnet', result.tailscaleIp],
    ['Reused', result.reused ? 'yes' : 'no'],
    ['Time', seconds(result.timings.reduce((sum, { ms }) => sum + ms, 0))],
    ['Requests', describeRequests(result.requests)],
    ['Warnings', result.warnings.join('; ')],
  ]
}

function describeError(error) {
  return [
    ['Error', error.code ?? error.name],
    ['Step', error.step],
    ['Message', error.message],
    ['What to do', error.hint],
    ['Left behind', describeLeftovers(error.leftovers ?? [])],
    ['Requests', error.requests && describeRequests(error.requests)],
  ]
}

function describeRequests({ hetzner, tailscale }) {
  return `${hetzner} to Hetzner, ${tailscale} to Tailscale`
}

function describeRemoval({ serverName, serverId, removed, why }) {
  return `server ${serverName} (${serverId}): ${removed ? 'removed' : why}`
}

function describeLeftovers(leftovers) {
  return leftovers.map((it) => `${[it.kind, it.id, it.name].filter(Boolean).join(' ')}: ${it.why}`).join('; ') || 'nothing'
}

/** When each step began and how long it took, as far as the events tell. */
function timingsOf(events) {
  const timings = []
  events.forEach(({ step, elapsedMs }, at) => {
    const ms = (events[at + 1]?.elapsedMs ?? elapsedMs) - elapsedMs
    const last = timings.at(-1)
    if (last?.step === step) last.ms += ms
    else timings.push({ step, ms })
  })
  return timings
}

function stepsTable(timings) {
  return list(['Step', 'Time'], timings.map(({ step, ms }) => [step, seconds(ms)]))
}

function candidatesTable(attempts) {
  return list(['Type', 'Location', 'Outcome'], attempts.map((it) => [it.serverType, it.location, it.refused ? `refused: ${it.refused}` : 'chosen']))
}

function page(title, parts) {
  return [`### ${title}`, ...parts.filter(Boolean), ''].join('\n\n')
}

/** Names and values; what there is nothing to say of is left out. */
function table(rows) {
  const told = rows.filter(([, value]) => value !== undefined && value !== null && value !== '' && value !== false)
  return ['| | |', '| --- | --- |', ...told.map((row) => line(row))].join('\n')
}

/** A table with a head; none without a row. */
function list(head, rows) {
  return rows.length > 0 && [line(head), line(head.map(() => '---'), (text) => text), ...rows.map((row) => line(row))].join('\n')
}

function line(cells, write = cell) {
  return `| ${Array.from(cells, (value) => write(value ?? '')).join(' | ')} |`
}

/** A value that neither ends its cell nor is taken for Markdown or HTML. */
function cell(value) {
  return String(value).replace(/[\r\n]+/g, ' ').replace(/[\\`*_[\]<>|#~]/g, (sign) => `\\${sign}`)
}

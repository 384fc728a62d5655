'use strict'

const { optionsOf, readSeconds } = require('../arguments.js')
const { EXIT, describeLeftovers } = require('../failure.js')
const { table } = require('../table.js')
const { count, describeTime } = require('../words.js')

const COLUMNS = [
  { title: 'JOB', long: true, text: (it) => it.jobId },
  { title: 'DEAD FOR', right: true, text: (it) => describeTime(it.deadForMs) },
  { title: 'SERVER', right: true, text: (it) => String(it.serverId) },
  { title: 'NAME', spared: 'first', text: (it) => it.serverName },
  { title: 'OUTCOME', long: true, text: outcomeOf, colour: (it) => (it.outcome === 'left' ? 'red' : undefined) },
]

const command = {
  usage: 'reap',
  summary: 'find what dead attempts left; with --yes, remove it',
  about:
    'Finds the servers of attempts that died without their undo, by their labels. A dry run, unless --yes removes them with their ' +
    'devices; a machine that joined after all is marked ready instead. What is ready, or may still be in the making, is never touched.',
  examples: `
provision-vm reap               what would be removed?
provision-vm reap --yes         remove what has been dead for five minutes
provision-vm reap --grace 0 --json
`,
  flags: {
    yes: { short: 'y', option: 'dryRun', means: false, says: 'remove what is found; without it nothing is changed' },
    grace: { value: 'SECONDS', read: readSeconds, option: 'graceMs', says: 'how long an attempt must have been dead (300)' },
  },
  underway: 'Looking for dead attempts',
  givesUp: 'a removal that has begun is finished first',

  async run({ flags, call, terminal }) {
    const options = optionsOf(command, flags)
    const report = await call((api, common) => api.reap({ ...options, ...common }))
    terminal.answer(report, (to) => describe(report, to))
    return leftOf(report).length > 0 ? EXIT.failed : EXIT.ok
  },
}

module.exports = command

function leftOf({ servers }) {
  return servers.flatMap(({ leftovers }) => leftovers)
}

function describe(report, to) {
  const { servers, alive, dryRun } = report
  const sum = `${count(servers.length, 'dead attempt')}, ${alive} under way.`
  if (servers.length === 0) return [sum]
  return [
    ...table(COLUMNS, servers, to),
    '',
    `${sum}${dryRun ? ' A dry run: nothing was changed. --yes does it.' : ''}`,
    ...describeLeftovers(leftOf(report)),
  ]
}

function outcomeOf({ outcome, why }) {
  return [outcome.replaceAll('_', ' '), why].filter(Boolean).join(': ')
}

'use strict'

const { EXIT } = require('../failure.js')
const { table, wrap } = require('../table.js')
const { CURRENCY, count, describeSum, describeTime } = require('../words.js')

const COLOURS = { ready: 'green', creating: 'yellow', booting: 'yellow', expired: 'red' }

const COLUMNS = [
  { title: 'JOB', long: true, text: (vm) => vm.jobId },
  { title: 'STATE', text: stateOf, colour: (vm) => COLOURS[vm.state] },
  { title: 'AGE', right: true, text: (vm) => describeTime(vm.ageMs) },
  { title: 'COST', right: true, text: (vm) => describeSum(vm.costSoFar) ?? '?' },
  { title: 'AN HOUR', right: true, spared: 'late', text: (vm) => describeSum(vm.price?.hourly) ?? '?' },
  { title: 'TYPE', spared: 'late', text: (vm) => vm.serverType },
  { title: 'WHERE', spared: 'late', text: (vm) => vm.location },
  { title: 'SERVER', right: true, spared: 'late', text: (vm) => String(vm.serverId) },
  { title: 'ADDRESS', spared: 'first', text: (vm) => vm.serverIp },
  { title: 'AGENT', spared: 'first', text: (vm) => vm.agentId },
]

module.exports = {
  usage: 'list',
  summary: 'what there is: jobs, states, ages, costs so far',
  about:
    'Lists the server of every job, the oldest first: its state, its age, and what it has cost so far. On a narrow terminal the ' +
    'columns on the right are left out, and ids that are too long shortened in their middle; a pipe and --json get all of it.',
  examples: `
provision-vm list
provision-vm list --json | jq -r '.vms[] | select(.state == "expired") | .jobId'
`,
  flags: {},
  isLook: true,
  underway: 'Listing the servers',

  async run({ call, terminal }) {
    const list = await call((api, common) => api.listVMs(common))
    terminal.answer(list, (to) => describe(list.vms, to))
    return EXIT.ok
  },
}

function describe(vms, to) {
  if (vms.length === 0) return ['No VMs.']
  const expired = vms.filter((vm) => vm.state === 'expired').length
  return [
    ...table(COLUMNS, vms, to),
    '',
    ...wrap(`${count(vms.length, 'VM')}. COST is what each has cost so far, ${CURRENCY}.`, to.width),
    ...(expired > 0 ? wrap(`${count(expired, 'attempt')} died or ran out of time: provision-vm reap says what it would remove.`, to.width) : []),
  ]
}

/** A server that is off costs as much, so a person should see it. */
function stateOf({ state, serverStatus }) {
  return state === 'ready' && serverStatus !== 'running' ? `${state}, ${serverStatus}` : state
}

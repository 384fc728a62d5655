'use strict'

const { optionsOf } = require('../arguments.js')
const { EXIT } = require('../failure.js')
const { PROVISIONING_FLAGS, paramsOf } = require('../provisioning-flags.js')
const { facts, table } = require('../table.js')
const { describePrice, describeSum, footnote } = require('../words.js')

const command = {
  usage: 'plan JOB --agent ID',
  summary: 'what provision would do now, and what it would cost',
  about:
    'Looks what provision would do with the same arguments: what it would make, where, with which fallbacks, and at what price. ' +
    'It changes nothing.',
  examples: `
provision-vm plan job-42 --agent 550e8400-e29b --region us-east
provision-vm plan job-42 --agent 550e8400-e29b --location fsn1 --location nbg1
provision-vm plan job-42 --agent 550e8400-e29b --json | jq .price
`,
  operand: 'JOB',
  required: ['agent'],
  flags: PROVISIONING_FLAGS,
  isLook: true,
  underway: 'Looking what would be done',

  async run({ operand, flags, call, terminal }) {
    const params = paramsOf(operand, flags)
    const options = optionsOf(command, flags)
    const plan = await call((api, common) => api.plan(params, { ...options, ...common }))
    terminal.answer(plan, (to) => describe(plan, params, to))
    return EXIT.ok
  },
}

module.exports = command

const ACTIONS = {
  create: (job) => `order a server for ${job}`,
  return: (job) => `hand over the VM of ${job}, which stands ready`,
  finish: (job) => `finish the VM of ${job}, which an earlier call began`,
  follow: (job) => `wait for another call that is making the VM of ${job}`,
  replace: (job) => `remove what a dead attempt left of ${job}, and order a server anew`,
}

function describe(plan, { jobId }, to) {
  const { action, serverName, serverId, image, usesSnapshot, locations, candidates, price, tags, ephemeral } = plan
  // Where a server stands already, what would be ordered is beside the point.
  const orders = action === 'create' || action === 'replace'
  const isVain = orders && candidates.every(({ refused }) => refused)
  const would = `${to.style('bold', 'It would')} ${ACTIONS[action]?.(jobId) ?? action}`
  return [
    isVain ? `${would}, ${to.style('red', 'and fail: nothing can be ordered')}` : would,
    '',
    ...facts(
      [
        ['server', serverId === undefined ? serverName : `${serverName} (${serverId})`],
        ['image', usesSnapshot ? `snapshot ${image}` : image],
        ['where', orders ? locations.join(', then ') : ''],
        ['price', orders ? describePrice(price) : ''],
        ['tags', tags.join(', ')],
        ['device', ephemeral ? 'vanishes some time after the machine is off' : 'stays while the machine is off'],
      ],
      to,
    ),
    ...(orders && candidates.length > 0 ? ['', ...table(columnsFor(candidates), candidates, to)] : []),
    // Warnings were told as they came.
    ...footnote(orders && price, to.width),
  ]
}

function columnsFor(candidates) {
  const first = candidates.find((it) => !it.refused && it.inStock) ?? candidates.find((it) => !it.refused)
  const inWords = (it) => {
    if (it.refused) return `left out: ${it.refused}`
    if (it === first) return it.inStock ? 'first' : 'first, though out of stock'
    return it.inStock ? 'fallback' : 'out of stock, tried last'
  }
  return [
    { title: 'TYPE', text: (it) => it.serverType },
    { title: 'WHERE', text: (it) => it.location },
    { title: 'AN HOUR', right: true, spared: 'first', text: (it) => describeSum(it.price?.hourly) },
    { title: 'A MONTH', right: true, spared: 'first', text: (it) => describeSum(it.price?.monthly) },
    { title: 'TRIED', long: true, isProse: true, text: inWords, colour: (it) => (it.refused ? 'dim' : it === first ? 'green' : undefined) },
  ]
}

'use strict'

const { optionsOf } = require('../arguments.js')
const { EXIT } = require('../failure.js')
const { PROVISIONING_FLAGS, WAITING_FLAGS, paramsOf } = require('../provisioning-flags.js')
const { facts } = require('../table.js')
const { describePrice, describeTime, footnote } = require('../words.js')

const command = {
  usage: 'provision JOB --agent ID',
  summary: 'make the VM of a job, or hand over the one it has',
  about:
    'Makes a server that joins the tailnet, and waits until it has joined. The same JOB always has the same server: calling ' +
    'again returns it, or goes on with what another call began. A call that fails undoes what it did, or names what it left.',
  examples: `
provision-vm provision job-42 --agent 550e8400-e29b
provision-vm provision job-42 --agent 550e8400-e29b --region eu-central
provision-vm provision job-42 --agent 550e8400-e29b --server-type cx23 --server-type cpx22
provision-vm provision job-42 --agent 550e8400-e29b --no-wait
provision-vm provision job-42 --agent 550e8400-e29b --json | jq -r .tailscaleIp
`,
  operand: 'JOB',
  required: ['agent'],
  flags: { ...PROVISIONING_FLAGS, ...WAITING_FLAGS },
  undoes: true,
  givesUp: 'undoing what was begun',

  async run({ operand, flags, call, terminal }) {
    const params = paramsOf(operand, flags)
    const options = optionsOf(command, flags)
    const result = await call((api, common) => api.provisionVM(params, { ...options, ...common }))
    terminal.answer(result, (to) => describe(result, params, to))
    return EXIT.ok
  },
}

module.exports = command

function describe(result, { jobId }, to) {
  const { state, serverName, serverId, serverIp, tailscaleIp, timeLeftMs, serverType, location, price, attempts, warnings } = result
  const refused = attempts.filter((it) => it.refused).map((it) => `${it.serverType} in ${it.location}: ${it.refused}`)
  return [
    headline(result, jobId, to),
    '',
    ...facts(
      [
        ['server', `${serverName} (${serverId})`],
        ['address', serverIp],
        ['in the tailnet', tailscaleIp],
        ['type', `${serverType} in ${location}`],
        ['price', describePrice(price)],
        ['passed over', refused.join('; ')],
        ['time left', timeLeftMs !== undefined ? `${describeTime(timeLeftMs)} for its machine to join` : ''],
        ['warning', warnings.join('; ')],
        ['next', state === 'ready' ? '' : `the same command again, or provision-vm status ${jobId}`],
      ],
      to,
    ),
    ...footnote(price, to.width),
  ]
}

function headline({ state, reused, timings }, jobId, { style }) {
  if (state !== 'ready') return `${style('yellow', state)}: the server of ${jobId} exists, and its machine has still to join`
  const took = describeTime(timings.reduce((sum, { ms }) => sum + ms, 0))
  return `${style('green', 'ready')}: the VM of ${jobId} ${reused ? 'was there already' : `joined after ${took}`}`
}

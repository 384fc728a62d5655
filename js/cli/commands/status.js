'use strict'

const { EXIT } = require('../failure.js')
const { facts } = require('../table.js')
const { describeTime } = require('../words.js')

const COLOURS = { ready: 'green', absent: 'dim', expired: 'red' }

const command = {
  usage: 'status JOB',
  summary: 'where a job stands',
  about: 'One short look where a job stands: absent, creating, booting, enrolled, ready, or expired if its attempt died.',
  examples: `
provision-vm status job-42
provision-vm status job-42 --json | jq -r .state
`,
  operand: 'JOB',
  flags: {},
  isLook: true,
  underway: 'Looking the job up',

  async run({ operand, call, terminal }) {
    const status = await call((api, common) => api.getProvisioning({ jobId: operand }, common))
    terminal.answer(status, (to) => describe(status, operand, to))
    return EXIT.ok
  },
}

module.exports = command

function describe(status, jobId, to) {
  const { state, percent, agentId, serverId, serverName, serverIp, serverType, location, serverStatus } = status
  const isUnderway = !['absent', 'ready', 'expired'].includes(state)
  const headline = `${jobId} is ${to.style(COLOURS[state] ?? 'yellow', state)}${isUnderway ? `, about ${percent} %` : ''}`
  if (state === 'absent') return [`${headline}: no server stands for it`]
  return [
    headline,
    '',
    ...facts(
      [
        ['server', `${serverName} (${serverId}), ${serverStatus}`],
        ['address', serverIp],
        ['in the tailnet', status.tailscaleIp],
        ['type', serverType && `${serverType} in ${location}`],
        ['agent', agentId],
        ['obstacle', status.obstacle],
        ['time left', isUnderway && status.expiresInMs !== undefined ? describeTime(status.expiresInMs) : ''],
        ['next', state === 'expired' ? 'provision makes it anew; reap removes what is left' : ''],
      ],
      to,
    ),
  ]
}

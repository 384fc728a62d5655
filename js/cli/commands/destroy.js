'use strict'

const { UsageError, readNumber } = require('../arguments.js')
const { EXIT, describeLeftovers } = require('../failure.js')

const command = {
  usage: 'destroy JOB',
  summary: 'remove the VM of a job, with its key and its device',
  about:
    'Removes what stands for a job, also if it is ready: its server, its auth key, its device, each after a read that proves it. It ' +
    'returns when reads show that they are gone. What is not there is no error, so it may be repeated. On a terminal it asks first.',
  examples: `
provision-vm destroy job-42
provision-vm destroy job-42 --yes --json
provision-vm destroy --server-id 131072002
provision-vm destroy --server-id 131072002 --force    also if it is not provably this package's
`,
  operand: 'JOB',
  instead: ['server-id', 'server-name'],
  flags: {
    'server-id': { value: 'N', read: readNumber, says: 'the server with this id, instead of a job' },
    'server-name': { value: 'NAME', says: 'the server with this name, instead of a job' },
    force: { option: 'force', means: true, says: "with --server-id: also a server that is not provably this package's" },
    yes: { short: 'y', says: 'do not ask; needed where nobody can be asked' },
  },
  underway: 'Removing what was found',
  givesUp: 'a removal that has begun is finished first',

  async run({ operand, flags, call, terminal, signal }) {
    const target = targetOf(operand, flags)
    if (!flags.yes) {
      const isSure = await confirm({ target, flags, call, terminal, signal })
      if (signal.aborted) return EXIT[signal.reason]
      if (!isSure) return refrain(terminal)
    }
    const force = flags.force ? { force: true } : {}
    const report = await call((api, common) => api.deprovisionVM(target, { ...force, ...common }))
    terminal.answer(report, (to) => describe(report, to))
    return report.leftovers.length > 0 || report.servers.some(({ removed }) => !removed) ? EXIT.failed : EXIT.ok
  },
}

module.exports = command

function targetOf(jobId, { 'server-id': serverId, 'server-name': serverName }) {
  if (serverId !== undefined) return { serverId }
  return serverName !== undefined ? { serverName } : { jobId }
}

/** Asks whoever sits at the terminal, who sees first what stands for the job. */
async function confirm({ target, flags, call, terminal, signal }) {
  if (!terminal.canAsk) {
    throw new UsageError('destroy: it needs --yes where nobody can be asked', 'There is no terminal to ask at. Nothing was removed.')
  }
  const what = target.jobId === undefined ? describeServer(target, flags) : await describeJob(target, call)
  const answer = await terminal.ask(`Remove ${what}? [y/N] `, signal)
  return /^\s*y(es)?\s*$/i.test(answer ?? '')
}

function describeServer({ serverId, serverName }, { force }) {
  return `server ${serverId ?? serverName}${force ? ', whoever made it' : ''}`
}

async function describeJob({ jobId }, call) {
  const look = await call((api, common) => api.getProvisioning({ jobId }, common))
  const { state, serverName, serverId, serverType, location } = look
  if (state === 'absent') return `what there is of ${jobId} (no server stands for it)`
  return `${jobId} (${state}): server ${serverName} (${serverId}), ${serverType} in ${location}`
}

function refrain(terminal) {
  const data = { name: 'AbortError', code: 'ABORTED', message: 'it was not confirmed', step: 'validate', leftovers: [] }
  if (terminal.asJson) terminal.answer({ error: data })
  else terminal.complain(['Nothing was removed.'])
  return EXIT.failed
}

function describe({ servers, leftovers }, { style }) {
  const lines = servers.map(({ serverName, serverId, removed, why }) =>
    removed
      ? `${style('green', 'removed')}: server ${serverName} (${serverId}), with its auth key and its device`
      : `${style('red', 'left')}: server ${serverName} (${serverId}): ${why}`,
  )
  return [...(servers.length > 0 ? lines : ['Nothing was found, so nothing was removed.']), ...describeLeftovers(leftovers)]
}

'use strict'

const assert = require('node:assert/strict')
const { after, before, beforeEach, test } = require('node:test')

const { provisionVM, reap, ProvisionError } = require('..')
const { leftIn, newJob, startCloud } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(() => cloud.stop())

const options = (more) => ({ env: cloud.env(), logger: false, ...more })

/** The server of an attempt that died long ago, as its labels tell. */
async function plantDead(job = newJob()) {
  // A call that is given up tells the name that the job's server has.
  let name
  const gaveUp = new AbortController()
  const onProgress = (event) => {
    name = event.serverName
    gaveUp.abort()
  }
  await provisionVM(job, options({ signal: gaveUp.signal, onProgress })).catch(() => {})
  const labels = {
    provisioning_job_id: job.jobId,
    agent_id: job.agentId,
    managed_by: 'provision-vm',
    attempt: '0123456789abcdef',
    attempt_started: '1795420000',
    expires: '1795421000',
    state: 'creating',
  }
  const { id } = await cloud.control('POST', 'servers', { name, labels })
  return { id, name, ...job }
}

test('a dry run is the default: it says what would be done and does nothing', async () => {
  const dead = await plantDead()
  const report = await reap(options())
  assert.equal(report.dryRun, true)
  assert.equal(report.servers.length, 1)
  const [{ serverId, serverName, jobId, agentId, outcome, leftovers, deadForMs }] = report.servers
  assert.deepEqual({ serverId, serverName, jobId, agentId }, { serverId: dead.id, serverName: dead.name, jobId: dead.jobId, agentId: dead.agentId })
  assert.deepEqual([outcome, leftovers], ['would_remove', []])
  assert.ok(deadForMs > 1000)
  assert.equal((await cloud.world()).servers.length, 1)
})

test('for real it removes what a dead attempt left, and leaves the living alone', async () => {
  await plantDead()
  const lines = []
  const logger = { info: (line) => lines.push(line), warn: (line) => lines.push(line) }
  const living = provisionVM(newJob(), options())
  await cloud.until((world) => world.servers.length === 2)
  const report = await reap(options({ dryRun: false, graceMs: 0, logger }))
  assert.deepEqual([report.servers.map((server) => server.outcome), report.alive], [['removed'], 1])
  assert.ok(lines.some((line) => line.startsWith('[Hetzner] Server deleted: id=')), lines.join('\n'))
  const { serverId } = await living
  assert.deepEqual((await cloud.world()).servers.map((server) => server.id), [serverId])
})

test('bad options are named, and nothing is sent', async () => {
  for (const [bad, field] of [
    [{ dryRun: 'yes' }, 'options.dryRun'],
    [{ graceMs: -5 }, 'options.graceMs'],
    [{ signal: 5 }, 'options.signal'],
    [{ env: {} }, 'HETZNER_API_TOKEN'],
  ]) {
    await assert.rejects(reap(options(bad)), (error) => error instanceof ProvisionError && error.field === field)
  }
  assert.equal(await cloud.requests(), 0)
})

test('a reaper that is given up says so', async () => {
  const gaveUp = new AbortController()
  gaveUp.abort()
  await assert.rejects(reap(options({ signal: gaveUp.signal })), { code: 'ABORTED' })
  assert.deepEqual(leftIn(await cloud.world()), [])
})

'use strict'

// The same from another repository, by the actions, as docs/workflow.md puts them together; and the reaper's workflow.

const assert = require('node:assert/strict')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, test } = require('node:test')

const { resultsOf, startStage } = require('./support/provision-agent.js')
const { newJob, ROOT } = require('./support/simulator.js')
const { startRun } = require('./support/workflow.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-reuse-'))
const file = path.join(folder, 'provision.yml')
const [, example] = /```yaml\n(name: Provision\n[^]*?)```/.exec(readFileSync(path.join(ROOT, 'docs', 'workflow.md'), 'utf8'))
writeFileSync(file, example)

let stage
before(async () => (stage = await startStage()))
after(async () => {
  rmSync(folder, { recursive: true })
  await stage.stop()
})

function dispatch(job, more) {
  return startRun({
    file,
    inputs: { 'job-id': job.jobId, 'agent-id': job.agentId },
    secrets: stage.secrets({ GH_CALLBACK_SECRET: undefined }),
    env: stage.env(),
    actions: { 'your-org/provision-vm': ROOT, 'your-org/provision-vm/clean-up': path.join(ROOT, 'clean-up') },
    timeScale: 10,
    ...more,
  })
}

test('another repository provisions by the action, and has its outputs', async () => {
  await stage.reset()
  const run = await dispatch(newJob()).ended
  assert.equal(run.conclusion, 'success', run.log)
  const { servers: [server], devices: [device] } = await stage.cloud.world()
  assert.equal(server.location, 'nbg1')
  const { outputs } = run.jobs.provision.steps[0]
  assert.deepEqual(outputs, {
    'server-id': String(server.id), 'server-name': server.name, 'server-ip': server.ipv4, 'tailscale-ip': device.ip, error: '', 'failed-step': '',
  })
  assert.deepEqual(run.jobs.provision.outputs, { 'tailscale-ip': device.ip })
  assert.deepEqual(resultsOf(run), { provision: 'success' })
})

test('what it leaves there is cleaned up as well', async () => {
  await stage.reset()
  await stage.cloud.configure({ machine: { boot: 'never_joins' } })
  const run = dispatch(newJob())
  await stage.cloud.until((world) => world.servers.length > 0)
  await run.lose('provision')
  const ended = await run.ended
  assert.deepEqual(resultsOf(ended), { provision: 'failure', 'clean-up': 'success' }, ended.log)
  assert.deepEqual(await stage.left(), [])
  const { outputs } = ended.jobs['clean-up'].steps[0]
  assert.deepEqual([outputs.event, outputs['failed-step']], ['failed', 'lost'])
})

test('what it says of a failure is what the clean-up says', async () => {
  await stage.reset()
  const run = await dispatch(newJob(), { secrets: stage.secrets({ GH_CALLBACK_SECRET: undefined, HETZNER_SSH_KEY_ID: '999999999' }) }).ended
  const { outputs } = run.jobs['clean-up'].steps[0]
  assert.deepEqual([outputs.event, outputs['failed-step']], ['failed', 'server'], run.log)
  assert.match(outputs.error, /^CONFIG: .*ssh_keys/)
})

test('a failure of the action says why in its outputs', async () => {
  await stage.reset()
  const run = await dispatch(newJob({ jobId: 'a b' })).ended
  assert.equal(run.conclusion, 'failure')
  const { outputs } = run.jobs.provision.steps[0]
  assert.match(outputs.error, /^INVALID_INPUT: JOB_ID/)
  assert.equal(await stage.cloud.requests(), 0)
})

test('the reaper looks each hour, and removes only if it is told to', async () => {
  await stage.reset()
  await stage.cloud.configure({ machine: { boot: 'never_joins' } })
  const lost = dispatch(newJob())
  await stage.cloud.until((world) => world.servers.length > 0)
  // Neither of its machines comes to an end, so nobody cleans up.
  await lost.lose('provision')
  await lost.untilLog(/Cleaning up after run/)
  await lost.lose('clean-up')
  await lost.ended
  await stage.cloud.advance(2000)
  for (const [what, more, left] of [
    ['by the clock', { event: 'schedule' }, 1],
    ['by hand', {}, 1],
    ['by the clock, with the variable', { event: 'schedule', vars: { REAP_REMOVE: 'true' } }, 0],
  ]) {
    const run = await stage.start('reap.yml', more).ended
    assert.equal(run.conclusion, 'success', run.log)
    assert.equal((await stage.cloud.world()).servers.length, left, what)
    assert.match(run.summary, left ? /### Reaper: dry run[^]*would remove/ : /### Reaper\n[^]*removed/)
  }
})

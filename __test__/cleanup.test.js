'use strict'

// What a run of a workflow left: the function that removes it, and the script that says what the app has to hear.

const assert = require('node:assert/strict')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, beforeEach, test } = require('node:test')

const { cleanUpRun, getProvisioning, provisionVM } = require('..')
const { leftIn, newJob, runScript, startCloud, usable } = require('./support/simulator.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-cleanup-'))
let cloud
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(async () => {
  rmSync(folder, { recursive: true })
  await cloud.stop()
})

const options = (more = {}) => ({ env: cloud.env(), logger: false, ...more })

let files = 0
const newFile = () => {
  const file = path.join(folder, String((files += 1)))
  writeFileSync(file, '')
  return file
}
const read = (file) => Object.fromEntries(readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => line.split(/=(.*)/s)))

/** Runs a script of the workflow as the workflow would. */
async function run(name, env) {
  const [output, summary] = [newFile(), newFile()]
  const files = { GITHUB_OUTPUT: output, GITHUB_STEP_SUMMARY: summary }
  const said = await runScript(cloud, { script: name, params: {}, env: { ...files, ...env } }).ended
  return { ...said, outputs: read(output), summary: readFileSync(summary, 'utf8') }
}

const RUN = { GITHUB_RUN_ID: '4711', GITHUB_RUN_ATTEMPT: '1' }
const cleanUp = (job, env = {}) => run('cleanup.js', { JOB_ID: job.jobId, ...RUN, PROVISION_RESULT: 'cancelled', ...env })

/** A run that is killed as soon as the world is so. */
async function killedWhen(isSo, params, env = RUN) {
  const { child, ended } = runScript(cloud, { params, env })
  await cloud.until(isSo)
  child.kill('SIGKILL')
  await ended
}

const hasServer = (world) => world.servers.length > 0

test('a wrong target is refused with its path, before any request', async () => {
  for (const [target, field] of [
    [undefined, 'target'],
    [{ runIds: ['1-1'] }, 'target.jobId'],
    [{ jobId: 'job-1' }, 'target.runIds'],
    [{ jobId: 'job-1', runIds: [] }, 'target.runIds'],
    [{ jobId: 'job-1', runIds: ['1-1', 'a b'] }, 'target.runIds[1]'],
    [{ jobId: 'job-1', runIds: '1-1' }, 'target.runIds'],
    [{ jobId: '$(id)', runIds: ['1-1'] }, 'target.jobId'],
    [{ jobId: 'job-1', agentId: '', runIds: ['1-1'] }, 'target.agentId'],
  ]) {
    const error = await cleanUpRun(target, options()).then(() => assert.fail('accepted'), (error) => error)
    assert.deepEqual([error.code, error.field], ['INVALID_INPUT', field])
  }
  const error = await provisionVM(newJob(), options({ runId: '-1' })).then(() => assert.fail('accepted'), (error) => error)
  assert.deepEqual([error.code, error.field], ['INVALID_INPUT', 'options.runId'])
  assert.equal(await cloud.requests(), 0)
})

test('what a run left goes, and nothing of another run', async () => {
  const job = newJob()
  await killedWhen(hasServer, job)
  assert.match((await cloud.world()).servers[0].labels.attempt, /^4711-1-[0-9a-f]{8}$/)
  const others = await cleanUpRun({ jobId: job.jobId, runIds: ['4711-2', '4712-1'] }, options())
  assert.deepEqual([others.servers, others.revokedKeys, others.leftovers], [[], [], []])
  assert.equal((await cloud.world()).servers.length, 1)
  const report = await cleanUpRun({ jobId: job.jobId, runIds: ['4711-1'] }, options())
  assert.deepEqual(report.servers.map(({ jobId, removed }) => [jobId, removed]), [[job.jobId, true]])
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('h02 after a killed run the app is told that the job failed, and nothing is left', async () => {
  const job = newJob()
  await killedWhen((world) => world.devices.length > 0, job)
  const { code, stderr, outputs, summary } = await cleanUp(job)
  assert.equal(code, 0, stderr)
  assert.deepEqual(outputs, { event: 'failed', error: 'the run was cancelled or timed out', failed_step: 'cancelled' })
  assert.deepEqual(leftIn(await cloud.world()), [])
  assert.match(summary, /### Clean-up[^]*\| Runs \| 4711-1 \|[^]*\| Left behind \| nothing \|/)
})

test('the app hears what the run said of its failure, and nothing twice', async () => {
  const said = { PROVISION_RESULT: 'failure', ERROR: 'QUOTA: no room', FAILED_STEP: 'server' }
  const envs = [said, { PROVISION_RESULT: 'failure' }, { ...said, REPORTED: 'failed' }]
  const [told, lost, known] = await Promise.all(envs.map((env) => cleanUp(newJob(), env)))
  assert.deepEqual(told.outputs, { event: 'failed', error: 'QUOTA: no room', failed_step: 'server' })
  assert.equal(lost.outputs.failed_step, 'lost')
  assert.deepEqual(known.outputs, { event: 'none' })
})

test('h06 a machine that was delivered stays, and the app is told that it is there', async () => {
  const job = newJob()
  const vm = await provisionVM(job, options({ runId: '4711-1' }))
  const running = {
    event: 'running',
    server_id: String(vm.serverId),
    server_ip: vm.serverIp,
    tailscale_ip: vm.tailscaleIp,
  }
  // Of this run, whose own word was lost; of a second attempt of it; of another run, which failed early and said so.
  const cases = [
    [{}, running],
    [{ GITHUB_RUN_ATTEMPT: '2' }, running],
    [{ GITHUB_RUN_ID: '4712', PROVISION_RESULT: 'failure', REPORTED: 'failed' }, running],
    [{ REPORTED: 'running' }, { event: 'none' }],
  ]
  const runs = await Promise.all(cases.map(([env]) => cleanUp(job, env)))
  runs.forEach(({ code, stderr, outputs }, at) => assert.deepEqual([code, outputs], [0, cases[at][1]], stderr))
  assert.equal((await getProvisioning({ jobId: job.jobId }, options())).state, 'ready')
})

test('h05 what an earlier attempt of the run left goes too', async () => {
  const job = newJob()
  await killedWhen(hasServer, job)
  const { code, stderr, outputs } = await cleanUp(job, { GITHUB_RUN_ATTEMPT: '3' })
  assert.deepEqual([code, outputs.event], [0, 'failed'], stderr)
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('a server whose attempt is dead is nobody at work', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const job = newJob()
  await killedWhen(hasServer, job, { GITHUB_RUN_ID: '4712' })
  await cloud.advance(2000)
  const { outputs } = await cleanUp(job)
  assert.deepEqual([outputs.event, (await cloud.world()).servers.length], ['failed', 1])
})

test('a machine that is ready and not connected is a matter for a person', async () => {
  const job = newJob()
  await provisionVM(job, options())
  const answer = { status: 200, json: { devices: [] } }
  await cloud.fault({ api: 'tailscale', method: 'GET', path: '/tailnet/-/devices', times: 99, kind: { answer } })
  const { code, stderr, outputs } = await cleanUp(job, { GITHUB_ACTIONS: 'true' })
  assert.deepEqual([code, outputs], [1, { event: 'none' }], stderr)
  assert.match(stderr, /::warning title=The app was told nothing::nothing: server \d+ is ready, but its device is not connected/)
})

test('on Actions secrets are masked before anything else, and outputs that cannot be written are told of', async () => {
  const job = newJob()
  const { stderr } = await cleanUp(job, { GITHUB_ACTIONS: 'true' })
  const masked = [cloud.greeting.hetznerToken, cloud.greeting.tailscaleClientSecret].map((secret) => `::add-mask::${secret}`)
  assert.deepEqual(stderr.split('\n').slice(0, 2), masked)
  // What is minted on the way is masked too.
  assert.ok(stderr.match(/^::add-mask::/gm).length > 2, stderr)
  const broken = await cleanUp(job, { GITHUB_OUTPUT: folder })
  assert.equal(broken.code, 1, broken.stderr)
})

test('h04 while another run is at work on the job, that one has the last word', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const [job, giveUp] = [newJob(), new AbortController()]
  const call = provisionVM(job, options({ runId: '4712-1', signal: giveUp.signal })).catch((error) => error)
  await cloud.until(hasServer)
  const { code, stderr, outputs } = await cleanUp(job)
  giveUp.abort()
  assert.deepEqual([code, outputs], [0, { event: 'none' }], stderr)
  assert.match(stderr, /another attempt has the job in hand \(server \d+, \w+\); if it does not finish within \d+/)
  assert.equal((await call).code, 'ABORTED')
})

test('what cannot be removed is named, and the app is told nonetheless', async () => {
  const job = newJob()
  await killedWhen(hasServer, job)
  const json = { error: { code: 'protected', message: 'server is protected' } }
  await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 99, kind: { answer: { status: 403, json, apply: false } } })
  const { code, stderr, outputs, summary } = await cleanUp(job, { GITHUB_ACTIONS: 'true' })
  assert.equal(code, 1, stderr)
  assert.match(stderr, /::error title=LEFTOVERS::Left behind: server \d+ agent-/)
  assert.match(summary, /\| Left behind \| server \d+/)
  assert.equal(outputs.event, 'failed')
})

test('where nothing can be seen nothing is told', async () => {
  await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 99, kind: 'refuse' })
  const { code, stderr, outputs, summary } = await cleanUp(newJob(), { PROVISION_TIMEOUT_SECONDS: '1', GITHUB_ACTIONS: 'true' })
  assert.deepEqual([code, outputs], [1, {}], stderr)
  assert.match(stderr, /::error title=/)
  assert.match(summary, /run the job Clean up again/)
  // What could not be seen is not known to be nothing.
  assert.match(summary, /\| Left behind \| not known: /)
  assert.ok(!stderr.includes('Nothing was left behind'), stderr)
})

test('an outage that passes is waited for', async () => {
  const job = newJob()
  await killedWhen(hasServer, job)
  await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 6, kind: { answer: { status: 503, text: 'away' } } })
  const { code, stderr, outputs } = await cleanUp(job)
  assert.deepEqual([code, outputs.event], [0, 'failed'], stderr)
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('what was left is told also if nobody can see where the job stands', async () => {
  const job = newJob()
  await killedWhen(hasServer, job)
  const json = { error: { code: 'protected', message: 'server is protected' } }
  await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 99, kind: { answer: { status: 403, json, apply: false } } })
  await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', skip: 1, times: 99, kind: 'refuse' })
  const { code, stderr, outputs, summary } = await cleanUp(job, { PROVISION_TIMEOUT_SECONDS: '2', GITHUB_ACTIONS: 'true' })
  assert.deepEqual([code, outputs], [1, {}], stderr)
  assert.match(stderr, /::error title=LEFTOVERS::Left behind: server \d+/)
  assert.match(summary, /\| Left behind \| server \d+/)
})

test('without a run there is nothing to clean up after', async () => {
  for (const env of [{ GITHUB_RUN_ID: '' }, { GITHUB_RUN_ID: 'x' }, { GITHUB_RUN_ATTEMPT: '0' }]) {
    const { code, stderr } = await cleanUp(newJob(), env)
    assert.equal(code, 2, stderr)
  }
  assert.equal(await cloud.requests(), 0)
  const { code, stderr } = await cleanUp(newJob(), { HETZNER_API_TOKEN: '' })
  assert.equal(code, 2, stderr)
  assert.match(stderr, /HETZNER_API_TOKEN/)
})

test('the reaper says what it would remove, and removes it when told to', async () => {
  const job = newJob()
  await killedWhen(hasServer, job)
  const alive = await run('reap.js', {})
  assert.deepEqual([alive.code, alive.outputs], [0, { dead: '0', left: '0' }], alive.stderr)
  await cloud.configure({ machine: { boot: 'never_joins' } })
  await cloud.advance(2000)
  const dry = await run('reap.js', { GITHUB_ACTIONS: 'true' })
  assert.deepEqual([dry.code, dry.outputs.dead], [0, '1'], dry.stderr)
  assert.match(dry.summary, /### Reaper: dry run[^]*\| agent-[^]*would remove/)
  assert.match(dry.stderr, /::warning title=Dead attempts::1 servers of dead attempts/)
  assert.equal((await cloud.world()).servers.length, 1)
  for (const word of ['yes', '1', 'TRUE']) assert.equal((await run('reap.js', { REAP_REMOVE: word })).code, 0)
  assert.equal((await cloud.world()).servers.length, 1)
  const wet = await run('reap.js', { REAP_REMOVE: 'true' })
  assert.equal(wet.code, 0, wet.stderr)
  assert.equal((await cloud.world()).servers.length, 0)
})

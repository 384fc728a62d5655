'use strict'

// Many jobs in one call: what stands afterwards, and what each of them hears.

const assert = require('node:assert/strict')
const { after, before, beforeEach, test } = require('node:test')

const { provisionMany, provisionVM } = require('..')
const { leftIn, newJob, startCloud } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(() => cloud.stop())

const options = (more = {}) => ({ env: cloud.env(), logger: false, ...more })
const jobsOf = (count) => Array.from({ length: count }, () => newJob())

async function collect(run) {
  const all = []
  for await (const job of run) all.push(job)
  return all
}

test('each job becomes one machine, and what they wait for is asked for once', async () => {
  const jobs = jobsOf(12)
  const events = []
  const run = provisionMany(jobs, options({ onProgress: (event) => events.push(event) }))
  const settled = await collect(run)
  const summary = await run.summary
  assert.deepEqual(settled.map(({ status }) => status), Array(12).fill('fulfilled'))
  assert.deepEqual(settled.map(({ index }) => index).sort((a, b) => a - b), [...jobs.keys()])
  for (const { index, jobId, value } of settled) {
    assert.equal(jobId, jobs[index].jobId)
    assert.match(value.tailscaleIp, /^100\./)
  }
  const world = await cloud.world()
  assert.equal(world.servers.filter(({ labels }) => labels.state === 'ready').length, 12)
  assert.deepEqual([summary.ready, summary.reused, summary.failed, summary.leftovers], [12, 0, 0, []])
  assert.deepEqual(summary.requests, { hetzner: world.requests.hetzner, tailscale: world.requests.tailscale })
  assert.ok(Math.abs(summary.hourlyCost - 12 * 0.033) < 1e-6, String(summary.hourlyCost))
  assert.ok(summary.requests.hetzner <= 3 * 12 + 60 && summary.requests.tailscale <= 2 * 12 + 80, JSON.stringify(summary.requests))
  const types = (await cloud.journal()).filter(({ what }) => what.startsWith('GET /v1/server_types'))
  assert.equal(types.length, 1)
  // Every event says whose it is.
  assert.deepEqual([...new Set(events.map(({ index }) => index))].sort((a, b) => a - b), [...jobs.keys()])
})

test('jobs may be made one by one, each out of the one before', async () => {
  function* made() {
    const job = newJob()
    for (const jobId of ['one', 'two']) yield Object.assign(job, { jobId })
  }
  const { ready } = await provisionMany(made(), options()).summary
  const { servers } = await cloud.world()
  assert.deepEqual([ready, servers.map(({ labels }) => labels.provisioning_job_id).sort()], [2, ['one', 'two']])
})

test('a job that fails harms no other one', async () => {
  const [taken, ...good] = jobsOf(4)
  await provisionVM(taken, options())
  const jobs = [{ ...newJob(), jobId: 'no job id' }, { ...taken, agentId: 'another-agent' }, null, ...good]
  const run = provisionMany(new Set(jobs), options())
  const settled = (await collect(run)).sort((one, other) => one.index - other.index)
  const ends = settled.map(({ value, reason }) => reason?.code ?? value.state)
  assert.deepEqual(ends, ['INVALID_INPUT', 'JOB_MISMATCH', 'INVALID_INPUT', 'ready', 'ready', 'ready'])
  assert.deepEqual([settled[0].reason.field, settled[2].reason.field], ['jobs[0].jobId', 'jobs[2]'])
  const { ready, failed } = await run.summary
  assert.deepEqual([ready, failed], [3, 3])
  assert.equal((await cloud.world()).servers.length, 4)
})

test('no more servers are made than may be, and what is there already does not count', async () => {
  const jobs = jobsOf(5)
  await provisionVM(jobs[0], options())
  const run = provisionMany(jobs, options({ maxServers: 2, concurrency: 2 }))
  const settled = await collect(run)
  const refused = settled.filter(({ reason }) => reason)
  assert.deepEqual(refused.map(({ reason }) => [reason.code, reason.retryable]), Array(2).fill(['CAP_REACHED', false]))
  assert.match(refused[0].reason.message, /^maxServers/)
  const { ready, reused } = await run.summary
  assert.deepEqual([ready, reused, (await cloud.world()).servers.length], [3, 1, 3])
})

test('the servers together cost no more than they may, and a cheaper type is taken where it fits', async () => {
  // cpx11 costs 0.033 an hour there: two fit.
  const run = provisionMany(jobsOf(4), options({ maxHourlyCost: 0.07, serverTypes: ['cpx11'] }))
  const codes = (await collect(run)).map(({ reason }) => reason?.code)
  assert.deepEqual(codes.filter(Boolean), ['CAP_REACHED', 'CAP_REACHED'])
  const { servers, keys } = await cloud.world()
  assert.equal(servers.length, 2)
  assert.deepEqual(keys.filter(({ usable }) => usable), [])
  assert.ok((await run.summary).hourlyCost <= 0.07)
})

test('a signal ends all that is under way, and nothing is left', async () => {
  const controller = new AbortController()
  const run = provisionMany(jobsOf(8), options({ concurrency: 5, signal: controller.signal }))
  await cloud.until(({ servers }) => servers.length >= 3)
  controller.abort(new Error('enough'))
  const settled = await collect(run)
  assert.deepEqual(settled.map(({ reason }) => [reason?.code, reason?.cause?.message]), Array(8).fill(['ABORTED', 'enough']))
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('what is wrong for all fails the call, wherever one listens', async () => {
  for (const [jobs, wrong, field] of [
    [jobsOf(1), { concurrency: 0 }, 'options.concurrency'],
    [jobsOf(1), { maxServers: -1 }, 'options.maxServers'],
    [jobsOf(1), { maxHourlyCost: -0.5 }, 'options.maxHourlyCost'],
    [jobsOf(1), { wait: false }, 'options.wait'],
    [jobsOf(1), { onSettled: 5 }, 'options.onSettled'],
    ['job-1', {}, 'jobs'],
    [undefined, {}, 'jobs'],
  ]) {
    const run = provisionMany(jobs, options(wrong))
    const refusal = (error) => error.code === 'INVALID_INPUT' && error.field === field
    await assert.rejects(run.summary, refusal, field)
    await assert.rejects(collect(run), refusal, field)
  }
  assert.equal(await cloud.requests(), 0)
  const none = provisionMany([], options())
  assert.deepEqual([await collect(none), (await none.summary).ready], [[], 0])
})

test('two may iterate, one may stop early, and a listener that throws is only warned of', async () => {
  const warnings = []
  const listen = (warning) => warnings.push(warning.message)
  process.on('warning', listen)
  const run = provisionMany(jobsOf(3), options({ onSettled: () => { throw new Error('oh') } }))
  for await (const job of run) {
    assert.equal(job.status, 'fulfilled')
    break
  }
  const [one, two] = await Promise.all([collect(run), collect(run)])
  assert.deepEqual(one, two)
  assert.equal(one.length, 3)
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', listen)
  assert.equal(warnings.filter((warning) => warning === 'onSettled failed: Error: oh').length, 3)
})

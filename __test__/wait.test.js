'use strict'

// Jobs that nobody waits for: for functions that live shorter than a machine takes to boot.

const { test, before, after, beforeEach } = require('node:test')
const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { promisify } = require('node:util')

const { provisionVM, getProvisioning, deprovisionVM } = require('../index.js')
const { startCloud, leftIn, usable, newJob, eventually, ROOT } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(() => cloud.stop())

const quiet = (more = {}) => ({ env: cloud.env(), logger: false, ...more })

test('it returns as soon as the server exists, and calling again brings the job to its end', async () => {
  const job = newJob()
  const first = await provisionVM(job, quiet({ wait: false }))
  assert.equal(first.state, 'creating')
  assert.equal(first.reused, false)
  assert.ok(first.serverIp && first.price.hourly && first.timeLeftMs > 550_000)
  assert.equal(first.tailscaleIp, undefined)
  const states = new Set()
  const done = await eventually(async () => {
    const { state } = await getProvisioning({ jobId: job.jobId }, quiet())
    states.add(state)
    const next = await provisionVM(job, quiet({ wait: false }))
    assert.equal(next.serverId, first.serverId)
    return next.state === 'ready' ? { found: next } : { instead: next }
  })
  assert.equal(done.reused, true)
  assert.ok([...states].every((state) => ['creating', 'booting', 'enrolled'].includes(state)), [...states].join())
  const world = await cloud.world()
  assert.deepEqual([world.servers.length, world.devices[0].ip, usable(world)], [1, done.tailscaleIp, []])
  assert.equal((await getProvisioning({ jobId: job.jobId }, quiet())).state, 'ready')
})

test('one process begins a job, another one finishes it', async () => {
  const job = newJob()
  const run = async (options) => {
    const source = `require('./index.js').provisionVM(${JSON.stringify(job)}, ${JSON.stringify(options)})
      .then((result) => console.log(JSON.stringify(result)))`
    const env = { PATH: process.env.PATH, ...cloud.env() }
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', source], { cwd: ROOT, env })
    return JSON.parse(stdout)
  }
  const begun = await run({ wait: false, logger: false })
  const done = await run({ logger: false })
  assert.deepEqual([begun.state, done.state, done.serverId], ['creating', 'ready', begun.serverId])
  assert.deepEqual(usable(await cloud.world()), [])
})

test('whoever fails to finish it undoes it', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const job = newJob()
  await provisionVM(job, quiet({ wait: false }))
  const error = await provisionVM(job, quiet({ signal: AbortSignal.timeout(300) })).catch((error) => error)
  assert.deepEqual([error.name, error.code, error.leftovers], ['AbortError', 'ABORTED', []])
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('it may be removed while it is on its way', async () => {
  const job = newJob()
  await provisionVM(job, quiet({ wait: false }))
  const { leftovers } = await deprovisionVM({ jobId: job.jobId }, quiet())
  assert.deepEqual(leftovers, [])
  assert.deepEqual(leftIn(await cloud.world()), [])
})

'use strict'

// What becomes of a job after its call: where it stands, and its end.

const assert = require('node:assert/strict')
const { after, before, beforeEach, test } = require('node:test')

const { provisionVM, deprovisionVM, getProvisioning } = require('..')
const { startCloud, eventually, leftIn, newJob } = require('./support/simulator.js')

let cloud
const options = (more = {}) => ({ env: cloud.env(), logger: false, ...more })

before(async () => (cloud = await startCloud({ timeScale: 25 })))
after(() => cloud.stop())
beforeEach(() => cloud.reset())

test('a job is followed from nothing to ready by short looks, and removed', async () => {
  const job = newJob()
  const target = { jobId: job.jobId }
  const before = await getProvisioning(target, options())
  assert.deepEqual({ ...before, requests: undefined }, { state: 'absent', percent: 0, requests: undefined })
  const call = provisionVM(job, options())
  const seen = new Set()
  await eventually(async () => {
    const status = await getProvisioning(target, options())
    assert.ok(status.requests.hetzner <= 2 && status.requests.tailscale <= 2, JSON.stringify(status.requests))
    seen.add(status.state)
    return status.state === 'ready' ? { found: status } : { instead: status }
  })
  const vm = await call
  const status = await getProvisioning(target, options())
  const { serverId, serverName, serverIp, tailscaleIp, nodeId } = vm
  assert.deepEqual(
    { ...status, requests: undefined },
    {
      state: 'ready', percent: 100, agentId: job.agentId, serverId, serverName, serverIp, serverType: 'cpx11', location: 'ash', serverStatus: 'running',
      tailscaleIp, nodeId, requests: undefined,
    },
  )
  assert.ok(seen.has('booting'), [...seen].join())

  const events = []
  const report = await deprovisionVM(target, options({ onProgress: (event) => events.push(event) }))
  assert.deepEqual(report.servers, [{ serverId, serverName, jobId: job.jobId, removed: true }])
  assert.deepEqual(report.leftovers, [])
  assert.ok(events.some(({ step, serverId: id }) => step === 'remove' && id === serverId))
  assert.deepEqual(leftIn(await cloud.world()), [])
  assert.deepEqual((await deprovisionVM(target, options())).servers, [])
  assert.equal((await getProvisioning(target, options())).state, 'absent')
})

test('what is not ours is refused, and with its id and force removed', async () => {
  const labels = { provisioning_job_id: 'job-of-somebody' }
  const { id } = await cloud.control('POST', 'servers', { name: 'web-1', labels })
  for (const target of [{ jobId: 'job-of-somebody' }, { serverName: 'web-1' }, { serverId: id }]) {
    const error = await deprovisionVM(target, options()).then(() => assert.fail('it was removed'), (error) => error)
    assert.deepEqual([error.code, error.leftovers], ['NAME_CONFLICT', []])
  }
  const report = await deprovisionVM({ serverId: id }, options({ force: true }))
  assert.deepEqual(report.servers, [{ serverId: id, serverName: 'web-1', removed: true }])
  assert.equal((await cloud.world()).servers.length, 0)
})

test('settings may come as options, and a wrong one is named as such', async () => {
  const env = cloud.env()
  const settings = {
    hetznerToken: env.HETZNER_API_TOKEN,
    hetznerApiUrl: env.HETZNER_API_URL,
    sshKeys: [4711, 'ci'],
    tailscaleClientId: env.TAILSCALE_OAUTH_CLIENT_ID,
    tailscaleClientSecret: env.TAILSCALE_OAUTH_CLIENT_SECRET,
    tailscaleApiUrl: env.TAILSCALE_API_URL,
  }
  const { usedSnapshot, warnings } = await provisionVM(newJob(), { ...settings, snapshotId: 301000001, env: {}, logger: false })
  assert.deepEqual([usedSnapshot, warnings], [true, []])
  // They win over the environment.
  const wrong = provisionVM(newJob(), options({ hetznerToken: 'x'.repeat(64) }))
  await assert.rejects(wrong, { code: 'AUTH_HETZNER' })
  await assert.rejects(provisionVM(newJob(), options({ sshKeys: [{}] })), { code: 'INVALID_INPUT', field: 'options.sshKeys' })
  await assert.rejects(provisionVM(newJob(), options({ sshKeys: ['nobody'] })), { code: 'CONFIG' })
})

test('a wrong target is named, before any request', async () => {
  for (const [target, more, field] of [
    [undefined, {}, 'target'],
    ['job-1', {}, 'target'],
    [{}, {}, 'target'],
    [{ jobId: 'a', serverId: 5 }, {}, 'target'],
    [{ jobId: 'a b' }, {}, 'target.jobId'],
    [{ jobId: 5 }, {}, 'target.jobId'],
    [{ serverId: '5' }, {}, 'target.serverId'],
    [{ serverName: 5 }, {}, 'target.serverName'],
    [{ jobId: 'a' }, { force: true }, 'options.force'],
    [{ serverId: 5 }, { force: 'yes' }, 'options.force'],
  ]) {
    const call = deprovisionVM(target, options(more))
    await assert.rejects(call, { code: 'INVALID_INPUT', field }, JSON.stringify(target))
  }
  await assert.rejects(getProvisioning({}, options()), { code: 'INVALID_INPUT', field: 'target.jobId' })
  await assert.rejects(getProvisioning({ jobId: '-' }, options()), { code: 'INVALID_INPUT', field: 'target.jobId' })
  assert.equal(await cloud.requests(), 0)
})

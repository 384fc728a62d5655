'use strict'

// The whole way for real but for the clouds: `provisionVM` orders a server of the local cloud, Debian's cloud-init boots it from the
// local cloud's metadata server as on Hetzner, and what the machine then does makes the device that `provisionVM` waits for.

const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const { createServer } = require('node:net')
const assert = require('node:assert/strict')
const { after, before, beforeEach, describe, test } = require('node:test')

const { deprovisionVM, getOAuthToken, provisionVM } = require('..')
const { boot, enterTheirNetwork, signing } = require('./support/machine.js')
const { METADATA } = require('./support/network.js')
const { SECRET } = require('./support/boot-reports.js')
const { startReportApp } = require('./support/report-app.js')
const { eventually, leftIn, newJob, startCloud } = require('./support/simulator.js')

const skip = enterTheirNetwork(__filename)

describe('a machine that cloud-init boots from the Hetzner datasource', { skip }, () => {
  let cloud
  let app
  before(async () => {
    cloud = await startCloud({ timeScale: 2, metadata: `${METADATA}:80` })
    app = await startReportApp(cloud)
  })
  after(async () => {
    app.stop()
    await cloud.stop()
  })
  beforeEach(async () => {
    await cloud.reset()
    await cloud.configure({ machine: { boot: 'outside' } })
  })

  const options = (more) => ({
    env: cloud.env(), logger: false, bootReportUrl: app.url, bootReportSecret: SECRET, tailscalePackage: { signingKey: signing().fingerprint }, ...more,
  })

  /** Boots the machine of a job's server, whose `tailscale up` asks the local tailnet. */
  async function bootServer(params, scene = {}) {
    const ofJob = ({ labels }) => labels.provisioning_job_id === params.jobId
    const { servers } = await cloud.until((world) => world.servers.find(ofJob)?.status === 'running')
    const server = servers.find(ofJob)
    const { userData } = await cloud.control('GET', `servers/${server.id}/user-data`)
    const files = JSON.parse(userData.replace('#cloud-config\n', '')).write_files
    const [key, report] = ['auth-key', 'report'].map((name) => files.find(({ path }) => path === `/root/provision-vm/${name}`).content)
    const [, token] = /Bearer (\S+)"/.exec(report)
    // Nothing of the key in a command line here either.
    const up = `
      for word; do case $word in --auth-key=file:*) key=$(cat "\${word#--auth-key=file:}") ;; --hostname=*) name=\${word#--hostname=} ;; esac; done
      printf '{"authKey": "%s", "hostname": "%s"}' "$key" "$name" |
        /usr/bin/curl -sS -o /run/answer -w '%{http_code}' --data @- ${cloud.greeting.url}/_sim/servers/${server.id}/join >/run/code
      [ "$(cat /run/code)" = 200 ] || { echo "backend error: $(cat /run/answer)" >&2; exit 1; }
      echo '{"BackendState": "Running"}' >/run/tailscale-state`
    const rules = [...(scene.rules ?? []), { program: 'tailscale', match: '^up', run: up }]
    const seen = await boot({ datasource: 'hetzner', instance: server.id, secrets: [key.trim(), token], ...scene, rules })
    return { seen, server }
  }

  /** What holds after each of these boots. */
  function holds(seen, server) {
    assert.equal(seen.hostname, server.name)
    assert.deepEqual([seen.secretsInArgv, seen.secretsInLogs], [[], []])
    const readable = seen.secretsOnDisk.filter((line) => !/^[46]00 root \/var\/lib\/cloud\/instances\//.test(line))
    assert.deepEqual(readable, [], 'only cloud-init keeps copies, for root alone')
    assert.ok(seen.results.every(({ datasource }) => /^DataSourceHetzner/.test(datasource)), JSON.stringify(seen.results))
    assert.equal(seen.files['/root/provision-vm/auth-key'], undefined)
    assert.equal(seen.files['/root/provision-vm/report'], undefined)
    assert.deepEqual(app.refused, [])
  }

  test('joins, says so, is reached over the tailnet, and does nothing at its next boot', async () => {
    const params = newJob()
    let isDone = false
    const waiting = []
    const onProgress = ({ step, detail }) => step === 'reach' && waiting.push(detail.kind)
    const wanted = { image: 'ubuntu-24.04', waitFor: 'reachable', reachablePort: 2222, onProgress }
    const provisioned = provisionVM(params, options(wanted)).finally(() => (isDone = true))
    const { seen, server } = await bootServer(params, { image: 'ubuntu-24.04', boots: 2 })
    holds(seen, server)
    assert.deepEqual(seen.status, ['started', 'clock', 'package', 'joined'], seen.logs)
    assert.deepEqual(['tailscale', 'apt-get', 'systemctl'].flatMap((program) => seen.of(program, 2)), [])
    assert.deepEqual(app.reportsOf(params.jobId).map(({ event }) => event), ['started', 'clock', 'package', 'joined'])
    // It is in the tailnet, and nothing listens yet.
    const { devices: [device] } = await cloud.world()
    const { ip } = device
    execFileSync('ip', ['address', 'add', `${ip}/32`, 'dev', 'lo'])
    // It is tried, and refused.
    await eventually(() => ({ found: waiting.includes('waiting') || undefined, instead: waiting }))
    assert.equal(isDone, false, 'nothing listens yet')
    let connections = 0
    const listener = createServer((socket) => {
      connections += 1
      socket.end()
    }).listen(2222, ip)
    await once(listener, 'listening')
    const result = await provisioned
    assert.ok(connections > 0 && result.timings.some(({ step }) => step === 'reach'), JSON.stringify(result.timings))
    assert.deepEqual([result.state, result.serverId, result.tailscaleIp, result.nodeId], ['ready', server.id, ip, device.node_id])
    listener.close()
    await deprovisionVM({ jobId: params.jobId }, { env: cloud.env(), logger: false })
    assert.deepEqual(leftIn(await cloud.world()), [])
  })

  test('joins although apt is locked, downloads fail twice, and `tailscale up` fails once', async () => {
    const params = newJob()
    const provisioned = provisionVM(params, options({ image: 'debian-12' }))
    const rules = [
      { program: 'curl', match: 'gpg', times: 2, exit: 28 },
      { program: 'apt-get', match: 'install.* tailscale$', times: 2, exit: 100 },
      { program: 'apt-get', match: 'check$', times: 2, exit: 100 },
      { program: 'tailscale', match: '^up', times: 1, exit: 1, stderr: 'timeout\n' },
    ]
    const { seen, server } = await bootServer(params, { image: 'debian-12', rules })
    holds(seen, server)
    assert.deepEqual(seen.status, ['started', 'clock', 'package', 'joined'], seen.logs)
    assert.deepEqual(seen.of('sleep'), ['1', '2', '1', '2', '5'])
    assert.equal((await provisioned).state, 'ready')
  })

  test('of a snapshot joins', async () => {
    const params = newJob()
    const provisioned = provisionVM(params, options({ snapshotId: 301000001, tailscalePackage: null }))
    const { seen, server } = await bootServer(params, { files: { '/var/lib/tailscale/tailscaled.state': '{}' } })
    holds(seen, server)
    assert.deepEqual(seen.status, ['started', 'package', 'clock', 'joined'], seen.logs)
    assert.deepEqual([seen.of('apt-get'), seen.of('systemctl')], [[], ['enable --now tailscaled']])
    assert.deepEqual((await provisioned).state, 'ready')
  })

  test('whose key was revoked says so, and the error of the call tells it', async () => {
    const params = newJob()
    const underway = await provisionVM(params, options({ wait: false }))
    assert.equal(underway.state, 'creating')
    const { keys } = await cloud.world()
    const authorization = `Bearer ${await getOAuthToken({ env: cloud.env(), logger: false })}`
    for (const { id } of keys.filter((key) => key.usable)) {
      await fetch(`${cloud.greeting.tailscale}/tailnet/-/keys/${id}`, { method: 'DELETE', headers: { authorization } })
    }
    const { seen, server } = await bootServer(params)
    holds(seen, server)
    assert.deepEqual(seen.status, ['started', 'clock', 'package', 'failed key-refused'], seen.logs)
    assert.equal(seen.of('tailscale').filter((line) => line.startsWith('up')).length, 1)
    const bootReports = ({ jobId }) => app.reportsOf(jobId)
    const error = await provisionVM(params, options({ timeoutMs: 15_000, bootReports })).then(assert.fail, (error) => error)
    assert.match(error.hint, /failed \(key-refused\)/, `${error.stack}\n${error.hint}`)
    await deprovisionVM({ jobId: params.jobId }, { env: cloud.env(), logger: false })
    assert.deepEqual(leftIn(await cloud.world()), [])
  })
})

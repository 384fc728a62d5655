'use strict'

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { existsSync, mkdtempSync, readFileSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, beforeEach, test } = require('node:test')

const { leftIn, newJob, runScript, startCloud, usable } = require('./support/simulator.js')

let cloud
const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-'))
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(async () => {
  rmSync(folder, { recursive: true })
  await cloud.stop()
})

let files = 0
const newFile = () => path.join(folder, String((files += 1)))
const read = (file) => Object.fromEntries(readFileSync(file, 'utf8').trim().split('\n').map((line) => line.split(/=(.*)/s)))

/** What waits until the script has said these words. */
function listenTo(child, said) {
  return async (words) => {
    while (!said.stderr.includes(words)) await once(child.stderr, 'data')
  }
}

test('it prints one line of JSON, writes its outputs and a summary', async () => {
  const [output, summary] = [newFile(), newFile()]
  const { ended } = runScript(cloud, { env: { GITHUB_OUTPUT: output, GITHUB_STEP_SUMMARY: summary } })
  const { code, stdout, stderr } = await ended
  assert.equal(code, 0, stderr)
  assert.equal(stdout.split('\n').length, 2)
  const result = JSON.parse(stdout)
  assert.deepEqual(read(output), {
    server_name: result.serverName,
    server_id: String(result.serverId),
    server_ip: result.serverIp,
    tailscale_ip: result.tailscaleIp,
  })
  assert.ok(readFileSync(summary, 'utf8').includes(result.tailscaleIp))
  for (const words of [
    '[ProvisionVM] Tailscale auth key generated',
    '[ProvisionVM] Cloud-init config generated',
    `[ProvisionVM] Hetzner server created: id=${result.serverId}, ip=${result.serverIp}`,
    '[ProvisionVM] Hetzner server is ready',
    `[ProvisionVM] Tailscale enrollment verified: ip=${result.tailscaleIp}`,
  ]) {
    assert.ok(stderr.includes(words), `${words} is not in ${stderr}`)
  }
})

test('it serves every region and an unknown one; the default is us-east', async () => {
  const regions = ['us-east', 'us-west', 'eu-central', 'eu-west', 'eu-north', 'ap-southeast', 'mars', undefined]
  const runs = regions.map((region) => runScript(cloud, { params: newJob({ region }) }).ended)
  const locations = (await Promise.all(runs)).map(({ stdout }) => JSON.parse(stdout).location)
  assert.deepEqual(locations, ['ash', 'hil', 'nbg1', 'fsn1', 'hel1', 'sin', 'nbg1', 'ash'])
})

test('two runs of one job at once end with one server', async () => {
  const params = newJob()
  const results = await Promise.all([runScript(cloud, { params }).ended, runScript(cloud, { params }).ended])
  const [one, two] = results.map(({ stdout }) => JSON.parse(stdout).serverId)
  assert.equal(one, two)
  assert.equal((await cloud.world()).servers_ever, 1)
})

test('a signal at any moment of the wait undoes what was begun', async (t) => {
  const moments = [
    ['before anything', () => true],
    ['with a key', (world) => world.keys.length > 0],
    ['with a new server', (world) => world.servers.length > 0],
    ['with a running server', (world) => world.servers[0]?.status === 'running'],
    ['with a booted server', (world) => world.servers[0]?.first_boot_done],
    ['with a device', (world) => world.devices.length > 0],
  ]
  const ends = [['SIGTERM', 143, moments], ['SIGINT', 130, moments], ['SIGHUP', 129, moments.slice(3, 4)]]
  for (const [signal, expected, moments] of ends) {
    for (const [name, reached] of moments) {
      await t.test(`${signal} ${name}`, async () => {
        await cloud.reset()
        // A device that shows late keeps the job waiting at the last moment too.
        await cloud.configure({ tailscale: { visibility_seconds: 100 } })
        const { child, ended, said } = runScript(cloud)
        await listenTo(child, said)('Provisioning')
        await cloud.until(reached)
        child.kill(signal)
        const { code, stderr } = await ended
        assert.equal(code, expected, stderr)
        assert.deepEqual(leftIn(await cloud.world()), [], stderr)
        assert.ok(stderr.includes('ABORTED') && stderr.includes('Nothing was left behind'), stderr)
      })
    }
  }
})

test('a second signal ends at once and says what may be left', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 9, kind: 'hang_before_apply' })
  const { child, ended, said } = runScript(cloud)
  const hears = listenTo(child, said)
  await hears('Hetzner server created')
  child.kill('SIGINT')
  await hears('Undoing what was begun')
  child.kill('SIGTERM')
  const { code, stdout, stderr } = await ended
  const [server] = (await cloud.world()).servers
  assert.deepEqual([code, stdout], [143, ''])
  assert.match(stderr, new RegExp(`May be left behind: server ${server.id} \\(${server.name}, ${server.ipv4}\\)`))
})

test('the id of a server is in the outputs before anything else can happen to the run', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const output = newFile()
  const { child, ended } = runScript(cloud, { env: { GITHUB_OUTPUT: output } })
  const world = await cloud.until((world) => world.servers[0]?.status === 'running')
  child.kill('SIGKILL')
  await ended
  const [server] = world.servers
  assert.deepEqual(read(output), { server_name: server.name, server_id: String(server.id), server_ip: server.ipv4 })
})

test('failures have exit codes, codes, hints, and say what is left', async () => {
  for (const [env, expected, code] of [
    [{ JOB_ID: undefined }, 2, 'INVALID_INPUT'],
    [{ JOB_ID: '' }, 2, 'INVALID_INPUT'],
    [{ JOB_ID: '$(id)' }, 2, 'INVALID_INPUT'],
    [{ HETZNER_API_TOKEN: '' }, 2, 'CONFIG'],
    [{ TAILSCALE_OAUTH_CLIENT_SECRET: 'wrong' }, 1, 'AUTH_TAILSCALE'],
    [{ HETZNER_SSH_KEY_ID: '99' }, 2, 'CONFIG'],
  ]) {
    const { code: exit, stdout, stderr } = await runScript(cloud, { env }).ended
    const { error } = JSON.parse(stdout)
    assert.deepEqual([exit, error.code, error.leftovers], [expected, code, []], stderr)
    assert.ok(stderr.includes(code) && stderr.includes(error.hint), stderr)
    const [setting] = Object.keys(env)
    if (error.step === 'validate') assert.ok(stderr.includes(setting), `${setting} is not named: ${stderr}`)
  }
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('outputs that cannot be written do not cost the machine', async () => {
  const env = { GITHUB_OUTPUT: path.join(folder, 'no', 'such', 'folder') }
  const { code, stdout } = await runScript(cloud, { env }).ended
  assert.equal(code, 74)
  assert.equal((await cloud.world()).servers[0].id, JSON.parse(stdout).serverId)
})

test('a reader of standard output that leaves early does not cost the machine', async () => {
  const { child, ended } = runScript(cloud)
  child.stdout.destroy()
  assert.equal((await ended).code, 0)
  assert.equal((await cloud.world()).servers[0].labels.state, 'ready')
})

test('where the native module is missing, the script says so and ends', async () => {
  const { code, stdout, stderr } = await runScript(cloud, { env: { NAPI_RS_NATIVE_LIBRARY_PATH: '/none.node' } }).ended
  assert.equal(code, 1)
  assert.match(JSON.parse(stdout).error.message, /no native module for this place/)
  assert.match(stderr, /Because: .*none\.node/)
  assert.ok(!stderr.includes('npm has a bug'), stderr)
})

test('help names every exit code', async () => {
  const { code, stdout } = await runScript(null, { args: ['--help'], env: { JOB_ID: undefined } }).ended
  assert.equal(code, 0)
  for (const exit of ['0', '1', '2', '74', '129', '130', '143']) assert.match(stdout, new RegExp(`\\b${exit}\\b`))
})

test('no secret is in any output, at the most verbose log level', async () => {
  await cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', kind: 'reset_after_apply' })
  const { hetznerToken, tailscaleClientSecret } = cloud.greeting
  for (const [actions, patch, seconds] of [['', {}, '600'], ['true', {}, '600'], ['', { machine: { boot: 'never_joins' } }, '1']]) {
    await cloud.configure(patch)
    const output = newFile()
    const env = { PROVISION_VM_LOG: 'trace', GITHUB_ACTIONS: actions, GITHUB_OUTPUT: output, PROVISION_TIMEOUT_SECONDS: seconds }
    const { stdout, stderr } = await runScript(cloud, { env }).ended
    assert.match(stderr, /DEBUG provision_vm::transport/, 'the log is as verbose as can be')
    // On Actions every secret is masked, by the one command that has to name it.
    const masks = [...stderr.matchAll(/^::add-mask::(.*)$/gm)].map(([, secret]) => secret)
    assert.equal(masks.length, actions ? 4 : 0)
    const said = stdout + stderr.replace(/^::add-mask::.*$/gm, '') + readFileSync(output, 'utf8')
    const secrets = [hetznerToken, tailscaleClientSecret, 'SECRETSECRET', 'tskey-', '#cloud-config', 'write_files', ...masks]
    for (const secret of secrets) {
      const bytes = Buffer.from(secret)
      for (const form of [secret, bytes.toString('base64').slice(0, -3), bytes.toString('hex'), encodeURIComponent(secret)]) {
        assert.ok(!said.includes(form), `${secret} (${form}) is in ${said}`)
      }
    }
    await cloud.reset()
  }
})

test('every minted key is spent or revoked when the script is done', async () => {
  await runScript(cloud).ended
  const world = await cloud.world()
  assert.deepEqual([world.keys.length, usable(world)], [1, []])
})

test('after a failure the outputs say what went wrong, where, and where the job stands', async () => {
  const [job, output] = [newJob(), newFile()]
  await runScript(cloud, { params: job }).ended
  // Another agent's call for the same job fails, and the machine that was delivered stands all the same.
  const { code, stderr } = await runScript(cloud, { params: { ...job, agentId: 'another' }, env: { GITHUB_OUTPUT: output } }).ended
  assert.equal(code, 1, stderr)
  const { error, failed_step: step, job_state: state } = read(output)
  assert.match(error, /^JOB_MISMATCH: /)
  assert.deepEqual([step, state], ['lookup', 'ready'])
  const bad = newFile()
  assert.equal((await runScript(cloud, { params: { ...job, jobId: 'a b' }, env: { GITHUB_OUTPUT: bad } }).ended).code, 2)
  assert.deepEqual(Object.keys(read(bad)), ['error', 'failed_step'])
  assert.match(read(bad).error, /^INVALID_INPUT: JOB_ID: must be/)
})

test('an attempt of a workflow carries its run, and its lines are folded there', async () => {
  const env = { GITHUB_ACTIONS: 'true', GITHUB_RUN_ID: '4711', GITHUB_RUN_ATTEMPT: '3' }
  const { stderr } = await runScript(cloud, { env }).ended
  assert.match((await cloud.world()).servers[0].labels.attempt, /^4711-3-[0-9a-f]{8}$/)
  const lines = stderr.trim().split('\n').filter((line) => !line.startsWith('::add-mask::'))
  assert.match(lines[0], /^::group::Provisioning for job job-/)
  assert.deepEqual(lines.slice(-2).map((line) => line.replace(/agent-.*/, '…')), ['::endgroup::', '[ProvisionVM] …'])
})

test('h02 on Actions a second signal says what may be left, and the undo goes on', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  // The server takes its time to go.
  await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 1, kind: { slow: { ms: 50_000 } } })
  const output = newFile()
  const { child, ended, said } = runScript(cloud, { env: { GITHUB_ACTIONS: 'true', GITHUB_OUTPUT: output } })
  const hears = listenTo(child, said)
  await hears('Hetzner server created')
  child.kill('SIGINT')
  await hears('Undoing what was begun')
  child.kill('SIGTERM')
  const { code, stderr } = await ended
  assert.match(stderr, /SIGTERM: the undo goes on\. If it is cut short, this may be left behind: server \d+ \(agent-/)
  assert.equal(code, 130, stderr)
  assert.match(read(output).error, /^ABORTED: /)
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('a file shows that the work goes on, and that it has ended', async () => {
  const file = newFile()
  const seen = []
  const { child, ended } = runScript(cloud, { env: { PROVISION_PROGRESS_FILE: file } })
  child.stderr.on('data', () => existsSync(file) && seen.push(JSON.parse(readFileSync(file, 'utf8'))))
  const { code, stderr } = await ended
  const last = JSON.parse(readFileSync(file, 'utf8'))
  assert.equal(code, 0, stderr)
  assert.ok(seen.length > 2 && seen.every(({ pid }) => pid === child.pid))
  assert.deepEqual([seen[0].state, last.state], ['underway', 'ended'])
  assert.ok(seen[0].seq < last.seq && seen[0].until - seen[0].updatedAt > 600_000)
  const away = await runScript(cloud, { env: { PROVISION_PROGRESS_FILE: path.join(folder, 'none', 'file') } }).ended
  assert.equal(away.code, 0)
  assert.match(away.stderr, /there will be no heartbeat/)
})

'use strict'

// What a caller wants of a machine beyond the usual, by what exists then; and what is told on the way.

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { readFileSync } = require('node:fs')
const path = require('node:path')
const { after, before, beforeEach, test } = require('node:test')
const { promisify } = require('node:util')

const { provisionVM } = require('..')
const { leftIn, newJob, ROOT, startCloud } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
after(() => cloud.stop())
beforeEach(() => cloud.reset())

/** Every option that a test of this file has given. */
const given = new Set()

function quiet(more) {
  const options = { env: cloud.env(), logger: false, ...more }
  for (const name of Object.keys(options)) given.add(name)
  return options
}

const make = (kind, body) => cloud.make(kind, body)

test('every wish of a machine is granted in the world', async () => {
  const subnets = [{ type: 'cloud', ip_range: '10.0.1.0/24', network_zone: 'eu-central' }]
  const network = await make('networks', { name: 'inner', ip_range: '10.0.0.0/16', subnets })
  const firewall = await make('firewalls', { name: 'closed', rules: [] })
  const group = await make('placement_groups', { name: 'apart', type: 'spread' })
  const result = await provisionVM(newJob(), quiet({
    serverType: 'cpx22',
    locations: ['fsn1', 'hel1'],
    labels: { team: 'blue' },
    firewalls: [firewall],
    networks: [network],
    placementGroup: group,
    publicNet: { ipv4: false },
    ephemeral: false,
    runId: '4711-1',
    tailscalePackage: { version: '1.102.3', sha256: { amd64: 'A'.repeat(64), arm64: 'b'.repeat(64) } },
    userData: {
      users: [{ name: 'app' }],
      packages: ['jq'],
      files: [{ path: '/etc/agent.json', content: '{"a":"\u0085ü\u007f"}', permissions: '0600' }],
      commands: ['echo "$HOME', ['touch', '/tmp/a b']],
      hardening: true,
    },
  }))
  const { servers: [server], devices: [device], primary_ips: addresses } = await cloud.world()
  assert.deepEqual([result.serverType, result.location, server.server_type, server.location], ['cpx22', 'fsn1', 'cpx22', 'fsn1'])
  assert.match(server.labels.attempt, /^4711-1-/)
  assert.equal(server.labels.team, 'blue')
  assert.deepEqual(server.networks.map(({ network, attached }) => [network, attached]), [[network, true]])
  assert.deepEqual(server.firewalls, [{ firewall, applied: true }])
  assert.equal(server.placement_group, group)
  assert.equal(server.ipv4, null)
  assert.equal(addresses.length, 1)
  assert.match(result.serverIp, /^2001:db8:.*::1$/)
  assert.equal(device.ephemeral, false)
  const boot = server.boot.join('\n')
  assert.match(boot, /installs Tailscale with curl[^]*tailscale up[^]*then runs .*user\.sh' 'app'[^]*then runs 'install' .*'0600'.*'\/etc\/agent\.json'[^]*then runs .*packages\.sh.*jq[^]*then runs .*echo[^]*then runs .*touch[^]*then runs .*harden\.sh/)
})

test('a wish that is wrong is named by its path, and nothing is sent', async () => {
  const cases = {
    'options.location': { location: 'a', locations: ['b'] },
    'options.labels.agent_id': { labels: { agent_id: 'mine' } },
    'options.tags[0]': { tags: ['prod'] },
    'options.firewalls[1]': { firewalls: [1, 'web'] },
    'options.networks': { networks: [] },
    'options.placementGroup': { placementGroup: 1.5 },
    'options.publicNet': { publicNet: { ipv4: false, ipv6: false } },
    'options.publicNet.ip4': { publicNet: { ip4: false } },
    'options.userData.packages[0]': { userData: { packages: ['-y'] } },
    'options.userData.files[0]': { userData: { files: [{ path: '/root/provision-vm/join.sh', content: '' }] } },
    'options.waitFor': { waitFor: 'ready' },
    'options.reachablePort': { waitFor: 'enrolled', reachablePort: 22 },
    'options.userData': { userData: { commands: ['x'.repeat(40_000)] } },
    'options.userData.users[0]': { userData: { users: [{ name: 'app', sshKeys: ['no key'] }] } },
    'options.tailscalePackage.sha256.arm64': { tailscalePackage: { version: '1.102.3', sha256: { amd64: 'a'.repeat(64) } } },
    'options.tailscalePackage.signingKey': { tailscalePackage: { signingKey: 'x' } },
  }
  for (const [field, options] of Object.entries(cases)) {
    const error = await provisionVM(newJob(), quiet(options)).then(() => assert.fail(field), (error) => error)
    assert.deepEqual([error.code, error.field], ['INVALID_INPUT', field], error.message)
  }
  assert.equal(await cloud.requests(), 0)
})

test('what the project refuses in an order is named, and nothing is left', async () => {
  const subnets = [{ type: 'cloud', ip_range: '10.0.1.0/24', network_zone: 'eu-central' }]
  const network = await make('networks', { name: 'inner', ip_range: '10.0.0.0/16', subnets })
  const error = await provisionVM(newJob({ region: 'us-east' }), quiet({ networks: [network] })).catch((error) => error)
  assert.deepEqual([error.code, error.leftovers], ['INVALID_INPUT', []])
  assert.match(error.message, /is in a different network zone/)
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('events say as data what their lines say, to onProgress and to a logger that is a function', async () => {
  const told = []
  const logged = []
  const listeners = { onProgress: (event) => told.push(event), logger: (event) => logged.push(event) }
  const result = await provisionVM(newJob(), quiet({ serverTypes: ['cax11', 'cpx12'], location: 'fsn1', ...listeners }))
  assert.deepEqual(logged, told)
  const of = (kind) => told.filter(({ detail }) => detail.kind === kind)
  const candidates = of('candidate').map(({ detail: { serverType, location, refused } }) => [serverType, location, Boolean(refused)])
  assert.deepEqual(candidates, [['cax11', 'fsn1', true], ['cpx12', 'fsn1', false]])
  assert.deepEqual(of('candidate').at(-1).detail.price, result.price)
  assert.deepEqual(of('step').map(({ step }) => step), ['lookup', 'auth_key', 'server', 'wait', 'ready'])
  assert.deepEqual(of('server').map(({ serverId }) => serverId), [result.serverId])
  assert.deepEqual(of('enrolled').map(({ detail }) => detail), [{ kind: 'enrolled', deviceId: result.deviceId, nodeId: result.nodeId }])
  assert.ok(told.every(({ elapsedMs }, index) => index === 0 || elapsedMs >= told[index - 1].elapsedMs))
  const { servers: [server] } = await cloud.world()
  assert.deepEqual([...new Set(told.map(({ attempt }) => attempt))], [undefined, server.labels.attempt])
})

test('the events of an undo name what is gone and what is left', async () => {
  const told = []
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const options = quiet({ timeoutMs: 1_500, onProgress: (event) => told.push(event.detail) })
  const error = await provisionVM(newJob(), options).then(() => assert.fail('it joined'), (error) => error)
  assert.match(error.code, /^(ACTION|ENROLL)_TIMEOUT$/)
  assert.equal(told.find(({ kind }) => kind === 'undo').why, error.message.split(':')[0])
  assert.deepEqual(told.filter(({ kind }) => kind === 'removed').map(({ resource }) => resource), ['server', 'auth_key'])
  assert.deepEqual(told.filter(({ kind }) => kind === 'left'), [])
})

test('the settings may be options, and say what the machine is made from and who may log in', async () => {
  const laptop = await make('ssh_keys', { name: 'laptop', public_key: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILAPTOPLAPTOPLAPTOPLAPTOPLAPTOPLAPTOP l' })
  const env = cloud.env()
  const settings = {
    env: {},
    hetznerToken: env.HETZNER_API_TOKEN,
    hetznerApiUrl: env.HETZNER_API_URL,
    tailscaleClientId: env.TAILSCALE_OAUTH_CLIENT_ID,
    tailscaleClientSecret: env.TAILSCALE_OAUTH_CLIENT_SECRET,
    tailscaleApiUrl: env.TAILSCALE_API_URL,
    sshKeys: ['laptop', 4711],
  }
  const secrets = []
  const made = await Promise.all([
    provisionVM(newJob(), quiet({ ...settings, image: 'debian-12', onSecret: (secret) => secrets.push(secret) })),
    provisionVM(newJob(), quiet({ ...settings, snapshotId: 301000001 })),
  ])
  const { servers } = await cloud.world()
  const of = ({ serverId }) => servers.find(({ id }) => id === serverId)
  assert.deepEqual(servers.map(({ ssh_keys: keys }) => keys), [[laptop, 4711], [laptop, 4711]])
  assert.deepEqual(made.map(({ usedSnapshot }) => usedSnapshot), [false, true])
  assert.equal(of(made[1]).image, 301000001)
  assert.notEqual(of(made[0]).image, 301000001)
  assert.ok(of(made[0]).boot.some((line) => line.startsWith('installs Tailscale')))
  assert.ok(!of(made[1]).boot.some((line) => line.startsWith('installs Tailscale')))
  assert.equal(secrets.filter((secret) => secret.startsWith('tskey-auth-')).length, 1)
})

test('a key made by hand lets the machine in, and is nobody else\'s to revoke', async () => {
  const tags = ['tag:agent']
  const { key: single } = await cloud.control('POST', 'keys', { reusable: false, ephemeral: false, tags })
  const { key: reusable } = await cloud.control('POST', 'keys', { reusable: true, ephemeral: false, tags })
  await provisionVM(newJob(), quiet({ tailscaleAuthKey: single }))
  const refused = await provisionVM(newJob(), quiet({ tailscaleAuthKey: reusable })).catch((error) => error)
  assert.deepEqual([refused.code, refused.field], ['CONFIG', 'TAILSCALE_AUTH_KEY'])
  const { warnings } = await provisionVM(newJob(), quiet({ tailscaleAuthKey: reusable, allowReusableAuthKey: true }))
  assert.match(warnings.join(), /migration only/)
  const { keys, devices } = await cloud.world()
  assert.deepEqual(keys.map(({ used, revoked }) => [used, revoked]), [[true, false], [true, false]])
  assert.deepEqual(devices.map(({ ephemeral }) => ephemeral), [false, false])
})

test('tags are the device\'s beside ours, as far as the client owns them', async () => {
  const other = await provisionVM(newJob(), quiet({ tags: ['tag:prod'] })).catch((error) => error)
  assert.deepEqual([other.code, other.leftovers], ['FORBIDDEN', []])
  const { tailscale: { clients } } = await cloud.control('GET', 'config')
  clients[0].tags.push('tag:prod')
  await cloud.configure({ tailscale: { clients } })
  await provisionVM(newJob(), quiet({ tags: ['tag:agent', 'tag:prod'] }))
  assert.deepEqual((await cloud.world()).devices.map(({ tags }) => tags), [['tag:agent', 'tag:prod']])
})

test('an unknown region is an error where it should be, and else goes to nbg1', async () => {
  const strict = await provisionVM(newJob({ region: 'mars' }), quiet({ strictRegion: true })).catch((error) => error)
  assert.deepEqual([strict.code, strict.field, await cloud.requests()], ['INVALID_INPUT', 'params.region', 0])
  const vm = await provisionVM(newJob({ region: 'mars' }), quiet({ wait: false, finishWithinMs: 90_000, signal: new AbortController().signal }))
  const { servers: [server] } = await cloud.world()
  assert.deepEqual([vm.state, server.location], ['creating', 'nbg1'])
  assert.equal(server.labels.expires - server.labels.attempt_started, 90 + 360)
})

test('a machine that is told where to report joins as any other', async () => {
  const bootReportUrl = 'https://app.example/boot?source=vm'
  const bootReports = () => assert.fail('it joined, so nobody has to be asked')
  const result = await provisionVM(newJob(), quiet({ bootReportUrl, bootReportSecret: 'sixteen-letters!', bootReports }))
  const { userData: text } = await cloud.control('GET', `servers/${result.serverId}/user-data`)
  assert.ok(text.includes(bootReportUrl) && !text.includes('sixteen-letters!'))
})

test('spans are told as parts of the trace that is named', async () => {
  const spans = []
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
  await provisionVM(newJob(), quiet({ onSpan: (span) => spans.push(span), traceparent }))
  assert.deepEqual([...new Set(spans.map(({ traceId }) => traceId))], ['4bf92f3577b34da6a3ce929d0e0e4736'])
})

test('RUST_LOG says which diagnostic lines are printed', async () => {
  const source = `require('provision-vm').listDevices({ logger: false }).then(() => {})`
  const run = async (filter) => {
    const env = { PATH: process.env.PATH, ...cloud.env(), ...(filter && { RUST_LOG: filter }) }
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['-e', source], { cwd: ROOT, env })
    assert.equal(stdout, '')
    return stderr
  }
  const [silent, transport, off] = await Promise.all([run(), run('provision_vm::transport=debug'), run('off')])
  assert.deepEqual([silent, off], ['', ''])
  const lines = transport.trim().split('\n')
  assert.ok(lines.length > 1 && lines.every((line) => line.includes('provision_vm::transport')), transport)
})

test('no option is without a test here', () => {
  const types = readFileSync(path.join(ROOT, 'index.d.ts'), 'utf8')
  const of = (name) => [...types.split(`export interface ${name} `)[1].split('\n}')[0].matchAll(/^ {2}(\w+)\?:/gm)].map(([, option]) => option)
  const options = [...of('CallOptions'), ...of('ProvisionOptions')]
  assert.ok(options.length >= 30)
  assert.deepEqual(options.filter((option) => !given.has(option)), [])
})

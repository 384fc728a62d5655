'use strict'

// Hetzner's own clients judge the simulator: they are not ours, so they catch shapes that we misread.

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const path = require('node:path')
const { after, before, test } = require('node:test')
const { promisify } = require('node:util')

const { startCloud } = require('./support/simulator.js')

const run = promisify(execFile)
let cloud
before(async () => (cloud = await startCloud({ timeScale: 50 })))
after(() => cloud.stop())

/** Where a tool is missing, the test says so and skips; in CI it has to be there. */
async function missing(command, args, what) {
  try {
    await run(command, args)
    return false
  } catch (error) {
    if (process.env.CI) throw error
    return `${what} is not installed`
  }
}

test('the Python client creates, waits, relabels, powers and deletes, and binds servers to what it makes', async (t) => {
  const python = process.env.PROVISION_VM_PYTHON ?? 'python3'
  const reason = await missing(python, ['-c', 'import hcloud'], 'hcloud (PyPI)')
  if (reason) return t.skip(reason)
  const script = path.join(__dirname, 'clients', 'hcloud_client.py')
  const { stdout } = await run(python, ['-W', 'error::DeprecationWarning:hcloud', script, cloud.greeting.hetzner, cloud.greeting.hetznerToken])
  const stations = stdout.trim().split('\n').map((line) => JSON.parse(line))
  const [created, relabelled, off, on, taken, types, deleted, ...binding] = stations
  assert.deepEqual([created.status, created.password], ['running', null])
  assert.deepEqual(relabelled.found, [created.id])
  assert.deepEqual(relabelled.labels, { 'made-by': 'python', state: 'relabelled' })
  assert.deepEqual([off.status, on.status], ['off', 'running'])
  assert.deepEqual([taken.code, taken.correlation], ['uniqueness_error', true])
  assert.deepEqual(types.cpx12, ['fsn1', 'nbg1', 'hel1', 'sin'])
  assert.equal(deleted.code, 'not_found')

  const [made, bound, listed, refused, gone] = binding
  assert.deepEqual(made.subnets, [['10.0.1.0/24', 'us-east', '10.0.0.1']])
  assert.deepEqual(made.rules, [['in', 'icmp', null, ['0.0.0.0/0', '::/0'], []], ['out', 'tcp', '443', [], ['0.0.0.0/0', '::/0']]])
  assert.equal(made.type, 'spread')
  assert.deepEqual(bound.commands, ['start_server', 'attach_to_network', 'apply_firewall'])
  assert.deepEqual([bound.status, bound.ipv4], ['running', null])
  assert.match(bound.ipv6, /^2001:db8:.*::\/64$/)
  assert.deepEqual([bound.private, bound.firewalls, bound.group], [[[true, '10.0.1.1', []]], [[true, 'applied']], true])
  assert.deepEqual(bound.hidden, ['running', null, null, '10.0.1.2'])
  assert.deepEqual([listed.networks, listed.firewalls, listed.groups], [['python-net'], ['python-wall'], ['python-group']])
  const [first, second] = listed.ids
  assert.deepEqual(listed.members, [[first, second], [first], [first]])
  const { station, ...codes } = refused
  assert.deepEqual(codes, { name: 'uniqueness_error', firewall: 'resource_in_use', group: 'resource_in_use', zone: 'invalid_input' })
  assert.deepEqual(gone.left, [0, 0, 0, 0])
  const { servers, primary_ips: addresses } = await cloud.world()
  assert.deepEqual([servers, addresses], [[], []])
})

/** Debian's client; what it printed. */
async function hcloud(...args) {
  const env = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    HCLOUD_ENDPOINT: cloud.greeting.hetzner,
    HCLOUD_TOKEN: cloud.greeting.hetznerToken,
  }
  return (await run('hcloud', ['--poll-interval', '50ms', ...args], { env })).stdout
}

test("Debian's hcloud creates, waits, relabels, powers and deletes", async (t) => {
  const reason = await missing('hcloud', ['version'], 'hcloud-cli (Debian)')
  if (reason) return t.skip(reason)
  const server = async () => (await cloud.world()).servers.find(({ name }) => name === 'go-1')

  await hcloud('server', 'create', '--name', 'go-1', '--type', 'cpx11', '--image', 'ubuntu-22.04', '--location', 'ash', '--ssh-key', 'ci')
  assert.equal((await server()).status, 'running')
  await hcloud('server', 'add-label', 'go-1', 'state=relabelled')
  assert.deepEqual((await server()).labels, { state: 'relabelled' })
  const listed = JSON.parse(await hcloud('server', 'list', '--selector', 'state=relabelled', '--output', 'json'))
  assert.deepEqual(listed.map(({ name }) => name), ['go-1'])
  await hcloud('server', 'poweroff', 'go-1')
  assert.equal((await server()).status, 'off')
  await hcloud('server', 'poweron', 'go-1')
  assert.equal((await server()).status, 'running')
  await assert.rejects(hcloud('server', 'create', '--name', 'go-1', '--type', 'cpx11', '--image', 'ubuntu-22.04', '--location', 'ash'), /uniqueness_error/)
  await assert.rejects(hcloud('server', 'create', '--name', 'go-2', '--type', 'cpx11', '--image', 'ubuntu-22.04', '--location', 'nbg1'), /invalid_input/)
  await hcloud('server', 'delete', 'go-1')
  assert.deepEqual((await cloud.world()).servers, [])
})

test("Debian's hcloud binds a server to what it makes", async (t) => {
  const reason = await missing('hcloud', ['version'], 'hcloud-cli (Debian)')
  if (reason) return t.skip(reason)
  const order = ['--type', 'cpx11', '--image', 'ubuntu-22.04', '--location', 'ash', '--ssh-key', 'ci']

  await hcloud('placement-group', 'create', '--name', 'go-group', '--type', 'spread')
  await hcloud('firewall', 'create', '--name', 'go-wall')
  await hcloud('network', 'create', '--name', 'go-net', '--ip-range', '10.0.0.0/16')
  // Without a subnet there is no place for anybody.
  await assert.rejects(hcloud('server', 'create', '--name', 'go-3', ...order, '--network', 'go-net'), /invalid_input/)
  await hcloud('server', 'create', '--name', 'go-3', ...order, '--firewall', 'go-wall', '--placement-group', 'go-group', '--without-ipv4')
  const world = await cloud.world()
  const [server] = world.servers
  assert.deepEqual([server.ipv4, server.placement_group], [null, world.placement_groups[0].id])
  assert.deepEqual(server.firewalls, [{ firewall: world.firewalls[0].id, applied: true }])
  const described = JSON.parse(await hcloud('server', 'describe', 'go-3', '--output', 'json'))
  assert.deepEqual(described.placement_group.servers, [server.id])
  await assert.rejects(hcloud('firewall', 'delete', 'go-wall'), /resource_in_use/)
  await hcloud('server', 'delete', 'go-3')
  await hcloud('firewall', 'delete', 'go-wall')
  await hcloud('placement-group', 'delete', 'go-group')
  await hcloud('network', 'delete', 'go-net')
  const { networks, firewalls, placement_groups: groups } = await cloud.world()
  assert.deepEqual([networks, firewalls, groups], [[], [], []])
})

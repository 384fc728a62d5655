'use strict'

// The simulator as the cloud of a real machine: its metadata server, and the doors for the program that plays the machine.

const assert = require('node:assert/strict')
const { after, before, beforeEach, test } = require('node:test')

const { startCloud } = require('./support/simulator.js')

const DOCUMENT = '#cloud-config\nhostname: agent-1\nruncmd:\n- tailscale up --auth-key=tskey-auth-none-x\n# ü\n'

let cloud
before(async () => (cloud = await startCloud({ timeScale: 50, metadata: '127.0.0.1:0' })))
beforeEach(async () => {
  await cloud.reset()
  await cloud.configure({ machine: { boot: 'outside' } })
})
after(() => cloud.stop())

/** Orders a server as a client would, and waits until it runs. */
async function server(name, userData) {
  const { hetzner, hetznerToken } = cloud.greeting
  const order = { name, server_type: 'cpx11', image: 'ubuntu-22.04', location: 'ash', ssh_keys: [4711], user_data: userData }
  const headers = { authorization: `Bearer ${hetznerToken}`, 'content-type': 'application/json' }
  const response = await fetch(`${hetzner}/servers`, { method: 'POST', headers, body: JSON.stringify(order) })
  const { id } = (await response.json()).server
  await cloud.until(({ servers }) => servers.find((one) => one.id === id).status === 'running')
  return id
}

/** What a machine reads at the metadata server. */
async function read(path) {
  const response = await fetch(`${cloud.greeting.metadata}/${path}`)
  return [response.status, await response.text()]
}

test('a machine finds its name, its id and its document, and the control door says which machine it is', async () => {
  assert.deepEqual((await read('metadata'))[0], 404)
  const first = await server('agent-1', DOCUMENT)
  const second = await server('agent-2')
  assert.deepEqual(await read('metadata/hostname'), [200, 'agent-2'])
  assert.deepEqual(await read('userdata'), [204, ''])

  await cloud.control('PUT', 'metadata', { server: first })
  assert.deepEqual(await read('metadata/instance-id'), [200, String(first)])
  assert.deepEqual(await read('userdata'), [200, DOCUMENT])
  const [status, summary] = await read('metadata')
  assert.equal(status, 200)
  for (const line of ['hostname: agent-1', `instance-id: ${first}`, 'region: us-east']) assert.ok(summary.split('\n').includes(line), summary)
  assert.equal((await read('metadata/nothing'))[0], 404)

  await cloud.control('POST', `servers/${first}/off`)
  assert.equal((await read('metadata/hostname'))[0], 404)
  await cloud.control('PUT', 'metadata', { server: second })
  assert.deepEqual(await read('metadata/hostname'), [200, 'agent-2'])
  await assert.rejects(cloud.control('PUT', 'metadata', {}), /missing field/)

  const asked = (await cloud.journal()).filter(({ who }) => who === 'metadata')
  assert.ok(asked.some(({ what, outcome }) => what === 'GET /hetzner/v1/userdata' && outcome === '200'))
  // The APIs are not at that address, and the metadata server is not at theirs.
  assert.equal((await fetch(new URL('/_sim/world', cloud.greeting.metadata))).status, 404)
  assert.equal((await fetch(`${cloud.greeting.url}/hetzner/v1/metadata`)).status, 404)
})

test('the document of a server can be read, of a server that is there', async () => {
  const [one, other] = [await server('agent-1', DOCUMENT), await server('agent-2')]
  assert.deepEqual(await cloud.control('GET', `servers/${one}/user-data`), { userData: DOCUMENT })
  assert.deepEqual(await cloud.control('GET', `servers/${other}/user-data`), { userData: null })
  await assert.rejects(cloud.control('GET', 'servers/1/user-data'), /no server 1/)
})

test('the machine joins when the program that plays it says so, and by the rules of the tailnet', async () => {
  const id = await server('agent-1', DOCUMENT)
  const { key: authKey } = await cloud.control('POST', 'keys', { reusable: false, ephemeral: true, tags: ['tag:agent'] })
  await cloud.advance(3600)
  assert.deepEqual((await cloud.world()).devices, [])

  const join = (more) => cloud.control('POST', `servers/${id}/join`, { authKey, hostname: 'agent-1', ...more })
  await assert.rejects(join({ authKey: 'tskey-auth-none-x' }), /invalid key: API key does not exist$/)
  const { nodeId, ip } = await join()
  assert.match(ip, /^100\./)
  const { devices, servers, keys } = await cloud.world()
  assert.deepEqual(devices.map((device) => [device.node_id, device.hostname, device.ip, device.connected]), [[nodeId, 'agent-1', ip, true]])
  assert.deepEqual([servers[0].node, keys[0].used, keys[0].usable], [nodeId, true, false])

  // The trap of scripts that try again: with a spent key, a machine that was in is out.
  await assert.rejects(join(), /invalid key: API key \w+ not valid$/)
  assert.equal((await cloud.world()).devices[0].connected, false)
  await cloud.control('DELETE', `servers/${id}`)
  await assert.rejects(join(), /no server \d+ is running/)
})

test('the simulated reading of a document can be had without a server, and never shows the key', async () => {
  const boot = (userData) => cloud.control('POST', 'first-boot', { userData, name: 'agent-9' })
  const good = await boot(DOCUMENT)
  assert.deepEqual([good.joins, good.hostname, good.installs], [true, 'agent-1', false])
  assert.ok(!JSON.stringify(good).includes('tskey-'))
  const bad = await boot(DOCUMENT.replace('#cloud-config', '# cloud-config'))
  assert.deepEqual([bad.joins, bad.why], [false, 'the first line is not #cloud-config, so cloud-init ignores it'])
  assert.deepEqual(await boot(null), { joins: false, why: 'there is no user data', log: [] })
  assert.deepEqual((await cloud.world()).servers, [])
})

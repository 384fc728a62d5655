'use strict'

// What is wrong with a set-up is found, said, and told how to mend. Each case plants one thing into a world that is sound otherwise.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const net = require('node:net')
const { after, before, beforeEach, describe, test } = require('node:test')

const { doctor, provisionVM } = require('..')
const { startCloud, newJob } = require('./support/simulator.js')

let cloud
// Its clock and this machine's agree for as long as a look takes.
before(async () => (cloud = await startCloud({ timeScale: 1, epoch: Math.floor(Date.now() / 1000) })))
beforeEach(() => cloud.reset())
after(() => cloud.stop())

const examine = (more = {}, what, options) => doctor(what, { env: cloud.env(more), logger: false, ...options })

/** What is not as it should be. */
const complaints = ({ checks }) => checks.filter(({ verdict }) => verdict === 'failed' || verdict === 'warning')

const foreign = (labels = {}) => ({ name: 'shop', labels })
const deadAttempt = () => {
  const hour = 3600
  const now = Math.floor(Date.now() / 1000)
  const labels = { managed_by: 'provision-vm', state: 'creating', provisioning_job_id: 'old', agent_id: 'a', attempt: 'b' }
  return { name: 'agent-a-0000', labels: { ...labels, attempt_started: String(now - 2 * hour), expires: String(now - hour) } }
}
const clients = async (change) => {
  const { tailscale } = await cloud.control('GET', 'config')
  await cloud.configure({ tailscale: { clients: [{ ...tailscale.clients[0], ...change }] } })
}
const oneClosedPort = async () => {
  const server = net.createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

// What is planted, the environment and what is asked; then the check, its verdict, its code, and what its text and hint name.
const CASES = [
  ['a setting that is missing', {}, { HETZNER_SSH_KEY_ID: undefined }, ['settings', 'failed', 'CONFIG'], /HETZNER_SSH_KEY_ID: is not set/, /setting/],
  ['a wrong token of Hetzner', {}, { HETZNER_API_TOKEN: 'wrong' }, ['hetzner', 'failed', 'AUTH_HETZNER'], /token/, /token/],
  ['a token that may only read', {}, async () => ({ HETZNER_API_TOKEN: (await cloud.control('GET', 'config')).hetzner.read_only_token }),
    ['hetzner-write', 'failed', 'FORBIDDEN'], /may only read/, /Read & Write/],
  ['an address of Hetzner where nobody listens', {}, async () => ({ HETZNER_API_URL: `http://127.0.0.1:${await oneClosedPort()}/v1` }),
    ['hetzner', 'failed', 'UNREACHABLE'], /refused the connection/, /./],
  ['an SSH key that the project does not have', {}, { HETZNER_SSH_KEY_ID: 'deploy' }, ['ssh-keys', 'failed', 'CONFIG'], /deploy/, /HETZNER_SSH_KEY_ID/],
  ['a snapshot that does not exist', {}, { HETZNER_SNAPSHOT_ID: '4711' }, ['image', 'failed', 'CONFIG'], /snapshot 4711/, /HETZNER_SNAPSHOT_ID/],
  ['an image that does not exist', { options: { image: 'ubuntu-2204' } }, {}, ['image', 'failed', 'CONFIG'], /ubuntu-2204/, /option image/],
  ['a firewall and a network that do not exist', { options: { firewalls: [4711], networks: [4712] } }, {},
    ['attachments', 'failed', 'CONFIG'], /no firewall 4711, no network 4712/, /firewalls, networks/],
  ['a placement group that does not exist', { options: { placementGroup: 4713 } }, {}, ['attachments', 'failed', 'CONFIG'], /no placement group 4713/, /own project/],
  ['a server type that is not sold', { what: { region: 'us-east' }, options: { serverType: 'cx23' } }, {},
    ['server-types', 'failed', 'CONFIG'], /cx23: not sold in ash/, /serverTypes/],
  ['a region that nobody knows', { what: { region: 'mars' } }, {}, ['server-types', 'warning'], /"mars" is not known/, /us-east/],
  ['server types that are out of stock', { config: { hetzner: { out_of_stock: ['cpx11@ash', 'cpx21@ash'] } }, what: { region: 'us-east' } }, {},
    ['server-types', 'warning'], /Out of stock just now in ash/, /locations/],
  ['a project with servers of others', { server: foreign() }, {}, ['project', 'warning'], /1 server is/, /of their own/],
  ['the server of a dead attempt', { server: deadAttempt() }, {}, ['leftovers', 'warning'], /1 server is/, /reap/],
  ['a budget of requests that is nearly used up', { config: { hetzner: { rate_remaining: 100 } } }, {}, ['requests', 'warning'], /of 3600/, /flowed back/],
  ['a wrong secret of Tailscale', {}, { TAILSCALE_OAUTH_CLIENT_SECRET: 'tskey-client-wrong' }, ['tailscale', 'failed', 'AUTH_TAILSCALE'], /access token/, /./],
  ['a client that may not read devices', { client: { scopes: ['auth_keys'] } }, {}, ['devices', 'failed', 'FORBIDDEN'], /read/, /devices:core/],
  ['a client that may not remove devices', { client: { scopes: ['auth_keys', 'devices:core:read'] } }, {},
    ['devices', 'failed', 'FORBIDDEN'], /removed/, /write access/],
  ['a client that may not make auth keys', { client: { scopes: ['devices:core'] } }, {}, ['auth-key', 'failed', 'FORBIDDEN'], /auth key/, /auth_keys/],
  ['a client whose tag is another', { client: { tags: ['tag:ci'] } }, {}, ['auth-key', 'failed', 'FORBIDDEN'], /tag/, /tag:agent/],
  ['a client that may do more than is needed', { client: { scopes: ['auth_keys', 'devices:core', 'policy_file'] } }, {},
    ['scopes', 'warning'], /policy_file/, /alone/],
  ['a reusable auth key', { key: { reusable: true, ephemeral: true, tags: ['tag:agent'] } }, (key) => ({ TAILSCALE_AUTH_KEY: key }),
    ['auth-key', 'failed', 'CONFIG'], /reusable/, /./],
  ['an auth key by hand', { key: { reusable: false, ephemeral: true, tags: ['tag:agent'] } }, (key) => ({ TAILSCALE_AUTH_KEY: key }), ['auth-key', 'warning'], /TAILSCALE_AUTH_KEY/, /migration/],
  ['a secret for boot reports that is too short', {}, { BOOT_REPORT_URL: 'https://app.example/boot', BOOT_REPORT_SECRET: 'short' },
    ['settings', 'failed', 'CONFIG'], /BOOT_REPORT_SECRET/, /./],
  ['a proxy that is none', {}, { HTTPS_PROXY: 'socks5://127.0.0.1:9' }, ['settings', 'failed', 'CONFIG'], /HTTPS_PROXY/, /./],
  ['a timeout that is no number', {}, { PROVISION_TIMEOUT_SECONDS: 'soon' }, ['settings', 'failed', 'CONFIG'], /PROVISION_TIMEOUT_SECONDS/, /./],
  ['certificates that cannot be read', {}, { NODE_EXTRA_CA_CERTS: '/nowhere.pem' }, ['settings', 'warning'], /nowhere\.pem/, /heeded/],
]

describe('doctor', () => {
  for (const [name, { config, server, client, key, what, options }, more, [check, verdict, code], says, hint] of CASES) {
    test(`finds ${name}`, async () => {
      if (config) await cloud.configure(config)
      if (server) await cloud.control('POST', 'servers', server)
      if (client) await clients(client)
      const planted = key && (await cloud.control('POST', 'keys', key)).key
      const env = typeof more === 'function' ? await more(planted) : more
      const diagnosis = await examine(env, what, options)
      const found = complaints(diagnosis)
      assert.deepEqual(found.map((it) => [it.name, it.verdict, it.code]), [[check, verdict, code]])
      assert.match(found[0].what, says)
      assert.match(found[0].hint, hint)
      assert.equal(diagnosis.healthy, verdict === 'warning')
      for (const secret of Object.values(cloud.env(env)).filter((it) => it?.startsWith('tskey-') || it === env.HETZNER_API_TOKEN)) {
        assert.ok(!JSON.stringify(diagnosis).includes(secret))
      }
      const { keys } = await cloud.world()
      assert.deepEqual(keys.filter(({ usable, description }) => usable && description.startsWith('provision-vm ')), [], 'the key that it makes is revoked')
    })
  }

  for (const [word, apart] of [['behind', 3600], ['ahead of', -3600]]) {
    test(`finds a clock that is ${word} Hetzner's`, async () => {
      const other = await startCloud({ timeScale: 1, epoch: Math.floor(Date.now() / 1000) + apart })
      try {
        const diagnosis = await doctor({}, { env: other.env(), logger: false })
        assert.deepEqual(complaints(diagnosis).map(({ name, verdict }) => [name, verdict]), [['clock', 'warning']])
        const [{ what, hint }] = complaints(diagnosis)
        assert.match(what, new RegExp(`^This machine's clock is 3[56][0-9]{2} s ${word} Hetzner's$`))
        assert.match(hint, /NTP/)
      } finally {
        await other.stop()
      }
    })
  }

  test('has nothing to say of a sound set-up, and leaves nothing behind', async () => {
    const diagnosis = await examine({}, { region: 'us-east' })
    assert.deepEqual([complaints(diagnosis), diagnosis.healthy], [[], true])
    assert.equal(diagnosis.checks.length, 15)
    const { servers, devices, keys } = await cloud.world()
    assert.deepEqual([servers, devices, keys.filter(({ usable }) => usable)], [[], [], []])
    const writes = (await cloud.journal()).map(({ what }) => what).filter((what) => /^(POST|PUT|DELETE)/.test(what))
    assert.equal(writes.length, diagnosis.requests.hetzner + diagnosis.requests.tailscale - (await reads()), writes.join('\n'))
  })

  test('finds what a server is to be attached to, where it is there', async () => {
    const firewalls = [await cloud.make('firewalls', { name: 'closed', rules: [] })]
    const subnets = [{ type: 'cloud', ip_range: '10.0.1.0/24', network_zone: 'eu-central' }]
    const networks = [await cloud.make('networks', { name: 'inner', ip_range: '10.0.0.0/16', subnets })]
    const empty = await cloud.make('networks', { name: 'empty', ip_range: '10.1.0.0/16' })
    const placementGroup = await cloud.make('placement_groups', { name: 'apart', type: 'spread' })
    const look = async (what, options) => {
      const { checks } = await examine({}, what, { placementGroup, firewalls, networks, ...options })
      const { verdict, what: found } = checks.find(({ name }) => name === 'attachments')
      return [verdict, found]
    }
    const [network] = networks
    const out = (places) => `A server in ${places} cannot join network ${network} (eu-central)`
    // What it says is what a provisioning finds.
    for (const [region, options, verdict, says, code] of [
      ['eu-west', {}, 'ok', '3 are asked for and there'],
      ['us-east', {}, 'failed', out('ash'), 'INVALID_INPUT'],
      ['us-east', { locations: ['ash', 'fsn1'] }, 'failed', out('ash'), 'INVALID_INPUT'],
      ['us-east', { locations: ['fsn1', 'ash'] }, 'warning', out('ash')],
      ['eu-west', { networks: [empty] }, 'failed', `Network ${empty} has no subnet, so no server fits in`, 'INVALID_INPUT'],
    ]) {
      assert.deepEqual(await look({ region }, options), [verdict, says])
      const wishes = { placementGroup, firewalls, networks, ...options, env: cloud.env(), logger: false, wait: false }
      const ends = await provisionVM({ ...newJob(), region }, wishes).then(() => undefined, (error) => error.code)
      assert.equal(ends, code, says)
    }
    assert.deepEqual(await look({}), ['warning', out('ash, hil, sin')])
  })

  test('sends nothing past a proxy that cannot be used', async () => {
    const { checks } = await examine({ HTTPS_PROXY: 'socks5://127.0.0.1:9' })
    assert.deepEqual(new Set(checks.map(({ verdict }) => verdict)), new Set(['failed', 'skipped']))
    assert.equal(await cloud.requests(), 0)
  })

  test('looks on at the other cloud when one does not answer', async () => {
    const { checks } = await examine({ HETZNER_API_TOKEN: 'wrong', TAILSCALE_OAUTH_CLIENT_SECRET: 'tskey-client-wrong' })
    const of = (verdict) => checks.filter((check) => check.verdict === verdict).map(({ name }) => name)
    assert.deepEqual(of('failed'), ['hetzner', 'tailscale'])
    assert.deepEqual(of('ok'), ['settings'])
    const missing = await examine({ HETZNER_API_TOKEN: undefined, HETZNER_SSH_KEY_ID: undefined })
    assert.deepEqual(complaints(missing).map(({ name }) => name), ['settings'])
    assert.match(complaints(missing)[0].what, /HETZNER_API_TOKEN: is not set, and neither is HETZNER_SSH_KEY_ID/)
    // One thing that is wrong hides no other.
    for (const [wrong, named, names] of [
      [{ HETZNER_SSH_KEY_ID: undefined }, /^HETZNER_SSH_KEY_ID: is not set$/, ['settings', 'image', 'attachments']],
      [{ HETZNER_API_TOKEN: undefined, TAILSCALE_AUTH_KEY: 'no' }, /^HETZNER_API_TOKEN: is not set; TAILSCALE_AUTH_KEY: must begin/, ['settings']],
      [{ HETZNER_SNAPSHOT_ID: 'abc', HETZNER_SSH_KEY_ID: ',' }, /^HETZNER_SNAPSHOT_ID: .*; HETZNER_SSH_KEY_ID: must be/, ['settings', 'attachments']],
      [{ HTTPS_PROXY: 'socks5://a:9', HETZNER_SSH_KEY_ID: ',' }, /^HTTPS_PROXY: .*; HETZNER_SSH_KEY_ID: must be/, ['settings']],
      [{ BOOT_REPORT_URL: 'http://x y', BOOT_REPORT_SECRET: 'sixteen-letters!' }, /^BOOT_REPORT_URL: [^;]*$/, ['settings', 'image', 'attachments']],
      [{ HETZNER_API_TOKEN: 'x'.repeat(17_000) }, /^HETZNER_API_TOKEN: is longer/, ['settings']],
    ]) {
      const { checks } = await examine(wrong, {}, { image: 'ubuntu-2204', firewalls: [4711], ...('HETZNER_SNAPSHOT_ID' in wrong && { image: undefined }) })
      assert.match(checks[0].what, named)
      assert.deepEqual(checks.filter(({ verdict }) => verdict === 'failed').map(({ name }) => name), names)
      const proxied = 'HTTPS_PROXY' in wrong
      const key = checks.find(({ name }) => name === 'auth-key')
      assert.equal(key.verdict, proxied || 'TAILSCALE_AUTH_KEY' in wrong ? 'skipped' : 'ok', JSON.stringify(wrong).slice(0, 99))
    }
    const wrong = { TAILSCALE_OAUTH_CLIENT_SECRET: undefined, PROVISION_TIMEOUT_SECONDS: 'soon', HETZNER_SSH_KEY_ID: 'deploy' }
    const several = await examine(wrong, {}, { image: 'ubuntu-2204', firewalls: [4711] })
    assert.deepEqual(complaints(several).map(({ name }) => name), ['settings', 'ssh-keys', 'image', 'attachments'])
    assert.match(several.checks[0].what, /TAILSCALE_OAUTH_CLIENT_SECRET: is not set; PROVISION_TIMEOUT_SECONDS: must be/)
    const verdicts = Object.fromEntries(missing.checks.map(({ name, verdict }) => [name, verdict]))
    assert.deepEqual([verdicts.hetzner, verdicts.tailscale, verdicts.devices], ['skipped', 'ok', 'ok'])
  })

  test('does not take an odd refusal of an id that nobody has for a lack of permission', async () => {
    const odd = (json) => ({ answer: { status: 400, json, apply: false } })
    const error = { error: { code: 'invalid_input', message: 'invalid id', details: null } }
    await cloud.fault({ api: 'hetzner', method: 'PUT', path: '/servers/*', times: 1, kind: odd(error) })
    await cloud.fault({ api: 'tailscale', method: 'DELETE', path: '/device/*', times: 1, kind: odd({ message: 'invalid device ID' }) })
    assert.deepEqual(complaints(await examine()), [])
  })

  test('refuses what it is not to be asked, and ends when it is given up', async () => {
    const refused = await examine({}, { region: 5 }).catch((error) => error)
    assert.deepEqual([refused.code, refused.field], ['INVALID_INPUT', 'params.region'])
    const signal = AbortSignal.abort('enough')
    const aborted = await examine({}, {}, { signal }).catch((error) => error)
    assert.deepEqual([aborted.code, aborted.cause], ['ABORTED', 'enough'])
    const controller = new AbortController()
    await cloud.fault({ api: 'tailscale', method: 'POST', path: '/keys', times: 1, kind: 'hang_after_apply' })
    const call = examine({}, {}, { signal: controller.signal }).catch((error) => error)
    while (!(await cloud.world()).keys.length) await new Promise((resolve) => setTimeout(resolve, 20))
    controller.abort()
    assert.equal((await call).code, 'ABORTED')
    const { keys } = await cloud.world()
    assert.deepEqual(keys.map(({ usable }) => usable), [false])
  })

  test('is no stranger to a project in which jobs run', async () => {
    await provisionVM(newJob(), { env: cloud.env(), logger: false, wait: false })
    assert.deepEqual(complaints(await examine()), [])
  })
})

/** How many requests only read. */
async function reads() {
  return (await cloud.journal()).filter(({ what }) => what.startsWith('GET ')).length
}

'use strict'

// What somebody sees who sits at a terminal, which is played here; the module has a stand-in, so that every answer can be had.

const assert = require('node:assert/strict')
const { describe, it } = require('node:test')

const { plain, readJson, runAtTerminal } = require('./support/cli.js')

const price = { hourly: '0.0330', monthly: '20.4900000000' }
const requests = { hetzner: 1, tailscale: 1 }
const MINUTE = 60_000

const vm = (more) => ({
  jobId: 'job-42',
  agentId: '550e8400-e29b',
  state: 'ready',
  serverId: 131072002,
  serverName: 'agent-550e8400-5359ae12ca11',
  serverIp: '203.0.113.2',
  serverType: 'cpx11',
  location: 'ash',
  serverStatus: 'running',
  ageMs: 190 * MINUTE,
  price,
  costSoFar: '0.132',
  ...more,
})
const VMS = [
  vm(),
  vm({ jobId: `job-${'x'.repeat(50)}-7`, state: 'expired', ageMs: 3 * 24 * 60 * MINUTE, costSoFar: '2.376123', serverId: 7 }),
  vm({ jobId: 'job-off', serverStatus: 'off', ageMs: 40_000, costSoFar: undefined, price: undefined }),
]
const listing = { listVMs: async () => ({ vms: VMS, requests }) }
const lines = (text) => plain(text).trim().split('\n')

describe('list', () => {
  it('fits in 80 columns: what can be spared goes first, and then an id is cut in its middle', async () => {
    const { code, stdout } = await runAtTerminal(['list'], { api: listing })
    const [head, ...rows] = lines(stdout)
    assert.equal(code, 0)
    assert.match(head, /^JOB +STATE +AGE +COST +AN HOUR +TYPE +WHERE +SERVER$/)
    assert.match(rows[0], /^job-42 +ready +3 h +0\.132 +0\.033 +cpx11 +ash +131072002$/)
    assert.match(rows[1], /^job-x+…x+-7 +expired +3 d +2\.3761 /)
    assert.match(rows[2], /^job-off +ready, off +40 s +\? +\? /)
    assert.ok(lines(stdout).every((line) => line.length <= 80), stdout)
    assert.match(stdout.replaceAll('\n', ' '), /3 VMs\. COST is what each has cost so far, for the server alone, in the project's currency, net\./)
    assert.ok(stdout.includes('provision-vm reap'))
  })

  it('fits in less as well, with fewer columns', async () => {
    for (const [columns, titles, job] of [
      [60, /^JOB +STATE +AGE +COST +AN HOUR +TYPE +WHERE$/, /^job-x+…x+-7 +expired/],
      [40, /^JOB +STATE +AGE +COST$/, /^job-x*…x*-7 +expired/],
    ]) {
      const { stdout } = await runAtTerminal(['list'], { api: listing, columns })
      const [head, ...rows] = lines(stdout)
      assert.match(head, titles)
      assert.match(rows[1], job)
      assert.ok(lines(stdout).every((line) => line.length <= columns), stdout)
    }
  })

  it('has all of it where there is room, and where nobody watches', async () => {
    for (const how of [{ columns: 200 }, { stdout: { isTTY: false } }]) {
      const { stdout } = await runAtTerminal(['list'], { api: listing, ...how })
      assert.ok(stdout.includes(VMS[1].jobId))
      assert.match(lines(stdout)[0], /SERVER +ADDRESS +AGENT$/)
    }
  })

  it('says so if there are none', async () => {
    const { stdout } = await runAtTerminal(['list'], { api: { listVMs: async () => ({ vms: [], requests }) } })
    assert.equal(stdout, 'No VMs.\n')
  })
})

describe('colour is for terminals, and heeds the environment', () => {
  for (const [name, how, hasColour] of [
    ['a terminal', {}, true],
    ['a pipe', { stdout: { isTTY: false } }, false],
    ['NO_COLOR', { env: { NO_COLOR: '1' } }, false],
    ['an empty NO_COLOR', { env: { NO_COLOR: '' } }, true],
    ['TERM=dumb', { env: { TERM: 'dumb' } }, false],
    ['FORCE_COLOR and a pipe', { env: { FORCE_COLOR: '1' }, stdout: { isTTY: false } }, true],
    ['FORCE_COLOR=0', { env: { FORCE_COLOR: '0' } }, false],
    ['NO_COLOR and FORCE_COLOR', { env: { NO_COLOR: '1', FORCE_COLOR: '1' } }, false],
  ]) {
    it(name, async () => {
      const { stdout } = await runAtTerminal(['list'], { api: listing, ...how })
      assert.equal(/\x1b\[\d+m/.test(stdout), hasColour)
    })
  }
})

describe('progress', () => {
  const usual = { step: 'server', scope: 'Hetzner', level: 'info', message: 'a server', elapsedMs: 10, detail: { kind: 'note' } }
  const event = (more) => ({ ...usual, ...more })
  const api = {
    async provisionVM(_params, { onProgress }) {
      onProgress(event())
      const timings = [{ step: 'wait', ms: 4200 }]
      return { ...vm(), state: 'ready', reused: false, attempts: [], timings, warnings: [], requests, tailscaleIp: '100.64.0.2' }
    },
    async getProvisioning(_target, { onProgress }) {
      onProgress(event({ message: 'a step' }))
      onProgress(event({ level: 'warn', message: 'a warning' }))
      return { state: 'absent', percent: 0, requests }
    },
  }
  const PROVISION = ['provision', 'job-42', '--agent', 'a']
  for (const [name, args, how, stays, goes] of [
    ['is live on a terminal', PROVISION, {}, ['✔', 'a server', '\x1b[?25h']],
    ['is in plain lines elsewhere', PROVISION, { stderr: { isTTY: false } }, ['[Hetzner] a server (0.0 s)\n'], ['\x1b']],
    ['is in plain lines on a dumb terminal', PROVISION, { env: { TERM: 'dumb' } }, ['[Hetzner] a server'], ['\x1b']],
    ['has no colour with NO_COLOR', PROVISION, { env: { NO_COLOR: '1' } }, ['a server'], ['\x1b[32m']],
    ['beside --json is for a terminal', [...PROVISION, '--json'], {}, ['a server']],
    ['beside --json is not for a file', [...PROVISION, '--json'], { stderr: { isTTY: false } }, [], ['a server']],
    ['of a look leaves its warnings alone', ['status', 'job-42'], { stderr: { isTTY: false } }, ['warning: a warning'], ['a step']],
  ]) {
    it(name, async () => {
      const result = await runAtTerminal(args, { api, ...how })
      assert.equal(result.code, 0, result.stderr)
      for (const words of stays) assert.ok(result.stderr.includes(words), `${words} is not in ${result.stderr}`)
      for (const words of goes ?? []) assert.ok(!result.stderr.includes(words), `${words} is in ${result.stderr}`)
      assert.ok(!result.stdout.includes('a server'))
      if (args.includes('--json')) readJson(result)
    })
  }
})

describe('destroy asks first', () => {
  const status = { state: 'ready', serverName: 'agent-1', serverId: 7, serverType: 'cpx11', location: 'ash' }
  const ask = async (args, typed, more = {}) => {
    const heard = []
    const api = {
      getProvisioning: async () => status,
      deprovisionVM: async (target, { force }) => {
        heard.push({ ...target, ...(force === undefined ? {} : { force }) })
        return { servers: [{ serverName: 'agent-1', serverId: 7, removed: true }], leftovers: [], requests, ...more }
      },
    }
    return { ...(await runAtTerminal(['destroy', ...args], { api, typed })), heard }
  }
  for (const [args, typed, code, heard] of [
    [['job-42'], 'y\n', 0, [{ jobId: 'job-42' }]],
    [['job-42'], 'Yes\n', 0, [{ jobId: 'job-42' }]],
    [['job-42'], 'n\n', 1, []],
    [['job-42'], '\n', 1, []],
    [['job-42'], 'yikes\n', 1, []],
    [['job-42'], '', 1, []],
    [['job-42', '--json'], 'n\n', 1, []],
    [['job-42', '--yes'], undefined, 0, [{ jobId: 'job-42' }]],
    [['job-42', '-y'], undefined, 0, [{ jobId: 'job-42' }]],
    [['job-42'], undefined, 2, []],
    [['--server-id', '7', '--force'], 'y\n', 0, [{ serverId: 7, force: true }]],
    [['--server-name', 'agent-1'], 'y\n', 0, [{ serverName: 'agent-1' }]],
  ]) {
    it(`destroy ${args.join(' ')}, and the answer is ${JSON.stringify(typed)}`, async () => {
      const result = await ask(args, typed)
      assert.deepEqual([result.code, result.heard], [code, heard], result.stderr)
      if (typed !== undefined && args[0] === 'job-42') {
        assert.ok(result.stderr.includes('Remove job-42 (ready): server agent-1 (7), cpx11 in ash? [y/N] '), result.stderr)
      }
      if (args.includes('--json')) assert.equal(readJson(result).error.code, 'ABORTED')
      else if (heard.length === 0) assert.ok(result.stderr.includes('Nothing was removed.'), result.stderr)
      else assert.ok(plain(result.stdout).includes('removed: server agent-1 (7)'))
    })
  }

  it('what is left is named, and ends with 1', async () => {
    const leftovers = [{ kind: 'auth_key', id: 'k1', why: 'may still be there' }]
    const { code, stdout } = await ask(['job-42', '--yes'], undefined, { leftovers })
    assert.equal(code, 1)
    assert.ok(stdout.includes('Left behind: auth key k1: may still be there'))
  })
})

it('plan says what would be done, with fallbacks and prices, and what is left out', async () => {
  const candidates = [
    { serverType: 'cpx11', location: 'ash', price, inStock: true },
    { serverType: 'cx23', location: 'ash', inStock: true, refused: 'not sold in ash' },
    { serverType: 'cpx12', location: 'ash', price, inStock: false },
    { serverType: 'cpx22', location: 'ash', price, inStock: true },
  ]
  const result = { action: 'replace', serverName: 'agent-1', image: '77', usesSnapshot: true, locations: ['ash', 'hil'], candidates, price }
  const rest = { tags: ['tag:agent'], ephemeral: true, warnings: ['the region "mars" is not known'], requests }
  const { code, stdout } = await runAtTerminal(['plan', 'job-42', '--agent', 'a'], { api: { plan: async () => ({ ...result, ...rest }) } })
  assert.equal(code, 0)
  const text = plain(stdout)
  for (const words of [
    'It would remove what a dead attempt left of job-42, and order a server anew',
    'snapshot 77',
    'ash, then hil',
    '0.033 an hour, at most 20.49 a month',
    "for the server alone, in the project's currency, net",
  ]) {
    assert.ok(text.includes(words), `${words} is not in ${text}`)
  }
  assert.match(text, /^cpx11 +ash +0\.033 +20\.49 +first$/m)
  assert.match(text, /^cx23 +ash +left out: not sold in ash$/m)
  assert.match(text, /^cpx12 .* out of stock, tried last$/m)
  assert.match(text, /^cpx22 .* fallback$/m)
})

describe('doctor', () => {
  const checks = [
    { name: 'settings', verdict: 'ok', what: 'all settings are there' },
    { name: 'clock', verdict: 'warning', what: 'the clock is 90 s ahead', hint: 'Set it.' },
    { name: 'hetzner', verdict: 'failed', what: 'the token is not taken', code: 'AUTH_HETZNER', hint: 'Check HETZNER_API_TOKEN.' },
    { name: 'image', verdict: 'skipped', what: 'not looked at' },
  ]
  const examine = (healthy, { args = [], ...how }) =>
    runAtTerminal(['doctor', ...args], { api: { doctor: async () => ({ healthy, checks, requests }) }, ...how })

  it('has a mark, a name and what was found for each check, with code and hint where something is wrong', async () => {
    const { code, stdout } = await examine(false, {})
    const text = plain(stdout)
    assert.equal(code, 1)
    for (const line of [
      '✔ settings  all settings are there',
      '! clock     the clock is 90 s ahead\n            Set it.',
      '✖ hetzner   the token is not taken\n            AUTH_HETZNER: Check HETZNER_API_TOKEN.',
      '- image     not looked at',
      'Not healthy: 1 good, 1 failed, 1 to look at, 1 skipped.',
    ]) {
      assert.ok(text.includes(line), `${line} is not in ${text}`)
    }
  })

  it('has words instead of marks where nobody watches', async () => {
    const { stdout } = await examine(false, { stdout: { isTTY: false } })
    assert.match(stdout, /^ok +settings /m)
    assert.match(stdout, /^failed +hetzner /m)
  })

  for (const [name, env, verdict, code, words] of [
    ['is not looked at if it is not set', {}, undefined, 0],
    ['is good', { CALLBACK_URL: 'https://app.example/hook', CALLBACK_ORIGINS: 'https://app.example' }, 'ok', 0, 'app.example'],
    ['is open to any address', { CALLBACK_URL: 'https://app.example/hook' }, 'warning', 0, 'CALLBACK_ORIGINS'],
    ['is not public', { CALLBACK_URL: 'http://10.0.0.1/hook' }, 'failed', 1, 'CALLBACK_URL'],
    ['is elsewhere', { CALLBACK_URL: 'https://evil.example/', CALLBACK_ORIGINS: 'https://app.example' }, 'failed', 1, 'CALLBACK_ORIGINS'],
  ]) {
    it(`the address of callbacks ${name}`, async () => {
      // Neither a workflow's files nor its way of reading lines are the check's.
      const workflow = { GITHUB_ACTIONS: 'true', GITHUB_OUTPUT: '/no/such/file', GH_CALLBACK_SECRET: 'a-secret-0123456789' }
      const result = await examine(true, { args: ['--json'], env: { ...workflow, ...env }, stderr: { isTTY: false } })
      const { healthy, checks } = readJson(result)
      const found = checks.find((check) => check.name === 'callback')
      assert.deepEqual([result.code, found?.verdict, healthy], [code, verdict, code === 0], result.stderr)
      if (words) assert.ok(found.what.includes(words), found.what)
      assert.ok(!(result.stdout + result.stderr).includes('a-secret-0123456789'))
    })
  }
})

it('a failure says what, what to do and when, and what is left', async () => {
  const left = [{ kind: 'server', id: '7', name: 'agent-1', why: 'may still be there' }]
  const error = Object.assign(new Error('params.agentId: is not good'), {
    code: 'RATE_LIMITED', field: 'params.agentId', hint: 'Wait.', retryAfterMs: 61_000, requestIds: ['r1'], leftovers: left, step: 'server',
  })
  const fail = (leftovers) => {
    const provisionVM = () => Promise.reject(Object.assign(error, { leftovers }))
    return runAtTerminal(['provision', 'job-42', '--agent', 'a'], { api: { provisionVM } })
  }
  const [one, two] = [await fail(left), await fail([])]
  assert.deepEqual([one.code, one.stdout], [1, ''])
  const text = plain(one.stderr)
  const leftBehind = 'Left behind: server 7 agent-1: may still be there'
  for (const words of ['error: RATE_LIMITED: --agent: is not good', '  Wait.', 'Try again in 2 min.', 'Request: r1', leftBehind]) {
    assert.ok(text.includes(words), `${words} is not in ${text}`)
  }
  assert.ok(!text.includes('Nothing was left behind') && two.stderr.includes('Nothing was left behind.'))
})

it('a module that cannot be loaded says why', async () => {
  const cause = new Error('libc.so.6: version not found\nand more')
  const api = { listVMs: () => Promise.reject(new Error('provision-vm has no native module for this place', { cause })) }
  const [text, json] = [await runAtTerminal(['list'], { api }), await runAtTerminal(['list', '--json'], { api })]
  assert.deepEqual([text.code, json.code], [1, 1])
  assert.ok(text.stderr.includes('Because: libc.so.6: version not found\n'))
  assert.equal(readJson(json).error.message, 'provision-vm has no native module for this place')
})

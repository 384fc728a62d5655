'use strict'

// scripts/callback.js as a workflow calls it: bodies, exit codes, and what is said if nothing helps (fault sheet 2.8).

const assert = require('node:assert/strict')
const { execFile } = require('node:child_process')
const { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, afterEach, before, test } = require('node:test')
const { setTimeout: pause } = require('node:timers/promises')
const { promisify } = require('node:util')

const { ROOT } = require('../scripts/setup.js')
const { makeMessage } = require('../scripts/support/message.js')
const { startReceiver } = require('./support/receiver.js')
const { environment, runCallback, SECRET } = require('./support/sender.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-callback-'))
let receiver
before(async () => (receiver = await startReceiver({ secret: SECRET })))
afterEach(() => receiver.reset())
after(async () => {
  rmSync(folder, { recursive: true })
  await receiver.stop()
})

const run = (command, more) => runCallback(command, environment(receiver, more)).ended

test('bodies and headers are those that the app verifies, and nothing else', async () => {
  for (const [command, fields] of [
    ['provisioning', { status: 'provisioning', workflow_run_id: '1234567' }],
    ['running', { status: 'running', server_id: '42', server_ip: '203.0.113.7', tailscale_ip: '100.64.0.7' }],
    ['failed', { status: 'failed', error: 'no capacity', failed_step: 'server' }],
  ]) {
    const { code, stdout, stderr } = await run(command)
    assert.deepEqual([code, stdout], [0, ''], stderr)
    assert.match(stderr, new RegExp(`^\\[Callback\\] ${command}: delivered to 127\\.0\\.0\\.1:\\d+ \\(200, try 1\\)\n$`))
    const request = receiver.requests.at(-1)
    assert.deepEqual(request.checks, { old: 'ok', standard: 'ok', peer: 'ok' })
    assert.equal(request.body, JSON.stringify({ job_id: 'job-42', ...fields }))
    assert.deepEqual([request.method, request.path], ['POST', '/api/webhooks/github'])
    assert.equal(request.headers['content-type'], 'application/json')
    assert.match(request.headers['user-agent'], /^provision-vm\/\d/)
    assert.equal(request.headers['content-length'], String(request.body.length))
    assert.equal(request.headers.connection, 'close', 'a connection of its own')
  }
  assert.equal(receiver.events.length, 3)
})

test('a secret in the form of Standard Webhooks is understood', async (t) => {
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
  const other = await startReceiver({ secret })
  t.after(() => other.stop())
  const { code, stderr } = await runCallback('running', environment(other, { GH_CALLBACK_SECRET: secret })).ended
  assert.deepEqual([code, other.events.length], [0, 1], stderr)
})

test('W09 the id is the same for the same event of the same run, and for no other', async () => {
  const idOf = (event, more, number) => makeMessage(event, environment(receiver, more), number).id
  const ids = [
    idOf('running'), idOf('failed'), idOf('provisioning'), idOf('heartbeat', {}, 1), idOf('heartbeat', {}, 2),
    idOf('running', { JOB_ID: 'job.42' }), idOf('running', { JOB_ID: 'job-4' }), idOf('running', { JOB_ID: 'job_42' }),
    idOf('running', { GITHUB_RUN_ID: '123456', GITHUB_RUN_ATTEMPT: '71' }), idOf('running', { GITHUB_RUN_ATTEMPT: '2' }),
  ]
  assert.equal(new Set(ids).size, ids.length, ids.join('\n'))
  for (const id of ids) assert.match(id, /^[A-Za-z0-9_-]{1,256}$/)
  assert.equal(idOf('running', { SERVER_IP: '203.0.113.8', GITHUB_RUN_ATTEMPT: undefined }), ids[0], 'a run without an attempt is the first')
  await run('running')
  await run('running')
  assert.deepEqual(receiver.requests.map(({ headers }) => headers['webhook-id']), [ids[0], ids[0]])
  assert.deepEqual([receiver.events.length, receiver.repeats], [1, 1])
})

test('W06 provisioning that is refused for good ends the job before a machine is made', async () => {
  for (const [answer, expected] of [
    [{ status: 400 }, 1], [{ status: 401 }, 1], [{ status: 403 }, 1], [{ status: 404 }, 1], [{ status: 410 }, 1], [{ status: 422 }, 1],
    [{ redirect: 'https://app.example' }, 1], [{ status: 409 }, 0],
  ]) {
    receiver.reset()
    receiver.answer(answer)
    const output = path.join(folder, 'refused')
    const { code, stderr } = await run('provisioning', { GITHUB_ACTIONS: 'true', GITHUB_OUTPUT: output })
    assert.deepEqual([code, receiver.requests.length], [expected, 1], stderr)
    assert.ok(!readFileSync(output, 'utf8').includes('delivered='))
    assert.match(stderr, expected ? /^::error title=/m : /^::warning title=Callback::.*Going on without it$/m)
  }
  receiver.answer({ status: 500, times: 3 })
  const { code, stderr } = await run('provisioning')
  assert.deepEqual([code, receiver.events.length], [0, 0])
  assert.match(stderr, /^\[Callback\] warning: provisioning was not delivered: the answer was 500\. Going on without it$/m)
  assert.equal(receiver.requests.length, 4)
})

test('W07 running that cannot be delivered keeps the VM, and says how to make up for it', async () => {
  const more = { CALLBACK_URL: `${receiver.url}?a='b`, CALLBACK_TIMEOUT_SECONDS: '0.5', GITHUB_ACTIONS: 'true' }
  receiver.answer({ status: 503 })
  const { code, stdout, stderr } = await run('running', more)
  assert.deepEqual([code, stdout], [75, ''], stderr)
  assert.match(stderr, /error: running of job job-42 was not delivered: the answer was 503/)
  assert.match(stderr, /^::error title=running not delivered::.*%0AThe VM is kept/m)
  assert.match(stderr, /The VM is kept[^]*getProvisioning\(\{ jobId: 'job-42' \}\)/)
  // What it prints is what a shell understands, and the same message.
  const lines = stderr.split('\n').filter((line) => line.startsWith('  '))
  const script = `set -a\n${lines.join('\n').replace('  node scripts', `exec '${process.execPath}' scripts`)}`
  await promisify(execFile)('sh', ['-c', script], { cwd: ROOT, env: { PATH: process.env.PATH, GH_CALLBACK_SECRET: SECRET } })
  const [first, second] = receiver.requests
  assert.deepEqual([second.headers['webhook-id'], second.body, second.path], [first.headers['webhook-id'], first.body, first.path])
  assert.equal(receiver.events.length, 1)
})

test('W08 failed that cannot be delivered says so, and prints no command of a stranger', async () => {
  receiver.answer({ status: 409 })
  const { code, stderr } = await run('failed', { ERROR: "no'pe\n::error::a\n##[error]b", GITHUB_ACTIONS: 'true' })
  assert.equal(code, 75, stderr)
  assert.match(stderr, /failed of job job-42 was not delivered: the answer was 409: the app has the job in another state/)
  const commands = stderr.split('\n').filter((line) => /^\s*::|##\[/.test(line))
  assert.deepEqual(commands.map((line) => line.slice(0, 15)), ['::add-mask::a-s', '::error title=f'])
  assert.match(stderr, /^ {2}node scripts\/callback\.js failed$/m)
})

test('W09 a reply that is lost, of a message that was accepted, is made up for by the same id', async () => {
  receiver.answer({ drop: 'after' })
  const { code, stderr } = await run('running')
  assert.deepEqual([code, receiver.events.length, receiver.repeats, receiver.requests.length], [0, 1, 1, 2], stderr)
  assert.match(stderr, /running: try 1 at \S+ failed, the connection broke off; the next one in 0\.\d s\n.*\(200, try 2\)/)
})

test('a signal ends it at once, with a word on what was not delivered', async (t) => {
  for (const [command, signal, expected, answer, words] of [
    ['running', 'SIGTERM', 143, { hang: true }, /running of job job-42 was not delivered: SIGTERM[^]*The VM is kept[^]*callback\.js running/],
    ['failed', 'SIGINT', 130, { status: 503, headers: { 'retry-after': '60' }, times: 9 }, /failed of job job-42 was not delivered: SIGINT/],
    ['provisioning', 'SIGHUP', 129, { hang: true }, /warning: SIGHUP: provisioning was not delivered/],
  ]) {
    await t.test(`${command} ${signal}`, async () => {
      receiver.reset()
      receiver.answer(answer)
      const { child, ended, said } = runCallback(command, environment(receiver))
      while (!(answer.hang ? receiver.requests.length > 0 : said.stderr.includes('next one in 60.0 s'))) await pause(10)
      const began = performance.now()
      child.kill(signal)
      const { code, stderr } = await ended
      assert.ok(performance.now() - began < 2_000)
      assert.deepEqual([code, receiver.requests.length], [expected, 1], stderr)
      assert.match(stderr, words)
    })
  }
})

test('the output says what the app has accepted', async () => {
  const output = path.join(folder, 'output')
  await run('provisioning', { GITHUB_OUTPUT: output })
  receiver.answer({ status: 400 })
  await run('failed', { GITHUB_OUTPUT: output })
  await run('running', { GITHUB_OUTPUT: output })
  assert.equal(readFileSync(output, 'utf8'), 'delivered=provisioning\ndelivered=running\n')
  const { code, stderr } = await run('failed', { GITHUB_OUTPUT: path.join(folder, 'none', 'output') })
  assert.equal(code, 0)
  assert.match(stderr, /warning: cannot write to/)
})

test('W02 provisioning at a name that is not public is bad input, running is told of', async () => {
  const preload = path.join(folder, 'lookup.js')
  writeFileSync(preload, "require('node:dns/promises').lookup = async () => [{ address: '10.0.0.1', family: 4 }]\n")
  const more = { CALLBACK_URL: 'https://app.example', NODE_OPTIONS: `--require ${preload}` }
  for (const [command, expected] of [['provisioning', 2], ['running', 75]]) {
    const { code, stderr } = await run(command, more)
    assert.equal(code, expected, stderr)
    assert.match(stderr, /CALLBACK_URL: app\.example has the address 10\.0\.0\.1, which is not public/)
  }
})

test('a name that is looked up for ever holds up no end', async () => {
  const preload = path.join(folder, 'silence.js')
  writeFileSync(preload, "require('node:dns/promises').lookup = () => new Promise((resolve) => setTimeout(resolve, 60_000))\n")
  const more = { CALLBACK_URL: 'https://app.example', CALLBACK_TIMEOUT_SECONDS: '0.2', NODE_OPTIONS: `--require ${preload}` }
  const began = performance.now()
  const { code, stderr } = await run('running', more)
  assert.deepEqual([code, performance.now() - began < 5_000], [75, true], stderr)
  assert.match(stderr, /no answer within 0\.2 s/)
})

test('the time for the last news is none of provisioning', async () => {
  const { code, stderr } = await run('provisioning', { CALLBACK_TIMEOUT_SECONDS: 'x' })
  assert.deepEqual([code, receiver.events.length], [0, 1], stderr)
})

test('bad configuration names its variable, and nothing is sent', async () => {
  const table = [
    ['running', { GH_CALLBACK_SECRET: undefined }, 'GH_CALLBACK_SECRET: is not set'],
    ['running', { GH_CALLBACK_SECRET: '' }, 'GH_CALLBACK_SECRET: is not set'],
    ['running', { GH_CALLBACK_SECRET: 'too-short' }, 'GH_CALLBACK_SECRET: expected at least 16 bytes'],
    ['heartbeat', { GH_CALLBACK_SECRET: 'whsec_not!base64', PROVISION_PROGRESS_FILE: 'a' }, 'GH_CALLBACK_SECRET: expected base64'],
    ['provisioning', { JOB_ID: undefined }, 'JOB_ID: '],
    ['provisioning', { JOB_ID: 'a b' }, 'JOB_ID: '],
    ['provisioning', { CALLBACK_URL: 'http://app.example' }, 'CALLBACK_URL: '],
    ['provisioning', { CALLBACK_ORIGINS: 'https://app.example' }, 'CALLBACK_URL: '],
    ['provisioning', { GITHUB_RUN_ID: undefined }, 'GITHUB_RUN_ID: '],
    ['failed', { GITHUB_RUN_ID: 'a' }, 'GITHUB_RUN_ID: '],
    ['failed', { GITHUB_RUN_ATTEMPT: 'a' }, 'GITHUB_RUN_ATTEMPT: '],
    ['failed', { CALLBACK_TIMEOUT_SECONDS: '0' }, 'CALLBACK_TIMEOUT_SECONDS: '],
    ['failed', { CALLBACK_TIMEOUT_SECONDS: '1e9' }, 'CALLBACK_TIMEOUT_SECONDS: '],
    ['running', { SERVER_ID: '' }, 'SERVER_ID: is not set'],
    ['running', { SERVER_ID: '0' }, 'SERVER_ID: '],
    ['running', { SERVER_IP: undefined }, 'SERVER_IP: is not set'],
    ['running', { SERVER_IP: '1.2.3' }, 'SERVER_IP: '],
    ['running', { TAILSCALE_IP: 'a'.repeat(65_536) }, 'TAILSCALE_IP: '],
    ['heartbeat', { PROVISION_PROGRESS_FILE: 'a', HEARTBEAT_SECONDS: '-1' }, 'HEARTBEAT_SECONDS: '],
    ['heartbeat', {}, 'PROVISION_PROGRESS_FILE: is not set'],
    ['heartbeat', { PROVISION_PROGRESS_FILE: path.join(folder, 'none', 'file') }, 'PROVISION_PROGRESS_FILE: cannot write'],
    ['stop-heartbeat', {}, 'PROVISION_PROGRESS_FILE: is not set'],
    ['stop-heartbeat', { PROVISION_PROGRESS_FILE: path.join(folder, 'none', 'file') }, 'PROVISION_PROGRESS_FILE: cannot write'],
  ]
  await Promise.all(table.map(async ([command, more, words]) => {
    const { code, stderr } = await run(command, more)
    assert.deepEqual([code, stderr.startsWith(`[Callback] error: ${words}`)], [2, true], stderr)
    assert.doesNotMatch(stderr, /too-short|not!base64/)
  }))
  assert.equal(receiver.requests.length, 0)
})

test('a failure is told of even if its text is empty, and its text is one short line', async () => {
  for (const [more, error, step = 'server'] of [
    [{ ERROR: '', FAILED_STEP: ' \n' }, 'unknown error', 'unknown step'],
    [{ ERROR: undefined, FAILED_STEP: undefined }, 'unknown error', 'unknown step'],
    [{ ERROR: ' a\r\n\tb\x1b[31m\u202ec\u2028d "e" \\ é漢🚀 ' }, 'a b [31m c d "e" \\ é漢🚀'],
    [{ ERROR: '🚀'.repeat(3000) }, `${'🚀'.repeat(2000)}…`],
  ]) {
    const { code } = await run('failed', more)
    const { event, checks } = receiver.requests.at(-1)
    assert.deepEqual([code, event.error, event.failed_step, checks.old], [0, error, step, 'ok'])
    receiver.reset()
  }
})

test('on Actions the secret is masked before anything else is said; off Actions it is not printed', async () => {
  assert.match((await run('running', { GITHUB_ACTIONS: 'true' })).stderr, new RegExp(`^::add-mask::${SECRET}\n\\[Callback\\] running`))
  assert.doesNotMatch((await run('running')).stderr, /::/)
})

test('no proxy of the environment is used', async () => {
  const proxies = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy']
  const more = { NODE_USE_ENV_PROXY: '1', ...Object.fromEntries(proxies.map((name) => [name, 'http://127.0.0.1:9'])) }
  assert.equal((await run('running', more)).code, 0)
})

test('--help is the manual; anything else that is no command is refused', async () => {
  for (const args of [['--help'], ['-h']]) {
    const { code, stdout } = await run(args)
    assert.equal(code, 0)
    for (const command of ['check', 'provisioning', 'heartbeat', 'stop-heartbeat', 'running', 'failed']) {
      assert.match(stdout, new RegExp(`^  ${command} `, 'm'))
    }
    for (const code of [0, 1, 2, 75]) assert.match(stdout, new RegExp(`^  ${code} `, 'm'))
  }
  for (const args of [[], ['toString'], ['running', 'now'], ['check', '--help'], ['']]) {
    const { code, stdout, stderr } = await run(args)
    assert.deepEqual([code, stdout], [2, ''], stderr)
  }
  assert.equal(receiver.requests.length, 0)
})

test('a failure is not told where somebody knows better', async () => {
  for (const [more, says] of [
    [{ JOB_STATE: 'ready', PROVISION_OUTCOME: 'failure' }, 'the VM of its job stands ready'],
    [{ JOB_STATE: 'booting', PROVISION_OUTCOME: 'failure' }, 'a server stands for its job'],
    [{ CONFLICT: 'true', PROVISION_OUTCOME: 'failure' }, 'in another state'],
    [{ PROVISION_OUTCOME: 'failure', ERROR: '', FAILED_STEP: '' }, 'ended without a word'],
  ]) {
    const { code, stderr } = await run('failed', more)
    assert.deepEqual([code, receiver.requests.length], [0, 0], stderr)
    assert.ok(stderr.includes(says), stderr)
  }
  for (const more of [{ JOB_STATE: 'absent', PROVISION_OUTCOME: 'failure' }, { JOB_STATE: '', CONFLICT: '', PROVISION_OUTCOME: '' }]) {
    receiver.reset()
    assert.equal((await run('failed', more)).code, 0)
    assert.equal(receiver.events[0].error, 'no capacity')
  }
  receiver.reset()
  await run('failed', { PROVISION_OUTCOME: 'skipped', ERROR: '', FAILED_STEP: '' })
  assert.equal(receiver.events[0].failed_step, 'setup')
})

test('what a later step needs is in the outputs: a conflict, and what failed', async () => {
  const outputs = (name) => path.join(folder, name)
  const read = (name) => readFileSync(outputs(name), 'utf8')
  receiver.answer({ event: 'provisioning', status: 409 })
  await run('provisioning', { GITHUB_OUTPUT: outputs('conflict') })
  assert.equal(read('conflict'), 'conflict=true\n')
  receiver.answer({ event: 'provisioning', status: 403 })
  await run('provisioning', { GITHUB_OUTPUT: outputs('refused again') })
  assert.match(read('refused again'), /^error=provisioning was not delivered: .*403.*\nfailed_step=callback\n$/)
  await run('check', { GITHUB_OUTPUT: outputs('bad'), REGION: 'us east', AGENT_ID: '-' })
  assert.match(read('bad'), /^error=AGENT_ID: .*; REGION: .*\nfailed_step=validate\n$/)
})

test('an open list of apps is warned of', async () => {
  const open = { CALLBACK_URL: 'https://app.example/', GITHUB_ACTIONS: 'true' }
  assert.match((await run('check', open)).stderr, /::warning title=Callback::CALLBACK_ORIGINS is not set/)
  assert.ok(!(await run('check', { ...open, CALLBACK_ORIGINS: 'https://app.example' })).stderr.includes('warning'))
  assert.ok(!(await run('check', { GITHUB_ACTIONS: 'true' })).stderr.includes('warning'))
})

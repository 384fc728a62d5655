'use strict'

// What the script tells GitHub Actions: masks, annotations, outputs, summary.

const assert = require('node:assert/strict')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, beforeEach, test } = require('node:test')

const { mask, openOutputs, printError, printWarning } = require('../scripts/support/actions.js')
const { appendSummary, summarizeProvision } = require('../scripts/support/summary.js')
const { runScript, startCloud } = require('./support/simulator.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-'))
let cloud
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(async () => {
  rmSync(folder, { recursive: true })
  await cloud.stop()
})

/** What a call writes to a stream. */
function said(call) {
  let text = ''
  call({ write: (chunk) => (text += chunk) })
  return text
}

function refuse(complaint) {
  throw new Error(complaint)
}

test('a mask covers every line of a secret, and nothing in it is a command', () => {
  for (const [secret, lines] of [
    ['tskey-1', ['::add-mask::tskey-1']],
    ['  tskey-1\n', ['::add-mask::tskey-1']],
    ['a%b', ['::add-mask::a%25b']],
    ['first\r\n\nsecond', ['::add-mask::first', '::add-mask::second']],
    ['', []],
    [' \n ', []],
  ]) {
    assert.deepEqual(said((stream) => mask(stream, secret)).split('\n').slice(0, -1), lines, JSON.stringify(secret))
  }
})

test('an annotation is one line, whatever the message holds', () => {
  const error = { code: 'UPSTREAM', hint: 'Try again.' }
  const line = said((stream) => printError(stream, error, '100 %\n::set-env name=A::b'))
  assert.equal(line, '::error title=UPSTREAM::100 %25%0A::set-env name=A::b%0ATry again.\n')
  assert.equal(said((stream) => printError(stream, { name: 'a:b,c' }, 'x')), '::error title=a%3Ab%2Cc::x\n')
  assert.equal(said((stream) => printWarning(stream, 'a:b,c', '100 %\n::x')), '::warning title=a%3Ab%2Cc::100 %25%0A::x\n')
})

test('a value in an output cannot begin another one, and is written once', () => {
  const file = path.join(folder, 'output')
  const outputs = openOutputs(file, refuse)
  outputs.set('server_name', 'agent\nserver_id=666')
  outputs.set('server_id', 1)
  outputs.set('server_id', 1)
  outputs.set('server_ip', undefined)
  outputs.set('server_id', 2)
  assert.equal(readFileSync(file, 'utf8'), 'server_name=agent server_id=666\nserver_id=1\nserver_id=2\n')
  assert.equal(outputs.failed, false)
})

test('outputs that cannot be written are told of, and counted', () => {
  const complaints = []
  const outputs = openOutputs(path.join(folder, 'none', 'output'), (complaint) => complaints.push(complaint))
  outputs.set('server_id', 1)
  assert.equal(outputs.failed, true)
  assert.match(complaints.join(), /cannot write to .*ENOENT/)
  const unset = openOutputs(undefined, refuse)
  unset.set('server_id', 1)
  assert.equal(unset.failed, false, 'outside a workflow there is nothing to write')
})

test('a summary keeps to its table, and says what was left', () => {
  const file = path.join(folder, 'summary')
  const params = { jobId: 'job|1', agentId: '<b>', region: 'us-east' }
  const leftovers = [{ kind: 'server', id: '42', name: 'agent-a', why: 'protected' }]
  const error = { code: 'CAPACITY', step: 'server', message: 'line one\nline `two`', hint: 'Wait.', leftovers }
  appendSummary(file, summarizeProvision({ params, error }), refuse)
  const rows = readFileSync(file, 'utf8').split('\n').filter((line) => line.startsWith('|'))
  for (const row of rows) assert.equal(row.match(/(?<!\\)\|/g).length, 3, row)
  assert.ok(rows.includes('| Job | job\\|1 |'))
  assert.ok(rows.includes('| Agent | \\<b\\> |'))
  assert.ok(rows.includes('| Message | line one line \\`two\\` |'))
  assert.ok(rows.includes('| Left behind | server 42 agent-a: protected |'))
})

test('a summary has the time of each step, and what was chosen and refused', () => {
  const result = {
    serverName: 'agent-a', serverId: 7, serverType: 'cx23', location: 'ash', serverIp: '203.0.113.2', tailscaleIp: '100.64.0.1', reused: false,
    price: { hourly: '0.0070', monthly: '4.35' }, timings: [{ step: 'lookup', ms: 250 }, { step: 'wait', ms: 24_060 }], warnings: [],
    attempts: [{ serverType: 'cpx11', location: 'ash', refused: 'sold | out' }, { serverType: 'cx23', location: 'ash' }],
    requests: { hetzner: 12, tailscale: 20 },
  }
  const params = { jobId: 'job-1', agentId: 'a', region: 'us-east' }
  const text = summarizeProvision({ params, result })
  for (const row of [
    '| Price | 0.0070 an hour, 4.35 a month |',
    '| Requests | 12 to Hetzner, 20 to Tailscale |',
    '| wait | 24.1 s |',
    '| cpx11 | ash | refused: sold \\| out |',
    '| cx23 | ash | chosen |',
  ]) {
    assert.ok(text.split('\n').includes(row), `${row} is not in ${text}`)
  }
  // Of a failure the events tell how long each step took.
  const events = [['lookup', 100], ['lookup', 300], ['server', 500], ['undo', 4000]].map(([step, elapsedMs]) => ({ step, elapsedMs }))
  const failed = summarizeProvision({ params, events, error: { code: 'QUOTA', message: 'no', attempts: result.attempts, requests: result.requests } })
  for (const row of ['| Requests | 12 to Hetzner, 20 to Tailscale |', '| Time | 4.0 s |', '| lookup | 0.4 s |', '| server | 3.5 s |', '| cpx11 | ash | refused: sold \\| out |']) {
    assert.ok(failed.split('\n').includes(row), `${row} is not in ${failed}`)
  }
})

test('on Actions secrets are masked before anything else is said, and a failure is an annotation', async () => {
  const summary = path.join(folder, 'run')
  writeFileSync(summary, '')
  const env = { GITHUB_ACTIONS: 'true', GITHUB_STEP_SUMMARY: summary, HETZNER_API_TOKEN: 'a-wrong-token' }
  const { code, stdout, stderr } = await runScript(cloud, { env }).ended
  assert.equal(code, 1, stderr)
  const lines = stderr.trim().split('\n')
  const configured = ['a-wrong-token', cloud.greeting.tailscaleClientSecret].map((secret) => `::add-mask::${secret}`)
  assert.deepEqual(lines.slice(0, 2), configured)
  assert.match(lines.at(-1), /^::error title=AUTH_HETZNER::.+/)
  assert.equal(JSON.parse(stdout).error.code, 'AUTH_HETZNER')
  assert.match(readFileSync(summary, 'utf8'), /### VM not provisioned[^]*AUTH\\_HETZNER/)
})

test('off Actions no command is printed, so no secret is', async () => {
  const { stderr } = await runScript(cloud, { env: { HETZNER_API_TOKEN: 'a-wrong-token' } }).ended
  assert.ok(!stderr.includes('::') && !stderr.includes('a-wrong-token'), stderr)
})

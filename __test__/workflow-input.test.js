'use strict'

// What a dispatcher may put into the inputs: none of it is run, none of it reaches a cloud, and none of it forges a word.

const assert = require('node:assert/strict')
const { existsSync, mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, test } = require('node:test')

const { startStage } = require('./support/provision-agent.js')
const { newJob } = require('./support/simulator.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-input-'))
const MARK = path.join(folder, 'mark')
let stage
before(async () => (stage = await startStage()))
after(async () => {
  rmSync(folder, { recursive: true })
  await stage.stop()
})

const HOSTILE = {
  'single quotes': `'; touch ${MARK}; '`,
  'double quotes': `"; touch ${MARK}; "`,
  'a substitution': `$(touch ${MARK})`,
  'back quotes': `\`touch ${MARK}\``,
  'a pipe': `a | touch ${MARK}`,
  'a variable': '${IFS}$PATH',
  'a line break': `a\ntouch ${MARK}`,
  'the end of a here-document': `EOF\ntouch ${MARK}\nEOF`,
  'a command of the runner': 'a\n::error title=forged::forged',
  'an output of the runner': 'a\nserver_id=666\n::set-output name=server_id::666',
  'an encoded line break': 'a%0A::error title=forged::forged',
  'an old command of the runner': '##[error]forged',
  'a stop of commands': '::stop-commands::x',
  'an expression': '${{ secrets.HETZNER_API_TOKEN }}',
  'a template': `{{ lookup("pipe", "touch ${MARK}") }}`,
  'an option': '--help',
  'a path': '../../../etc/passwd',
  'a colour': '\u001b[31mforged\u001b[0m',
  'a change of direction': '\u202egro.elpmaxe',
  'another script': 'аgent',
  'nothing but blanks': '  ',
  '64 KiB': 'x'.repeat(65_536),
  '60,000 letters of three bytes each': '\u6f22'.repeat(60_000),
}

const INPUTS = ['job_id', 'agent_id', 'region', 'callback_url']

/** Runs it to its end, and looks whether anything came of the input. Gives the job. */
async function run(inputs) {
  const job = newJob()
  const ended = await stage.dispatch(job, { inputs }).ended
  assert.equal(ended.conclusion, 'failure', ended.log.slice(0, 20_000))
  const ran = ended.jobs.provision.steps.filter(({ outcome }) => outcome === 'success').map(({ name }) => name)
  assert.deepEqual(ran.filter((name) => !['Send failure callback', 'Stop heartbeat'].includes(name)), ['Checkout', 'Setup Node.js'])
  assert.equal(existsSync(MARK), false, 'it was run')
  assert.deepEqual(ended.misuse, [])
  for (const { level, title, message } of ended.annotations.filter(({ level }) => level !== 'group')) {
    assert.ok(['error', 'warning'].includes(level) && title !== 'forged' && message.length < 2000, JSON.stringify({ level, title, message }))
  }
  // What the runner shows of a step's environment is its own affair; what the scripts say is short.
  const said = ended.unmasked.split('\n').filter((line) => line.length > 2000)
  assert.deepEqual(said, [])
  assert.ok(!ended.unmasked.includes('\u001b') && !ended.unmasked.includes('\u202e'))
  return job
}

/** The clean-up looks, and nobody makes anything. */
async function isUntouched() {
  const { servers_ever: ever, keys } = await stage.cloud.world()
  assert.deepEqual([ever, keys], [0, []])
}

for (const [what, text] of Object.entries(HOSTILE)) {
  test(`h01 ${what} in all inputs`, async () => {
    await stage.reset()
    await run(Object.fromEntries(INPUTS.map((name) => [name, text])))
    assert.deepEqual([await stage.cloud.requests(), stage.app.requests.length], [0, 0])
  })
}

for (const name of INPUTS) {
  test(`h01 ${name} alone`, async () => {
    await stage.reset()
    const kinds = ['a substitution', 'a line break', 'a command of the runner', '64 KiB', '60,000 letters of three bytes each']
    const jobs = await Promise.all(kinds.map((what) => run({ [name]: HOSTILE[what] })))
    await isUntouched()
    // An app that can be told, of a job that can be its own, hears what is wrong.
    const told = name === 'agent_id' || name === 'region' ? jobs : []
    const heard = stage.app.events.map(({ job_id: id, status }) => [id, status])
    assert.deepEqual(heard.sort(), told.map(({ jobId }) => [jobId, 'failed']).sort())
    assert.deepEqual(stage.objections(), [])
  })
}

test('y15 an app that is not on the list, and addresses that are none of an app, hear nothing', async () => {
  await stage.reset()
  const addresses = ['https://10.0.0.1/', 'http://example.com/', 'https://user:pass@example.com/', 'https://metadata.internal/', 'https://0x7f.1/']
  await Promise.all(addresses.map((callback_url) => run({ callback_url })))
  const vars = { CALLBACK_ORIGINS: 'https://app.example.com' }
  const ended = await stage.dispatch(newJob(), { vars }).ended
  assert.equal(ended.conclusion, 'failure', ended.log)
  await isUntouched()
  assert.equal(stage.app.requests.length, 0)
  const allowed = await stage.dispatch(newJob(), { vars: { CALLBACK_ORIGINS: `https://app.example.com ${stage.app.origin}` } }).ended
  assert.equal(allowed.conclusion, 'success', allowed.log)
})

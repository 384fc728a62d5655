'use strict'

// The workflow under act, which others maintain: what needs neither a process beside the steps nor a cancelled run, of which
// act does otherwise than GitHub.

const assert = require('node:assert/strict')
const { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, test } = require('node:test')

const { runAct, whyNoAct } = require('./support/act.js')
const { cloneInto } = require('./support/clone.js')
const { startStage } = require('./support/provision-agent.js')
const { newJob, ROOT } = require('./support/simulator.js')

const skip = whyNoAct() ?? false
const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-act-'))
const [tree, nothing, file] = ['tree', 'nothing', 'provision-agent.yml'].map((name) => path.join(folder, name))
const QUEUE = '  queue: max\n'

let stage
before(async () => {
  // As a clone in which the installation has been before, which install.test.js is about.
  cloneInto(tree, readdirSync(ROOT).filter((name) => name.endsWith('.node')))
  // act checks out what Git would not ignore, and so would leave the module behind.
  rmSync(path.join(tree, '.gitignore'))
  standIn(nothing)
  // The one line that act refuses: its schema is older than that of GitHub, which has it since May 2026.
  const text = readFileSync(path.join(ROOT, '.github', 'workflows', 'provision-agent.yml'), 'utf8')
  assert.equal(text.split(QUEUE).length, 2)
  writeFileSync(file, text.replace(QUEUE, ''))
  stage = await startStage()
})
after(async () => {
  rmSync(folder, { recursive: true })
  await stage.stop()
})

/** An action that does nothing, in place of one that act would have to fetch. */
function standIn(to) {
  mkdirSync(to)
  writeFileSync(path.join(to, 'action.yml'), 'name: nothing\ndescription: d\nruns: { using: composite, steps: [{ shell: bash, run: "true" }] }\n')
}

function dispatch(job, { inputs, secrets, ...more } = {}) {
  return runAct({
    file,
    inputs: stage.inputs(job, inputs),
    secrets: stage.secrets(secrets),
    env: stage.env(),
    actions: { 'actions/setup-node': nothing },
    workspace: tree,
    runId: 4711,
    ...more,
  })
}

/** How the steps ended that ran. */
const stepsOf = ({ jobs }, id) => Object.fromEntries(jobs[id].steps.map(({ name, result }) => [name, result]))

test('act takes it to a machine in the tailnet', { skip }, async () => {
  await stage.reset()
  const job = newJob()
  const run = await dispatch(job)
  assert.equal(run.code, 0, run.log + run.stderr)
  const { servers: [server], devices: [device] } = await stage.cloud.world()
  assert.deepEqual(stage.heard().filter((event) => event !== 'heartbeat'), ['provisioning', 'running'], run.log)
  assert.deepEqual([stage.last().server_id, stage.last().tailscale_ip], [String(server.id), device.ip])
  assert.match(server.labels.attempt, /^4711-1-/)
  assert.deepEqual(stage.objections(), [])
})

test('act takes a failure to the app, and the clean-up finds nothing', { skip }, async () => {
  await stage.reset()
  const run = await dispatch(newJob(), { secrets: { HETZNER_API_TOKEN: 'wrong-wrong-wrong' } })
  assert.notEqual(run.code, 0)
  assert.deepEqual(stage.heard().filter((event) => event !== 'heartbeat'), ['provisioning', 'failed'], run.log)
  assert.match(stage.last().error, /^AUTH_HETZNER: /)
  assert.equal(stepsOf(run, 'provision')['Provision VM'], 'failure', run.log)
  assert.ok(run.jobs['clean-up'], run.log)
  assert.deepEqual(await stage.left(), [])
})

test('act runs no input', { skip }, async () => {
  await stage.reset()
  const run = await dispatch(newJob(), { inputs: { agent_id: '$(touch mark)\n::error::forged' } })
  assert.notEqual(run.code, 0)
  assert.deepEqual(stage.app.events.map(({ failed_step: step }) => step), ['validate'], run.log)
  // The clean-up looks, and nobody makes anything.
  const { servers_ever: ever, keys } = await stage.cloud.world()
  assert.deepEqual([ever, keys], [0, []])
})

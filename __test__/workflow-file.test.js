'use strict'

// What the workflow files say, apart from what they do: who may do what, and who sees which secret.

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')

const yaml = require('yaml')

const { PLANS } = require('../scripts/support/delivery.js')
const { ROOT } = require('./support/simulator.js')

const read = (...parts) => readFileSync(path.join(ROOT, ...parts), 'utf8')
const parse = (name) => yaml.parse(read('.github', 'workflows', name))
const NAMES = ['provision-agent.yml', 'reap.yml', 'ci.yml']
const ACTIONS = ['action.yml', path.join('clean-up', 'action.yml')]

const stepsOf = (workflow) => Object.entries(workflow.jobs).flatMap(([job, { steps }]) => steps.map((step) => ({ job, ...step })))

test('the workflow is what the app dispatches', () => {
  const { name, on, jobs } = parse('provision-agent.yml')
  assert.equal(name, 'Provision Agent')
  const inputs = Object.entries(on.workflow_dispatch.inputs).map(([input, { required, type }]) => [input, required, type])
  assert.deepEqual(inputs, ['job_id', 'agent_id', 'region', 'callback_url'].map((input) => [input, true, 'string']))
  const { provision } = jobs
  assert.deepEqual([provision['runs-on'], provision['timeout-minutes']], ['ubuntu-latest', 15])
  const names = provision.steps.map(({ name }) => name)
  assert.deepEqual(names.filter((it) => it !== 'Validate inputs'), [
    'Checkout', 'Setup Node.js', 'Install dependencies', 'Send provisioning callback', 'Heartbeat', 'Provision VM', 'Stop heartbeat',
    'Send success callback', 'Send failure callback',
  ])
  const { id, run } = provision.steps.find((step) => step.name === 'Provision VM')
  assert.deepEqual([id, run], ['provision', 'exec node scripts/provision.js'])
  assert.equal(provision.steps.at(-1).if, "failure() && steps.provision.outcome != 'success'")
  // The first that runs anything looks at the inputs.
  assert.equal(provision.steps.find((step) => step.run).name, 'Validate inputs')
})

test('d45 the clean-up is a job of its own, which runs whatever became of the other', () => {
  const { jobs } = parse('provision-agent.yml')
  for (const name of ['clean-up', 'clean-up-with-identity']) {
    assert.match(jobs[name].if, /^always\(\) && /)
    assert.ok(jobs[name].needs.includes('provision') && jobs[name]['timeout-minutes'] > 0)
  }
})

test('d60 the time limits fit into one another', () => {
  const { provision } = parse('provision-agent.yml').jobs
  const minutes = Object.fromEntries(provision.steps.map((step) => [step.name, step['timeout-minutes']]))
  const { PROVISION_TIMEOUT_SECONDS: seconds } = provision.steps.find((step) => step.id === 'provision').env
  // The script fails first, and has undone it, before its step is out of time.
  assert.ok(seconds + 60 <= 60 * minutes['Provision VM'])
  assert.ok(minutes['Provision VM'] + minutes['Send failure callback'] < provision['timeout-minutes'])
  for (const [name, event] of [['Send provisioning callback', 'provisioning'], ['Send success callback', 'running'], ['Send failure callback', 'failed']]) {
    assert.ok(1000 * 60 * minutes[name] >= PLANS[event].budgetMs + 15_000, name)
  }
  const before = minutes['Install dependencies']
  assert.ok(60 * (provision['timeout-minutes'] - before) >= seconds + 60 + PLANS.running.budgetMs / 1000)
})

test('d47 runs of one job follow one another, and none is cancelled for another', () => {
  const { concurrency } = parse('provision-agent.yml')
  assert.deepEqual(concurrency, { group: 'provision-${{ inputs.job_id }}', 'cancel-in-progress': false, queue: 'max' })
})

test('y23 nobody may do anything but what a job says, and only one with an identity asks for a token', () => {
  for (const name of NAMES) {
    const { permissions, jobs } = parse(name)
    assert.deepEqual(permissions, {}, name)
    for (const [id, job] of Object.entries(jobs)) {
      const hasIdentity = id.endsWith('-with-identity')
      assert.deepEqual(job.permissions, { contents: 'read', ...(hasIdentity && { 'id-token': 'write' }) }, id)
      if (hasIdentity) assert.match(job.if, /vars\.TAILSCALE_IDENTITY != ''/)
    }
  }
})

test('y24 every action is pinned by its full commit, with the version beside it, and keeps no credentials', () => {
  for (const name of NAMES) {
    const text = read('.github', 'workflows', name)
    for (const [line, pin] of text.matchAll(/^ *(?:- )?uses: (.*)$/gm)) assert.match(pin, /^actions\/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, line)
    for (const { uses, with: inputs } of stepsOf(parse(name))) {
      if (uses?.startsWith('actions/checkout@')) assert.equal(inputs['persist-credentials'], false)
    }
  }
})

test('y25 no input and no output of a step is ever part of a script', () => {
  const scripts = [
    ...NAMES.flatMap((name) => stepsOf(parse(name))),
    ...ACTIONS.flatMap((name) => yaml.parse(read(name)).runs.steps),
  ].map(({ run }) => run ?? '')
  assert.ok(scripts.filter(Boolean).length > 20)
  for (const script of scripts) assert.ok(!script.includes('${{'), script)
})

test('y27 each secret is seen by the steps that need it, and by no other', () => {
  const cloud = ['HETZNER_API_TOKEN', 'TAILSCALE_OAUTH_CLIENT_ID', 'TAILSCALE_OAUTH_CLIENT_SECRET']
  const needs = {
    'Send provisioning callback': ['GH_CALLBACK_SECRET'],
    Heartbeat: ['GH_CALLBACK_SECRET'],
    'Provision VM': ['HETZNER_API_TOKEN', 'HETZNER_SSH_KEY_ID', 'TAILSCALE_OAUTH_CLIENT_ID', 'TAILSCALE_OAUTH_CLIENT_SECRET'],
    'Send success callback': ['GH_CALLBACK_SECRET'],
    'Send failure callback': ['GH_CALLBACK_SECRET'],
    'Clean up': cloud,
    Reap: cloud,
  }
  for (const name of ['provision-agent.yml', 'reap.yml']) {
    const { jobs, ...rest } = parse(name)
    assert.ok(!JSON.stringify(rest).includes('secrets.'), name)
    for (const { steps, ...job } of Object.values(jobs)) {
      assert.ok(!JSON.stringify(job).includes('secrets.') && job.environment === 'provisioning', name)
      for (const step of steps) {
        const used = [...JSON.stringify(step).matchAll(/secrets\.(\w+)/g)].map(([, secret]) => secret)
        assert.deepEqual([...new Set(used)].sort(), needs[step.name] ?? [], step.name)
      }
    }
  }
})

test('every script that a workflow or an action calls is there', () => {
  const texts = [...NAMES.map((name) => read('.github', 'workflows', name)), ...ACTIONS.map((name) => read(name))]
  const called = new Set(texts.flatMap((text) => [...text.matchAll(/scripts\/[\w-]+\.js/g)].map(([script]) => script)))
  assert.deepEqual([...called].sort(), ['callback', 'cleanup', 'install', 'provision', 'reap'].map((name) => `scripts/${name}.js`))
  for (const script of called) assert.ok(read(script).length > 0)
})

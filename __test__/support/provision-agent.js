'use strict'

// The workflow as the app dispatches it: a local cloud, an app that receives callbacks, and GitHub's part of it.

const assert = require('node:assert/strict')
const path = require('node:path')
const { test } = require('node:test')

const { startReceiver } = require('./receiver.js')
const { leftIn, newJob, ROOT, startCloud } = require('./simulator.js')
const { linkTree, startRun } = require('./workflow.js')

const SECRET = 'a-secret-of-the-workflow-0123456789'

/** The kill sequence takes a second, and a beat is due every fifth of one. */
const TIME_SCALE = 10
const HEARTBEAT_SECONDS = '0.2'

/** A world with an app, for one test file. */
async function startStage() {
  const [cloud, app] = await Promise.all([startCloud(), startReceiver({ secret: SECRET })])
  return new Stage(cloud, app)
}

class Stage {
  constructor(cloud, app) {
    Object.assign(this, { cloud, app })
  }

  async reset() {
    await this.cloud.reset()
    this.app.reset()
  }

  async stop() {
    await Promise.all([this.cloud.stop(), this.app.stop()])
  }

  /** What GitHub keeps for the repository. */
  secrets(more = {}) {
    const settings = this.cloud.env()
    const names = ['HETZNER_API_TOKEN', 'HETZNER_SSH_KEY_ID', 'TAILSCALE_OAUTH_CLIENT_ID', 'TAILSCALE_OAUTH_CLIENT_SECRET']
    const all = { ...Object.fromEntries(names.map((name) => [name, String(settings[name])])), GH_CALLBACK_SECRET: SECRET, ...more }
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
  }

  /** What the machines have that run the jobs: the way to this world, and less patience than in production. */
  env(more = {}) {
    const { HETZNER_API_URL, TAILSCALE_API_URL } = this.cloud.env()
    return { HETZNER_API_URL, TAILSCALE_API_URL, HEARTBEAT_SECONDS, CALLBACK_TIMEOUT_SECONDS: '20', ...more }
  }

  inputs(job, more = {}) {
    return { job_id: job.jobId, agent_id: job.agentId, region: job.region, callback_url: this.app.url, ...more }
  }

  /** Dispatches the workflow for a job. */
  dispatch(job = newJob(), { inputs, ...more } = {}) {
    return this.start('provision-agent.yml', { inputs: this.inputs(job, inputs), ...more })
  }

  /** Starts any of the workflows. */
  start(file, { secrets, env, tree = ROOT, ...more } = {}) {
    return startRun({
      file: path.join(ROOT, '.github', 'workflows', file),
      secrets: this.secrets(secrets),
      env: this.env(env),
      actions: { 'actions/checkout': linkTree(tree), 'actions/setup-node': () => {} },
      timeScale: TIME_SCALE,
      ...more,
    })
  }

  /** What the app has accepted, in order; heartbeats, of which there are as many as there is time, only once in a row. */
  heard() {
    const names = this.app.events.map(({ status, type }) => status ?? type)
    return names.filter((name, at) => name !== 'heartbeat' || names[at - 1] !== 'heartbeat')
  }

  /** The last word that the app has heard. */
  last() {
    return this.app.events.at(-1)
  }

  /** What the old rule and the new ones have to say against any request. */
  objections() {
    return this.app.requests.flatMap(({ checks }) => Object.values(checks)).filter((check) => check !== 'ok')
  }

  async left() {
    return leftIn(await this.cloud.world())
  }
}

/**
 * A test of the stage that a file has set up, in a new world. Whatever a run sends there is accepted by every hand, the old
 * receiver's rule among them.
 */
function sceneOn(stage) {
  return (name, play) =>
    test(name, async (t) => {
      await stage().reset()
      await play(t)
      assert.deepEqual(stage().objections(), [])
    })
}

/** How each step of a job ended, by its name, without those that were skipped. */
function stepsOf({ jobs }, id = 'provision') {
  const ran = jobs[id].steps.filter(({ conclusion }) => conclusion !== 'skipped')
  return Object.fromEntries(ran.map(({ name, outcome }) => [name, outcome]))
}

/** How the jobs ended that were not skipped. */
function resultsOf({ jobs }) {
  return Object.fromEntries(Object.entries(jobs).map(([id, { result }]) => [id, result]).filter(([, result]) => result !== 'skipped'))
}

module.exports = { resultsOf, sceneOn, SECRET, startStage, stepsOf, TIME_SCALE }

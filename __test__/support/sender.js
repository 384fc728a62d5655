'use strict'

// scripts/callback.js as a workflow calls it.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')

const { ROOT } = require('../../scripts/setup.js')

const SECRET = 'a-secret-of-some-workflow-0123456789'

/** What the workflow sets for each of its steps. */
function environment({ url }, more = {}) {
  return {
    PATH: process.env.PATH,
    CALLBACK_URL: url,
    JOB_ID: 'job-42',
    AGENT_ID: '550e8400-e29b',
    REGION: 'us-east',
    GH_CALLBACK_SECRET: SECRET,
    GITHUB_RUN_ID: '1234567',
    GITHUB_RUN_ATTEMPT: '1',
    SERVER_ID: '42',
    SERVER_IP: '203.0.113.7',
    TAILSCALE_IP: '100.64.0.7',
    ERROR: 'no capacity',
    FAILED_STEP: 'server',
    ...more,
  }
}

/** Runs one command. What it says must never hold the secret. */
function runCallback(args, env) {
  const all = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined))
  const command = [path.join(ROOT, 'scripts', 'callback.js'), ...[args].flat()]
  const child = spawn(process.execPath, command, { env: all, stdio: ['ignore', 'pipe', 'pipe'] })
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => (said.stdout += chunk))
  child.stderr.on('data', (chunk) => (said.stderr += chunk))
  const ended = once(child, 'close').then(([code, signal]) => {
    const leaks = (said.stdout + said.stderr).replaceAll(`::add-mask::${SECRET}\n`, '').includes(SECRET)
    if (leaks) throw new Error('the secret was printed')
    return { code, signal, ...said }
  })
  return { child, ended, said }
}

module.exports = { environment, runCallback, SECRET }

'use strict'

// The terminal's door, as a process of its own and, where a terminal has to be played, in this one.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')
const { PassThrough, Writable } = require('node:stream')

const { main } = require('../../js/cli/main.js')
const { ROOT } = require('./simulator.js')

const PROGRAM = path.join(ROOT, 'js', 'cli', 'main.js')

/** Runs a command as a shell would. Nobody sits at its terminal. */
function runCli(cloud, args, { env = {}, stdout: to = 'pipe' } = {}) {
  const all = { PATH: process.env.PATH, ...(cloud ? cloud.env() : {}), ...env }
  for (const name of Object.keys(all)) if (all[name] === undefined) delete all[name]
  const child = spawn(process.execPath, [PROGRAM, ...args], { env: all, stdio: ['ignore', to, 'pipe'] })
  const said = { stdout: '', stderr: '' }
  child.stdout?.on('data', (chunk) => (said.stdout += chunk))
  child.stderr.on('data', (chunk) => (said.stderr += chunk))
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, ...said }))
  return { child, ended, said }
}

/** Waits until a process has said these words on standard error. */
async function hears({ child, said }, words) {
  while (!said.stderr.includes(words)) await once(child.stderr, 'data')
}

/** The arguments that provision a job. */
function provisionArgs({ jobId, agentId }, ...more) {
  return ['provision', jobId, '--agent', agentId, ...more]
}

/** The one JSON document of an answer, and a complaint about anything else beside it. */
function readJson({ stdout }) {
  if (stdout.trimEnd().includes('\n')) throw new Error(`more than one line: ${stdout}`)
  return JSON.parse(stdout)
}

/** Runs a command in this process, at a terminal of this width. `typed` is what somebody answers; `api` stands for the module. */
async function runAtTerminal(args, { api, columns = 80, env = {}, typed, stdout = {}, stderr = {} }) {
  const screen = { stdout: new Screen(columns, stdout), stderr: new Screen(columns, stderr) }
  const stdin = Object.assign(new PassThrough(), { isTTY: typed !== undefined })
  if (typed !== undefined) stdin.end(typed)
  const code = await main(args, { load: () => api, env, stdin, ...screen })
  return { code, stdout: screen.stdout.text, stderr: screen.stderr.text }
}

/** What is written to a terminal. */
class Screen extends Writable {
  constructor(columns, { isTTY = true }) {
    super()
    Object.assign(this, { text: '', isTTY, columns: isTTY ? columns : undefined })
  }

  _write(chunk, _encoding, done) {
    this.text += chunk
    done()
  }
}

/** A text without colours and without what moves the cursor. */
function plain(text) {
  return text.replace(/\x1b\[[?\d;]*[A-Za-z]/g, '')
}

module.exports = { hears, plain, provisionArgs, readJson, runAtTerminal, runCli }

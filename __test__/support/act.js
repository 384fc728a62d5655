'use strict'

// The same workflow files under `act`, which others maintain: a second opinion. On this machine, without containers.
// What it does otherwise than GitHub is in act.test.js.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')

const yaml = require('yaml')

const { killMarked } = require('./workflow-process.js')

const BINARY = process.env.PROVISION_VM_ACT

const MARK = 'WORKFLOW_ACT_MARK'

/** Why there is no act to run, for the `skip` of a test; undefined if there is one. Where one is required, an error. */
function whyNoAct() {
  if (BINARY) return undefined
  const why = 'PROVISION_VM_ACT does not say where act is'
  if (process.env.PROVISION_VM_REQUIRE_ACT === '1') throw new Error(why)
  return why
}

/**
 * Runs a workflow to its end. `workspace` is the folder that a checkout copies; `actions` are folders with an action,
 * by name, instead of all others. Gives `{ code, log, stderr, jobs }`, each job `{ result, steps }`, each step
 * `{ id, name, result, log, outputs }`. With `cancelAt`, a pattern, act is interrupted once its output has that.
 */
async function runAct({ file, inputs = {}, secrets = {}, vars = {}, env = {}, actions = {}, workspace, ...more }) {
  const { runId = 1, attempt = 1, cancelAt } = more
  const folder = mkdtempSync(path.join(tmpdir(), 'workflow-act-'))
  try {
    const repository = workspace ?? path.join(folder, 'empty')
    // Outside the repository, or act would copy its own folder into itself.
    const home = path.join(folder, 'home')
    for (const it of [repository, home]) mkdirSync(it, { recursive: true })
    const event = path.join(folder, 'event.json')
    writeFileSync(event, JSON.stringify({ inputs }))
    const args = [
      ...['workflow_dispatch', '--json', '--platform', 'ubuntu-latest=-self-hosted'],
      ...['--workflows', file, '--directory', repository, '--eventpath', event],
      ...['--no-cache-server', '--artifact-server-addr', '127.0.0.1', '--cache-server-addr', '127.0.0.1'],
      '--action-offline-mode',
      ...pairs('--secret', secrets),
      ...pairs('--var', vars),
      ...pairs('--env', { ...env, GITHUB_RUN_ID: runId, GITHUB_RUN_ATTEMPT: attempt }),
      ...pairs('--local-repository', standInsFor(file, actions)),
    ]
    // Steps inherit what act itself has; by the mark, what they leave behind is found.
    const own = { PATH: process.env.PATH, HOME: home, XDG_CACHE_HOME: path.join(home, 'cache'), [MARK]: folder }
    const child = spawn(BINARY, args, { env: own, stdio: ['ignore', 'pipe', 'pipe'] })
    return read(await collect(child, cancelAt))
  } finally {
    await killMarked(`${MARK}=${folder}`)
    rmSync(folder, { recursive: true, force: true })
  }
}

function pairs(option, values) {
  return Object.entries(values).flatMap(([name, value]) => [option, `${name}=${value}`])
}

/** Each action of the file as it is named there, with its revision. */
function standInsFor(file, actions) {
  const { jobs } = yaml.parse(readFileSync(file, 'utf8'))
  const used = Object.values(jobs).flatMap(({ steps }) => steps.map(({ uses }) => uses))
  const folders = used.filter((uses) => uses?.includes('@')).map((uses) => [uses, actions[uses.split('@')[0]]])
  return Object.fromEntries(folders.filter(([, folder]) => folder))
}

async function collect(child, cancelAt) {
  const said = { stdout: '', stderr: '' }
  child.stderr.on('data', (chunk) => (said.stderr += chunk))
  child.stdout.on('data', (chunk) => {
    said.stdout += chunk
    if (!cancelAt?.test(said.stdout)) return
    cancelAt = undefined
    child.kill('SIGINT')
  })
  const [code] = await once(child, 'close')
  return { code, ...said }
}

function read({ code, stdout, stderr }) {
  const jobs = {}
  const lines = []
  for (const event of stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))) {
    lines.push(event.msg.trimEnd())
    if (!event.jobID) continue
    const job = (jobs[event.jobID] ??= { result: undefined, steps: [] })
    if (event.jobResult) job.result = event.jobResult
    if (event.stage === 'Main') readStep(job, event)
  }
  return { code, log: lines.join('\n'), stderr, jobs }
}

/** A step within an action has an id of several parts: it belongs to the first. */
function readStep(job, event) {
  const [id] = event.stepID
  let step = job.steps.find((it) => it.id === id)
  if (!step) job.steps.push((step = { id, name: event.step, result: undefined, log: '', outputs: {} }))
  if (event.raw_output) step.log += event.msg
  if (event.stepID.length > 1) return
  if (event.stepResult) step.result = event.stepResult
  if (event.command === 'set-output') step.outputs[event.name] = event.arg
}

module.exports = { runAct, whyNoAct }

'use strict'

// The two ways that are compared, as processes: this package, and the plain TypeScript of the usual kind.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { homedir } = require('node:os')
const path = require('node:path')
const { createInterface } = require('node:readline')

const { ROOT } = require('../../scripts/setup.js')
const { sum } = require('./figures.js')
const { watchTree } = require('./process-tree.js')

const WAYS = {
  package: [process.execPath, path.join(ROOT, 'bench', 'support', 'package-run.js')],
  plain: ['npx', 'tsx', path.join(ROOT, 'bench', 'plain', 'run.ts')],
}

/**
 * The same for both: what a machine adds to Node.js's own start, such as NODE_EXTRA_CA_CERTS, is no cost of theirs. npm's look for a
 * newer npm would go to the network.
 */
const BARE_ENV = {
  PATH: process.env.PATH,
  HOME: homedir(),
  SystemRoot: process.env.SystemRoot,
  npm_config_update_notifier: 'false',
}

/** As much of what a process prints beside its report as is shown if it breaks. */
const LAST_WORDS = 2000

/** What ends each that runs. Being in groups of their own, they do not hear of an interrupt at the terminal. */
const running = new Set()
process.on('exit', () => running.forEach((end) => end()))

/** Starts a command in a group of its own, so that all of it can be ended. */
function launch([program, ...args], env, stdio = ['ignore', 'pipe', 'pipe']) {
  const hasGroups = process.platform !== 'win32'
  const child = spawn(program, args, { cwd: ROOT, env: { ...BARE_ENV, ...env }, stdio, detached: hasGroups })
  const end = () => {
    try {
      process.kill(hasGroups ? -child.pid : child.pid, 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
  }
  running.add(end)
  child.once('exit', () => running.delete(end))
  return { child, end }
}

/** Begins jobs in one process of this way: the first of so many that the process `knows`, or all. */
function begin(way, env, { jobs, prefix = 'bench', knows = jobs }) {
  const started = Date.now()
  const { child, end } = launch([...WAYS[way], String(jobs), prefix, String(knows)], env)
  const stopWatching = watchTree(child.pid)
  const lines = []
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('{')) lines.push(JSON.parse(line))
  })
  let complaints = ''
  child.stderr.on('data', (chunk) => (complaints = `${complaints}${chunk}`.slice(-LAST_WORDS)))
  const closed = once(child, 'close').then(([code]) => ({ code, complaints }))
  return { child, stopWatching, lines, end, closed, started }
}

/** Does jobs in one process of this way, for as long as the limit lets it, and says what became of them. */
async function doJobs(way, world, { jobs, limitMs }) {
  const { stopWatching, lines, end, closed, started } = begin(way, world.env, { jobs })
  const simulatorBefore = world.cpuMs()
  let isCut = false
  const timer = setTimeout(() => {
    isCut = true
    end()
  }, limitMs)
  const { code, complaints } = await closed
  const ended = Date.now()
  clearTimeout(timer)
  const took = stopWatching()
  const settled = lines.filter(({ kind }) => kind === 'job')
  if (!isCut && settled.length < jobs) {
    throw new Error(`${way}: ended with ${code} after ${settled.length} of ${jobs} jobs\n${complaints}`)
  }
  const seen = await world.seen()
  const done = settled.filter(({ ok }) => ok)
  return {
    way,
    jobs,
    done: done.length,
    failed: settled.length - done.length,
    codes: tally(settled.filter(({ ok }) => !ok).map(({ code }) => code)),
    isCut,
    seconds: ((isCut ? ended : settled.at(-1).at) - started) / 1000,
    requests: seen.requests,
    refused: seen.refused,
    counted: { hetzner: countOf(done, 'hetzner'), tailscale: countOf(done, 'tailscale') },
    lags: lagsOf(done, seen.enrolled),
    peak: { rss: took.rss, pss: took.pss },
    cpuMs: took.cpuMs,
    simulatorCpuMs: world.cpuMs() - simulatorBefore,
  }
}

/** Seconds from each job's enrolment to its result. */
function lagsOf(done, enrolled) {
  return done.map(({ jobId, at }) => (at - enrolled.get(jobId)) / 1000)
}

/** What the jobs themselves say that they have sent. */
function countOf(done, api) {
  return sum(done.map(({ requests }) => requests[api]))
}

function tally(names) {
  const counts = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

module.exports = { BARE_ENV, WAYS, begin, doJobs, lagsOf, launch }

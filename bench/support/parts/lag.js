'use strict'

// From the moment at which a machine has joined to the result: one job a process, its machine joining at another phase of all intervals
// each time.

const { line, median, worst } = require('../figures.js')
const { doJobs } = require('../ways.js')
const { openWorld } = require('../world.js')

const RUNS = 20
/** Evenly over 2 s, the longest interval of either way. */
const APART_SECONDS = 0.1
/** Runs side by side, each in a world of its own. They begin one after the other, because starting is what takes processors. */
const AT_ONCE = 10
const BETWEEN_STARTS_MS = 400
const LIMIT_MS = 60_000
/** As from a machine near both clouds. A job makes five requests one after the other once its machine has joined. */
const LATENCY_MS = [10, 40]

async function lag() {
  const runs = { package: [], plain: [] }
  for (let from = 0; from < RUNS; from += AT_ONCE) {
    const laters = Array.from({ length: Math.min(AT_ONCE, RUNS - from) }, (_, at) => (from + at) * APART_SECONDS)
    // Never both ways at the same moment.
    for (const way of Object.keys(runs)) runs[way].push(...(await Promise.all(laters.map((later, at) => one(way, later, at)))))
  }
  const lags = of(runs, ({ lags: [seconds] }) => seconds)
  const most = (api) => {
    const { package: ours, plain } = of(runs, ({ requests }) => requests[api])
    return { ours: worst(ours), plain: worst(plain) }
  }
  return {
    title: `One job, from enrolment to result (${RUNS} runs, requests take ${LATENCY_MS.join(' to ')} ms)`,
    lines: [
      line('lag, median', { ours: median(lags.package), plain: median(lags.plain), unit: 's', atMost: 0.4 }),
      line('lag, worst', { ours: worst(lags.package), plain: worst(lags.plain), unit: 's', atMost: 0.8 }),
      line('requests to Hetzner, most', { ...most('hetzner'), atMost: 10 }),
      line('requests to Tailscale, most', { ...most('tailscale'), atMost: 40 }),
    ],
    lags,
  }
}

async function one(way, later, at) {
  await new Promise((resolve) => setTimeout(resolve, at * BETWEEN_STARTS_MS))
  const world = await openWorld({ later, latencyMs: LATENCY_MS })
  const run = await doJobs(way, world, { jobs: 1, limitMs: LIMIT_MS })
  await world.close()
  if (run.done !== 1) throw new Error(`${way}: a run of the lag failed: ${JSON.stringify(run.codes)}`)
  return run
}

function of(runs, figure) {
  return { package: runs.package.map(figure), plain: runs.plain.map(figure) }
}

module.exports = { lag }

'use strict'

// K jobs in one process, at a full bucket.

const { MIB, line, median, worst } = require('../figures.js')
const { doJobs } = require('../ways.js')
const { BOOT_SECONDS, openWorld } = require('../world.js')

/** So many jobs do not disturb others. */
const FEW = 10
/** Long enough for the waits, for many orders one after the other, and to see that a way has run into the limit. */
const limitMs = (jobs) => (BOOT_SECONDS + 20 + 0.05 * jobs) * 1000

async function jobs({ counts }) {
  const runs = { package: new Map(), plain: new Map() }
  const few = counts.filter((count) => count <= FEW)
  // What many jobs take of two cores would disturb what runs beside them.
  for (const together of [few, ...counts.filter((count) => count > FEW).map((count) => [count])]) {
    for (const way of Object.keys(runs)) {
      await Promise.all(together.map(async (count) => runs[way].set(count, await oneOf(way, count))))
    }
  }
  const series = counts.map((count) => ({ jobs: count, package: runs.package.get(count), plain: runs.plain.get(count) }))
  return { title: `K jobs in one process, machines that join in ${BOOT_SECONDS} s, a full bucket of 3600`, lines: series.flatMap(linesOf), series }
}

async function oneOf(way, count) {
  const world = await openWorld()
  const run = await doJobs(way, world, { jobs: count, limitMs: limitMs(count) })
  await world.close()
  return run
}

function linesOf({ jobs: count, package: ours, plain }) {
  const what = (name) => `K = ${count}: ${name}`
  const both = (figure) => ({ ours: figure(ours), plain: figure(plain) })
  const lagOf = (run, figure) => (run.lags.length > 0 ? figure(run.lags) : undefined)
  // Few requests are worth nothing if they led nowhere.
  const isMet = ours.done === count
  return [
    line(what('jobs without a result'), { ...both((run) => count - run.done), atMost: 0 }),
    line(what('requests to Hetzner'), { ...both(({ requests }) => requests.hetzner), atMost: 3 * count + 60, isMet }),
    line(what('requests to Tailscale'), { ...both(({ requests }) => requests.tailscale), atMost: 2 * count + 80, isMet }),
    line(what('answers 429'), { ...both(({ refused }) => refused.hetzner + refused.tailscale), atMost: 0 }),
    line(what('time until all had settled'), { ...both(({ seconds }) => seconds), unit: 's', note: cutOf({ ours, plain }) }),
    line(what('lag, median'), { ...both((run) => lagOf(run, median)), unit: 's' }),
    line(what('lag, worst'), { ...both((run) => lagOf(run, worst)), unit: 's' }),
    line(what('peak memory'), { ...both(({ peak }) => peak.pss / MIB), unit: 'MiB', share: 1 / 3 }),
    line(what('time on processors'), { ...both(({ cpuMs }) => cpuMs), unit: 'ms' }),
    line(what('of the simulator meanwhile'), { ...both(({ simulatorCpuMs }) => simulatorCpuMs), unit: 'ms' }),
  ]
}

/** Whose run was ended by the limit of the benchmark. */
function cutOf({ ours, plain }) {
  const names = [ours.isCut && 'this package', plain.isCut && 'plain'].filter(Boolean)
  return names.length > 0 ? `ended by the benchmark: ${names.join(', ')}` : undefined
}

module.exports = { cutOf, jobs }

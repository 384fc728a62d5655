'use strict'

// K jobs in one process, with K + 200 requests left in the bucket and one more a second. Beyond 100 jobs the refill takes so long that it is
// for virtual time to show (`virtual.js`).

const { line } = require('../figures.js')
const { doJobs } = require('../ways.js')
const { BOOT_SECONDS, openWorld } = require('../world.js')

const MOST_JOBS = 100
const LEFT_BESIDE = 200

/** What K jobs may take in all, and the time that the refill of one a second makes of it, with a tenth on top. */
const mayTake = (jobs) => 3 * jobs + 60
const allowedSeconds = (jobs) => (Math.max(0, mayTake(jobs) - (jobs + LEFT_BESIDE)) + BOOT_SECONDS) * 1.1
/** How much longer than that is waited, for what has not settled by then. */
const PATIENCE = 1.25
/** How many refusals are no storm: to learn once that the bucket is empty, and now and then again. */
const fewRefusals = (jobs) => 5 + Math.ceil(jobs / 20)

async function scarce({ counts }) {
  const few = counts.filter((count) => count <= MOST_JOBS)
  // All at the same time: what counts here takes tens of seconds and few processors.
  const series = await Promise.all(
    few.map(async (count) => {
      const [ours, plain] = await Promise.all([oneOf('package', count), oneOf('plain', count)])
      return { jobs: count, package: ours, plain }
    }),
  )
  return { title: `K jobs in one process, K + ${LEFT_BESIDE} requests left and one more a second`, lines: series.flatMap(linesOf), series }
}

async function oneOf(way, count) {
  const world = await openWorld({ remaining: count + LEFT_BESIDE })
  const run = await doJobs(way, world, { jobs: count, limitMs: allowedSeconds(count) * PATIENCE * 1000 })
  await world.close()
  return run
}

function linesOf({ jobs: count, package: ours, plain }) {
  const what = (name) => `K = ${count}: ${name}`
  const both = (figure) => ({ ours: figure(ours), plain: figure(plain) })
  return [
    line(what('jobs without a result'), { ...both((run) => count - run.done), atMost: 0 }),
    line(what('time until all had settled'), { ...both(({ seconds }) => seconds), unit: 's', atMost: allowedSeconds(count) }),
    line(what('answers 429'), { ...both(({ refused }) => refused.hetzner), atMost: fewRefusals(count) }),
  ]
}

module.exports = { scarce }

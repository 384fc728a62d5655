'use strict'

// What the processes of one job take at most: all that a way starts, such as npx and what it runs.

const { MIB, line, median } = require('../figures.js')
const { doJobs } = require('../ways.js')
const { openWorld } = require('../world.js')

const ROUNDS = 3
/** What is taken does not depend on how long machines boot. */
const TIME_SCALE = 10

async function memory() {
  const runs = { package: [], plain: [] }
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const way of Object.keys(runs)) {
      const world = await openWorld({ timeScale: TIME_SCALE })
      runs[way].push(await doJobs(way, world, { jobs: 1, limitMs: 60_000 }))
      await world.close()
    }
  }
  const of = (figure) => ({ ours: median(runs.package.map(figure)), plain: median(runs.plain.map(figure)) })
  return {
    title: `One job, all of its processes (medians of ${ROUNDS} runs)`,
    lines: [
      line('peak memory', { ...of(({ peak }) => peak.pss / MIB), unit: 'MiB', share: 1 / 3, note: 'shared pages counted once' }),
      line('peak resident memory, summed', { ...of(({ peak }) => peak.rss / MIB), unit: 'MiB', share: 1 / 3 }),
      line('time on processors', { ...of(({ cpuMs }) => cpuMs), unit: 'ms' }),
    ],
  }
}

module.exports = { memory }

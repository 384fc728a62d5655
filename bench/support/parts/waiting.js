'use strict'

// What jobs cost while they wait: their servers run, and their machines never join. The program around them is the same for one and for many: it
// makes a list of many jobs, which alone has V8 bring up its compiler, and hands over the first or all.

const { MIB, line } = require('../figures.js')
const { readCpuMs, readTree } = require('../process-tree.js')
const { begin } = require('../ways.js')
const { openWorld } = require('../world.js')

const MANY = 1000
const PATIENCE_MS = 60_000
const SETTLE_MS = 5000
const WINDOW_MS = 20_000

async function waiting() {
  const [one, many] = await Promise.all([wait(1), wait(MANY)])
  const [added, resident] = [(many.own - one.own) / MIB, (many.rss - one.rss) / MIB]
  const isMet = many.servers === MANY && one.servers === 1
  const note = isMet ? undefined : `only ${many.servers} of ${MANY} servers were ordered`
  return {
    title: `${MANY} jobs that wait, in one process (that of one job knows as many)`,
    lines: [
      line('resident memory beyond that of one job', { ours: resident, unit: 'MiB', atMost: 20, isMet, note }),
      line('the part of it that the processes have written', { ours: added, unit: 'MiB' }),
      line('share of one core while waiting', { ours: many.cpuShare * 100, unit: '%', atMost: 5, isMet, note }),
      line('share of one core, one job', { ours: one.cpuShare * 100, unit: '%' }),
      line('requests a second while waiting', { ours: many.requestsPerSecond }),
    ],
  }
}

async function wait(jobs) {
  const world = await openWorld({ boot: 'never_joins' })
  const { child, stopWatching, end, closed } = begin('package', world.env, { jobs, knows: MANY })
  const servers = await running(world, jobs)
  await pause(SETTLE_MS)
  stopWatching()
  const before = await look(child.pid, world)
  await pause(WINDOW_MS)
  const after = await look(child.pid, world)
  end()
  await closed
  await world.close()
  const seconds = (after.at - before.at) / 1000
  return {
    servers,
    rss: after.rss,
    own: after.own,
    cpuShare: (after.cpuMs - before.cpuMs) / 1000 / seconds,
    requestsPerSecond: (after.requests - before.requests) / seconds,
  }
}

/** Waits until so many servers run, or until patience ends, and says how many do. */
async function running(world, jobs) {
  const end = Date.now() + PATIENCE_MS
  for (;;) {
    const { servers } = await world.cloud.world()
    const count = servers.filter(({ status }) => status === 'running').length
    if (count === jobs || Date.now() > end) return count
    await pause(1000)
  }
}

async function look(pid, world) {
  const { rss, own } = readTree(pid)
  return { at: Date.now(), rss, own, cpuMs: readCpuMs(pid), requests: await world.cloud.requests() }
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

module.exports = { waiting }

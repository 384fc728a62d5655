'use strict'

// The lag in a large tailnet against that in an empty one.

const { line, mean } = require('../figures.js')
const { begin, lagsOf } = require('../ways.js')
const { openWorld } = require('../world.js')

const DEVICES = 5000
const PLANTERS = 8
/** One job a process, all in the same world, beginning at moments that lie evenly over 2 s and more. */
const RUNS = 16
const BETWEEN_STARTS_MS = 630
const LIMIT_MS = 90_000

async function crowd() {
  const alone = await lagsAmong(0)
  const among = await lagsAmong(DEVICES)
  const [base, ours] = [mean(alone.lags), mean(among.lags)]
  return {
    title: `A tailnet of ${DEVICES} devices (${RUNS} runs each)`,
    lines: [
      line('lag without them, mean', { ours: base, unit: 's' }),
      line('lag among them, mean', { ours, unit: 's', atMost: base * 1.2 }),
      line('share of one core that the simulator took', { ours: among.simulatorShare * 100, unit: '%' }),
    ],
    alone,
    among,
  }
}

async function lagsAmong(devices) {
  const world = await openWorld()
  await plant(world.cloud, devices)
  const before = { at: Date.now(), cpuMs: world.cpuMs() }
  const runs = []
  for (let at = 0; at < RUNS; at += 1) {
    runs.push(begin('package', world.env, { jobs: 1, prefix: `run-${at}` }))
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_STARTS_MS))
  }
  const timer = setTimeout(() => runs.forEach(({ end }) => end()), LIMIT_MS)
  await Promise.all(runs.map(({ closed }) => closed))
  clearTimeout(timer)
  runs.forEach(({ stopWatching }) => stopWatching())
  const done = runs.flatMap(({ lines }) => lines.filter(({ kind, ok }) => kind === 'job' && ok))
  const simulatorShare = (world.cpuMs() - before.cpuMs) / (Date.now() - before.at)
  const { enrolled } = await world.seen()
  await world.close()
  if (done.length < RUNS) throw new Error(`only ${done.length} of ${RUNS} jobs among ${devices} devices came to a result`)
  return { lags: lagsOf(done, enrolled), simulatorShare }
}

/** Devices as another fleet has them, some of them with the tag of ours. */
async function plant(cloud, count) {
  let next = 0
  const planter = async () => {
    while (next < count) {
      const number = (next += 1)
      await cloud.control('POST', 'devices', { hostname: `other-${number}`, tags: [number % 2 ? 'tag:agent' : 'tag:other'] })
    }
  }
  await Promise.all(Array.from({ length: PLANTERS }, planter))
}

module.exports = { crowd }

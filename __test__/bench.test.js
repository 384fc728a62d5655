'use strict'

// What the benchmark compares and how it counts: the plain orchestrator is an honest one, and its report is what the world has seen.

const assert = require('node:assert/strict')
const { test } = require('node:test')

const { readRate } = require('../bench/support/parts/cargo.js')
const { line } = require('../bench/support/figures.js')
const { drawPlot } = require('../bench/support/plot.js')
const { table } = require('../bench/support/table.js')
const { doJobs } = require('../bench/support/ways.js')
const { openWorld } = require('../bench/support/world.js')
const { SIMULATOR } = require('../scripts/setup.js')
const { usable } = require('./support/simulator.js')

/** Two jobs of one way in a fast world that has room for so many servers, and that world afterwards. */
async function twoJobs(way, room = 10) {
  const world = await openWorld({ program: SIMULATOR, timeScale: 25 })
  await world.cloud.configure({ hetzner: { server_limit: room } })
  try {
    return { run: await doJobs(way, world, { jobs: 2, limitMs: 60_000 }), after: await world.cloud.world() }
  } finally {
    await world.close()
  }
}

test('the plain orchestrator provisions, and counts its requests right', async () => {
  const { run, after } = await twoJobs('plain')
  assert.deepEqual([run.done, run.failed, run.isCut], [2, 0, false])
  assert.deepEqual(run.counted, run.requests)
  assert.equal(run.lags.length, 2)
  assert.ok(run.lags.every(Number.isFinite), run.lags.join())
  // All that was made stands, and nothing more: two machines in the tailnet, whose keys are spent.
  const jobs = after.servers.map(({ labels }) => [labels.provisioning_job_id, labels.state])
  assert.deepEqual(jobs.sort(), [['bench-1', 'ready'], ['bench-2', 'ready']])
  assert.deepEqual([after.servers_ever, after.devices.length, usable(after).length], [2, 2, 0])
})

test('a job that fails is reported with its code', async () => {
  const { run, after } = await twoJobs('package', 1)
  assert.deepEqual([run.done, run.failed, run.codes], [1, 1, { QUOTA: 1 }])
  assert.equal(after.requests.hetzner, run.requests.hetzner)
  assert.equal(after.servers.length, 1)
})

test('the plot draws the same for the same figures, and marks what is incomplete', () => {
  const run = (hetzner, tailscale, done) => ({ requests: { hetzner, tailscale }, done })
  const series = [
    { jobs: 1, package: run(8, 26, 1), plain: run(11, 12, 1) },
    { jobs: 100, package: run(300, 200, 100), plain: run(1100, 1200, 90) },
  ]
  const lags = { package: [0.3, 0.2], plain: [0.7, 2.1] }
  const svg = drawPlot({ series, lags })
  assert.equal(svg, drawPlot({ series, lags }))
  assert.equal(svg.match(/class="mark"/g).length, 6)
  assert.equal(svg.match(/class="mark open"/g).length, 2)
  assert.match(svg, /prefers-color-scheme: dark/)
  assert.doesNotMatch(svg, /NaN|undefined|Infinity/)
})

test('a line of the table passes by its limit, its share of the other, and its condition', () => {
  const lines = [
    line('a', { ours: 2, plain: 9, atMost: 2 }),
    line('b', { ours: 2, plain: 5, unit: 'MiB', share: 1 / 3 }),
    line('c', { ours: 0, atMost: 1, isMet: false }),
    line('d', { ours: 1 }),
  ]
  assert.deepEqual(lines.map(({ ok }) => ok), [true, false, false, undefined])
  const printed = table({ title: 'Title', lines }, {})
  assert.match(printed, /PASS {2}a +2 +9 +at most 2\n/)
  assert.match(printed, /FAIL {2}b +2 +5 MiB +at most 1\.67 \(1\/3 of plain\)\n/)
})

test('the rate of the random worlds is read from what they print', () => {
  assert.equal(readRate('running 1 test\n2000 seeds, each twice, in 12.3 s: 162.6 seeds a second\n'), 162.6)
})

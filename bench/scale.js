'use strict'

// This package beside a plain TypeScript orchestrator (`plain/`), in one run against simulators on this machine: what it takes to start, to
// wait and to do many jobs. `npm run bench:scale`; `--help` says what can be chosen.

const { writeFileSync } = require('node:fs')
const { cpus } = require('node:os')
const { join } = require('node:path')
const { parseArgs } = require('node:util')

const { ROOT } = require('../scripts/setup.js')
const { drawPlot } = require('./support/plot.js')
const { table } = require('./support/table.js')
const { buildWorld } = require('./support/world.js')
const { seeds, virtualTime } = require('./support/parts/cargo.js')
const { crowd } = require('./support/parts/crowd.js')
const { events } = require('./support/parts/events.js')
const { first } = require('./support/parts/first.js')
const { jobs } = require('./support/parts/jobs.js')
const { lag } = require('./support/parts/lag.js')
const { memory } = require('./support/parts/memory.js')
const { scarce } = require('./support/parts/scarce.js')
const { waiting } = require('./support/parts/waiting.js')

const PARTS = { first, events, memory, lag, jobs, scarce, virtual: virtualTime, waiting, crowd, seeds }
const COUNTS = [1, 10, 100, 1000]
const PLOT = join(ROOT, 'docs', 'scale.svg')

const HELP = `Usage: node bench/scale.js [--only PARTS] [--jobs COUNTS] [--json FILE] [--virtual] [--seeds]

  --only PARTS    of ${Object.keys(PARTS).join(', ')}; all of them if absent
  --jobs COUNTS   how many jobs in one process, such as 1,10; ${COUNTS} if absent
  --json FILE     write all figures there
  --virtual       also play the scarce bucket in virtual time (compiles for minutes)
  --seeds         also count the random worlds that are played in a second (compiles for minutes)

If the parts lag and jobs have run with all counts, the plot in docs/scale.svg is drawn anew.
`

// Leaving by `exit` ends what was started.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

main().catch((error) => {
  console.error(error)
  process.exit(1)
})

async function main() {
  const options = readOptions()
  if (!options) return process.stdout.write(HELP)
  const began = Date.now()
  buildWorld()
  const machine = `Node.js ${process.versions.node}, ${process.platform}-${process.arch}, ${cpus().length} cores`
  console.log(`This package and a plain TypeScript orchestrator (npx tsx), in one run. ${machine}.`)
  console.log('The simulators run on the same cores; what one of them takes is never counted as theirs.')
  const results = {}
  for (const name of options.parts) {
    results[name] = await PARTS[name](options)
    process.stdout.write(table(results[name], process.stdout))
  }
  const minutes = (Date.now() - began) / 60_000
  const lines = Object.values(results).flatMap((part) => part.lines)
  const failed = lines.filter(({ ok }) => ok === false)
  const judged = lines.filter(({ ok }) => ok !== undefined)
  console.log(`\n${judged.length - failed.length} of ${judged.length} lines pass; ${minutes.toFixed(1)} minutes.`)
  if (failed.length > 0) process.exitCode = 1
  if (options.json) writeFileSync(options.json, `${JSON.stringify({ machine, minutes, parts: results }, null, 2)}\n`)
  if (results.lag && results.jobs && options.counts.join() === COUNTS.join()) {
    writeFileSync(PLOT, drawPlot({ series: results.jobs.series, lags: results.lag.lags }))
    console.log('The plot is in docs/scale.svg.')
  }
}

/** Nothing if help is asked for. */
function readOptions() {
  const text = { type: 'string' }
  const flag = { type: 'boolean', default: false }
  const { values } = parseArgs({ options: { only: text, jobs: text, json: text, virtual: flag, seeds: flag, help: flag } })
  if (values.help) return undefined
  const asked = values.only?.split(',') ?? Object.keys(PARTS)
  const unknown = asked.filter((name) => !(name in PARTS))
  if (unknown.length > 0) throw new Error(`there is no part ${unknown.join(', ')}\n\n${HELP}`)
  const counts = values.jobs?.split(',').map(Number) ?? COUNTS
  if (!counts.every((count) => Number.isInteger(count) && count > 0)) throw new Error(`--jobs ${values.jobs}: expected counts such as 1,10`)
  const parts = Object.keys(PARTS).filter((name) => asked.includes(name))
  return { parts, counts, json: values.json, withVirtual: values.virtual, withSeeds: values.seeds }
}

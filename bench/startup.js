'use strict'

// What the package costs before it does anything, against its budgets. `npm run bench`

const { measureStartup } = require('./support/startup-cost.js')

const ROUNDS = 15

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})

async function main() {
  const { nodeMs, firstMs, budgets } = await measureStartup(ROUNDS)
  console.log(`\nnode -e 0: ${nodeMs.toFixed(1)} ms; first request of scripts/provision.js: ${firstMs.toFixed(1)} ms`)
  console.log(`(medians of ${ROUNDS}, Node.js ${process.versions.node}, ${process.platform}-${process.arch})\n`)
  for (const [name, value, budget, unit] of budgets) {
    const isWithin = value <= budget
    if (!isWithin) process.exitCode = 1
    const figure = `${value.toFixed(2).padStart(8)} ${unit.padEnd(3)}`
    console.log(`  ${isWithin ? 'PASS' : 'FAIL'}  ${name.padEnd(36)}${figure}  of ${String(budget).padStart(3)} ${unit}`)
  }
  console.log()
}

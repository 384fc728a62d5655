'use strict'

// From the start of a process to its first request, and what the package costs before that.

const { line } = require('../figures.js')
const { measureStartup } = require('../startup-cost.js')
const { WAYS } = require('../ways.js')

const ROUNDS = 11

async function first() {
  const plain = [...WAYS.plain, '1', 'bench']
  const { firstMs, othersMs, budgets } = await measureStartup(ROUNDS, [plain])
  return {
    title: `Start (medians of ${ROUNDS} processes)`,
    lines: [
      line('first request, from process start', { ours: firstMs, plain: othersMs[0], unit: 'ms', share: 1 / 4 }),
      ...budgets.map(([what, ours, atMost, unit]) => line(what, { ours, unit, atMost })),
    ],
  }
}

module.exports = { first }

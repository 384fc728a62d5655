'use strict'

// Figures from samples, and lines of a table from figures.

const MIB = 1024 * 1024

const sum = (values) => values.reduce((total, value) => total + value, 0)
const mean = (values) => sum(values) / values.length
const worst = (values) => Math.max(...values)

function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
}

/**
 * One line of the table: a figure of this package, that of the plain way where there is one, and what the first should be. `at most` holds it
 * against a number, `share` against that part of the other's; without either the line only informs. `isMet` adds a condition.
 */
function line(what, { ours, plain, unit = '', atMost, share, isMet = true, note }) {
  const limit = share === undefined ? atMost : plain * share
  const isJudged = limit !== undefined || !isMet
  return { what, ours, plain, unit, limit, share, note, ok: isJudged ? isMet && ours <= limit : undefined }
}

/** A line about what did not take place. */
function notRun(what, note) {
  return { what, note: `not run: ${note}` }
}

module.exports = { MIB, line, mean, median, notRun, sum, worst }

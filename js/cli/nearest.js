'use strict'

// Which of the known words somebody meant.

/** The known word that is closest, if one is close enough to be what was meant. */
function nearest(word, known) {
  const begins = known.filter((it) => word.length >= 3 && it.startsWith(word))
  if (begins.length === 1) return begins[0]
  const ranked = known.map((it) => [it, distance(word.toLowerCase(), it)]).sort(([, a], [, b]) => a - b)
  const [[best, changes] = []] = ranked
  return changes <= Math.max(1, Math.floor(word.length / 3)) ? best : undefined
}

module.exports = { nearest }

/** How many letters have to be put, left out, changed or swapped with their neighbour. */
function distance(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, at) => at)]
  for (let i = 1; i <= a.length; i += 1) {
    rows[i] = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const change = rows[i - 1][j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, change, isSwap ? rows[i - 2][j - 2] + 1 : Infinity)
    }
  }
  return rows[a.length][b.length]
}

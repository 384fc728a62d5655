'use strict'

// The figures for people: a table for each part.

const { paint } = require('../../scripts/support/display.js')

const NAME = 43
const COLUMN = 12
const VERDICTS = { true: ['PASS', 'green'], false: ['FAIL', 'red'], undefined: ['    ', 'dim'] }

/** The lines of one part, as text. */
function table({ title, lines }, stream) {
  const style = paint(stream.isTTY ? process.env : { NO_COLOR: '1' })
  const head = `${''.padEnd(NAME + 8)}${'this package'.padStart(COLUMN)}${'plain'.padStart(COLUMN)}`
  return `\n${style('bold', title)}\n${style('dim', head)}\n${lines.map((it) => row(it, style)).join('\n')}\n`
}

function row({ what, ours, plain, unit = '', limit, share, note, ok }, style) {
  const [verdict, colour] = VERDICTS[ok]
  const of = share === undefined ? '' : ` (${fraction(share)} of plain)`
  const wanted = limit === undefined ? '' : `at most ${show(limit)}${of}`
  const figures = `${show(ours).padStart(COLUMN)}${show(plain).padStart(COLUMN)} ${unit.padEnd(4)}`
  const remarks = [wanted, note].filter(Boolean).join('; ')
  return `  ${style(colour, verdict)}  ${what.padEnd(NAME)}${figures} ${style('dim', remarks)}`.trimEnd()
}

/** As many digits as tell something. */
function show(value) {
  if (value === undefined) return ''
  const digits = Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toFixed(digits)
}

function fraction(share) {
  return `1/${Math.round(1 / share)}`
}

module.exports = { table }

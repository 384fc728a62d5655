'use strict'

// Times and sums as people read them.

const { wrap } = require('./table.js')

/** Hetzner charges a public IPv4 address by itself. */
const CURRENCY = "for the server alone, in the project's currency, net"

const UNITS = [
  ['d', 24 * 60 * 60 * 1000, 2],
  ['h', 60 * 60 * 1000, 1],
  ['min', 60 * 1000, 1],
  ['s', 1000, 1],
]

/** A time in the largest unit that does not hide too much: `45 s`, `3 min`, `2 h`, `5 d`; hours up to two days. */
function describeTime(ms, round = Math.floor) {
  const [unit, size] = UNITS.find(([, size, from]) => ms >= from * size) ?? ['s', 1000]
  return `${round(ms / size)} ${unit}`
}

/** A sum as the module gives it, with no more digits than say something. */
function describeSum(text) {
  if (text === undefined) return undefined
  const [, whole, digits = ''] = /^(\d+)(?:\.(\d+))?$/.exec(text) ?? []
  if (whole === undefined) return text
  if (digits.length > 4) return describeSum(Number(text).toFixed(4))
  return `${whole}.${digits.replace(/0+$/, '').padEnd(2, '0')}`
}

function describePrice(price) {
  return price && `${describeSum(price.hourly)} an hour, at most ${describeSum(price.monthly)} a month`
}

/** What has to be said where there is a price, below all else. */
function footnote(price, width) {
  return price ? ['', ...wrap(`Prices are ${CURRENCY}.`, width)] : []
}

/** A number of things. */
function count(number, thing) {
  return `${number} ${thing}${number === 1 ? '' : 's'}`
}

module.exports = { CURRENCY, count, describePrice, describeSum, describeTime, footnote }

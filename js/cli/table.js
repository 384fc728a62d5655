'use strict'

// Aligned text.

const GAP = 2
/** A text that is cut to less says nothing any more. */
const SHORTEST = 8

/**
 * A table. Each of `columns` has a `title` and gives the `text` of a row. In the width of a terminal those that are `spared` first are left
 * out, the last one first, and only then the `long` ones are shortened: an id that is cut cannot be typed again. Where that is not enough
 * either, those that are `spared` late are left out as well.
 */
function table(columns, rows, { width, style }) {
  const all = columns.map((column) => measure(column, rows))
  const shown = fit(all, width)
  const isOpen = (at) => at === shown.length - 1 && !shown[at].right
  const line = (texts, paint) => {
    const cells = texts.map((text, at) => paint(isOpen(at) ? text : pad(text, shown[at]), shown[at]))
    return cells.join(' '.repeat(GAP)).trimEnd()
  }
  const head = line(shown.map(({ title }) => title), (text) => style('dim', text))
  const body = rows.map((row, index) =>
    line(shown.map(({ cells, room, isProse }) => shorten(cells[index], room, isProse)), (text, { colour }) => {
      const name = colour?.(row)
      return name ? style(name, text) : text
    }),
  )
  return [head, ...body]
}

/** Names and values; what there is nothing to say of is left out. */
function facts(pairs, { style, width }) {
  const told = pairs.filter(([, value]) => value !== undefined && value !== '')
  const room = Math.max(...told.map(([name]) => name.length))
  return told.flatMap(([name, value]) => hang(`  ${style('dim', name.padEnd(room))}  `, value, room + 4, width))
}

/** Text that begins after `start` and goes on below itself; `indent` is how wide the start is, colours not counted. */
function hang(start, text, indent, width) {
  const [first, ...rest] = wrap(text, width - indent)
  return [`${start}${first}`, ...rest.map((line) => `${' '.repeat(indent)}${line}`)]
}

/** Text in lines of at most this width; a word that is longer has a line of its own. */
function wrap(text, width) {
  const lines = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines
}

module.exports = { facts, hang, table, wrap }

function measure(column, rows) {
  const cells = rows.map((row) => column.text(row) ?? '')
  return { ...column, cells, room: Math.max(column.title.length, ...cells.map((cell) => cell.length)) }
}

function fit(columns, width) {
  const excess = (shown) => shown.reduce((sum, { room }) => sum + room + GAP, -GAP) - width
  const without = (when, shown) => {
    const last = shown.findLast(({ spared }) => spared === when)
    return last && shown.filter((column) => column !== last)
  }
  let whole = columns
  for (let fewer = whole; fewer && excess(whole) > 0; fewer = without('first', whole)) whole = fewer
  for (;;) {
    let shown = whole
    while (excess(shown) > 0) {
      const longest = shown.filter(({ long, room }) => long && room > SHORTEST).sort((a, b) => b.room - a.room)[0]
      if (!longest) break
      shown = shown.map((column) => (column === longest ? { ...column, room: column.room - 1 } : column))
    }
    const fewer = excess(shown) > 0 && without('late', whole)
    if (!fewer) return shown
    whole = fewer
  }
}

/** Cut in its middle, as ids often differ at their end only; what is prose, at its end. */
function shorten(text, room, isProse) {
  if (text.length <= room) return text
  if (isProse) return `${text.slice(0, room - 1)}…`
  const end = Math.floor((room - 1) / 2)
  return `${text.slice(0, room - 1 - end)}…${text.slice(text.length - end)}`
}

function pad(text, { right, room }) {
  return right ? text.padStart(room) : text.padEnd(room)
}

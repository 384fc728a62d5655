#!/usr/bin/env node
'use strict'

// Draws docs/terminal.svg: what the commands show on a terminal, by running them in a local cloud and taking down the screen.

const { writeFileSync } = require('node:fs')
const path = require('node:path')
const { Terminal } = require('@xterm/headless')

const { main } = require('../js/cli/main.js')
const { startLocalCloud } = require('../js/local-cloud.js')
const { ROOT } = require('./setup.js')

const COLUMNS = 100
const OUT = path.join(ROOT, 'docs', 'terminal.svg')

/** What is typed, with variables that are set for it alone: a mistake that the doctor has to find. */
const SESSION = [
  [['provision', 'job-42', '--agent', '550e8400-e29b', '--region', 'eu-central']],
  [['list']],
  [['doctor', '--region', 'eu-central'], { HETZNER_SSH_KEY_ID: 'laptop' }],
]

/** How the sixteen colours of a terminal look, those that are used. */
const COLOURS = { 1: '#f47067', 2: '#57ab5a', 3: '#c69026', 4: '#539bf5', 6: '#39c5cf', 8: '#768390' }
const [PAPER, INK, FAINT] = ['#1c2128', '#cdd9e5', '#768390']
const CELL = { width: 8.43, height: 19 }
const MARGIN = 20

async function draw() {
  const terminal = new Terminal({ cols: COLUMNS, rows: 120, scrollback: 0, allowProposedApi: true, convertEol: true })
  const cloud = await startLocalCloud()
  try {
    for (const [args, more] of SESSION) {
      const variables = Object.entries(more ?? {}).map(([name, value]) => `${name}=${value} `)
      await print(terminal, `\x1b[32m$\x1b[0m ${variables.join('')}npx provision-vm ${args.join(' ')}\n`)
      await main(args, { env: { ...cloud.env, ...more }, ...streamsTo(terminal) })
      await print(terminal, '\n')
    }
  } finally {
    await cloud.stop()
  }
  writeFileSync(OUT, picture(linesOf(terminal)))
  console.log(`wrote ${path.relative(ROOT, OUT)}`)
}

const print = (terminal, text) => new Promise((resolve) => terminal.write(text, resolve))

/** Streams that end on this screen, as those of a process do. */
function streamsTo(terminal) {
  const stream = () => ({
    isTTY: true,
    columns: COLUMNS,
    on() {},
    once() {},
    off() {},
    write(text) {
      terminal.write(text)
      return true
    },
  })
  return { stdin: { isTTY: false }, stdout: stream(), stderr: stream() }
}

/** The screen: of each line its runs of one look. */
function linesOf(terminal) {
  const { active } = terminal.buffer
  const lines = []
  for (let y = 0; y < active.length; y += 1) {
    const line = active.getLine(y)
    const runs = []
    for (let x = 0; x < COLUMNS; x += 1) {
      const cell = line.getCell(x)
      const look = { bold: Boolean(cell.isBold()), dim: Boolean(cell.isDim()), colour: cell.isFgPalette() ? cell.getFgColor() : undefined }
      const text = cell.getChars() || ' '
      const last = runs.at(-1)
      if (last && JSON.stringify(last.look) === JSON.stringify(look)) last.text += text
      else runs.push({ x, look, text })
    }
    lines.push(runs.map((run) => ({ ...run, text: run.text.trimEnd() })).filter(({ text }) => text))
  }
  while (lines.length > 0 && lines.at(-1).length === 0) lines.pop()
  return lines
}

function picture(lines) {
  const width = Math.ceil(COLUMNS * CELL.width + 2 * MARGIN)
  const height = lines.length * CELL.height + 2 * MARGIN
  const rows = lines.flatMap((runs, y) => runs.map((run) => word(run, MARGIN + (y + 0.75) * CELL.height)))
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="provision, list and doctor in a terminal">
<style>text { font: 14px ui-monospace, 'SF Mono', 'Cascadia Mono', 'Liberation Mono', Menlo, Consolas, monospace; fill: ${INK}; white-space: pre }</style>
<rect width="${width}" height="${height}" rx="8" fill="${PAPER}"/>
${rows.join('\n')}
</svg>
`
}

/** Each word has the length that it has on a terminal, whatever the font of the reader. */
function word({ x, look, text }, y) {
  const lead = text.length - text.trimStart().length
  const shown = text.slice(lead)
  const colour = COLOURS[look.colour] ?? (look.dim ? FAINT : undefined)
  const marks = [
    `x="${(MARGIN + (x + lead) * CELL.width).toFixed(1)}" y="${y.toFixed(1)}" textLength="${(shown.length * CELL.width).toFixed(1)}"`,
    ...(colour ? [`style="fill:${colour}"`] : []),
    ...(look.bold ? ['font-weight="700"'] : []),
  ]
  return `<text ${marks.join(' ')}>${escape(shown)}</text>`
}

const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

draw().catch((error) => {
  console.error(`picture: ${error.message}`)
  process.exitCode = 1
})

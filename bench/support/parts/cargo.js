'use strict'

// What only Rust can measure: the world without sockets, in virtual time. Both compile for minutes, so they are asked for by a flag.

const { spawn } = require('node:child_process')
const { existsSync } = require('node:fs')
const { join } = require('node:path')

const { ROOT } = require('../../../scripts/setup.js')
const { line, notRun } = require('../figures.js')

/**
 * Many jobs with a bucket that is nearly empty, in virtual time. It prints a line of JSON for each figure: `{ "what": "K = 1000: answers
 * 429", "value": 0, "unit": "", "atMost": 50 }`; without `atMost` a figure only informs.
 */
const VIRTUAL_TIME = {
  source: join('tests', 'scale.rs'),
  command: ['cargo', 'test', '--profile', 'sim', '--locked', '--no-default-features', '--test', 'scale', '--', '--nocapture'],
}

const SEEDS = '2000'
const RANDOM_WORLDS = ['cargo', 'test', '--profile', 'sim', '--locked', '--no-default-features', '--test', 'worlds', 'random', '--', '--nocapture']

/** The scarce bucket beyond what real time can show. */
async function virtualTime({ withVirtual }) {
  const title = 'Many jobs and many processes on one project, in virtual time'
  const missing = existsSync(join(ROOT, VIRTUAL_TIME.source)) ? undefined : `there is no ${VIRTUAL_TIME.source}`
  const why = missing ?? (withVirtual ? undefined : 'ask for it with --virtual; it compiles for minutes')
  if (why) return { title, lines: [notRun('the scarce bucket', why)] }
  const printed = await run(VIRTUAL_TIME.command, { PROVISION_VM_SCARCE_JOBS: '1000' })
  const figures = printed.split('\n').filter((text) => text.startsWith('{')).map((text) => JSON.parse(text))
  return { title, lines: figures.map(({ what, value, unit, atMost }) => line(what, { ours: value, unit, atMost })) }
}

/** How many random worlds the tests play in a second. */
async function seeds({ withSeeds }) {
  const title = 'Random worlds'
  if (!withSeeds) return { title, lines: [notRun('seeds a second', 'ask for it with --seeds; it compiles for minutes')] }
  const printed = await run(RANDOM_WORLDS, { PROVISION_VM_SEEDS: SEEDS })
  return { title, lines: [line(`of ${SEEDS} seeds, each played twice`, { ours: readRate(printed), unit: 'a second' })] }
}

/** `2000 seeds, each twice, in 12.3 s: 162.6 seeds a second` */
function readRate(printed) {
  const [, rate] = /: ([\d.]+) seeds a second/.exec(printed) ?? []
  if (!rate) throw new Error(`no rate in what the random worlds printed:\n${printed.slice(-2000)}`)
  return Number(rate)
}

function run([program, ...args], env) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
    let printed = ''
    child.stdout.on('data', (chunk) => (printed += chunk))
    child.on('error', reject)
    child.on('close', (code) =>
      code === 0 ? resolve(printed) : reject(new Error(`${program} ${args.join(' ')} ended with ${code}\n${printed.slice(-2000)}`)),
    )
  })
}

module.exports = { readRate, seeds, virtualTime }

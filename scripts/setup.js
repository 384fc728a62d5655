'use strict'

// Prepares a fresh clone: packages, native module, simulator. Cargo decides what is out of date.

const { spawn } = require('node:child_process')
const { existsSync } = require('node:fs')
const { join } = require('node:path')

const { devDependencies } = require('../package.json')
const { paint, seconds } = require('./support/display.js')

const ROOT = join(__dirname, '..')
const EXE = process.platform === 'win32' ? '.exe' : ''

/** Where `cargo build -p simulator` puts the local cloud. */
const SIMULATOR = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'debug', `simulator${EXE}`)

/** Everything that the demo, the tests and the benchmarks need. */
async function setUp() {
  const isInstalled = (name) => existsSync(join(ROOT, 'node_modules', name))
  if (!Object.keys(devDependencies).every(isInstalled)) {
    await step('Installing packages', 'npm', ['ci', '--no-audit', '--no-fund'])
  }
  await step('Building the native module', 'npm', ['run', 'build'])
  await step('Building the local cloud', 'cargo', ['build', '--package', 'simulator', '--locked'])
}

module.exports = { ROOT, SIMULATOR, setUp }

/** Runs one command behind one line; its output is shown only if it fails. */
async function step(title, command, args) {
  const began = performance.now()
  const stderr = process.stderr
  const style = paint(stderr.isTTY ? process.env : { NO_COLOR: '1' })
  let latest = ''
  const show = (mark, colour, note) => {
    const text = `${title}${note ? ` · ${note}` : ''}`.slice(0, (stderr.columns ?? 80) - 15)
    const time = style('dim', seconds(performance.now() - began).padStart(7))
    stderr.write(`${stderr.isTTY ? '\r\x1b[K' : ''}  ${style(colour, mark)} ${time}  ${text}`)
  }
  show('…', 'cyan')
  if (!stderr.isTTY) stderr.write('\n')
  const timer = stderr.isTTY && setInterval(() => show('…', 'cyan', latest), 200)
  try {
    await run(command, args, (line) => (latest = line))
    show('✔', 'green')
    stderr.write('\n')
  } catch (error) {
    show('✖', 'red')
    stderr.write(`\n\n${error.message}\n`)
    throw error
  } finally {
    clearInterval(timer)
  }
}

function run(command, args, onLine) {
  return new Promise((resolve, reject) => {
    // npm is a script on Windows, which only a shell starts.
    const options = { cwd: ROOT, shell: process.platform === 'win32', stdio: ['ignore', 'pipe', 'pipe'] }
    const child = spawn(command, args, options)
    let output = ''
    const take = (chunk) => {
      output += chunk
      onLine(chunk.toString().trim().split('\n').pop().trim())
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    child.on('error', (error) => reject(new Error(`${command} cannot be started: ${error.message}`)))
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`${output}\n${command} ${args.join(' ')} ended with code ${code}`)),
    )
  })
}

if (require.main === module) {
  setUp().catch(() => {
    process.exitCode = 1
  })
}

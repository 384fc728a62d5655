'use strict'

// The Next.js example as a user would have it: the package from tarballs, the app in a folder of its own.

const { execFile, spawn } = require('node:child_process')
const { cpSync, readFileSync, writeFileSync } = require('node:fs')
const { once } = require('node:events')
const { createInterface } = require('node:readline')
const path = require('node:path')
const { promisify } = require('node:util')

const { ROOT } = require('../../scripts/setup.js')

const SOURCE = path.join(ROOT, 'examples', 'nextjs')

const readJson = (file) => JSON.parse(readFileSync(file, 'utf8'))
const writeJson = (file, data) => writeFileSync(file, `${JSON.stringify(data, null, 2)}\n`)

/** Runs a program to its end. What it said is shown only if it failed. */
async function run(cwd, program, ...args) {
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', CI: '1', NO_COLOR: '1' }
  // The test runner's own settings are not for the programs that it starts.
  delete env.NODE_OPTIONS
  delete env.NODE_TEST_CONTEXT
  const options = { cwd, env, maxBuffer: 64 * 1024 * 1024, shell: process.platform === 'win32' }
  const { stdout } = await promisify(execFile)(program, args, options).catch(({ stdout, stderr, message }) => {
    throw new Error(`${message}\n${stdout}\n${stderr}`)
  })
  return stdout
}

/** Copies the app and installs it there. The tarballs, as `packAll` makes them, stand for what would come from the registry. */
async function install(directory, [platform, main]) {
  const app = path.join(directory, 'app')
  const isSource = (file) => !['node_modules', '.next', 'package-lock.json', 'next-env.d.ts'].includes(path.basename(file))
  cpSync(SOURCE, app, { recursive: true, filter: isSource })
  const manifest = readJson(path.join(app, 'package.json'))
  manifest.dependencies[main.name] = `file:${main.tarball}`
  manifest.overrides = { [platform.name]: `file:${platform.tarball}` }
  writeJson(path.join(app, 'package.json'), manifest)
  // As in the repository, where the app is below a folder that has a lock file too.
  writeJson(path.join(directory, 'package-lock.json'), { name: 'above', lockfileVersion: 3, packages: {} })
  await run(app, 'npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund')
  return app
}

/** The standalone server in a folder where nothing of the app is above it but itself. */
function deploy(directory, app) {
  const server = path.join(directory, 'server')
  // Links stay links: the folder has to be complete as it is.
  cpSync(path.join(app, '.next', 'standalone'), server, { recursive: true, verbatimSymlinks: true })
  // Next.js leaves these to a CDN.
  cpSync(path.join(app, '.next', 'static'), path.join(server, '.next', 'static'), { recursive: true })
  return server
}

/** Starts it, and waits until it says that it is ready. */
async function serve(server, settings, port) {
  const env = { PATH: process.env.PATH, NODE_ENV: 'production', HOSTNAME: '127.0.0.1', PORT: String(port), ...settings }
  const child = spawn(process.execPath, ['server.js'], { cwd: server, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const said = []
  let isReady = () => {}
  const ready = new Promise((resolve) => (isReady = resolve))
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      said.push(line)
      if (/Ready in/.test(line)) isReady()
    })
  }
  const ended = once(child, 'exit')
  await Promise.race([ready, ended.then(() => Promise.reject(new Error(`the app ended:\n${said.join('\n')}`)))])
  return {
    url: `http://127.0.0.1:${port}`,
    said,
    stop: (signal = 'SIGTERM') => {
      child.kill(signal)
      return ended
    },
  }
}

module.exports = { deploy, install, run, serve }

'use strict'

// The program of the local cloud: where it is, and how it is started.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { existsSync, readFileSync, statSync } = require('node:fs')
const path = require('node:path')
const { createInterface } = require('node:readline')

const { version } = require('../../package.json')

/** The package that brings the program, as an optional dependency for each platform. */
const PACKAGE = 'provision-vm-local-cloud'

/** What the program is called there, and in a clone. */
const PROGRAM = process.platform === 'win32' ? 'simulator.exe' : 'simulator'

/** How long a program may take to say where it listens, and to end when it is told to. It takes milliseconds. */
const PATIENCE_MS = 10_000

/** How much is kept of what the program complains of. */
const LONGEST_COMPLAINT = 4096

/** Why there is no local cloud, or why it does not do as it is told. */
class LocalCloudError extends Error {
  constructor(code, message, options) {
    super(message, options)
    this.name = 'LocalCloudError'
    this.code = code
  }
}

/** Finds it. Where it looks: `local-cloud.d.ts`. */
function findProgram() {
  const named = process.env.PROVISION_VM_SIMULATOR
  if (named) {
    if (existsSync(named)) return path.resolve(named)
    throw new LocalCloudError('NOT_INSTALLED', `PROVISION_VM_SIMULATOR names ${named}, and there is no such file`)
  }
  return programOfClone() ?? programOfPackage()
}

/** Starts the program and reads where it listens. Nothing of it holds this process back from then on, and it ends with this process. */
async function launch(options, signal) {
  const child = start(options)
  const complaint = collect(child.stderr)
  // It may be gone when its standard input is closed, or when it is told to end.
  for (const handle of [child, child.stdin]) handle.on('error', () => {})
  const over = new AbortController()
  const lines = createInterface({ input: child.stdout })
  try {
    const line = await Promise.race([
      once(lines, 'line', { signal: over.signal }).then(([line]) => line),
      failure(child, complaint, over.signal),
      late(signal, over.signal),
    ])
    for (const handle of [child, child.stdin, child.stdout, child.stderr]) handle.unref?.()
    return { child, complaint, greeting: greetingIn(line) }
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    over.abort()
  }
}

module.exports = { findProgram, launch, LocalCloudError, PATIENCE_MS, settingsOf }

/** In a clone of the repository Cargo builds it, of which the latest counts. */
function programOfClone() {
  const root = path.join(__dirname, '..', '..')
  if (!existsSync(path.join(root, 'simulator', 'Cargo.toml'))) return undefined
  const target = process.env.CARGO_TARGET_DIR ?? path.join(root, 'target')
  const built = ['release', 'debug'].map((profile) => path.join(target, profile, PROGRAM)).filter((file) => existsSync(file))
  return built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0]
}

function programOfPackage() {
  const { platform, arch } = process
  const kinds = { linux: isMusl() ? ['-musl', '-gnu'] : ['-gnu', '-musl'], darwin: [''], win32: ['-msvc'] }[platform]
  if (!kinds || !['x64', 'arm64'].includes(arch)) {
    const places = 'Linux, macOS and Windows on x64 and arm64'
    throw new LocalCloudError('NOT_SERVED', `there is no local cloud for ${platform}-${arch}, only for ${places}`)
  }
  const install = `npm install --save-dev ${PACKAGE}@${version}`
  // The app asks for it, and not this package, which stricter package managers than npm heed.
  const home = folderOf(PACKAGE, [__dirname, process.cwd()])
  if (!home) throw new LocalCloudError('NOT_INSTALLED', `the local cloud is not installed: ${install}`)
  const theirs = JSON.parse(readFileSync(path.join(home, 'package.json'), 'utf8')).version
  if (theirs !== version) {
    const warning = `provision-vm is ${version} and its local cloud ${theirs}: ${install}`
    process.emitWarning(warning, { type: 'ProvisionVMWarning', code: 'LOCAL_CLOUD_VERSION' })
  }
  const homes = kinds.map((kind) => folderOf(`${PACKAGE}-${platform}-${arch}${kind}`, [home]))
  const program = homes.map((folder) => folder && path.join(folder, PROGRAM)).find((file) => file && existsSync(file))
  if (program) return program
  const why = `the one for ${platform}-${arch} is an optional dependency. Install without --omit=optional, with a lock file that knows it`
  throw new LocalCloudError('NOT_INSTALLED', `the local cloud is installed without its program; ${why}: ${install}`)
}

function folderOf(name, paths) {
  try {
    return path.dirname(require.resolve(`${name}/package.json`, { paths }))
  } catch {
    return undefined
  }
}

function isMusl() {
  if (process.platform !== 'linux' || !process.report) return false
  // Else it looks up the names of all who are connected.
  process.report.excludeNetwork = true
  const report = process.report.getReport()
  return Boolean(report?.header) && report.header.glibcVersionRuntime === undefined
}

/**
 * In a process group of its own it does not hear Ctrl-C, which would take away the cloud that an undo needs. No setting of the app, and no
 * secret, is handed on.
 */
function start({ program, timeScale, seed, port }) {
  // It begins at this machine's time, so that whoever compares the two finds them equal.
  const epoch = Math.floor(Date.now() / 1000)
  const args = ['--port', port, '--seed', seed, '--epoch', epoch, '--time-scale', timeScale, '--exit-with-parent'].map(String)
  const env = process.env.SystemRoot ? { SystemRoot: process.env.SystemRoot } : {}
  try {
    return spawn(program, args, { detached: process.platform !== 'win32', windowsHide: true, env, stdio: 'pipe' })
  } catch (error) {
    throw notStarted(error)
  }
}

function notStarted(cause) {
  return new LocalCloudError('NOT_STARTED', `the program of the local cloud cannot be started: ${cause.message}`, { cause })
}

function collect(stream) {
  let text = ''
  stream.setEncoding('utf8').on('data', (chunk) => (text = (text + chunk).slice(0, LONGEST_COMPLAINT)))
  return () => text.trim()
}

/** Rejects if the program cannot be started, or ends before it has said anything. */
async function failure(child, complaint, signal) {
  let code
  try {
    // `close` and not `exit`: what it has said is read by then.
    const [status, by] = await once(child, 'close', { signal })
    code = by ?? `code ${status}`
  } catch (error) {
    if (signal.aborted) return
    throw notStarted(error)
  }
  throw new LocalCloudError('NOT_STARTED', `the program of the local cloud ended with ${code}: ${complaint() || 'it said nothing'}`)
}

/** Rejects if the caller gives up, or the program says nothing for too long. */
function late(given, over) {
  return new Promise((resolve, reject) => {
    const complain = () => reject(new LocalCloudError('NOT_STARTED', `the program of the local cloud said nothing for ${PATIENCE_MS} ms`))
    const timer = setTimeout(complain, PATIENCE_MS)
    const onAbort = () => reject(given.reason)
    given?.addEventListener('abort', onAbort, { once: true })
    over.addEventListener('abort', () => {
      clearTimeout(timer)
      given?.removeEventListener('abort', onAbort)
      resolve()
    })
  })
}

/** The settings that point the package at the clouds which a program has greeted with. */
function settingsOf({ hetzner, hetznerToken, sshKeyId, tailscale, tailscaleClientId, tailscaleClientSecret }) {
  return {
    HETZNER_API_URL: hetzner,
    HETZNER_API_TOKEN: hetznerToken,
    HETZNER_SSH_KEY_ID: sshKeyId,
    TAILSCALE_API_URL: tailscale,
    TAILSCALE_OAUTH_CLIENT_ID: tailscaleClientId,
    TAILSCALE_OAUTH_CLIENT_SECRET: tailscaleClientSecret,
  }
}

function greetingIn(line) {
  try {
    const greeting = JSON.parse(line)
    if (typeof greeting.url === 'string' && typeof greeting.hetznerToken === 'string') return greeting
  } catch {}
  throw new LocalCloudError('NOT_STARTED', `the program is no local cloud; it said: ${line.slice(0, 200)}`)
}

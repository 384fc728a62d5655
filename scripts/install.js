#!/usr/bin/env node
'use strict'

// Leaves a native module behind that can be loaded: the prebuilt one where there is one for this platform, else a build.
//
// The job that runs this holds secrets in later steps, so as little as can be runs here: no package's install script, and none of
// the packages that only development needs. A build does run the build scripts of the crates that Cargo.lock names by their hashes.

const { spawnSync } = require('node:child_process')
const { copyFileSync } = require('node:fs')
const { join } = require('node:path')

const { appendError } = require('./support/actions.js')

const ROOT = join(__dirname, '..')

try {
  install()
} catch (error) {
  console.error(`install: ${error.message}`)
  appendError(process.env, 'install', error.message)
  process.exitCode = 1
}

function install() {
  if (loads()) return console.log('The native module is there.')
  // As the lock file has it, and nothing else: a package that is not in there is not ours to trust.
  run('npm', ['ci', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund'])
  if (loads()) return console.log('The prebuilt native module is installed.')
  build()
  const problem = whyItDoesNotLoad()
  if (problem) throw new Error(`the native module was built and cannot be loaded: ${problem}`)
  console.log('The native module is built.')
}

function build() {
  const platform = platformName()
  if (!hasCargo()) {
    throw new Error(`there is no prebuilt native module for ${platform}, and no Rust (cargo) to build it with`)
  }
  const args = ['build', '--release', '--locked', '--package', 'provision-vm-native']
  const messages = run('cargo', [...args, '--message-format', 'json-render-diagnostics'])
  copyFileSync(libraryIn(messages), join(ROOT, `provision-vm.${platform}.node`))
}

/** Where cargo has put the library: it has many ways of being told. */
function libraryIn(messages) {
  const artifacts = messages.split('\n').filter(Boolean).map((line) => JSON.parse(line))
  const { filenames } = artifacts.findLast((it) => it.target?.name === 'provision_vm_native') ?? {}
  const library = filenames?.find((name) => /\.(?:so|dylib|dll)$/.test(name))
  if (!library) throw new Error('cargo built no library')
  return library
}

function loads() {
  return whyItDoesNotLoad() === undefined
}

/** Tried in a process of its own: what has failed to load once fails for ever in this one. */
function whyItDoesNotLoad() {
  const code = "require('./index.js').ProvisionError"
  const { status, stderr } = spawnSync(process.execPath, ['--eval', code], { cwd: ROOT, encoding: 'utf8' })
  if (status === 0) return undefined
  return stderr.split('\n').find((line) => line.includes('Error')) ?? `code ${status}`
}

function hasCargo() {
  return spawnSync('cargo', ['--version'], { stdio: 'ignore' }).status === 0
}

/** Runs a command, which a person can follow on standard error, and returns what it says on standard output. */
function run(command, args) {
  console.log(`$ ${command} ${args.join(' ')}`)
  const options = {
    cwd: ROOT,
    env: withoutTickets(process.env),
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: Infinity,
    // npm is a script on Windows, which only a shell starts.
    shell: process.platform === 'win32',
  }
  const { status, signal, error, stdout } = spawnSync(command, args, options)
  if (error) throw new Error(`${command} cannot be started: ${error.message}`)
  if (status !== 0) throw new Error(`${command} ${args[0]} ended with ${signal ?? `code ${status}`}; what it said stands above`)
  return stdout
}

/** The environment without what GitHub lets a job ask for in its name: no build has any business with that. */
function withoutTickets(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^ACTIONS_.*(?:TOKEN|URL)/.test(name)))
}

/** The platform as the names of the modules have it. */
function platformName() {
  const { platform, arch } = process
  const isGnu = () => process.report.getReport().header.glibcVersionRuntime !== undefined
  const abi = { linux: () => (isGnu() ? '-gnu' : '-musl'), win32: () => '-msvc' }[platform]
  return `${platform}-${arch}${abi?.() ?? ''}`
}

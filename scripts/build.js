#!/usr/bin/env node
'use strict'

// Builds the native module as it is shipped: optimised, and on Linux the same bytes wherever the sources lie. What follows on the command line goes to
// `napi build`, such as `--target aarch64-unknown-linux-gnu --use-napi-cross`.

const { spawnSync } = require('node:child_process')
const { existsSync, readdirSync } = require('node:fs')
const { homedir } = require('node:os')
const path = require('node:path')

const { ROOT } = require('./setup.js')

const NAPI = path.join(ROOT, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js')
const ARGS = [
  ...['build', '--platform', '--release', '--package', 'provision-vm-native'],
  ...['--manifest-path', 'native/Cargo.toml', '--package-json-path', 'package.json'],
  ...['--output-dir', '.', '--no-js', '--dts', 'native.d.ts'],
]

const CARGO = process.env.CARGO_HOME ?? path.join(homedir(), '.cargo')

/** Messages of panics name source files. Of two that fit, rustc takes the later one. */
const NEUTRAL = [
  [ROOT, '/provision-vm'],
  [path.resolve(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target')), '/target'],
  [CARGO, '/cargo'],
  ...registries().map((registry) => [registry, '/cargo']),
]

/** Where Cargo unpacks crates: below a name that it makes of the registry's. They have to be there before it is known. */
function registries() {
  spawnSync('cargo', ['fetch', '--locked'], { cwd: ROOT, stdio: 'inherit' })
  const folder = path.join(CARGO, 'registry', 'src')
  return existsSync(folder) ? readdirSync(folder).map((name) => path.join(folder, name)) : []
}

// One variable for all flags: napi adds its own for some targets. A path with a space in it cannot stand there, and is left as it is.
const remaps = NEUTRAL.filter(([from]) => !/\s/.test(from)).map(([from, to]) => `--remap-path-prefix=${from}=${to}`)
const flags = (variable, blank) => ({ [variable]: [process.env[variable], ...remaps].filter(Boolean).join(blank) })
// Cargo heeds the second alone where it is set.
const added = process.env.CARGO_ENCODED_RUSTFLAGS ? flags('CARGO_ENCODED_RUSTFLAGS', '\x1f') : flags('RUSTFLAGS', ' ')

const { status, error } = spawnSync(process.execPath, [NAPI, ...ARGS, ...process.argv.slice(2)], {
  cwd: ROOT,
  env: { ...process.env, ...added },
  stdio: 'inherit',
})
if (error) console.error(`build: ${error.message}`)
process.exitCode = status ?? 1

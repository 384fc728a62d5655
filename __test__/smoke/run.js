#!/usr/bin/env node
'use strict'

// Installs the tarballs of a release in an empty folder, and does there what an app does (`smoke.mjs`), against a local cloud. For each platform
// of a release; needs Node.js and npm alone.
//
//   node __test__/smoke/run.js FOLDER SIMULATOR      the folder of the tarballs, and the program of the local cloud

const { execFileSync } = require('node:child_process')
const { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')

const { version } = require('../../package.json')
const { startCloud } = require('../support/simulator.js')

/** Longer than it takes anywhere, many times. */
const PATIENCE_MS = 120_000

main(...process.argv.slice(2).map((it) => path.resolve(it))).catch((error) => {
  console.error(`smoke: ${error.message}`)
  process.exitCode = 1
})

async function main(tarballs, simulator) {
  const app = mkdtempSync(path.join(tmpdir(), 'provision-vm-smoke-'))
  let cloud
  try {
    cloud = await startCloud({ program: simulator })
    install(app, tarballs)
    copyFileSync(path.join(__dirname, 'smoke.mjs'), path.join(app, 'smoke.mjs'))
    const env = { ...process.env, ...cloud.env() }
    execFileSync(process.execPath, ['smoke.mjs'], { cwd: app, env, stdio: 'inherit', timeout: PATIENCE_MS })
    console.log(`provision-vm ${version} works on ${process.platform}-${process.arch}, Node.js ${process.versions.node}`)
  } finally {
    await cloud?.stop()
    rmSync(app, { recursive: true, force: true })
  }
}

/** The package and what is there for this platform: of the two for Linux, the one whose libc fits. */
function install(app, tarballs) {
  writeFileSync(path.join(app, 'package.json'), '{ "private": true }')
  const fits = (name) => name === `provision-vm-${version}.tgz` || name.startsWith(`provision-vm-${process.platform}-${process.arch}`)
  const isOfOtherLibc = (name) => process.platform === 'linux' && name.includes(isGnu() ? '-musl-' : '-gnu-')
  const files = readdirSync(tarballs).filter((name) => name.endsWith('.tgz') && fits(name) && !isOfOtherLibc(name))
  if (files.length !== 2) throw new Error(`there are no tarballs for this platform in ${tarballs}: ${files.join(', ') || 'none'}`)
  const args = ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', ...files.map((name) => path.join(tarballs, name))]
  // npm is a script on Windows, which only a shell starts.
  execFileSync('npm', args, { cwd: app, stdio: 'inherit', shell: process.platform === 'win32' })
}

function isGnu() {
  return process.report.getReport().header.glibcVersionRuntime !== undefined
}

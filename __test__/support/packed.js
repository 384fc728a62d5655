'use strict'

// The package as npm hands it out: packed, and installed in an app of its own.

const { execFileSync } = require('node:child_process')
const { writeFileSync } = require('node:fs')
const path = require('node:path')

const { packAll } = require('../../scripts/pack.js')

function npm(args, cwd) {
  // npm is a script on Windows, which only a shell starts.
  const options = { cwd, shell: process.platform === 'win32', encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }
  return execFileSync('npm', [...args, '--no-audit', '--no-fund'], options)
}

/** Installs it in an empty folder, from the tarballs that a release would publish. */
function installPacked(folder) {
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }')
  const packed = packAll({ out: path.join(folder, 'packages') })
  npm(['install', '--offline', '--ignore-scripts', ...packed.map(({ tarball }) => tarball)], folder)
  return packed
}

module.exports = { npm, installPacked }

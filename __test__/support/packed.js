'use strict'

// The package as npm hands it out: packed, and installed in an app of its own.

const { execFileSync } = require('node:child_process')
const { copyFileSync, mkdirSync, readdirSync, writeFileSync } = require('node:fs')
const path = require('node:path')

const { ROOT } = require('../../scripts/setup.js')

function npm(args, cwd) {
  // npm is a script on Windows, which only a shell starts.
  const options = { cwd, shell: process.platform === 'win32', encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }
  return execFileSync('npm', [...args, '--no-audit', '--no-fund'], options)
}

/** Packs the package into a folder: the tarball, and the names of the files in it. */
function pack(folder) {
  const [{ filename, files }] = JSON.parse(npm(['pack', '--json', '--pack-destination', folder], ROOT))
  return { tarball: path.join(folder, filename), files: files.map((file) => file.path).sort() }
}

/** Installs it in an empty folder, with the native module that was built here in a package of its own, as on release. */
function installPacked(folder) {
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }')
  npm(['install', '--offline', '--ignore-scripts', pack(folder).tarball], folder)
  for (const module of readdirSync(ROOT).filter((file) => file.endsWith('.node'))) {
    const name = path.parse(module).name.replace('.', '-')
    const home = path.join(folder, 'node_modules', name)
    mkdirSync(home)
    copyFileSync(path.join(ROOT, module), path.join(home, module))
    writeFileSync(path.join(home, 'package.json'), JSON.stringify({ name, version: require('../../package.json').version, main: module }))
  }
}

module.exports = { npm, pack, installPacked }

#!/usr/bin/env node
'use strict'

// Builds the native module once more, from a copy of the sources in another place, with a target folder and a home of Cargo's of other names, and
// compares it with the one that stands here. Whoever trusts these sources can so find out whether a published module was made of them.

const { execFileSync, spawnSync } = require('node:child_process')
const { createHash } = require('node:crypto')
const { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } = require('node:fs')
const { homedir, tmpdir } = require('node:os')
const path = require('node:path')

const { ROOT } = require('./setup.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-again-'))
try {
  main()
} finally {
  rmSync(folder, { recursive: true })
}

function main() {
  const own = `provision-vm.${process.platform}-${process.arch}`
  const module = readdirSync(ROOT).find((name) => name.startsWith(own) && name.endsWith('.node'))
  if (!module) throw new Error('there is no native module of this platform here; npm run build makes it')
  const copy = copySources(path.join(folder, 'sources'))
  const home = path.join(folder, 'cargo')
  symlinkSync(process.env.CARGO_HOME ?? path.join(homedir(), '.cargo'), home)
  const env = { ...process.env, CARGO_HOME: home, CARGO_TARGET_DIR: path.join(folder, 'built') }
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/build.js'], { cwd: copy, env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`the second build failed:\n${stdout}\n${stderr}`)
  const [here, again] = [ROOT, copy].map((place) => hash(path.join(place, module)))
  console.log(`${here}  ${module}\n${again}  the same, built again elsewhere`)
  if (here !== again) throw new Error('the two builds differ')
}

/** What git has of this folder, as it is now. */
function copySources(to) {
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' }).split('\0').filter(Boolean)
  for (const file of files.filter((file) => existsSync(path.join(ROOT, file)))) {
    mkdirSync(path.dirname(path.join(to, file)), { recursive: true })
    copyFileSync(path.join(ROOT, file), path.join(to, file))
  }
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(to, 'node_modules'))
  return to
}

function hash(file) {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}

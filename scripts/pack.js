#!/usr/bin/env node
'use strict'

// Packs what is published: the package, one for each platform of which there is a native module, and the local cloud for users' tests.

const { execFileSync } = require('node:child_process')
const { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')

const manifest = require('../package.json')
const { ROOT } = require('./setup.js')
const { linkedCrates, notices } = require('./packing/notices.js')
const { sbom } = require('./packing/sbom.js')
const { shrink } = require('./packing/shrink.js')

const NAPI = path.join(ROOT, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js')

/** How large a tarball may be as it is published, in bytes. */
const LIMITS = { main: 100_000, platform: 2_000_000 }

/** Where tarballs go if nobody says so. */
const PACKAGES = path.join(ROOT, 'target', 'packages')

/** What package.json says to those who work on it alone. */
const OWN_FIELDS = ['scripts', 'devDependencies', 'overrides', 'napi']

/** What says that a folder was made here. */
const MARK = '.packages'

const HELP = `Usage: node scripts/pack.js [--modules FOLDER] [--programs FOLDER] [--out FOLDER] [--all]

Packs what is published into tarballs, each of a platform beside a bill of materials, and prints their sizes. Fails if one is too large of
those whose size is known: the package, and what is for Linux x64 with glibc.

  --modules FOLDER  where the native modules are; this folder if absent
  --programs FOLDER where the programs of the local cloud are, named such as simulator.x86_64-unknown-linux-gnu; without it, the
                    one that \`cargo build --release --package simulator\` has made, if there is one
  --out FOLDER      where tarballs go, in place of those of before; target/packages if absent
  --all             fail if a platform has no module, or no program where a folder of them is given, as a release does
`

async function main() {
  // It needs what this file exports.
  const { packLocalCloud } = require('./packing/local-cloud.js')
  const text = { type: 'string' }
  const { values } = parseArgs({
    options: { modules: text, programs: text, out: text, all: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) return process.stdout.write(HELP)
  const { modules, programs, out, all: isComplete } = values
  const tarballs = [...packAll({ modules, out, isComplete }), ...packLocalCloud({ programs, out, isComplete })]
  for (const tarball of tarballs) {
    const { name, bytes, limit } = await shrink(tarball)
    const isKnown = !/-(linux|darwin|win32)-/.test(name) || name.endsWith('-linux-x64-gnu')
    const verdict = bytes <= limit ? 'PASS' : isKnown ? 'FAIL' : 'OVER'
    const [size, most] = [bytes, limit].map((it) => it.toLocaleString('en'))
    console.log(`${verdict}  ${name.padEnd(42)} ${size.padStart(9)} bytes packed, at most ${most}`)
    if (verdict === 'FAIL') process.exitCode = 1
  }
}

/**
 * Packs all packages, and says of each what it is called, where its tarball is, how large, and which files are in it. The main one
 * comes last, as it has to be published. They have their last size only when `shrink` was at them.
 */
function packAll({ modules = ROOT, out: to = PACKAGES, isComplete = false } = {}) {
  const out = path.resolve(to)
  empty(out)
  const platforms = platformFolders(path.join(out, 'npm'))
  const missing = platforms.filter(({ module }) => !existsSync(path.join(modules, module)))
  if (isComplete && missing.length > 0) throw new Error(`there is no native module for ${missing.map(({ name }) => name).join(', ')}`)
  const packed = platforms
    .filter((platform) => !missing.includes(platform))
    .map((platform) => ({ limit: LIMITS.platform, ...packPlatform(platform, modules, out) }))
  return [...packed, { limit: LIMITS.main, ...packMain(platforms, out) }]
}

/** Removes what was packed there before. What is there without our mark is not ours to remove. */
function empty(folder) {
  mkdirSync(folder, { recursive: true })
  const there = readdirSync(folder)
  if (there.length > 0 && !there.includes(MARK)) throw new Error(`${folder} is not a folder of packages: it has ${there[0]}`)
  rmSync(folder, { recursive: true })
  mkdirSync(folder)
  writeFileSync(path.join(folder, MARK), 'What is here is removed when packages are made anew.\n')
}

/** The packages of all platforms, by the targets in package.json, as napi makes them. */
function platformFolders(folder) {
  mkdirSync(folder)
  // It stays below the folder that it is started in, which has to have a package.json.
  const above = path.dirname(folder)
  copyFileSync(path.join(ROOT, 'package.json'), path.join(above, 'package.json'))
  execFileSync(process.execPath, [NAPI, 'create-npm-dirs', '--npm-dir', path.basename(folder)], { cwd: above, stdio: 'pipe' })
  rmSync(path.join(above, 'package.json'))
  const targetOf = (home) => /\*\*(\S+)\*\* binary/.exec(readFileSync(path.join(home, 'README.md'), 'utf8'))[1]
  return readdirSync(folder).map((platform) => {
    const home = path.join(folder, platform)
    const own = JSON.parse(readFileSync(path.join(home, 'package.json'), 'utf8'))
    return { home, own, name: own.name, module: own.main, target: targetOf(home) }
  })
}

function packPlatform({ home, own, module, target }, modules, out) {
  copyFileSync(path.join(modules, module), path.join(home, module))
  copyFileSync(path.join(ROOT, 'LICENSE'), path.join(home, 'LICENSE'))
  const crates = linkedCrates(target)
  writeFileSync(path.join(home, 'THIRD-PARTY-NOTICES.md'), `${notices(target, crates)}\n`)
  writeFileSync(path.join(out, `${own.name}-${own.version}.cdx.json`), `${JSON.stringify(sbom(own, crates), null, 2)}\n`)
  writeManifest(home, { ...own, type: manifest.type, files: [module, 'THIRD-PARTY-NOTICES.md'], ...source() })
  return npmPack(home, out)
}

/** The main package asks for the modules of its very version, of which npm takes the one that fits. */
function packMain(platforms, out) {
  const home = path.join(out, manifest.name)
  const [{ files }] = JSON.parse(npm(['pack', '--dry-run', '--json'], ROOT))
  for (const { path: file } of files) {
    mkdirSync(path.join(home, path.dirname(file)), { recursive: true })
    copyFileSync(path.join(ROOT, file), path.join(home, file))
  }
  const published = Object.fromEntries(Object.entries(manifest).filter(([field]) => !OWN_FIELDS.includes(field)))
  const optionalDependencies = Object.fromEntries(platforms.map(({ name }) => [name, manifest.version]))
  writeManifest(home, { ...published, optionalDependencies, ...source() })
  return npmPack(home, out)
}

/** Where the sources are: npm compares it with what a release's provenance says. */
function source() {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: repository } = process.env
  if (!server || !repository) return {}
  const home = `${server}/${repository}`
  return { homepage: `${home}#readme`, bugs: `${home}/issues`, repository: { type: 'git', url: `git+${home}.git` } }
}

function writeManifest(home, it) {
  writeFileSync(path.join(home, 'package.json'), `${JSON.stringify(it, null, 2)}\n`)
}

function npmPack(home, out) {
  const [{ name, filename, size, files }] = JSON.parse(npm(['pack', '--json', '--pack-destination', out], home))
  return { name, tarball: path.join(out, filename), bytes: size, files: files.map((file) => file.path).sort() }
}

function npm(args, cwd) {
  // npm is a script on Windows, which only a shell starts.
  const options = { cwd, shell: process.platform === 'win32', encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }
  return execFileSync('npm', [...args, '--ignore-scripts'], options)
}

module.exports = { packAll, platformFolders, writeManifest, npmPack, source, MARK, PACKAGES }

if (require.main === module) main()

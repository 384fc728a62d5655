'use strict'

// What is linked into a native module, and the licences of all that, as text to go with it.

const { execFileSync } = require('node:child_process')
const { createHash } = require('node:crypto')
const { readdirSync, readFileSync, statSync } = require('node:fs')
const path = require('node:path')

const { ROOT } = require('../setup.js')

/** What is called after licences and is none. */
const CODE = /\.(?:rs|js|ts|py|sh|c|h)$/

/** Crates that bring no text, and the npm package of the same repository that does. */
const ELSEWHERE = new Map([
  ['napi', '@napi-rs/cli'],
  ['napi-sys', '@napi-rs/cli'],
])

const LICENCE_FILE = /^(?:licen[cs]e|copying|copyright|notice|unlicense)(?:[-._].*)?$/i

/**
 * The notices for what is built for a target, such as `x86_64-unknown-linux-gnu`, and these crates are linked into: the module, or another
 * `product` (its name, and a word for it). A crate that brings no text is an error.
 */
function notices(target, crates, { name, word } = { name: 'provision-vm', word: 'module' }) {
  const texts = new Map()
  for (const crate of crates) {
    for (const text of licenceTexts(crate)) {
      const known = texts.get(fingerprint(text))
      if (known) known.crates.push(crate)
      else texts.set(fingerprint(text), { text, crates: [crate] })
    }
  }
  // Alike ones side by side: within a packer's window they cost next to nothing.
  const sorted = [...texts.values()].sort((a, b) => (a.text < b.text ? -1 : 1))
  return [
    `# What is linked into ${name} for ${target}`,
    `The ${word} is made of provision-vm itself (MIT, see LICENSE), of the standard library of Rust (MIT or Apache-2.0,
https://www.rust-lang.org; the texts are those of libc, which is of the same authors)${target.includes('musl') ? ', of musl (MIT, https://musl.libc.org)' : ''}, and of these crates. Their texts follow, each once.`,
    crates.map(({ name, version, license, repository }) => `- ${name} ${version}: ${license}${repository ? `, ${repository}` : ''}`).join('\n'),
    ...sorted.map(({ text, crates }) => `## ${crates.map(({ name }) => name).join(', ')}\n\n\`\`\`\`text\n${text}\n\`\`\`\``),
  ].join('\n\n')
}

/** What Cargo links into a package for a target: no build scripts, no macros, nothing of the tests. */
function linkedCrates(target, product = 'provision-vm-native') {
  const of = ['--package', product, '--edges', 'normal,no-proc-macro', '--target', target]
  const tree = cargo(['tree', ...of, '--prefix', 'none', '--format', '{p}'])
  const lines = new Set(tree.split('\n').map((line) => line.split(' ').slice(0, 2).join(' ')).filter(Boolean))
  const { packages } = JSON.parse(cargo(['metadata', '--format-version', '1', '--filter-platform', target]))
  // Of the workspace are those that come from nowhere else.
  const linked = packages.filter(({ name, version, source }) => source && lines.has(`${name} v${version}`))
  const unnamed = linked.find(({ license }) => !license)
  if (unnamed) throw new Error(`${unnamed.name} ${unnamed.version} names no licence`)
  return linked.sort((a, b) => a.name.localeCompare(b.name, 'en') || a.version.localeCompare(b.version, 'en'))
}

function licenceTexts({ name, version, license_file: named, manifest_path: manifest }) {
  const folder = ELSEWHERE.has(name) ? path.join(ROOT, 'node_modules', ELSEWHERE.get(name)) : path.dirname(manifest)
  // Also of what a crate has taken over from others, which lies further down.
  const files = readdirSync(folder, { recursive: true }).filter((file) => LICENCE_FILE.test(path.basename(file)) || file === named)
  const texts = files.map((file) => path.join(folder, file)).filter((file) => statSync(file).isFile() && !CODE.test(file))
  if (texts.length === 0) throw new Error(`${name} ${version} brings no text of its licence`)
  return texts.map((file) => readFileSync(file, 'utf8').trim())
}

/** The same text in other lines is the same text. */
function fingerprint(text) {
  return createHash('sha256').update(text.replace(/\s+/g, ' ')).digest('hex')
}

function cargo(args) {
  return execFileSync('cargo', [...args, '--locked'], { cwd: ROOT, encoding: 'utf8', maxBuffer: Infinity, stdio: ['ignore', 'pipe', 'inherit'] })
}

module.exports = { linkedCrates, notices }

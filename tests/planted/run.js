#!/usr/bin/env node
'use strict'

// Builds a copy of the tree with every planted defect in it, switches them on one by one, and shows which invariant catches
// each, in how many runs. `node tests/planted/run.js [--check] [--runs N] [name ...]`

const { execFileSync, spawnSync } = require('node:child_process')
const { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } = require('node:fs')
const path = require('node:path')

const bugs = require('./bugs.js')

const ROOT = path.join(__dirname, '..', '..')
const TARGET = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target')
const TREE = path.join(TARGET, 'planted')

const HELP = `Switches planted defects on one by one and shows which invariant catches each.

Usage: node tests/planted/run.js [--check] [--runs N] [name ...]

  --check    only see that every defect can still be planted, and compiles
  --runs N   random worlds for each defect (default 2000)
  name ...   only these defects; those known are
             ${bugs.map(({ name }) => name).join(', ')}

Exit code 1 if a defect cannot be planted or is not caught by one of its invariants, or if a change does harm that must do none.
`

main(process.argv.slice(2))

function main(args) {
  const { check, runs, names, help } = read(args)
  if (help) return process.stdout.write(HELP)
  plant()
  if (check) {
    cargo(['check', '--no-default-features', '--lib', '--quiet'], 'inherit')
    return console.log(`${bugs.length} changes can be planted.`)
  }
  const programs = build()
  for (const suite of Object.keys(programs)) {
    const sound = hunt(programs, { name: '', suite }, runs)
    if (sound.caught === 0) continue
    console.error(`Without any defect ${suite} complains: ${JSON.stringify(sound)}`)
    process.exitCode = 1
    return
  }
  const chosen = names.length > 0 ? bugs.filter(({ name }) => names.includes(name)) : bugs
  let [caught, defects] = [0, 0]
  console.log(`${'defect'.padEnd(28)}${'runs'.padStart(6)}${'caught'.padStart(8)}  by`)
  for (const bug of chosen) {
    const found = hunt(programs, bug, runs)
    const isHarmless = bug.caughtBy.length === 0
    const isRight = isHarmless ? Object.keys(found.by).every((invariant) => bug.tolerates.includes(invariant)) : bug.caughtBy.some((invariant) => found.by[invariant] > 0)
    if (!isRight) process.exitCode = 1
    if (!isHarmless) [caught, defects] = [caught + isRight, defects + 1]
    const by = Object.entries(found.by).map(([invariant, count]) => `${invariant} ×${count}`)
    const wanted = isRight ? '' : `  ✖ wanted ${bug.caughtBy.join(' or ') || 'no other'}`
    console.log(`${bug.name.padEnd(28)}${String(found.runs).padStart(6)}${String(found.caught).padStart(8)}  ${by.join(', ') || 'nobody'}${wanted}`)
  }
  console.log(`\n${caught} of ${defects} planted defects are caught by an invariant of theirs.`)
}

function read(args) {
  const options = { check: false, runs: 2000, names: [], help: false }
  for (let at = 0; at < args.length; at += 1) {
    if (args[at] === '--check') options.check = true
    else if (args[at] === '--runs') options.runs = Number(args[(at += 1)])
    else if (bugs.some(({ name }) => name === args[at])) options.names.push(args[at])
    else options.help = true
  }
  return options
}

/** Copies the tree and plants every defect in it, each behind its name. */
function plant() {
  const files = execFileSync('git', ['ls-files', '-z', 'src', 'tests', 'bench/hot', 'native', 'simulator', 'docs/errors', 'build.rs', 'Cargo.toml', 'Cargo.lock'], { cwd: ROOT })
  rmSync(TREE, { recursive: true, force: true })
  for (const file of files.toString().split('\0').filter(Boolean)) {
    mkdirSync(path.dirname(path.join(TREE, file)), { recursive: true })
    cpSync(path.join(ROOT, file), path.join(TREE, file))
  }
  const touched = new Set()
  for (const { name, edits } of bugs) {
    for (const [file, find, replace] of edits) {
      const text = readFileSync(path.join(TREE, file), 'utf8')
      const parts = text.split(find)
      if (parts.length !== 2) {
        throw new Error(`${name}: ${file} has ${parts.length - 1} places, not one, that read\n${find}`)
      }
      writeFileSync(path.join(TREE, file), parts.join(replace))
      touched.add(file)
    }
  }
  const use = '#[allow(unused_imports)]\nuse crate::planted;\n'
  for (const file of touched) {
    const text = readFileSync(path.join(TREE, file), 'utf8')
    // Behind the comment that heads the file.
    const at = text.search(/^(?!\/\/!)/m)
    writeFileSync(path.join(TREE, file), `${text.slice(0, at)}${use}${text.slice(at)}`)
  }
  const lib = path.join(TREE, 'src', 'lib.rs')
  writeFileSync(lib, `${readFileSync(lib, 'utf8')}
#[allow(missing_docs, clippy::disallowed_methods)]
pub fn planted(name: &str) -> bool {
    static ON: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    ON.get_or_init(|| std::env::var("PROVISION_VM_PLANTED").unwrap_or_default()) == name
}
`)
}

/** Builds the suites of the planted tree; returns the program of each. */
function build() {
  const args = ['test', '--no-default-features', '--test', 'worlds', '--test', 'matrix', '--no-run', '--message-format', 'json', '--quiet']
  const output = cargo(args, 'pipe')
  const built = output.toString().split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  const tests = built.filter(({ executable, target }) => executable && target.kind.includes('test'))
  return Object.fromEntries(tests.map(({ executable, target }) => [target.name, executable]))
}

/** The target folder is shared, for the sake of the dependencies. */
function cargo(args, stdout) {
  const env = { ...process.env, CARGO_TARGET_DIR: TARGET }
  try {
    return execFileSync('cargo', args, { cwd: TREE, env, stdio: ['ignore', stdout, 'inherit'], maxBuffer: 1 << 28 })
  } finally {
    forget()
  }
}

/** To cargo the copy is the same package, so it would take what was built of it for what the tree needs. */
function forget() {
  const fingerprints = path.join(TARGET, 'debug', '.fingerprint')
  for (const name of readdirSync(fingerprints).filter((name) => /^(simulator|provision-vm)-/.test(name))) {
    rmSync(path.join(fingerprints, name), { recursive: true, force: true })
  }
}

/** Runs a suite with one defect: how many runs there were, how many were caught, and by which invariants. */
function hunt(programs, { name, suite = 'worlds', says = {} }, runs) {
  const filter = suite === 'worlds' ? ['hunt', '--ignored'] : ['every_single_fault']
  const env = { ...process.env, PROVISION_VM_PLANTED: name, PROVISION_VM_SEEDS: String(runs), PROVISION_VM_SHOW: '100000', RUST_BACKTRACE: '0' }
  const { stdout, stderr } = spawnSync(programs[suite], [...filter, '--nocapture'], { cwd: TREE, env, maxBuffer: 1 << 28 })
  const said = stdout.toString()
  const line = said.split('\n').find((line) => line.startsWith('{'))
  if (line) return JSON.parse(line)
  const [, all, wrong] = /^single faults: (\d+) runs, (\d+) wrong$/m.exec(said) ?? []
  if (all === undefined) throw new Error(`${name || 'no defect'}: the suite said nothing\n${said}`)
  const by = {}
  for (const wrongRun of stderr.toString().split(/^\* /m).slice(1)) {
    const complaints = wrongRun.split('\n').map((line) => line.trim())
    for (const [invariant, pattern] of Object.entries(says)) {
      if (complaints.some((line) => pattern.test(line))) by[invariant] = (by[invariant] ?? 0) + 1
    }
  }
  return { runs: Number(all), caught: Number(wrong), by }
}

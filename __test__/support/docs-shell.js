'use strict'

// What a block of shell asks for, and whether it is there.

const { spawnSync } = require('node:child_process')
const { existsSync, readFileSync, readdirSync } = require('node:fs')
const path = require('node:path')

const { ROOT, SIMULATOR } = require('../../scripts/setup.js')

/** Programs of others that a page may call, with what may stand behind them. */
const OTHERS = {
  bash: /^-n /,
  cp: /./,
  git: /^(clone|tag|push|switch|pull|status|diff) /,
  openssl: /^rand -hex \d+$/,
  cd: /./,
  export: /^\w+=/,
  // Hetzner's own; `official-clients.test.js` has it speak to the local cloud.
  hcloud: /^server (list|describe|delete) /,
  jq: /^-r /,
}
const CARGO = ['build', 'test', 'run', 'bench', 'fmt', 'clippy', 'install', 'mutants', 'doc', 'tree', 'check', 'deny']

/** What is wrong with a block of shell, in words. */
function shellFaults(code) {
  const { status, stderr } = spawnSync('bash', ['-n'], { input: code, encoding: 'utf8' })
  if (status !== 0) return [stderr.trim()]
  return commands(code).map(([program, ...args]) => commandFault(program, args)).filter(Boolean)
}

/** The simple commands of a text: arrays of words, without assignments in front and redirections behind. */
function commands(code) {
  const plain = code.replace(/\\\n/g, ' ')
  const words = plain.match(/\n|&&|\|\||[;|&()]|#[^\n]*|\d?[<>]+&?|(?:[^\s;|&()<>'"\\#]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|(?<=\S)#)+/g) ?? []
  const all = [[]]
  let isTarget = false
  for (const word of words) {
    if (/^(\n|&&|\|\||[;|&()])$/.test(word)) all.push([])
    else if (/^\d?[<>]+&?$/.test(word)) isTarget = true
    else if (isTarget) isTarget = false
    else if (!word.startsWith('#')) all.at(-1).push(word.replace(/^(['"])(.*)\1$/s, '$2'))
  }
  return all.map((command) => command.slice(command.findIndex((word) => !/^\w+=/.test(word)) >>> 0)).filter((command) => command.length > 0)
}

function commandFault(program, args) {
  const rest = args.join(' ')
  switch (program) {
    case 'npm':
      return npmFault(args)
    case 'npx':
      return args[0] === 'provision-vm' ? cliFault(args.slice(1)) : `npx ${args[0]} is no program of this repository`
    case 'node':
      return nodeFault(args)
    case 'cargo':
      return cargoFault(args)
    case 'xargs':
      return args[0] === '-n' ? commandFault(args[2], args.slice(3)) : `nobody has looked at: xargs ${rest}`
  }
  if (program.includes('/')) return existsSync(path.join(ROOT, program)) ? undefined : `there is no ${program}`
  if (!OTHERS[program]) return `what is ${program}?`
  return OTHERS[program].test(`${rest}`) ? undefined : `nobody has looked at: ${program} ${rest}`
}

function npmFault([command, ...args]) {
  const { scripts } = require('../../package.json')
  if (['ci', 'install', 'version', 'pack'].includes(command)) return undefined
  const name = command === 'run' ? args.find((arg) => !arg.startsWith('-')) : command === 'test' ? 'test' : undefined
  if (name === undefined) return `nobody has looked at: npm ${command}`
  return scripts[name] ? undefined : `package.json has no script ${name}`
}

/** What a program of ours says of itself, if it does. */
function helpOf(file) {
  const text = readFileSync(path.join(ROOT, file), 'utf8')
  // One without a manual would begin its work.
  if (!/^(?: \*|\/\/)?.*Usage: /m.test(text)) return text
  return spawnSync(process.execPath, [path.join(ROOT, file), '--help'], { encoding: 'utf8', cwd: ROOT, timeout: 20_000 }).stdout
}

/** What of these arguments a manual does not name. */
function unnamed(args, manual) {
  const isNamed = (word) => new RegExp(`(?<![\\w-])${word.replace(/[^\w]/g, '\\$&')}(?![\\w-])`).test(manual)
  return args.filter((arg) => arg.startsWith('-') && arg !== '--help').map((arg) => arg.split('=')[0]).filter((flag) => !isNamed(flag))
}

function nodeFault(args) {
  if (args[0] === '--test') {
    const without = args.slice(1).filter((arg) => !arg.startsWith('--test-'))
    const missing = without.find((pattern) => !matches(pattern))
    return missing && `there is no ${missing}`
  }
  const at = args.findIndex((arg) => !arg.startsWith('-'))
  const file = args[at]
  if (file === undefined || !existsSync(path.join(ROOT, file))) return `there is no ${file}`
  const [unknown] = unnamed(args.slice(at + 1), helpOf(file))
  if (unknown) return `${file} knows no ${unknown}`
  const command = args[at + 1]
  if (file !== 'scripts/callback.js' || !command || command.startsWith('-')) return undefined
  return new RegExp(`^ {2}${command} `, 'm').test(helpOf(file)) ? undefined : `${file} has no command ${command}`
}

/** Whether there are files of a pattern in which only names hold stars. */
function matches(pattern) {
  const { dir, base } = path.parse(pattern)
  const folder = path.join(ROOT, dir)
  const fits = new RegExp(`^${base.replace(/[.]/g, '\\.').replace(/\*/g, '.*')}$`)
  return existsSync(folder) && readdirSync(folder).some((name) => fits.test(name))
}

function cargoFault([command, ...given]) {
  if (!CARGO.includes(command)) return `cargo has no ${command} here`
  const end = given.indexOf('--')
  const [args, more] = end === -1 ? [given, []] : [given.slice(0, end), given.slice(end + 1)]
  const valueOf = (...names) => args.flatMap((arg, at) => (names.includes(arg) ? [args[at + 1]] : []))
  if (command === 'install') return ['cargo-mutants'].includes(args[0]) ? undefined : `nobody has looked at: cargo install ${args[0]}`
  const packages = valueOf('-p', '--package')
  const homes = { 'provision-vm': '.', 'provision-vm-native': 'native', simulator: 'simulator', hot: 'bench/hot' }
  const stranger = packages.find((name) => !homes[name] || !existsSync(path.join(ROOT, homes[name], 'Cargo.toml')))
  if (stranger) return `the workspace has no package ${stranger}`
  const folder = homes[packages[0] ?? 'provision-vm']
  const missing = valueOf('--test').find((name) => !existsSync(path.join(ROOT, folder, 'tests', `${name}.rs`)))
  if (missing) return `there is no test ${missing}`
  const profile = valueOf('--profile').find((name) => !readFileSync(path.join(ROOT, 'Cargo.toml'), 'utf8').includes(`[profile.${name}]`))
  if (profile) return `there is no profile ${profile}`
  if (command === 'run' && packages[0] === 'simulator') {
    const [unknown] = unnamed(more, spawnSync(SIMULATOR, ['--help'], { encoding: 'utf8' }).stdout)
    return unknown && `the simulator knows no ${unknown}`
  }
  return undefined
}

/** The command of the package, by its own manual. */
function cliFault([command, ...args]) {
  const { bin } = require('../../package.json')
  const file = typeof bin === 'string' ? bin : bin?.['provision-vm']
  if (!file || !existsSync(path.join(ROOT, file))) return 'the package has no command provision-vm'
  const help = (...words) =>
    spawnSync(process.execPath, [path.join(ROOT, file), ...words, '--help'], { encoding: 'utf8', timeout: 20_000 }).stdout
  const manual = help()
  if (command === undefined || command.startsWith('-')) return undefined
  if (!new RegExp(`^ +${command}\\b`, 'm').test(manual)) return `provision-vm has no command ${command}`
  const [unknown] = unnamed(args, manual + help(command))
  return unknown && `provision-vm ${command} knows no ${unknown}`
}

module.exports = { shellFaults, commands }

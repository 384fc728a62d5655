'use strict'

// Machines that boot for real: Debian's own cloud-init over a throw-away copy of this machine's files (`__test__/sandbox`),
// with stand-ins for what would reach the network or systemd.

const { execFileSync, spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { ROOT } = require('../../scripts/setup.js')
const { enterOwnNetwork } = require('./network.js')

const SANDBOX = path.join(ROOT, '__test__', 'sandbox')
const CACHE = path.join(ROOT, 'target', 'cloud-init')
/** What a machine has that this one has not. */
const PACKAGES = ['cloud-init', 'nftables']

/** What stands in for the real thing, first in PATH. */
const STAND_INS = ['apt-get', 'curl', 'wget', 'systemctl', 'timedatectl', 'tailscale', 'sleep', 'cut', 'dpkg-query', 'systemd-detect-virt', 'uname']

/** What is looked at after a boot, beside what a scene names. */
const LOOK_AT = [
  '/root/provision-vm/auth-key',
  '/root/provision-vm/join.sh',
  '/root/provision-vm/report',
  '/root/provision-vm/status',
  '/run/provision-vm',
  '/usr/share/keyrings/tailscale-archive-keyring.gpg',
  '/etc/apt/sources.list.d/tailscale.list',
]

/** The images that are served. */
const IMAGES = {
  'ubuntu-22.04': 'ID=ubuntu\nVERSION_ID="22.04"\nVERSION_CODENAME=jammy\nUBUNTU_CODENAME=jammy\n',
  'ubuntu-24.04': 'ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nUBUNTU_CODENAME=noble\n',
  'debian-12': 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
  'debian-13': 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n',
}

const state = '/run/tailscale-state'
/** A boot on which nothing goes wrong. A scene's own rules come before these. */
const GOOD = [
  { program: 'curl', match: 'noarmor\\.gpg', write: { '--output': { copy: '/tmp/scene/keyring.gpg' } } },
  { program: 'curl', match: '--config', real: '/usr/bin/curl' },
  { program: 'curl', match: '\\.tgz', write: { '--output': { copy: '/tmp/scene/build.tgz' } } },
  { program: 'systemctl', match: '^is-active', run: 'test -e /run/tailscaled' },
  { program: 'systemctl', match: 'enable --now tailscaled', write: { '/run/tailscaled': '' } },
  { program: 'systemctl', match: 'stop tailscaled', remove: ['/run/tailscaled', state] },
  { program: 'apt-get', match: 'install.* tailscale$', write: { '/run/tailscaled': '' } },
  { program: 'timedatectl', stdout: 'yes\n' },
  { program: 'tailscale', match: '^status', run: `cat ${state} 2>/dev/null || { echo '{"BackendState": "NeedsLogin"}'; exit 1; }` },
  { program: 'tailscale', match: '^up', write: { [state]: '{"BackendState": "Running"}\n' } },
  // No container, or cloud-init does not look at what the machine says it is.
  { program: 'systemd-detect-virt', exit: 1 },
  { program: 'uname', match: '-m', stdout: 'x86_64\n' },
  { program: 'uname', real: '/usr/bin/uname' },
  { program: 'cut', real: '/usr/bin/cut' },
]

/** Where cloud-init is, unpacked. Throws where it, or a machine, cannot be had. */
function unpacked() {
  const refused = spawnSync('unshare', ['-m', '-u', '-i', '-p', '-f', 'true'], { encoding: 'utf8' })
  if (refused.status !== 0) throw new Error(`no namespaces: ${refused.error?.message ?? refused.stderr.trim()}`)
  const layer = path.join(CACHE, PACKAGES.join('+'))
  if (!fs.existsSync(layer)) unpack(layer)
  return layer
}

/** These packages of Debian's as a layer over this machine's files. They are never installed. */
function unpack(layer) {
  const archives = path.join(CACHE, 'archives')
  fs.mkdirSync(path.join(archives, 'partial'), { recursive: true })
  const release = fs.readFileSync('/etc/os-release', 'utf8')
  if (!/^ID=debian$/m.test(release)) throw new Error('cloud-init is taken from Debian, and this is none')
  const get = ['install', '--yes', '--quiet', '--no-install-recommends', '--download-only', '-o', `Dir::Cache::archives=${archives}`, ...PACKAGES]
  try {
    execFileSync('apt-get', get, { stdio: 'pipe' })
  } catch {
    // The lists may be missing, or too old.
    execFileSync('apt-get', ['update', '--quiet'], { stdio: 'pipe' })
    execFileSync('apt-get', get, { stdio: 'pipe' })
  }
  // Put together beside its place, so that two that begin at the same time do not meet.
  const work = fs.mkdtempSync(path.join(CACHE, 'unpacking-'))
  for (const file of fs.readdirSync(archives).filter((name) => name.endsWith('.deb'))) {
    execFileSync('dpkg-deb', ['--extract', path.join(archives, file), work])
  }
  // On this machine these are links, which a layer would hide.
  for (const name of ['bin', 'sbin', 'lib']) {
    if (!fs.existsSync(path.join(work, name))) continue
    fs.cpSync(path.join(work, name), path.join(work, 'usr', name), { recursive: true, verbatimSymlinks: true })
    fs.rmSync(path.join(work, name), { recursive: true })
  }
  fs.chmodSync(work, 0o755)
  try {
    fs.renameSync(work, layer)
  } catch (error) {
    if (!fs.existsSync(layer)) throw error
    fs.rmSync(work, { recursive: true })
  }
}

let made
/** A key like Tailscale's, made here: its keyring, and its fingerprint as gpg says it. */
function signing() {
  made ??= makeKeys()
  return made
}

function makeKeys() {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'provision-vm-gpg-'))
  const gpg = (args, input = '') => execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', ...args], { input, stdio: 'pipe' })
  const [ours, others] = ['packages@example.com', 'another@example.com']
  gpg(['--passphrase', '', '--quick-gen-key', ours, 'rsa2048', 'sign', 'never'])
  gpg(['--passphrase', '', '--quick-gen-key', others, 'ed25519', 'sign', 'never'])
  process.once('exit', () => {
    spawnSync('gpgconf', ['--homedir', home, '--kill', 'all'])
    fs.rmSync(home, { recursive: true, force: true })
  })
  return {
    keyring: gpg(['--export', ours]),
    fingerprint: /^fpr:+([0-9A-F]{40}):/m.exec(gpg(['--with-colons', '--fingerprint', ours]).toString())[1],
    ofAnother: gpg(['--export', others]),
    ofBoth: gpg(['--export']),
    secretOfAnother: gpg(['--pinentry-mode', 'loopback', '--passphrase', '', '--export-secret-keys', others]),
    /** Text with the signature around it. */
    sign: (text) => gpg(['--local-user', ours, '--clearsign'], text),
  }
}

/**
 * Boots a machine, and says what is seen of it.
 *
 * `userData` is given to it by `datasource` (`nocloud`, or `hetzner`: then a metadata server answers in this network) under the id
 * `instance`. `rules` say what the stand-ins do beside `GOOD`; `files` are there beforehand, and those of `without` are not.
 * `secrets` must be nowhere; the first one is the auth key.
 */
async function boot(scene) {
  const [layer, { keyring }] = [unpacked(), signing()]
  const { userData = '', datasource = 'nocloud', instance = '4711', boots = 1, image = 'ubuntu-22.04', rules = [] } = scene
  const { secrets, lookAt = [], files = {}, without = [], after, tripSeconds = 0, standIns = STAND_INS } = scene
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'provision-vm-scene-'))
  const put = (name, content) => fs.writeFileSync(path.join(directory, name), content)
  try {
    fs.mkdirSync(path.join(directory, 'out'))
    for (const name of ['inside.sh', 'stand-in.py', 'watch.py']) fs.copyFileSync(path.join(SANDBOX, name), path.join(directory, name))
    put('user-data', userData)
    put('datasource', `${datasource}\n`)
    put('instance', `${instance}\n`)
    put('boots', `${boots}\n`)
    put('os-release', IMAGES[image])
    put('secrets', secrets.map((secret) => `${secret}\n`).join(''))
    put('look-at', [...LOOK_AT, ...lookAt].map((file) => `${file}\n`).join(''))
    put('stand-ins', standIns.map((name) => `${name}\n`).join(''))
    put('without', without.map((file) => `${file}\n`).join(''))
    put('rules.json', JSON.stringify({ tripSeconds, rules: [...rules, ...GOOD] }))
    put('keyring.gpg', scene.keyring ?? keyring)
    if (after) put('after.sh', after)
    for (const [name, content] of Object.entries(files)) {
      fs.mkdirSync(path.dirname(path.join(directory, 'root', name)), { recursive: true })
      put(path.join('root', name), content)
    }
    if (scene.build) put('build.tgz', scene.build)
    // Tests beside it may count on their time more than a boot does.
    const command = ['-n', '10', 'unshare', '-m', '-u', '-i', '-p', '-f', path.join(SANDBOX, 'boot.sh'), directory, layer]
    const child = spawn('nice', command, { stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk))
    const [code] = await once(child, 'close')
    const seen = read(path.join(directory, 'out'), secrets)
    if (code !== 0) throw new Error(`the sandbox ended with ${code}: ${said}\n${seen.cloudInit}`)
    return seen
  } finally {
    fs.rmSync(directory, { recursive: true, force: true })
  }
}

/** What a boot left to be seen. */
function read(out, secrets) {
  const text = (name) => (fs.existsSync(path.join(out, name)) ? fs.readFileSync(path.join(out, name), 'utf8') : '')
  const lines = (name) => text(name).split('\n').filter(Boolean)
  const files = {}
  for (const line of lines('files')) {
    const [mode, owner, name, content = ''] = line.split(' ')
    files[name] = { mode, owner, content: Buffer.from(content, 'base64').toString() }
  }
  const calls = lines('calls').map((line) => JSON.parse(line)).sort((one, other) => one.began - other.began)
  const results = fs.readdirSync(out).filter((name) => name.startsWith('result-'))
  return {
    calls,
    /** The calls of a program, each as one line. */
    of: (program, boot) =>
      calls.filter((call) => call.program === program && (!boot || call.boot === boot)).map((call) => call.arguments.join(' ')),
    files,
    status: (files['/root/provision-vm/status']?.content ?? '').split('\n').filter(Boolean).map((line) => line.split(' ').slice(1).join(' ')),
    hostname: text('hostname').trim(),
    results: results.map((name) => JSON.parse(text(name)).v1),
    stages: lines('stages'),
    cloudInit: text('cloud-init'),
    logs: text('logs'),
    after: text('after'),
    secretsOnDisk: lines('secrets-on-disk'),
    secretsInArgv: lines('secrets-in-argv'),
    secretsInLogs: secrets.filter((secret) => text('logs').includes(secret) || text('cloud-init').includes(secret) || text('calls').includes(secret)),
  }
}

/**
 * Runs a test file again in a network of its own, in which machines can boot. Returns there; where machines cannot boot, it returns
 * why, for the tests to be skipped with it. In CI that is a failure instead.
 */
function enterTheirNetwork(file) {
  let why
  try {
    // Packages come from outside, so before.
    unpacked()
    why = enterOwnNetwork(file)
  } catch (error) {
    why = error.message
  }
  if (why && process.env.PROVISION_VM_REQUIRE_SANDBOX) throw new Error(`machines cannot boot here: ${why}`)
  return why ? `machines cannot boot here: ${why}` : false
}

module.exports = { boot, signing, unpacked, enterTheirNetwork, IMAGES, STAND_INS }

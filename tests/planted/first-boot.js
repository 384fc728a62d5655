'use strict'

// Defects of the join script that the tests of the first boot have to catch: `npm run planted:first-boot [NAME...]`, and `--check` for
// whether each can still be planted. Each is planted into the documents that are made, so nothing is built anew.

const { spawnSync } = require('node:child_process')
const { readFileSync } = require('node:fs')
const path = require('node:path')

const ROOT = path.join(__dirname, '..', '..')
const SCRIPT = path.join(ROOT, 'src', 'cloud_init', 'join.sh')
const VARIABLE = 'PROVISION_VM_PLANTED'

/** What is changed into what, and the tests that have to notice. */
const DEFECTS = {
  'the-key-stays': ['    rm -f "$key_file"\n    tell joined', '    tell joined', 'ends the script', '    rm -f "$key_file"\n    wait', '    wait'],
  'the-key-is-in-argv': ['--auth-key="file:$key_file"', '--auth-key="$(cat "$key_file")"', 'debian-13'],
  'any-signing-key-will-do': ['sys.exit(found != [sys.argv[1]])', 'sys.exit(0)', 'key of another'],
  'more-keys-will-do': ['found != [sys.argv[1]]', 'sys.argv[1] not in found', 'another key beside'],
  'a-secret-key-will-do': ['tag not in (2, 6, 13, 14, 17)', 'tag not in (2, 5, 6, 7, 13, 14, 17)', 'secret key beside'],
  'any-build-will-do': [' || give_up signature\n    tar', '\n    tar', 'another checksum'],
  // Both looks: either alone suffices.
  'logs-in-a-running-machine': ['        if may_be_in; then break; fi\n        if grep', '        if grep', 'has joined|approval', '        if may_be_in; then break; fi\n        tailscale', '        tailscale'],
  'tries-a-refused-key-again': ["if grep -qi 'invalid key'", "if grep -qi 'no such thing'", 'refused key'],
  'gives-up-at-once': ['    until "$@"; do', '    until "$@"; do return 1', 'fail twice'],
  'fetches-anew-for-a-lock': ['    ! is_locked || return 1\n', '', 'apt lock held'],
  'says-what-up-says': ['>"$work/up" 2>&1', '2>&1 | tee "$work/up"', 'words of its own'],
  'leaves-what-it-fetched': ['    rm -rf "$work"\n', '', 'debian-13'],
  'never-asks-the-clock': ['        if is_synchronized; then', '        if false; then', 'waits for the clock'],
  'waits-for-ever-for-the-clock': ['[ "$waited" -lt 20 ]', '[ "$waited" -lt 2000 ]', 'nobody sets'],
  'refreshes-everything': ['-o Dir::Etc::sourceparts=-', '', 'debian-13'],
  'does-not-start-the-daemon': ['    systemctl enable --now tailscaled\n', '    true\n', 'a snapshot|joins, and does'],
}
if (process.env[VARIABLE]) plant(JSON.parse(process.env[VARIABLE]))
else main(process.argv.slice(2))

/** Changes what the package makes, in the process of a test. */
function plant(edits) {
  const api = require(ROOT)
  for (const name of ['generateCloudInitConfig', 'generateSnapshotCloudInitConfig']) {
    const make = api[name]
    const inJson = (text) => JSON.stringify(text).slice(1, -1)
    api[name] = (...args) => edits.reduce((text, [from, to]) => text.replace(inJson(from), () => inJson(to)), make(...args))
  }
}

function main(args) {
  const names = args.filter((arg) => !arg.startsWith('--'))
  const script = readFileSync(SCRIPT, 'utf8')
  let isFine = true
  for (const [name, [from, to, tests, ...more]] of Object.entries(DEFECTS)) {
    if (names.length > 0 && !names.includes(name)) continue
    const edits = [[from, to], ...(more.length > 0 ? [more] : [])]
    const wrong = edits.filter(([from]) => script.split(from).length !== 2)
    if (wrong.length > 0) {
      isFine = false
      console.log(`${name}: cannot be planted, its place is there ${script.split(wrong[0][0]).length - 1} times`)
      continue
    }
    if (args.includes('--check')) continue
    const env = { ...process.env, [VARIABLE]: JSON.stringify(edits), NODE_OPTIONS: `--require ${__filename}` }
    const command = ['--test', `--test-name-pattern=${tests}`, path.join(ROOT, '__test__', 'first-boot.test.js')]
    const { stdout } = spawnSync(process.execPath, command, { env, encoding: 'utf8' })
    const [, failed] = /^# fail (\d+)$/m.exec(stdout) ?? []
    const [, passed] = /^# pass (\d+)$/m.exec(stdout) ?? []
    const isCaught = Number(failed) > 0
    isFine &&= isCaught
    console.log(`${name}: ${isCaught ? `caught by ${failed}` : 'NOT CAUGHT'} of ${Number(failed) + Number(passed)} tests`)
  }
  if (args.includes('--check')) console.log(`${Object.keys(DEFECTS).length} defects of the join script can be planted: ${isFine ? 'yes' : 'NO'}`)
  if (!isFine) process.exitCode = 1
}

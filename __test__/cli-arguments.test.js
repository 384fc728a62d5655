'use strict'

// What the terminal's door makes of what is typed, before anything is done: it needs neither a cloud nor the native module.

const assert = require('node:assert/strict')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, describe, it } = require('node:test')

const { version } = require('../package.json')
const { COMMANDS } = require('../js/cli/main.js')
const { readJson, runAtTerminal, runCli } = require('./support/cli.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-cli-'))
after(() => rmSync(folder, { recursive: true }))
const notJson = path.join(folder, 'not.json')
writeFileSync(notJson, 'secret of the first boot')

const JOB = ['job-42', '--agent', 'a1']

describe('a mistake is named, with what was probably meant, and ends with 2', () => {
  for (const [args, ...words] of [
    [[], 'error: expected a command', 'Usage: provision-vm <command>'],
    [['destory'], 'unknown command "destory"', 'Did you mean destroy?'],
    [['list', '--timeout', '0'], 'list: --timeout: must be more than 0 and at most 86400 seconds', 'list --help has all flags'],
    [['reap', '--timeout', '90000'], '--timeout: must be more than 0'],
    [['simulate', '--shell', 'cmd'], 'expected sh or powershell, got "cmd"'],
    [['simulate', '--time-scale', '30'], 'simulate: --time-scale: at most 25', 'simulate --help has all flags'],
    [['--timeout', '5', 'list'], 'expected a command before "5"', 'provision-vm list ...'],
    [['prov'], 'Did you mean provision?'],
    [['ls'], 'Did you mean list?'],
    [['rm', 'job-42'], 'Did you mean destroy?'],
    [['create'], 'Did you mean provision?'],
    [['xyzzy'], 'unknown command "xyzzy"', 'There are provision, plan, list'],
    [['help', 'lst'], 'Did you mean list?'],
    [['--jsno', 'list'], 'list: unknown flag --jsno', 'Did you mean --json?'],
    [['--verison'], 'Did you mean --version?'],
    [['list', '--jsno'], 'list: unknown flag --jsno', 'Did you mean --json?'],
    [['provision', ...JOB, '--sever-type', 'cx23'], 'unknown flag --sever-type', 'Did you mean --server-type?'],
    [['provision', ...JOB, '-x'], 'unknown flag -x', 'provision-vm provision --help'],
    [['list', '--yes'], 'list: unknown flag --yes'],
    [['provision'], 'provision: expected JOB'],
    [['provision', 'job-42'], 'provision: --agent is missing'],
    [['plan', 'job-42'], 'plan: --agent is missing'],
    [['status'], 'status: expected JOB'],
    [['destroy', '--yes'], 'destroy: expected JOB or --server-id or --server-name'],
    [['destroy', 'job-42', '--server-id', '7', '--yes'], 'expected one of JOB and --server-id, not both'],
    [['status', 'one', 'two'], 'unexpected argument "two"'],
    [['list', 'job-42'], 'list: unexpected argument "job-42"'],
    [['provision', 'job-42', '--agent'], '--agent needs a value: ID'],
    [['provision', 'job-42', '--agent', '--json'], 'provision: --agent needs a value: ID'],
    [['list', '--json=yes'], '--json takes no value'],
    [['provision', ...JOB, '--timeout', 'soon'], '--timeout: expected seconds, such as 600, got "soon"'],
    [['provision', ...JOB, '--timeout', '-5'], '--timeout needs a value: SECONDS'],
    [['provision', ...JOB, '--firewall', 'x'], '--firewall: expected a whole number, got "x"'],
    [['provision', ...JOB, '--label', 'x'], '--label: expected KEY=VALUE, got "x"'],
    [['provision', ...JOB, '--user-data', '/no/such/file'], '--user-data: cannot read /no/such/file: ENOENT'],
    [['provision', ...JOB, '--user-data', notJson], 'is not JSON'],
    [['reap', '--grace', 'x'], '--grace: expected seconds'],
    [['simulate', '--time-scale', '0'], '--time-scale: expected a number above 0'],
    [['simulate', '--port', 'http'], '--port: expected a whole number'],
  ]) {
    it(`provision-vm ${args.join(' ')}`, async () => {
      const result = await runAtTerminal(args, { stdout: { isTTY: false }, stderr: { isTTY: false } })
      const isJson = args.includes('--json')
      assert.equal(result.code, 2, result.stderr)
      if (isJson) assert.equal(result.stderr, '')
      else assert.equal(result.stdout, '')
      const told = isJson ? JSON.stringify(readJson(result)).replaceAll('\\"', '"') : result.stderr
      for (const word of words) assert.ok(told.includes(word), `${word} is not in ${told}`)
      assert.ok(!told.includes('secret of the first boot'))
    })
  }
})

it('a mistake is JSON where JSON was asked for', async () => {
  const result = await runCli(undefined, ['provision', 'job-42', '--json', '--agnet', 'x']).ended
  assert.deepEqual([result.code, result.stderr], [2, ''])
  const { error } = readJson(result)
  assert.deepEqual([error.name, error.code, error.leftovers], ['UsageError', 'INVALID_INPUT', []])
  assert.ok(error.message.includes('--agnet') && error.hint.includes('--agent'))
})

it('what stands after -- is no flag', async () => {
  const getProvisioning = async ({ jobId }) => ({ state: 'absent', jobId })
  const { code, stdout } = await runAtTerminal(['status', '--', '--json'], { api: { getProvisioning }, stdout: { isTTY: false } })
  assert.deepEqual([code, stdout], [0, '--json is absent: no server stands for it\n'])
})

describe('help and version', () => {
  it('the whole manual has every command, its examples, exit codes, and says that secrets are no flags', async () => {
    for (const args of [['--help'], ['-h'], ['help']]) {
      const { code, stdout, stderr } = await runCli(undefined, args).ended
      assert.deepEqual([code, stderr], [0, ''])
      for (const name of Object.keys(COMMANDS)) assert.match(stdout, new RegExp(`^  ${name} `, 'm'))
      const expected = ['Secrets are never flags', 'Exit codes:', '129, 130, 143', 'npx provision-vm plan', '--json']
      for (const words of expected) assert.ok(stdout.includes(words), words)
      fitsIn(stdout, 80)
    }
  })

  for (const [name, command] of Object.entries(COMMANDS)) {
    it(`${name} has one of its own, with every flag and an example`, async () => {
      const runs = [[name, '--help'], ['help', name]].map((args) => runCli(undefined, args).ended)
      const [{ code, stdout }, other] = await Promise.all(runs)
      assert.equal(code, 0)
      assert.equal(stdout, other.stdout)
      for (const flag of [...Object.keys(command.flags), 'json', 'help']) assert.match(stdout, new RegExp(`^  (-\\w, )?--${flag}\\b`, 'm'))
      assert.ok(stdout.includes(`Examples:\n  provision-vm ${name}`) && stdout.includes('Exit codes:'))
      // Commands are typed as they are, however long they get.
      fitsIn(stdout.replace(/^Examples:\n(.+\n|\n(?= ))+/m, ''), 80)
    })
  }

  it('help wins over whatever else is wrong', async () => {
    const { code } = await runAtTerminal(['provision', '--help'], {})
    assert.equal(code, 0)
  })

  it('the version is that of the package', async () => {
    const [text, json] = await Promise.all([runCli(undefined, ['--version']).ended, runCli(undefined, ['--version', '--json']).ended])
    assert.deepEqual([text.code, text.stdout], [0, `${version}\n`])
    assert.deepEqual(readJson(json), { version })
  })

  it('no flag takes a secret', () => {
    const flags = Object.values(COMMANDS).flatMap((command) => Object.keys(command.flags))
    const secret = flags.filter((flag) => /token|secret|password|auth-key$/.test(flag) && flag !== 'allow-reusable-auth-key')
    assert.deepEqual(secret, [])
  })
})

it('flags become the arguments of the module', async () => {
  let heard
  const provisionVM = async (params, options) => {
    heard = { params, options }
    throw Object.assign(new Error('enough'), { code: 'INTERNAL', leftovers: [] })
  }
  const file = path.join(folder, 'user-data.json')
  writeFileSync(file, '{ "packages": ["jq"] }')
  const args = [
    'provision', 'job-42', '--agent=a1', '--region', 'eu-west', '--server-type', 'cx23', '--server-type', 'cpx22',
    '--location', 'fsn1', '--image', 'debian-12', '--timeout', '90.5', '--no-wait', '--label', 'team=a=b', '--label', 'x=',
    '--tag', 'tag:prod', '--firewall', '7', '--no-ipv4', '--no-ipv6', '--no-ephemeral', '--strict-region',
    '--user-data', file, '--finish-within', '120', '--ssh-key', '4711',
  ]
  await runAtTerminal(args, { api: { provisionVM } })
  const { env, signal, logger, onProgress, onSecret, ...options } = heard.options
  assert.deepEqual(heard.params, { jobId: 'job-42', agentId: 'a1', region: 'eu-west' })
  assert.deepEqual(options, {
    serverTypes: ['cx23', 'cpx22'],
    locations: ['fsn1'],
    image: 'debian-12',
    timeoutMs: 90_500,
    wait: false,
    labels: { team: 'a=b', x: '' },
    tags: ['tag:prod'],
    firewalls: [7],
    publicNet: { ipv4: false, ipv6: false },
    ephemeral: false,
    strictRegion: true,
    userData: { packages: ['jq'] },
    finishWithinMs: 120_000,
    sshKeys: ['4711'],
  })
  assert.deepEqual([logger, signal instanceof AbortSignal, typeof onProgress, typeof onSecret], [false, true, 'function', 'function'])
})

function fitsIn(text, width) {
  const long = text.split('\n').filter((line) => line.length > width)
  assert.deepEqual(long, [], `longer than ${width}`)
}

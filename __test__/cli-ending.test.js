'use strict'

// How commands of the terminal's door end that something else ends, and what dead ones left: signals, the local cloud, the reaper.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { describe, it } = require('node:test')

const { hears, provisionArgs, readJson, runCli } = require('./support/cli.js')
const { leftIn, newJob, startCloud } = require('./support/simulator.js')

/** A world for one test alone. */
async function newCloud(t) {
  const cloud = await startCloud()
  t.after(() => cloud.stop())
  return cloud
}

describe('signals', { concurrency: true }, () => {
  for (const [signal, expected] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]]) {
    for (const asJson of [false, true]) {
      it(`${signal} undoes what was begun and ends with ${expected}${asJson ? ', with --json' : ''}`, async (t) => {
        const cloud = await newCloud(t)
        const running = runCli(cloud, provisionArgs(newJob(), ...(asJson ? ['--json'] : [])))
        await cloud.until((world) => world.servers[0]?.status === 'running')
        running.child.kill(signal)
        const { code, stdout, stderr } = await running.ended
        assert.equal(code, expected, stderr)
        assert.deepEqual(leftIn(await cloud.world()), [], stderr)
        assert.ok(stderr.includes(`${signal}: undoing what was begun`), stderr)
        if (asJson) assert.equal(JSON.parse(stdout).error.code, 'ABORTED')
        else assert.ok(stderr.includes('ABORTED') && stderr.includes('Nothing was left behind.'), stderr)
      })
    }
  }

  it('a second one ends at once and says what may be left', async (t) => {
    const cloud = await newCloud(t)
    await cloud.configure({ machine: { boot: 'never_joins' } })
    await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 9, kind: 'hang_before_apply' })
    const running = runCli(cloud, provisionArgs(newJob()))
    await hears(running, 'Hetzner server created')
    running.child.kill('SIGINT')
    await hears(running, 'Undoing what was begun')
    running.child.kill('SIGTERM')
    const { code, stdout, stderr } = await running.ended
    const [server] = (await cloud.world()).servers
    assert.deepEqual([code, stdout], [143, ''])
    assert.ok(stderr.includes(`May be left behind: server ${server.id} (${server.name}, ${server.ipv4})`), stderr)
  })

  it('a look is given up', async (t) => {
    const cloud = await newCloud(t)
    await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 9, kind: 'hang_before_apply' })
    const running = runCli(cloud, ['status', 'job-42'])
    await cloud.untilAsked('GET /v1/servers')
    running.child.kill('SIGINT')
    const { code, stderr } = await running.ended
    assert.equal(code, 130, stderr)
    assert.ok(stderr.includes('giving up, nothing was changed'), stderr)
  })
})

describe('reap', { concurrency: true }, () => {
  /** A world with a job whose machine never joined, and whose attempt died long ago; the reaper waits 15 s for its device. */
  const plantDead = async (t) => {
    const cloud = await newCloud(t)
    const job = newJob()
    await cloud.configure({ machine: { boot: 'never_joins' } })
    await runCli(cloud, provisionArgs(job, '--no-wait')).ended
    await cloud.advance(7200)
    return { ...job, cloud, run: (args) => runCli(cloud, args).ended }
  }

  it('says what it would remove, and removes it with --yes', async (t) => {
    const { jobId, cloud, run } = await plantDead(t)
    const dry = await run(['reap'])
    assert.equal(dry.code, 0, dry.stderr)
    assert.match(dry.stdout, new RegExp(`^${jobId} +\\d+ (min|h|d) .* would remove$`, 'm'))
    assert.ok(dry.stdout.includes('1 dead attempt, 0 under way. A dry run: nothing was changed. --yes does it.'))
    assert.equal((await cloud.world()).servers.length, 1)
    const real = await run(['reap', '--yes'])
    assert.equal(real.code, 0, real.stderr)
    assert.match(real.stdout, / removed$/m)
    assert.equal((await cloud.world()).servers.length, 0)
    assert.equal((await run(['reap', '--yes', '--grace', '0'])).stdout, '0 dead attempts, 0 under way.\n')
  })

  it('what it cannot remove is named, and ends with 1', async (t) => {
    const { cloud, run } = await plantDead(t)
    const kind = { answer: { status: 403, json: { error: { code: 'forbidden', message: 'insufficient permissions' } } } }
    await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 99, kind })
    const { code, stdout } = await run(['reap', '--yes'])
    assert.equal(code, 1)
    assert.match(stdout, /^Left behind: server \d+/m)
  })
})

describe('simulate', () => {
  const begin = async (args) => {
    const running = runCli(undefined, ['simulate', ...args], { env: { CARGO_TARGET_DIR: process.env.CARGO_TARGET_DIR } })
    while (!running.said.stdout.endsWith('\n')) await once(running.child.stdout, 'data')
    return running
  }

  it('prints what a shell needs, serves until a signal, and is gone then', async () => {
    const running = await begin([])
    await hears(running, 'Ctrl-C ends it.')
    const pairs = running.said.stdout.trim().split('\n').map((line) => /^export ([A-Z_]+)='([^']*)'$/.exec(line).slice(1))
    const env = Object.fromEntries(pairs)
    const made = await runCli(undefined, provisionArgs(newJob(), '--no-wait', '--json'), { env }).ended
    assert.equal(made.code, 0, made.stdout)
    running.child.kill('SIGINT')
    const { code, stderr } = await running.ended
    assert.equal(code, 0, stderr)
    await assert.rejects(fetch(env.HETZNER_API_URL))
  })

  it('says it as JSON', async () => {
    const running = await begin(['--json', '--time-scale', '20', '--seed', '3'])
    const { url, env } = readJson(running.said)
    assert.ok(env.HETZNER_API_URL.startsWith(url) && env.HETZNER_API_TOKEN)
    running.child.kill('SIGTERM')
    const { code, stderr } = await running.ended
    assert.deepEqual([code, stderr], [0, ''])
  })

  for (const [name, args, env, expected, words] of [
    ['a program that is not there', [], { PROVISION_VM_SIMULATOR: '/no/such/program' }, 2, '/no/such/program'],
    ['a program that is none', [], { PROVISION_VM_SIMULATOR: process.execPath }, 1, 'ended with code'],
    ['a world that is too fast', ['--time-scale', '999'], {}, 2, '--time-scale: at most 25'],
  ]) {
    it(`names ${name}`, async () => {
      const runs = [[], ['--json']].map((more) => runCli(undefined, ['simulate', ...args, ...more], { env }).ended)
      const [text, json] = await Promise.all(runs)
      assert.deepEqual([text.code, json.code, json.stderr], [expected, expected, ''])
      assert.ok(text.stderr.includes(words) && readJson(json).error.message.includes(words), text.stderr)
    })
  }
})

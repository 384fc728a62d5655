'use strict'

// The terminal's door as a process of its own, against a local cloud: output, errors, exit codes, and what exists afterwards.

const assert = require('node:assert/strict')
const { open } = require('node:fs/promises')
const { after, before, beforeEach, describe, it } = require('node:test')

const { provisionArgs, readJson, runCli } = require('./support/cli.js')
const { leftIn, newJob, startCloud } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(() => cloud.stop())

it('does not take an answer that cannot be written for a success', async (t) => {
  const full = await open('/dev/full', 'w').catch(() => undefined)
  if (!full) return t.skip('there is no /dev/full')
  const { code, stderr } = await runCli(cloud, ['list', '--json'], { stdout: full.fd }).ended
  await full.close()
  assert.equal(code, 1)
  assert.match(stderr, /^error: the answer could not be written: .*ENOSPC/m)
})

/** Runs a command, which must show no secret. */
async function run(args, how) {
  const result = await runCli(cloud, args, how).ended
  const { hetznerToken, tailscaleClientSecret } = cloud.greeting
  const said = result.stdout + result.stderr
  for (const secret of [hetznerToken, tailscaleClientSecret, 'tskey-auth']) assert.ok(!said.includes(secret), 'a secret was printed')
  return result
}

describe('the life of a job', () => {
  it('provision, status, destroy: in words', async () => {
    const job = newJob()
    const made = await run(provisionArgs(job))
    assert.equal(made.code, 0, made.stderr)
    const [server] = (await cloud.world()).servers
    const expected = [`ready: the VM of ${job.jobId} joined after`, `${server.name} (${server.id})`, '100.64.0.', 'cpx11 in ash']
    for (const words of [...expected, "for the server alone, in the project's currency, net"]) {
      assert.ok(made.stdout.includes(words), `${words} is not in ${made.stdout}`)
    }
    assert.ok(made.stderr.includes(`[ProvisionVM] Hetzner server created: id=${server.id}`) && !made.stdout.includes('[ProvisionVM]'))
    const again = await run(provisionArgs(job))
    assert.ok(again.stdout.includes('was there already'), again.stdout)
    const status = await run(['status', job.jobId])
    assert.deepEqual([status.code, status.stderr], [0, ''])
    assert.ok(status.stdout.startsWith(`${job.jobId} is ready\n`) && status.stdout.includes(server.ipv4))
    const unsure = await run(['destroy', job.jobId])
    assert.deepEqual([unsure.code, (await cloud.world()).servers.length], [2, 1])
    const gone = await run(['destroy', job.jobId, '--yes'])
    assert.deepEqual([gone.code, gone.stdout], [0, `removed: server ${server.name} (${server.id}), with its auth key and its device\n`])
    assert.deepEqual(leftIn(await cloud.world()), [])
    const absent = await run(['status', job.jobId])
    assert.deepEqual([absent.code, absent.stdout], [0, `${job.jobId} is absent: no server stands for it\n`])
    assert.equal((await run(['destroy', job.jobId, '--yes'])).stdout, 'Nothing was found, so nothing was removed.\n')
  })

  it('provision, status, destroy: one JSON document each, and not a word beside it', async () => {
    const job = newJob()
    const results = []
    const commands = [provisionArgs(job), ['status', job.jobId], ['reap'], ['destroy', job.jobId, '--yes']]
    for (const args of commands) results.push(await run([...args, '--json']))
    const [made, status, reaped, gone] = results.map(readJson)
    assert.deepEqual(results.map(({ code, stderr }) => [code, stderr]), Array(4).fill([0, '']))
    assert.deepEqual([made.state, status.serverId, reaped.dryRun, gone.servers[0].removed], ['ready', made.serverId, true, true])
    assert.match(made.tailscaleIp, /^100\.64\./)
  })

  it('--no-wait begins, and the same command goes on', async () => {
    const job = newJob()
    const begun = await run(provisionArgs(job, '--no-wait'))
    assert.equal(begun.code, 0, begun.stderr)
    assert.match(begun.stdout, /^creating: the server of .* exists, and its machine has still to join$/m)
    assert.match(begun.stdout, /time left +(9|10) min/)
    const status = await run(['status', job.jobId])
    assert.match(status.stdout, / is (creating|booting), about \d+ %/)
    assert.equal((await run(provisionArgs(job))).code, 0)
    assert.equal((await cloud.world()).servers_ever, 1)
  })

  it('flags reach the cloud', async () => {
    const job = newJob()
    const flags = ['--server-type', 'cpx21', '--location', 'hil', '--label', 'team=a', '--json']
    const { code, stdout, stderr } = await run(provisionArgs(job, ...flags))
    assert.equal(code, 0, stdout + stderr)
    const { serverType, location } = JSON.parse(stdout)
    const [{ labels }] = (await cloud.world()).servers
    assert.deepEqual([serverType, location, labels.team], ['cpx21', 'hil', 'a'])
  })
})

const NOWHERE = 'http://127.0.0.1:1/v1'

describe('failures have exit codes, codes and hints, in words and as JSON', () => {
  for (const [name, args, env, code, errorCode, word] of [
    ['a setting that is missing', provisionArgs(newJob()), { HETZNER_API_TOKEN: '' }, 2, 'CONFIG', 'HETZNER_API_TOKEN'],
    ['a job id that is none', provisionArgs(newJob({ jobId: '$(id)' })), {}, 2, 'INVALID_INPUT', 'JOB: '],
    ['an agent id that is none', provisionArgs(newJob({ agentId: '' })), {}, 2, 'INVALID_INPUT', '--agent: '],
    ['a server type that is none', provisionArgs(newJob(), '--server-type', ''), {}, 2, 'INVALID_INPUT', '--server-type[0]: '],
    ['--force without an id', ['destroy', 'job-42', '--yes', '--force'], {}, 2, 'INVALID_INPUT', '--force: '],
    ['a token that is not taken', ['status', 'job-42'], { HETZNER_API_TOKEN: 'wrong' }, 1, 'AUTH_HETZNER', '401'],
    ['a cloud that is not there', ['status', 'job-42', '--timeout', '2'], { HETZNER_API_URL: NOWHERE }, 1, 'UNREACHABLE', '127.0.0.1:1'],
    ['a wrong credential', provisionArgs(newJob()), { TAILSCALE_OAUTH_CLIENT_SECRET: 'wrong' }, 1, 'AUTH_TAILSCALE', 'Nothing was left'],
  ]) {
    it(name, async () => {
      const [text, json] = [await run(args, { env }), await run([...args, '--json'], { env })]
      const { error } = readJson(json)
      assert.deepEqual([text.code, json.code, text.stdout, json.stderr], [code, code, '', ''])
      assert.deepEqual([error.code, error.leftovers], [errorCode, []])
      for (const words of [`error: ${errorCode}: `, error.hint, word]) {
        assert.ok(text.stderr.includes(words), `${words} is not in ${text.stderr}`)
      }
      assert.deepEqual(leftIn(await cloud.world()), [])
    })
  }
})

describe('what looks over all', () => {
  it('list has each job with its age and cost', async () => {
    const [one, two] = [newJob(), newJob()]
    assert.equal((await run(['list'])).stdout, 'No VMs.\n')
    await run(provisionArgs(one))
    await run(provisionArgs(two, '--no-wait'))
    const [text, json] = [await run(['list']), await run(['list', '--json'])]
    assert.deepEqual([text.code, text.stderr, json.stderr], [0, '', ''])
    assert.match(text.stdout, new RegExp(`^${one.jobId} +ready +\\d+ (s|min) +[\\d.]+ .*cpx11 +ash`, 'm'))
    assert.match(text.stdout, new RegExp(`^${two.jobId} +(creating|booting) `, 'm'))
    assert.deepEqual(readJson(json).vms.map(({ jobId }) => jobId), [one.jobId, two.jobId])
  })

  it('plan changes nothing, and says what provision then does', async () => {
    const { jobId, agentId } = newJob()
    const args = ['plan', jobId, '--agent', agentId, '--region', 'eu-central']
    const [text, json] = [await run(args), await run([...args, '--json'])]
    assert.equal(text.code, 0, text.stderr)
    const { action, candidates, serverName } = readJson(json)
    assert.ok(text.stdout.startsWith(`It would order a server for ${jobId}\n`) && text.stdout.includes(serverName), text.stdout)
    assert.match(text.stdout, / first$/m)
    assert.deepEqual([action, leftIn(await cloud.world())], ['create', []])
    const made = JSON.parse((await run(provisionArgs({ jobId, agentId }, '--region', 'eu-central', '--json'))).stdout)
    const first = candidates.find(({ refused }) => !refused)
    assert.deepEqual([made.serverType, made.location, made.serverName], [first.serverType, first.location, serverName])
    assert.ok((await run(args)).stdout.startsWith(`It would hand over the VM of ${jobId}`))
  })

  it('doctor has a line for each check, and leaves nothing', async () => {
    const [text, json] = [await run(['doctor', '--region', 'us-east']), await run(['doctor', '--json'])]
    assert.deepEqual([text.code, text.stderr], [0, ''], text.stdout)
    const { checks, healthy } = readJson(json)
    for (const { name } of checks) assert.match(text.stdout, new RegExp(`^(ok|warning) +${name} `, 'm'))
    assert.deepEqual([healthy, leftIn(await cloud.world())], [true, []])
  })

  it('doctor ends with 1 if something failed, and says what to do', async () => {
    const { code, stdout } = await run(['doctor'], { env: { HETZNER_API_TOKEN: 'wrong' } })
    assert.equal(code, 1)
    assert.match(stdout, /^failed +hetzner .*\n +AUTH_HETZNER: .*HETZNER_API_TOKEN/m)
    assert.match(stdout, /^Not healthy: /m)
  })
})

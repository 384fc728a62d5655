'use strict'

// The workflow that production runs, executed as it stands: what the app hears, and what is left in the world.

const assert = require('node:assert/strict')
const { mkdtempSync, readdirSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before } = require('node:test')

const { provisionVM } = require('..')
const { cloneInto } = require('./support/clone.js')
const { resultsOf, sceneOn, startStage, stepsOf } = require('./support/provision-agent.js')
const { newJob, ROOT } = require('./support/simulator.js')
const { createQueue, linkTree } = require('./support/workflow.js')

let stage
before(async () => (stage = await startStage()))
after(() => stage.stop())

const scene = sceneOn(() => stage)

const options = (more = {}) => ({ env: stage.cloud.env(), logger: false, ...more })

scene('success: the app hears that it begins, that it goes on, and what came of it', async () => {
  const job = newJob()
  const run = await stage.dispatch(job).ended
  assert.equal(run.conclusion, 'success', run.log)
  assert.deepEqual(resultsOf(run), { provision: 'success' })
  assert.deepEqual(stepsOf(run), {
    Checkout: 'success',
    'Setup Node.js': 'success',
    'Validate inputs': 'success',
    'Install dependencies': 'success',
    'Send provisioning callback': 'success',
    Heartbeat: 'success',
    'Provision VM': 'success',
    'Stop heartbeat': 'success',
    'Send success callback': 'success',
  })
  const { servers: [server], devices: [device] } = await stage.cloud.world()
  assert.deepEqual(stage.heard(), ['provisioning', 'heartbeat', 'running'])
  assert.deepEqual(stage.app.events[0], { job_id: job.jobId, status: 'provisioning', workflow_run_id: run.github.run_id })
  assert.deepEqual(stage.app.events[1], { job_id: job.jobId, type: 'heartbeat' })
  assert.deepEqual(stage.last(), {
    job_id: job.jobId, status: 'running', server_id: String(server.id), server_ip: server.ipv4, tailscale_ip: device.ip,
  })
  assert.equal(server.labels.attempt.slice(0, -9), `${run.github.run_id}-1`)
  assert.equal(run.concurrency.group, `provision-${job.jobId}`)

  // The page of the run.
  for (const words of ['### VM provisioned', '| Requests |', '| Step | Time |', '| cpx11 | ash | chosen |']) {
    assert.ok(run.summary.includes(words), run.summary)
  }
  assert.deepEqual([run.annotations.filter(({ level }) => level !== 'group'), run.misuse], [[], []])
  // No secret, before or after the masks.
  for (const secret of [...Object.values(stage.secrets()).filter((secret) => secret.length > 8), 'tskey-auth-']) {
    assert.ok(!run.log.includes(secret) && !run.unmasked.replaceAll(/^::add-mask::.*$/gm, '').includes(secret), secret.slice(0, 6))
  }
})

scene('each step that fails: the app hears which and why, and nothing is left', async (t) => {
  const bare = mkdtempSync(path.join(tmpdir(), 'provision-vm-bare-'))
  cloneInto(bare)
  t.after(() => rmSync(bare, { recursive: true }))
  const refused = { status: 401, json: { error: { code: 'unauthorized', message: 'unable to authenticate' } } }
  const once = (work) => {
    let calls = 0
    return (step) => {
      calls += 1
      if (calls === 1) throw new Error('the network is away')
      return work(step)
    }
  }
  const [checkout, nothing] = [linkTree(ROOT), () => {}]
  const CASES = {
    // Without the scripts nobody can tell the app, until the clean-up has them.
    'the checkout': {
      actions: { 'actions/checkout': once(checkout), 'actions/setup-node': nothing },
      failed: 'Checkout', heard: ['failed'], error: /before it began/, step: 'setup',
    },
    'the set-up of Node.js': {
      actions: { 'actions/checkout': checkout, 'actions/setup-node': once(nothing) },
      failed: 'Setup Node.js', heard: ['failed'], error: /before it began/, step: 'setup',
    },
    'the inputs': { inputs: { region: 'us east' }, failed: 'Validate inputs', heard: ['failed'], error: /REGION/, step: 'validate' },
    'the installation, where nothing is prebuilt and nothing can be built': {
      tree: bare, env: { CARGO: 'none', PATH: `${path.dirname(process.execPath)}:/usr/bin:/bin` },
      failed: 'Install dependencies', heard: ['failed'], error: /no Rust/, step: 'install',
    },
    'the first callback, which the app refuses': {
      answer: { event: 'provisioning', status: 410 }, failed: 'Send provisioning callback', heard: ['failed'], error: /410/, step: 'callback',
    },
    'a missing secret': { secrets: { HETZNER_API_TOKEN: undefined }, error: /^CONFIG: .*HETZNER_API_TOKEN/, step: 'validate' },
    'a wrong secret': { secrets: { HETZNER_API_TOKEN: 'wrong-wrong-wrong' }, error: /^AUTH_HETZNER: /, step: 'lookup' },
    'no capacity': {
      fault: { api: 'hetzner', method: 'POST', path: '/servers', times: 99, kind: { answer: { status: 412, json: { error: { code: 'resource_unavailable', message: 'sold out' } } } } },
      error: /^CAPACITY: /, step: 'server',
    },
    'the token of the cloud, refused': {
      fault: { api: 'hetzner', method: 'POST', path: '/servers', times: 99, kind: { answer: refused } }, error: /^AUTH_HETZNER: /, step: 'server',
    },
  }
  for (const [name, it] of Object.entries(CASES)) {
    await t.test(name, async () => {
      await stage.reset()
      if (it.fault) await stage.cloud.fault(it.fault)
      if (it.answer) stage.app.answer(it.answer)
      const run = await stage.dispatch(newJob(), it).ended
      assert.equal(run.conclusion, 'failure', run.log)
      assert.deepEqual(resultsOf(run).provision, 'failure')
      assert.equal(stepsOf(run)[it.failed ?? 'Provision VM'], 'failure', run.log)
      const heard = stage.heard().filter((event) => event !== 'heartbeat')
      assert.deepEqual(heard, it.heard ?? ['provisioning', 'failed'], run.log)
      assert.match(stage.last().error, it.error)
      assert.equal(stage.last().failed_step, it.step)
      assert.ok(run.annotations.some(({ level }) => level === 'error'), run.log)
      assert.deepEqual(await stage.left(), [])
      assert.equal(stage.app.repeats, 0, 'the clean-up knew that it was told')
    })
  }
})

scene('a heartbeat that cannot be stopped in peace costs no VM, and no callback', async () => {
  const run = stage.dispatch()
  await run.untilStep('Provision VM')
  // Its lines are gone, so the step that shows them fails.
  const [log] = readdirSync(run.folder, { recursive: true }).filter((name) => path.basename(name) === 'heartbeat.log')
  rmSync(path.join(run.folder, log))
  const ended = await run.ended
  assert.deepEqual([stepsOf(ended)['Stop heartbeat'], ended.conclusion], ['failure', 'success'], ended.log)
  assert.equal(stage.last().status, 'running')
})

scene('w07 a success that cannot be delivered keeps the VM, and the clean-up tells of it', async () => {
  stage.app.answer({ event: 'running', status: 503 })
  const run = await stage.dispatch(newJob(), { env: { CALLBACK_TIMEOUT_SECONDS: '0.5' } }).ended
  assert.equal(stepsOf(run)['Send success callback'], 'failure', run.log)
  assert.equal(stepsOf(run)['Send failure callback'], undefined, run.log)
  assert.deepEqual(resultsOf(run), { provision: 'failure', 'clean-up': 'success' }, run.log)
  assert.deepEqual(stage.heard(), ['provisioning', 'heartbeat', 'running'])
  assert.deepEqual((await stage.cloud.world()).servers.map(({ labels }) => labels.state), ['ready'])
  assert.match(run.log, /node scripts\/callback\.js running/)
})

scene('w08 a failure that cannot be delivered is undone all the same, and the clean-up tells of it', async () => {
  stage.app.answer({ event: 'failed', status: 503 })
  const secrets = { HETZNER_SSH_KEY_ID: '999999999' }
  const run = await stage.dispatch(newJob(), { secrets, env: { CALLBACK_TIMEOUT_SECONDS: '0.5' } }).ended
  assert.equal(stepsOf(run)['Send failure callback'], 'failure', run.log)
  assert.deepEqual(stage.heard().filter((event) => event !== 'heartbeat'), ['provisioning', 'failed'], run.log)
  // By the clean-up, and with what the provisioning said.
  assert.match(stage.last().error, /^CONFIG: .*ssh_keys/)
  assert.deepEqual(await stage.left(), [])
})

scene('h04 two dispatches of one job, one after the other as GitHub has it, end with one server', async () => {
  const [job, queue] = [newJob(), createQueue()]
  const runs = await Promise.all([1, 2, 3].map(() => stage.dispatch(job, { queue }).ended))
  assert.deepEqual(runs.map(({ conclusion }) => conclusion), ['success', 'success', 'success'])
  assert.equal((await stage.cloud.world()).servers_ever, 1)
  const running = stage.app.events.filter(({ status }) => status === 'running')
  assert.equal(running.length, 3)
  for (const event of running) assert.deepEqual(event, running[0])
})

scene('h04 side by side, one that follows is taken back: nothing is taken from the one whose server it is', async () => {
  const { maker, follower } = await dispatchTwice()
  follower.cancel()
  const [kept, given] = await Promise.all([maker.ended, follower.ended])
  assert.equal(given.conclusion, 'cancelled', given.log)
  assert.equal(kept.conclusion, 'success', kept.log)
  const { servers } = await stage.cloud.world()
  assert.deepEqual(servers.map(({ labels }) => labels.state), ['ready'])
  assert.equal(stage.last().status, 'running')
})

scene('h04 side by side, the one whose server it is is taken back: the other makes its own, or nothing is left', async () => {
  const { maker, follower } = await dispatchTwice()
  maker.cancel()
  const [given, kept] = await Promise.all([maker.ended, follower.ended])
  assert.equal(given.conclusion, 'cancelled', given.log)
  const { servers } = await stage.cloud.world()
  assert.deepEqual(servers.map(({ labels }) => labels.state), kept.conclusion === 'success' ? ['ready'] : [], kept.log)
  // Who saw that server go does not make another one: it may have been removed on purpose. It says so, and can be called again.
  if (kept.conclusion === 'failure') {
    assert.match(kept.log, /SUPERSEDED: the attempt that was followed removed its server/)
    assert.deepEqual([await stage.left(), stage.last().status], [[], 'failed'])
  }
})

/** Two runs of one job at the same time, told apart by whose server stands. */
async function dispatchTwice() {
  const job = newJob()
  const runs = [stage.dispatch(job), stage.dispatch(job)]
  const { servers: [server] } = await stage.cloud.until((world) => world.servers.length > 0)
  const [one, two] = runs
  const isOf = (run) => server.labels.attempt.startsWith(`${run.github.run_id}-`)
  assert.notEqual(isOf(one), isOf(two), server.labels.attempt)
  return isOf(one) ? { maker: one, follower: two } : { maker: two, follower: one }
}

scene('h05 a failed run can be run again', async () => {
  const job = newJob()
  await stage.cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', times: 1, kind: { answer: { status: 403, json: { error: { code: 'forbidden', message: 'no' } } } } })
  const first = stage.dispatch(job)
  assert.equal((await first.ended).conclusion, 'failure')
  const again = await first.rerun({ failedOnly: true }).ended
  assert.equal(again.conclusion, 'success', again.log)
  assert.deepEqual(stage.heard().filter((event) => event !== 'heartbeat'), ['provisioning', 'failed', 'provisioning', 'running'])
  const { servers: [server] } = await stage.cloud.world()
  assert.equal(server.labels.attempt.slice(0, -9), `${again.github.run_id}-2`)
})

scene('h06 a run that succeeded can be run again: the same VM, and the app hears of it anew', async () => {
  const first = stage.dispatch()
  assert.equal((await first.ended).conclusion, 'success')
  const again = await first.rerun().ended
  assert.equal(again.conclusion, 'success', again.log)
  assert.equal((await stage.cloud.world()).servers_ever, 1)
  const running = stage.app.events.filter(({ status }) => status === 'running')
  assert.deepEqual(running[0], running[1])
})

scene('h06 whatever fails early for a job that is delivered, its VM stays', async (t) => {
  const job = newJob()
  const first = stage.dispatch(job)
  assert.equal((await first.ended).conclusion, 'success')
  const later = {
    'a second attempt without a secret': () => first.rerun({ secrets: stage.secrets({ TAILSCALE_OAUTH_CLIENT_SECRET: undefined }) }),
    'a second attempt that the app refuses': () => (stage.app.answer({ event: 'provisioning', status: 403 }), first.rerun()),
    'a second dispatch without a secret': () => stage.dispatch(job, { secrets: { HETZNER_API_TOKEN: undefined } }),
    'a second dispatch without a secret, of which the app says that it is past that': () => (
      stage.app.answer({ event: 'provisioning', status: 409 }), stage.dispatch(job, { secrets: { HETZNER_API_TOKEN: undefined } })
    ),
    'a second dispatch for no region': () => stage.dispatch(job, { inputs: { region: 'us east' } }),
    'a second dispatch for no agent': () => stage.dispatch({ ...job, agentId: 'a b' }),
    'a second dispatch for another agent': () => stage.dispatch({ ...job, agentId: 'another' }),
    'a second dispatch that is cancelled': (run = stage.dispatch(job)) => (run.untilStep('Heartbeat').then(() => run.cancel()), run),
  }
  for (const [name, begin] of Object.entries(later)) {
    await t.test(name, async () => {
      stage.app.reset()
      const run = await begin().ended
      assert.notEqual(run.conclusion, 'success', run.log)
      const { servers, devices, servers_ever: ever } = await stage.cloud.world()
      assert.deepEqual([servers.length, servers[0].labels.state, devices.length, ever], [1, 'ready', 1, 1], run.log)
      const words = stage.app.events.map(({ status }) => status).filter((status) => status === 'running' || status === 'failed')
      // Where nobody can see the VM, an app hears that the run has failed, unless it says that it knows better.
      if (name.includes('without')) assert.deepEqual(words, name.includes('past') ? [] : ['failed'], run.log)
      // Where the clean-up can see it, the last that the app hears is that it is there.
      else assert.equal(words.at(-1), 'running', run.log)
    })
  }
  const { serverId } = await provisionVM(job, options())
  assert.equal(serverId, (await stage.cloud.world()).servers[0].id)
})

scene('with an identity no secret of Tailscale is needed', async () => {
  const { oidcUrl: url, oidcToken: token, federatedClientId: identity } = stage.cloud.greeting
  const secrets = { TAILSCALE_OAUTH_CLIENT_ID: undefined, TAILSCALE_OAUTH_CLIENT_SECRET: undefined }
  const run = await stage.dispatch(newJob(), { secrets, vars: { TAILSCALE_IDENTITY: identity }, oidc: { url, token } }).ended
  assert.equal(run.conclusion, 'success', run.log)
  assert.deepEqual(resultsOf(run), { 'provision-with-identity': 'success' })
  assert.deepEqual(stage.heard(), ['provisioning', 'heartbeat', 'running'])
  assert.ok(!run.unmasked.replaceAll(/^::add-mask::.*$/gm, '').includes(token))

  // What such a run leaves is removed in the same way.
  await stage.reset()
  const lost = stage.dispatch(newJob(), { secrets, vars: { TAILSCALE_IDENTITY: identity }, oidc: { url, token } })
  await stage.cloud.until((world) => world.servers.length > 0)
  await lost.lose('provision-with-identity')
  const ended = await lost.ended
  assert.deepEqual(resultsOf(ended), { 'provision-with-identity': 'failure', 'clean-up-with-identity': 'success' }, ended.log)
  assert.deepEqual(await stage.left(), [])
  assert.equal(stage.last().failed_step, 'lost')
})

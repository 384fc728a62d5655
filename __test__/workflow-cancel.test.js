'use strict'

// Runs of the workflow that do not end by themselves: cancelled, out of time, on a machine that is lost.

const assert = require('node:assert/strict')
const { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before } = require('node:test')

const { cloneInto } = require('./support/clone.js')
const { resultsOf, sceneOn, startStage, stepsOf } = require('./support/provision-agent.js')
const { newJob, usable } = require('./support/simulator.js')

let stage
before(async () => (stage = await startStage()))
after(() => stage.stop())

const scene = sceneOn(() => stage)

/** Machines that boot and do not join, so that the wait for them lasts. */
const neverJoins = () => stage.cloud.configure({ machine: { boot: 'never_joins' } })
/** Machines that join and show late: four seconds. */
const showsLate = () => stage.cloud.configure({ tailscale: { visibility_seconds: 100 } })

/** Puts a folder where the step that runs just now wants to write its outputs. */
function breakOutputs({ folder }) {
  const [file] = readdirSync(folder, { recursive: true }).filter((name) => path.basename(name).startsWith('output_'))
  rmSync(path.join(folder, file))
  mkdirSync(path.join(folder, file))
}

/** Where a run can be when it is told to end. */
const MOMENTS = {
  'while it installs': { at: (run) => run.untilStep('provision', 'Install dependencies') },
  'while the app hears that it begins': { at: (run) => run.untilStep('Send provisioning callback') },
  'before anything is asked for': { at: (run) => run.untilStep('Provision VM') },
  'with a key': { at: () => stage.cloud.until((world) => usable(world).length > 0) },
  'with a server': { at: () => stage.cloud.until((world) => world.servers.length > 0) },
  'with a machine that runs': { at: () => stage.cloud.until((world) => world.servers[0]?.status === 'running') },
}

for (const [moment, { at }] of Object.entries(MOMENTS)) {
  scene(`h02 cancelled ${moment}: nothing is left, and the app hears it once`, async () => {
    await neverJoins()
    const run = stage.dispatch()
    await at(run)
    run.cancel()
    const ended = await run.ended
    assert.equal(ended.conclusion, 'cancelled', ended.log)
    assert.deepEqual(resultsOf(ended), { provision: 'cancelled', 'clean-up': 'success' }, ended.log)
    assert.deepEqual(await stage.left(), [], ended.log)
    const ends = stage.app.events.filter(({ status }) => status === 'failed' || status === 'running')
    assert.deepEqual(ends.map(({ failed_step: step }) => step), [ends[0].failed_step], ended.log)
    assert.deepEqual([stage.last(), stage.app.repeats], [ends[0], 0], 'no heartbeat follows')
  })
}

for (const [moment, at] of Object.entries({
  'while the heartbeat is stopped': (run) => run.untilStep('Stop heartbeat'),
  'while the app does not answer': (run) => (stage.app.answer({ event: 'running', hang: true }), run.untilStep('provision', 'Send success callback')),
})) {
  scene(`h02 cancelled ${moment}: what is delivered stays, and the app hears of it`, async () => {
    const run = stage.dispatch()
    await at(run)
    run.cancel()
    const ended = await run.ended
    assert.deepEqual(resultsOf(ended), { provision: 'cancelled', 'clean-up': 'success' }, ended.log)
    const { servers, devices } = await stage.cloud.world()
    assert.deepEqual([servers.map(({ labels }) => labels.state), devices.length], [['ready'], 1], ended.log)
    assert.equal(stage.last().status, 'running', ended.log)
  })
}

scene('h02 the undo fits into the ten seconds that GitHub gives', async () => {
  await neverJoins()
  const run = stage.dispatch(newJob(), { timeScale: 1 })
  await stage.cloud.until((world) => world.servers[0]?.status === 'running')
  run.cancel()
  const ended = await run.ended
  assert.match(ended.log, /\[ProvisionVM\] warning: SIGINT: undoing what was begun/)
  assert.match(ended.log, /\[ProvisionVM\] Nothing was left behind\./)
  assert.match(ended.log, /\[ProvisionVM\] Nothing of this run was left/)
  assert.deepEqual(await stage.left(), [])
  // What the script had still said of itself is what the app hears.
  assert.match(stage.last().error, /^ABORTED: /)
})

scene('h02 an undo that does not fit says what it leaves, and the clean-up finishes it', async () => {
  await neverJoins()
  await stage.cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 1, kind: 'hang_before_apply' })
  const run = stage.dispatch()
  await stage.cloud.until((world) => world.servers[0]?.status === 'running')
  run.cancel()
  const ended = await run.ended
  assert.match(ended.log, /SIGTERM: the undo goes on\. If it is cut short, this may be left behind: server \d+ \(agent-.*its auth key/)
  assert.match(ended.jobs['clean-up'].steps.find(({ name }) => name === 'Clean up').log, /Server deleted: id=/)
  assert.match(ended.summary, /### Clean-up[^]*: removed \|/)
  assert.deepEqual(await stage.left(), [], ended.log)
  assert.deepEqual(stage.last().failed_step, 'cancelled')
})

scene('h02 cancelled with a machine that has joined: what is left is named, and goes by itself', async () => {
  await showsLate()
  const run = stage.dispatch()
  await stage.cloud.until((world) => world.devices.length > 0)
  run.cancel()
  const ended = await run.ended
  const { servers, devices: [device] } = await stage.cloud.world()
  assert.deepEqual(servers, [], ended.log)
  // The server went before the kill and the device did not; nothing proves by now that it was its device.
  if (device) {
    assert.equal(resultsOf(ended)['clean-up'], 'failure', ended.log)
    assert.ok(ended.annotations.some(({ title, message }) => title === 'LEFTOVERS' && message.includes(`device ${device.node_id}`)), ended.log)
  }
  assert.deepEqual([stage.last().status, stage.app.repeats], ['failed', 0], ended.log)
  assert.deepEqual((await stage.cloud.advance(7200)).devices, [])
})

for (const [what, prepare, at] of [
  ['before it made anything', neverJoins, (run) => run.untilStep('Send provisioning callback')],
  ['with a key', neverJoins, () => stage.cloud.until((world) => usable(world).length > 0)],
  ['with a server', neverJoins, () => stage.cloud.until((world) => world.servers.length > 0)],
  ['with a machine that has joined', showsLate, () => stage.cloud.until((world) => world.devices.length > 0)],
]) {
  scene(`h03 a machine that is lost ${what}: what it left is removed, and the app hears it`, async () => {
    await prepare()
    const run = stage.dispatch()
    await at(run)
    await run.lose('provision')
    const beats = stage.app.requests.length
    const ended = await run.ended
    assert.deepEqual(resultsOf(ended), { provision: 'failure', 'clean-up': 'success' }, ended.log)
    assert.deepEqual(await stage.left(), [], ended.log)
    assert.deepEqual([stage.last().status, stage.last().failed_step], ['failed', 'lost'])
    assert.ok(stage.app.requests.length <= beats + 2, 'the heartbeat has died with the machine')
  })
}

scene('h03 a machine that is lost after the VM was ready: the VM stays, and the app hears of it', async () => {
  const run = stage.dispatch()
  await run.untilStep('Stop heartbeat')
  await run.lose('provision')
  const ended = await run.ended
  assert.deepEqual(resultsOf(ended), { provision: 'failure', 'clean-up': 'success' }, ended.log)
  const { servers: [server], devices: [device] } = await stage.cloud.world()
  assert.deepEqual([server.labels.state, stage.last().status, stage.last().tailscale_ip], ['ready', 'running', device.ip])
})

scene('h03 a step that runs out of time is undone or cleaned up after', async () => {
  await neverJoins()
  // Ten minutes pass in 20 s, and the ten seconds of the kill sequence in a third of one.
  const run = await stage.dispatch(newJob(), { timeScale: 30 }).ended
  assert.equal(stepsOf(run)['Provision VM'], 'failure', run.log)
  assert.equal(resultsOf(run).provision, 'failure')
  assert.deepEqual(await stage.left(), [], run.log)
  assert.equal(stage.last().status, 'failed', run.log)
})

scene('h03 an installation that never ends: the app hears it', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-slow-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const [tree, bin] = [path.join(folder, 'tree'), path.join(folder, 'bin')]
  cloneInto(tree)
  mkdirSync(bin)
  writeFileSync(path.join(bin, 'cargo'), '#!/bin/sh\n[ "$1" = --version ] || exec sleep 600\n')
  chmodSync(path.join(bin, 'cargo'), 0o755)
  const run = stage.dispatch(newJob(), { tree, env: { PATH: `${bin}:${process.env.PATH}` }, timeScale: 60 })
  const ended = await run.ended
  assert.equal(stepsOf(ended)['Install dependencies'], 'failure', ended.log)
  assert.deepEqual(stage.app.events.map(({ status, failed_step: step }) => [status, step]), [['failed', 'setup']], ended.log)
})

scene('h08 outputs that cannot be written cost no VM, and the app hears of it', async () => {
  // The script finds its file of outputs gone, as on a disk that is full.
  const run = stage.dispatch(newJob())
  await run.untilStep('Provision VM')
  breakOutputs(run)
  const ended = await run.ended
  assert.equal(stepsOf(ended)['Provision VM'], 'failure', ended.log)
  const { servers } = await stage.cloud.world()
  assert.deepEqual([servers.map(({ labels }) => labels.state), stage.last().status], [['ready'], 'running'], ended.log)
  assert.ok(!stage.heard().includes('failed'), ended.log)
})

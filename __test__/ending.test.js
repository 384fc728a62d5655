'use strict'

// How a process ends that calls the package: by itself once the call is settled, and without an undo in its middle.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { describe, it } = require('node:test')

const { ROOT, eventually, newJob, startCloud } = require('./support/simulator.js')
const { DEADLINE_SECONDS, count } = require('./support/reaped.js')

/** How long a settled process may take to end before it counts as held. */
const PATIENCE_MS = 10_000

const FORBIDDEN = {
  api: 'hetzner',
  method: 'DELETE',
  path: '/servers/*',
  times: 1000,
  kind: { answer: { status: 403, json: { error: { code: 'forbidden', message: 'insufficient permissions' } } } },
}

/** Calls with these options (source text); says when it is settled, and at the end how often, how, and what came late. */
const settling = (options) => `
  let settled = 0, late = 0, outcome
  const onProgress = () => { if (settled > 0) late += 1 }
  const settle = (how) => { settled += 1; outcome = how; process.stdout.write('settled\\n') }
  provisionVM(params, { logger: false, onProgress, ...${options} }).then(() => settle('ok'), ({ code }) => settle(code))
  process.on('exit', () => process.stdout.write(JSON.stringify({ settled, outcome, late })))`

describe('F17 a settled call lets its process end by itself, with nothing more to ask', { concurrency: true }, () => {
  const neverJoins = (cloud) => cloud.configure({ machine: { boot: 'never_joins' } })
  for (const [name, options, prepare, expected] of [
    ['success', '{}', undefined, 'ok'],
    ['wrong input', '{ timeoutMs: -1 }', undefined, 'INVALID_INPUT'],
    ['no settings', '{ env: {} }', undefined, 'CONFIG'],
    ['nobody there', '{ env: { ...process.env, HETZNER_API_URL: "http://127.0.0.1:1/v1" } }', undefined, 'UNREACHABLE'],
    ['aborted before', '{ signal: AbortSignal.abort() }', undefined, 'ABORTED'],
    ['aborted on its way', '{ signal: AbortSignal.timeout(1000) }', undefined, 'ABORTED'],
    ['a deadline', '{ timeoutMs: 3000 }', neverJoins, 'ENROLL_TIMEOUT'],
    ['something left', '{ timeoutMs: 3000 }', (cloud) => Promise.all([neverJoins(cloud), cloud.fault(FORBIDDEN)]), 'ENROLL_TIMEOUT'],
  ]) {
    it(name, async (t) => {
      const cloud = await startCloud({ timeScale: 10 })
      t.after(() => cloud.stop())
      await prepare?.(cloud)
      const { child, ended, said } = run(cloud, settling(options))
      await eventually(async () => (said.stdout.includes('settled') ? { found: true } : { instead: said }), 40_000)
      const asked = await cloud.requests()
      const held = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
      const { code, signal, stdout, stderr } = await ended
      clearTimeout(held)
      assert.deepEqual([code, signal, stderr], [0, null, ''], 'something holds the process')
      assert.deepEqual(JSON.parse(stdout.split('\n')[1]), { settled: 1, outcome: expected, late: 0 })
      assert.equal(await cloud.requests(), asked, 'no request after the settlement')
    })
  }
})

/** Ends in the middle of a call, when a line of progress has these words. */
const endingAt = (words, end) => `
  const onProgress = ({ message }) => { if (message.includes(${JSON.stringify(words)})) { ${end} } }
  provisionVM(params, { logger: false, onProgress })`

/** Calls from a worker thread, and terminates it when a line of progress has these words. */
const workerEndingAt = (words) => `
  const { Worker } = require('node:worker_threads')
  const source = "const { parentPort, workerData } = require('node:worker_threads');" +
    "const onProgress = ({ message }) => parentPort.postMessage(message);" +
    "require(workerData.root).provisionVM(workerData.params, { logger: false, onProgress }).catch(() => {})"
  const worker = new Worker(source, { eval: true, workerData: { root: ${JSON.stringify(ROOT)}, params } })
  worker.on('message', (message) => { if (message.includes(${JSON.stringify(words)})) worker.terminate() })
  worker.on('exit', () => process.stdout.write('the worker has ended'))`

describe('F17 an end in the middle of a call leaves what a kill leaves', { concurrency: true }, () => {
  const [KEY, SERVER] = ['Tailscale auth key generated', 'Hetzner server created']
  for (const [name, program, expected, left] of [
    ['process.exit with a key', endingAt(KEY, 'process.exit(7)'), 7, { servers: 0, keys: 1, devices: 0 }],
    ['process.exit with a server', endingAt(SERVER, 'process.exit(7)'), 7, { servers: 1, keys: 1, devices: 0 }],
    ['an exception of somebody else', endingAt(SERVER, 'setImmediate(() => { throw 1 })'), 1, { servers: 1, keys: 1, devices: 0 }],
    ['a worker that is terminated with a key', workerEndingAt(KEY), 0, { servers: 0, keys: 1, devices: 0 }],
    ['a worker that is terminated with a server', workerEndingAt(SERVER), 0, { servers: 1, keys: 1, devices: 0 }],
  ]) {
    it(name, async (t) => {
      const cloud = await startCloud()
      t.after(() => cloud.stop())
      // The world stands still at that moment, however long the end takes.
      await cloud.configure({ machine: { kernel_seconds: [100_000, 100_000] } })
      if (left.servers === 0) {
        await cloud.fault({ api: 'hetzner', method: 'POST', path: '/servers', kind: 'hang_before_apply' })
      }
      const { ended } = run(cloud, program)
      const { code, signal, stdout, stderr } = await ended
      assert.deepEqual([code, signal], [expected, null], stdout + stderr)
      const world = await cloud.world()
      assert.deepEqual(count(world), left)
      // What `reap` makes of it is shown where the script is killed.
      assert.ok(world.servers.every(({ labels }) => labels.state === 'creating'))
    })
  }
})

it('F17 the call of a terminated worker goes on if another thread has the package too; the next one lands with it', async (t) => {
  const cloud = await startCloud()
  t.after(() => cloud.stop())
  const again = `worker.on('exit', async () => {
    const { serverId } = await provisionVM(params, { logger: false })
    process.stdout.write(String(serverId))
  })`
  const { ended } = run(cloud, `${workerEndingAt('Hetzner server created')}\n${again}`)
  const { code, stdout, stderr } = await ended
  assert.equal(code, 0, stderr)
  const world = await cloud.world()
  assert.deepEqual([world.servers_ever, count(world)], [1, { servers: 1, keys: 0, devices: 1 }])
  assert.equal(stdout, `the worker has ended${world.servers[0].id}`)
})

it('F17 worker threads that are terminated while their calls begin take nothing down with them', async (t) => {
  const cloud = await startCloud({ timeScale: 100 })
  t.after(() => cloud.stop())
  const { ended } = run(cloud, `
    const { Worker } = require('node:worker_threads')
    const source = "const { parentPort, workerData: { root, params } } = require('node:worker_threads');" +
      "const { provisionVM } = require(root);" +
      "for (let i = 0; i < 20; i += 1) provisionVM({ ...params, jobId: params.jobId + i }, { logger: false }).catch(() => {});" +
      "parentPort.postMessage('begun')"
    const begin = (job) => new Worker(source, { eval: true, workerData: { root: ${JSON.stringify(ROOT)}, params: { ...params, jobId: job } } })
    const said = (worker) => new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject))
    const rounds = async () => {
      for (let round = 0; round < 10; round += 1) {
        const workers = ['a', 'b', 'c'].map((name) => begin(params.jobId + round + name))
        await Promise.all(workers.map(said))
        await new Promise((resolve) => setTimeout(resolve, 10 * round))
        await Promise.all(workers.map((worker) => worker.terminate()))
      }
    }
    rounds().then(() => process.stdout.write('done'))`)
  assert.deepEqual(await ended, { code: 0, signal: null, stdout: 'done', stderr: '' })
})

/** Runs a program that has `provisionVM` and `params`. */
function run(cloud, program) {
  const params = newJob()
  const source = `const { provisionVM } = require(${JSON.stringify(ROOT)}), params = ${JSON.stringify(params)}\n${program}`
  const env = { PATH: process.env.PATH, ...cloud.env({ PROVISION_TIMEOUT_SECONDS: DEADLINE_SECONDS }) }
  const child = spawn(process.execPath, ['-e', source], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => (said.stdout += chunk))
  child.stderr.on('data', (chunk) => (said.stderr += chunk))
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, ...said }))
  return { child, ended, said }
}

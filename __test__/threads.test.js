'use strict'

// What threads the package has: none before the first call, one for all calls, and none that outlives the last who has it.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { after, before, describe, it } = require('node:test')

const { ROOT, newJob, startCloud } = require('./support/simulator.js')

const skip = process.platform !== 'linux' && 'threads are counted in /proc'

/** Adds `threads()` to a program: how many more than at its beginning, once the count has come to rest. */
const COUNTING = `
  const { readFileSync } = require('node:fs')
  const count = () => Number(/^Threads:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1])
  const began = count()
  const threads = async (expected) => {
    const end = Date.now() + 5000
    while (count() - began !== expected && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20))
    return count() - began
  }`

describe('threads', { skip, concurrency: true }, () => {
  let cloud
  before(async () => (cloud = await startCloud()))
  after(() => cloud.stop())

  it('none by loading it, one by a hundred calls', async () => {
    const seen = await run(cloud, `
      const { provisionVM } = require(root)
      const seen = [await threads(0)]
      const calls = Array.from({ length: 100 }, (_, i) => provisionVM({ ...params, jobId: params.jobId + i }, { logger: false }))
      seen.push(await threads(1))
      await Promise.all(calls)
      seen.push(await threads(1))
      return seen`)
    assert.deepEqual(seen, [0, 1, 1])
  })

  it('one for all worker threads, none once the last of them has gone, and one again for those that follow', async () => {
    const seen = await run(cloud, `
      const { Worker } = require('node:worker_threads')
      const source = "const { parentPort, workerData: { root, params } } = require('node:worker_threads');" +
        "require(root).provisionVM(params, { logger: false }).then(({ serverId }) => parentPort.postMessage(serverId));" +
        "setInterval(() => {}, 1000)"
      const begin = (i) => new Worker(source, { eval: true, workerData: { root, params: { ...params, jobId: params.jobId + i } } })
      const seen = []
      for (let round = 0; round < 3; round += 1) {
        const workers = Array.from({ length: 4 }, (_, i) => begin(round * 4 + i))
        await Promise.all(workers.map((worker) => new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject))))
        seen.push(await threads(workers.length + 1))
        await Promise.all(workers.map((worker) => worker.terminate()))
        seen.push(await threads(0))
      }
      return seen`)
    assert.deepEqual(seen, [5, 0, 5, 0, 5, 0])
  })
})

/** Runs the body of an async function that has `root`, `params` and `threads` in a process of its own, and says what it returned. */
async function run(cloud, body) {
  const given = `const root = ${JSON.stringify(ROOT)}, params = ${JSON.stringify(newJob())}`
  const source = `${given}\n${COUNTING}\n;(async () => {${body}})().then((seen) => process.stdout.write(JSON.stringify(seen)))`
  const env = { PATH: process.env.PATH, ...cloud.env() }
  const child = spawn(process.execPath, ['-e', source], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) child[name].on('data', (chunk) => (said[name] += chunk))
  const [code, signal] = await once(child, 'close')
  assert.deepEqual([code, signal, said.stderr], [0, null, ''])
  return JSON.parse(said.stdout)
}

'use strict'

// Heartbeats live and die with the work (fault sheet W05, W11, I20).

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, afterEach, before, test } = require('node:test')
const { setTimeout: pause } = require('node:timers/promises')

const { keepBeating, stopBeating, watchWork } = require('../scripts/support/heartbeat.js')
const { PORTS } = require('../scripts/support/delivery.js')
const { ROOT } = require('../scripts/setup.js')
const { startReceiver } = require('./support/receiver.js')
const { environment, runCallback, SECRET } = require('./support/sender.js')
const { eventually } = require('./support/simulator.js')

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-heartbeat-'))
const children = []
let receiver
before(async () => (receiver = await startReceiver({ secret: SECRET })))
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  receiver.reset()
})
after(async () => {
  await receiver.stop()
  rmSync(folder, { recursive: true })
})

let files = 0
const newFile = () => path.join(folder, String((files += 1)))

/** Writes a progress file, as the script that works does. */
function write(file, more) {
  const now = Date.now()
  const text = JSON.stringify({ pid: process.pid, state: 'underway', seq: 1, updatedAt: now, until: now + 600_000, ...more })
  writeFileSync(file, text)
  return text
}

const environmentOf = (file, more) => environment(receiver, { PROVISION_PROGRESS_FILE: file, HEARTBEAT_SECONDS: '0.1', ...more })

function start(file, more) {
  const run = runCallback('heartbeat', environmentOf(file, more))
  children.push(run.child)
  return run
}

const stop = (file) => runCallback('stop-heartbeat', environmentOf(file)).ended

/** Waits until so many have come. */
function beats(count) {
  const look = () => (receiver.requests.length >= count ? { found: true } : { instead: receiver.requests.length })
  return eventually(look, 10_000)
}

/** Waits for the end, and that nothing follows it. */
async function endOf({ ended }, words) {
  const began = performance.now()
  const { code, stderr } = await ended
  assert.ok(performance.now() - began < 3_000, 'within a few seconds')
  assert.equal(code, 0, stderr)
  assert.match(stderr, words)
  const count = receiver.requests.length
  await pause(250)
  assert.equal(receiver.requests.length, count)
  return stderr
}

test('it waits for the work, beats while it lives, and ends with it', async () => {
  const file = newFile()
  const run = start(file)
  await pause(300)
  assert.equal(receiver.requests.length, 0)
  write(file)
  await beats(4)
  write(file, { state: 'ended' })
  const stderr = await endOf(run, /no more heartbeats: the work has ended$/m)
  assert.match(stderr, /^\[Callback\] heartbeat 1: delivered \(200\)\n\[Callback\] heartbeat 2: /)
  for (const { body, checks } of receiver.requests) {
    assert.equal(body, '{"job_id":"job-42","type":"heartbeat"}')
    assert.deepEqual(checks, { old: 'ok', standard: 'ok', peer: 'ok' })
  }
  const ids = receiver.requests.map(({ headers }) => headers['webhook-id'])
  assert.equal(new Set(ids).size, ids.length)
  assert.match(ids[1], /^heartbeat-1234567-1-[0-9a-f]{32}-2$/)
  const span = receiver.requests.at(-1).at - receiver.requests[0].at
  assert.ok(span / (ids.length - 1) >= 80, `not faster than asked: ${ids.length} in ${span} ms`)
})

test('the beats stop when the working process is killed', async () => {
  const worker = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  children.push(worker)
  const file = newFile()
  write(file, { pid: worker.pid })
  const run = start(file)
  await beats(2)
  worker.kill('SIGKILL')
  await endOf(run, /no more heartbeats: the process of the work is gone$/m)
})

test('work that has ended, and that nobody has asked about, is gone', { skip: process.platform !== 'linux' }, async () => {
  // The shell that started it never waits for it.
  const parent = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'])
  children.push(parent)
  const [pid] = await once(parent.stdout, 'data')
  const file = newFile()
  write(file, { pid: Number(pid) })
  const run = start(file)
  await beats(1)
  process.kill(Number(pid), 'SIGKILL')
  await endOf(run, /the process of the work is gone$/m)
})

test('it does not begin for work that is over, or long past', async () => {
  for (const [more, words] of [
    [{ state: 'ended' }, /the work has ended/],
    [{ until: Date.now() - 1 }, /the work has to be over by now/],
    [{ pid: 2 ** 30 }, /the process of the work is gone/],
  ]) {
    const file = newFile()
    write(file, more)
    await endOf(start(file), words)
  }
  assert.equal(receiver.requests.length, 0)
})

test('it ends when the work has to be over', async () => {
  const file = newFile()
  write(file)
  const run = start(file)
  await beats(1)
  write(file, { until: Date.now() + 400 })
  await endOf(run, /the work has to be over by now/)
})

test('W05 a beat that fails is a line in the log and no more', async () => {
  receiver.answer({ status: 500 }, { status: 401 }, { drop: 'before' })
  const file = newFile()
  write(file)
  const run = start(file, { GITHUB_ACTIONS: 'true' })
  await beats(5)
  write(file, { state: 'ended' })
  const stderr = await endOf(run, /heartbeat 4: delivered/)
  assert.match(stderr, /heartbeat 1: not delivered, the answer was 500\n.*heartbeat 2: not delivered, the answer was 401: /)
  assert.match(stderr, /heartbeat 3: not delivered, the connection broke off\n/)
  // A mask would write the secret into the file that the lines go to.
  assert.doesNotMatch(stderr, /::/)
  assert.equal(receiver.repeats, 0)
})

test('W05 a beat that is not answered holds up no end', async () => {
  receiver.answer({ hang: true, times: Infinity })
  const file = newFile()
  write(file)
  const run = start(file)
  await beats(1)
  await pause(300)
  assert.equal(receiver.requests.length, 1, 'one at a time')
  write(file, { state: 'ended' })
  await endOf(run, /heartbeat 1: not delivered, there was no answer yet\n.*the work has ended/)
})

test('W11 no beat leaves after stop-heartbeat, so none after the last news', async () => {
  for (let round = 0; round < 5; round += 1) {
    receiver.reset()
    const file = newFile()
    write(file)
    const run = start(file, { HEARTBEAT_SECONDS: '0.01' })
    await beats(2 + round)
    const { code, stderr } = await stop(file)
    assert.deepEqual([code, stderr], [0, '[Callback] the heartbeat has ended\n'])
    assert.notEqual(run.child.exitCode ?? run.child.signalCode, null, 'it is gone already')
    const { code: told } = await runCallback('running', environment(receiver)).ended
    assert.equal(told, 0)
    await endOf(run, /it was told to stop/)
    assert.equal(receiver.requests.at(-1).name, 'running')
  }
})

test('W11 a heartbeat that only begins after it was told to stop never beats', async () => {
  const file = newFile()
  write(file)
  const { code, stderr } = await stop(file)
  assert.deepEqual([code, stderr], [0, '[Callback] no heartbeat is running\n'])
  await endOf(start(file), /it was told to stop/)
  assert.equal(receiver.requests.length, 0)
})

test('W11 stop-heartbeat leaves a stranger alone that has the id of a heartbeat of before', async () => {
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  children.push(stranger)
  for (const text of [`${stranger.pid}\n`, 'garbage', '', '0', '-1', '1e999']) {
    const file = newFile()
    writeFileSync(`${file}.heartbeat`, text)
    const { code, stderr } = await stop(file)
    assert.deepEqual([code, stderr], [0, '[Callback] no heartbeat is running\n'], text)
  }
  assert.deepEqual([stranger.exitCode, stranger.signalCode], [null, null])
})

/** Time that goes on by itself only in pauses. */
function clock() {
  const time = { wall: 1_800_000_000_000, elapsed: 0 }
  const ports = {
    ...PORTS,
    now: () => time.wall,
    elapsed: () => time.elapsed,
    sleep: async (ms) => {
      pass(ms)
      await pause(1)
    },
  }
  const pass = (ms) => {
    time.wall += ms
    time.elapsed += ms
  }
  return { time, ports, pass }
}

test('W11 a heartbeat that does not end is killed after ten seconds', async () => {
  const file = newFile()
  const script = "process.on('SIGTERM', () => {}); console.log(); setInterval(() => {}, 1000)"
  const deaf = spawn(process.execPath, ['-e', script, 'heartbeat'])
  children.push(deaf)
  await once(deaf.stdout, 'data')
  writeFileSync(`${file}.heartbeat`, String(deaf.pid))
  const { time, ports } = clock()
  const gone = once(deaf, 'exit')
  assert.deepEqual(await stopBeating(file, ports), { stopped: true, killed: true })
  assert.ok(time.elapsed > 10_000 && time.elapsed <= 12_100, String(time.elapsed))
  assert.deepEqual(await gone, [null, 'SIGKILL'])
})

test('a signal ends it, and it alone', async () => {
  for (const name of ['SIGTERM', 'SIGINT']) {
    const file = newFile()
    write(file)
    const run = start(file)
    await beats(receiver.requests.length + 1)
    run.child.kill(name)
    await endOf(run, /no more heartbeats: it was told to stop$/m)
  }
})

test('a second heartbeat for the same work does not begin', async () => {
  const file = newFile()
  write(file)
  start(file)
  await beats(1)
  await assertEnds(start(file), /another one beats/)
  const { stderr } = await stop(file)
  assert.match(stderr, /has ended/)
})

async function assertEnds({ ended }, words) {
  const { code, stderr } = await ended
  assert.equal(code, 0)
  assert.match(stderr, words)
}

test('it outlives the step that starts it, and holds none of its pipes', async () => {
  const [file, log] = [newFile(), newFile()]
  write(file)
  const script = `exec 3>&1; '${process.execPath}' scripts/callback.js heartbeat >'${log}' 2>&1 3>&- & echo $!`
  const step = spawn('sh', ['-c', script], { cwd: ROOT, env: environmentOf(file), stdio: ['pipe', 'pipe', 'pipe'] })
  let pid = ''
  step.stdout.on('data', (chunk) => (pid += chunk))
  await once(step, 'close')
  await beats(1)
  process.kill(Number(pid), 'SIGHUP')
  await beats(receiver.requests.length + 2)
  assert.match((await stop(file)).stderr, /has ended/)
  assert.match(readFileSync(log, 'utf8'), /^\[Callback\] heartbeat 1: delivered[^]*it was told to stop\n$/)
  const left = spawnSync('ps', ['-o', 'stat=', '-p', pid.trim()], { encoding: 'utf8' }).stdout
  // Where nobody asks about orphans, an ended one stays listed.
  assert.match(left, /^(Z.*)?\s*$/)
})

/** The states of a work, looked at every second. `at` changes the file or the clock before the look of that second. */
function follow(seconds, at) {
  const file = newFile()
  const { time, ports, pass } = clock()
  const look = watchWork(file, ports)
  const states = []
  const touch = (more) => write(file, { updatedAt: time.wall, until: 1_800_000_000_000 + 600_000, ...more })
  for (let second = 0; second < seconds; second += 1) {
    at(second, { touch, time, file })
    const { state, why } = look()
    states.push(why ?? state)
    pass(1_000)
  }
  return states
}

/** How often each state came, in order. */
function runs(states) {
  const counted = []
  for (const state of states) {
    if (counted.at(-1)?.[0] === state) counted.at(-1)[1] += 1
    else counted.push([state, 1])
  }
  return counted
}

const LOST = 'the work has not been heard of any more'

test('it waits a minute for the work to begin', () => {
  assert.deepEqual(runs(follow(62, () => {})), [['awaited', 60], ['no work has begun', 2]])
})

test('what is no progress file is as none, and later changes nothing', () => {
  const { pid } = process
  const good = { pid, state: 'underway', updatedAt: 1_800_000_000_000, until: 1_800_000_600_000 }
  const bad = [
    '', '{', '{}', 'null', '[]', '1', '\0', 'x'.repeat(100_000), JSON.stringify(good).slice(0, -1), JSON.stringify([good]),
    ...[{ pid: '1' }, { pid: 0 }, { pid: -1 }, { pid: 1.5 }, { pid: null }, { state: 'other' }, { state: undefined },
      { updatedAt: 'now' }, { updatedAt: null }, { until: undefined }, { until: '1' }].map((more) => JSON.stringify({ ...good, ...more })),
  ]
  const junk = (second, { file }) => second < bad.length && writeFileSync(file, bad[second])
  assert.deepEqual(runs(follow(bad.length, junk)), [['awaited', bad.length]])
  const later = follow(30, (second, { touch, file }) => {
    if (second % 3 === 0) touch()
    else if (second % 3 === 1) writeFileSync(file, bad[second % bad.length])
    else rmSync(file)
  })
  assert.deepEqual(runs(later), [['alive', 30]])
})

test('work that is not heard of for 30 s is over, also if its id is alive and its file is gone', () => {
  for (const change of [() => {}, (file) => rmSync(file, { force: true }), (file) => writeFileSync(file, '{"pid"')]) {
    const states = follow(40, (second, { touch, file }) => (second === 0 ? touch() : change(file)))
    assert.deepEqual(runs(states), [['alive', 31], [LOST, 9]])
  }
})

test('a file that is old when it is found gets no beat, and a few seconds to change', () => {
  const states = follow(10, (second, { touch, time }) => second === 0 && touch({ updatedAt: time.wall - 60_000 }))
  assert.deepEqual(runs(states), [['doubtful', 7], [LOST, 3]])
})

test('a clock that jumps ends nothing, as long as the work is heard of', () => {
  for (const jump of [3_600_000, -3_600_000, 315_360_000_000]) {
    const states = follow(60, (second, { touch, time }) => {
      if (second === 13) time.wall += jump
      if (second % 5 === 0) touch()
    })
    assert.deepEqual(runs(states), [['alive', 13], ['doubtful', 2], ['alive', 45]], String(jump))
  }
})

test('a clock that jumps keeps no dead work alive', () => {
  for (const [jump, lives] of [[3_600_000, 20], [-3_600_000, 20], [-20_000, 31]]) {
    const states = follow(40, (second, { touch, time }) => {
      if (second === 20) time.wall += jump
      if (second === 0) touch()
    })
    assert.deepEqual(runs(states), [['alive', lives], [LOST, 40 - lives]], String(jump))
  }
})

test('the time at which the work has to be over does not move with the clock', () => {
  for (const jump of [0, 3_600_000, -3_600_000]) {
    const states = follow(40, (second, { touch, time }) => {
      if (second === 12) time.wall += jump
      if (second % 4 === 0) touch({ until: 1_800_000_000_000 + 30_000 })
    })
    assert.deepEqual(states.slice(30, 32), ['alive', 'the work has to be over by now'], String(jump))
  }
})

test('without jumps the beats are as regular as asked', async () => {
  const file = newFile()
  const { time, ports } = clock()
  const at = []
  const beat = async () => at.push(time.elapsed)
  // The work goes on writing until its fourth beat.
  const work = () => {
    const state = at.length < 4 ? 'underway' : 'ended'
    write(file, { state, updatedAt: time.wall, until: time.wall + 1e9 })
  }
  const sleep = (ms) => (work(), ports.sleep(ms))
  work()
  const { signal } = new AbortController()
  assert.equal(await keepBeating({ file, intervalMs: 60_000, beat, signal }, { ...ports, sleep }), 'the work has ended')
  assert.deepEqual(at, [0, 60_000, 120_000, 180_000])
  assert.ok(existsSync(`${file}.heartbeat`))
})

test('work whose last sign is old gets no beat', async () => {
  const file = newFile()
  const { time, ports } = clock()
  write(file, { updatedAt: time.wall - 60_000, until: time.wall + 1e9 })
  const { signal } = new AbortController()
  const beat = async () => assert.fail('a beat')
  assert.equal(await keepBeating({ file, intervalMs: 1_000, beat, signal }, ports), LOST)
})

'use strict'

// Heartbeats in the background, tied to the progress file of the work: they stop when the work ends, however it ends.

const { existsSync, readFileSync } = require('node:fs')

const { PORTS } = require('./delivery.js')
const { replaceFile } = require('./progress.js')

/** How often to look at the work. A beat is due far less often. */
const LOOK_MS = 500
/** The work may begin late; without a file by then there is none. */
const LONGEST_WAIT_MS = 60_000
/** The work writes its file every 5 s. */
const STALE_MS = 30_000
/** A time stamp alone is not believed, as a clock may jump: a living work writes another one within this time. */
const DOUBT_MS = 6_000

/**
 * Calls `beat` with 1, 2, 3 ... while the work lives, and gives the reason of its end. A beat that is under way then is
 * given up by its signal, so that none is left when this ends.
 */
async function keepBeating({ file, intervalMs, beat, signal }, ports = PORTS) {
  if (isRunning(readPid(file))) return 'another one beats for this work'
  replaceFile(pidFile(file), `${process.pid}\n`)
  const look = watchWork(file, ports)
  const end = new AbortController()
  let [number, due, underway] = [0, -Infinity, undefined]
  for (;;) {
    const work = look()
    const isStopped = signal.aborted || existsSync(stopFile(file))
    if (isStopped || work.state === 'over') {
      end.abort()
      await underway
      return isStopped ? 'it was told to stop' : work.why
    }
    if (work.state === 'alive' && !underway && ports.elapsed() >= due) {
      due = ports.elapsed() + intervalMs
      number += 1
      underway = beat(number, end.signal).finally(() => (underway = undefined))
    }
    await ports.sleep(Math.min(LOOK_MS, intervalMs), signal)
  }
}

/** Ends the heartbeat of a work, and says how that went. When this returns there is none, and none can begin. */
async function stopBeating(file, ports = PORTS) {
  // One that finds the file at once may be gone before it is looked for below.
  const wasRunning = isRunning(readPid(file))
  // Before any look that counts: a heartbeat that is only starting looks for the file before its first beat.
  replaceFile(stopFile(file), '')
  const pid = readPid(file)
  if (!isRunning(pid)) return { stopped: wasRunning, killed: false }
  signalTo(pid, 'SIGTERM')
  if (await isGone(pid, 10_000, ports)) return { stopped: true, killed: false }
  signalTo(pid, 'SIGKILL')
  await isGone(pid, 2_000, ports)
  return { stopped: true, killed: true }
}

module.exports = { keepBeating, stopBeating, watchWork }

const pidFile = (file) => `${file}.heartbeat`
const stopFile = (file) => `${file}.stop`

/**
 * A function that tells how the work is: `awaited`, `alive`, `doubtful` (no beat, but perhaps only the clock has jumped)
 * or `over`, and `why`. All spans are measured by a clock that does not jump.
 */
function watchWork(file, ports) {
  const began = ports.elapsed()
  const over = (why) => ({ state: 'over', why })
  let latest
  let changedAt
  let endsAt
  return () => {
    const read = readProgress(file)
    if (read && read.until !== latest?.until) endsAt = ports.elapsed() + read.until - ports.now()
    if (read && read.updatedAt !== latest?.updatedAt) changedAt = ports.elapsed()
    // A file that cannot be read just now leaves what it said before.
    latest = read ?? latest
    if (!latest) {
      return ports.elapsed() - began < LONGEST_WAIT_MS ? { state: 'awaited' } : over('no work has begun')
    }
    if (latest.state === 'ended') return over('the work has ended')
    if (!isAlive(latest.pid)) return over('the process of the work is gone')
    if (ports.elapsed() > endsAt) return over('the work has to be over by now')
    const unchanged = ports.elapsed() - changedAt
    const isOfNow = Math.abs(ports.now() - latest.updatedAt) <= STALE_MS
    if (unchanged > STALE_MS || (!isOfNow && unchanged > DOUBT_MS)) return over('the work has not been heard of any more')
    return { state: isOfNow ? 'alive' : 'doubtful' }
  }
}

/** The progress, or nothing if the file is not there, is half written or holds anything else. */
function readProgress(file) {
  try {
    const { pid, state, updatedAt, until } = JSON.parse(readFileSync(file, 'utf8'))
    const isGood = isPid(pid) && ['underway', 'ended'].includes(state) && [updatedAt, until].every(Number.isFinite)
    return isGood ? { pid, state, updatedAt, until } : undefined
  } catch {
    return undefined
  }
}

/** Of one process: 0 and less mean groups, to `kill`. */
function isPid(pid) {
  return Number.isSafeInteger(pid) && pid > 0
}

function readPid(file) {
  try {
    const pid = Number(readFileSync(pidFile(file), 'utf8'))
    return isPid(pid) ? pid : undefined
  } catch {
    return undefined
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // A process of someone else is alive as well.
    return error.code === 'EPERM'
  }
  // One that has ended and that nobody has asked about is still listed, without its arguments.
  return readArguments(pid) !== ''
}

/** Whether this process is a heartbeat. The id may be another process's by now, which must not be killed. */
function isRunning(pid) {
  if (pid === undefined || pid === process.pid || !isAlive(pid)) return false
  return isHeartbeat(pid) ?? true
}

/** Nothing where that cannot be seen. */
function isHeartbeat(pid) {
  return readArguments(pid)?.split('\0').includes('heartbeat')
}

/** What a process was started with, where the system tells it. */
function readArguments(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return undefined
  }
}

/** Only to what is seen to be a heartbeat. Where that cannot be seen, the file that asks it to stop has to do. */
function signalTo(pid, name) {
  if (!isHeartbeat(pid)) return
  try {
    process.kill(pid, name)
  } catch {
    // It is gone already.
  }
}

async function isGone(pid, ms, ports) {
  const end = ports.elapsed() + ms
  while (isRunning(pid)) {
    if (ports.elapsed() > end) return false
    await ports.sleep(50)
  }
  return true
}

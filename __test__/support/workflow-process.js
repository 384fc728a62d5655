'use strict'

// The processes of a job: a step's entry process with what GitHub does to end it, and what a job leaves behind.

const { spawn } = require('node:child_process')
const { readFileSync, readdirSync } = require('node:fs')
const { once } = require('node:events')
const { StringDecoder } = require('node:string_decoder')

/** How long a cancelled step has after SIGINT, and after SIGTERM; then its process tree is killed. */
const SIGINT_MS = 7500
const SIGTERM_MS = 2500

/** How long the runner waits for a stream that a child holds open once the entry process is gone. */
const STREAMS_MS = 5000

/** Runs a command to its end, or until `stop` asks for it. Says how it ended: `{ code, signal }`. */
async function runProcess({ command, args, cwd, env, onLine, stop, timeScale }) {
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const entry = { isGone: false, child, timeScale }
  const exited = once(child, 'exit').finally(() => (entry.isGone = true))
  const listener = { isOver: false, chunks: 0, onLine }
  const closed = Promise.all([readLines(child.stdout, listener), readLines(child.stderr, listener)])
  const unregister = stop.onRequest(() => endProcess(entry, exited))
  try {
    const [code, signal] = await exited
    if (!(await within(closed, STREAMS_MS / timeScale))) await drain(listener)
    return { code, signal }
  } finally {
    unregister()
    listener.isOver = true
    // A child that still holds them must not be hit by their loss, nor keep the test alive.
    for (const stream of [child.stdout, child.stderr]) stream.unref?.()
  }
}

/** As GitHub ends a step: signals to the entry process alone, then death to it and to all below it. */
async function endProcess(entry, exited) {
  for (const [signal, ms] of [['SIGINT', SIGINT_MS], ['SIGTERM', SIGTERM_MS]]) {
    entry.child.kill(signal)
    if (await within(exited, ms / entry.timeScale)) return
  }
  if (!entry.isGone) killTree(entry.child.pid)
}

/** What the entry process wrote is in the pipe by now, though a busy event loop may not have come to read it. */
async function drain(listener) {
  for (let before = -1; before !== listener.chunks; ) {
    before = listener.chunks
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Whether it came in time. */
async function within(promise, ms) {
  let timer
  const late = new Promise((resolve) => (timer = setTimeout(() => resolve(false), ms)))
  try {
    return await Promise.race([promise.then(() => true, () => true), late])
  } finally {
    clearTimeout(timer)
  }
}

/** Lines as they come; the last one may lack its end. */
function readLines(stream, listener) {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  const take = (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()
    if (!listener.isOver) for (const line of lines) listener.onLine(line.replace(/\r$/, ''))
  }
  stream.on('data', (chunk) => {
    listener.chunks += 1
    take(decoder.write(chunk))
  })
  stream.on('error', () => {})
  return new Promise((resolve) => {
    stream.once('close', () => {
      take(decoder.end())
      if (rest !== '') take('\n')
      resolve()
    })
  })
}

/** Kills a process and all below it. */
function killTree(root) {
  const parents = new Map(allProcesses().map((pid) => [pid, parentOf(pid)]))
  const isBelow = (pid) => pid === root || (parents.has(pid) && isBelow(parents.get(pid)))
  for (const pid of parents.keys()) if (isBelow(pid)) kill(pid)
}

/** Kills what carries this mark in its environment, until there is none. Gives the ids. */
async function killMarked(mark) {
  const killed = new Set()
  for (;;) {
    const found = allProcesses().filter((pid) => isMarked(pid, mark))
    if (found.length === 0) return [...killed]
    for (const pid of found) {
      killed.add(pid)
      kill(pid)
    }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

function allProcesses() {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number)
}

/** A dead process that nobody has reaped yet shows no environment. */
function isMarked(pid, mark) {
  return read(`/proc/${pid}/environ`).split('\0').includes(mark)
}

function parentOf(pid) {
  // The name may hold anything, closing parentheses too.
  return Number(/^\d+ \(.*\) \S (\d+) /s.exec(read(`/proc/${pid}/stat`))?.[1] ?? 0)
}

function read(file) {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

module.exports = { killMarked, killTree, runProcess }

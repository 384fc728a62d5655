'use strict'

// What a process and all that it has started take, by `/proc`. Elsewhere than on Linux nothing is seen.

const { readFileSync, readdirSync } = require('node:fs')

const INTERVAL_MS = 50
const TICKS_A_SECOND = 100
const PAGE = 4096

/** Watches a tree until `stop`, which gives the most that it took at one moment, and its time on processors. */
function watchTree(root) {
  const peak = { rss: 0, pss: 0, processes: 0 }
  // A process that has ended keeps what it was last seen to have used.
  const cpu = new Map()
  const look = () => {
    const now = readTree(root)
    for (const { pid, cpuMs } of now.processes) cpu.set(pid, cpuMs)
    peak.rss = Math.max(peak.rss, now.rss)
    peak.pss = Math.max(peak.pss, now.pss)
    peak.processes = Math.max(peak.processes, now.processes.length)
  }
  const timer = setInterval(look, INTERVAL_MS)
  look()
  const cpuMs = () => [...cpu.values()].reduce((sum, ms) => sum + ms, 0)
  return {
    look,
    cpuMs,
    stop() {
      clearInterval(timer)
      return { ...peak, cpuMs: cpuMs() }
    },
  }
}

/** A tree at this moment. `pss` divides what several processes share among them, so that a sum counts it once. */
function readTree(root) {
  const processes = descendants(root).map((pid) => ({ pid, cpuMs: readCpuMs(pid), ...readMemory(pid) }))
  const sum = (name) => processes.reduce((total, it) => total + it[name], 0)
  return { processes, rss: sum('rss'), pss: sum('pss') }
}

function descendants(pid) {
  return [pid, ...childrenOf(pid).flatMap(descendants)]
}

function childrenOf(pid) {
  const tasks = attempt(() => readdirSync(`/proc/${pid}/task`)) ?? []
  const lists = tasks.map((task) => attempt(() => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8')) ?? '')
  return lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number))
}

/** Milliseconds on processors so far. */
function readCpuMs(pid) {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  if (!stat) return 0
  // The name stands in brackets and may hold spaces; times are the 14th and 15th field of the line.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_A_SECOND
}

function readMemory(pid) {
  const rollup = attempt(() => readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
  const kib = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(rollup)?.[1] ?? 0)
  if (rollup) return { rss: kib('Rss') * 1024, pss: kib('Pss') * 1024 }
  const pages = Number(attempt(() => readFileSync(`/proc/${pid}/statm`, 'utf8'))?.split(' ')[1] ?? 0)
  return { rss: pages * PAGE, pss: pages * PAGE }
}

/** A process may be gone before it is looked at. */
function attempt(read) {
  try {
    return read()
  } catch {
    return undefined
  }
}

module.exports = { readCpuMs, readTree, watchTree }

'use strict'

// What a process and all that it has started take, by `/proc`. Elsewhere than on Linux nothing is seen.

const { readFileSync } = require('node:fs')

const { MIB, sum } = require('./figures.js')

const INTERVAL_MS = 50
const TICKS_A_SECOND = 100
const PAGE = 4096
/** A peak that is higher by less is the same one. */
const GROWTH = MIB / 2

/**
 * Watches a tree. The function that it returns ends that, and gives the most that the tree took at one moment and its time on processors.
 * `pss` divides what several processes share among them, so that a sum counts it once; being dear to read, it is read when a tree has grown.
 */
function watchTree(root) {
  const peak = { rss: 0, pss: 0 }
  // A process that has ended keeps what it was last seen to have used.
  const cpu = new Map()
  const look = () => {
    const { pids, rss } = readTree(root)
    for (const pid of pids) cpu.set(pid, Math.max(cpu.get(pid) ?? 0, readCpuMs(pid)))
    if (rss < peak.rss + GROWTH) return
    peak.rss = rss
    peak.pss = Math.max(peak.pss, sum(pids.map(readShared)))
  }
  const timer = setInterval(look, INTERVAL_MS)
  look()
  return () => {
    clearInterval(timer)
    return { ...peak, cpuMs: sum([...cpu.values()]) }
  }
}

/** A tree at this moment. `own` is the part of `rss` that no file backs: what the processes have written. */
function readTree(root) {
  const pids = descendants(root)
  const resident = pids.map(readResident)
  return { pids, rss: sum(resident.map(({ all }) => all)), own: sum(resident.map(({ own }) => own)) }
}

/** The main thread is the one that starts processes in all that is watched here. */
function descendants(pid) {
  const children = attempt(() => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')) ?? ''
  return [pid, ...children.split(' ').filter(Boolean).map(Number).flatMap(descendants)]
}

/** Milliseconds on processors so far. */
function readCpuMs(pid) {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  if (!stat) return 0
  // The name stands in brackets and may hold spaces; times are the 14th and 15th field of the line.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_A_SECOND
}

function readResident(pid) {
  const fields = attempt(() => readFileSync(`/proc/${pid}/statm`, 'utf8'))?.split(' ') ?? [0, 0, 0]
  const [all, shared] = [Number(fields[1]) * PAGE, Number(fields[2]) * PAGE]
  return { all, own: all - shared }
}

function readShared(pid) {
  const rollup = attempt(() => readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
  return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024
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

'use strict'

// The file by which another process sees whether the work goes on: the heartbeat beats for as long as it does.

const { renameSync, rmSync, writeFileSync } = require('node:fs')

/** How often the file is written while nothing happens. Who reads it takes a process that is silent for 30 s for hung. */
const EVERY_MS = 5000

/**
 * Opens the file. `longestMs` is how long the work can last at all; who still beats after that beats for a ghost.
 *
 * A timer alone shows that the process is alive, and no more than that; so the file has its own end.
 */
function openProgress(file, longestMs, complain) {
  if (!file) return { advance() {}, end() {} }
  let seq = 0
  let broken = false
  const until = Date.now() + longestMs
  const write = (state) => {
    if (broken) return
    seq += 1
    try {
      replaceFile(file, `${JSON.stringify({ pid: process.pid, state, seq, updatedAt: Date.now(), until })}\n`)
    } catch (error) {
      broken = true
      complain(`cannot write to ${file}, so there will be no heartbeat: ${error.message}`)
    }
  }
  const timer = setInterval(() => write('underway'), EVERY_MS)
  timer.unref()
  write('underway')
  return {
    advance: () => write('underway'),
    end() {
      clearInterval(timer)
      write('ended')
    },
  }
}

module.exports = { openProgress, replaceFile }

/** Whoever reads sees the old file or the new one, never a part of it. */
function replaceFile(file, text) {
  const fresh = `${file}.${process.pid}`
  try {
    writeFileSync(fresh, text)
    renameSync(fresh, file)
  } catch (error) {
    rmSync(fresh, { force: true })
    throw error
  }
}

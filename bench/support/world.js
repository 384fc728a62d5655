'use strict'

// The simulator as this benchmark wants it: built for speed, with machines that take 25 s, and with its own cost told apart.

const { execFileSync } = require('node:child_process')
const path = require('node:path')

const { ROOT } = require('../../scripts/setup.js')
const { startCloud } = require('../../__test__/support/simulator.js')
const { readCpuMs } = require('./process-tree.js')

const EXE = process.platform === 'win32' ? '.exe' : ''
const PROGRAM = path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'release', `simulator${EXE}`)

/** Of the 25 s from the order to the join: two actions one after the other, and then the machine on its own. */
const BOOT = { create: 5, start: 3, kernel: 7, install: 8.5, join: 1.5 }
const BOOT_SECONDS = Object.values(BOOT).reduce((sum, seconds) => sum + seconds, 0)

/** Builds the local cloud; a debug build would take a core for itself. */
function buildWorld() {
  execFileSync('cargo', ['build', '--release', '--package', 'simulator', '--locked', '--quiet'], { cwd: ROOT, stdio: 'inherit' })
}

/**
 * A world whose machines join `BOOT_SECONDS` and `later` more after their order. What is enrolled shows in lists at once, so that the moment
 * is the same for all who look. `remaining` is what is left in the bucket, `boot` another outcome of boots, `latencyMs` how long requests take instead of 30 to 120 ms, `program` another build.
 */
async function openWorld({ later = 0, latencyMs, remaining, boot, timeScale = 1, program = PROGRAM } = {}) {
  const cloud = await startCloud({ program, timeScale })
  const exactly = (seconds) => [seconds, seconds]
  await cloud.configure({
    latency_ms: latencyMs,
    hetzner: {
      create_seconds: exactly(BOOT.create),
      start_seconds: exactly(BOOT.start),
      rate_remaining: remaining,
    },
    machine: {
      kernel_seconds: exactly(BOOT.kernel),
      install_seconds: exactly(BOOT.install + later),
      join_seconds: BOOT.join,
      boot,
    },
    tailscale: { visibility_seconds: 0 },
  })
  const zero = await zeroOf(cloud)
  return {
    cloud,
    env: cloud.env(),
    seen: async () => look(await cloud.journal(), (await cloud.world()).servers, zero),
    cpuMs: () => readCpuMs(cloud.child.pid),
    close: () => cloud.stop(),
  }
}

/** The wall clock's time at which the world began, by the quickest of several looks. Right at time scale 1. */
async function zeroOf(cloud) {
  let best = { tripMs: Infinity }
  for (let looks = 0; looks < 5; looks += 1) {
    const asked = Date.now()
    const { elapsed_ms: elapsed } = await cloud.world()
    const answered = Date.now()
    const tripMs = answered - asked
    if (tripMs < best.tripMs) best = { tripMs, zero: (asked + answered) / 2 - elapsed }
  }
  return best.zero
}

/** What the world has seen: requests and refusals by API, and the moment of each job's enrolment. */
function look(journal, servers, zero) {
  const jobs = new Map(servers.map(({ id, labels }) => [String(id), labels.provisioning_job_id]))
  const requests = { hetzner: 0, tailscale: 0 }
  const refused = { hetzner: 0, tailscale: 0 }
  const enrolled = new Map()
  for (const { at_ms: at, who, what, outcome } of journal) {
    if (who in requests) {
      requests[who] += 1
      if (outcome === '429') refused[who] += 1
      continue
    }
    const [, server] = /^machine (\d+) joins$/.exec(what) ?? []
    if (server && outcome.startsWith('as ')) enrolled.set(jobs.get(server), zero + at)
  }
  return { requests, refused, enrolled }
}

module.exports = { BOOT_SECONDS, buildWorld, openWorld }

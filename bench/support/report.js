'use strict'

// What a process that does jobs says of them: a line of JSON for each as it settles, and one at the end. So what is known of a run that
// is cut short is not lost.

/**
 * Does the jobs that the arguments ask for: how many, how their ids begin, and of how many they are the first. `start` takes them and gives
 * outcomes as they settle, in the shape of `provisionMany`.
 */
async function runJobs(start) {
  const [count, prefix, known = count] = process.argv.slice(2).map((it, at) => (at === 1 ? it : Number(it)))
  const all = Array.from({ length: known }, (_, at) => ({
    jobId: `${prefix}-${at + 1}`,
    agentId: `agent${String(at + 1).padStart(3, '0')}-bench`,
    region: 'us-east',
  }))
  const jobs = all.slice(0, count)
  say({ kind: 'began', at: Date.now() })
  let done = 0
  for await (const { jobId, status, value, reason } of start(jobs)) {
    const isDone = status === 'fulfilled'
    if (isDone) done += 1
    const more = isDone ? { requests: value.requests } : { code: reason.code ?? reason.name, message: reason.message }
    say({ kind: 'job', jobId, ok: isDone, at: Date.now(), ...more })
  }
  say({ kind: 'ended', at: Date.now(), done, failed: count - done })
}

/** Begins all jobs at once and gives their outcomes as they settle. */
async function* asTheySettle(jobs, provision) {
  const settled = []
  let wake
  for (const job of jobs) {
    const take = (outcome) => {
      settled.push({ jobId: job.jobId, ...outcome })
      wake?.()
    }
    provision(job).then(
      (value) => take({ status: 'fulfilled', value }),
      (reason) => take({ status: 'rejected', reason }),
    )
  }
  for (let left = jobs.length; left > 0; left -= 1) {
    if (settled.length === 0) await new Promise((resolve) => (wake = resolve))
    yield settled.shift()
  }
}

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

module.exports = { asTheySettle, runJobs }

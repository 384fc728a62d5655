'use strict'

// What a process that does jobs says of them: a line of JSON for each as it settles, and one at the end. So what is known of a run that
// is cut short is not lost.

/**
 * Does the jobs that the arguments ask for: how many, and how their ids begin. `start` takes them and gives outcomes as they settle, in the
 * shape of `provisionMany`.
 */
async function runJobs(start) {
  const [count, prefix] = [Number(process.argv[2]), process.argv[3]]
  const jobs = Array.from({ length: count }, (_, at) => ({
    jobId: `${prefix}-${at + 1}`,
    agentId: `agent${at + 1}`,
    region: 'us-east',
  }))
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

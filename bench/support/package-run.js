'use strict'

// Does jobs with the package and reports them: what `plain/run.ts` is for the plain way.

const provisioning = require('../..')
const { asTheySettle, runJobs } = require('./report.js')

/** All jobs at once, through the call for many if the package has one. */
function start(jobs) {
  const options = { logger: false }
  const { provisionMany, provisionVM } = provisioning
  if (provisionMany) return provisionMany(jobs, { ...options, concurrency: jobs.length })
  return asTheySettle(jobs, (job) => provisionVM(job, options))
}

runJobs(start)

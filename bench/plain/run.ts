// Does jobs in the plain way and reports them: what `support/package-run.js` is for the package.

import { asTheySettle, runJobs } from '../support/report.js'
import { provisionVM, type Job } from './orchestrator.ts'

runJobs((jobs: Job[]) => asTheySettle(jobs, (job: Job) => provisionVM(job)))

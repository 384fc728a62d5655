'use strict'

// An app that takes boot reports, and keeps what it believes.

const { once } = require('node:events')
const { createServer } = require('node:http')

const { verifyBootReport } = require('provision-vm/boot-report')
const { SECRET } = require('./boot-reports.js')

/** Starts one whose clock is the cloud's. */
async function startReportApp(cloud) {
  const kept = new Map()
  const refused = []
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray())
    const now = Date.parse((await cloud.world()).now)
    const verified = verifyBootReport({ body, headers: request.headers }, { secret: SECRET, now: () => now })
    const [status, report] = await verified.then((report) => [200, report], (error) => [error.status, refused.push(error) && undefined])
    // A copy has no effect.
    if (report && !kept.has(report.id)) kept.set(report.id, report)
    response.writeHead(status).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}/boot?source=vm`,
    refused,
    /** What is kept of a job, in the order of the machine. */
    reportsOf: (jobId) => [...kept.values()].filter((report) => report.jobId === jobId).sort((one, other) => one.seq - other.seq),
    stop() {
      server.close()
      server.closeAllConnections()
    },
  }
}

module.exports = { startReportApp }

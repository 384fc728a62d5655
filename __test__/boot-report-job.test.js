'use strict'

// Boot reports from one end to the other: a job that asks for them, the machine that sends them, the app that keeps them, and
// the hint that tells of them.

const assert = require('node:assert/strict')
const { after, before, beforeEach, mock, test } = require('node:test')

const { provisionVM } = require('..')
const { SECRET } = require('./support/boot-reports.js')
const { startReportApp } = require('./support/report-app.js')
const { leftIn, newJob, startCloud } = require('./support/simulator.js')

let cloud
let app
before(async () => {
  cloud = await startCloud({ timeScale: 10 })
  app = await startReportApp(cloud)
})
after(async () => {
  app.stop()
  await cloud.stop()
})
beforeEach(() => cloud.reset())

/** What the machine of a server finds beside its join script, and posts with. */
async function machine(serverId) {
  const { userData: text } = await cloud.control('GET', `servers/${serverId}/user-data`)
  const { write_files: files } = JSON.parse(text.replace('#cloud-config\n', ''))
  const file = files.find(({ path }) => path === '/root/provision-vm/report')
  assert.ok(!text.includes(SECRET), 'no machine gets the secret')
  const [, url, token] = /^url = "(.*)"\nheader = "Authorization: Bearer (.*)"\n$/.exec(file.content)
  const post = async (report) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    return (await fetch(url, { method: 'POST', headers, body: JSON.stringify(report) })).status
  }
  return { token, post }
}

const START = 1_795_428_000
const REPORTS = [
  { event: 'started', at: START, seq: 1 },
  { event: 'clock', at: START + 4, seq: 2 },
  { event: 'failed', class: 'key-refused', at: START + 34, seq: 3 },
]

/** A call that fails although its machine reports; what it says, and what it was told. */
async function provision(options = {}, { params = newJob(), reports = REPORTS } = {}) {
  const secrets = []
  let boot
  const onProgress = ({ serverId }) => {
    if (!serverId || boot) return
    boot = (async () => {
      const { token, post } = await machine(serverId)
      for (const report of [...reports, ...reports]) assert.equal(await post(report), 200)
      return token
    })()
  }
  const usual = { env: cloud.env(), logger: false, timeoutMs: 3000, bootReportUrl: app.url, bootReportSecret: SECRET }
  const all = { ...usual, onProgress, onSecret: (secret) => secrets.push(secret), ...options }
  const { bootReports } = options
  // What was posted has arrived before anybody is asked for it.
  const asked = (machine) => (boot ? boot.then(() => bootReports(machine)) : bootReports(machine))
  const call = provisionVM(params, { ...all, bootReports: typeof bootReports === 'function' ? asked : bootReports })
  const error = await call.then(() => assert.fail('the call succeeded'), (error) => error)
  return { error, token: await boot, secrets, params }
}

test('what a machine reports arrives, and its last word stands in the hint of a timeout', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const asked = []
  const params = newJob()
  const bootReports = async (machine) => {
    asked.push(machine)
    return app.reportsOf(machine.jobId)
  }
  const { error, token, secrets } = await provision({ bootReports }, { params })
  assert.equal(error.code, 'ENROLL_TIMEOUT', error.stack)
  assert.ok(secrets.includes(token), 'a log can mask it')
  const reports = app.reportsOf(params.jobId)
  assert.deepEqual(reports.map(({ event, class: failure, seq }) => [event, failure, seq]), [
    ['started', undefined, 1], ['clock', undefined, 2], ['failed', 'key-refused', 3],
  ])
  const [{ serverName, attempt, id }] = reports
  assert.deepEqual([id, asked], [`${attempt}-1`, [{ jobId: params.jobId, serverName }]])
  assert.match(error.hint, /^Look at why the machine does not join: /)
  assert.match(error.hint, / the auth key was never used, so the machine did not get as far as `tailscale up`/)
  assert.match(error.hint, / The machine's last report, 34 s after its boot began: failed \(key-refused\): Tailscale refused the auth key; .*\.$/)
  assert.ok(!JSON.stringify(error).includes(token) && !('unheard' in error), JSON.stringify(error))
  assert.deepEqual(leftIn(await cloud.world()), [])
})

test('reports come from environment variables too, also as JSON, and of a device that is refused', async () => {
  await cloud.configure({ tailscale: { never_authorized: true } })
  const env = cloud.env({ BOOT_REPORT_URL: app.url, BOOT_REPORT_SECRET: SECRET })
  const bootReports = ({ jobId }) => JSON.parse(JSON.stringify(app.reportsOf(jobId)))
  const reports = [REPORTS[0], { event: 'failed', class: 'approval', at: START + 20, seq: 2 }]
  const { error } = await provision({ env, bootReports, bootReportUrl: undefined, bootReportSecret: null }, { reports })
  assert.equal(error.code, 'ENROLL_REJECTED', error.stack)
  assert.match(error.hint, / last report, 20 s after its boot began: failed \(approval\): its device waits for approval; /)
})

test('reports that are of no use, and what asks for them, cost nothing but a warning', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const warnings = []
  const onWarning = (warning) => warnings.push(`${warning.name}: ${warning.message}`)
  process.on('warning', onWarning)
  const good = (jobId) => app.reportsOf(jobId)
  const fail = () => {
    throw new Error('no database')
  }
  const none = / No report of the machine is known: /
  const told = /failed \(key-refused\)/
  const cases = [
    [({ jobId }) => good(jobId).map((report) => ({ ...report, attempt: 'another' })), none],
    [() => [], none],
    [({ jobId }) => [null, 5, { get event() { return fail() } }, { at: 5n }, ...good(jobId)], told, '4 of 7 reports are not what verifyBootReport gives, and are ignored'],
    [() => undefined, undefined, 'it gave no array of reports'],
    [() => 'none', undefined, 'it gave no array of reports'],
    [fail, undefined, 'Error: no database'],
    [async () => fail(), undefined, 'Error: no database'],
  ]
  // One of them throws before there is a promise.
  const more = (bootReports) => (bootReports === fail ? { onProgress: undefined } : {})
  const outcomes = await Promise.all(cases.map(([bootReports]) => provision({ bootReports, ...more(bootReports) })))
  await new Promise(setImmediate)
  process.off('warning', onWarning)
  for (const [index, { error }] of outcomes.entries()) {
    const [bootReports, expected] = cases[index]
    assert.equal(error.code, 'ENROLL_TIMEOUT', error.stack)
    if (expected) assert.match(error.hint, expected, String(bootReports))
    else assert.doesNotMatch(error.hint, / report/, String(bootReports))
  }
  const expected = cases.map(([, , warning]) => warning).filter(Boolean).map((text) => `ProvisionVMWarning: bootReports: ${text}`)
  assert.deepEqual(warnings.sort(), expected.sort())
})

test('who never says what was reported is not waited for', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const warnings = []
  const onWarning = (warning) => warnings.push(`${warning.name}: ${warning.message}`)
  process.on('warning', onWarning)
  mock.timers.enable({ apis: ['setTimeout'] })
  try {
    const bootReports = () => {
      setImmediate(() => mock.timers.tick(5000))
      return new Promise(() => {})
    }
    const { error } = await provision({ bootReports, onProgress: undefined })
    assert.equal(error.code, 'ENROLL_TIMEOUT', error.stack)
    await new Promise(setImmediate)
    assert.ok(warnings.includes('ProvisionVMWarning: bootReports: Error: no answer within 5 s'), warnings.join())
  } finally {
    process.off('warning', onWarning)
    mock.timers.reset()
  }
})

test('nobody is asked where no machine was told to report, or none was made', async () => {
  const bootReports = () => assert.fail('it was asked')
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const silent = { bootReports, bootReportUrl: null, bootReportSecret: null, onProgress: undefined }
  assert.equal((await provision(silent)).error.code, 'ENROLL_TIMEOUT')
  await cloud.configure({ hetzner: { server_limit: 0 } })
  assert.equal((await provision({ bootReports })).error.code, 'QUOTA')
  const { error } = await provision({ bootReports: 'reports' })
  assert.deepEqual([error.code, error.field], ['INVALID_INPUT', 'options.bootReports'])
})

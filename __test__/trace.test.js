'use strict'

// Spans and counts: what a call took and asked, for who watches many services at once.

const assert = require('node:assert/strict')
const { after, before, beforeEach, test } = require('node:test')

const { deprovisionVM, getMetrics, getProvisioning, listVMs, plan, provisionMany, provisionVM } = require('..')
const { newJob, startCloud, usable } = require('./support/simulator.js')

let cloud
before(async () => (cloud = await startCloud()))
beforeEach(() => cloud.reset())
after(() => cloud.stop())

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const ABOVE = '00f067aa0ba902b7'
const traceparent = `00-${TRACE}-${ABOVE}-01`

/** The spans of a call, and how it ended. */
async function traced(call, more = {}) {
  const spans = []
  const outcome = await call({ env: cloud.env(), logger: false, onSpan: (span) => spans.push(span), ...more }).then(
    (value) => ({ value }),
    (error) => ({ error }),
  )
  return { spans, ...outcome }
}

const attributesOf = ({ attributes }) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue)]))

test('a call has a span, with one for each step and each request in it', async () => {
  const job = newJob()
  const { spans, value } = await traced((options) => provisionVM(job, options), { traceparent })
  const root = spans.at(-1)
  assert.deepEqual([root.name, root.kind, root.traceId, root.parentSpanId, root.status], ['provisionVM', 1, TRACE, ABOVE, {}])
  assert.deepEqual(attributesOf(root), {
    'provision_vm.job_id': job.jobId,
    'provision_vm.agent_id': job.agentId,
    'provision_vm.server_name': value.serverName,
  })
  const steps = spans.filter((span) => span.kind === 1 && span !== root)
  assert.deepEqual(steps.map(({ name }) => name), ['lookup', 'auth_key', 'first_boot', 'server', 'wait', 'verify', 'ready'])
  for (const step of steps) assert.equal(step.parentSpanId, root.spanId)
  const requests = spans.filter(({ kind }) => kind === 3)
  assert.equal(requests.length, value.requests.hetzner + value.requests.tailscale)
  for (const request of requests) {
    const step = steps.find(({ spanId }) => spanId === request.parentSpanId)
    assert.ok(step && BigInt(step.startTimeUnixNano) <= BigInt(request.startTimeUnixNano), request.name)
  }
  assert.equal(new Set(spans.map(({ spanId }) => spanId)).size, spans.length)
  for (const { traceId, spanId, startTimeUnixNano: start, endTimeUnixNano: end } of spans) {
    assert.match(`${traceId} ${spanId}`, /^[0-9a-f]{32} [0-9a-f]{16}$/)
    assert.ok(BigInt(root.startTimeUnixNano) <= BigInt(start) && BigInt(start) <= BigInt(end) && BigInt(end) <= BigInt(root.endTimeUnixNano))
  }
  const order = attributesOf(requests.find(({ name }) => name === 'create server'))
  const { hostname, port } = new URL(cloud.env().HETZNER_API_URL)
  assert.deepEqual(order, {
    'http.request.method': 'POST',
    'server.address': hostname,
    'server.port': Number(port),
    'url.full': `${cloud.env().HETZNER_API_URL}/servers`,
    'http.response.status_code': 201,
  })
})

test('no secret and no query is in a span', async () => {
  const secrets = []
  const { spans } = await traced((options) => provisionVM(newJob(), options), { onSecret: (secret) => secrets.push(secret) })
  const text = JSON.stringify(spans)
  const { HETZNER_API_TOKEN, TAILSCALE_OAUTH_CLIENT_SECRET } = cloud.env()
  for (const secret of [...secrets, HETZNER_API_TOKEN, TAILSCALE_OAUTH_CLIENT_SECRET]) assert.ok(!text.includes(secret))
  assert.ok(secrets.length >= 2 && !text.includes('?'))
  assert.deepEqual(new Set(spans.map(({ traceId }) => traceId)).size, 1, 'without a traceparent it is a trace of its own')
  assert.equal(spans.at(-1).parentSpanId, '')
})

test('what failed is marked, and the undo is a step', async () => {
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const { spans, error } = await traced((options) => provisionVM(newJob(), options), { timeoutMs: 3000 })
  const root = spans.at(-1)
  assert.deepEqual([attributesOf(root)['error.type'], root.status.code], [error.code, 2])
  assert.ok(spans.some(({ name, kind }) => name === 'undo' && kind === 1))
  const failed = spans.filter(({ kind, status, name }) => kind === 1 && status.code === 2 && name !== 'undo')
  assert.deepEqual(failed.map(({ name }) => name), ['wait', 'provisionVM'])
  assert.match(failed[0].status.message, /join/)
  assert.ok(spans.some(({ name, kind }) => name === 'delete server' && kind === 3))

  await cloud.reset()
  await cloud.configure({ machine: { boot: 'never_joins' } })
  const answer = { status: 403, json: { error: { code: 'forbidden', message: 'no', details: null } } }
  await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 99, kind: { answer } })
  const stays = await traced((options) => provisionVM(newJob(), options), { timeoutMs: 3000 })
  const undone = await traced((options) => provisionVM(newJob(), options), { env: cloud.env({ HETZNER_SSH_KEY_ID: 'nobody' }) })
  const whole = undone.spans.find(({ name, kind }) => name === 'undo' && kind === 1)
  assert.deepEqual([undone.error.leftovers, whole.status], [[], {}])
  const undo = stays.spans.find(({ name, kind }) => name === 'undo' && kind === 1)
  assert.deepEqual(undo.status, { code: 2, message: `${stays.error.leftovers.length} left behind` })
  assert.equal(attributesOf(stays.spans.at(-1))['provision_vm.leftovers'], stays.error.leftovers.length)

  const unset = await traced((options) => provisionVM(newJob(), options), { env: {} })
  assert.deepEqual(unset.spans.map((span) => [span.name, attributesOf(span)['error.type']]), [['provisionVM', 'CONFIG']])

  await cloud.reset()
  const refused = await traced((options) => provisionVM(newJob(), options), { env: cloud.env({ HETZNER_API_TOKEN: 'wrong' }) })
  const [request] = refused.spans.filter(({ kind, status }) => kind === 3 && status.code === 2)
  assert.deepEqual([attributesOf(request)['http.response.status_code'], attributesOf(request)['error.type']], [401, '401'])
})

test('each call that is about a job says about which', async () => {
  const job = newJob()
  const ids = { 'provision_vm.job_id': job.jobId, 'provision_vm.agent_id': job.agentId }
  for (const [call, wanted] of [
    [(options) => plan(job, options), ids],
    [(options) => getProvisioning(job, options), ids],
    [(options) => deprovisionVM({ jobId: job.jobId }, options), { 'provision_vm.job_id': job.jobId }],
    [(options) => provisionVM({ ...job, jobId: 'x'.repeat(64) }, options), { 'provision_vm.agent_id': job.agentId, 'error.type': 'INVALID_INPUT' }],
  ]) {
    const { spans } = await traced(call)
    assert.deepEqual(attributesOf(spans.at(-1)), wanted, spans.at(-1).name)
  }
})

test('a request that is given up is told and counted as such, and one that repeats another says so', async () => {
  const count = ({ requests }) => requests.filter(({ outcome }) => outcome === 'cancelled').reduce((sum, { count }) => sum + count, 0)
  const before = count(getMetrics())
  await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 1, kind: 'hang_before_apply' })
  const controller = new AbortController()
  const call = traced((options) => listVMs(options), { signal: controller.signal })
  await cloud.until(({ requests: { hetzner } }) => hetzner > 0)
  controller.abort()
  const { spans, error } = await call
  const [request, step, root] = spans
  assert.deepEqual([error.code, spans.map(({ name }) => name)], ['ABORTED', ['find servers', 'read', 'listVMs']])
  assert.deepEqual([request, step, root].map(({ status }) => status.code), [2, 2, 2])
  assert.equal(attributesOf(request)['error.type'], 'cancelled')
  assert.equal(count(getMetrics()) - before, 1)

  await cloud.reset()
  await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 1, kind: 'reset_before_apply' })
  const again = await traced((options) => listVMs(options))
  const counts = again.spans.filter(({ kind }) => kind === 3).map((span) => attributesOf(span)['http.request.resend_count'])
  assert.deepEqual(counts, [undefined, 1])
})

test('who joins a job and stays is told of it when the one who began has left', async () => {
  const job = newJob()
  const controller = new AbortController()
  // It leaves while the order is under way, whose answer comes to the one who stays.
  await cloud.configure({ latency_ms: [20_000, 20_000] })
  const first = traced((options) => provisionVM(job, options), { signal: controller.signal })
  const second = traced((options) => provisionVM(job, options), { traceparent })
  await cloud.untilAsked('POST /v1/servers')
  controller.abort()
  const left = await first
  await cloud.configure({ latency_ms: [5, 10] })
  const stayed = await second
  assert.deepEqual([left.error.code, stayed.error, stayed.value.reused], ['ABORTED', undefined, false])
  const steps = ({ spans }) => spans.filter(({ kind }) => kind === 1).map(({ name }) => name)
  assert.ok(steps(left).includes('server') && !steps(left).includes('ready'), steps(left).join())
  assert.deepEqual(steps(stayed).slice(-3), ['verify', 'ready', 'provisionVM'])
  assert.deepEqual([left, stayed].map(({ spans }) => spans.filter(({ name }) => name === 'create server').length), [0, 1])
  const requests = stayed.spans.filter(({ kind }) => kind === 3)
  assert.ok(requests.length > 0 && requests.every(({ traceId }) => traceId === TRACE))
  const root = attributesOf(stayed.spans.at(-1))
  assert.deepEqual([root['provision_vm.job_id'], root['provision_vm.server_name']], [job.jobId, stayed.value.serverName])
})

test('each of many jobs has a span of its own within that of the call', async () => {
  const jobs = [newJob(), newJob(), newJob()]
  const { spans } = await traced((options) => provisionMany(jobs, options).summary, { traceparent })
  const root = spans.at(-1)
  assert.deepEqual([root.name, root.parentSpanId], ['provisionMany', ABOVE])
  const each = spans.filter(({ name }) => name === 'provisionVM')
  assert.deepEqual(each.map(({ parentSpanId }) => parentSpanId), jobs.map(() => root.spanId))
  assert.deepEqual(each.map((span) => attributesOf(span)['provision_vm.job_id']).sort(), jobs.map(({ jobId }) => jobId).sort())
})

test('nobody who does not ask for spans gets any, and a traceparent that cannot be read stops no call', async () => {
  const events = []
  await provisionVM(newJob(), { env: cloud.env(), logger: false, onProgress: (event) => events.push(event), traceparent })
  assert.ok(events.length > 5 && events.every((event) => event.message && !('span' in event)))
  await cloud.reset()
  for (const wrong of ['', '00-1-2-3', `00-${TRACE}-${ABOVE}-01-more`, `00-${'0'.repeat(32)}-${ABOVE}-01`, '\ud800']) {
    const { spans, error } = await traced((options) => listVMs(options), { traceparent: wrong })
    assert.deepEqual([error, spans.at(-1).name, spans.at(-1).parentSpanId], [undefined, 'listVMs', ''], wrong)
  }
})

test('a listener that throws harms nothing', async () => {
  const warned = new Promise((resolve) => process.once('warning', resolve))
  await provisionVM(newJob(), { env: cloud.env(), logger: false, onSpan: () => assert.fail('no') })
  assert.match((await warned).message, /^onSpan failed: /)
  assert.equal(usable(await cloud.world()).length, 0)
})

test('what the process has done is counted', async () => {
  const count = (list, fits) => list.filter(fits).reduce((sum, { count }) => sum + count, 0)
  const calls = (metrics, outcome) => count(metrics.calls, (it) => it.function === 'provisionVM' && it.outcome === outcome)
  const requests = (metrics, method, outcome) => count(metrics.requests, (it) => it.method === method && it.outcome === outcome)
  const first = getMetrics()
  assert.equal(first.underway, 0)
  const call = provisionVM(newJob(), { env: cloud.env(), logger: false })
  assert.equal(getMetrics().underway, 1)
  const { requests: made } = await call
  const second = getMetrics()
  const total = ({ requests }) => count(requests, () => true)
  assert.deepEqual([second.underway, calls(second, 'ok') - calls(first, 'ok')], [0, 1])
  assert.equal(total(second) - total(first), made.hetzner + made.tailscale)
  assert.ok(second.calls.every(({ seconds, count }) => seconds >= 0 && count > 0))

  await cloud.fault({ api: 'hetzner', method: 'GET', path: '/servers', times: 1, kind: 'reset_before_apply' })
  await listVMs({ env: cloud.env(), logger: false })
  const third = getMetrics()
  assert.deepEqual([third.retries - second.retries, requests(third, 'GET', 'broken') - requests(second, 'GET', 'broken')], [1, 1])
  await provisionVM(newJob(), { env: cloud.env({ HETZNER_API_TOKEN: 'wrong' }), logger: false }).catch(() => {})
  const fourth = getMetrics()
  assert.equal(calls(fourth, 'AUTH_HETZNER') - calls(third, 'AUTH_HETZNER'), 1)
  assert.ok(requests(fourth, 'GET', '401') > requests(third, 'GET', '401'))
})

'use strict'

// The Next.js example as people deploy it: built from tarballs of the package, run as a standalone server, driven with a
// browser. What came of every click is judged in the simulated world.

const assert = require('node:assert/strict')
const { existsSync, lstatSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } = require('node:fs')
const { createServer } = require('node:net')
const { once } = require('node:events')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, afterEach, before, beforeEach, describe, test } = require('node:test')

const { chromium } = require('playwright-core')
const { signCallback } = require('../js/webhook.js')
const { packAll } = require('../scripts/pack.js')
const { eavesdrop } = require('./support/eavesdropper.js')
const { deploy, install, run, serve } = require('./support/example.js')
const { leftIn, startCloud, ROOT } = require('./support/simulator.js')

/** Debian's Chromium; the others are what Ubuntu and GitHub's runners have. */
const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const BROWSER = BROWSERS.find((file) => existsSync(file))
const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
]
const SECRET = 'callbacks-SECRETSECRETSECRET05'

// Where a browser is required, its absence is no reason to skip, and the tests fail for want of it.
const isMissing = !BROWSER && !process.env.PROVISION_VM_REQUIRE_BROWSER

describe('the Next.js example', { skip: isMissing && `there is none of ${BROWSERS.join(', ')}` }, () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'provision-vm-example-'))
  let packed, source, server, port, cloud, tailscale, app, browser

  const start = () => {
    const env = cloud.env({ TAILSCALE_API_URL: tailscale.url, GH_CALLBACK_SECRET: SECRET })
    return serve(server, env, port)
  }

  before(async () => {
    packed = packAll({ out: path.join(directory, 'packages') })
    source = await install(directory, packed)
    await run(source, 'npm', 'run', '--silent', 'check')
    await run(source, 'npm', 'run', '--silent', 'build')
    server = deploy(directory, source)
    // From here on there is nothing but the folder that is deployed.
    rmSync(path.join(source, 'node_modules'), { recursive: true })
    cloud = await startCloud({ timeScale: 10 })
    tailscale = await eavesdrop(cloud.greeting.tailscale)
    port = await freePort()
    app = await start()
    browser = await chromium.launch({ executablePath: BROWSER ?? BROWSERS[0], args: ARGUMENTS })
  })

  after(async () => {
    await browser?.close()
    // Asked politely it would wait for jobs that a failed test has left under way.
    await app?.stop('SIGKILL')
    tailscale?.stop()
    await cloud?.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  /** A browser that has never been here, with what it complains of and every text that it got. */
  let page, complaints, received

  beforeEach(async () => {
    await cloud.reset()
    page = await browser.newPage({ viewport: { width: 1280, height: 900 }, deviceScaleFactor: 2, reducedMotion: 'reduce' })
    page.setDefaultTimeout(60_000)
    complaints = []
    received = []
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
    })
    page.on('response', (response) => {
      received.push(`${response.url()} ${JSON.stringify(response.headers())}`)
      // The stream has no end; its events are taken one by one.
      if (!response.url().endsWith('/api/events')) received.push(response.text().catch(() => ''))
    })
    const devtools = await page.context().newCDPSession(page)
    await devtools.send('Network.enable')
    devtools.on('Network.eventSourceMessageReceived', ({ data }) => received.push(data))
    await page.goto(app.url)
  })

  afterEach(async () => {
    const html = await page.content()
    const texts = await Promise.all(received)
    await page.context().close()
    assert.deepEqual(complaints, [])
    const { hetznerToken, tailscaleClientSecret } = cloud.greeting
    for (const secret of [hetznerToken, tailscaleClientSecret, SECRET, ...tailscale.secrets]) {
      assert.ok(secret.length > 20)
      const leak = [html, ...texts, ...app.said].find((text) => text.includes(secret))
      assert.equal(leak, undefined, 'a secret has left the server')
    }
  })

  /** The card of a job, with what a person would look at. */
  function cardOf(jobId) {
    const card = page.getByRole('article', { name: jobId, exact: true })
    return {
      card,
      status: card.getByRole('status'),
      press: (name) => card.getByRole('button', { name, exact: true }).click(),
      destroy: async (name = 'Destroy') => {
        await card.getByRole('button', { name, exact: true }).click()
        await card.getByRole('dialog').getByRole('button', { name: 'Destroy for good' }).click()
      },
      is: (label) => card.locator('.pill').getByText(label, { exact: true }).waitFor(),
      fact: (name) => card.locator('dl div', { has: page.getByText(name, { exact: true }) }).locator('dd').textContent(),
      callbacks: () => card.locator('.callbacks li').allTextContents(),
      told: (type, at) => card.locator('.callbacks li').nth(at).getByText(type, { exact: true }).waitFor(),
    }
  }

  async function fillIn(jobId, agentId) {
    await page.getByLabel('Job', { exact: true }).fill(jobId)
    await page.getByLabel('Agent', { exact: true }).fill(agentId)
    await page.getByRole('button', { name: 'Provision a machine' }).click()
  }

  async function queue(jobId, agentId = '550e8400-e29b') {
    await fillIn(jobId, agentId)
    const card = cardOf(jobId)
    await card.card.waitFor()
    return card
  }

  const latest = async (jobId) => {
    const texts = await Promise.all(received)
    const jobs = texts.filter((text) => text.startsWith('{"')).map((text) => JSON.parse(text))
    return jobs.findLast(({ order }) => order.jobId === jobId)
  }

  test('is installed from tarballs, with the binary in the package of the platform alone', () => {
    const [{ name, files }, main] = packed
    const binary = files.find((file) => file.endsWith('.node'))
    assert.deepEqual(main.files.filter((file) => file.endsWith('.node')), [])
    const modules = path.join(server, 'node_modules')
    assert.ok(lstatSync(path.join(modules, name, binary)).isFile())
    assert.ok(lstatSync(path.join(modules, 'provision-vm')).isDirectory(), 'it is no link')
  })

  test('has its binary found by file tracing, without being told', () => {
    const traces = readdirSync(path.join(source, '.next'), { recursive: true }).filter((file) => file.endsWith('.nft.json'))
    const binary = `${packed[0].name}/${packed[0].files.find((file) => file.endsWith('.node'))}`
    const traced = traces.filter((file) => {
      const { files } = JSON.parse(readFileSync(path.join(source, '.next', file), 'utf8'))
      return files.some((name) => name.endsWith(binary))
    })
    const app = path.join('server', 'app')
    for (const file of ['page.js.nft.json', path.join('api', 'events', 'route.js.nft.json')]) {
      assert.ok(traced.includes(path.join(app, file)), `${file}: ${traced}`)
    }
    // Who only receives callbacks needs no native module.
    const callbacks = path.join(app, 'api', 'callbacks', 'route.js.nft.json')
    assert.ok(traces.includes(callbacks) && !traced.includes(callbacks))
    assert.doesNotMatch(readFileSync(path.join(source, 'next.config.ts'), 'utf8'), /outputFileTracingIncludes/)
  })

  test('provisions, stops, starts and destroys a machine', async () => {
    await page.getByRole('heading', { name: 'No machine yet' }).waitFor()
    const job = await queue('job-1')
    await job.card.locator('[aria-current=step]').getByText('Boot').waitFor()
    await job.status.getByText('Waiting for it to boot').waitFor()
    await job.is('Running')
    const [made] = (await cloud.world()).servers
    const [device] = (await cloud.world()).devices
    assert.deepEqual([await job.fact('Public'), await job.fact('Tailnet')], [made.ipv4, device.ip])
    assert.deepEqual([await job.fact('Server'), made.labels.provisioning_job_id], [made.name, 'job-1'])
    await job.told('running', 1)
    assert.deepEqual(await job.callbacks(), ['provisioning', 'running'])

    await job.press('Stop')
    await job.is('Off')
    assert.equal((await cloud.world()).servers[0].status, 'off')
    await job.press('Start')
    await job.is('Running')
    const world = await cloud.world()
    assert.deepEqual([world.servers[0].status, world.devices[0].connected, world.servers_ever], ['running', true, 1])

    const destroy = job.card.getByRole('button', { name: 'Destroy', exact: true })
    await destroy.click()
    const dialog = page.getByRole('dialog', { name: 'Destroy job-1?' })
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Keep it')
    await page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'hidden' })
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Destroy')
    assert.equal((await cloud.world()).servers.length, 1)
    await job.destroy()
    await job.is('Gone')
    assert.deepEqual(leftIn(await cloud.world()), [])
    await job.press('Dismiss')
    await page.getByRole('heading', { name: 'No machine yet' }).waitFor()
    assert.ok(tailscale.secrets.size >= 2, 'a key and a token were minted, so that there was something to leak')
  })

  test('knows after its process has died what the clouds know', async () => {
    const first = await queue('job-2')
    await first.is('Running')
    const addresses = [await first.fact('Public'), await first.fact('Tailnet')]
    await cloud.configure({ machine: { boot: 'never_joins' } })
    const second = await queue('job-3')
    await second.card.locator('[aria-current=step]').getByText('Boot').waitFor()

    await app.stop('SIGKILL')
    await page.getByText('Connection lost').waitFor()
    app = await start()
    await page.getByText('Connection lost').waitFor({ state: 'hidden' })
    assert.ok(complaints.splice(0).every((text) => text.includes('net::ERR_')))
    await page.reload()
    await first.is('Running')
    assert.deepEqual([await first.fact('Public'), await first.fact('Tailnet')], addresses)
    await second.card.locator('.pill').getByText('Elsewhere').waitFor()

    // Nobody works on it any more, which its label says at last.
    await cloud.advance(3600)
    await page.reload()
    await second.is('Abandoned')
    await second.destroy()
    await second.is('Gone')
    const [left, ...others] = (await cloud.world()).servers
    assert.deepEqual([left.labels.provisioning_job_id, others], ['job-2', []])
  })

  test('says at a field what the package has against it, before any request', async () => {
    for (const [jobId, agentId, label] of [['not a job', 'agent-1', 'Job'], ['job-4', '', 'Agent']]) {
      await fillIn(jobId, agentId)
      const field = page.getByLabel(label, { exact: true })
      await field.and(page.locator('[aria-invalid=true]')).waitFor()
      const complaint = page.locator(`#${await field.getAttribute('aria-describedby')}`)
      assert.match(await complaint.textContent(), /^must be 1 to 63 characters/)
      assert.equal(await page.getByLabel('Job', { exact: true }).inputValue(), jobId, 'what was typed is kept')
    }
    assert.equal(await page.getByRole('article').count(), 0)
    assert.equal(await cloud.requests(), 0)
  })

  test('shows why a job failed and what to do, and removes what it left', async () => {
    await cloud.configure({ hetzner: { server_limit: 0 } })
    const full = await queue('job-5')
    await full.is('Failed')
    const alert = full.card.getByRole('alert')
    await alert.getByText('QUOTA', { exact: true }).waitFor()
    await alert.getByText('Free a server or an address in the project').waitFor()
    await full.told('failed', 1)
    assert.deepEqual(leftIn(await cloud.world()), [])
    await cloud.configure({ hetzner: { server_limit: 10 } })
    await full.press('Try again')
    await full.is('Running')

    await refuseToDelete()
    const left = await queue('job-6')
    await left.is('Failed')
    const server = (await cloud.world()).servers.find(({ labels }) => labels.provisioning_job_id === 'job-6')
    const leftover = left.card.getByRole('listitem').filter({ hasText: `server ${server.id}` })
    assert.match(await leftover.textContent(), /insufficient permissions/)
    await cloud.control('DELETE', 'faults')
    await left.destroy('Destroy what is left')
    await left.is('Gone')
    assert.deepEqual((await cloud.world()).servers.map(({ labels }) => labels.provisioning_job_id), ['job-5'])
  })

  test('undoes a job that is cancelled, and shows how', async () => {
    await cloud.configure({ machine: { boot: 'never_joins' } })
    const job = await queue('job-7')
    await job.card.locator('[aria-current=step]').getByText('Boot').waitFor()
    assert.equal((await cloud.world()).servers.length, 1)
    await job.press('Cancel')
    await job.is('Cancelled')
    await job.card.getByText('Log', { exact: true }).click()
    await job.card.getByText('Undoing what was begun').waitFor()
    assert.deepEqual(leftIn(await cloud.world()), [])
    assert.equal((await cloud.world()).servers_ever, 1)
    await job.told('failed', 1)
  })

  test('believes no callback without the secret', async () => {
    const job = await queue('job-8')
    await job.told('running', 1)
    const body = JSON.stringify({ job_id: 'job-8', workflow_run_id: (await latest('job-8')).runId, type: 'heartbeat' })
    const send = async (headers, text = body) => {
      const answer = await fetch(`${app.url}/api/callbacks`, { method: 'POST', headers, body: text })
      return [answer.status, (await answer.json()).error]
    }
    const signed = (id, text = body, secret = SECRET) => signCallback({ body: text, secret, id })
    const { 'x-signature': legacy } = await signed('1')
    assert.deepEqual(await send(await signed('1', body, 'another-secret-of-some-length')), [401, 'BAD_SIGNATURE'])
    assert.deepEqual(await send(await signed('2', body.replace('heartbeat', 'running'))), [401, 'BAD_SIGNATURE'])
    assert.deepEqual(await send({ 'x-signature': legacy }), [401, 'MISSING_HEADERS'])
    assert.deepEqual(await send({}), [401, 'MISSING_HEADERS'])
    const ofAnother = body.replace(/"workflow_run_id":"[^"]+"/, '"workflow_run_id":"another"')
    assert.deepEqual(await send(await signed('3', ofAnother), ofAnother), [409, 'UNKNOWN_RUN'])
    assert.deepEqual(await job.callbacks(), ['provisioning', 'running'])

    // One that is genuine shows, and a copy of it does not show again; what the page shows after one more is all.
    const genuine = await signed('4')
    for (const headers of [genuine, genuine, await signed('5')]) assert.deepEqual(await send(headers), [200, undefined])
    await job.told('heartbeat', 3)
    assert.deepEqual(await job.callbacks(), ['provisioning', 'running', 'heartbeat', 'heartbeat'])
    await job.is('Running')
  })

  test('looks well: the picture of the docs, and the narrow page', async () => {
    await (await queue('billing-export', '7c9e6679-7425')).told('running', 1)
    await refuseToDelete()
    await (await queue('nightly-report', '3f2504e0-4f89')).told('failed', 1)
    await cloud.configure({ hetzner: { create_action: 'success' }, machine: { boot: 'never_joins' } })
    const waiting = await queue('support-triage', '6ba7b810-9dad')
    await waiting.status.getByText('Hetzner server is ready').waitFor()
    await waiting.told('provisioning', 0)

    await page.mouse.move(0, 0)
    const picture = await page.screenshot({ fullPage: true })
    // It depends on the fonts of the machine, so it is not compared, and only made anew where that is asked for.
    const folder = process.env.PROVISION_VM_BLESS === '1' ? path.join(ROOT, 'docs') : directory
    writeFileSync(path.join(folder, 'example-nextjs.png'), picture)
    assert.equal(picture.toString('latin1', 1, 4), 'PNG')
    const [width, height] = [picture.readUInt32BE(16), picture.readUInt32BE(20)]
    assert.ok(width === 2560 && height > 2000 && height < 4000, `${width} × ${height}`)
    assert.ok(picture.length > 50_000 && picture.length < 500_000, `${picture.length} bytes`)

    await page.setViewportSize({ width: 390, height: 844 })
    const reach = await page.evaluate(() => document.documentElement.scrollWidth)
    assert.equal(reach, 390, 'nothing reaches beyond the edge')
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
    const light = await background()
    await page.emulateMedia({ colorScheme: 'dark' })
    assert.notEqual(await background(), light)

    await waiting.press('Cancel')
    await waiting.is('Failed')
  })

  /** Orders end badly, and what they made cannot be removed. */
  async function refuseToDelete() {
    const error = { code: 'server_error', message: 'the host has no disk' }
    await cloud.configure({ hetzner: { create_action: { error } } })
    const answer = { status: 403, json: { error: { code: 'forbidden', message: 'insufficient permissions' } } }
    await cloud.fault({ api: 'hetzner', method: 'DELETE', path: '/servers/*', times: 1000, kind: { answer } })
  }
})

/** A port that nobody listens on. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

'use strict'

// HTTP/2 where a server offers it: one connection for all, and nothing is ordered twice however it ends.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { mkdtempSync, rmSync } = require('node:fs')
const http2 = require('node:http2')
const https = require('node:https')
const net = require('node:net')
const { tmpdir } = require('node:os')
const path = require('node:path')
const tls = require('node:tls')
const { after, before, beforeEach, describe, test } = require('node:test')

const { provisionVM } = require('..')
const { newJob, runScript, startCloud } = require('./support/simulator.js')
const { certificates, passOn, startProxy, whyNoCertificates } = require('./support/tls.js')

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = http2.constants

const ORDER = 'POST /v1/servers'

const skip = whyNoCertificates()
const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-'))
let cloud
let files
before(async () => {
  cloud = await startCloud()
  if (!skip) files = certificates(folder)
})
beforeEach(() => cloud.reset())
after(async () => {
  rmSync(folder, { recursive: true })
  await cloud.stop()
})

const quiet = (env) => ({ env, logger: false })

/** Settings that lead to the local cloud by way of this front. */
function through({ port }, more) {
  const base = `https://localhost:${port}`
  return cloud.env({ HETZNER_API_URL: `${base}/v1`, TAILSCALE_API_URL: `${base}/api/v2`, NODE_EXTRA_CA_CERTS: files.ca, ...more })
}

/**
 * A front of the local cloud that offers both protocols. `meddle` is asked before a request is passed on, and again once the cloud
 * has answered; where it returns true it has seen to the rest.
 */
async function startFront(t, meddle = () => false) {
  const front = { connections: 0, requests: [], versions: new Set() }
  const server = http2.createSecureServer({ key: files.key, cert: files.cert, allowHTTP1: true }, async (request, response) => {
    const what = `${request.method} ${request.url.split('?')[0]}`
    front.requests.push(what)
    front.versions.add(request.httpVersion)
    const { stream } = request
    const its = { what, stream, session: stream.session, times: front.requests.filter((other) => other === what).length }
    stream.on('error', () => {})
    if (meddle({ ...its, when: 'before' })) return
    const passBack = await passOn(cloud, request, response)
    if (!meddle({ ...its, when: 'after' })) passBack()
  })
  server.on('secureConnection', () => (front.connections += 1))
  server.on('sessionError', () => {})
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => server.close())
  return Object.assign(front, { port: server.address().port })
}

/** A server that only speaks HTTP/1.1, or one that does not even know how to say so. */
async function startOld(t, server) {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.after(() => server.close())
  return { port: server.address().port }
}

/** What the local cloud was asked for, in order, from the first order of a server on. */
async function askedSinceOrder() {
  const asked = (await cloud.journal()).map(({ what }) => what).filter((what) => /^(GET|POST) \/v1\/servers(\?| |$)/.test(what))
  return asked.slice(asked.findIndex((what) => what.startsWith(ORDER)))
}

describe('HTTP/2', { skip }, () => {
  test('one connection carries a job, and a hundred jobs that begin at the same moment', async (t) => {
    for (const jobs of [1, 100]) {
      const front = await startFront(t)
      const done = await Promise.all(Array.from({ length: jobs }, () => provisionVM(newJob(), quiet(through(front)))))
      assert.equal(new Set(done.map(({ serverId }) => serverId)).size, jobs)
      assert.deepEqual([...front.versions], ['2.0'])
      assert.equal(front.connections, 1, `${jobs} at once, ${front.requests.length} requests`)
    }
  })

  test('a server that offers nothing else is served by HTTP/1.1', async (t) => {
    const versions = new Set()
    const only = https.createServer(files, async (request, response) => {
      versions.add(request.httpVersion)
      const passBack = await passOn(cloud, request, response)
      passBack()
    })
    await provisionVM(newJob(), quiet(through(await startOld(t, only))))
    assert.deepEqual([...versions], ['1.1'])

    const { hostname, port } = new URL(cloud.greeting.url)
    const silent = tls.createServer(files, (socket) => {
      const onward = net.connect(Number(port), hostname)
      onward.pipe(socket).pipe(onward)
      for (const end of [onward, socket]) end.on('error', () => {})
    })
    await provisionVM(newJob(), quiet(through(await startOld(t, silent))))
  })

  test('a proxy leads to it', async (t) => {
    const front = await startFront(t)
    const seen = []
    const proxy = await startProxy(t, () => front.port, seen)
    const away = { HETZNER_API_URL: 'https://hetzner.invalid/v1', TAILSCALE_API_URL: 'https://tailscale.invalid/api/v2' }
    await provisionVM(newJob(), quiet(through(front, { ...away, HTTPS_PROXY: proxy })))
    assert.deepEqual([...front.versions], ['2.0'])
    assert.deepEqual(seen.sort(), ['CONNECT hetzner.invalid:443 undefined', 'CONNECT tailscale.invalid:443 undefined'])
  })

  // Each happens to the first order of a server only, after the cloud has carried it out.
  for (const [name, end] of [
    ['its connection is cut', ({ session }) => session.destroy()],
    ['its stream is reset', ({ stream }) => stream.close(NGHTTP2_INTERNAL_ERROR)],
    ['its stream is cancelled', ({ stream }) => stream.close(NGHTTP2_CANCEL)],
    ['a graceful GOAWAY says, wrongly, that it was not looked at', ({ session, stream }) => {
      session.goaway(NGHTTP2_NO_ERROR, stream.id - 2)
    }],
    ['a graceful GOAWAY is the last that is heard', ({ session }) => {
      session.goaway(NGHTTP2_NO_ERROR, 2 ** 31 - 1)
      setTimeout(() => session.destroy(), 50)
    }],
  ]) {
    test(`F12 an order that arrived, and ${name}: it is looked for, and never given twice`, async (t) => {
      const front = await startFront(t, (its) => {
        const hit = its.what === ORDER && its.when === 'after' && its.times === 1
        if (hit) end(its)
        return hit
      })
      const { serverId } = await provisionVM(newJob(), quiet(through(front)))
      const world = await cloud.world()
      assert.deepEqual([world.servers_ever, world.servers.map(({ id }) => id)], [1, [serverId]])
      const [order, look, ...rest] = await askedSinceOrder()
      assert.match(order, /^POST/)
      assert.match(look, /^GET \/v1\/servers\?name=/)
      assert.ok(!rest.some((what) => what.startsWith(ORDER)), rest.join('\n'))
    })
  }

  test('an order whose stream is refused was not looked at: it is given again without a look', async (t) => {
    const front = await startFront(t, ({ what, when, times, stream }) => {
      const hit = what === ORDER && when === 'before' && times === 1
      if (hit) stream.close(NGHTTP2_REFUSED_STREAM)
      return hit
    })
    await provisionVM(newJob(), quiet(through(front)))
    const first = front.requests.indexOf(ORDER)
    const between = front.requests.slice(first + 1, front.requests.indexOf(ORDER, first + 1))
    assert.deepEqual(between.filter((what) => what === 'GET /v1/servers'), [])
    assert.equal((await cloud.world()).servers_ever, 1)
  })

  test('servers that send their clients away after every answer, and those that do so in the middle of others', async (t) => {
    const front = await startFront(t, ({ when, session }) => {
      if (when === 'after') setImmediate(() => session.close())
      return false
    })
    const done = await Promise.all(Array.from({ length: 8 }, () => provisionVM(newJob(), quiet(through(front)))))
    assert.equal((await cloud.world()).servers_ever, done.length)
    assert.ok(front.connections > 8, `${front.connections} connections`)
    assert.deepEqual([...front.versions], ['2.0'])
  })

  test('a connection that dies without a word is given up long before the limit of an order', async (t) => {
    const links = []
    const front = await startFront(t, ({ what, when, times }) => {
      const hit = what === ORDER && when === 'after' && times === 1
      // From now on nothing passes on this connection, and nobody says that it ended.
      if (hit) for (const socket of links.splice(0).flat()) socket.unpipe().pause()
      return hit
    })
    const relay = net.createServer((socket) => {
      const onward = net.connect(front.port, '127.0.0.1')
      onward.pipe(socket).pipe(onward)
      links.push([socket, onward])
      t.after(() => [socket, onward].forEach((end) => end.destroy()))
      for (const end of [onward, socket]) end.on('error', () => {})
    })
    const began = performance.now()
    await provisionVM(newJob(), quiet(through(await startOld(t, relay))))
    const took = performance.now() - began
    assert.ok(took > 4000 && took < 20_000, `${took} ms`)
    const world = await cloud.world()
    assert.equal(world.servers_ever, 1)
  })

  test('no secret is in the log, which names frames only to who asks for them', async (t) => {
    const front = await startFront(t)
    const { hetznerToken, tailscaleClientSecret } = cloud.greeting
    for (const [filter, frames] of [['debug', false], ['debug,h2=debug', true]]) {
      const { stderr } = await runScript(cloud, { env: through(front, { PROVISION_VM_LOG: filter }) }).ended
      assert.match(stderr, /DEBUG provision_vm::transport/)
      assert.equal(/DEBUG h2::/.test(stderr), frames, stderr)
      for (const secret of [hetznerToken, tailscaleClientSecret, 'tskey-', '#cloud-config', 'Bearer']) {
        assert.ok(!stderr.includes(secret), `${secret} is in ${stderr}`)
      }
    }
  })
})

'use strict'

// Stands between a program and Tailscale's API, and remembers every secret that is minted: what a leak would show.

const { createServer } = require('node:http')
const { once } = require('node:events')

/** Starts one in front of `target`, an address with its path. */
async function eavesdrop(target) {
  const secrets = new Set()
  const { origin, pathname } = new URL(target)
  const server = createServer(async (request, response) => {
    const chunks = await request.toArray()
    const { host, connection, 'content-length': length, ...headers } = request.headers
    const body = chunks.length > 0 ? Buffer.concat(chunks) : undefined
    const answer = await fetch(new URL(request.url, origin), { method: request.method, headers, body })
    const text = await answer.text()
    if (answer.ok && request.method === 'POST') {
      const { key, access_token: token } = JSON.parse(text)
      for (const secret of [key, token]) if (secret) secrets.add(secret)
    }
    const { 'content-encoding': encoding, 'transfer-encoding': transfer, ...rest } = Object.fromEntries(answer.headers)
    response.writeHead(answer.status, { ...rest, 'content-length': Buffer.byteLength(text) }).end(text)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${server.address().port}${pathname}`, secrets, stop }
}

module.exports = { eavesdrop }

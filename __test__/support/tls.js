'use strict'

// Servers that speak TLS in front of the local cloud, with an authority of their own.

const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const { readFileSync, writeFileSync } = require('node:fs')
const http = require('node:http')
const https = require('node:https')
const net = require('node:net')
const path = require('node:path')

/** Why there can be no certificate here; nothing if there can. */
function whyNoCertificates() {
  try {
    execFileSync('openssl', ['version'], { stdio: 'pipe' })
    return undefined
  } catch {
    return 'openssl is not installed'
  }
}

/** A certificate authority, and a server's certificate that it signed, by openssl; `newKey` is its word for what keys to make. */
function certificates(folder, newKey = ['rsa:2048']) {
  const file = (name) => path.join(folder, name)
  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' })
  const name = (text) => ['-subj', `/CN=${text}`, '-newkey', ...newKey, '-nodes']
  const authority = 'basicConstraints=critical,CA:TRUE'
  openssl('req', '-x509', ...name('test authority'), '-addext', authority, '-keyout', file('ca.key'), '-out', file('ca.pem'), '-days', '2')
  openssl('req', ...name('localhost'), '-keyout', file('key.pem'), '-out', file('csr.pem'))
  writeFileSync(file('ext'), 'subjectAltName=DNS:localhost,DNS:hetzner.invalid,DNS:tailscale.invalid,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n')
  openssl('x509', '-req', '-in', file('csr.pem'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-extfile', file('ext'), '-out', file('cert.pem'), '-days', '2')
  return { ca: file('ca.pem'), key: readFileSync(file('key.pem')), cert: readFileSync(file('cert.pem')) }
}

/** What belongs to one connection of HTTP/1.1 and may not be passed on over HTTP/2. */
const OF_THE_CONNECTION = ['connection', 'keep-alive', 'transfer-encoding']

/** Passes a request on to the local cloud, and its answer back. Resolves once the cloud has answered, before the answer is passed back. */
async function passOn(cloud, request, response) {
  const { hostname, port } = new URL(cloud.greeting.url)
  const { method, url } = request
  const headers = Object.fromEntries(Object.entries(request.headers).filter(([name]) => !name.startsWith(':')))
  const onward = http.request({ hostname, port, method, path: url, headers })
  request.pipe(onward)
  const [answer] = await once(onward, 'response')
  const fit = Object.entries(answer.headers).filter(([name]) => !OF_THE_CONNECTION.includes(name))
  return () => {
    response.writeHead(answer.statusCode, Object.fromEntries(fit))
    answer.pipe(response)
  }
}

/**
 * A proxy that leads every tunnel to the port that `target` names at the time; `seen` gets a line for each request. It speaks TLS with
 * what `tls` holds, and refuses who has not `password`.
 */
async function startProxy(t, target, seen, { tls, password } = {}) {
  const answer = (request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization}`)
    response.writeHead(403).end()
  }
  const proxy = tls ? https.createServer(tls, answer) : http.createServer(answer)
  proxy.on('connect', (request, socket) => {
    socket.on('error', () => {})
    seen.push(`CONNECT ${request.url} ${request.headers.authorization}`)
    const given = Buffer.from(request.headers['proxy-authorization']?.slice('Basic '.length) ?? '', 'base64').toString()
    if (password && given !== `user:${password}`) return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
    const onward = net.connect(target(), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.pipe(socket).pipe(onward)
    })
    onward.on('error', () => {})
    socket.on('close', () => onward.destroy())
  })
  // Tunnels are no matter of the server's any more.
  const open = new Set()
  proxy.on('connection', (socket) => open.add(socket))
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  t.after(() => {
    proxy.close()
    for (const socket of open) socket.destroy()
  })
  return `${tls ? 'https' : 'http'}://user:${encodeURIComponent(password ?? 'password')}@127.0.0.1:${proxy.address().port}`
}

module.exports = { certificates, passOn, startProxy, whyNoCertificates }

'use strict'

// Tailscale's package repository, as apt sees it: signed, over HTTPS, under its own name. What is in it does nothing.

const { execFileSync } = require('node:child_process')
const { createHash } = require('node:crypto')
const fs = require('node:fs')
const https = require('node:https')
const { once } = require('node:events')
const os = require('node:os')
const path = require('node:path')

const { signing } = require('./machine.js')

const HOST = 'pkgs.tailscale.com'

/** Serves the repository of a distribution on 127.0.0.1:443, where it has to be: run it in a network of its own. */
async function startRepository({ distribution, codename, packages }) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'provision-vm-repository-'))
  const served = build(directory, packages, codename)
  const { ca, key, cert } = certificates(directory)
  const asked = []
  const server = https.createServer({ key, cert }, (request, response) => {
    asked.push(request.url)
    const name = request.url.slice(`/stable/${distribution}`.length)
    const body = request.url.startsWith(`/stable/${distribution}`) ? served[name] : undefined
    response.writeHead(body ? 200 : 404, { 'content-length': body?.length ?? 0 })
    response.end(body)
  })
  server.listen(443, '127.0.0.1')
  await once(server, 'listening')
  return {
    asked,
    /** What a machine needs to take it for the real one. */
    files: {
      '/etc/hosts': `127.0.0.1 localhost ${HOST}\n`,
      '/etc/ssl/certs/ca-certificates.crt': fs.readFileSync('/etc/ssl/certs/ca-certificates.crt', 'utf8') + ca,
    },
    stop: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      fs.rmSync(directory, { recursive: true })
    },
  }
}

/** All files of the repository, by their path below it. */
function build(directory, packages, codename) {
  const served = {}
  const paragraphs = packages.map(({ name, files, depends }) => {
    const root = path.join(directory, name)
    for (const [file, content] of Object.entries(files)) {
      fs.mkdirSync(path.dirname(path.join(root, file)), { recursive: true })
      fs.writeFileSync(path.join(root, file), content, { mode: 0o755 })
    }
    const about = [`Package: ${name}`, 'Version: 1.102.3', 'Architecture: all', 'Maintainer: Test <test@example.com>', 'Description: test']
    if (depends) about.push(`Depends: ${depends}`)
    fs.mkdirSync(path.join(root, 'DEBIAN'), { recursive: true })
    fs.writeFileSync(path.join(root, 'DEBIAN', 'control'), about.map((line) => `${line}\n`).join(''))
    const archive = path.join(directory, `${name}.deb`)
    execFileSync('dpkg-deb', ['--root-owner-group', '--build', root, archive], { stdio: 'pipe' })
    const content = fs.readFileSync(archive)
    served[`/pool/${name}.deb`] = content
    return [...about, `Filename: pool/${name}.deb`, `Size: ${content.length}`, `SHA256: ${sha256(content)}`].join('\n')
  })
  const index = Buffer.from(`${paragraphs.join('\n\n')}\n`)
  const arch = execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim()
  const name = `main/binary-${arch}/Packages`
  served[`/dists/${codename}/${name}`] = index
  const release = [
    'Origin: Tailscale', `Suite: ${codename}`, `Codename: ${codename}`, `Architectures: all ${arch}`, 'Components: main',
    `Date: ${new Date().toUTCString()}`, 'SHA256:', ` ${sha256(index)} ${index.length} ${name}`, '',
  ].join('\n')
  served[`/dists/${codename}/InRelease`] = signing().sign(Buffer.from(release))
  served[`/${codename}.noarmor.gpg`] = signing().keyring
  return served
}

function sha256(content) {
  return createHash('sha256').update(content).digest('hex')
}

/** An authority of this test's, and a certificate of the host by it. */
function certificates(directory) {
  const at = (name) => path.join(directory, name)
  const openssl = (...args) => execFileSync('openssl', args, { stdio: 'pipe' })
  const extensions = [
    ['ca.cnf', 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n'],
    ['host.cnf', `subjectAltName=DNS:${HOST}\n`],
  ]
  for (const [name, text] of extensions) fs.writeFileSync(at(name), text)
  for (const [name, subject] of [['ca', '/CN=Test'], ['host', `/CN=${HOST}`]]) {
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`), '-subj', subject)
  }
  openssl('x509', '-req', '-in', at('ca.csr'), '-signkey', at('ca.key'), '-extfile', at('ca.cnf'), '-out', at('ca.crt'), '-days', '2')
  const by = ['-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial']
  openssl('x509', '-req', '-in', at('host.csr'), ...by, '-extfile', at('host.cnf'), '-out', at('host.crt'), '-days', '2')
  return { ca: fs.readFileSync(at('ca.crt'), 'utf8'), key: fs.readFileSync(at('host.key')), cert: fs.readFileSync(at('host.crt')) }
}

module.exports = { startRepository }

'use strict'

// An npm registry on loopback that has what a release would publish, and nothing else.

const { execFileSync } = require('node:child_process')
const { createHash } = require('node:crypto')
const { once } = require('node:events')
const { readFileSync } = require('node:fs')
const { createServer } = require('node:http')
const path = require('node:path')

/** Serves tarballs, and the manifests of `others`, which are published and have no tarball here. */
async function startRegistry(tarballs, others) {
  const documents = new Map()
  const asked = []
  const server = createServer((request, response) => {
    const name = decodeURIComponent(request.url.slice(1))
    asked.push(name)
    const file = tarballs.find((tarball) => path.basename(tarball) === name)
    if (file) return response.end(readFileSync(file))
    const document = documents.get(name)
    response.writeHead(document ? 200 : 404, { 'content-type': 'application/json' })
    response.end(JSON.stringify(document ?? { error: 'Not found' }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${server.address().port}/`
  const publish = (manifest, file, integrity) => {
    const dist = { tarball: url + file, integrity }
    const { name, version } = manifest
    documents.set(name, { name, 'dist-tags': { latest: version }, versions: { [version]: { ...manifest, dist } } })
  }
  for (const tarball of tarballs) {
    const manifest = JSON.parse(execFileSync('tar', ['-xzOf', tarball, 'package/package.json']))
    publish(manifest, path.basename(tarball), `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`)
  }
  for (const manifest of others) publish(manifest, 'nobody-asks-for-this.tgz')
  return { url, asked, stop: () => server.close() }
}

module.exports = { startRegistry }

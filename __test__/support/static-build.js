'use strict'

// An archive of the form in which Tailscale ships its static builds, with nothing in it that does anything.

const { execFileSync } = require('node:child_process')
const { createHash } = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

/** The archive for a version and an architecture, and its checksum. */
function staticBuild(version, arch) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'provision-vm-build-'))
  try {
    const name = `tailscale_${version}_${arch}`
    fs.mkdirSync(path.join(directory, name, 'systemd'), { recursive: true })
    const files = { tailscale: '#!/bin/sh\n', tailscaled: '#!/bin/sh\n', 'systemd/tailscaled.defaults': 'PORT="41641"\n', 'systemd/tailscaled.service': '[Service]\nExecStart=/usr/sbin/tailscaled\n' }
    for (const [file, content] of Object.entries(files)) fs.writeFileSync(path.join(directory, name, file), content)
    execFileSync('tar', ['-czf', 'build.tgz', name], { cwd: directory })
    const archive = fs.readFileSync(path.join(directory, 'build.tgz'))
    return { archive, sha256: createHash('sha256').update(archive).digest('hex') }
  } finally {
    fs.rmSync(directory, { recursive: true })
  }
}

module.exports = { staticBuild }

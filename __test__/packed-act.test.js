'use strict'

// A workflow of somebody else's, that installs the package and calls it on the command line: under act, from the tarballs of a release.

const assert = require('node:assert/strict')
const { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, test } = require('node:test')

const { packAll } = require('../scripts/pack.js')
const { runAct, whyNoAct } = require('./support/act.js')
const { startCloud } = require('./support/simulator.js')

const skip = whyNoAct() ?? false
const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-packed-act-'))
const [tree, file] = ['tree', 'provision.yml'].map((name) => path.join(folder, name))

const WORKFLOW = `
name: provision
on:
  workflow_dispatch:
    inputs:
      job: { required: true, type: string }
permissions: {}
jobs:
  vm:
    runs-on: ubuntu-latest
    timeout-minutes: 15
    env:
      HETZNER_API_TOKEN: \${{ secrets.HETZNER_API_TOKEN }}
      HETZNER_SSH_KEY_ID: \${{ secrets.HETZNER_SSH_KEY_ID }}
      TAILSCALE_OAUTH_CLIENT_ID: \${{ secrets.TAILSCALE_OAUTH_CLIENT_ID }}
      TAILSCALE_OAUTH_CLIENT_SECRET: \${{ secrets.TAILSCALE_OAUTH_CLIENT_SECRET }}
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
      - run: npm install --offline --ignore-scripts --no-audit --no-fund ./packages/*.tgz
      - run: npx --no provision-vm doctor --region us-east
      - id: provision
        run: |
          npx --no provision-vm provision "$JOB" --agent ci --json > result.json
          node -p '\`tailscale_ip=\${require("./result.json").tailscaleIp}\`' >> "$GITHUB_OUTPUT"
        env:
          JOB: \${{ inputs.job }}
      - run: npx --no provision-vm status "$JOB"
        env:
          JOB: \${{ inputs.job }}
      - run: npx --no provision-vm destroy "$JOB" --yes
        if: inputs.job == 'job-to-go'
        env:
          JOB: \${{ inputs.job }}
`

let cloud
before(async () => {
  cloud = await startCloud()
  const packed = packAll({ out: path.join(folder, 'packages') })
  mkdirSync(path.join(tree, 'packages'), { recursive: true })
  for (const { tarball } of packed) cpSync(tarball, path.join(tree, 'packages', path.basename(tarball)))
  writeFileSync(path.join(tree, 'package.json'), '{ "private": true }')
  writeFileSync(file, WORKFLOW)
})
after(async () => {
  rmSync(folder, { recursive: true })
  await cloud.stop()
})

async function dispatch(job) {
  const { HETZNER_API_URL, TAILSCALE_API_URL, ...secrets } = cloud.env()
  return await runAct({ file, inputs: { job }, secrets, env: { HETZNER_API_URL, TAILSCALE_API_URL }, workspace: tree })
}

test('a workflow that installs the tarballs provisions, looks and destroys', { skip }, async () => {
  const run = await dispatch('job-42')
  assert.equal(run.code, 0, run.log + run.stderr)
  const { servers: [server], devices: [device] } = await cloud.world()
  const { outputs } = run.jobs.vm.steps.find(({ outputs }) => outputs.tailscale_ip)
  assert.deepEqual([outputs.tailscale_ip, server.labels.state], [device.ip, 'ready'], run.log)
  assert.match(run.log, /ready.*job-42/s)
  for (const secret of [cloud.env().HETZNER_API_TOKEN, cloud.env().TAILSCALE_OAUTH_CLIENT_SECRET]) assert.ok(!run.log.includes(secret))

  await cloud.reset()
  const gone = await dispatch('job-to-go')
  assert.equal(gone.code, 0, gone.log + gone.stderr)
  const { servers, devices, keys } = await cloud.world()
  assert.deepEqual([servers, devices, keys.filter(({ usable }) => usable)], [[], [], []])
})

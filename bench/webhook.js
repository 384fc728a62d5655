'use strict'

// What a signed callback takes the app and the sender: one of the usual size. A part of `npm run bench:hot`.

const { signCallback, verifyCallback } = require('../js/webhook.js')

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const ROUNDS = 40
const CALLS = 250

const body = JSON.stringify({
  type: 'running',
  job_id: 'job-1',
  server_id: '131072002',
  server_ip: '203.0.113.2',
  tailscale_ip: '100.64.0.2',
  workflow_run_id: '11111111111',
})

/** The median time of one call, in microseconds, after a first round that warms up. */
async function median(call) {
  const times = []
  for (let round = 0; round <= ROUNDS; round += 1) {
    const began = performance.now()
    for (let i = 0; i < CALLS; i += 1) await call()
    if (round > 0) times.push(((performance.now() - began) * 1000) / CALLS)
  }
  return times.sort((a, b) => a - b)[ROUNDS / 2]
}

async function main() {
  const sign = () => signCallback({ body, secret, id: 'msg_1' })
  const headers = await sign()
  const verify = () => verifyCallback(new Request('https://app.example/', { method: 'POST', body, headers }), { secret })
  for (const [name, call] of [['sign a callback', sign], ['verify a callback', verify]]) {
    console.log(`${name.padEnd(28)}time:   ${(await median(call)).toFixed(1)} µs`)
  }
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})

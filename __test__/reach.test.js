'use strict'

// The live dial of `waitFor: 'reachable'`, where no machine can be reached.

const assert = require('node:assert/strict')
const { execFile, execFileSync } = require('node:child_process')
const net = require('node:net')
const path = require('node:path')
const { test } = require('node:test')
const { promisify } = require('node:util')

const PROGRAM = path.join(__dirname, 'support', 'unreached.js')

/** A network of its own, with nothing in it but loopback. */
const APART = ['unshare', '--map-root-user', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']

/** Some networks have something in the middle that accepts every connection, to whatever address. */
function isAnswered() {
  const socket = net.connect({ host: '100.64.0.2', port: 65_000, timeout: 2_000 })
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false)).once('timeout', () => resolve(false))
  }).finally(() => socket.destroy())
}

function canBeApart() {
  try {
    execFileSync(APART[0], [...APART.slice(1), 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test('a machine that has to be reached and is not, since nobody here is in its tailnet, is undone', async (t) => {
  const before = (await isAnswered()) ? APART : []
  if (before.length > 0 && !canBeApart()) return t.skip('this network accepts every connection, and there is no way to be apart from it')
  const [command, ...args] = [...before, process.execPath, PROGRAM]
  const { stdout } = await promisify(execFile)(command, args)
  const { outcome, told, left } = JSON.parse(stdout)
  assert.deepEqual([outcome.code, outcome.step, outcome.retryable, outcome.leftovers], ['NOT_REACHABLE', 'reach', true, []], stdout)
  assert.match(outcome.message, /^100\.64\.0\.\d+:65000 cannot be reached over the tailnet: /)
  assert.match(outcome.hint, /tailscale status/)
  assert.ok(told.some(([step, kind, why]) => step === 'reach' && kind === 'waiting' && why), stdout)
  assert.deepEqual(left, [])
})

'use strict'

// A network of its own for a whole test file: its own loopback, on which any address can be had.

const { spawnSync } = require('node:child_process')

/** Set for a file that runs in a network of its own. */
const MARK = 'PROVISION_VM_OWN_NETWORK'

/** Where cloud-init asks who it is. */
const METADATA = '169.254.169.254'

/**
 * Runs a test file again in a network of its own, and ends this process with what came of it. Returns in that network; or, where it
 * is refused, in the old one, with the reason.
 */
function enterOwnNetwork(file) {
  if (process.env[MARK]) return undefined
  const unshare = (...command) => spawnSync('unshare', ['--net', '--', ...command], { encoding: 'utf8' })
  const refused = unshare('true')
  if (refused.status !== 0) return `no network of its own: ${refused.error?.message ?? refused.stderr.trim()}`
  const inside = `ip link set lo up && ip address add ${METADATA}/32 dev lo && exec "$@"`
  const node = [process.execPath, ...process.execArgv, file]
  const options = { stdio: 'inherit', env: { ...process.env, [MARK]: '1' } }
  const { status } = spawnSync('unshare', ['--net', '--', 'sh', '-c', inside, 'sh', ...node], options)
  process.exit(status ?? 1)
}

module.exports = { enterOwnNetwork, METADATA }

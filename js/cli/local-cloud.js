'use strict'

// The local cloud, as the command that shows it needs it: where it is, which settings point at it, and when it is gone.

const { startLocalCloud } = require('../local-cloud.js')
const { UsageError } = require('./arguments.js')

/** How often to look whether it is still there. Nothing else holds this process. */
const LOOK_MS = 1000

/** What is to be mended by whoever calls, and not by trying again. */
const OF_THE_CALLER = ['INVALID_OPTION', 'NOT_INSTALLED', 'NOT_SERVED']

/** Opens one: its `url`, its `settings`, `lost`, which comes with an error when it has gone by itself, and `close()`. */
async function openLocalCloud({ port, timeScale, seed }) {
  const cloud = await start({ port, timeScale, seed })
  let timer
  const lost = new Promise((resolve) => {
    timer = setInterval(() => cloud.world().catch(resolve), LOOK_MS)
  })
  const close = async () => {
    clearInterval(timer)
    await cloud.stop()
  }
  return { url: cloud.urls.cloud, settings: cloud.env, lost, close }
}

module.exports = { openLocalCloud }

async function start(options) {
  try {
    return await startLocalCloud(options)
  } catch (error) {
    if (!OF_THE_CALLER.includes(error.code)) throw error
    const message = error.message.replace(/^timeScale\b/, '--time-scale').replace(/^(port|seed):/, '--$1:')
    if (error.code === 'INVALID_OPTION') throw new UsageError(`simulate: ${message}`, 'provision-vm simulate --help has all flags.')
    throw new UsageError(message, 'provision-vm simulate --help says where its program is looked for.', 'CONFIG')
  }
}

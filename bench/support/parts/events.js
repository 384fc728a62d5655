'use strict'

// What an event costs on its way to `onProgress`. An option that is unknown is reported by an event of its own, and a call whose signal
// has been given asks nobody for anything: so a call with many such options is little else than its events.

const { ROOT } = require('../../../scripts/setup.js')
const { line, median } = require('../figures.js')

const EVENTS = 500
const ROUNDS = 60

async function events() {
  const { provisionVM } = require(ROOT)
  const unknown = Object.fromEntries(Array.from({ length: EVENTS }, (_, at) => [`unknown${at}`, 0]))
  const env = {
    HETZNER_API_TOKEN: 'none',
    HETZNER_SSH_KEY_ID: '1',
    TAILSCALE_OAUTH_CLIENT_ID: 'none',
    TAILSCALE_OAUTH_CLIENT_SECRET: 'none',
  }
  const time = async (more) => {
    const options = { env, logger: false, signal: AbortSignal.abort(), ...more }
    const began = performance.now()
    await provisionVM({ jobId: 'bench', agentId: 'bench', region: 'us-east' }, options).catch(({ code }) => {
      if (code !== 'ABORTED') throw new Error(`expected ABORTED, got ${code}`)
    })
    return performance.now() - began
  }
  let heard = 0
  const onProgress = () => (heard += 1)
  const [none, silent, told] = [[], [], []]
  for (let round = 0; round < ROUNDS; round += 1) {
    none.push(await time({}))
    silent.push(await time(unknown))
    told.push(await time({ ...unknown, onProgress }))
  }
  if (heard < EVENTS * ROUNDS) throw new Error(`only ${heard} of ${EVENTS * ROUNDS} events were heard`)
  const each = (ms) => (ms * 1000) / EVENTS
  return {
    title: `An event (medians of ${ROUNDS} calls with ${EVENTS} events)`,
    lines: [
      line('made, and delivered to JavaScript', { ours: each(median(silent) - median(none)), unit: 'µs', note: 'with the reading of the option that it is about' }),
      line('more of it with onProgress set', { ours: each(median(told.map((ms, at) => ms - silent[at]))), unit: 'µs' }),
    ],
  }
}

module.exports = { events }

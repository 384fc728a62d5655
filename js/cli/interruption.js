'use strict'

// Signals, as scripts/provision.js has them: the first gives the work up, the second ends the process whatever the undo is doing.

const { describeKnown, note, nothingKnown } = require('../../scripts/support/known.js')
const { EXIT } = require('./failure.js')

/** What ends a command after its undo. A closed terminal says SIGHUP. */
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM']

/**
 * Catches signals for a command. `note` takes its events, so that a second signal can say what may be left.
 *
 * GitHub sends a second signal by itself and kills soon after. There it is nobody's impatience, so what may be left is said while
 * there is time, and the undo goes on for as long as it may.
 */
function catchSignals({ command, onActions, isIdle, warn }) {
  const controller = new AbortController()
  const known = nothingKnown()
  const onSignal = (name) => {
    if (!controller.signal.aborted) {
      const changes = Boolean(command.givesUp) && !isIdle()
      const second = changes && !onActions ? '; a second signal ends at once and may leave something behind' : ''
      warn(`${name}: ${changes ? command.givesUp : 'giving up, nothing was changed'}${second}`)
      return controller.abort(name)
    }
    const left = command.undoes ? `May be left behind: ${describeKnown(known)}` : command.leaves ?? (command.isLook ? '' : 'Some of it may still be there.')
    if (onActions) return warn(`${name}: it goes on, unless it is cut short. ${left}`.trim())
    warn(`${name} again: ending at once. ${left}`.trim())
    process.exit(EXIT[name])
  }
  for (const name of SIGNALS) process.on(name, onSignal)
  return {
    signal: controller.signal,
    note: (event) => note(known, event),
    end: () => SIGNALS.forEach((name) => process.off(name, onSignal)),
  }
}

module.exports = { SIGNALS, catchSignals }

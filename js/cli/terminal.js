'use strict'

// Where answers, progress and complaints go. An answer is on standard output and nothing else is; all that is for people's eyes only
// is on standard error.

const { createInterface } = require('node:readline')

const { openDisplay, openPlainDisplay, paint } = require('../../scripts/support/display.js')

function openTerminal({ stdin, stdout, stderr, env, asJson }) {
  const write = (stream, lines) => stream.write([...lines, ''].join('\n'))
  const terminal = {
    asJson,
    stderr,
    /** Only a terminal has a width. What goes into a file or another program is never shortened. */
    width: widthOf(stdout),
    /** Whether somebody watches, and marks say more than words. */
    isWatched: isLive(stdout, env),
    style: styleFor(stdout, env),
    errorStyle: styleFor(stderr, env),
    errorWidth: widthOf(stderr),
    /** Whether somebody can be asked: who reads the question also has to be able to answer it. */
    canAsk: Boolean(stdin.isTTY && stderr.isTTY),
    /** The answer of a command: `data` for programs, `lines` for people. There is one. */
    answer(data, lines) {
      if (asJson) write(stdout, [JSON.stringify(data)])
      else write(stdout, lines(terminal))
    },
    /** A manual, which is text for everybody. */
    page: (text) => stdout.write(text),
    complain: (lines) => write(stderr, lines),
    warn: (text) => write(stderr, [`${terminal.errorStyle('yellow', 'warning:')} ${text}`]),
    openProgress: (command) => openProgress({ stderr, env, asJson, command }),
    /** Whether a question is open: nothing has been done yet. */
    isAsking: false,
    async ask(question, signal) {
      terminal.isAsking = true
      const line = await ask({ stdin, stderr, question, signal })
      terminal.isAsking = false
      return line
    },
  }
  return terminal
}

module.exports = { openTerminal }

function widthOf(stream) {
  return stream.isTTY ? stream.columns || 80 : Infinity
}

function isLive(stream, env) {
  return Boolean(stream.isTTY) && env.TERM !== 'dumb'
}

/** Colours, unless the user asked for none (no-color.org); on what is no terminal only if the user asked for them. */
function styleFor(stream, env) {
  return paint(wantsColour(stream, env) ? {} : { NO_COLOR: '1' })
}

function wantsColour(stream, { NO_COLOR: none, FORCE_COLOR: force, ...env }) {
  if (none) return false
  if (force !== undefined && force !== '') return force !== '0' && force !== 'false'
  return isLive(stream, env)
}

/**
 * The display of the scripts. A look changes nothing, so only its warnings stay on the screen, and what goes on is seen while it
 * goes on. Where a program reads the answer and nobody watches, nothing is said but warnings of signals.
 */
function openProgress({ stderr, env, asJson, command }) {
  const live = isLive(stderr, env)
  const colours = { NO_COLOR: wantsColour(stderr, env) ? '' : '1' }
  const display = live ? openDisplay(stderr, { ...env, ...colours }) : openPlainDisplay(stderr)
  const underway = (text) => {
    // Calls that make no server have steps for which the display has no words.
    if (live && text) display.underway = text
  }
  underway(command.underway)
  return {
    event(event) {
      if (asJson && !live) return
      if (!command.isLook || event.level === 'warn') display.event(event)
      underway(command.isLook ? event.message : command.underway)
    },
    warn: (text) => display.warn(text),
    close() {
      display.close?.()
      // What stays of it stands apart from the answer.
      if (live && !command.isLook) stderr.write('\n')
    },
  }
}

/** Asks, and gives the line that was typed: nothing if there was no more to read. Not in raw mode, so that Ctrl-C stays a signal. */
function ask({ stdin, stderr, question, signal }) {
  return new Promise((resolve) => {
    const lines = createInterface({ input: stdin, terminal: false })
    const settle = (line) => {
      resolve(line)
      lines.close()
    }
    lines.once('line', settle)
    lines.once('close', () => resolve(undefined))
    signal.addEventListener('abort', () => settle(undefined), { once: true })
    stderr.write(question)
  })
}

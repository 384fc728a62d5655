'use strict'

const { readNumber } = require('../arguments.js')
const { EXIT } = require('../failure.js')
const { SIGNALS } = require('../interruption.js')
const { openLocalCloud } = require('../local-cloud.js')

const command = {
  usage: 'simulate',
  summary: 'a local cloud to try it all in, without an account',
  about:
    'Starts a local cloud that stands for Hetzner, Tailscale and the machines, on loopback, and prints the settings that point at it, ' +
    'for a shell to read. It runs until Ctrl-C, and forgets everything then. Nothing in it costs anything, and nothing that it ' +
    'prints is a secret. Its program is looked for in PROVISION_VM_SIMULATOR (a path), in target/ of a clone, and in the ' +
    'package provision-vm-local-cloud.',
  examples: `
provision-vm simulate > cloud.env &    ten times as fast as real
until [ -s cloud.env ] || ! kill -0 $!; do sleep 1; done; . ./cloud.env
                                       in the shell that is to use it
provision-vm provision job-42 --agent 550e8400-e29b

provision-vm simulate --port 4100 --time-scale 1
provision-vm simulate --json           { url, env }, on one line
provision-vm simulate --shell powershell > cloud.ps1
`,
  flags: {
    port: { value: 'N', read: readNumber, says: 'port on 127.0.0.1 (a free one)' },
    'time-scale': { value: 'X', read: readScale, says: 'how much faster than real time passes in it, at most 25 (10)' },
    seed: { value: 'N', read: readNumber, says: 'seed of its random choices (1)' },
    shell: { value: 'NAME', read: readShell, says: 'sh or powershell: for which shell it prints (the one of this platform)' },
  },
  runsAlone: true,
  exitCodes: `Exit codes:
  0    ended by a signal, as is usual
  1    it could not be started, or ended by itself
  2    a mistake in the arguments, or its program is not there
`,

  async run({ flags, terminal, env }) {
    const interruption = awaitSignal()
    try {
      const cloud = await openLocalCloud({ port: flags.port, timeScale: flags['time-scale'], seed: flags.seed })
      terminal.answer({ url: cloud.url, env: cloud.settings }, () => exportsOf(cloud.settings, flags.shell ?? usualShell(env)))
      if (!terminal.asJson) terminal.complain([`${terminal.errorStyle('green', 'The local cloud is at')} ${cloud.url}. Ctrl-C ends it.`])
      const scale = flags['time-scale'] ?? 10
      if (!terminal.asJson && scale > 1) terminal.complain([`Time passes ${scale} times as fast in it, so its clock runs ahead of this machine's.`])
      const failure = await Promise.race([interruption.came, cloud.lost])
      await cloud.close()
      // Its answer was given: where that is JSON, there is no room for a second document.
      if (failure) terminal.warn(failure.message)
      return failure ? EXIT.failed : EXIT.ok
    } finally {
      interruption.end()
    }
  },
}

module.exports = command

/** Any signal is how it ends. */
function awaitSignal() {
  let tell
  const came = new Promise((resolve) => (tell = () => resolve(undefined)))
  for (const name of SIGNALS) process.on(name, tell)
  return { came, end: () => SIGNALS.forEach((name) => process.off(name, tell)) }
}

function readScale(text, refuse) {
  const isGood = /^\d{1,4}(\.\d{1,3})?$/.test(text) && Number(text) > 0
  if (!isGood) throw refuse(`expected a number above 0, such as 5, got ${JSON.stringify(text)}`)
  return Number(text)
}

function readShell(text, refuse) {
  if (!Object.hasOwn(SHELLS, text)) throw refuse(`expected sh or powershell, got ${JSON.stringify(text)}`)
  return text
}

/** On Windows the shells that came from Unix name themselves. */
function usualShell({ SHELL }) {
  return process.platform === 'win32' && !SHELL ? 'powershell' : 'sh'
}

/** How a setting is written in each shell. */
const SHELLS = {
  sh: (name, value) => `export ${name}='${value.replaceAll("'", "'\\''")}'`,
  powershell: (name, value) => `$env:${name} = '${value.replaceAll("'", "''")}'`,
}

function exportsOf(settings, shell) {
  return Object.entries(settings).map(([name, value]) => SHELLS[shell](name, value))
}

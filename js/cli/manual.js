'use strict'

// The manual: of all commands, and of each.

const { flagsOf } = require('./arguments.js')
const { wrap } = require('./table.js')

const WIDTH = 80

const EXIT_CODES = `Exit codes:
  0              done
  1              failed; what is left, if anything is, is named
  2              a mistake in the arguments, or in the configuration
  129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM, after the undo
`

const SETTINGS = `Settings are read from the environment. Secrets are never flags, because other
users of a machine can read the arguments of its processes:
  HETZNER_API_TOKEN, HETZNER_SSH_KEY_ID,
  TAILSCALE_OAUTH_CLIENT_ID, TAILSCALE_OAUTH_CLIENT_SECRET
are required; README.md has all of them.
`

/** The manual of all commands. */
function manual(commands) {
  const room = Math.max(...Object.values(commands).map(({ usage }) => usage.length))
  return `One job, at most one Hetzner Cloud VM that joins a Tailscale tailnet.

Usage: provision-vm <command> [flags]

Commands:
${Object.values(commands).map(({ usage, summary }) => `  ${usage.padEnd(room)}  ${summary}`).join('\n')}

  provision-vm <command> --help     what a command does, its flags, and examples
  provision-vm --version

A first look, without an account and without cost:
  npm install --save-dev provision-vm-local-cloud
  npx provision-vm simulate > cloud.env &
  until [ -s cloud.env ] || ! kill -0 $!; do sleep 1; done; . ./cloud.env
  npx provision-vm doctor
  npx provision-vm provision job-42 --agent 550e8400-e29b

And with one:
  npx provision-vm doctor         is everything set up?
  npx provision-vm plan job-42 --agent 550e8400-e29b
                                  what would it make, and what would it cost?
  npx provision-vm provision job-42 --agent 550e8400-e29b
  npx provision-vm list           what is there, and what has it cost so far?
  npx provision-vm destroy job-42

${SETTINGS}
Every command takes --json: one JSON document on standard output, the answer or
{ "error": ... }, and nothing else there. Progress goes to standard error.
Colour is for terminals; NO_COLOR and TERM=dumb turn it off, FORCE_COLOR on.

${EXIT_CODES}`
}

/** The manual of one command. */
function manualOf(name, command) {
  return `${wrap(command.about, WIDTH).join('\n')}

Usage: provision-vm ${command.usage} [flags]

Flags:
${flagLines(flagsOf(command))}

Examples:
${command.examples.trim().replace(/^(?=.)/gm, '  ')}

${command.runsAlone ? '' : `${SETTINGS}\n`}${command.exitCodes ?? EXIT_CODES}`
}

module.exports = { manual, manualOf }

function flagLines(flags) {
  const entries = Object.entries(flags).map(([name, { value, many, short, says }]) => {
    const flag = `${short ? `-${short}, ` : ''}--${name}${value ? ` ${value}` : ''}${many ? ' ...' : ''}`
    return [flag, wrap(says, WIDTH - 28)]
  })
  return entries
    .map(([flag, lines]) => {
      const [first, ...rest] = flag.length > 24 ? ['', ...lines] : lines
      return [`  ${flag.padEnd(24)}  ${first}`.trimEnd(), ...rest.map((line) => `${' '.repeat(28)}${line}`)].join('\n')
    })
    .join('\n')
}

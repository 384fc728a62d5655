'use strict'

const { optionsOf } = require('../arguments.js')
const { checkCallback } = require('../callback-check.js')
const { EXIT, asFlags } = require('../failure.js')
const { PROVISIONING_FLAGS, WAITING_FLAGS } = require('../provisioning-flags.js')
const { hang } = require('../table.js')

const MARKS = { ok: ['✔', 'green'], warning: ['!', 'yellow'], failed: ['✖', 'red'], skipped: ['-', 'dim'] }

const { agent: _, ...flags } = PROVISIONING_FLAGS

const command = {
  usage: 'doctor',
  summary: 'is everything set up? what would stop a provision?',
  about:
    'Checks all that a provisioning needs: settings, both APIs and what their credentials may do, keys, image, server types. With the flags ' +
    'of a provision, what those name is checked. It makes no server; one auth key is made and revoked. Where CALLBACK_URL is set, the ' +
    'address of callbacks is checked too.',
  examples: `
provision-vm doctor
provision-vm doctor --region eu-central --server-type cx33 --firewall 4711
provision-vm doctor --json | jq '.checks[] | select(.verdict == "failed")'
`,
  // Those of a provision, since what they name has to be there too.
  flags: {
    ...flags,
    'allow-reusable-auth-key': WAITING_FLAGS['allow-reusable-auth-key'],
    region: { value: 'REGION', says: 'whether this region or location sells what is needed; all of them if not given' },
  },
  isLook: true,
  givesUp: 'giving up, and revoking the auth key that was made to see whether one can be',
  leaves: 'An auth key that nobody has may be left behind. It ends by itself within a minute.',
  underway: 'Checking the set-up',
  exitCodes: `Exit codes:
  0              healthy; there may be warnings
  1              something failed, or could not be looked at
  2              a mistake in the arguments
  129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM
`,

  async run({ flags, call, terminal, env }) {
    const what = flags.region === undefined ? {} : { region: flags.region }
    const options = optionsOf(command, flags)
    const looking = call((api, common) => api.doctor(what, { ...options, ...common }))
    const [diagnosis, callback] = await Promise.all([looking, checkCallback(env)])
    const checks = [...diagnosis.checks, ...(callback ? [callback] : [])]
    const all = { ...diagnosis, healthy: diagnosis.healthy && callback?.verdict !== 'failed', checks }
    terminal.answer(all, (to) => describe(all, to))
    return all.healthy ? EXIT.ok : EXIT.failed
  },
}

module.exports = command

function describe({ healthy, checks }, to) {
  const room = Math.max(...checks.map(({ name }) => name.length))
  const of = (verdict) => checks.filter((check) => check.verdict === verdict).length
  const rest = `${of('failed')} failed, ${of('warning')} to look at, ${of('skipped')} skipped`
  const [colour, word] = healthy ? ['green', 'Healthy'] : ['red', 'Not healthy']
  const sum = hang(`${to.style(colour, word)}: `, `${of('ok')} good, ${rest}.`, word.length + 2, to.width)
  return [...checks.flatMap((check) => linesOf(check, room, to)), '', ...sum]
}

/** A check on its line, and below it what to do. Off a terminal the verdict is a word that can be searched for. */
function linesOf({ name, verdict, what, code, hint }, room, { style, isWatched, width }) {
  const [sign, colour] = MARKS[verdict]
  const mark = isWatched ? sign : verdict.padEnd('skipped'.length)
  const indent = mark.length + 1 + room + 2
  const lines = hang(`${style(colour, mark)} ${style('bold', name.padEnd(room))}  `, what, indent, width)
  const advice = verdict === 'ok' || verdict === 'skipped' ? '' : [code, hint && asFlags(hint, command)].filter(Boolean).join(': ')
  return advice ? [...lines, ...hang(' '.repeat(indent), advice, indent, width)] : lines
}

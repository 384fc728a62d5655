'use strict'

// Whether callbacks could go where they are to go, as a workflow would ask.

const { spawn } = require('node:child_process')
const path = require('node:path')

const SCRIPT = path.join(__dirname, '..', '..', 'scripts', 'callback.js')

/** The script asks for a job as well, which nobody has while looking at the set-up. */
const STAND_INS = { JOB_ID: 'doctor', AGENT_ID: 'doctor', REGION: 'us-east' }

/** The check of `CALLBACK_URL`, as one of the doctor's. None if it is not set, since it usually comes with the job. */
async function checkCallback(env) {
  if (!env.CALLBACK_URL) return undefined
  // It gets no more than it looks at, so that it has no secret, and no files of a workflow's step to write to.
  const given = { ...STAND_INS, CALLBACK_URL: env.CALLBACK_URL, CALLBACK_ORIGINS: env.CALLBACK_ORIGINS ?? '' }
  const { code, said } = await run({ ...given, ...(env.PATH ? { PATH: env.PATH } : {}) })
  const [errors, warnings] = [linesOf(said, 'error'), linesOf(said, 'warning')]
  const check = (verdict, what, more) => ({ name: 'callback', verdict, what, ...more })
  if (code !== 0) return check('failed', errors.join('; ') || said.trim().split('\n').pop() || 'the check did not run', ADVICE)
  if (warnings.length > 0) return check('warning', warnings.join('; '), ADVICE)
  return check('ok', `callbacks may go to ${new URL(env.CALLBACK_URL).host}`)
}

module.exports = { checkCallback }

const ADVICE = { code: 'CONFIG', hint: 'Correct the variable that is named; scripts/callback.js --help describes it.' }

function linesOf(said, kind) {
  const start = `[Callback] ${kind}: `
  return said.split('\n').filter((line) => line.startsWith(start)).map((line) => line.slice(start.length))
}

function run(env) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [SCRIPT, 'check'], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', (chunk) => (said += chunk))
    child.on('error', (error) => resolve({ code: 1, said: error.message }))
    child.on('close', (code) => resolve({ code, said }))
  })
}

'use strict'

// What a callback says. The app knows these bodies field by field, so there is nothing else in them.

const { createHash } = require('node:crypto')
const { isIP } = require('node:net')

const { InputError, readId, readText } = require('./target.js')

/** The events, each with its body. */
const EVENTS = {
  provisioning: (env, jobId) => ({ job_id: jobId, status: 'provisioning', workflow_run_id: readRun(env).id }),
  heartbeat: (_env, jobId) => ({ job_id: jobId, type: 'heartbeat' }),
  running: (env, jobId) => ({
    job_id: jobId,
    status: 'running',
    server_id: readText('SERVER_ID', env.SERVER_ID, /^[1-9]\d{0,15}$/, 'a number'),
    server_ip: readAddress('SERVER_IP', env.SERVER_IP),
    tailscale_ip: readAddress('TAILSCALE_IP', env.TAILSCALE_IP),
  }),
  failed: (env, jobId) => ({
    job_id: jobId,
    status: 'failed',
    // The app refuses an empty text, and would then never hear of the failure.
    error: oneLine(env.ERROR) || 'unknown error',
    failed_step: oneLine(env.FAILED_STEP) || 'unknown step',
  }),
}

/** An event of this run, ready to be signed. A heartbeat has its number beside it. */
function makeMessage(event, env, number) {
  const jobId = readId('JOB_ID', env.JOB_ID)
  const body = EVENTS[event](env, jobId)
  return { event, jobId, fields: body, body: JSON.stringify(body), id: makeId(event, readRun(env), jobId, number) }
}

module.exports = { makeMessage }

/**
 * The same for every repetition of an event, whoever sends it, so that the app takes it once. A job id may hold a full
 * stop, which must not be in there, so its hash stands for it.
 */
function makeId(event, run, jobId, number) {
  const job = createHash('sha256').update(jobId).digest('hex').slice(0, 32)
  return [event, run.id, run.attempt, job, number].filter((part) => part !== undefined).join('-')
}

function readRun({ GITHUB_RUN_ID: id, GITHUB_RUN_ATTEMPT: attempt }) {
  const read = (variable, text) => readText(variable, text, /^\d{1,20}$/, 'a number')
  return { id: read('GITHUB_RUN_ID', id), attempt: read('GITHUB_RUN_ATTEMPT', attempt || '1') }
}

function readAddress(variable, text) {
  readText(variable, text, /^[0-9A-Fa-f.:]{1,45}$/, 'an IP address')
  if (!isIP(text)) throw new InputError(variable, 'expected an IP address')
  return text
}

const LONGEST_LINE = 2000

/** A text from upstream as one line without control characters, or directions of writing, and not too long. */
function oneLine(text = '') {
  const line = text.replace(/[\s\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim()
  // Whole characters, so that none is cut in two.
  const characters = Array.from(line)
  return characters.length > LONGEST_LINE ? `${characters.slice(0, LONGEST_LINE).join('')}…` : line
}

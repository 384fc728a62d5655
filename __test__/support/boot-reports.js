'use strict'

// Boot reports as a machine posts them. The tokens come from `node:crypto`, so that ours are held against another hand's.

const { createHmac } = require('node:crypto')

const SECRET = 'the-plain-secret-of-an-app'
const OTHER_SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const EXP = 1_795_428_960
const CLAIMS = { job: 'job-1', server: 'agent-a-1', attempt: '00ff00ff00ff00ff', exp: EXP }
const KEYS = { [SECRET]: SECRET, [OTHER_SECRET]: Buffer.from(OTHER_SECRET.slice(6), 'base64') }

/** A token. The payload may be a text, for what no sound sender makes. */
function tokenOf(claims = CLAIMS, secret = SECRET) {
  const payload = Buffer.from(typeof claims === 'string' ? claims : JSON.stringify(claims)).toString('base64url')
  const signed = `pvb1.${payload}`
  return `${signed}.${createHmac('sha256', KEYS[secret] ?? secret).update(signed).digest('base64url')}`
}

/** A report in the words of `join.sh`. */
function reportOf(changes) {
  return { event: 'failed', class: 'key-refused', at: EXP - 600, seq: 3, ...changes }
}

/** What a machine posts. */
function posted(report = reportOf(), token = tokenOf()) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  return { body: typeof report === 'string' ? report : JSON.stringify(report), headers }
}

module.exports = { CLAIMS, EXP, OTHER_SECRET, posted, reportOf, SECRET, tokenOf }

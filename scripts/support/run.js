'use strict'

// Which run of a workflow this is. GitHub counts the attempts of a run from 1; only a run that is over can be run again.

/** Earlier attempts are over, and so is what they left; more than these nobody has ever made. */
const MOST = 100

/** The run and its attempt, as one id. Nothing outside a workflow. */
function readRun({ GITHUB_RUN_ID: id, GITHUB_RUN_ATTEMPT: attempt }) {
  return id ? `${id}-${attempt || '1'}` : undefined
}

/** This attempt of the run and all before it, the latest first. */
function readRuns({ GITHUB_RUN_ID: id, GITHUB_RUN_ATTEMPT: attempt }) {
  const latest = Number(attempt || '1')
  if (!/^\d{1,20}$/.test(id ?? '') || !Number.isSafeInteger(latest) || latest < 1) return undefined
  return Array.from({ length: Math.min(latest, MOST) }, (_, back) => `${id}-${latest - back}`)
}

module.exports = { readRun, readRuns }

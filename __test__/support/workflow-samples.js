'use strict'

// Small workflows for the tests of the runners themselves.

const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')

const { startRun } = require('./workflow.js')

/** The kill sequence takes 1 s; a minute of a time limit 6 s. */
const TIME_SCALE = 10

const folder = mkdtempSync(path.join(tmpdir(), 'provision-vm-workflow-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

let files = 0
/** A file with this workflow; its trigger is added. */
function workflow(text) {
  const file = path.join(folder, `${(files += 1)}.yml`)
  const inputs = '{ who: { type: string }, flag: { type: boolean } }'
  writeFileSync(file, `on: { workflow_dispatch: { inputs: ${inputs} } }\n${text}`)
  return file
}

/** A workflow of one job, `a`. */
function job(steps, more = '') {
  return workflow(`jobs:\n  a:\n    runs-on: ubuntu-latest\n${more}    steps:\n${steps}`)
}

function start(file, options) {
  return startRun({ file, timeScale: TIME_SCALE, ...options })
}

function run(file, options) {
  return start(file, options).ended
}

/** How the steps of job `a` ended. */
function conclusions({ jobs: { a } }) {
  return a.steps.map((step) => step.conclusion)
}

/** How the jobs ended. */
function results({ jobs }) {
  return Object.fromEntries(Object.entries(jobs).map(([id, { result }]) => [id, result]))
}

/** What the processes of a run have said, without the texts of the scripts. */
function said({ log }) {
  return log.replace(/##\[group\]Run .*?##\[endgroup\]\n/gs, '').split('\n').filter(Boolean)
}

module.exports = { TIME_SCALE, conclusions, folder, job, results, run, said, start, workflow }

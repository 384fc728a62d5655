'use strict'

// Prepares what the linters of .ci/run do not reach by themselves, in the folder that is named:
//
// - `.github/workflows/`: the workflows with every alias written out. zizmor looks at some things only where they stand.
// - `run/`: the scripts of the composite actions' steps. actionlint gives those of workflows to shellcheck, and no others.

const { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const path = require('node:path')

const yaml = require('yaml')

const ROOT = path.join(__dirname, '..')
const WORKFLOWS = path.join('.github', 'workflows')
const ACTIONS = ['action.yml', path.join('clean-up', 'action.yml')]

const [folder] = process.argv.slice(2)
rmSync(folder, { recursive: true, force: true })
for (const name of [WORKFLOWS, 'run']) mkdirSync(path.join(folder, name), { recursive: true })

for (const name of readdirSync(path.join(ROOT, WORKFLOWS))) {
  const workflow = yaml.parse(readFileSync(path.join(ROOT, WORKFLOWS, name), 'utf8'))
  writeFileSync(path.join(folder, WORKFLOWS, name), yaml.stringify(workflow, { aliasDuplicateObjects: false, lineWidth: 0 }))
}

for (const [at, action] of ACTIONS.entries()) {
  const { steps } = yaml.parse(readFileSync(path.join(ROOT, action), 'utf8')).runs
  for (const [step, { shell, run }] of steps.entries()) {
    writeFileSync(path.join(folder, 'run', `${at}-${step}.sh`), `# shellcheck shell=${shell}\n${run}\n`)
  }
}

'use strict'

// A workflow file and an action file as they are read: what is not known here is refused, not passed over.

const { existsSync, readFileSync } = require('node:fs')
const path = require('node:path')

const yaml = require('yaml')

const COMMON = ['name', 'permissions', 'env', 'defaults', 'concurrency']
const KEYS = {
  workflow: [...COMMON, 'run-name', 'on', 'jobs'],
  job: [...COMMON, 'needs', 'if', 'runs-on', 'outputs', 'timeout-minutes', 'environment', 'steps'],
  step: ['id', 'name', 'if', 'env', 'continue-on-error', 'timeout-minutes', 'run', 'shell', 'working-directory', 'uses', 'with'],
  action: ['name', 'author', 'description', 'branding', 'inputs', 'outputs', 'runs'],
}

/** The workflow of a file. */
function readWorkflow(file) {
  const workflow = readYaml(file)
  check(workflow, KEYS.workflow, 'the workflow')
  for (const [id, job] of Object.entries(workflow.jobs)) {
    check(job, KEYS.job, `job ${id}`)
    job.needs = [job.needs ?? []].flat()
    for (const need of job.needs) if (!workflow.jobs[need]) throw new Error(`job ${id} needs ${need}, which is no job`)
    checkSteps(job.steps, `job ${id}`)
  }
  for (const id of Object.keys(workflow.jobs)) ancestorsOf(workflow, id)
  return { ...workflow, name: workflow.name ?? path.basename(file), file: path.basename(file) }
}

/** All that a job waits for, near and far. */
function ancestorsOf({ jobs }, id, path = []) {
  if (path.includes(id)) throw new Error(`job ${id} waits for itself`)
  const { needs } = jobs[id]
  return [...new Set(needs.flatMap((need) => [need, ...ancestorsOf({ jobs }, need, [...path, id])]))]
}

/** The composite action of a folder. */
function readAction(folder) {
  const file = ['action.yml', 'action.yaml'].map((name) => path.join(folder, name)).find(existsSync)
  if (!file) throw new Error(`Can't find 'action.yml' or 'action.yaml' under '${folder}'`)
  const action = readYaml(file)
  check(action, KEYS.action, file)
  if (action.runs?.using !== 'composite') throw new Error(`${file}: only composite actions can be run`)
  checkSteps(action.runs.steps, file)
  const shellless = action.runs.steps.find((step) => step.run !== undefined && !step.shell)
  if (shellless) throw new Error(`${file}: Required property is missing: shell`)
  return action
}

/** What a dispatch gives: the inputs as texts, and as the `inputs` context has them. */
function readInputs(workflow, event, given = {}) {
  const triggers = triggersOf(workflow)
  if (!(event in triggers)) throw new Error(`the workflow has no '${event}' trigger`)
  const declared = event === 'workflow_dispatch' ? triggers[event]?.inputs ?? {} : {}
  const unexpected = Object.keys(given).filter((name) => !(name in declared))
  if (unexpected.length > 0) throw new Error(`Unexpected inputs provided: ${JSON.stringify(unexpected)}`)
  const texts = {}
  const values = {}
  for (const [name, declaration] of Object.entries(declared)) {
    const text = String(given[name] ?? declaration?.default ?? '')
    const isMissing = text === '' && given[name] === undefined
    if (declaration?.required && isMissing) throw new Error(`Required input '${name}' not provided`)
    texts[name] = text
    values[name] = typed(name, text, declaration ?? {})
  }
  return { texts, values }
}

function typed(name, text, { type, options }) {
  if (type === 'choice' && !options.map(String).includes(text)) {
    throw new Error(`Provided value '${text}' for input '${name}' not in the list of allowed values`)
  }
  if (type === 'boolean') return text === 'true'
  return type === 'number' ? Number(text) : text
}

/** What starts it: one name, a list of them, or an object with more about each. */
function triggersOf({ on }) {
  const isPlain = typeof on === 'string' || Array.isArray(on)
  return isPlain ? Object.fromEntries([on].flat().map((name) => [name, {}])) : on
}

/** GitHub knows anchors and aliases, but no merge keys. */
function readYaml(file) {
  return yaml.parse(readFileSync(file, 'utf8'), { version: '1.2', merge: false })
}

function check(object, known, where) {
  const unknown = Object.keys(object).filter((key) => !known.includes(key))
  if (unknown.length > 0) throw new Error(`${where}: ${unknown.join(', ')} is not known to this runner`)
}

function checkSteps(steps, where) {
  const ids = new Set()
  for (const step of steps) {
    check(step, KEYS.step, `${where}, step ${step.name ?? step.id ?? step.uses}`)
    if ((step.run === undefined) === (step.uses === undefined)) throw new Error(`${where}: a step has either run or uses`)
    if (!step.id) continue
    if (ids.has(step.id.toLowerCase())) throw new Error(`${where}: the id ${step.id} is used more than once`)
    ids.add(step.id.toLowerCase())
  }
}

module.exports = { ancestorsOf, readAction, readInputs, readWorkflow }

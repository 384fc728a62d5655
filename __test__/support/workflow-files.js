'use strict'

// The files by which a step tells its runner something: GITHUB_OUTPUT, GITHUB_ENV, GITHUB_PATH, GITHUB_STEP_SUMMARY.

const { mkdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const path = require('node:path')

/** The most that a summary of one step may have. */
const SUMMARY_LIMIT = 1024 * 1024

/** How the files are called in the `github` context, and in the environment. */
const NAMES = {
  env: 'GITHUB_ENV',
  output: 'GITHUB_OUTPUT',
  path: 'GITHUB_PATH',
  state: 'GITHUB_STATE',
  step_summary: 'GITHUB_STEP_SUMMARY',
}

/** Makes fresh files for one step. `variables` is what its processes are told of them, `context` what `github` has. */
function openFiles(folder, step) {
  mkdirSync(folder, { recursive: true })
  const context = Object.fromEntries(Object.keys(NAMES).map((name) => [name, path.join(folder, `${name}_${step}`)]))
  for (const file of Object.values(context)) writeFileSync(file, '')
  const variables = Object.fromEntries(Object.entries(NAMES).map(([name, variable]) => [variable, context[name]]))
  return { context, variables, read: (onError) => readAll(context, onError) }
}

/** What the step has written. What cannot be read is an error of the step; what came before it in the file counts. */
function readAll(files, onError) {
  const outputs = {}
  const env = {}
  attempt(NAMES.output, () => readPairs(files.output, (name, value) => (outputs[name] = value)), onError)
  attempt(NAMES.env, () => readPairs(files.env, (name, value) => setVariable(env, name, value, onError)), onError)
  const paths = read(files.path).split(/\r?\n/).filter(Boolean)
  const summary = readSummary(files.step_summary, onError)
  for (const file of Object.values(files)) rmSync(file, { force: true, recursive: true })
  return { outputs, env, paths, summary }
}

function attempt(file, read, onError) {
  try {
    read()
  } catch (error) {
    onError(`Unable to process file command '${file}' successfully. ${error.message}`, { isFatal: true })
  }
}

function setVariable(env, name, value, onError) {
  const isRefused = name.toUpperCase() === 'NODE_OPTIONS'
  if (isRefused) onError(`Can't store ${name} output parameter using '$GITHUB_ENV' command.`, { isFatal: false })
  else env[name] = value
}

function readSummary(file, onError) {
  const text = read(file)
  if (Buffer.byteLength(text) <= SUMMARY_LIMIT) return text
  onError('$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of 1024k', { isFatal: false })
  return ''
}

/** `name=value`, or `name<<delimiter`, lines, `delimiter`. */
function readPairs(file, onPair) {
  const text = read(file)
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  while (lines.length > 0) {
    const line = lines.shift()
    if (line === '') continue
    const [, name, sign, rest] = /^(.*?)(=|<<)(.*)$/s.exec(line) ?? []
    if (sign === undefined) throw new Error(`Invalid format '${line}'`)
    if (name === '') throw new Error(`Invalid format '${line}'. Name must not be empty`)
    if (sign === '<<' && rest === '') throw new Error(`Invalid format '${line}'. Delimiter must not be empty`)
    onPair(name, sign === '=' ? rest : takeHeredoc(lines, rest))
  }
}

function takeHeredoc(lines, delimiter) {
  const end = lines.indexOf(delimiter)
  if (end < 0) throw new Error(`Invalid value. Matching delimiter not found '${delimiter}'`)
  const value = lines.splice(0, end).join('\n')
  lines.shift()
  return value
}

function read(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT') return ''
    throw error
  }
}

module.exports = { openFiles }

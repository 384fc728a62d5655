'use strict'

// What GitHub Actions reads from a step: commands among its lines, and two files.

const { appendFileSync } = require('node:fs')

/** Hides a text in the log from now on. A mask covers one line, so a text of several lines needs several. */
function mask(stream, text) {
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() !== '') stream.write(`::add-mask::${escapeData(line.trim())}\n`)
  }
}

/** Makes a failure an annotation of the run. */
function printError(stream, error, message) {
  const title = escapeProperty(error.code ?? error.name)
  const text = [message, error.hint].filter(Boolean).join('\n')
  stream.write(`::error title=${title}::${escapeData(text)}\n`)
}

/** The step's outputs. A value is written once, and again only if it changes: the runner takes the last. */
function openOutputs(file, complain) {
  const written = new Map()
  const outputs = {
    failed: false,
    set(name, value) {
      if (!file || value === undefined || written.get(name) === value) return
      written.set(name, value)
      outputs.failed = !append(file, `${name}=${oneLine(value)}\n`, complain) || outputs.failed
    },
  }
  return outputs
}

/** A small table for the page of the run. */
function appendSummary(file, { params, result, error }, complain) {
  if (!file) return
  const rows = result ? describeResult(result) : describeError(error)
  const table = [['Job', params.jobId], ['Agent', params.agentId], ['Region', params.region], ...rows]
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => `| ${name} | ${cell(value)} |`)
  const title = result ? 'VM provisioned' : 'VM not provisioned'
  append(file, [`### ${title}`, '', '| | |', '| --- | --- |', ...table, '', ''].join('\n'), complain)
}

module.exports = { appendSummary, mask, openOutputs, printError }

function describeResult(result) {
  const { price, timings } = result
  return [
    ['Server', `${result.serverName} (${result.serverId})`],
    ['Type', `${result.serverType} in ${result.location}${price ? `, ${price.hourly} an hour` : ''}`],
    ['Address', result.serverIp],
    ['Address in the tailnet', result.tailscaleIp],
    ['Reused', result.reused ? 'yes' : 'no'],
    ['Time', `${(timings.reduce((sum, { ms }) => sum + ms, 0) / 1000).toFixed(1)} s`],
    ['Warnings', result.warnings.join('; ')],
  ]
}

function describeError(error) {
  const { attempts = [], leftovers = [] } = error
  return [
    ['Error', error.code ?? error.name],
    ['Step', error.step],
    ['Message', error.message],
    ['What to do', error.hint],
    ['Tried', attempts.map((it) => `${it.serverType} in ${it.location}: ${it.refused ?? 'taken'}`).join('; ')],
    ['Left behind', leftovers.map((it) => `${it.kind} ${it.id ?? it.name ?? ''}: ${it.why}`).join('; ') || 'nothing'],
  ]
}

function append(file, text, complain) {
  try {
    appendFileSync(file, text)
    return true
  } catch (error) {
    complain(`cannot write to ${file}: ${error.message}`)
    return false
  }
}

/** A line break in a value would begin another output. */
function oneLine(value) {
  return String(value).replace(/[\r\n]+/g, ' ')
}

function cell(value) {
  return oneLine(value).replace(/[\\`*_[\]<>|]/g, (sign) => `\\${sign}`)
}

function escapeData(text) {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A')
}

function escapeProperty(text) {
  return escapeData(text).replaceAll(':', '%3A').replaceAll(',', '%2C')
}

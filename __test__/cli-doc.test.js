'use strict'

// docs/cli.md shows what its commands print: each is run, in the order of the page, and compared.

const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')

const { runCli } = require('./support/cli.js')
const { ROOT, startCloud } = require('./support/simulator.js')

const PAGE = readFileSync(path.join(ROOT, 'docs', 'cli.md'), 'utf8')

/** Each `[command, output]`: an indented block that begins with a prompt. */
const shown = [...PAGE.matchAll(/^ {4}\$ provision-vm (.*)\n((?: {4}.*\n|\n(?= {4}(?!\$)))*)/gm)].map(([, command, output]) => [
  command,
  output.replace(/^ {4}/gm, ''),
])

/** How long something took, and what is counted or drawn anew in each world, is nobody's promise. */
function lasting(command, text) {
  if (command.startsWith('doctor')) {
    // How far the clocks are apart depends on how long the world has run.
    const checks = text.split('\n').filter((line) => /^(?:ok|warning|failed|skipped) /.test(line) && !/ clock /.test(line))
    return checks.join('\n').replace(/\d+ of 3600/, '# of 3600')
  }
  return text.replace(/ *\b\d+ (s|min)\b/g, ' # $1').replace(/"requests":\{.*?\}|"nodeId":".*?"/g, '#')
}

test('each command of docs/cli.md prints what stands below it', async (t) => {
  const cloud = await startCloud({ timeScale: 10, epoch: Math.floor(Date.now() / 1000) })
  t.after(() => cloud.stop())
  assert.ok(shown.length > 12)
  for (const [command, output] of shown.filter(([command]) => !command.startsWith('simulate'))) {
    const { stdout, stderr } = await runCli(cloud, command.split(' ')).ended
    assert.equal(lasting(command, stdout || stderr).trimEnd(), lasting(command, output).trimEnd(), command)
  }
})

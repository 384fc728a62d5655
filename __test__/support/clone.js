'use strict'

// The repository as a fresh clone has it: what is in Git, with what is not committed yet, and nothing that was built.

const { execFileSync } = require('node:child_process')
const { cpSync, existsSync, mkdirSync } = require('node:fs')
const path = require('node:path')

const { ROOT } = require('../../scripts/setup.js')

/** Puts it into a folder. `more` are built files to take along. */
function cloneInto(folder, more = []) {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const files = execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).split('\0').filter(Boolean)
  for (const file of [...files, ...more]) {
    const [from, to] = [path.join(ROOT, file), path.join(folder, file)]
    // What was deleted and not committed is still listed.
    if (!existsSync(from)) continue
    mkdirSync(path.dirname(to), { recursive: true })
    cpSync(from, to)
  }
}

module.exports = { cloneInto }

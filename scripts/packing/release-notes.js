#!/usr/bin/env node
'use strict'

// Prints what CHANGELOG.md says of a release, and fails if its tag is not the package's version or nothing is said of it.

const { readFileSync } = require('node:fs')
const path = require('node:path')

const { version } = require('../../package.json')

const [tag] = process.argv.slice(2)

try {
  process.stdout.write(`${notesOf(tag)}\n`)
} catch (error) {
  console.error(`release-notes: ${error.message}`)
  process.exitCode = 1
}

function notesOf(tag) {
  if (tag !== `v${version}`) throw new Error(`the tag is ${tag}, the version of the package ${version}`)
  const changes = readFileSync(path.join(__dirname, '..', '..', 'CHANGELOG.md'), 'utf8')
  const section = changes.split(/^## /m).find((section) => section.split(/\s/)[0] === version)
  const notes = section?.split('\n').slice(1).join('\n').trim()
  if (!notes) throw new Error(`CHANGELOG.md says nothing of ${version}`)
  return notes
}

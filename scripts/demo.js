'use strict'

// Provisions one VM in a local cloud, and shows what exists there afterwards. `npm run demo`

const { spawn } = require('node:child_process')
const { once } = require('node:events')

const { startLocalCloud } = require('../js/local-cloud.js')
const { SIMULATOR, setUp } = require('./setup.js')
const { paint, seconds } = require('./support/display.js')

/** Fast enough to watch: a machine that takes half a minute is there in six seconds. */
const TIME_SCALE = 5

const style = paint(process.stdout.isTTY ? process.env : { NO_COLOR: '1' })

main().catch((error) => {
  console.error(`\n  The demo failed: ${error.message}\n`)
  process.exitCode = 1
})

async function main() {
  heading('Setting up')
  await setUp()
  const cloud = await startLocalCloud({ program: SIMULATOR, timeScale: TIME_SCALE })
  try {
    heading('Provisioning', `node scripts/provision.js, against ${cloud.urls.cloud}, ${TIME_SCALE} times as fast as real`)
    const result = await provision(cloud)
    heading('The result', 'the line that the script prints')
    for (const [name, value] of Object.entries(result)) console.log(`  ${style('dim', name.padEnd(13))} ${show(value)}`)
    heading('What exists in the local cloud now')
    const world = await cloud.world()
    table('servers', world.servers, ['id', 'name', 'server_type', 'location', 'ipv4', 'status', 'state'])
    table('devices', world.devices, ['node_id', 'hostname', 'ip', 'tags', 'connected'])
    table('auth keys', world.keys, ['id', 'description', 'used', 'revoked', 'usable'])
  } finally {
    await cloud.stop()
  }
}

async function provision(cloud) {
  const env = {
    ...process.env,
    JOB_ID: `demo-${Date.now().toString(36)}`,
    AGENT_ID: '7c9e6679-7425-40de-944b-e07fc1f90ae7',
    REGION: 'us-east',
    ...cloud.env,
    // What belongs to a real workflow has no place here.
    GITHUB_OUTPUT: '',
    GITHUB_STEP_SUMMARY: '',
  }
  const child = spawn(process.execPath, [require.resolve('./provision.js')], { env, stdio: ['inherit', 'pipe', 'inherit'] })
  // Ctrl-C reaches the script by itself; the demo waits for its undo.
  process.on('SIGINT', () => {})
  let output = ''
  child.stdout.on('data', (chunk) => (output += chunk))
  const [code, signal] = await once(child, 'close')
  if (code !== 0) throw new Error(`scripts/provision.js ended with ${signal ?? `code ${code}`}`)
  return JSON.parse(output)
}

function heading(title, note) {
  console.log(`\n${style('bold', title)}${note ? style('dim', `  ${note}`) : ''}${title === 'Provisioning' ? '' : '\n'}`)
}

/** A table whose columns are as wide as they need to be. */
function table(title, rows, columns) {
  const cells = rows.map((row) => columns.map((column) => show(column === 'state' ? row.labels.state : row[column])))
  const widths = columns.map((column, at) => Math.max(column.length, ...cells.map((row) => row[at].length)))
  const line = (row) => row.map((text, at) => text.padEnd(widths[at])).join('  ').trimEnd()
  console.log(`  ${style('cyan', title)} ${style('dim', `(${rows.length})`)}`)
  console.log(`    ${style('dim', line(columns.map((column) => column.replace('_', ' '))))}`)
  for (const row of cells) console.log(`    ${line(row)}`)
  console.log()
}

function show(value) {
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(show).join(', ')
  if (value === null || typeof value !== 'object') return String(value)
  if ('refused' in value || 'serverType' in value) return `${value.serverType}${value.refused ? ` (${value.refused})` : ''}`
  if ('ms' in value) return `${value.step} ${seconds(value.ms)}`
  return Object.entries(value).map(([name, part]) => `${name} ${show(part)}`).join(', ')
}

'use strict'

// A call that waits until its machine can be reached, where it never can be. Prints what became of it, as a line of JSON.

const { provisionVM } = require('../../index.js')
const { leftIn, newJob, startCloud } = require('./simulator.js')

async function main() {
  const cloud = await startCloud()
  const told = []
  const onProgress = ({ step, detail }) => told.push([step, detail.kind, detail.why])
  const wanted = { waitFor: 'reachable', reachablePort: 65_000, timeoutMs: 4_000 }
  const outcome = await provisionVM(newJob(), { env: cloud.env(), logger: false, onProgress, ...wanted }).catch((error) => error)
  console.log(JSON.stringify({ outcome, told, left: leftIn(await cloud.world()) }))
  await cloud.stop()
}

main()

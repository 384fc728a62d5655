'use strict'

// How runs, jobs and steps end in the runner that the workflow tests stand on: cancelled, out of time, lost, again.

const assert = require('node:assert/strict')
const { existsSync, mkdirSync, readFileSync, writeFileSync } = require('node:fs')
const { describe, it } = require('node:test')

const { conclusions, job, results, run, said, start, workflow } = require('./support/workflow-samples.js')
const { createQueue } = require('./support/workflow.js')

/** A dead process whose parent has not looked yet is dead. */
function isAlive(pid) {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** The process ids that a run has told of, as `pid=1`. */
const pidsIn = ({ log }) => [...log.matchAll(/^pid=(\d+)$/gm)].map(([, pid]) => Number(pid))

/** A second job that runs whatever becomes of the first. */
const CLEANUP = `
  b:
    runs-on: ubuntu-latest
    needs: a
    if: always()
    steps: [{ run: "echo 'a was \${{ needs.a.result }}; \${{ needs.a.outputs.o }}.'" }, { if: cancelled(), run: echo never }]
  c: { runs-on: ubuntu-latest, needs: a, steps: [{ run: 'true' }] }
`

const twoJobs = (steps, more = '') => workflow(`
jobs:
  a:
    runs-on: ubuntu-latest
    outputs: { o: "\${{ steps.one.outputs.o }}" }
${more}    steps:
${steps}${CLEANUP}`)

describe('cancelling', { concurrency: true }, () => {
  it('sends SIGINT to the entry process alone, and later steps run by their conditions', async () => {
    const one = start(twoJobs(`
      - id: one
        run: |
          echo o=1 >> "$GITHUB_OUTPUT"
          (trap 'echo child got it' INT TERM; sleep 3) & child=$!
          trap 'echo entry got INT; kill -KILL $child; exit 0' INT
          echo ready; while :; do sleep 0.01; done
      - { run: 'true' }
      - { if: always(), run: 'echo "\${{ steps.one.outcome }} \${{ job.status }}"' }
      - { if: cancelled(), run: 'true' }
      - { if: failure(), run: 'true' }
      - { if: success(), run: 'true' }
`))
    await one.untilLog(/^ready$/)
    one.cancel()
    const result = await one.ended
    assert.deepEqual(conclusions(result), ['cancelled', 'skipped', 'success', 'success', 'skipped', 'skipped'])
    assert.deepEqual(results(result), { a: 'cancelled', b: 'success', c: 'skipped' })
    assert.equal(result.conclusion, 'cancelled')
    const lines = said(result)
    // An exit code of 0 does not help a step that was cancelled, but its outputs count.
    for (const line of ['entry got INT', 'cancelled cancelled', 'a was cancelled; 1.', '##[error]The operation was canceled.']) {
      assert.ok(lines.includes(line), result.log)
    }
    assert.ok(!lines.includes('child got it') && !lines.includes('never'), result.log)
  })

  it('sends SIGTERM after 7.5 s, and kills the tree 2.5 s after that', async () => {
    const script = `
const began = Date.now()
const child = require('node:child_process').spawn('sleep', ['60'])
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => console.log(signal, Date.now()))
require('node:fs').appendFileSync(process.env.GITHUB_ENV, 'CHILD=' + child.pid)
console.log('pid=' + process.pid + '\\npid=' + child.pid + '\\nready')
setInterval(() => {}, 1000)`
    const file = job(`
      - { run: 'exec node -e "$SCRIPT"', env: { SCRIPT: "\${{ vars.SCRIPT }}" } }
      - { if: always(), run: 'grep --quiet sleep "/proc/$CHILD/cmdline" && echo survived || echo "killed $CHILD"' }
`)
    const one = start(file, { vars: { SCRIPT: script } })
    await one.untilLog(/^ready$/)
    const cancelled = Date.now()
    one.cancel()
    one.cancel()
    const result = await one.ended
    const times = [...result.log.matchAll(/^(SIGINT|SIGTERM) (\d+)$/gm)].map(([, name, at]) => [name, at - cancelled])
    assert.deepEqual(times.map(([name]) => name), ['SIGINT', 'SIGTERM'])
    assert.ok(times[0][1] < times[1][1] && times[1][1] >= 740, JSON.stringify(times))
    assert.ok(Date.now() - cancelled >= 990, 'it had its time')
    assert.deepEqual(pidsIn(result).map(isAlive), [false, false])
    assert.deepEqual(conclusions(result), ['cancelled', 'success'])
    // The child too, and then already, not only with the job.
    assert.equal(said(result).at(-1), `killed ${pidsIn(result)[1]}`)
  })

  it('leaves a step alone whose condition holds even then', async () => {
    const one = start(twoJobs(`
      - { id: one, if: always(), run: "echo ready; sleep 0.3; echo survived" }
      - { run: 'true' }
`))
    await one.untilLog(/^ready$/)
    one.cancel()
    const result = await one.ended
    assert.deepEqual(conclusions(result), ['success', 'skipped'])
    assert.ok(said(result).includes('survived'))
    assert.deepEqual(results(result), { a: 'cancelled', b: 'success', c: 'skipped' })
  })

  it('leaves a job alone whose condition holds even then, and does not tell it', async () => {
    const one = start(workflow(`
jobs:
  a: { runs-on: ubuntu-latest, steps: [{ run: 'true' }] }
  b: { runs-on: ubuntu-latest, needs: a, if: always(), steps: [{ name: Work, run: sleep 0.1 }, { if: cancelled(), run: 'true' }, { run: 'true' }] }
`))
    await one.untilStep('b', 'Work')
    one.cancel()
    const { jobs, conclusion } = await one.ended
    assert.deepEqual(jobs.b.steps.map((step) => step.conclusion), ['success', 'skipped', 'success'])
    assert.deepEqual([jobs.b.result, conclusion], ['success', 'success'])
  })

  it('reaches into a composite action, as a time limit does', async () => {
    const make = ({ workspace }) => {
      mkdirSync(`${workspace}/act`)
      writeFileSync(`${workspace}/act/action.yml`, `
runs:
  using: composite
  steps:
    - { shell: bash, run: 'echo ready; exec sleep 60' }
    - { shell: bash, run: echo no }
    - { if: always(), shell: bash, run: 'echo "tidy \${{ job.status }}"' }
`)
    }
    const file = job('      - uses: o/prepare@1\n      - uses: ./act\n      - { if: always(), run: "true" }')
    const one = start(file, { actions: { 'o/prepare': make } })
    await one.untilLog(/^ready$/)
    one.cancel()
    const result = await one.ended
    assert.deepEqual(conclusions(result), ['success', 'cancelled', 'success'])
    assert.deepEqual(said(result).filter((line) => !line.startsWith('##')), ['ready', 'tidy cancelled'])

    const limited = job('      - uses: o/prepare@1\n      - { uses: ./act, timeout-minutes: 0.1 }')
    assert.deepEqual(conclusions(await run(limited, { actions: { 'o/prepare': make } })), ['success', 'failure'])
  })

  it('ends a job that does not come to an end within 5 minutes of it', async () => {
    const one = start(job('      - { if: always(), run: "echo ready; sleep 60" }'), { timeScale: 1000 })
    await one.untilLog(/^ready$/)
    one.cancel()
    const result = await one.ended
    assert.deepEqual([results(result), conclusions(result)], [{ a: 'cancelled' }, [null]])
  })
})

describe('time limits', { concurrency: true }, () => {
  it('fails a step whose time is up, with the same signals', async () => {
    const result = await run(job(`
      - { id: slow, run: "trap 'echo INT; exit 0' INT; while :; do sleep 0.01; done", timeout-minutes: 0.1 }
      - { run: 'true' }
      - { if: failure(), run: 'echo "\${{ steps.slow.outcome }}"' }
`))
    assert.deepEqual(conclusions(result), ['failure', 'skipped', 'success'])
    assert.deepEqual(said(result), ['INT', '##[error]The action has timed out.', 'failure'])
  })

  it('cancels a job whose time is up; others that need it run by their conditions', async () => {
    const file = twoJobs('      - { id: one, run: exec sleep 60 }\n      - { if: cancelled(), run: echo in time }', '    timeout-minutes: 0.2\n')
    const result = await run(file)
    assert.deepEqual([conclusions(result), results(result)], [['cancelled', 'success'], { a: 'cancelled', b: 'success', c: 'skipped' }])
    assert.match(result.log, /exceeded the maximum execution time of 0\.2m/)
    assert.equal(result.jobs.a.timeoutMinutes, 0.2)

    const abrupt = await run(file, { isTimeoutAbrupt: true })
    assert.deepEqual([conclusions(abrupt), results(abrupt)], [[null], { a: 'cancelled', b: 'success', c: 'skipped' }])
  })
})

describe('what a job leaves', { concurrency: true }, () => {
  it('lets a background process live until the job ends', async () => {
    const result = await run(job(`
      - run: |
          sleep 60 > /dev/null 2>&1 & echo "pid=$!"; echo "ONE=$!" >> "$GITHUB_ENV"
          setsid bash -c 'trap "" TERM INT HUP; sleep 60; :' > /dev/null 2>&1 & echo "pid=$!"; echo "TWO=$!" >> "$GITHUB_ENV"
      - run: grep --quiet sleep "/proc/$ONE/cmdline" "/proc/$TWO/cmdline"
`))
    assert.deepEqual(conclusions(result), ['success', 'success'])
    assert.deepEqual(pidsIn(result).map(isAlive), [false, false])
    assert.ok(result.jobs.a.orphans >= 2)
  })

  it('ends a step with its entry process, 5 s later if a child still holds its output', async () => {
    const result = await run(job('      - run: "(sleep 60; echo late) & echo pid=$!"\n      - run: echo next'))
    const [step] = result.jobs.a.steps
    assert.ok(step.ms >= 495 && step.ms < 30_000, `${step.ms} ms`)
    assert.deepEqual([step.conclusion, said(result).at(-1)], ['success', 'next'])
    assert.deepEqual(pidsIn(result).map(isAlive), [false])
  })

  it('removes its folder', async () => {
    const result = await run(job('      - run: echo "$RUNNER_TEMP" "$GITHUB_WORKSPACE"; pwd'))
    for (const folder of said(result).join(' ').split(' ')) assert.ok(!existsSync(folder))
  })
})

describe('a lost machine', () => {
  it('ends all that runs on it; its job has failed without outputs, and others run on', async () => {
    const one = start(twoJobs(`
      - { id: one, run: 'echo o=1 >> "$GITHUB_OUTPUT"' }
      - run: |
          trap 'echo got a signal' INT TERM HUP
          setsid sleep 60 & echo "pid=$!"
          echo "pid=$$"; echo ready; sleep 60 & echo "pid=$!"; wait
      - { if: always(), run: echo never here }
`))
    await one.untilLog(/^ready$/)
    one.lose('a')
    const result = await one.ended
    assert.deepEqual(conclusions(result), ['success', null])
    assert.deepEqual(results(result), { a: 'failure', b: 'success', c: 'skipped' })
    assert.deepEqual({ ...result.jobs.a.outputs }, {})
    assert.ok(said(result).includes('a was failure; .'))
    assert.ok(pidsIn(result).length >= 2 && !pidsIn(result).some(isAlive), result.log)
    assert.ok(!/got a signal|never here|exit code/.test(said(result).join('\n')))
    assert.deepEqual(result.annotations, [])
    assert.equal(result.conclusion, 'failure')
  })
})

describe('again', { concurrency: true }, () => {
  const file = workflow(`
jobs:
  a: { runs-on: ubuntu-latest, outputs: { n: "\${{ github.run_attempt }}" }, steps: [{ run: 'true' }] }
  b: { runs-on: ubuntu-latest, needs: a, steps: [{ run: '[ "$GITHUB_RUN_ATTEMPT" -gt 1 ]' }] }
  c: { runs-on: ubuntu-latest, needs: [a, b], if: always(), steps: [{ run: 'echo "$GITHUB_RUN_ID.$GITHUB_RUN_ATTEMPT \${{ needs.a.outputs.n }} \${{ needs.b.result }}"' }] }
`)

  it('runs all jobs, or those that failed and what needs them', async () => {
    const first = start(file, { runId: 9 })
    assert.throws(() => first.rerun(), /once it has ended/)
    const one = await first.ended
    assert.deepEqual([results(one), said(one).at(-1)], [{ a: 'success', b: 'failure', c: 'success' }, '9.1 1 failure'])
    const two = await first.rerun({ failedOnly: true }).ended
    assert.deepEqual([results(two), said(two).at(-1)], [{ a: 'success', b: 'success', c: 'success' }, '9.2 1 success'])
    const all = await first.rerun().ended
    assert.equal(said(all).at(-1), '9.2 2 success')
  })

  it('keeps runs of one concurrency group apart: one runs, one waits, and a third takes the place of that one', async () => {
    const grouped = workflow(`
concurrency: { group: "g-\${{ inputs.who }}" }
jobs:
  a: { runs-on: ubuntu-latest, steps: [{ run: "echo ready; sleep 0.2" }] }
`)
    const queue = createQueue()
    const begin = (who) => start(grouped, { inputs: { who }, queue })
    const [one, two, three, other] = ['x', 'x', 'x', 'y'].map(begin)
    const ends = []
    for (const [name, it] of Object.entries({ one, two, three, other })) it.ended.then(() => ends.push(name))
    const all = await Promise.all([one, two, three, other].map((it) => it.ended))
    assert.deepEqual(all.map((it) => it.conclusion), ['success', 'cancelled', 'success', 'success'])
    assert.ok(ends.indexOf('one') < ends.indexOf('three'), ends.join())
    assert.deepEqual(all[0].concurrency, { group: 'g-x', cancelInProgress: false, isLong: false })
    // Nothing is left in the way of a later one, and one that waits can be cancelled.
    const [four, five] = [begin('x'), begin('x')]
    await four.untilLog(/^ready$/)
    five.cancel()
    assert.equal((await five.ended).conclusion, 'cancelled')
    assert.equal((await four.ended).conclusion, 'success')
  })

  it('lets all wait for their turn where the group has a long queue', async () => {
    const file = workflow('concurrency: { group: g, queue: max }\njobs: { a: { runs-on: ubuntu-latest, steps: [{ run: sleep 0.1 }] } }')
    const queue = createQueue()
    const runs = Array.from({ length: 4 }, () => start(file, { queue }))
    const ends = []
    runs.forEach((one, at) => one.ended.then(() => ends.push(at)))
    const all = await Promise.all(runs.map((one) => one.ended))
    assert.deepEqual([all.map((it) => it.conclusion), ends], [Array(4).fill('success'), [0, 1, 2, 3]])
  })

  it('says when it waits for what never comes', async () => {
    const one = start(job('      - run: "true"'))
    await assert.rejects(one.untilStep('No such step'), /the run ended without step No such step/)
    await assert.rejects(one.untilLog(/nothing/), /the run ended without a line like/)
  })
})

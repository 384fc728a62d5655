'use strict'

// The runner of the workflow tests beside `act`, on the same small workflows: where the two agree, and where act does
// otherwise than GitHub, so that nobody takes its word there.

const assert = require('node:assert/strict')
const { mkdirSync, writeFileSync } = require('node:fs')
const path = require('node:path')
const { describe, it } = require('node:test')

const { runAct, whyNoAct } = require('./support/act.js')
const { folder, job, run, start, workflow } = require('./support/workflow-samples.js')
const { linkTree } = require('./support/workflow.js')

const skip = whyNoAct() ?? false

const SHA = '0123456789abcdef0123456789abcdef01234567'

/** A tree to check out, with a local action, and a stand-in for an action from elsewhere. */
const tree = path.join(folder, 'repository')
const setup = path.join(folder, 'setup')
for (const it of [path.join(tree, 'act'), setup]) mkdirSync(it, { recursive: true })
writeFileSync(path.join(tree, 'tool.sh'), 'echo "tool $1"\n')
writeFileSync(path.join(setup, 'action.yml'), `
name: setup
description: d
runs: { using: composite, steps: [{ shell: bash, run: echo set up }] }
`)
writeFileSync(path.join(tree, 'act', 'action.yml'), `
name: act
description: d
inputs: { a: { description: d, default: '1' }, b: { description: d, required: true } }
outputs: { sum: { description: d, value: "\${{ steps.in.outputs.sum }}" } }
runs:
  using: composite
  steps:
    - { id: in, shell: bash, env: { A: "\${{ inputs.a }}", B: "\${{ inputs.b }}" }, run: 'echo "sum=$((A + B))" >> "$GITHUB_OUTPUT"; ls "$GITHUB_ACTION_PATH"' }
`)

/** What both must say of a run: how each job and step ended, and what the steps said. */
const ours = ({ jobs }) => describeJobs(jobs, (step) => step.outcome, (step) => withoutHeader(step.log))
const acts = ({ jobs }) => describeJobs(jobs, (step) => step.result, (step) => step.log)

function describeJobs(jobs, result, log) {
  const steps = (job) => job.steps.filter((step) => !['skipped', undefined].includes(result(step)))
  const ran = Object.entries(jobs).filter(([, job]) => job.result !== 'skipped')
  return Object.fromEntries(ran.map(([id, job]) => [id, { result: job.result, steps: steps(job).map((step) => [result(step), linesOf(log(step))]) }]))
}

const withoutHeader = (log) => log.replace(/##\[group\]Run .*?##\[endgroup\]\n/gs, '').replace(/^##.*\n/gm, '')
const linesOf = (text) => text.split(/\r?\n/).filter(Boolean)

const SAMPLES = {
  'outputs, variables, conditions and a second job': {
    file: workflow(`
name: Both
env: { W: w }
jobs:
  a:
    if: vars.NONE == ''
    runs-on: ubuntu-latest
    env: { J: j }
    outputs: { o: "\${{ steps.one.outputs.o }}" }
    steps: &steps
      - { name: Checkout, uses: actions/checkout@${SHA}, with: { persist-credentials: false } }
      - { name: Setup, uses: actions/setup-node@${SHA} }
      - { id: one, env: { WHO: "\${{ inputs.who }}", S: "\${{ secrets.S }}" }, run: 'bash tool.sh "$WHO"; echo "$S $W $J \${{ vars.V }}"; printf "o=1\\nm<<E\\na\\nb\\nE\\n" >> "$GITHUB_OUTPUT"; echo "X=y" >> "$GITHUB_ENV"' }
      - run: echo "$X \${{ env.X }} \${{ steps.one.outputs.m }} $GITHUB_RUN_ID.$GITHUB_RUN_ATTEMPT \${{ github.run_id }} $GITHUB_JOB $GITHUB_WORKFLOW $CI $GITHUB_ACTIONS"
      - { id: two, shell: bash, run: 'false | true', continue-on-error: true }
      - { id: three, run: 'false | true; echo "\${{ steps.two.outcome }} \${{ steps.two.conclusion }} \${{ inputs.flag && 1 || 2 }}"' }
      - { id: four, run: exit 3 }
      - run: echo not me
      - { if: "failure() && steps.four.outcome != 'success'", run: echo rescue }
      - { if: "always() && steps.four.outcome == 'success'", run: echo not me }
      - { if: always(), run: 'echo "\${{ job.status }}"' }
  twin: { if: "vars.NONE != ''", runs-on: ubuntu-latest, steps: *steps }
  b: { runs-on: ubuntu-latest, needs: [a, twin], steps: [{ run: echo not me }] }
  c: { runs-on: ubuntu-latest, needs: [a, twin], if: always(), steps: [{ run: 'echo "\${{ needs.a.result }} \${{ needs.a.outputs.o }} \${{ needs.twin.result }}"' }] }
`),
    inputs: { who: 'me and "you" $(id) `id` ::error::x', flag: 'true' },
    result: { a: 'failure', c: 'success' },
  },
  'a composite action': {
    file: job(`
      - { uses: actions/checkout@${SHA} }
      - { id: it, uses: ./act, with: { b: '2' } }
      - run: echo "\${{ steps.it.outputs.sum }}"
`),
    result: { a: 'success' },
  },
  'masks and stopped commands': {
    file: job(`
      - run: echo minted; echo ::add-mask::minted; echo "a minted b"
      - run: |
          echo ::stop-commands::tok3n
          echo ::add-mask::word; echo word
          echo ::tok3n::
          echo ::add-mask::word
      - run: echo word
`),
    result: { a: 'success' },
    // Act shows the commands themselves elsewhere.
    only: (line) => !line.startsWith('::'),
  },
}

describe('both runners agree on', { skip, concurrency: true }, () => {
  for (const [what, { file, inputs, result, only = () => true }] of Object.entries(SAMPLES)) {
    it(what, async () => {
      const common = { file, inputs, secrets: { S: 'sesame' }, vars: { V: 'v' }, runId: 7, attempt: 2 }
      const standIns = { 'actions/checkout': linkTree(tree), 'actions/setup-node': setup }
      const [one, two] = await Promise.all([
        run(file, { ...common, actions: standIns }),
        runAct({ ...common, actions: { 'actions/setup-node': setup }, workspace: tree }),
      ])
      const [mine, theirs] = [ours(one), acts(two)]
      for (const { steps } of [...Object.values(mine), ...Object.values(theirs)]) for (const step of steps) step[1] = step[1].filter(only)
      assert.deepEqual(mine, theirs, `${one.log}\n---\n${two.log}\n${two.stderr}`)
      assert.deepEqual(Object.fromEntries(Object.entries(mine).map(([id, it]) => [id, it.result])), result)
    })
  }
})

describe('where act is not GitHub', { skip, concurrency: true }, () => {
  it('it kills a background process with the step that started it', async () => {
    const file = job(`
      - run: sleep 20 > /dev/null 2>&1 & echo "PID=$!" >> "$GITHUB_ENV"
      - run: grep --quiet sleep "/proc/$PID/cmdline" && echo alive || echo dead
`)
    const [one, two] = await Promise.all([run(file), runAct({ file })])
    assert.deepEqual([ours(one).a.steps[1][1].at(-1), acts(two).a.steps[1][1].at(-1)], ['alive', 'dead'])
  })

  it('it kills a cancelled step at once, without a signal, and runs no step of the job that cleans up', async () => {
    const file = workflow(`
jobs:
  a: { runs-on: ubuntu-latest, steps: [{ run: "trap 'echo got INT; exit 1' INT; echo ready; while :; do sleep 0.01; done" }, { if: always(), run: echo tidy }] }
  b: { runs-on: ubuntu-latest, needs: a, if: always(), steps: [{ run: echo clean }] }
`)
    const one = start(file)
    const second = runAct({ file, cancelAt: /"ready\\n"/ })
    await one.untilLog(/^ready$/)
    one.cancel()
    const [mine, theirs] = [ours(await one.ended), acts(await second)]
    assert.deepEqual(mine, {
      a: { result: 'cancelled', steps: [['cancelled', ['ready', 'got INT']], ['success', ['tidy']]] },
      b: { result: 'success', steps: [['success', ['clean']]] },
    })
    assert.deepEqual(theirs, {
      a: { result: 'failure', steps: [['failure', ['ready']], ['success', ['tidy']]] },
      b: { result: 'success', steps: [] },
    })
  })

  it('it obeys set-output, does not fail a step for set-env, and lets NODE_OPTIONS through', async () => {
    const file = job(`
      - { id: one, run: 'echo ::set-output name=a::1' }
      - { run: 'echo ::set-env name=A::1', continue-on-error: true }
      - run: echo "NODE_OPTIONS=--no-warnings" >> "$GITHUB_ENV"
      - run: echo "\${{ steps.one.outputs.a }}|$NODE_OPTIONS"
`)
    const [one, two] = await Promise.all([run(file), runAct({ file })])
    const ends = (described) => described.a.steps.slice(1).map(([result, lines]) => [result, lines.at(-1)])
    assert.deepEqual(ends(ours(one)), [['failure', undefined], ['success', undefined], ['success', '|']])
    assert.deepEqual(ends(acts(two)), [['success', undefined], ['success', undefined], ['success', '1|--no-warnings']])
  })

  it('it takes a step with malformed outputs for a success, and fails the job all the same', async () => {
    const file = job('      - { id: one, run: "printf \'good=1\\\\nbad\\\\n\' >> $GITHUB_OUTPUT" }\n      - { if: always(), run: \'echo "${{ steps.one.outcome }} ${{ steps.one.outputs.good }}."\' }')
    const [one, two] = await Promise.all([run(file), runAct({ file })])
    assert.deepEqual(ours(one).a, { result: 'failure', steps: [['failure', []], ['success', ['failure 1.']]] })
    assert.deepEqual(acts(two).a, { result: 'failure', steps: [['success', []], ['success', ['success .']]] })
  })

  it('it shows the lines of a secret that has several, and hands on an output that has a secret', async () => {
    const file = workflow(`
jobs:
  a:
    runs-on: ubuntu-latest
    outputs: { o: "\${{ steps.one.outputs.o }}" }
    steps: [{ id: one, env: { S: "\${{ secrets.S }}" }, run: 'echo "$S" | head -1; echo "o=$(echo "$S" | head -1)" >> "$GITHUB_OUTPUT"' }]
  b: { runs-on: ubuntu-latest, needs: a, steps: [{ run: "echo '\${{ needs.a.outputs.o }}.' | tr a-z A-Z" }] }
`)
    const options = { secrets: { S: 'open\nsesame' } }
    const [one, two] = await Promise.all([run(file, options), runAct({ file, ...options })])
    const lines = (described) => Object.values(described).map(({ steps: [[, [line]]] }) => line)
    assert.deepEqual([lines(ours(one)), lines(acts(two))], [['***', '.'], ['open', 'OPEN.']])
  })
})

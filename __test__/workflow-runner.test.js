'use strict'

// The runner that the workflow tests stand on: what it does is what GitHub does, shown on small workflows.

const assert = require('node:assert/strict')
const { mkdirSync, writeFileSync } = require('node:fs')
const path = require('node:path')
const { describe, it } = require('node:test')

const { conclusions, folder, job, run, said, start, workflow } = require('./support/workflow-samples.js')
const { linkTree } = require('./support/workflow.js')

describe('expressions and conditions', { concurrency: true }, () => {
  it('puts values into scripts as text, and gives inputs their types', async () => {
    const file = job(`
      - run: echo '\${{ inputs.who }} \${{ github.event.inputs.flag == 'true' }} \${{ inputs.flag }} {0} it'"'"'s'
      - run: echo "\${{ format('''{0}'' ''{1}''', 'a', contains('abc', 'b')) }} \${{ vars.V }} \${{ github.run_id }}.\${{ github.run_attempt }}"
`)
    const result = await run(file, { inputs: { who: 'me }} you', flag: true }, vars: { V: 'v' }, runId: 7, attempt: 3 })
    assert.deepEqual(said(result), ["me }} you true true {0} it's", "'a' 'true' v 7.3"])
  })

  it('asks for success where a condition names no status function', async () => {
    const result = await run(job(`
      - { id: bad, run: exit 3 }
      - { run: 'true' }
      - { if: "steps.bad.outcome == 'failure'", run: 'true' }
      - { if: "failure() && steps.bad.outcome != 'success'", run: 'true' }
      - { if: "\${{ always() && steps.bad.conclusion == 'success' }}", run: 'true' }
      - { if: '!cancelled()', run: 'true' }
      - { if: success(), run: 'true' }
`))
    assert.deepEqual(conclusions(result), ['failure', 'skipped', 'skipped', 'success', 'skipped', 'success', 'skipped'])
    assert.equal(result.conclusion, 'failure')
    assert.match(result.log, /##\[error\]Process completed with exit code 3\./)
  })

  it('fails a step whose expression is wrong, and knows no secret in a condition', async () => {
    const result = await run(job(`
      - { run: 'true', env: { A: "\${{ nope.a }}" } }
      - { if: "always() && secrets.S == ''", run: 'true' }
      - { if: always(), run: "echo \${{ secrets.NONE }}|\${{ steps.none.outputs.a }}|" }
`))
    assert.deepEqual(conclusions(result), ['failure', 'failure', 'failure'])
    assert.match(result.log, /Unrecognized named-value: 'nope'/)
    assert.match(result.log, /Unrecognized named-value: 'secrets'/)
  })

  it('refuses what it does not know, and inputs that the workflow does not have', () => {
    assert.throws(() => start(job('      - { run: a, retries: 3 }')), /retries is not known/)
    assert.throws(() => start(job('      - { <<: { run: a } }')), /<< is not known/)
    assert.throws(() => start(job('      - run: a'), { inputs: { what: 1 } }), /Unexpected inputs/)
  })

  it('goes on after a failure that may be', async () => {
    const result = await run(job(`
      - { id: bad, run: exit 1, continue-on-error: true }
      - run: echo "\${{ steps.bad.outcome }} \${{ steps.bad.conclusion }} \${{ job.status }}"
`))
    assert.equal(said(result).at(-1), 'failure success success')
    assert.equal(result.conclusion, 'success')
  })

  it('reads anchors and aliases', async () => {
    const result = await run(workflow(`
jobs:
  a: { runs-on: ubuntu-latest, steps: &steps [{ run: 'echo \${{ github.job }}' }] }
  b: { runs-on: ubuntu-latest, needs: a, steps: *steps }
`))
    assert.deepEqual(said(result), ['a', 'b'])
  })
})

describe('what a step gets and gives', { concurrency: true }, () => {
  it('gets the variables of GitHub, its own, and nothing else', async () => {
    const file = workflow(`
name: W
env: { A: workflow, B: workflow, C: workflow }
defaults: { run: { shell: bash } }
jobs:
  a:
    runs-on: ubuntu-latest
    env: { B: job, C: job }
    steps:
      - { id: it, run: env, env: { C: step, GITHUB_JOB: forged } }
`)
    process.env.LEAKED_INTO_A_STEP = 'yes'
    const lines = said(await run(file))
    delete process.env.LEAKED_INTO_A_STEP
    for (const line of ['A=workflow', 'B=job', 'C=step', 'CI=true', 'GITHUB_ACTIONS=true', 'GITHUB_JOB=a', 'GITHUB_ACTION=it', 'GITHUB_WORKFLOW=W']) {
      assert.ok(lines.includes(line), line)
    }
    assert.ok(!lines.some((line) => line.includes('LEAKED')))
  })

  it('stops at the first command that fails; in a pipe only with shell: bash', async () => {
    const result = await run(job(`
      - { run: 'false | true; echo one' }
      - { run: 'false | true; echo two', shell: bash }
      - { if: always(), run: "false\\necho three" }
`))
    assert.deepEqual(conclusions(result), ['success', 'failure', 'failure'])
    assert.ok(!/^(two|three)$/m.test(said(result).join('\n')))
  })

  it('hands variables, a path and outputs on', async () => {
    const result = await run(job(`
      - id: one
        run: |
          printf 'a=1\\na=2=3\\nm<<END\\n x\\n\\ny\\nEND\\nempty=\\n' >> "$GITHUB_OUTPUT"
          printf 'V<<E\\nb\\nc\\nE\\nNODE_OPTIONS=--inspect\\nGITHUB_SHA=forged\\n' >> "$GITHUB_ENV"
          mkdir "$RUNNER_TEMP/bin" && printf '#!/bin/sh\\necho tool' > "$RUNNER_TEMP/bin/tool" && chmod +x "$RUNNER_TEMP/bin/tool"
          echo "$RUNNER_TEMP/bin" >> "$GITHUB_PATH"
      - run: tool; echo "$V" "\${{ env.V }}" "$NODE_OPTIONS" "\${GITHUB_SHA::3}"
`))
    assert.deepEqual({ ...result.jobs.a.steps[0].outputs }, { a: '2=3', m: ' x\n\ny', empty: '' })
    assert.deepEqual(said(result).slice(-4), ['tool', 'b', 'c b', 'c  012'])
    assert.match(result.log, /Can't store NODE_OPTIONS/)
  })

  for (const [what, text] of [['no equals sign', 'abc\\n'], ['no name', '=1\\n'], ['no delimiter', 'a<<\\n'], ['no end', 'a<<E\\n1\\n']]) {
    it(`fails a step whose outputs have ${what}; what came before counts`, async () => {
      const result = await run(job(`      - { id: one, run: "printf 'good=1\\\\n${text.replaceAll('\\', '\\\\')}' >> $GITHUB_OUTPUT" }`))
      assert.deepEqual(conclusions(result), ['failure'])
      assert.deepEqual({ ...result.jobs.a.steps[0].outputs }, { good: '1' })
    })
  }

  it('gives outputs of a job to those that need it, except secrets and empty ones', async () => {
    const result = await run(workflow(`
jobs:
  a:
    runs-on: ubuntu-latest
    outputs: { it: "\${{ steps.s.outputs.it }}", none: "\${{ steps.s.outputs.none }}", secret: "\${{ steps.s.outputs.secret }}" }
    steps: [{ id: s, env: { S: "\${{ secrets.S }}" }, run: 'echo it=1 >> $GITHUB_OUTPUT; echo "secret=x$S" >> $GITHUB_OUTPUT; exit 1' }]
  b: { runs-on: ubuntu-latest, needs: a, steps: [{ run: 'true' }] }
  c: { runs-on: ubuntu-latest, needs: a, if: always(), steps: [{ run: "echo '\${{ needs.a.result }} \${{ toJSON(needs.a.outputs) }}'" }] }
  d: { runs-on: ubuntu-latest, needs: b, if: failure(), steps: [{ run: 'true' }] }
`), { secrets: { S: 'sesame' } })
    assert.deepEqual({ ...result.jobs.a.outputs }, { it: '1' })
    assert.match(said(result).join(' '), /failure \{ {3}"it": "1" \}/)
    assert.deepEqual(Object.values(result.jobs).map((it) => it.result), ['failure', 'skipped', 'success', 'success'])
  })

  it('collects summaries, and annotations with their places', async () => {
    const result = await run(job(`
      - run: |
          echo '# One' >> "$GITHUB_STEP_SUMMARY"
          echo '::error title=A%3AB,file=f%2Cg::x%0Ay%25'
          echo '  ::warning::w' >&2
          echo 'say ##[notice]n'
          echo '::group::G'
      - run: echo two >> "$GITHUB_STEP_SUMMARY"
`))
    assert.equal(result.summary, '# One\ntwo\n')
    const found = result.annotations.map(({ level, message, title, file }) => [level, message, title, file].filter(Boolean))
    const expected = [['error', 'x\ny%', 'A:B', 'f,g'], ['warning', 'w'], ['notice', 'n'], ['group', 'G']]
    // Standard output and standard error are two streams: no order between them.
    for (const one of expected) assert.ok(found.some((it) => JSON.stringify(it) === JSON.stringify(one)), JSON.stringify(found))
  })

  it('hides secrets and masks, in what follows and in this job only', async () => {
    const result = await run(workflow(`
jobs:
  a:
    runs-on: ubuntu-latest
    steps:
      - env: { S: "\${{ secrets.S }}" }
        run: |
          printf '%s\\n' "$S"; printf '%s' "$S" | base64
          echo minted; echo ::add-mask::minted; echo "a minted b" | tee -a "$GITHUB_STEP_SUMMARY"
  b: { runs-on: ubuntu-latest, needs: a, steps: [{ run: 'echo minted' }] }
`), { secrets: { S: 'open\nsesame' } })
    assert.deepEqual(said(result), ['***', '***', '***', 'minted', 'a *** b', 'minted'])
    assert.equal(result.summary, 'a *** b\n')
    assert.match(result.unmasked, /^sesame$/m)
  })

  it('stops obeying commands until it is told the token', async () => {
    const result = await run(job(`
      - run: |
          echo ::stop-commands::tok3n
          echo ::add-mask::word; echo ::error::no; echo word
          echo ::tok3n::
          echo ::notice::yes
`))
    assert.deepEqual(result.annotations.map(({ message }) => message), ['yes'])
    assert.ok(said(result).includes('word') && said(result).includes('::error::no'))
  })

  it('records commands that nobody should give', async () => {
    const result = await run(job(`
      - { id: one, run: 'echo ::set-output name=a::1; echo ::save-state name=b::1' }
      - run: echo "a=\${{ steps.one.outputs.a }}."
      - run: echo ::set-env name=A::1
      - { if: always(), run: 'echo "A=$A."' }
`))
    assert.deepEqual(result.misuse.map(({ command }) => command), ['set-output', 'save-state', 'set-env'])
    assert.deepEqual(conclusions(result), ['success', 'success', 'failure', 'success'])
    assert.ok(said(result).includes('a=.') && said(result).includes('A=.'))
  })

  it('gives an identity token to the job that may have one', async () => {
    const one = (permissions) => `{ runs-on: ubuntu-latest, permissions: ${permissions}, steps: [{ run: 'echo "\$ACTIONS_ID_TOKEN_REQUEST_URL."' }] }`
    const file = workflow(`permissions: {}\njobs:\n  a: ${one('{ id-token: write }')}\n  b: ${one('{ contents: read }')}\n`)
    const { jobs } = await run(file, { oidc: { url: 'http://127.0.0.1:9/token?a=b', token: 'ticket' } })
    assert.match(jobs.a.steps[0].log, /^http:\/\/127.0.0.1:9\/token\?a=b\.$/m)
    assert.match(jobs.b.steps[0].log, /^\.$/m)
  })
})

describe('actions', { concurrency: true }, () => {
  const tree = path.join(folder, 'tree')
  mkdirSync(path.join(tree, 'act'), { recursive: true })
  writeFileSync(path.join(tree, 'act', 'tool.sh'), 'echo "tool $A $B"\n')
  writeFileSync(path.join(tree, 'act', 'action.yml'), `
name: act
description: d
inputs: { a: { default: "\${{ github.run_id }}" }, b: { required: true }, then: { default: 'exit 0' } }
outputs: { c: { description: d, value: "\${{ steps.in.outputs.c }}" } }
runs:
  using: composite
  steps:
    - { id: in, shell: bash, env: { A: "\${{ inputs.a }}", B: "\${{ inputs.b }}" }, run: 'bash "$GITHUB_ACTION_PATH/tool.sh"; echo "c=$A" >> "$GITHUB_OUTPUT"' }
    - { shell: bash, run: '\${{ inputs.then }}' }
    - { shell: bash, run: 'echo "unless failed; $OUTER"; echo in >> "$GITHUB_STEP_SUMMARY"' }
    - { if: failure(), shell: bash, run: 'echo "if failed in \${{ github.action_path }}"' }
`)
  const actions = { 'o/checkout': linkTree(tree) }

  it('runs a local composite action, with its inputs, outputs and conditions', async () => {
    const result = await run(job(`
      - uses: o/checkout@0123
      - { id: it, uses: ./act, with: { b: '2' }, env: { OUTER: outer } }
      - { run: 'echo "got \${{ steps.it.outputs.c }} \${{ steps.in.outputs.c }}."' }
      - { uses: ./act, with: { b: '3', then: 'exit 4', other: x } }
`), { runId: 5, actions })
    assert.deepEqual(conclusions(result), ['success', 'success', 'success', 'failure'])
    assert.deepEqual(result.jobs.a.steps[3].steps.map((step) => step.conclusion), ['success', 'failure', 'skipped', 'success'])
    assert.equal(result.summary, 'in\n')
    const lines = said(result)
    for (const line of ['tool 5 2', 'unless failed; outer', 'got 5 .']) assert.ok(lines.includes(line), line)
    assert.match(result.log, /if failed in .*\/octo-repo\/act$/m)
    assert.match(result.log, /Unexpected input\(s\) 'other'/)
  })

  it('cannot do without a stand-in, and takes failures and outputs of one', async () => {
    const file = job('      - { id: it, uses: o/p@v1 }\n      - run: echo "\${{ steps.it.outputs.x }}"\n')
    assert.deepEqual(conclusions(await run(file)), ['failure', 'skipped'])
    assert.equal(said(await run(file, { actions: { 'o/p': () => ({ x: 'y' }) } })).at(-1), 'y')
    const bad = () => Promise.reject(new Error('no such revision'))
    assert.match((await run(file, { actions: { 'o/p@v1': bad } })).log, /##\[error\]no such revision/)
  })
})

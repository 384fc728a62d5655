import type { Job, Line } from '@/lib/job'

const STAGES = ['Look up', 'Key', 'Server', 'Boot', 'Verify']

/** An event says what has been done. So each leads to the stage after it. */
const NEXT: Partial<Record<Line['step'], number>> = {
  validate: 0,
  lookup: 0,
  follow: 3,
  auth_key: 2,
  first_boot: 2,
  server: 3,
  wait: 3,
  verify: 4,
  ready: 4,
}

/** How far a job has come. While it is undone, the stage stays at which it was given up. */
export function Steps({ job: { progress, activity } }: { job: Job }) {
  const current = Math.max(0, ...progress.map(({ step }) => NEXT[step] ?? 0))
  const isUndoing = activity === 'cancelling' || progress.at(-1)?.step === 'undo'
  return (
    <ol className="steps" data-undoing={isUndoing || undefined} aria-label="Progress">
      {STAGES.map((stage, at) => (
        <li
          key={stage}
          data-state={at < current ? 'done' : at === current ? 'current' : 'ahead'}
          aria-current={at === current ? 'step' : undefined}
        >
          {stage}
        </li>
      ))}
    </ol>
  )
}

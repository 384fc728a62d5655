import type { Job } from '@/lib/job'
import { STAGES, stageOf } from './stages'

/** How far a job has come. */
export function Steps({ job }: { job: Job }) {
  const current = stageOf(job)
  return (
    <ol className="steps" aria-label="Progress">
      {STAGES.map(({ name }, at) => (
        <li
          key={name}
          data-state={at < current ? 'done' : at === current ? 'current' : 'ahead'}
          aria-current={at === current ? 'step' : undefined}
        >
          {name}
        </li>
      ))}
    </ol>
  )
}

import type { Job, Line } from '@/lib/job'

/** What a job goes through, and what is being done meanwhile. */
export const STAGES = [
  { name: 'Look up', doing: 'Looking for what stands there already.' },
  { name: 'Key', doing: 'Minting a key for one machine.' },
  { name: 'Server', doing: 'Ordering a server.' },
  { name: 'Boot', doing: 'Waiting for it to boot and to join the tailnet.' },
  { name: 'Verify', doing: 'Making sure that the device is the right one.' },
] as const

type Stage = 0 | 1 | 2 | 3 | 4

/** There is an event when a step begins. */
const STAGE: Partial<Record<Line['step'], Stage>> = {
  auth_key: 1,
  first_boot: 1,
  server: 2,
  follow: 3,
  wait: 3,
  verify: 4,
  reach: 4,
  ready: 4,
}

/** How far a job has come. While it is undone, it is where it was given up. */
export function stageOf({ progress }: Job): Stage {
  return progress.map(({ step }) => STAGE[step] ?? 0).reduce((far, stage) => (stage > far ? stage : far), 0)
}

import type { JobStatus, Leftover, ProgressEvent, ProvisionError } from 'provision-vm'

/** What was asked for. */
export interface Order {
  jobId: string
  agentId: string
  region: string
}

/** What this process may be doing with a job. */
export type Activity = 'provisioning' | 'cancelling' | 'stopping' | 'starting' | 'destroying'

/** What the page shows of a job. All of it reaches the browser, so nothing in it may be a secret. */
export interface Job {
  order: Order
  /** What is being done with it, here and now. */
  activity?: Activity
  /** Where it stands, as the clouds last said. */
  status?: Partial<JobStatus>
  /** Why the clouds could not say it. */
  doubt?: Failure
  /** What is known of its machine only because it was made here. */
  machine?: { serverType: string; location: string; hourly?: string; ms: number }
  /** What happened during the latest activity. */
  progress: Line[]
  /** How the latest activity failed. */
  failure?: Failure
  /** What the latest activity left behind, or may have. */
  leftovers: Leftover[]
  /** The run whose callbacks are believed. */
  runId?: string
  /** The callbacks that arrived and were verified. */
  callbacks: { id: string; type: string }[]
}

export type Line = Pick<ProgressEvent, 'step' | 'level' | 'message' | 'elapsedMs'>

export type Failure = Pick<ProvisionError, 'code' | 'step' | 'message' | 'field' | 'hint' | 'requestIds'>

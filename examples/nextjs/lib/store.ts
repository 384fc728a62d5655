import { EventEmitter } from 'node:events'
import type { ProgressEvent } from 'provision-vm'
import type { CallbackPayload } from 'provision-vm/webhook'
import type { Job, Line, Order } from './job'

// Live progress, and nothing else, is kept here, in memory. Which servers exist is never read from it: that is asked of
// the clouds, which know it also after this process has ended (`look` in runs.ts).

interface Store {
  jobs: Map<string, Job>
  cancels: Map<string, AbortController>
  changes: EventEmitter
}

declare global {
  var exampleStore: Store | undefined
}

// Next.js bundles actions and route handlers apart, and a module-level variable would be there twice.
const store: Store = (globalThis.exampleStore ??= {
  jobs: new Map(),
  cancels: new Map(),
  changes: new EventEmitter().setMaxListeners(0),
})
const { jobs, changes } = store

/** How each job that is being provisioned here can be given up. */
export const { cancels } = store

export const find = (jobId: string): Job | undefined => jobs.get(jobId)

export const drop = (jobId: string): boolean => jobs.delete(jobId)

/** Changes a job, or begins one, and tells whoever watches. */
export function change(order: Order, patch: Partial<Job>): Job {
  // What a browser says of a job that is known here counts for nothing.
  const job: Job = { order, progress: [], leftovers: [], callbacks: [], ...jobs.get(order.jobId), ...patch }
  jobs.set(order.jobId, job)
  changes.emit('change', job)
  return job
}

/** Calls back at every change, until the function that it returns is called. */
export function watch(onChange: (job: Job) => void): () => void {
  changes.on('change', onChange)
  return () => changes.off('change', onChange)
}

/** Adds what happened. The machine's name and addresses are known long before it is ready. */
export function note(order: Order, event: Line & Partial<ProgressEvent>): void {
  const { step, level, message, elapsedMs } = event
  const { progress = [], status } = jobs.get(order.jobId) ?? {}
  const { serverName = status?.serverName, serverIp = status?.serverIp, tailscaleIp = status?.tailscaleIp } = event
  change(order, {
    progress: [...progress, { step, level, message, elapsedMs }],
    status: { ...status, serverName, serverIp, tailscaleIp },
  })
}

/** Takes a verified callback in. Whether it belongs to a run of ours, which its signature does not say. */
export function receive(id: string, payload: CallbackPayload): boolean {
  const job = jobs.get(payload.job_id)
  if (!job?.runId || payload.workflow_run_id !== job.runId) return false
  // A copy of a message has no effect. Ids stay as long as the job, which is longer than a copy would be believed.
  const isNew = job.callbacks.every((callback) => callback.id !== id)
  if (isNew) change(job.order, { callbacks: [...job.callbacks, { id, type: payload.type }] })
  return true
}

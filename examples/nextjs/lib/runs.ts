import { randomUUID } from 'node:crypto'
import { after } from 'next/server'
import {
  deprovisionVM,
  getProvisioning,
  isProvisionError,
  powerOnServer,
  provisionVM,
  shutdownServer,
  verifyEnrollment,
  type CallOptions,
  type Leftover,
  type ProgressEvent,
} from 'provision-vm'
import type { Activity, Failure, Job, Order } from './job'
import { sendCallback } from './sender'
import { cancels, change, find, note } from './store'

/**
 * Queues a job: returns as soon as the package has accepted it, and with the failure if it has not, so that a form can
 * show what is wrong with its input. The job itself outlives the request; `after` keeps the function alive for it.
 */
export function queue(order: Order): Promise<Failure | undefined> {
  return new Promise((settle) => after(provision(order, () => settle(undefined)).then(settle)))
}

async function provision(order: Order, onAccepted: () => void): Promise<Failure | undefined> {
  const { jobId } = order
  if (cancels.has(jobId) || find(jobId)?.activity) return undefined
  const runId = randomUUID()
  const cancel = new AbortController()
  cancels.set(jobId, cancel)
  let isAccepted = false
  const accept = () => {
    isAccepted = true
    change(order, { ...NOTHING, activity: 'provisioning', runId })
    onAccepted()
    void sendCallback(order, runId, { status: 'provisioning' })
  }
  const onProgress = (event: ProgressEvent) => {
    // The first event comes when everything that can be checked without a request has been checked.
    if (!isAccepted) accept()
    note(order, event)
  }
  try {
    // These machines are stopped and started, and an ephemeral device would leave the tailnet while its machine is off.
    const vm = await provisionVM(order, { ephemeral: false, signal: cancel.signal, onProgress })
    const { serverId, serverIp, serverName, tailscaleIp, serverType, location, price, timings } = vm
    const ms = timings.reduce((sum, timing) => sum + timing.ms, 0)
    change(order, {
      activity: undefined,
      status: { state: 'ready', serverStatus: 'running', serverId, serverIp, serverName, tailscaleIp },
      machine: { serverType, location, hourly: price?.hourly, ms },
    })
    const addresses = { server_ip: serverIp, tailscale_ip: tailscaleIp }
    await sendCallback(order, runId, { status: 'running', server_id: String(serverId), ...addresses })
    return undefined
  } catch (error) {
    const failed = failureOf(error)
    if (isAccepted) {
      change(order, { activity: undefined, ...failed, ...(await standing(order)) })
      const { message, step } = failed.failure
      await sendCallback(order, runId, { status: 'failed', error: message, failed_step: step })
    }
    return failed.failure
  } finally {
    cancels.delete(jobId)
  }
}

/** Gives a job up. It counts as cancelled when what it had begun is undone, which shows in its progress. */
export function cancel(order: Order): void {
  const controller = cancels.get(order.jobId)
  if (!controller || controller.signal.aborted) return
  change(order, { activity: 'cancelling' })
  controller.abort()
}

export function stop(order: Order): Promise<void> {
  return operate(order, 'stopping', async ({ jobId }, options) => {
    const { serverId } = await getProvisioning({ jobId })
    if (serverId !== undefined) await shutdownServer(serverId, options)
  })
}

export function start(order: Order): Promise<void> {
  return operate(order, 'starting', async ({ jobId }, options) => {
    const { serverId, serverName } = await getProvisioning({ jobId })
    if (serverId === undefined || serverName === undefined) return
    await powerOnServer(serverId, options)
    // It is of use again once it is back in the tailnet.
    await verifyEnrollment(serverName, { intervalMs: 2000 }, options)
  })
}

export function destroy(order: Order): Promise<void> {
  return operate(order, 'destroying', async ({ jobId }, options) => {
    const { leftovers } = await deprovisionVM({ jobId }, options)
    return leftovers
  })
}

/** Does one thing with a job's machine. What became of it is for the clouds to say. */
async function operate(
  order: Order,
  activity: Activity,
  work: (order: Order, options: CallOptions) => Promise<Leftover[] | void>,
): Promise<void> {
  if (find(order.jobId)?.activity) return
  change(order, { activity, failure: undefined, leftovers: [], progress: [] })
  const onProgress = (event: ProgressEvent) => note(order, event)
  const outcome = await work(order, { onProgress }).then((leftovers) => ({ leftovers: leftovers ?? [] }), failureOf)
  change(order, { activity: undefined, ...outcome, ...(await standing(order)) })
}

/** Asks the clouds where a job stands, unless this process is at it. */
export async function look(order: Order): Promise<Job> {
  const isBusy = () => find(order.jobId)?.activity !== undefined
  const seen = isBusy() ? {} : await standing(order)
  // It may have become busy while the clouds were asked; then what they said is old.
  return change(order, isBusy() ? {} : seen)
}

const standing = ({ jobId }: Order): Promise<Pick<Job, 'status' | 'doubt'>> =>
  getProvisioning({ jobId }, { timeoutMs: 5000, logger: false }).then(
    (status) => ({ status, doubt: undefined }),
    (error: unknown) => ({ doubt: failureOf(error).failure }),
  )

/** What the browser may know of an error. A `ProvisionError` holds no secret; of others nothing is known, so they are only logged. */
function failureOf(error: unknown): { failure: Failure; leftovers: Leftover[] } {
  if (!isProvisionError(error)) {
    console.error(error)
    const hint = 'Look into the log of the app.'
    return { failure: { code: 'INTERNAL', step: 'validate', message: 'The app broke down.', hint, requestIds: [] }, leftovers: [] }
  }
  const { code, step, message, field, hint, requestIds, leftovers } = error
  return { failure: { code, step, message, field, hint, requestIds }, leftovers }
}

/** Nothing of an earlier run. */
const NOTHING = {
  status: undefined,
  doubt: undefined,
  machine: undefined,
  failure: undefined,
  leftovers: [],
  progress: [],
  callbacks: [],
}

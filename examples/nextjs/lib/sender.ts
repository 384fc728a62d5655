import { randomUUID } from 'node:crypto'
import { signCallback } from 'provision-vm/webhook'
import type { Order } from './job'
import { note } from './store'

/** What a workflow says about a job, as the app verifies it: see docs/webhook.md. */
type Message =
  | { status: 'provisioning' }
  | { status: 'running'; server_id: string; server_ip: string; tailscale_ip: string }
  | { status: 'failed'; error: string; failed_step: string }

/**
 * Plays the workflow's part: tells the app how a run goes, by a signed request to `app/api/callbacks`. That a message is
 * not delivered is worth a line on the page, and never a machine.
 */
export async function sendCallback(order: Order, runId: string, message: Message): Promise<void> {
  const body = JSON.stringify({ job_id: order.jobId, workflow_run_id: runId, ...message })
  try {
    const secret = process.env.GH_CALLBACK_SECRET ?? ''
    const headers = await signCallback({ body, secret, id: randomUUID() })
    const answer = await fetch(callbackUrl(), {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body,
      signal: AbortSignal.timeout(10_000),
    })
    if (!answer.ok) throw new Error(`the app answered ${answer.status}`)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    const line = `The callback "${message.status}" was not delivered: ${why}`
    note(order, { step: 'validate', level: 'warn', message: line, elapsedMs: 0 })
  }
}

/** Never from a request's `Host`, which whoever sends it may choose. */
function callbackUrl(): URL {
  return new URL('/api/callbacks', process.env.APP_URL ?? `http://127.0.0.1:${process.env.PORT ?? 3000}`)
}

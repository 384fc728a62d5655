// Compiled under `strict`, never run: the receiving side as an app uses it.
import type { IncomingMessage } from 'node:http'
import {
  CallbackError,
  isCallbackError,
  signCallback,
  verifyCallback,
  type CallbackErrorCode,
  type CallbackPayload,
} from 'provision-vm/webhook'

const secret = process.env.GH_CALLBACK_SECRET ?? ''

/** `type` narrows the union, and nothing is left over. */
export function describe(payload: CallbackPayload): string {
  switch (payload.type) {
    case 'provisioning':
      return payload.workflow_run_id ?? payload.job_id
    case 'heartbeat':
      return payload.job_id
    case 'running':
      return [payload.server_id, payload.server_ip, payload.tailscale_ip].join()
    case 'failed':
      return `${payload.failed_step}: ${payload.error}`
    default: {
      const nothing: never = payload
      return nothing
    }
  }
}

export function misuse(payload: CallbackPayload): void {
  // @ts-expect-error only a running job has an address that is sure to be a text
  payload.server_ip.trim()
  // @ts-expect-error there is no such event
  if (payload.type === 'ready') return
  // @ts-expect-error it may be missing
  if (payload.type === 'provisioning') payload.workflow_run_id.trim()
  const unchecked: unknown = payload.used_snapshot
  void unchecked
}

/** Without `allowLegacy` there is always an id; with it, `legacy` says whether. */
export async function ids(request: Request, allowLegacy: boolean): Promise<string | undefined> {
  const strict = await verifyCallback(request, { secret, toleranceSeconds: 60, maxBytes: 1024, now: () => Date.now() })
  const time: number = strict.timestamp.getTime()
  const lenient = await verifyCallback(request, { secret: [secret, 'another'], allowLegacy })
  // @ts-expect-error a legacy callback has no id
  lenient.id.trim()
  return lenient.legacy ? undefined : `${lenient.id} ${lenient.timestamp.toISOString()} ${strict.id.trim()} ${time}`
}

export async function forms(message: IncomingMessage, body: Buffer): Promise<void> {
  await verifyCallback({ body, headers: message.headers }, { secret })
  await verifyCallback({ body, headers: message.headersDistinct }, { secret })
  await verifyCallback({ body: 'text', headers: new Headers() }, { secret })
  await verifyCallback({ body: new ArrayBuffer(1), headers: [['webhook-id', 'a']] }, { secret })
  await verifyCallback({ body: new Uint8Array(), headers: new Map([['webhook-id', 'a']]) }, { secret })
  // @ts-expect-error a parsed body cannot be verified
  await verifyCallback({ body: { job_id: 'a' }, headers: {} }, { secret })
  // @ts-expect-error there is no default for the secret
  await verifyCallback({ body: '', headers: {} }, {})
  const headers: Record<string, string> = await signCallback({ body, secret, id: 'a', timestamp: new Date() })
  await fetch('https://app.example', { method: 'POST', headers })
}

export function codes(error: unknown): CallbackErrorCode | undefined {
  if (error instanceof CallbackError) return error.code
  if (isCallbackError(error)) return error.status === 401 && error.serverTime ? error.code : undefined
  // @ts-expect-error the list is closed
  const code: CallbackErrorCode = 'UNKNOWN'
  return code
}

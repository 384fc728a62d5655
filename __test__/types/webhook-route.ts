// app/api/webhooks/github/route.ts
import { isCallbackError, verifyCallback } from 'provision-vm/webhook'
import { fail, finish, keepAlive, once, start } from '@/lib/jobs'

export async function POST(request: Request): Promise<Response> {
  try {
    const { id, payload } = await verifyCallback(request, { secret: process.env.GH_CALLBACK_SECRET ?? '' })
    await once(id, async () => {
      switch (payload.type) {
        case 'provisioning':
          return start(payload.job_id, payload.workflow_run_id)
        case 'heartbeat':
          return keepAlive(payload.job_id)
        case 'running':
          return finish(payload.job_id, payload.server_id, payload.server_ip, payload.tailscale_ip)
        case 'failed':
          return fail(payload.job_id, payload.error, payload.failed_step)
      }
    })
    return Response.json({ received: true })
  } catch (error) {
    if (!isCallbackError(error)) throw error
    console.warn(`callback refused: ${error.code}: ${error.message}`)
    return Response.json({ error: error.code, serverTime: error.serverTime }, { status: error.status })
  }
}

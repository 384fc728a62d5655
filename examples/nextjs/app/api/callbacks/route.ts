import { isCallbackError, verifyCallback } from 'provision-vm/webhook'
import { receive } from '@/lib/store'

/** Where a job's workflow says how it is going. Nobody is believed without the secret. */
export async function POST(request: Request): Promise<Response> {
  try {
    const { id, payload } = await verifyCallback(request, { secret: process.env.GH_CALLBACK_SECRET ?? '' })
    if (!receive(id, payload)) return Response.json({ error: 'UNKNOWN_RUN' }, { status: 409 })
    return Response.json({ received: true })
  } catch (error) {
    if (!isCallbackError(error)) throw error
    console.warn(`callback refused: ${error.code}: ${error.message}`)
    return Response.json({ error: error.code, serverTime: error.serverTime }, { status: error.status })
  }
}

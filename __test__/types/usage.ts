// Compiled under `strict`, never run: the package as an app uses it.
import { provisionVM, ProvisionError, type ProvisionErrorCode, type ProvisionVMParams, type ProvisionVMResult } from '../../index.js'

export async function provision(params: ProvisionVMParams, signal: AbortSignal): Promise<number> {
  try {
    const result: ProvisionVMResult = await provisionVM(params, {
      signal,
      onProgress: (event) => console.log(event.scope, event.step, event.serverId?.toFixed(0)),
      serverTypes: ['cpx22'],
      logger: false,
    })
    const addresses: string[] = [result.serverIp, result.tailscaleIp, result.serverName]
    console.log(addresses, result.price?.hourly, result.attempts[0]?.refused)
    return result.serverId
  } catch (error) {
    if (error instanceof ProvisionError) {
      const code: ProvisionErrorCode = error.code
      for (const { kind, id, why } of error.leftovers) console.error(code, kind, id, why)
    }
    throw error
  }
}

// @ts-expect-error a job needs an agent
void provisionVM({ jobId: 'a', region: 'us-east' })
// @ts-expect-error ids are strings
void provisionVM({ jobId: 1, agentId: 'a', region: 'us-east' })

// Compiled under `strict`, never run: what every function takes and gives, pinned. A change here is a change for users.
import { expectTypeOf } from 'expect-type'
import * as api from 'provision-vm'
import type * as t from 'provision-vm'
import type * as webhook from 'provision-vm/webhook'

/** Every function. One that is new, gone or changed in any argument or result does not compile. */
interface Functions {
  provisionVM(params: t.ProvisionVMParams, options?: t.ProvisionOptions): Promise<t.ProvisionVMResult>
  deprovisionVM(target: t.DeprovisionTarget, options?: t.DeprovisionOptions): Promise<t.DeprovisionReport>
  getProvisioning(target: { jobId: string }, options?: t.CallOptions): Promise<t.JobStatus>
  reap(options?: t.ReapOptions): Promise<t.ReapReport>
  createServer(config: t.CreateServerConfig, options?: t.CallOptions): Promise<t.CreateServerResponse>
  waitForAction(id: number, polling?: PollingToo, options?: t.CallOptions): Promise<t.HetznerAction>
  deleteServer(id: number, options?: t.CallOptions): Promise<void>
  shutdownServer(id: number, options?: t.CallOptions): Promise<void>
  powerOnServer(id: number, options?: t.CallOptions): Promise<void>
  powerOffServer(id: number, options?: t.CallOptions): Promise<void>
  getOAuthToken(options?: t.CallOptions): Promise<string>
  createAuthKey(options?: t.AuthKeyOptions): Promise<t.AuthKey>
  verifyEnrollment(hostname: string, polling?: PollingToo, options?: t.CallOptions): Promise<t.Enrollment>
  listDevices(options?: t.CallOptions): Promise<t.TailscaleDevice[]>
  deleteDevice(id: string, options?: t.CallOptions): Promise<void>
  findDeviceByIp(ip: string, options?: t.CallOptions): Promise<t.TailscaleDevice | undefined>
  generateCloudInitConfig(params: t.CloudInitParams): string
  generateSnapshotCloudInitConfig(params: t.CloudInitParams): string
  isProvisionError(error: unknown): error is t.ProvisionError
}
type PollingToo = (t.Polling & t.CallOptions) | null
type Exported = Omit<typeof api, 'default' | 'ProvisionError'>
expectTypeOf<Exported>().toEqualTypeOf<Functions>()

interface WebhookFunctions {
  verifyCallback: {
    (request: webhook.CallbackRequest, options: webhook.SignedOnly): Promise<webhook.SignedCallback>
    (request: webhook.CallbackRequest, options: webhook.VerifyOptions): Promise<webhook.Callback>
  }
  signCallback(message: webhook.CallbackMessage): Promise<webhook.CallbackHeaders>
  isCallbackError(error: unknown): error is webhook.CallbackError
}
type WebhookExported = Omit<typeof webhook, 'default' | 'CallbackError'>
expectTypeOf<WebhookExported>().toEqualTypeOf<WebhookFunctions>()

// What is taken. Every option may be absent, `undefined` or `null`.

type Nothing = null | undefined

expectTypeOf<t.ProvisionVMParams>().toEqualTypeOf<{ jobId: string; agentId: string; region: string }>()
expectTypeOf<t.CloudInitParams>().toEqualTypeOf<{ tailscaleAuthKey: string; hostname: string }>()
expectTypeOf<t.Polling>().toEqualTypeOf<{ maxRetries?: number | Nothing; intervalMs?: number | Nothing }>()
interface CallOptions {
  signal?: AbortSignal | Nothing
  onProgress?: ((event: t.ProgressEvent) => unknown) | Nothing
  onSecret?: ((secret: string) => unknown) | Nothing
  env?: Readonly<Record<string, string | undefined>> | Nothing
  logger?: t.Logger | false | Nothing
  timeoutMs?: number | Nothing
  hetznerToken?: string | Nothing
  hetznerApiUrl?: string | Nothing
  tailscaleClientId?: string | Nothing
  tailscaleClientSecret?: string | Nothing
  tailscaleApiUrl?: string | Nothing
}
expectTypeOf<t.CallOptions>().toEqualTypeOf<CallOptions>()
interface ProvisionOptions extends CallOptions {
  serverTypes?: readonly string[] | Nothing
  image?: string | Nothing
  sshKeys?: readonly (string | number)[] | Nothing
  snapshotId?: string | number | Nothing
  tailscaleAuthKey?: string | Nothing
  strictRegion?: boolean | Nothing
  ephemeral?: boolean | Nothing
  allowReusableAuthKey?: boolean | Nothing
}
expectTypeOf<t.ProvisionOptions>().toEqualTypeOf<ProvisionOptions>()
interface AuthKeyOptions extends CallOptions {
  ephemeral?: boolean | Nothing
  expirySeconds?: number | Nothing
}
expectTypeOf<t.AuthKeyOptions>().toEqualTypeOf<AuthKeyOptions>()
interface DeprovisionOptions extends CallOptions {
  force?: boolean | Nothing
}
expectTypeOf<t.DeprovisionOptions>().toEqualTypeOf<DeprovisionOptions>()
interface ReapOptions extends CallOptions {
  dryRun?: boolean | Nothing
  graceMs?: number | Nothing
}
expectTypeOf<t.ReapOptions>().toEqualTypeOf<ReapOptions>()

// What is given.

expectTypeOf<t.ProvisionVMResult>().toEqualTypeOf<{
  serverId: number
  serverIp: string
  tailscaleIp: string
  serverName: string
  usedSnapshot: boolean
  location: string
  serverType: string
  deviceId: string
  nodeId: string
  reused: boolean
  attempts: { serverType: string; location: string; refused?: string }[]
  timings: { step: string; ms: number }[]
  requests: { hetzner: number; tailscale: number }
  price?: { hourly: string; monthly: string }
  warnings: string[]
}>()
expectTypeOf<t.JobStatus['state']>().toEqualTypeOf<'absent' | 'creating' | 'booting' | 'enrolled' | 'ready' | 'expired'>()
expectTypeOf<t.DeprovisionReport['servers'][number]>().toEqualTypeOf<t.RemovedServer>()
expectTypeOf<t.DeprovisionReport['leftovers']>().toEqualTypeOf<t.Leftover[]>()
expectTypeOf<t.ReapReport['servers']>().toEqualTypeOf<t.Reaped[]>()
expectTypeOf<t.AuthKey>().toEqualTypeOf<{ key: string; id: string }>()
expectTypeOf<t.Enrollment>().toEqualTypeOf<{ tailscaleIp: string; deviceId: string; nodeId: string }>()
// As the app reads them.
expectTypeOf((response: t.CreateServerResponse) => response.server.public_net.ipv4?.ip).returns.toEqualTypeOf<string | undefined>()
expectTypeOf((response: t.CreateServerResponse) => response.action.id).returns.toEqualTypeOf<number>()

// Events and errors.

expectTypeOf<t.ProgressEvent['step']>().toEqualTypeOf<t.Step>()
expectTypeOf<t.ProgressEvent['serverId']>().toEqualTypeOf<number | undefined>()
expectTypeOf<t.ProvisionError>().toExtend<Error>()
expectTypeOf<t.ProvisionError['code']>().toEqualTypeOf<t.ProvisionErrorCode>()
expectTypeOf<t.ProvisionError['leftovers']>().toEqualTypeOf<t.Leftover[]>()

export function codeOf(error: unknown): t.ProvisionErrorCode | undefined {
  if (error instanceof api.ProvisionError) expectTypeOf(error).toEqualTypeOf<t.ProvisionError>()
  return api.isProvisionError(error) ? error.code : undefined
}

// What is refused.

const job = { jobId: 'a', agentId: 'b', region: 'us-east' }

export function misuse(): void {
  // @ts-expect-error a job needs an agent
  void api.provisionVM({ jobId: 'a', region: 'us-east' })
  // @ts-expect-error ids are texts
  void api.provisionVM({ ...job, jobId: 1 })
  // @ts-expect-error there is no such option
  void api.provisionVM(job, { serverType: 'cpx22' })
  // @ts-expect-error a logger has `info` and `warn`; to be silent it is `false`
  void api.provisionVM(job, { logger: true })
  // @ts-expect-error a controller is no signal
  void api.provisionVM(job, { signal: new AbortController() })
  // @ts-expect-error one of three says what is to go
  void api.deprovisionVM({})
  // @ts-expect-error and only one
  void api.deprovisionVM({ jobId: 'a', serverId: 1 })
  // @ts-expect-error Hetzner's ids are numbers
  void api.deleteServer('131072001')
  // @ts-expect-error Tailscale's ids are texts
  void api.deleteDevice(1)
  // @ts-expect-error an order needs a name
  void api.createServer({ server_type: 'cpx11', image: 'ubuntu-22.04' })
  // @ts-expect-error polling is counted in milliseconds
  void api.waitForAction(1, { intervalSeconds: 2 })
  // @ts-expect-error both are needed
  api.generateCloudInitConfig({ hostname: 'a' })
  // @ts-expect-error only this package makes them
  new api.ProvisionError()
}

// What is easily refused by mistake.

export function use(env: NodeJS.ProcessEnv, signal?: AbortSignal, seconds?: number, location?: string): void {
  void api.provisionVM(job, { env, signal, logger: console, timeoutMs: seconds && seconds * 1000 })
  void api.waitForAction(1, null, { signal })
  void api.waitForAction(1, { maxRetries: 5, signal })
  void api.provisionVM(job, { serverTypes: ['cpx11', 'cpx22'] as const, onProgress: async () => {} })
  void api.createServer({ name: 'a', server_type: 'cpx11', image: 1, location, public_net: { enable_ipv6: false } })
}

// Compiled under `strict`, never run: what every function takes and gives, pinned. A change here is a change for users.
import { expectTypeOf } from 'expect-type'
import * as api from 'provision-vm'
import type * as t from 'provision-vm'
import type * as boot from 'provision-vm/boot-report'
import type * as webhook from 'provision-vm/webhook'

/** Every function. One that is new, gone or changed in any argument or result does not compile. */
interface Functions {
  provisionVM: {
    (params: t.ProvisionVMParams, options?: (t.ProvisionOptions & { wait?: true | Nothing }) | null): Promise<t.ProvisionVMResult>
    (params: t.ProvisionVMParams, options: t.ProvisionOptions & { wait: boolean | Nothing }): Promise<t.ProvisionVMResult | t.ProvisionVMUnderway>
  }
  provisionMany(jobs: Iterable<t.ProvisionVMParams>, options?: t.ProvisionManyOptions | null): t.ManyProvisionings
  deprovisionVM(target: t.DeprovisionTarget, options?: t.DeprovisionOptions | null): Promise<t.DeprovisionReport>
  getProvisioning(target: { jobId: string }, options?: t.CallOptions | null): Promise<t.JobStatus>
  cleanUpRun(target: t.CleanUpTarget, options?: t.CallOptions | null): Promise<t.CleanUpReport>
  reap(options?: t.ReapOptions | null): Promise<t.ReapReport>
  listVMs(options?: t.CallOptions | null): Promise<t.VMList>
  plan(params: t.ProvisionVMParams, options?: t.ProvisionOptions | null): Promise<t.Plan>
  doctor(what?: { region?: string | Nothing } | null, options?: t.ProvisionOptions | null): Promise<t.Diagnosis>
  createServer(config: t.CreateServerConfig, options?: t.CallOptions | null): Promise<t.CreateServerResponse>
  waitForAction(id: number, polling?: PollingToo, options?: t.CallOptions | null): Promise<t.HetznerAction>
  deleteServer(id: number, options?: t.CallOptions | null): Promise<void>
  shutdownServer(id: number, options?: t.CallOptions | null): Promise<void>
  powerOnServer(id: number, options?: t.CallOptions | null): Promise<void>
  powerOffServer(id: number, options?: t.CallOptions | null): Promise<void>
  getOAuthToken(options?: t.CallOptions | null): Promise<string>
  createAuthKey(options?: t.AuthKeyOptions | null): Promise<t.AuthKey>
  verifyEnrollment(hostname: string, polling?: PollingToo, options?: t.CallOptions | null): Promise<t.Enrollment>
  listDevices(options?: t.CallOptions | null): Promise<t.TailscaleDevice[]>
  deleteDevice(id: string, options?: t.CallOptions | null): Promise<void>
  findDeviceByIp(ip: string, options?: t.CallOptions | null): Promise<t.TailscaleDevice | undefined>
  generateCloudInitConfig(params: t.CloudInitParams, options?: t.CloudInitOptions | null): string
  generateSnapshotCloudInitConfig(params: t.CloudInitParams, options?: t.CloudInitOptions | null): string
  getMetrics(): t.Metrics
  isProvisionError(error: unknown): error is t.ProvisionFailure
}
type PollingToo = (t.Polling & t.CallOptions) | null
type Exported = Omit<typeof api, 'default' | 'ProvisionError'>
expectTypeOf<Exported>().toEqualTypeOf<Functions>()

// Of many jobs each is one or the other, and the summary comes at the end.
export async function many(jobs: Set<t.ProvisionVMParams>): Promise<string[]> {
  const run = api.provisionMany(jobs, { concurrency: 5, maxServers: null, maxHourlyCost: 0.5, onSettled: ({ index }) => index })
  const found: string[] = []
  for await (const job of run) {
    if (job.status === 'fulfilled') found.push(job.value.tailscaleIp)
    else expectTypeOf(job.reason).toEqualTypeOf<t.ProvisionError>()
  }
  expectTypeOf(await run.summary).toEqualTypeOf<t.ManySummary>()
  // @ts-expect-error Who provisions many waits for them.
  api.provisionMany(jobs, { wait: false })
  return found
}

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

interface BootReportFunctions {
  verifyBootReport(request: webhook.CallbackRequest, options: boot.BootReportOptions): Promise<boot.BootReport>
  isBootReportError(error: unknown): error is boot.BootReportError
}
type BootReportExported = Omit<typeof boot, 'default' | 'BootReportError'>
expectTypeOf<BootReportExported>().toEqualTypeOf<BootReportFunctions>()
// What the verifier gives, and what becomes of it in a database, can be handed back.
expectTypeOf<boot.BootReport>().toExtend<t.BootReportData>()
expectTypeOf<Omit<boot.BootReport, 'at'> & { at: string }>().toExtend<t.BootReportData>()

// What is taken. Every option may be absent, `undefined` or `null`.

type Nothing = null | undefined

expectTypeOf<t.ProvisionVMParams>().toEqualTypeOf<{ jobId: string; agentId: string; region: string }>()
expectTypeOf<t.CloudInitParams>().toEqualTypeOf<{ tailscaleAuthKey: string; hostname: string }>()
expectTypeOf<t.Polling>().toEqualTypeOf<{ maxRetries?: number | Nothing; intervalMs?: number | Nothing }>()
interface CallOptions {
  signal?: AbortSignal | Nothing
  onProgress?: ((event: t.ProgressEvent) => unknown) | Nothing
  onSecret?: ((secret: string) => unknown) | Nothing
  onSpan?: ((span: t.Span) => unknown) | Nothing
  traceparent?: string | Nothing
  env?: Readonly<Record<string, string | undefined>> | Nothing
  logger?: t.Logger | ((event: t.ProgressEvent) => unknown) | false | Nothing
  timeoutMs?: number | Nothing
  hetznerToken?: string | Nothing
  hetznerApiUrl?: string | Nothing
  tailscaleClientId?: string | Nothing
  tailscaleClientSecret?: string | Nothing
  tailscaleApiUrl?: string | Nothing
}
expectTypeOf<t.CallOptions>().toEqualTypeOf<CallOptions>()
interface ProvisionOptions extends CallOptions {
  wait?: boolean | Nothing
  waitFor?: 'enrolled' | 'reachable' | Nothing
  reachablePort?: number | Nothing
  finishWithinMs?: number | Nothing
  runId?: string | Nothing
  serverTypes?: readonly string[] | Nothing
  serverType?: string | Nothing
  locations?: readonly string[] | Nothing
  location?: string | Nothing
  labels?: Readonly<Record<string, string>> | Nothing
  tags?: readonly string[] | Nothing
  firewalls?: readonly number[] | Nothing
  networks?: readonly number[] | Nothing
  placementGroup?: number | Nothing
  publicNet?: { ipv4?: boolean | Nothing; ipv6?: boolean | Nothing } | Nothing
  userData?:
    | {
        beforeJoin?: boolean | Nothing
        users?:
          | readonly {
              name: string
              sshKeys?: readonly string[] | Nothing
              groups?: readonly string[] | Nothing
              sudo?: boolean | Nothing
              shell?: string | Nothing
            }[]
          | Nothing
        files?:
          | readonly { path: string; content: string; permissions?: string | Nothing; owner?: string | Nothing }[]
          | Nothing
        packages?: readonly string[] | Nothing
        commands?: readonly (string | readonly string[])[] | Nothing
        hardening?: boolean | Nothing
      }
    | Nothing
  tailscalePackage?:
    | { signingKey?: string | Nothing; version?: Nothing; sha256?: Nothing }
    | { version: string; sha256: { amd64: string; arm64: string }; signingKey?: Nothing }
    | Nothing
  image?: string | Nothing
  sshKeys?: readonly (string | number)[] | Nothing
  snapshotId?: string | number | Nothing
  tailscaleAuthKey?: string | Nothing
  strictRegion?: boolean | Nothing
  ephemeral?: boolean | Nothing
  allowReusableAuthKey?: boolean | Nothing
  bootReportUrl?: string | Nothing
  bootReportSecret?: string | Nothing
  bootReports?:
    | ((machine: { jobId: string; serverName: string }) => readonly t.BootReportData[] | Promise<readonly t.BootReportData[]>)
    | Nothing
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

type Told = Pick<t.ProvisionVMResult, keyof t.ProvisionVMResult>
expectTypeOf<Told>().toEqualTypeOf<{
  state: 'ready'
  timeLeftMs?: never
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
  timings: t.Timing[]
  requests: { hetzner: number; tailscale: number }
  price?: { hourly: string; monthly: string }
  warnings: string[]
}>()
expectTypeOf<t.JobStatus['state']>().toEqualTypeOf<'absent' | 'creating' | 'booting' | 'enrolled' | 'ready' | 'expired'>()
expectTypeOf<t.DeprovisionReport['servers'][number]>().toEqualTypeOf<t.RemovedServer>()
expectTypeOf<t.DeprovisionReport['leftovers']>().toEqualTypeOf<t.Leftover[]>()
expectTypeOf<t.CleanUpReport>().toEqualTypeOf<{
  servers: t.RemovedServer[]
  revokedKeys: string[]
  leftovers: t.Leftover[]
  requests: { hetzner: number; tailscale: number }
}>()
expectTypeOf<t.ReapReport['servers']>().toEqualTypeOf<t.Reaped[]>()
expectTypeOf<t.AuthKey>().toEqualTypeOf<{ key: string; id: string }>()
expectTypeOf<t.Enrollment>().toEqualTypeOf<{ tailscaleIp: string; deviceId: string; nodeId: string }>()
// As the app reads them.
expectTypeOf((response: t.CreateServerResponse) => response.server.public_net.ipv4?.ip).returns.toEqualTypeOf<string | undefined>()
expectTypeOf((response: t.CreateServerResponse) => response.action.id).returns.toEqualTypeOf<number>()

// Told apart by one field: a machine and one on its way, events, errors.

export function address(result: t.ProvisionVMResult | t.ProvisionVMUnderway): string {
  if (result.state === 'ready') return result.tailscaleIp
  expectTypeOf(result.state).toEqualTypeOf<'creating' | 'booting'>()
  expectTypeOf(result.tailscaleIp).toEqualTypeOf<undefined>()
  return `${result.serverIp ?? 'no address yet'}, for ${result.timeLeftMs} ms`
}
expectTypeOf(api.provisionVM).toBeCallableWith(job(), { wait: false })
expectTypeOf(() => api.provisionVM(job(), { wait: true })).returns.resolves.toEqualTypeOf<t.ProvisionVMResult>()
expectTypeOf(() => api.provisionVM(job(), { wait: false })).returns.resolves.toEqualTypeOf<
  t.ProvisionVMResult | t.ProvisionVMUnderway
>()

export function line({ detail }: t.ProgressEvent): string {
  switch (detail.kind) {
    case 'note':
    case 'step':
    case 'server':
      return ''
    case 'candidate':
      return detail.refused ?? `${detail.serverType} in ${detail.location} for ${detail.price?.hourly}`
    case 'enrolled':
      return detail.nodeId
    case 'waiting':
    case 'undo':
      return detail.why
    case 'removed':
      expectTypeOf(detail.id).toEqualTypeOf<string>()
      return detail.resource
    case 'left':
      expectTypeOf(detail.id).toEqualTypeOf<string | undefined>()
      return detail.why
    default:
      // Every kind has its case.
      return detail satisfies never
  }
}

export function advice(error: unknown): string {
  if (!api.isProvisionError(error)) return ''
  if (error.code === 'ABORTED') {
    expectTypeOf(error.name).toEqualTypeOf<'AbortError'>()
    return ''
  }
  expectTypeOf(error.name).toEqualTypeOf<'ProvisionError'>()
  if (error.code === 'INVALID_INPUT' || error.code === 'CONFIG') return error.field ?? ''
  expectTypeOf(error.field).toEqualTypeOf<undefined>()
  return error.code === 'CAPACITY' ? error.attempts.map(({ refused }) => refused).join() : error.hint
}

expectTypeOf<t.Leftover['kind']>().toEqualTypeOf<'server' | 'device' | 'auth_key' | 'primary_ip'>()
expectTypeOf<t.ResourceKind>().toEqualTypeOf<t.Leftover['kind']>()
expectTypeOf<t.JobStatus['step']>().toEqualTypeOf<t.Step | undefined>()
expectTypeOf<t.Timing['step']>().toEqualTypeOf<t.Step>()

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

function job(): t.ProvisionVMParams {
  return { jobId: 'a', agentId: 'b', region: 'us-east' }
}

export function misuse(): void {
  // @ts-expect-error a job needs an agent
  void api.provisionVM({ jobId: 'a', region: 'us-east' })
  // @ts-expect-error ids are texts
  void api.provisionVM({ ...job(), jobId: 1 })
  // @ts-expect-error there is no such option
  void api.provisionVM(job(), { servertype: 'cpx22' })
  // @ts-expect-error Hetzner's ids are numbers
  void api.provisionVM(job(), { firewalls: ['web'] })
  // @ts-expect-error a machine is waited for in one of two ways
  void api.provisionVM(job(), { waitFor: 'ready' })
  // @ts-expect-error a document of one's own cannot be merged
  void api.provisionVM(job(), { userData: '#cloud-config' })
  // @ts-expect-error who does not wait may have no address yet
  void api.provisionVM(job(), { wait: false }).then(({ tailscaleIp }) => tailscaleIp.length)
  // @ts-expect-error a logger is a function or has `info` and `warn`; to be silent it is `false`
  void api.provisionVM(job(), { logger: true })
  // @ts-expect-error a controller is no signal
  void api.provisionVM(job(), { signal: new AbortController() })
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
  // @ts-expect-error a build is known by its checksums
  void api.provisionVM(job(), { tailscalePackage: { version: '1.102.3' } })
  // @ts-expect-error what a document has nothing of
  api.generateCloudInitConfig({ hostname: 'a', tailscaleAuthKey: 'k' }, { location: 'fsn1' })
  // @ts-expect-error only this package makes them
  new api.ProvisionError()
}

// What is easily refused by mistake.

export function use(env: NodeJS.ProcessEnv, signal?: AbortSignal, seconds?: number, location?: string): void {
  void api.provisionVM(job(), { env, signal, logger: console, timeoutMs: seconds && seconds * 1000 })
  void api.provisionVM(job(), null)
  void api.deprovisionVM({ jobId: 'a', serverId: undefined }, null)
  void api.provisionVM(job(), { logger: (event) => console.log(event.detail.kind), locations: ['fsn1', 'hel1'] as const })
  void api.waitForAction(1, null, { signal })
  void api.waitForAction(1, { maxRetries: 5, signal })
  void api.provisionVM(job(), { serverTypes: ['cpx11', 'cpx22'] as const, onProgress: async () => {} })
  void api.createServer({ name: 'a', server_type: 'cpx11', image: 1, location, public_net: { enable_ipv6: false } })
}

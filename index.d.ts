import type {
  CandidateAttempt,
  CleanUpReport,
  DeprovisionReport,
  JobStatus as NativeStatus,
  Leftover,
  ManySummary,
  Price,
  ProgressEvent as NativeEvent,
  ProvisionVMResult as NativeResult,
  ReapReport,
  Requests,
  Timing as NativeTiming,
} from './native'

import type { Diagnosis, Plan, VMList } from './js/survey'

export type { Check, CheckName, Diagnosis, Plan, PlannedCandidate, VM, VMList } from './js/survey'

export type {
  CandidateAttempt,
  CleanUpReport,
  DeprovisionReport,
  Leftover,
  ManySummary,
  Price,
  Reaped,
  ReapReport,
  RemovedServer,
  Requests,
} from './native'

/**
 * Provisions one VM for one job: a Hetzner Cloud server that has joined the tailnet.
 *
 * One job has at most one server. Calling again with the same `jobId`, at the same time or later, from here or from
 * another machine, returns that server. Calls with the same parameters and settings in one process are one attempt, with
 * the deadline of the first: all get its result, and only the last signal to be given ends it. When it rejects, what it had begun is undone, or named in `leftovers`.
 *
 * @throws {ProvisionError} Always this class, always as a rejection.
 */
export declare function provisionVM(
  params: ProvisionVMParams,
  options?: ProvisionOptions & { wait?: true | null | undefined } | null,
): Promise<ProvisionVMResult>
/**
 * With `wait: false`, for callers that live shorter than a machine takes to boot, such as serverless functions. It returns as
 * soon as the server exists. Any later call for the job goes on with it: one that waits finishes it, another one with
 * `wait: false` finishes it if its machine has joined by then, and else returns how far it has come. So calling again every
 * few seconds brings a job to its end; between two calls nothing runs.
 *
 * The machine has until `finishWithinMs` after the first call to join (`timeLeftMs` says what is left of it). After that the next
 * call for the job makes it anew, unless its machine has joined by then, and six minutes later {@link reap} removes it. Who sees
 * that it will never join, or gives up while waiting for it, undoes it. That a call's own time is up is no reason to, nor what it
 * could not see, nor a signal during a single look: then it is named in `leftovers`, and the next call goes on with it.
 */
export declare function provisionVM(
  params: ProvisionVMParams,
  options: ProvisionOptions & { wait: boolean | null | undefined },
): Promise<ProvisionVMResult | ProvisionVMUnderway>

/**
 * Provisions many jobs, so many at a time. Each is as a call of {@link provisionVM} of its own, with its own undo: none that
 * fails harms another. What they wait for they look for together, and they share one budget of requests; a job that the budget has no
 * room for yet waits, and its time does not run until it begins.
 *
 * It begins at once. Iterate over it for the jobs as they settle, in that order, or give `onSettled`, or just await `summary`. Who stops
 * iterating ends nothing; `signal` ends all that is under way, each with its undo.
 *
 * A job that is wrong, or whose id another one in the list has, fails by itself, with a `field` such as `jobs[3].jobId`. Wrong options fail the whole call: `summary` rejects, and
 * so does the iteration.
 */
export declare function provisionMany(
  jobs: Iterable<ProvisionVMParams>,
  options?: ProvisionManyOptions | null,
): ManyProvisionings

/** Many jobs under way. */
export interface ManyProvisionings extends AsyncIterable<SettledJob> {
  /** What came of all of them, once the last one has settled. */
  summary: Promise<ManySummary>
}

/** A job that has settled. `index` is its place in the list. */
export type SettledJob =
  | { index: number; jobId: string | undefined; status: 'fulfilled'; value: ProvisionVMResult }
  | { index: number; jobId: string | undefined; status: 'rejected'; reason: ProvisionError }

export interface ProvisionManyOptions extends Omit<ProvisionOptions, 'wait'> {
  /** How many jobs may be under way at the same time. 1 to 10 000. Default: 100. */
  concurrency?: number | null | undefined
  /**
   * How many servers the call may make. A job that finds its server made already does not count. When it is used up, the jobs that are
   * left fail with `CAP_REACHED` and are not looked up.
   */
  maxServers?: number | null | undefined
  /**
   * What the servers that the call makes may cost an hour, all together, without tax, in the currency of the Hetzner project. A server
   * type that is dearer than what is left is passed over; a job for which none is left fails with `CAP_REACHED`. What is
   * under way counts.
   */
  maxHourlyCost?: number | null | undefined
  /** Called with each job as it settles. What it throws is reported as a warning of the process. */
  onSettled?: ((job: SettledJob) => unknown) | null | undefined
}

/**
 * Removes what stands for a job, also if it is ready: its server, its auth key, its device. Returns when reads show that it
 * is gone, with what could not be removed in `leftovers`. What is not there is no error, so it may be repeated; but what an
 * earlier call named as left without its server is found by nobody any more. A removal that has begun is not cut short by
 * `signal` or `timeoutMs`; it has a minute.
 *
 * @throws {ProvisionError} `NAME_CONFLICT` for a server that is not provably this package's: nothing is touched then. With
 * `serverId` and `force` it is deleted all the same, alone.
 */
export declare function deprovisionVM(target: DeprovisionTarget, options?: DeprovisionOptions | null): Promise<DeprovisionReport>

/**
 * Looks where a job stands, and changes nothing: at most two requests to each cloud, but for one repetition of what failed.
 * For callers that may not wait, such as a serverless function that is polled.
 *
 * @throws {ProvisionError} If a cloud cannot be read; `NAME_CONFLICT` if the job's label is on a server that is not this
 * package's.
 */
export declare function getProvisioning(target: { jobId: string }, options?: CallOptions | null): Promise<JobStatus>

/**
 * Removes what runs of a workflow left of a job, because they were cancelled, timed out or lost: unfinished servers of their
 * attempts, with auth key and device, and auth keys for which there was no server yet. Which attempts those are is said by
 * the `runId` that {@link provisionVM} was called with. A server that is ready is never touched, nor what another run made. Who
 * calls it says that the runs are over; what is not there is no error.
 *
 * @throws {ProvisionError} If the servers cannot be looked up. What could not be removed is in `leftovers`.
 */
export declare function cleanUpRun(target: CleanUpTarget, options?: CallOptions | null): Promise<CleanUpReport>

/**
 * Finds the servers of attempts that died without their undo (killed, machine lost, function frozen) by their labels, and
 * removes them with their devices; a machine that joined after all is marked ready instead. A dry run unless
 * `dryRun: false`. It never touches a server that is ready, that may still be in the making, or that is not provably
 * this package's. Any number may run at the same time.
 *
 * @throws {ProvisionError} If the servers cannot be listed. Trouble with a single one is in the report.
 */
export declare function reap(options?: ReapOptions | null): Promise<ReapReport>

/**
 * Lists the VMs of all jobs in the project, with age, price and what each has cost by now, from Hetzner's servers and their labels: a
 * request for fifty of them, and one for the prices. It needs Hetzner's token alone.
 *
 * @throws {ProvisionError} If the servers cannot be listed.
 */
export declare function listVMs(options?: CallOptions | null): Promise<VMList>

/**
 * Says what {@link provisionVM} would do for a job now: with which server types, where, in which order, at which price. It reads from Hetzner
 * and changes nothing. That nothing can be ordered is no error: `candidates` say why.
 *
 * @throws {ProvisionError} With what the call would fail for, as far as that shows: wrong input or settings, `NAME_CONFLICT`, `JOB_MISMATCH`.
 */
export declare function plan(params: ProvisionVMParams, options?: ProvisionOptions | null): Promise<Plan>

/**
 * Looks at all that a provisioning needs: settings, tokens and what they may do, what an order names, the clock, and what dead attempts
 * left. What is wrong is in the answer, with how to mend it; wrong settings too. To see whether auth keys can be made it makes one that lives a
 * minute, and revokes it.
 *
 * @throws {ProvisionError} For wrong options, and if `signal` or `timeoutMs` ends it.
 */
export declare function doctor(what?: { region?: string | null | undefined } | null, options?: ProvisionOptions | null): Promise<Diagnosis>

/**
 * What has been done so far, for a dashboard: calls of this thread, requests of this process. It costs next to nothing, and nothing is reset.
 */
export declare function getMetrics(): Metrics

/**
 * Orders a server in Hetzner's own words, as the app's old module did. The label `attempt` is added to yours: by it an
 * order whose answer is lost is found again instead of placed twice. If the call fails or is aborted, the server is
 * deleted again, or named in `leftovers`. It belongs to no job: `provisionVM` and `reap` leave it alone.
 *
 * @throws {ProvisionError} `INVALID_INPUT` for what Hetzner refuses in it, `NAME_CONFLICT`, `CAPACITY`, `QUOTA` and others.
 */
export declare function createServer(config: CreateServerConfig, options?: CallOptions | null): Promise<CreateServerResponse>

/**
 * Waits until an action has ended well, and returns it. Default: 150 looks, 2 s apart. Options may stand in the second
 * argument too.
 *
 * @throws {ProvisionError} `ACTION_FAILED`, `ACTION_TIMEOUT` after the last look, `NOT_FOUND` if Hetzner does not know it.
 */
export declare function waitForAction(
  id: number,
  polling?: (Polling & CallOptions) | null,
  options?: CallOptions | null,
): Promise<HetznerAction>

/**
 * Deletes a server by its id, whoever's it is, and returns when a read shows that it is gone. One that is not there
 * counts as deleted. Its device stays; `deleteDevice` removes it.
 *
 * @throws {ProvisionError} With the server in `leftovers`, for example because it is protected.
 */
export declare function deleteServer(id: number, options?: CallOptions | null): Promise<void>

/**
 * Asks a machine to shut down and returns when the server is off. A minute after the button was pressed, its power is cut. A server
 * that is off is still billed. An *ephemeral* device leaves the tailnet for good about half an hour later: provision
 * with `ephemeral: false` what is to be stopped and started.
 *
 * @throws {ProvisionError} `NOT_FOUND`, `ACTION_TIMEOUT`. Trouble with reading its state is an error too, and no reason
 * to cut the power.
 */
export declare function shutdownServer(id: number, options?: CallOptions | null): Promise<void>

/** Gives a server power and returns when it runs, within 60 s. One that runs already is no error. */
export declare function powerOnServer(id: number, options?: CallOptions | null): Promise<void>

/** Cuts a server's power and returns when it is off, within 60 s. See {@link shutdownServer} about the device. */
export declare function powerOffServer(id: number, options?: CallOptions | null): Promise<void>

/** An access token for Tailscale's API. It lives about an hour; `onSecret` gets it as well. Keep it out of logs. */
export declare function getOAuthToken(options?: CallOptions | null): Promise<string>

/**
 * Mints an auth key for one machine: single use, pre-approved, tagged `tag:agent`. It is yours from then on; only a key
 * of a call that fails is revoked. Keep it out of logs.
 */
export declare function createAuthKey(options?: AuthKeyOptions | null): Promise<AuthKey>

/**
 * Waits until the one device of this host name is tagged, approved and connected. Default: 60 looks, 5 s apart. Options
 * may stand in the second argument too.
 *
 * @throws {ProvisionError} `ENROLL_TIMEOUT` after the last look, `ENROLL_REJECTED`, `ENROLL_AMBIGUOUS` if several fit.
 */
export declare function verifyEnrollment(
  hostname: string,
  polling?: (Polling & CallOptions) | null,
  options?: CallOptions | null,
): Promise<Enrollment>

/** All devices of the tailnet, in Tailscale's own words. */
export declare function listDevices(options?: CallOptions | null): Promise<TailscaleDevice[]>

/**
 * Deletes a device by either of its ids, whoever's it is, and returns when a read shows that it is gone. One that is not
 * there counts as deleted.
 *
 * @throws {ProvisionError} With the device in `leftovers`.
 */
export declare function deleteDevice(id: string, options?: CallOptions | null): Promise<void>

/** The device that has this address in the tailnet now. Addresses are given anew: look at its name before you delete it. */
export declare function findDeviceByIp(ip: string, options?: CallOptions | null): Promise<TailscaleDevice | undefined>

/**
 * The first-boot document that installs Tailscale on a stock image and joins. It holds the key: keep it out of logs.
 *
 * @throws {ProvisionError} At once, for what can be no host name or no auth key.
 */
export declare function generateCloudInitConfig(params: CloudInitParams, options?: CloudInitOptions | null): string

/** The same for a snapshot that has Tailscale already: it only joins, as a device of its own. */
export declare function generateSnapshotCloudInitConfig(params: CloudInitParams, options?: CloudInitOptions | null): string

/**
 * Whether an error is this package's, also if another copy of the package made it (a bundle, a worker, a test runner). What it
 * narrows to is told apart by `code`.
 */
export declare function isProvisionError(error: unknown): error is ProvisionFailure

/** A machine in the tailnet. */
export interface ProvisionVMResult extends NativeResult {
  state: 'ready'
  serverIp: string
  tailscaleIp: string
  deviceId: string
  nodeId: string
  timings: Timing[]
  /** Never there. */
  timeLeftMs?: never
}

/** A job whose server stands, and whose machine has still to join. */
export interface ProvisionVMUnderway extends NativeResult {
  state: 'creating' | 'booting'
  /** Not yet known. */
  tailscaleIp?: never
  /** Not yet known. */
  deviceId?: never
  /** Not yet known. */
  nodeId?: never
  timings: Timing[]
}

/** How long one step took. */
export interface Timing extends NativeTiming {
  step: Step
}

/** Where a job stands. */
export interface JobStatus extends NativeStatus {
  step?: Step
}

/** What a call makes, and may leave. */
export type ResourceKind = Leftover['kind']

/** The body of Hetzner's `POST /servers`. Fields that are not named here are passed on as they are. */
export interface CreateServerConfig {
  /** Unique in the project; a host name. */
  name: string
  /** Name or id of the server type. */
  server_type: string | number
  /** Name or id of the image; a snapshot by its id. */
  image: string | number
  /** Name or id of the location. Hetzner chooses one if absent. */
  location?: string | undefined
  /** Ids or names of SSH keys. Without any, Hetzner makes a root password. */
  ssh_keys?: readonly (string | number)[] | undefined
  /** The first-boot document, at most 32 KiB. */
  user_data?: string | undefined
  /** Labels: keys and values of 1 to 63 letters, digits, `-`, `_` and `.`, alphanumeric at both ends. */
  labels?: Record<string, string> | undefined
  /** Whether it gets power at once. Default: true. */
  start_after_create?: boolean | undefined
  [field: string]: unknown
}

/** What Hetzner answers to an order. Only what is always there is named; the rest is as Hetzner writes it. */
export interface CreateServerResponse {
  server: HetznerServer
  /** The create action. */
  action: HetznerAction
  /** What follows it: wait for these as well. */
  next_actions: HetznerAction[]
  /** Only without SSH keys, and only if the order's own answer arrived. */
  root_password: string | null
}

/** A server in Hetzner's words. */
export interface HetznerServer {
  id: number
  name: string
  /** `initializing`, `running`, `off` and others. */
  status: string
  public_net: {
    ipv4: { id?: number; ip: string; [field: string]: unknown } | null
    ipv6: { id?: number; ip: string; [field: string]: unknown } | null
    [field: string]: unknown
  }
  labels: Record<string, string>
  [field: string]: unknown
}

/** An action in Hetzner's words. */
export interface HetznerAction {
  id: number
  command: string
  status: 'running' | 'success' | 'error'
  /** 0 to 100. */
  progress: number
  error: { code: string; message: string } | null
  [field: string]: unknown
}

/** A device in Tailscale's words. Every field may be missing but the ids. */
export interface TailscaleDevice {
  /** The older, decimal id. */
  id: string
  /** The preferred id. */
  nodeId: string
  /** What the machine calls itself. */
  hostname?: string
  /** Its name in the tailnet, which may carry a suffix such as `-1`. */
  name?: string
  addresses?: string[]
  tags?: string[]
  authorized?: boolean
  /** Absent while it is connected. */
  lastSeen?: string
  connectedToControl?: boolean
  isEphemeral?: boolean
  [field: string]: unknown
}

/** An auth key. */
export interface AuthKey {
  /** Its text: a secret. */
  key: string
  /** Its id, with which it can be revoked. */
  id: string
}

/** A device that verifies. */
export interface Enrollment {
  /** Its IPv4 address in the tailnet. */
  tailscaleIp: string
  /** Its older, decimal id. */
  deviceId: string
  /** Its preferred id. */
  nodeId: string
}

/** What a first-boot document is made from. */
export interface CloudInitParams {
  /** The key with which the machine joins: a secret. */
  tailscaleAuthKey: string
  /** The name under which it joins: one DNS label. */
  hostname: string
}

/** How to look again and again. A look that fails for a passing reason counts as one. */
export interface Polling {
  /** How often to look. */
  maxRetries?: number | null | undefined
  /** Milliseconds between two looks. */
  intervalMs?: number | null | undefined
}

/** What to provision. */
export interface ProvisionVMParams {
  /** The job. 1 to 63 characters (letters, digits, `-`, `_`, `.`), alphanumeric at both ends: a Hetzner label value. */
  jobId: string
  /** The agent that the machine is for. Same characters as `jobId`. A job belongs to one agent. */
  agentId: string
  /**
   * `us-east`, `us-west`, `eu-central`, `eu-west`, `eu-north`, `ap-southeast`, or the name of a Hetzner location.
   * Anything else goes to `nbg1` with a warning, or is refused with `strictRegion`.
   */
  region: string
}

/** What every call takes. */
export interface CallOptions {
  /**
   * Gives the call up. What it was making is undone first; then the promise rejects with `ABORTED`. A single look at a job that
   * another call began (`wait: false`) changes nothing, so there is nothing to undo.
   */
  signal?: AbortSignal | null | undefined
  /** Called with everything that happens, in order, before the promise settles. What it throws becomes a warning. */
  onProgress?: ((event: ProgressEvent) => unknown) | null | undefined
  /**
   * Called with every secret that is minted during the call (access token, auth key, token for boot reports), before anything else could show
   * it, so that a CI log can mask it. For `scripts/provision.js`; keep what it gets out of logs.
   */
  onSecret?: ((secret: string) => unknown) | null | undefined
  /**
   * Called with each span of the call as it ends: one for the call, one for each of its steps, one for each request. They are as OTLP has
   * them in JSON, so a collector takes them as they are. Without it none are made.
   */
  onSpan?: ((span: Span) => unknown) | null | undefined
  /** The span that those of the call are to be part of: a `traceparent` of W3C Trace Context. One that cannot be read is as good as none. */
  traceparent?: string | null | undefined
  /** Where settings are read, at the time of the call. Default: `process.env`. */
  env?: Readonly<Record<string, string | undefined>> | null | undefined
  /**
   * Where progress goes: lines such as `[Hetzner] message` to an object with `info` and `warn`, the events themselves to a
   * function, nothing to `false`. Default: `console.log` and `console.warn`.
   */
  logger?: Logger | ((event: ProgressEvent) => unknown) | false | null | undefined
  /**
   * Milliseconds until the call gives up, its undo not counted. A job that the project's budget of requests has no room for yet waits
   * before that, and says so in an event: its time runs from when it is let in. Default: `PROVISION_TIMEOUT_SECONDS`, or 600 000.
   */
  timeoutMs?: number | null | undefined
  /** Instead of `HETZNER_API_TOKEN`: a secret. */
  hetznerToken?: string | null | undefined
  /** Instead of `HETZNER_API_URL`: the address of the API with its path. */
  hetznerApiUrl?: string | null | undefined
  /** Instead of `TAILSCALE_OAUTH_CLIENT_ID`. */
  tailscaleClientId?: string | null | undefined
  /** Instead of `TAILSCALE_OAUTH_CLIENT_SECRET`: a secret. */
  tailscaleClientSecret?: string | null | undefined
  /** Instead of `TAILSCALE_API_URL`: the address of the API with its path. */
  tailscaleApiUrl?: string | null | undefined
}

/** Something that took its time, in the JSON of OTLP. Attributes have the names of OpenTelemetry's conventions, and ours begin with `provision_vm.`. */
export interface Span {
  /** 32 hexadecimal digits. */
  traceId: string
  /** 16 hexadecimal digits. */
  spanId: string
  /** That of the span it is part of, or empty. */
  parentSpanId: string
  /** The function, the step, or what a request is for, such as `create server`. */
  name: string
  /** 3 for a request, 1 for all else. */
  kind: 1 | 3
  /** Nanoseconds since 1970, by this machine's clock. */
  startTimeUnixNano: string
  /** Nanoseconds since 1970. */
  endTimeUnixNano: string
  /** What else is said of it. No secret, no header, no body and no query is in it. */
  attributes: { key: string; value: { stringValue: string } | { intValue: string } }[]
  /** `{ code: 2, message }` if it failed, else empty. */
  status: { code?: 2; message?: string }
}

/** What a process has done so far. */
export interface Metrics {
  /** Calls that have not ended. */
  underway: number
  /** Those that have, by function and outcome. Of `provisionMany` the call as a whole counts, not its jobs. */
  calls: { function: string; outcome: 'ok' | ProvisionErrorCode; count: number; seconds: number }[]
  /** Requests by host, method and outcome: the status of the answer, or why there was none, such as `timeout`. */
  requests: { host: string; method: string; outcome: string; count: number; seconds: number }[]
  /** How many of them repeated one that had failed. */
  retries: number
}

/** A machine that has not joined, whose reports are asked for. */
export interface UnheardMachine {
  /** The job. */
  jobId: string
  /** The name of its server. */
  serverName: string
}

/** What is read of a boot report: what `verifyBootReport` gave, or what became of it as JSON. */
export interface BootReportData {
  attempt: string
  event: string
  class?: string | null | undefined
  at: Date | string | number
  seq: number
}

/** How to provision. Everything has a default that works. */
export interface ProvisionOptions extends CallOptions {
  /** Whether to wait for the machine. Default: true. */
  wait?: boolean | null | undefined
  /**
   * What a machine has to be before the call succeeds. `enrolled`: its device verifies in the tailnet. `reachable`: beyond that,
   * this process has connected to it by TCP over the tailnet, for which it has to be in it; if it cannot before the deadline, the
   * call ends as `NOT_REACHABLE`, and what it had made is undone. A job that was ready before is dialled too, and not deleted. With
   * `wait: false` each call tries once, for at most three seconds, and a machine that is not reached is still `booting`.
   * Default: `enrolled`.
   */
  waitFor?: 'enrolled' | 'reachable' | null | undefined
  /** With `waitFor: 'reachable'`: the port to connect to, 1 to 65 535. Default: 22. */
  reachablePort?: number | null | undefined
  /**
   * With `wait: false`: milliseconds that the machine has to join, from the call on that begins it, whatever `timeoutMs` says of
   * that call. At least 60 000. Default: `PROVISION_TIMEOUT_SECONDS`, or 600 000.
   */
  finishWithinMs?: number | null | undefined
  /**
   * The run of a workflow that the call belongs to, such as its number and its attempt with a hyphen between: it is in the label
   * `attempt` of the server, and by it {@link cleanUpRun} finds what the run left. 1 to 63 letters, digits, `-`, `_`, `.`.
   */
  runId?: string | null | undefined
  /** Names of the server types to try, in this order. Default: `cpx11`, `cx23`, `cpx12`, `cpx22`, `cpx21`. */
  serverTypes?: readonly string[] | null | undefined
  /** The only server type to try. Not together with `serverTypes`. */
  serverType?: string | null | undefined
  /** Names of the locations to try, in this order, instead of the region's: all server types in the first, then the next. */
  locations?: readonly string[] | null | undefined
  /** The only location to try. Not together with `locations`. */
  location?: string | null | undefined
  /** Labels of the server, beside this package's own, which cannot be set. At most 50. */
  labels?: Readonly<Record<string, string>> | null | undefined
  /** Tags of the device beside `tag:agent`. The OAuth client has to own them. */
  tags?: readonly string[] | null | undefined
  /** Ids of firewalls of the project, applied from the start. At most 5. One that closes the way out keeps the machine from joining. */
  firewalls?: readonly number[] | null | undefined
  /** Ids of private networks of the project, each with a subnet in the location's zone. At most 3. */
  networks?: readonly number[] | null | undefined
  /** Id of a placement group of the project. */
  placementGroup?: number | null | undefined
  /** The server's public addresses. Without both it needs `networks`, and a way out through one of them. */
  publicNet?: PublicNet | null | undefined
  /** What is added to the first boot. Unless asked, nothing of it delays the join, and nothing can spoil it. */
  userData?: UserData | null | undefined
  /**
   * Where a stock image gets Tailscale from; a snapshot has it already. Default: its signed repository, with the signing key of fingerprint
   * `2596A99EAAB33821893C0A79458CA832957F5868`.
   */
  tailscalePackage?: TailscaleRepository | TailscaleBuild | null | undefined
  /** Name or id of the image. Default: `ubuntu-22.04`. Not together with `HETZNER_SNAPSHOT_ID`. */
  image?: string | null | undefined
  /** Ids or names of the SSH keys that may log in, instead of `HETZNER_SSH_KEY_ID`. */
  sshKeys?: readonly (string | number)[] | null | undefined
  /** The snapshot to make the server from, instead of `HETZNER_SNAPSHOT_ID`. It has Tailscale already. */
  snapshotId?: string | number | null | undefined
  /** A key made by hand, instead of `TAILSCALE_AUTH_KEY`: a secret. */
  tailscaleAuthKey?: string | null | undefined
  /** Refuse an unknown region instead of going to `nbg1`. Default: false. */
  strictRegion?: boolean | null | undefined
  /** Whether the device leaves the tailnet by itself some time after the machine went off. Default: true. */
  ephemeral?: boolean | null | undefined
  /** Accept a `TAILSCALE_AUTH_KEY` that may be used more than once. Default: false. */
  allowReusableAuthKey?: boolean | null | undefined
  /**
   * Where machines report how their first boot goes, instead of `BOOT_REPORT_URL`: `https:`, or `http:` on loopback. It needs
   * `bootReportSecret`. The receiver verifies by `provision-vm/boot-report`; `docs/boot-reports.md` has all about it.
   */
  bootReportUrl?: string | null | undefined
  /** What the tokens of the reports are made with, instead of `BOOT_REPORT_SECRET`: a secret. No machine gets it. */
  bootReportSecret?: string | null | undefined
  /**
   * Gives what a machine has reported, when it was told to and did not join (`ENROLL_TIMEOUT`, `ENROLL_REJECTED`): its last report
   * then stands in the error's `hint`. It has 5 s; what it throws becomes a warning. Reports of other attempts are ignored.
   */
  bootReports?:
    | ((machine: UnheardMachine) => readonly BootReportData[] | Promise<readonly BootReportData[]>)
    | null
    | undefined
}

/** Which public addresses a server has. */
export interface PublicNet {
  /** Whether it has an IPv4 address, which costs a little. Default: true. */
  ipv4?: boolean | null | undefined
  /** Whether it has an IPv6 network. Default: true. */
  ipv6?: boolean | null | undefined
}

/** What is added to the first boot of a machine, in the order of these fields. It has to fit into Hetzner's 32 KiB with the rest. */
export interface UserData {
  /**
   * Do all of it before the join: the machine is in the tailnet only when it is complete, or when what failed of it has failed. Default:
   * false, after the join, which nothing here can delay or spoil; the call does not wait for it then.
   */
  beforeJoin?: boolean | null | undefined
  /** Users to make, who log in by SSH key. At most 100. */
  users?: readonly UserAccount[] | null | undefined
  /** Files to put in their places. Hetzner keeps their contents in plain text. At most 100. */
  files?: readonly UserFile[] | null | undefined
  /** Debian packages to install: `name` or `name=version`. At most 100. */
  packages?: readonly string[] | null | undefined
  /** Commands to run as root, in this order: text for a shell of its own, or a program with its arguments. At most 100. */
  commands?: readonly (string | readonly string[])[] | null | undefined
  /**
   * Close the metadata address, where the first-boot document can be read, to all but root; let new connections in from the tailnet and
   * private networks only, so that SSH from the internet ends; install security updates unattended. Default: false.
   */
  hardening?: boolean | null | undefined
}

/** A user to make, or to add to if there is one of that name. It has no password. */
export interface UserAccount {
  /** At most 32 lower-case letters, digits, `-` and `_`. */
  name: string
  /** Public keys, as in `authorized_keys`, without options. */
  sshKeys?: readonly string[] | null | undefined
  /** Groups beside its own. What is missing is made. */
  groups?: readonly string[] | null | undefined
  /** Whether it may do everything, without a password. Default: false. */
  sudo?: boolean | null | undefined
  /** Its shell. Default: `/bin/bash`. */
  shell?: string | null | undefined
}

/** A file to write. */
export interface UserFile {
  /** An absolute path. */
  path: string
  /** What it holds. */
  content: string
  /** Its mode in octal digits. Default: `0644`. */
  permissions?: string | null | undefined
  /** `user` or `user:group`. Default: `root:root`. */
  owner?: string | null | undefined
}

/** What decides on a first-boot document beside its key and host name. A snapshot has its Tailscale already. */
export type CloudInitOptions = Pick<ProvisionOptions, 'userData' | 'tailscalePackage'>

/** Tailscale's signed repository, trusted by the key of this fingerprint only: 40 hexadecimal digits. */
export interface TailscaleRepository {
  signingKey?: string | null | undefined
  version?: null | undefined
  sha256?: null | undefined
}

/** One static build of Tailscale. It is installed without a package manager, and updated by nobody. */
export interface TailscaleBuild {
  /** Such as `1.102.3`. */
  version: string
  /** The SHA-256 checksum of its archive for each architecture. */
  sha256: { amd64: string; arm64: string }
  signingKey?: null | undefined
}

/** How to mint an auth key. */
export interface AuthKeyOptions extends CallOptions {
  /** Whether the device leaves the tailnet by itself some time after the machine went off. Default: true. */
  ephemeral?: boolean | null | undefined
  /** Seconds that the key lives: 60 to 7 776 000. Default: 3600. */
  expirySeconds?: number | null | undefined
}

/** What is to go: one of three. */
export type DeprovisionTarget =
  | { jobId: string; serverId?: undefined; serverName?: undefined }
  | { serverId: number; jobId?: undefined; serverName?: undefined }
  | { serverName: string; jobId?: undefined; serverId?: undefined }

/** What to clean up after. */
export interface CleanUpTarget {
  /** The job. */
  jobId: string
  /** The agent. With it, a device that was left without its server is named; it stays, since nothing proves whose it is. */
  agentId?: string
  /** The runs that are over, by the `runId` of their calls. 1 to 100. */
  runIds: readonly string[]
}

/** How to remove. */
export interface DeprovisionOptions extends CallOptions {
  /** With `serverId`: delete the server also if it is not provably this package's. Default: false. */
  force?: boolean | null | undefined
}

/** How to reap. */
export interface ReapOptions extends CallOptions {
  /** Only say what would be done. Default: true. */
  dryRun?: boolean | null | undefined
  /** Milliseconds that an attempt must have been dead. Default: 300 000. */
  graceMs?: number | null | undefined
}

/** Where lines are printed. `console` is one. */
export interface Logger {
  /** For what goes well. */
  info(line: string): unknown
  /** For what a person should look at. */
  warn(line: string): unknown
}

/**
 * Where a call stands. `follow` while another attempt of the job is followed, `reach` with `waitFor: 'reachable'`, `undo` while the
 * own one is undone; `read`, `power` and `remove` in the functions that do one thing.
 */
export type Step =
  | 'validate'
  | 'lookup'
  | 'follow'
  | 'auth_key'
  | 'first_boot'
  | 'server'
  | 'wait'
  | 'verify'
  | 'reach'
  | 'ready'
  | 'undo'
  | 'read'
  | 'power'
  | 'remove'

/** One thing that happened. `message` says it to people, `detail` to programs, told apart by `detail.kind`. */
export interface ProgressEvent extends Omit<NativeEvent, 'detail' | 'span'> {
  step: Step
  detail: EventDetail
}

/** What an event says, as data. */
export type EventDetail =
  /** No more than its line. */
  | { kind: 'note' }
  /** A step begins. */
  | { kind: 'step' }
  /** A server type was considered: taken, or refused with a reason. */
  | { kind: 'candidate'; serverType: string; location: string; refused?: string; price?: Price }
  /** The server exists; the event itself names it. */
  | { kind: 'server' }
  /** The machine has still to join, or is not reached yet, and what stands in the way. */
  | { kind: 'waiting'; why: string }
  /** The machine is in the tailnet; the event itself has its address. */
  | { kind: 'enrolled'; deviceId: string; nodeId: string }
  /** What was begun is being undone, and why. */
  | { kind: 'undo'; why: string }
  /** Something is gone, as a read confirmed. */
  | { kind: 'removed'; resource: ResourceKind; id: string }
  /** Something stays, or may. */
  | { kind: 'left'; resource: ResourceKind; id?: string; name?: string; why: string }

/** What went wrong. Each code has a page of its name in `docs/errors`. */
export type ProvisionErrorCode =
  | 'INVALID_INPUT'
  | 'CONFIG'
  | 'AUTH_HETZNER'
  | 'AUTH_TAILSCALE'
  | 'FORBIDDEN'
  | 'QUOTA'
  | 'CAPACITY'
  | 'CAP_REACHED'
  | 'NAME_CONFLICT'
  | 'JOB_MISMATCH'
  | 'NOT_FOUND'
  | 'RATE_LIMITED'
  | 'UNREACHABLE'
  | 'TLS'
  | 'UPSTREAM'
  | 'PROTOCOL'
  | 'API_REMOVED'
  | 'ACTION_FAILED'
  | 'ACTION_TIMEOUT'
  | 'ENROLL_TIMEOUT'
  | 'ENROLL_REJECTED'
  | 'ENROLL_AMBIGUOUS'
  | 'NOT_REACHABLE'
  | 'ABORTED'
  | 'DEADLINE'
  | 'SUPERSEDED'
  | 'INTERNAL'

/** Why a call failed, told apart by `code`: `ABORTED` has the name `AbortError`, and some name the argument or setting at fault. */
export type ProvisionFailure = {
  [Code in ProvisionErrorCode]: ProvisionError & {
    readonly code: Code
    readonly name: Code extends 'ABORTED' ? 'AbortError' : 'ProvisionError'
    readonly field?: Code extends 'INVALID_INPUT' | 'CONFIG' ? string : undefined
  }
}[ProvisionErrorCode]

/** Why a call failed. Holds no secret; `JSON.stringify` shows all of it but the stack. */
export declare class ProvisionError extends Error {
  private constructor()
  /** `AbortError` if the signal was given, as `fetch` has it. */
  readonly name: 'ProvisionError' | 'AbortError'
  /** What went wrong. */
  readonly code: ProvisionErrorCode
  /** The step that failed. */
  readonly step: Step
  /** The argument (`params.jobId`) or setting (`HETZNER_API_TOKEN`) at fault. */
  readonly field?: string
  /** Whether the same call may succeed later. */
  readonly retryable: boolean
  /** Milliseconds to wait before it, where known. */
  readonly retryAfterMs?: number
  /** Each server type that was tried, and why it was refused. */
  readonly attempts: CandidateAttempt[]
  /** The ids under which the clouds' support finds the failed request. */
  readonly requestIds: string[]
  /** How many requests were made, by the undo too. */
  readonly requests: Requests
  /** What is still there, or may be. Empty only if its absence was confirmed. */
  readonly leftovers: Leftover[]
  /** What a person should do; for a machine that did not join, with what was seen of it and what it said itself. */
  readonly hint: string
  /** The next deeper cause, itself an error with a `cause`; for `ABORTED`, the signal's own `reason`. */
  readonly cause?: unknown
  /** All of it as data. */
  toJSON(): object
}

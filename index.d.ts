import type { CandidateAttempt, Leftover, ProgressEvent as NativeEvent, ProvisionVMResult, ReapReport } from './native'

export type {
  CandidateAttempt,
  Leftover,
  Price,
  ProvisionVMResult,
  Reaped,
  ReapReport,
  Requests,
  Timing,
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
export declare function provisionVM(params: ProvisionVMParams, options?: ProvisionOptions): Promise<ProvisionVMResult>

/**
 * Finds the servers of attempts that died without their undo (killed, machine lost, function frozen) by their labels, and
 * removes them with their devices; a machine that joined after all is marked ready instead. A dry run unless
 * `dryRun: false`. It never touches a server that is ready, that may still be in the making, or that is not provably
 * this package's. Any number may run at the same time.
 *
 * @throws {ProvisionError} If the servers cannot be listed. Trouble with a single one is in the report.
 */
export declare function reap(options?: ReapOptions): Promise<ReapReport>

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
  /** Gives the call up. What was begun is undone first; then the promise rejects with `ABORTED`. */
  signal?: AbortSignal | null | undefined
  /** Called with everything that happens, in order, before the promise settles. What it throws becomes a warning. */
  onProgress?: ((event: ProgressEvent) => unknown) | null | undefined
  /**
   * Called with every secret that is minted during the call (access token, auth key), before anything else could show
   * it, so that a CI log can mask it. For `scripts/provision.js`; keep what it gets out of logs.
   */
  onSecret?: ((secret: string) => unknown) | null | undefined
  /** Where settings are read, at the time of the call. Default: `process.env`. */
  env?: Readonly<Record<string, string | undefined>> | null | undefined
  /** Where progress is printed, as `[Hetzner] message`; `false` for nowhere. Default: `console.log`, `console.warn`. */
  logger?: Logger | false | null | undefined
  /** Milliseconds until the call gives up, its undo not counted. Default: `PROVISION_TIMEOUT_SECONDS`, or 600 000. */
  timeoutMs?: number | null | undefined
}

/** How to provision. Everything has a default that works. */
export interface ProvisionOptions extends CallOptions {
  /** Names of the server types to try, in this order. Default: `cpx11`, `cx23`, `cpx12`, `cpx22`, `cpx21`. */
  serverTypes?: readonly string[] | null | undefined
  /** Name or id of the image. Default: `ubuntu-22.04`. Not together with `HETZNER_SNAPSHOT_ID`. */
  image?: string | null | undefined
  /** Refuse an unknown region instead of going to `nbg1`. Default: false. */
  strictRegion?: boolean | null | undefined
  /** Whether the device leaves the tailnet by itself some time after the machine went off. Default: true. */
  ephemeral?: boolean | null | undefined
  /** Accept a `TAILSCALE_AUTH_KEY` that may be used more than once. Default: false. */
  allowReusableAuthKey?: boolean | null | undefined
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

/** Where a job stands. `follow` while another attempt of the job is followed, `undo` while the own one is undone. */
export type Step =
  | 'validate'
  | 'lookup'
  | 'follow'
  | 'auth_key'
  | 'first_boot'
  | 'server'
  | 'wait'
  | 'verify'
  | 'ready'
  | 'undo'

/** One thing that happened. */
export interface ProgressEvent extends NativeEvent {
  step: Step
}

/** What went wrong. Each code has a page of its name in `docs/errors`. */
export type ProvisionErrorCode =
  | 'INVALID_INPUT'
  | 'CONFIG'
  | 'AUTH_HETZNER'
  | 'AUTH_TAILSCALE'
  | 'FORBIDDEN'
  | 'QUOTA'
  | 'CAPACITY'
  | 'NAME_CONFLICT'
  | 'JOB_MISMATCH'
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
  | 'ABORTED'
  | 'DEADLINE'
  | 'SUPERSEDED'
  | 'INTERNAL'

/** Why a call failed. Holds no secret; `JSON.stringify` shows all of it but the stack. */
export declare class ProvisionError extends Error {
  private constructor()
  readonly name: 'ProvisionError'
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
  /** What is still there, or may be. Empty only if its absence was confirmed. */
  readonly leftovers: Leftover[]
  /** What a person should do. */
  readonly hint: string
  /** The next deeper cause, itself an error with a `cause`; for `ABORTED`, the signal's own `reason`. */
  readonly cause?: unknown
  /** All of it as data. */
  toJSON(): object
}

/**
 * The receiving side of a job's callbacks: proves that a message comes from a holder of the secret and is fresh, and
 * reads it. Pure JavaScript over Web APIs: it runs in Node.js 20 and later and in Edge runtimes, without the native module.
 *
 * How to use it in an app: `docs/webhook.md`.
 */

/**
 * Proves a callback and reads it.
 *
 * The raw body is read once, as bytes, and nothing is parsed before a signature was found to fit. Where a Standard
 * Webhooks header (`webhook-id`, `webhook-timestamp`, `webhook-signature`) is present, these headers alone decide. One
 * signature of `webhook-signature` that fits one of the secrets is enough; the first 8 of version `v1` are tried.
 *
 * A copy of a message passes again until it is too old: keep each `id` for twice `toleranceSeconds` (10 minutes), and
 * let a message whose `id` is there already have no effect.
 *
 * @param request A Fetch `Request`, whose body nobody has read yet, or the raw body with the headers it came with.
 * @throws {CallbackError} Always as a rejection. Its `status` is what to answer.
 */
export declare function verifyCallback(request: CallbackRequest, options: SignedOnly): Promise<SignedCallback>
export declare function verifyCallback(request: CallbackRequest, options: VerifyOptions): Promise<Callback>

/**
 * The headers of a callback, for tests and for senders written in JavaScript: the Standard Webhooks headers, and the old
 * `X-Signature` beside them.
 *
 * @throws {CallbackError} `CONFIG`, as a rejection, if an argument cannot be used.
 */
export declare function signCallback(message: CallbackMessage): Promise<CallbackHeaders>

/** Whether it is a `CallbackError`, also one of another copy of this module. */
export declare function isCallbackError(error: unknown): error is CallbackError

/** What is verified. */
export type CallbackRequest = FetchRequest | RawRequest

/** What is used of a Fetch `Request`. Its body is read, so it cannot be read again. */
export interface FetchRequest {
  readonly headers: HeadersLike
  readonly body: unknown
  readonly bodyUsed: boolean
  arrayBuffer(): Promise<ArrayBuffer>
}

/** A request whose body is in memory already, such as one of `node:http`. */
export interface RawRequest {
  /**
   * The body as it came. Bytes are best; a text is taken as UTF-8. Never what was parsed from it: JSON written anew is
   * another text.
   */
  readonly body: string | Uint8Array | ArrayBuffer
  /** `request.headers` of `node:http`, a `Headers`, an object or pairs. Names are found in any case. */
  readonly headers: HeadersLike
}

/** Any of the forms in which headers are handed around. */
export type HeadersLike =
  | { get(name: string): string | null | undefined }
  | Iterable<readonly [name: string, value: string | readonly string[]]>
  | { readonly [name: string]: string | readonly string[] | undefined }

/** How to verify. */
export interface VerifyOptions {
  /**
   * The secret, or all that are valid while it is being replaced. After the prefix `whsec_` it is base64, as Standard
   * Webhooks writes it; any other text stands for its UTF-8 bytes. At least 16 bytes each, 24 to 64 are recommended.
   */
  secret: string | readonly string[]
  /** Seconds by which `webhook-timestamp` may be behind or ahead of this clock, in whole seconds. Default: 300. */
  toleranceSeconds?: number | null | undefined
  /** The time in milliseconds since 1970, for tests. Default: `Date.now`. */
  now?: (() => number) | null | undefined
  /**
   * Accept a message that has only the old `X-Signature`, while senders are being replaced. A recorded copy of any
   * message then passes for ever: `X-Signature` covers no time and no id. Warns once per process. Default: false.
   */
  allowLegacy?: boolean | null | undefined
  /** Bytes of the largest body that is read. Default: 65 536. */
  maxBytes?: number | null | undefined
}

/** Options under which every callback has an id and a time. */
export interface SignedOnly extends VerifyOptions {
  allowLegacy?: false | null | undefined
}

/** A proven callback. */
export type Callback = SignedCallback | LegacyCallback

/** A callback with the Standard Webhooks headers. */
export interface SignedCallback {
  /** `webhook-id`: the same in every copy and every repetition of this message. 1 to 256 visible ASCII characters. */
  id: string
  /** `webhook-timestamp`: when this copy was sent. */
  timestamp: Date
  legacy: false
  payload: CallbackPayload
}

/** A callback that has nothing but the old `X-Signature`: nothing says when it was sent, or whether it is a copy. */
export interface LegacyCallback {
  id: undefined
  timestamp: undefined
  legacy: true
  payload: CallbackPayload
}

/** What a callback says; `type` tells which one it is. */
export type CallbackPayload = ProvisioningPayload | HeartbeatPayload | RunningPayload | FailedPayload

/** What every callback says. Fields that are not named here are kept as they came, and not checked. */
export interface PayloadFields {
  /** The job. Not empty. */
  job_id: string
  [field: string]: unknown
}

/** The job is being worked on. Sent as `"status": "provisioning"`; `type` is added when it is read. */
export interface ProvisioningPayload extends PayloadFields {
  type: 'provisioning'
  /** The run of the workflow, in the first message of a run. Later ones may leave it out. */
  workflow_run_id?: string
}

/** The job is still being worked on. Sent every 60 seconds as `"type": "heartbeat"`. */
export interface HeartbeatPayload extends PayloadFields {
  type: 'heartbeat'
}

/** The VM is there. Sent as `"status": "running"`; `type` is added when it is read. No field is empty. */
export interface RunningPayload extends PayloadFields {
  type: 'running'
  /** Hetzner's id of the server, as a text. */
  server_id: string
  /** The public IPv4 address. */
  server_ip: string
  /** The address in the tailnet. */
  tailscale_ip: string
}

/** The job has failed. Sent as `"status": "failed"`; `type` is added when it is read. */
export interface FailedPayload extends PayloadFields {
  type: 'failed'
  /** What went wrong. Not empty. */
  error: string
  /** Where it went wrong. Not empty. */
  failed_step: string
}

/** What is signed. */
export interface CallbackMessage {
  /** The body exactly as it is sent. */
  body: string | Uint8Array | ArrayBuffer
  /** The secret, as in `VerifyOptions`. With several, each one signs; `x-signature` has room for the first one only. */
  secret: string | readonly string[]
  /** Unique for the message, the same in its repetitions. 1 to 256 visible ASCII characters, no full stop, no comma. */
  id: string
  /** When this copy is sent. Default: now. */
  timestamp?: Date | undefined
}

/** What `signCallback` gives. Send it beside `content-type: application/json`. */
export type CallbackHeaders = Record<
  'webhook-id' | 'webhook-timestamp' | 'webhook-signature' | 'x-signature',
  string
>

/**
 * Why a callback was refused.
 *
 * - `CONFIG` (500): an option or the request cannot be used, such as a secret that is empty or a body that was read
 *   before. The app's own mistake.
 * - `MISSING_HEADERS` (401): a Standard Webhooks header is missing, or there is only `X-Signature` without `allowLegacy`.
 * - `BAD_ID`, `BAD_TIMESTAMP` (401): the header is malformed, or there twice.
 * - `TOO_OLD`, `TOO_NEW` (401): `webhook-timestamp` is farther from this clock than `toleranceSeconds`.
 * - `BAD_SIGNATURE` (401): no signature fits, for whatever reason.
 * - `TOO_LARGE` (413): the body has more than `maxBytes` bytes.
 * - `BAD_BODY` (400): signed, but not JSON in UTF-8, nested deeper than 32, with a field twice in one object or with one
 *   named `__proto__`, `constructor` or `prototype`. Also a body that broke off.
 * - `BAD_PAYLOAD` (400): signed JSON, but no callback; `field` says where.
 */
export type CallbackErrorCode =
  | 'CONFIG'
  | 'MISSING_HEADERS'
  | 'BAD_ID'
  | 'BAD_TIMESTAMP'
  | 'TOO_OLD'
  | 'TOO_NEW'
  | 'BAD_SIGNATURE'
  | 'TOO_LARGE'
  | 'BAD_BODY'
  | 'BAD_PAYLOAD'

/** Why a callback was refused, as data. Holds no secret, no signature and nothing of the body. */
export declare class CallbackError extends Error {
  private constructor()
  readonly name: 'CallbackError'
  readonly code: CallbackErrorCode
  /** The HTTP status to answer with. */
  readonly status: 400 | 401 | 413 | 500
  /** The option (`options.secret`), argument or field of the payload (`server_ip`) at fault. */
  readonly field?: string
  /** This server's time, with `TOO_OLD` and `TOO_NEW`, for the answer: it tells the sender that its clock is wrong. */
  readonly serverTime?: Date
  /** All of it as data, for a log. */
  toJSON(): object
}

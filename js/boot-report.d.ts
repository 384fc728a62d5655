/**
 * The receiving side of boot reports: proves that a report comes with the token that one attempt's machine was given, and reads
 * it. Pure JavaScript over Web APIs: it runs in Node.js 20 and later and in Edge runtimes, without the native module.
 *
 * How to use it in an app: `docs/boot-reports.md`.
 */

import type { CallbackRequest } from './webhook'

/**
 * Proves a boot report and reads it.
 *
 * The token is proven before the body is read. It tells whose report it is, so nothing has to be kept to verify it. A report
 * is a hint and never a proof: any process on the machine can read the token, and say anything with it about this one attempt.
 *
 * A machine repeats what was not answered, and a token serves until its attempt is over: let a report whose `id` is there
 * already have no effect.
 *
 * @param request A Fetch `Request`, whose body nobody has read yet, or the raw body with the headers it came with.
 * @throws {BootReportError} Always as a rejection. Its `status` is what to answer.
 */
export declare function verifyBootReport(request: CallbackRequest, options: BootReportOptions): Promise<BootReport>

/** Whether it is a `BootReportError`, also one of another copy of this module. */
export declare function isBootReportError(error: unknown): error is BootReportError

/** How to verify. */
export interface BootReportOptions {
  /**
   * `BOOT_REPORT_SECRET`, or all that are valid while it is being replaced. After the prefix `whsec_` it is base64; any other
   * text stands for its UTF-8 bytes. At least 16 bytes each.
   */
  secret: string | readonly string[]
  /** The time in milliseconds since 1970, for tests. Default: `Date.now`. */
  now?: (() => number) | null | undefined
  /** Bytes of the largest body that is read. Default: 4096. */
  maxBytes?: number | null | undefined
}

/** How far a first boot has come. */
export type BootEvent = 'started' | 'clock' | 'package' | 'joined' | 'failed'

/** Why a machine cannot join. What to do about each: `docs/boot-reports.md`. */
export type BootFailure =
  | 'clock'
  | 'download'
  | 'signature'
  | 'package'
  | 'daemon'
  | 'key-refused'
  | 'up-timeout'
  | 'up'
  | 'no-key'
  | 'approval'

/** A proven boot report. */
export type BootReport = BootProgress | BootFailed

/** What every boot report says. */
export interface BootReportFields {
  /** The same in every copy of this report: the attempt and `seq`. */
  id: string
  /** The job. */
  jobId: string
  /** The server's name. */
  serverName: string
  /** The attempt whose machine was given the token: the label `attempt` of its server. */
  attempt: string
  /** When it was sent, by the machine's own clock. It may be wrong, above all at the first report. */
  at: Date
  /** 1 for the first report of a boot, then 2, and so on. */
  seq: number
}

/** It has come so far. */
export interface BootProgress extends BootReportFields {
  event: Exclude<BootEvent, 'failed'>
  class?: undefined
}

/** It cannot join. */
export interface BootFailed extends BootReportFields {
  event: 'failed'
  class: BootFailure
}

/**
 * Why a boot report was refused.
 *
 * - `CONFIG` (500): an option or the request cannot be used, such as a secret that is empty or a body that was read before.
 *   The app's own mistake.
 * - `MISSING_TOKEN` (401): there is no `Authorization` header.
 * - `BAD_TOKEN` (401): it holds no token of this kind, or one that was not made with any of the secrets.
 * - `EXPIRED` (401): the attempt is over.
 * - `TOO_LARGE` (413): the body has more than `maxBytes` bytes.
 * - `BAD_BODY` (400): not JSON in UTF-8, or with a field twice. Also a body that broke off.
 * - `BAD_PAYLOAD` (400): JSON, but no boot report; `field` says where.
 */
export type BootReportErrorCode =
  | 'CONFIG'
  | 'MISSING_TOKEN'
  | 'BAD_TOKEN'
  | 'EXPIRED'
  | 'TOO_LARGE'
  | 'BAD_BODY'
  | 'BAD_PAYLOAD'

/** Why a boot report was refused, as data. Holds no secret, no token and nothing of the body. */
export declare class BootReportError extends Error {
  private constructor()
  readonly name: 'BootReportError'
  readonly code: BootReportErrorCode
  /** The HTTP status to answer with. */
  readonly status: 400 | 401 | 413 | 500
  /** The option (`options.secret`), argument or field of the payload (`class`) at fault. */
  readonly field?: string
  /** All of it as data, for a log. */
  toJSON(): object
}

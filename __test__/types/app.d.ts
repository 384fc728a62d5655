// The app around the examples of docs/webhook.md and docs/boot-reports.md.

declare module '@/lib/jobs' {
  export function once(id: string, effect: () => Promise<void>): Promise<void>
  export function start(jobId: string, workflowRunId: string | undefined): Promise<void>
  export function keepAlive(jobId: string): Promise<void>
  export function finish(jobId: string, serverId: string, serverIp: string, tailscaleIp: string): Promise<void>
  export function fail(jobId: string, error: string, failedStep: string): Promise<void>
}

declare module '@/lib/boot-reports' {
  import type { BootReport } from 'provision-vm/boot-report'
  export function keep(report: BootReport): Promise<void>
  export function reportsOf(jobId: string): Promise<BootReport[]>
}

declare module '@/lib/db' {
  type Query = (text: TemplateStringsArray, ...values: string[]) => Promise<unknown[]>
  export const sql: { begin(work: (tx: Query) => Promise<void>): Promise<void> }
}

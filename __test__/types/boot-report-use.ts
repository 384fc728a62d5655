import { provisionVM, type ProvisionVMResult } from 'provision-vm'
import { reportsOf } from '@/lib/boot-reports'

export async function provision(jobId: string, agentId: string): Promise<ProvisionVMResult> {
  const job = { jobId, agentId, region: 'us-east' }
  return await provisionVM(job, {
    bootReportUrl: 'https://app.example/api/boot-reports',
    bootReportSecret: process.env.BOOT_REPORT_SECRET,
    bootReports: ({ jobId }) => reportsOf(jobId),
  })
}

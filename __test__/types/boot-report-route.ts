// app/api/boot-reports/route.ts
import { isBootReportError, verifyBootReport } from 'provision-vm/boot-report'
import { keep } from '@/lib/boot-reports'

export async function POST(request: Request): Promise<Response> {
  try {
    const report = await verifyBootReport(request, { secret: process.env.BOOT_REPORT_SECRET ?? '' })
    // One row for each `report.id`: a copy has no effect.
    await keep(report)
    return new Response(null, { status: 204 })
  } catch (error) {
    if (!isBootReportError(error)) throw error
    console.warn(`boot report refused: ${error.code}: ${error.message}`)
    return Response.json({ error: error.code }, { status: error.status })
  }
}

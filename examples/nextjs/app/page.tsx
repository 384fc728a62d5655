import { randomUUID } from 'node:crypto'
import { JobList } from '@/components/job-list'
import { OrderForm } from '@/components/order-form'
import { readOrders } from '@/lib/orders'
import { look } from '@/lib/runs'

/** What was asked for comes from the cookie; where each job stands, from the clouds, at every load. */
export default async function Page() {
  const jobs = await Promise.all((await readOrders()).map(look))
  const suggestion = { jobId: `job-${randomUUID().slice(0, 6)}`, agentId: randomUUID().slice(0, 13), region: 'us-east' }
  return (
    <main className="page">
      <header className="intro">
        <h1>Machines</h1>
        <p>One job, at most one server. What fails is undone, or named, and says why.</p>
        <OrderForm suggestion={suggestion} />
      </header>
      <JobList jobs={jobs} />
    </main>
  )
}

import type { Job } from '@/lib/job'
import { readOrders } from '@/lib/orders'
import { look } from '@/lib/runs'
import { find, watch } from '@/lib/store'

/** Milliseconds between two looks at what is made elsewhere. Each also keeps proxies from cutting a silent stream. */
const PULSE = 5000

/** The jobs of this browser, as server-sent events: each as it is now, and again whenever it changes. */
export async function GET(): Promise<Response> {
  const orders = await readOrders()
  const ids = new Set(orders.map(({ jobId }) => jobId))
  const encoder = new TextEncoder()
  let end = () => {}
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (job: Job) => {
        if (ids.has(job.order.jobId)) controller.enqueue(encoder.encode(`data: ${JSON.stringify(job)}\n\n`))
      }
      const unwatch = watch(send)
      const beat = () => controller.enqueue(encoder.encode(':\n\n'))
      beat()
      const pulse = setInterval(() => {
        beat()
        for (const order of orders) if (isMadeElsewhere(find(order.jobId))) void look(order)
      }, PULSE)
      end = () => {
        unwatch()
        clearInterval(pulse)
      }
      for (const order of orders) {
        const job = find(order.jobId)
        if (job) send(job)
        else void look(order)
      }
    },
    cancel: () => end(),
  })
  // `no-transform` also tells Next.js not to compress, for which it would hold events back.
  const headers = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache, no-transform' }
  return new Response(stream, { headers })
}

/** A process that made it may be another one, or may have been this one before it was started again. */
function isMadeElsewhere(job: Job | undefined): boolean {
  return !job?.activity && ['creating', 'booting', 'enrolled'].includes(job?.status?.state ?? '')
}

'use server'

import { after } from 'next/server'
import type { Failure, Order } from '@/lib/job'
import { forget, readOrders, remember } from '@/lib/orders'
import { cancel, destroy, queue, start, stop } from '@/lib/runs'
import { change, drop, find } from '@/lib/store'

// Anybody who can open the page can call these. An app asks here who it is, and whether the job is theirs.

/** What became of a form: the order that was refused and why, or neither. */
export interface Queued {
  order?: Order
  failure?: Failure
}

/** Queues a new job. Its ids are judged by the package alone, so that there is one opinion of what is valid. */
export async function queueJob(_before: Queued, form: FormData): Promise<Queued> {
  const order = { jobId: text(form, 'jobId'), agentId: text(form, 'agentId'), region: text(form, 'region') }
  const failure = await queue(order)
  if (failure) return { order, failure }
  await remember(find(order.jobId)?.order ?? order)
  return {}
}

/** Does what a card's button says. What comes of it reaches the page by `api/events`. */
export async function actOnJob(form: FormData): Promise<void> {
  const jobId = text(form, 'jobId')
  const order = find(jobId)?.order ?? (await readOrders()).find((known) => known.jobId === jobId)
  if (!order) return
  switch (text(form, 'action')) {
    case 'again': {
      const failure = await queue(order)
      if (failure) change(order, { failure })
      return
    }
    case 'cancel':
      return cancel(order)
    case 'stop':
      return after(stop(order))
    case 'start':
      return after(start(order))
    case 'destroy':
      return after(destroy(order))
    case 'dismiss':
      if (!find(jobId)?.activity) drop(jobId)
      return forget(order)
  }
}

function text(form: FormData, name: string): string {
  const value = form.get(name)
  return typeof value === 'string' ? value.trim() : ''
}

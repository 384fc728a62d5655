import { cookies } from 'next/headers'
import type { Order } from './job'

// What was asked for has to outlive this process. An app has it in its database; here the browser keeps it, in a cookie.
// What came of it is not kept anywhere: the clouds know.

const COOKIE = 'orders'
/** As many as a cookie has room for, and as one page should ask the clouds about. */
const MOST = 8

/** Newest first. */
export async function readOrders(): Promise<Order[]> {
  const text = (await cookies()).get(COOKIE)?.value ?? '[]'
  try {
    const rows: unknown = JSON.parse(text)
    const orders = Array.isArray(rows) ? rows.filter(isRow).slice(0, MOST) : []
    return orders.map(([jobId, agentId, region]) => ({ jobId, agentId, region }))
  } catch {
    return []
  }
}

export async function remember(order: Order): Promise<void> {
  await write([order, ...(await others(order))])
}

export async function forget(order: Order): Promise<void> {
  await write(await others(order))
}

const others = async ({ jobId }: Order) => (await readOrders()).filter((order) => order.jobId !== jobId)

async function write(orders: Order[]): Promise<void> {
  const rows = orders.slice(0, MOST).map(({ jobId, agentId, region }) => [jobId, agentId, region])
  const options = { httpOnly: true, sameSite: 'lax', maxAge: 30 * 24 * 3600 } as const
  ;(await cookies()).set(COOKIE, JSON.stringify(rows), options)
}

function isRow(row: unknown): row is [string, string, string] {
  return Array.isArray(row) && row.length === 3 && row.every((cell) => typeof cell === 'string')
}

// lib/jobs/once.ts; the table: create table callbacks (id text primary key, seen_at timestamptz default now())
import { sql } from '@/lib/db'

export async function once(id: string, effect: () => Promise<void>): Promise<void> {
  await sql.begin(async (tx) => {
    const [isNew] = await tx`insert into callbacks (id) values (${id}) on conflict do nothing returning id`
    if (isNew) await effect()
  })
}

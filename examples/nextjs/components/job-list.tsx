'use client'

import { useEffect, useState } from 'react'
import type { Job } from '@/lib/job'
import { JobCard } from './job-card'

/** The jobs as the server rendered them, each replaced by what the stream says of it. */
export function JobList({ jobs }: { jobs: Job[] }) {
  const { latest, isLost } = useLive(jobs.map((job) => job.order.jobId).join(' '))
  return (
    <section className="jobs" aria-label="Jobs">
      <p className="notice" role="status">
        {isLost && 'Connection lost. Reconnecting…'}
      </p>
      {jobs.length === 0 && <Empty />}
      {jobs.map((job) => (
        <JobCard key={job.order.jobId} job={latest[job.order.jobId] ?? job} />
      ))}
    </section>
  )
}

/** Listens for as long as the same jobs are on the page; the stream knows by the cookie which they are. */
function useLive(ids: string) {
  const [latest, setLatest] = useState<Record<string, Job>>({})
  const [isLost, setIsLost] = useState(false)
  useEffect(() => {
    if (ids === '') return
    const source = new EventSource('/api/events')
    source.onopen = () => setIsLost(false)
    // The browser tries again by itself.
    source.onerror = () => setIsLost(true)
    source.onmessage = ({ data }: MessageEvent<string>) => {
      const job = JSON.parse(data) as Job
      setLatest((before) => ({ ...before, [job.order.jobId]: job }))
    }
    return () => source.close()
  }, [ids])
  return { latest, isLost }
}

function Empty() {
  return (
    <div className="empty">
      <svg viewBox="0 0 64 48" aria-hidden="true">
        <rect x="8" y="5" width="48" height="16" rx="4" />
        <rect x="8" y="27" width="48" height="16" rx="4" />
        <path d="M17 13h.01M24 13h.01M17 35h.01M24 35h.01M40 13h7M40 35h7" />
      </svg>
      <h2>No machine yet</h2>
      <p>Provision one, and watch it come up in about half a minute. You can give it up at any time.</p>
    </div>
  )
}

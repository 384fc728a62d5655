import type { Job } from '@/lib/job'
import { seconds } from './summary'

/** What is known of a job's machine, if there is one. */
export function Facts({ job: { status, machine, leftovers } }: { job: Job }) {
  if (!status || status.state === 'absent' || leftovers.length > 0) return null
  const price = machine?.hourly ? `, ${machine.hourly} an hour` : ''
  const facts = [
    ['Tailnet', status.tailscaleIp],
    ['Public', status.serverIp],
    ['Server', status.serverName],
    ['Type', machine && `${machine.serverType} in ${machine.location}${price}`],
  ].filter(([, value]) => value !== undefined)
  if (facts.length === 0) return null
  return (
    <dl className="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

/** Why the latest activity failed, what a person should do, and what it left. A job that was given up has not failed. */
export function FailurePanel({ job: { failure, leftovers } }: { job: Job }) {
  const isCancelled = failure?.code === 'ABORTED' && leftovers.length === 0
  if (isCancelled || (!failure && leftovers.length === 0)) return null
  return (
    <div className="failure" role="alert">
      {failure && (
        <>
          <p className="code">
            <code>{failure.code}</code> at step <code>{failure.step}</code>
          </p>
          <p>{failure.message}</p>
          <p className="hint">{failure.hint}</p>
        </>
      )}
      {leftovers.length > 0 && (
        <>
          <h3>Left behind</h3>
          <ul>
            {leftovers.map(({ kind, id, name, why }) => (
              <li key={`${kind} ${id} ${name}`}>
                <strong>{[kind.replace('_', ' '), id].filter(Boolean).join(' ')}</strong> {name && <span>{name}</span>}
                <br />
                {why}
              </li>
            ))}
          </ul>
        </>
      )}
      {failure && failure.requestIds.length > 0 && (
        <p className="support">
          For the cloud’s support: <code>{failure.requestIds.join(' ')}</code>
        </p>
      )}
    </div>
  )
}

/** The signed messages of the job's run that have arrived. */
export function Callbacks({ job: { callbacks } }: { job: Job }) {
  if (callbacks.length === 0) return null
  return (
    <div className="callbacks">
      <span>Verified callbacks</span>
      <ul>
        {callbacks.map(({ id, type }) => (
          <li key={id}>{type}</li>
        ))}
      </ul>
    </div>
  )
}

/** Everything that happened, for who wants to know. */
export function Log({ job: { progress } }: { job: Job }) {
  if (progress.length === 0) return null
  return (
    <details className="log">
      <summary>Log</summary>
      <ol>
        {progress.map(({ level, message, elapsedMs }, at) => (
          <li key={at} data-level={level}>
            <span>{seconds(elapsedMs)}</span>
            {message}
          </li>
        ))}
      </ol>
    </details>
  )
}

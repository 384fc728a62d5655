import { useId, useRef } from 'react'
import { actOnJob } from '@/app/actions'
import type { Job } from '@/lib/job'
import { Callbacks, FailurePanel, Facts, Log } from './job-details'
import { Steps } from './steps'
import { summarise, type Choice } from './summary'
import './job-card.css'

/** One job: where it stands, what is known of its machine, and what can be done with it. */
export function JobCard({ job }: { job: Job }) {
  const { label, tone, sentence, choices } = summarise(job)
  const { jobId, agentId, region } = job.order
  const title = useId()
  return (
    <article className="card" data-tone={tone} aria-labelledby={title}>
      <header>
        <div>
          <h2 id={title}>{jobId}</h2>
          <p className="subtitle">
            {agentId} · {region}
          </p>
        </div>
        <span className="pill">{label}</span>
      </header>
      {(job.activity === 'provisioning' || job.activity === 'cancelling') && <Steps job={job} />}
      <div className="now" role="status">
        <p>{sentence}</p>
        {job.activity && <p className="latest">{job.progress.at(-1)?.message}</p>}
      </div>
      {!job.activity && <FailurePanel job={job} />}
      <Facts job={job} />
      <Callbacks job={job} />
      <footer>
        <Choices jobId={jobId} choices={choices} />
        <Log job={job} />
      </footer>
    </article>
  )
}

/** The buttons. They keep their places, so that whoever pressed one by keyboard stays where they were. */
function Choices({ jobId, choices }: { jobId: string; choices: Choice[] }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const title = useId()
  const [first, second] = choices
  const ask = second?.action === 'destroy' ? () => dialog.current?.showModal() : undefined
  return (
    <form action={actOnJob} onSubmit={() => dialog.current?.close()}>
      <input type="hidden" name="jobId" value={jobId} />
      {first && (
        <button className="button" name="action" value={first.action} aria-disabled={first.isBusy}>
          {first.label}
        </button>
      )}
      {second && (
        <button className="button quiet" name="action" value={second.action} type={ask ? 'button' : 'submit'} onClick={ask}>
          {second.label}
        </button>
      )}
      <dialog ref={dialog} aria-labelledby={title}>
        <h3 id={title}>Destroy {jobId}?</h3>
        <p>Its server goes, with its disk, its key and its device in the tailnet. There is no way back.</p>
        <div className="row">
          <button className="button quiet" type="button" autoFocus onClick={() => dialog.current?.close()}>
            Keep it
          </button>
          <button className="button danger" name="action" value="destroy">
            Destroy for good
          </button>
        </div>
      </dialog>
    </form>
  )
}

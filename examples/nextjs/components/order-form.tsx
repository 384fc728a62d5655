'use client'

import { useActionState } from 'react'
import { queueJob } from '@/app/actions'
import type { Failure, Order } from '@/lib/job'

const REGIONS = [
  ['us-east', 'US East · Ashburn'],
  ['us-west', 'US West · Hillsboro'],
  ['eu-central', 'EU Central · Nuremberg'],
  ['eu-west', 'EU West · Falkenstein'],
  ['eu-north', 'EU North · Helsinki'],
  ['ap-southeast', 'Asia · Singapore'],
] as const

/** Queues a job. What was refused stays in the fields, with the package's own words at the field that it names. */
export function OrderForm({ suggestion }: { suggestion: Order }) {
  const [{ order = suggestion, failure }, queue, isPending] = useActionState(queueJob, {})
  const isAtField = ['params.jobId', 'params.agentId'].includes(failure?.field ?? '')
  return (
    <form className="order" action={queue} aria-label="Queue a job">
      <Field name="jobId" label="Job" value={order.jobId} failure={failure} />
      <Field name="agentId" label="Agent" value={order.agentId} failure={failure} />
      <div className="field">
        <label htmlFor="region">Region</label>
        {/* A select is reset to what it was first given; with a key, to what was chosen last. */}
        <select id="region" name="region" key={order.region} defaultValue={order.region}>
          {REGIONS.map(([name, label]) => (
            <option key={name} value={name}>
              {label}
            </option>
          ))}
        </select>
      </div>
      <button className="button primary" aria-disabled={isPending}>
        {isPending ? 'Queuing…' : 'Provision a machine'}
      </button>
      <div role="alert">
        {failure && !isAtField && (
          <p className="complaint">
            {failure.message}. {failure.hint}
          </p>
        )}
      </div>
    </form>
  )
}

interface FieldProps {
  name: 'jobId' | 'agentId'
  label: string
  value: string
  failure: Failure | undefined
}

function Field({ name, label, value, failure }: FieldProps) {
  const path = `params.${name}`
  const complaint = failure?.field === path ? failure.message.replace(`${path}: `, '') : undefined
  return (
    <div className="field">
      <label htmlFor={name}>{label}</label>
      <input
        id={name}
        name={name}
        defaultValue={value}
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        aria-invalid={complaint !== undefined}
        aria-describedby={`${name}-complaint`}
      />
      <p className="complaint" id={`${name}-complaint`} role="alert">
        {complaint}
      </p>
    </div>
  )
}

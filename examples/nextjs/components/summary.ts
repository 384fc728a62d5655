import type { Activity, Job } from '@/lib/job'
import { STAGES, stageOf } from './stages'

/** A button. */
export interface Choice {
  action: 'cancel' | 'again' | 'stop' | 'start' | 'destroy' | 'dismiss'
  label: string
  /** It is being done; pressing it again has no effect. */
  isBusy?: boolean
}

/** A job in a word, a colour, a sentence and two buttons at most. */
export interface Summary {
  label: string
  tone: 'busy' | 'undo' | 'good' | 'calm' | 'bad'
  sentence: string
  choices: Choice[]
}

const DESTROY: Choice = { action: 'destroy', label: 'Destroy' }
const DISMISS: Choice = { action: 'dismiss', label: 'Dismiss' }

export function summarise(job: Job): Summary {
  if (job.activity) return inProgress(job, job.activity)
  const { status, doubt, failure, leftovers, machine } = job
  const again = (label: string, last: Choice): Choice[] => [{ action: 'again', label }, last]
  const trouble = doubt && `The clouds could not be asked: ${doubt.message}. ${doubt.hint}`

  if (status?.state === 'ready') {
    if (status.serverStatus === 'off') {
      const sentence = trouble ?? 'Switched off. Its disk is kept, and paid for.'
      return { label: 'Off', tone: 'calm', sentence, choices: [{ action: 'start', label: 'Start' }, DESTROY] }
    }
    const took = machine ? `In the tailnet after ${seconds(machine.ms)}.` : 'In the tailnet.'
    const sentence = trouble ?? status.obstacle ?? took
    const isRunning = status.serverStatus === 'running'
    const label = isRunning ? 'Running' : capitalised(status.serverStatus ?? 'ready')
    return { label, tone: isRunning ? 'good' : 'calm', sentence, choices: [{ action: 'stop', label: 'Stop' }, DESTROY] }
  }
  if (failure) {
    const isClean = leftovers.length === 0
    const choices = again('Try again', isClean ? DISMISS : { action: 'destroy', label: 'Destroy what is left' })
    if (failure.code === 'ABORTED' && isClean) {
      return { label: 'Cancelled', tone: 'calm', sentence: trouble ?? 'Given up and undone. Nothing is left.', choices }
    }
    const outcome = isClean ? 'What was begun is undone; nothing is left.' : 'Not everything could be undone.'
    return { label: 'Failed', tone: 'bad', sentence: trouble ?? outcome, choices }
  }
  switch (status?.state) {
    case undefined:
      return { label: 'Unknown', tone: 'bad', sentence: trouble ?? '', choices: [DISMISS] }
    case 'absent':
      return {
        label: 'Gone',
        tone: leftovers.length > 0 ? 'bad' : 'calm',
        sentence: trouble ?? 'No server stands for this job.',
        choices: again('Provision', DISMISS),
      }
    case 'expired':
      return {
        label: 'Abandoned',
        tone: 'bad',
        sentence: trouble ?? 'Its attempt died. Carrying on finishes it, or removes it and begins anew.',
        choices: again('Carry on', DESTROY),
      }
    default:
      return {
        label: `Elsewhere, ${status?.percent ?? 0} %`,
        tone: 'busy',
        sentence: trouble ?? 'Another process is making it. Carrying on follows that one, or takes over if it is dead.',
        choices: again('Carry on', DESTROY),
      }
  }
}

function inProgress(job: Job, activity: Activity): Summary {
  const busy = (action: Choice['action'], label: string): Choice[] => [{ action, label, isBusy: true }]
  switch (activity) {
    case 'provisioning': {
      if (job.progress.at(-1)?.step === 'undo') {
        return { label: 'Undoing', tone: 'undo', sentence: 'It failed. What was begun is being undone.', choices: [] }
      }
      const sentence = STAGES[stageOf(job)].doing
      return { label: 'Provisioning', tone: 'busy', sentence, choices: [{ action: 'cancel', label: 'Cancel' }] }
    }
    case 'cancelling': {
      const sentence = 'Given up. What was begun is being undone.'
      return { label: 'Undoing', tone: 'undo', sentence, choices: busy('cancel', 'Cancelling…') }
    }
    case 'stopping': {
      const sentence = 'Asking the machine to shut down.'
      return { label: 'Stopping', tone: 'busy', sentence, choices: busy('stop', 'Stopping…') }
    }
    case 'starting': {
      const sentence = 'Giving it power, and waiting for it in the tailnet.'
      return { label: 'Starting', tone: 'busy', sentence, choices: busy('start', 'Starting…') }
    }
    case 'destroying': {
      const sentence = 'Removing its server, its key and its device.'
      return { label: 'Destroying', tone: 'undo', sentence, choices: busy('destroy', 'Destroying…') }
    }
  }
}

/** `4.1 s`, `2 min 5 s`. The same on the server and in the browser, whatever their languages. */
export function seconds(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`
}

const capitalised = (word: string) => word.charAt(0).toUpperCase() + word.slice(1)

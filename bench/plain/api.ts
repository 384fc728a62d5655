// Requests with a time limit and the usual retries, counted.

const TRIES = 6
const FIRST_WAIT_MS = 1000
const LONGEST_WAIT_MS = 30_000
const REQUEST_MS = 30_000

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
    this.name = 'ApiError'
  }
}

export class Api {
  /** How many requests were sent. */
  requests = 0

  constructor(
    private readonly base: string,
    private token = '',
  ) {}

  login(token: string) {
    this.token = token
  }

  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const isForm = body instanceof URLSearchParams
    const headers: Record<string, string> = { accept: 'application/json' }
    if (this.token) headers.authorization = `Bearer ${this.token}`
    if (body !== undefined && !isForm) headers['content-type'] = 'application/json'
    const content = body === undefined ? null : isForm ? body : JSON.stringify(body)
    for (let tries = 1; ; tries += 1) {
      try {
        this.requests += 1
        const signal = AbortSignal.timeout(REQUEST_MS)
        const response = await fetch(`${this.base}${path}`, { method, headers, body: content, signal })
        const text = await response.text()
        if (!response.ok) throw refusal(response.status, text)
        return (text === '' ? undefined : JSON.parse(text)) as T
      } catch (error) {
        if (tries >= TRIES || !mayRepeat(method, error)) throw error
        const wait = Math.min(FIRST_WAIT_MS * 2 ** (tries - 1), LONGEST_WAIT_MS)
        // Jitter, so that jobs that were refused together do not come back together.
        await sleep(wait * (0.5 + Math.random() / 2))
      }
    }
  }
}

/** A request that was refused for its rate has not been carried out; of any other failure that is certain for reads and repeatable writes only. */
function mayRepeat(method: string, error: unknown) {
  if (error instanceof ApiError) return error.status === 429 || (error.status >= 500 && method !== 'POST')
  return method !== 'POST'
}

function refusal(status: number, text: string) {
  try {
    const { error, message } = JSON.parse(text) as { error?: { code?: string; message?: string }; message?: string }
    return new ApiError(status, error?.code ?? '', error?.message ?? message ?? `status ${status}`)
  } catch {
    return new ApiError(status, '', `status ${status}`)
  }
}

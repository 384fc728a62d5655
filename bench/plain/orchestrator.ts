// The usual way of doing what this package does, for comparison: `fetch`, one set of loops for each job, waits one after
// the other. Written to the same contract, as a careful team would write it; `run.ts` is its command.

import { createHash } from 'node:crypto'
import { Api, ApiError, sleep } from './api.ts'

const LOCATIONS: Record<string, string> = {
  'us-east': 'ash',
  'us-west': 'hil',
  'eu-central': 'nbg1',
  'eu-west': 'fsn1',
  'eu-north': 'hel1',
  'ap-southeast': 'sin',
}
const SERVER_TYPES = ['cpx11', 'cx23', 'cpx12', 'cpx22', 'cpx21']
const TAG = 'tag:agent'
const ACTION_INTERVAL_MS = 1000
const DEVICE_INTERVAL_MS = 2000
const TIMEOUT_MS = 600_000
/** The key outlives the longest wait for its machine by a little. */
const KEY_SECONDS = TIMEOUT_MS / 1000 + 60

export interface Job {
  jobId: string
  agentId: string
  region: string
}

export interface Result {
  serverId: number
  serverIp: string
  tailscaleIp: string
  serverName: string
  requests: { hetzner: number; tailscale: number }
}

interface Server {
  id: number
  name: string
  labels: Record<string, string>
  public_net: { ipv4: { ip: string } | null }
}

interface Action {
  id: number
  command: string
  status: 'running' | 'success' | 'error'
  error: { code: string; message: string } | null
}

interface Device {
  nodeId: string
  hostname: string
  addresses: string[]
  tags?: string[]
  authorized: boolean
  connectedToControl?: boolean
}

export async function provisionVM(job: Job, env: NodeJS.ProcessEnv = process.env): Promise<Result> {
  const hetzner = new Api(setting(env, 'HETZNER_API_URL'), setting(env, 'HETZNER_API_TOKEN'))
  const tailscale = new Api(setting(env, 'TAILSCALE_API_URL'))
  const deadline = Date.now() + TIMEOUT_MS
  const suffix = createHash('sha256').update(job.jobId).digest('hex').slice(0, 10)
  const name = `agent-${job.agentId.slice(0, 8).toLowerCase()}-${suffix}`

  const found = await findServer(hetzner, job.jobId)
  if (found && found.labels.state !== 'ready') throw new Error(`job ${job.jobId} is being provisioned already`)
  await logIn(tailscale, env)
  if (found) return finish(hetzner, tailscale, found, await waitForDevice(tailscale, found.name, deadline))

  const key = await createAuthKey(tailscale, job)
  let server: Server | undefined
  try {
    const created = await createServer(hetzner, job, name, firstBoot(key.key, name), setting(env, 'HETZNER_SSH_KEY_ID'))
    server = created.server
    for (const action of [created.action, ...created.next_actions]) await waitForAction(hetzner, action, deadline)
    const device = await waitForDevice(tailscale, name, deadline)
    const labels = { ...server.labels, state: 'ready', node_id: device.nodeId }
    await hetzner.call('PUT', `/servers/${server.id}`, { labels })
    await revoke(tailscale, key.id)
    return finish(hetzner, tailscale, server, device)
  } catch (error) {
    await undo(hetzner, tailscale, server, key.id)
    throw error
  }
}

async function findServer(hetzner: Api, jobId: string) {
  const selector = encodeURIComponent(`provisioning_job_id==${jobId}`)
  const { servers } = await hetzner.call<{ servers: Server[] }>('GET', `/servers?label_selector=${selector}`)
  return servers[0]
}

async function logIn(tailscale: Api, env: NodeJS.ProcessEnv) {
  const form = new URLSearchParams({
    client_id: setting(env, 'TAILSCALE_OAUTH_CLIENT_ID'),
    client_secret: setting(env, 'TAILSCALE_OAUTH_CLIENT_SECRET'),
    grant_type: 'client_credentials',
  })
  const { access_token } = await tailscale.call<{ access_token: string }>('POST', '/oauth/token', form)
  tailscale.login(access_token)
}

async function createAuthKey(tailscale: Api, job: Job) {
  const create = { reusable: false, ephemeral: true, preauthorized: true, tags: [TAG] }
  return tailscale.call<{ id: string; key: string }>('POST', '/tailnet/-/keys', {
    capabilities: { devices: { create } },
    expirySeconds: KEY_SECONDS,
    description: `agent ${job.jobId.replace(/[^A-Za-z0-9 -]/g, '-').slice(0, 40)}`,
  })
}

/** The first server type that the location has. */
async function createServer(hetzner: Api, job: Job, name: string, userData: string, sshKeys: string) {
  const order = {
    name,
    image: 'ubuntu-22.04',
    location: LOCATIONS[job.region] ?? 'nbg1',
    ssh_keys: sshKeys.split(',').map((key) => (/^\d+$/.test(key) ? Number(key) : key)),
    user_data: userData,
    labels: { provisioning_job_id: job.jobId, agent_id: job.agentId, state: 'creating' },
  }
  let refused: unknown
  for (const server_type of SERVER_TYPES) {
    try {
      type Created = { server: Server; action: Action; next_actions: Action[] }
      return await hetzner.call<Created>('POST', '/servers', { ...order, server_type })
    } catch (error) {
      const isSoldOut = error instanceof ApiError && ['resource_unavailable', 'placement_error'].includes(error.code)
      if (!isSoldOut) throw error
      refused = error
    }
  }
  throw refused
}

async function waitForAction(hetzner: Api, started: Action, deadline: number) {
  let action = started
  while (action.status === 'running') {
    if (Date.now() > deadline) throw new Error(`action ${action.command} did not end in time`)
    await sleep(ACTION_INTERVAL_MS)
    action = (await hetzner.call<{ action: Action }>('GET', `/actions/${action.id}`)).action
  }
  if (action.status === 'error') throw new Error(`action ${action.command} failed: ${action.error?.message}`)
}

async function waitForDevice(tailscale: Api, hostname: string, deadline: number) {
  for (;;) {
    const path = `/tailnet/-/devices?hostname=${encodeURIComponent(hostname)}`
    const { devices } = await tailscale.call<{ devices: Device[] | null }>('GET', path)
    const device = devices?.find(isVerified)
    if (device) return device
    if (Date.now() > deadline) throw new Error(`${hostname} did not join the tailnet in time`)
    await sleep(DEVICE_INTERVAL_MS)
  }
}

function isVerified(device: Device) {
  const isOurs = device.tags?.includes(TAG) && device.authorized && device.connectedToControl !== false
  return Boolean(isOurs && tailnetAddress(device))
}

/** The one address in 100.64.0.0/10. */
function tailnetAddress(device: Device) {
  return device.addresses.find((address) => {
    const [first, second] = address.split('.').map(Number)
    return first === 100 && second !== undefined && second >= 64 && second < 128
  })
}

async function revoke(tailscale: Api, keyId: string) {
  try {
    await tailscale.call('DELETE', `/tailnet/-/keys/${keyId}`)
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error
  }
}

async function undo(hetzner: Api, tailscale: Api, server: Server | undefined, keyId: string) {
  const steps = [server && hetzner.call('DELETE', `/servers/${server.id}`), revoke(tailscale, keyId)]
  for (const step of await Promise.allSettled(steps)) {
    if (step.status === 'rejected') console.error(`undo failed: ${step.reason}`)
  }
}

function finish(hetzner: Api, tailscale: Api, server: Server, device: Device): Result {
  return {
    serverId: server.id,
    serverIp: server.public_net.ipv4?.ip ?? '',
    tailscaleIp: tailnetAddress(device) ?? '',
    serverName: server.name,
    requests: { hetzner: hetzner.requests, tailscale: tailscale.requests },
  }
}

function firstBoot(authKey: string, hostname: string) {
  return `#cloud-config
runcmd:
  - 'curl -fsSL https://tailscale.com/install.sh | sh'
  - tailscale up --auth-key=${authKey} --hostname=${hostname} --ssh
`
}

function setting(env: NodeJS.ProcessEnv, name: string) {
  const value = env[name]
  if (!value) throw new Error(`${name} is not set`)
  return value
}

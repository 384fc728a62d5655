/** What the looks over all jobs, over one to come, and over the set-up itself return: `listVMs`, `plan` and `doctor`. */

import type { Price, Requests } from '../native'
import type { JobStatus, ProvisionErrorCode } from '../index'

/** The VMs of all jobs. */
export interface VMList {
  /** Each server that this package made, the oldest first. */
  vms: VM[]
  /** What a person should know who takes this for all there is, such as a server with our label that nobody's job is on. */
  warnings: string[]
  /** How many requests were made. */
  requests: Requests
}

/** A job's VM, as Hetzner shows it. Whether its machine is in the tailnet is told by `getProvisioning`. */
export interface VM {
  /** The job that it was made for. */
  jobId: string
  /** The agent that it is for. */
  agentId: string
  /** `ready`: handed over. `creating`, `booting`: an attempt is at it. `expired`: its attempt died or ran out of time. */
  state: 'creating' | 'booting' | 'ready' | 'expired'
  /** Hetzner's id of the server. */
  serverId: number
  /** Its name, at Hetzner and in the tailnet. */
  serverName: string
  /** Its address: the public IPv4 address, or where it has none the public IPv6 or the private one. */
  serverIp?: string
  /** Hetzner's name of its type. */
  serverType: string
  /** Hetzner's name of its location. */
  location: string
  /** Hetzner's word for its power: `running`, `off` and others. It costs as much when it is off. */
  serverStatus: string
  /** The preferred id of the device that was verified when it was handed over. */
  nodeId?: string
  /** Milliseconds since its attempt began. */
  ageMs: number
  /** Milliseconds until its attempt counts as over, if it is not ready. */
  expiresInMs?: number
  /** What it costs, where Hetzner says so. */
  price?: Price
  /**
   * What it has cost by now at that price, in the currency of the project, net: hours begun, at most the month's price for each month. What
   * Hetzner charges beside the server, such as its public IPv4 address, is not in it.
   */
  costSoFar?: string
}

/** What a call of `provisionVM` would do now. Whether the image, the SSH keys and what it is attached to exist, `doctor` tells. */
export interface Plan {
  /**
   * `create`: order a server. `return`: hand over the one that stands ready. `finish`: finish one that an earlier call began.
   * `follow`: wait for another call that is making it. `replace`: remove what a dead attempt left, and order anew.
   */
  action: 'create' | 'return' | 'finish' | 'follow' | 'replace'
  /** The name that the server and its device have, or would get. */
  serverName: string
  /** The server that stands for the job, if one does. */
  serverId?: number
  /** The name or id of the image or snapshot. */
  image: string
  /** Whether it is a snapshot that has Tailscale already. */
  usesSnapshot: boolean
  /** The locations that would be tried, in this order. */
  locations: string[]
  /** Each server type in each location, in the order in which they would be tried. */
  candidates: PlannedCandidate[]
  /** What the first of them costs that can be ordered. Absent if there is none, or Hetzner names no price. */
  price?: Price
  /** The tags of the device. */
  tags: string[]
  /** Whether the device vanishes some time after the machine is off. */
  ephemeral: boolean
  /** What a person should know before it is done. */
  warnings: string[]
  /** How many requests were made. */
  requests: Requests
}

/** A server type that would be tried, or why it would not be. */
export interface PlannedCandidate {
  /** Hetzner's name of the type. */
  serverType: string
  /** Hetzner's name of the location. */
  location: string
  /** What it costs there. */
  price?: Price
  /** Whether Hetzner says that it is in stock. That is no promise either way: one that is not is tried last. */
  inStock: boolean
  /** Why it would be left out. */
  refused?: string
}

/** What would stop a provisioning, or should be known before one. */
export interface Diagnosis {
  /** Whether nothing failed. Warnings do not count. */
  healthy: boolean
  /** What was looked at, in order. */
  checks: Check[]
  /** How many requests were made. */
  requests: Requests
}

/** One thing that was looked at. */
export interface Check {
  /** Its name. */
  name: CheckName
  /** `skipped` if something before it failed that it needs. */
  verdict: 'ok' | 'warning' | 'failed' | 'skipped'
  /** What was found. */
  what: string
  /** With which code a call would fail for it. */
  code?: ProvisionErrorCode
  /** How to mend it. */
  hint?: string
}

/**
 * `settings`: the environment and the options. `hetzner`: the API is reached and takes the token. `hetzner-write`: the token may
 * write. `ssh-keys`, `image`, `attachments` (firewalls, networks, placement group), `server-types`: what an order names is there. `project`: nobody else's servers are in it.
 * `leftovers`: no dead attempt has left a server. `requests`: enough of the token's requests are left. `clock`: this machine's clock
 * is right. `tailscale`: the API is reached and takes the credential. `devices`: it may read and delete devices. `auth-key`: it may make
 * auth keys with our tags, which one is made for and revoked, or the one that is given is usable. `scopes`: it may do no more than that.
 */
export type CheckName =
  | 'settings'
  | 'hetzner'
  | 'hetzner-write'
  | 'ssh-keys'
  | 'image'
  | 'attachments'
  | 'server-types'
  | 'project'
  | 'leftovers'
  | 'requests'
  | 'clock'
  | 'tailscale'
  | 'devices'
  | 'auth-key'
  | 'scopes'

/// <reference lib="esnext.disposable" />

/**
 * A local cloud for the tests of an app: a program on loopback that stands for Hetzner Cloud, Tailscale and the machines, and can be
 * told to misbehave. The program comes in a package of its own, `provision-vm-local-cloud`, for `devDependencies`.
 *
 * How to use it, what can go wrong in it, and what it does not simulate: `docs/local-cloud.md`.
 */

/**
 * Starts a local cloud. It ends with this process, however that ends, and does not keep it alive; `stop` ends it before.
 *
 * @throws {LocalCloudError} Always as a rejection; with the reason of `signal` if that was aborted.
 */
export declare function startLocalCloud(options?: LocalCloudOptions | null): Promise<LocalCloud>

/**
 * The path of the local cloud's program: what the variable `PROVISION_VM_SIMULATOR` names; in a clone of the repository what Cargo has
 * built last; else that of the package `provision-vm-local-cloud`, looked for beside this package and from the working directory.
 *
 * @throws {LocalCloudError} `NOT_INSTALLED` or `NOT_SERVED`. Its message says what to install.
 */
export declare function findProgram(): string

/** How a local cloud is to be. An option that does not exist is refused. */
export interface LocalCloudOptions {
  /**
   * How many times as fast as real time passes there. Default: 10, in which a machine joins in three seconds. At most 25: the package
   * compares the cloud's clock with this machine's, and takes a much faster one for time that it has slept.
   */
  timeScale?: number | null | undefined
  /** What chance depends on, such as how long a boot takes. Default: 1. */
  seed?: number | null | undefined
  /** The port on 127.0.0.1. Default: a free one. */
  port?: number | null | undefined
  /** How the world behaves from the start, and again after each `reset`. */
  config?: LocalCloudConfig | null | undefined
  /** Ends the cloud when it is aborted. */
  signal?: AbortSignal | null | undefined
  /** The path of the program. Default: `findProgram()`. */
  program?: string | null | undefined
}

/** A running local cloud. */
export interface LocalCloud extends AsyncDisposable {
  /**
   * The settings that point at this cloud: for `options.env` of each call, or for `Object.assign(process.env, cloud.env)`. They hold no
   * secret of anybody's. Settings that have no place in tests, such as `TAILSCALE_AUTH_KEY`, are empty, which counts as absent.
   */
  readonly env: LocalCloudEnv
  /** Where it is. `hetzner` and `tailscale` are the base URLs of the APIs. */
  readonly urls: { readonly cloud: string; readonly hetzner: string; readonly tailscale: string }
  /** Arms a fault, for the first request that fits. Of several faults that fit, the one that was armed first is met. */
  fault(fault: LocalCloudFault): Promise<void>
  /** Disarms all faults. */
  clearFaults(): Promise<void>
  /** Changes how the world behaves from now on: a JSON merge patch. A name that does not exist is refused. */
  configure(patch: LocalCloudConfig): Promise<void>
  /** What is true now, whatever the APIs would show. */
  world(): Promise<LocalCloudWorld>
  /** Every request to the APIs so far, with what became of it. */
  requests(): Promise<LocalCloudRequest[]>
  /** Everything so far: requests, and what happened by itself, such as a machine that joined or why it did not. */
  journal(): Promise<LocalCloudEntry[]>
  /**
   * Lets this much time pass at once, in seconds of the world, for example until what a dead attempt left may be reaped. Only while no call
   * is under way, which would take it for time that this machine has slept.
   */
  advance(seconds: number): Promise<void>
  /** Puts a server there that nobody has ordered, and returns its id. */
  addServer(server: AddedServer): Promise<number>
  /** Puts a device into the tailnet that is no machine of this cloud, and returns its node id. */
  addDevice(device: AddedDevice): Promise<string>
  /** Removes a server, as somebody at the console would. Nothing happens if it is gone. */
  removeServer(id: number): Promise<void>
  /** Cuts the power of a server's machine. */
  powerOff(id: number): Promise<void>
  /** Begins a new world, without servers, devices, keys, faults and history, which behaves as `options.config` says. The time goes on. */
  reset(): Promise<void>
  /** Ends it, and resolves when it is gone. What was armed or is under way goes with it. */
  stop(): Promise<void>
}

/** The settings that point at a local cloud. */
export type LocalCloudEnv = Readonly<
  Record<
    | 'HETZNER_API_URL'
    | 'HETZNER_API_TOKEN'
    | 'HETZNER_SSH_KEY_ID'
    | 'HETZNER_SNAPSHOT_ID'
    | 'TAILSCALE_API_URL'
    | 'TAILSCALE_OAUTH_CLIENT_ID'
    | 'TAILSCALE_OAUTH_CLIENT_SECRET'
    | 'TAILSCALE_AUTH_KEY'
    | 'BOOT_REPORT_URL'
    | 'BOOT_REPORT_SECRET',
    string
  >
>

/** A fault, and the requests that it waits for. Without `api`, `method` and `path` it is any. */
export interface LocalCloudFault {
  /** Which API. `oidc` is the issuer of identity tokens. Default: `any`. */
  api?: 'any' | 'hetzner' | 'tailscale' | 'oidc'
  /** Which method, such as `POST`. Default: any. */
  method?: string
  /**
   * Which path below the base URL of the API, such as `/servers`. `*` stands for one part of it, and `/**` at the end for everything below.
   * Default: any.
   */
  path?: string
  /** How many requests that fit are let through first. Default: 0. */
  skip?: number
  /** How often it strikes. Default: once. */
  times?: number
  /** What happens. */
  kind: FaultKind
}

/** What happens to a request. All times are those of the world. */
export type FaultKind =
  /** The connection is cut at once; the request is not carried out. On loopback that is what these five come to. */
  | 'refuse'
  | 'dns'
  | 'connect_timeout'
  | 'tls_invalid'
  | 'tls_cut'
  /** The connection is cut; the request is not carried out, or it is. */
  | 'reset_before_apply'
  | 'reset_after_apply'
  /** The connection is cut, and the request is carried out later. */
  | { reset_then_apply: { after_ms: number } }
  /** No answer ever comes; the request is not carried out, or it is. */
  | 'hang_before_apply'
  | 'hang_after_apply'
  /** Another answer comes. */
  | { answer: FaultAnswer }
  /** 429 in the words of the API; with headers also when it will be over: an hour later. */
  | { rate_limited: { with_headers?: boolean } }
  /** The request is carried out, and its answer ends half-way, is empty, a page of HTML, or 17 MiB large. */
  | 'truncate'
  | 'empty'
  | 'html'
  | 'oversize'
  /** The request is carried out, and its answer takes this much longer. */
  | { slow: { ms: number } }
  /** The request is carried out, and its answer's JSON is spoiled by chance: in any way, or so that types are wrong. */
  | { garble: { seed: number } }
  | { misshape: { seed: number } }
  /** The answer shows Hetzner's project as it was this long ago. */
  | { stale_read: { seconds: number } }

/** An answer in place of the API's. */
export interface FaultAnswer {
  status: number
  /** The body, as JSON. */
  json?: unknown
  /** The body, as any other text. */
  text?: string
  /** Default: by the kind of body. */
  content_type?: string
  headers?: [name: string, value: string][]
  /** Whether the request is carried out all the same. Default: false. */
  apply?: boolean
}

/** How a world behaves. What is absent stays as it is. All seconds are those of the world; two are from and to, by chance. */
export interface LocalCloudConfig {
  /** How long an answer takes. */
  latency_ms?: [number, number]
  hetzner?: {
    create_seconds?: [number, number]
    start_seconds?: [number, number]
    /** How the orders of servers, and the starts, end: well, badly with Hetzner's code and text, or not at all. */
    create_action?: ActionOutcome
    start_action?: ActionOutcome
    /** How many servers the project may have. */
    server_limit?: number
    /** What is out of stock, as `type@location`. */
    out_of_stock?: string[]
    /** For how long reads do not show new servers yet, still show deleted ones, and show labels as they were. */
    stale_created_seconds?: number
    stale_deleted_seconds?: number
    stale_labels_seconds?: number
    /** Requests per hour, how many of them are left now, and how many others take in a second. */
    rate_limit?: number
    rate_remaining?: number | null
    foreign_requests_per_second?: number
    [knob: string]: unknown
  }
  tailscale?: {
    /** Whether devices are never approved. */
    never_authorized?: boolean
    /** Tags that devices carry in place of their key's. */
    device_tags?: string[] | null
    /** How long it takes until lists show a new device, and until it counts as connected. */
    visibility_seconds?: number
    connected_after_seconds?: number
    /** Status and text for every order of a key, if the plan does not include them. */
    plan_refusal?: [status: number, text: string] | null
    [knob: string]: unknown
  }
  machine?: {
    /** What becomes of first boots: they do what the document says, boot and never join, or hang at once. */
    boot?: 'joins' | 'never_joins' | 'never_boots'
    /** How likely it is that one fails, whatever `boot` says: 0 to 1. */
    fails_chance?: number
    kernel_seconds?: [number, number]
    install_seconds?: [number, number]
    join_seconds?: number
    /** The ports that can be reached over the tailnet, and from when after the join. */
    ports?: number[]
    listens_after_seconds?: number
    reachable?: boolean
    [knob: string]: unknown
  }
}

/** How an action of Hetzner's ends. */
export type ActionOutcome = 'success' | { error: { code: string; message: string } } | 'never'

/** What is true in a local cloud. */
export interface LocalCloudWorld {
  /** Its time of day, and how long it has existed. */
  now: string
  elapsed_ms: number
  servers: WorldServer[]
  devices: WorldDevice[]
  /** All auth keys that were ever made. */
  keys: WorldKey[]
  primary_ips: { id: number; ip: string; assignee_id: number | null }[]
  networks: WorldBinding[]
  firewalls: WorldBinding[]
  placement_groups: WorldBinding[]
  /** How many servers there have ever been. A job that made two and removed one shows here. */
  servers_ever: number
  /** How many requests there were. */
  requests: { hetzner: number; tailscale: number; oidc: number }
  /** How often faults have struck. */
  faults_fired: number
}

/** A server as it truly is. */
export interface WorldServer {
  id: number
  name: string
  status: string
  labels: Record<string, string>
  location: string
  server_type: string
  image: number
  ssh_keys: number[]
  ipv4: string | null
  /** The first address of its /64 network. */
  ipv6: string | null
  networks: { network: number; ip: string; mac_address: string; attached: boolean }[]
  firewalls: { firewall: number; applied: boolean }[]
  placement_group: number | null
  protected: boolean
  /** The node id of its machine's device, once that has joined. */
  node: string | null
  first_boot_done: boolean
  /** What its machine has said, a line each. */
  boot: string[]
}

/** A device as it truly is. */
export interface WorldDevice {
  node_id: string
  id: string
  name: string
  hostname: string
  tags: string[]
  ephemeral: boolean
  authorized: boolean
  connected: boolean
  ip: string | null
  created: string
  /** Whether lists show it already. */
  visible: boolean
  external: boolean
  /** The id of the key that it joined with. */
  key: string | null
}

/** An auth key as it truly is. */
export interface WorldKey {
  id: string
  description: string
  /** Whether a machine could join with it now. */
  usable: boolean
  used: boolean
  revoked: boolean
  reusable: boolean
  ephemeral: boolean
  tags: string[]
  expires: string
  life_seconds: number
}

/** What servers are bound to. */
export interface WorldBinding {
  id: number
  name: string
  servers: number[]
}

/** A server that nobody has ordered. */
export interface AddedServer {
  name: string
  labels?: Record<string, string>
  /** Default: `cpx11`. */
  server_type?: string
  /** Default: `ash`. */
  location?: string
  /** Whether it is protected against deletion. */
  protected?: boolean
}

/** A device that is no machine of this cloud. */
export interface AddedDevice {
  hostname: string
  tags?: string[]
  ephemeral?: boolean
  /** Default: true. */
  authorized?: boolean
  /** Default: true. */
  connected?: boolean
}

/** A request, with what became of it. */
export interface LocalCloudRequest {
  /** Milliseconds of the world since it began. */
  atMs: number
  api: 'hetzner' | 'tailscale' | 'oidc'
  method: string
  /** Below the base URL of the API, as in a fault. */
  path: string
  /** Without its question mark; empty if there is none. */
  query: string
  /** The status of the answer, if there was one. */
  status?: number
  /** How it broke off, if it did. */
  cut?: string
  /** The kind of the fault that it met. */
  fault?: string
  /** Whether it was carried out after its sender had given it up. Then it is here for the second time. */
  late?: true
}

/** Something that happened. */
export interface LocalCloudEntry {
  at_ms: number
  who: string
  what: string
  outcome: string
  fault?: string
}

/**
 * Why there is no local cloud, or why it does not do as it is told.
 *
 * - `NOT_INSTALLED`: there is no program; the message has the command that installs it.
 * - `NOT_SERVED`: there is none for this platform.
 * - `NOT_STARTED`: the program could not be started, or ended before it was ready; the message has its own words.
 * - `INVALID_OPTION`: an option cannot be used.
 * - `REFUSED`: what it was told makes no sense, such as a fault of an unknown kind; the message has its own words.
 * - `ENDED`: it was stopped, or has ended.
 */
export type LocalCloudErrorCode = 'NOT_INSTALLED' | 'NOT_SERVED' | 'NOT_STARTED' | 'INVALID_OPTION' | 'REFUSED' | 'ENDED'

/** Why there is no local cloud, or why it does not do as it is told. */
export declare class LocalCloudError extends Error {
  private constructor()
  readonly name: 'LocalCloudError'
  readonly code: LocalCloudErrorCode
}

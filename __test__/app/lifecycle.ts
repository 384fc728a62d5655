// The life of a VM as the app's `lifecycle.ts` has it: stop, start, destroy, roll back. Its ids come from a database, as
// texts. Run by `drop-in.test.js` against the simulator, and compiled under `strict` by `surface.test.js`.
import {
  createAuthKey,
  createServer,
  deleteDevice,
  deleteServer,
  findDeviceByIp,
  generateCloudInitConfig,
  generateSnapshotCloudInitConfig,
  getOAuthToken,
  listDevices,
  powerOffServer,
  powerOnServer,
  shutdownServer,
  verifyEnrollment,
  waitForAction,
} from 'provision-vm'

/** A row of the app's table of instances. */
export interface Instance {
  providerServerId: string
  hostname: string
  publicIp: string
  tailscaleIp: string
}

export async function create(hostname: string, snapshotId?: string): Promise<Instance> {
  const { key } = await createAuthKey()
  const config = { tailscaleAuthKey: key, hostname }
  const userData = snapshotId ? generateSnapshotCloudInitConfig(config) : generateCloudInitConfig(config)
  const response = await createServer({
    name: hostname,
    server_type: 'cpx11',
    image: snapshotId ? parseInt(snapshotId, 10) : 'ubuntu-22.04',
    location: 'ash',
    ssh_keys: [parseInt(process.env.HETZNER_SSH_KEY_ID ?? '', 10)],
    user_data: userData,
    labels: { agent_id: 'agent-1' },
  })
  await waitForAction(response.action.id, { maxRetries: 60, intervalMs: 20 })
  const { tailscaleIp } = await verifyEnrollment(hostname, { maxRetries: 200, intervalMs: 20 })
  const ipv4 = response.server.public_net.ipv4
  if (!ipv4) throw new Error('no public IPv4 address')
  return { providerServerId: String(response.server.id), hostname, publicIp: ipv4.ip, tailscaleIp }
}

export async function stop(instance: Instance): Promise<void> {
  await shutdownServer(parseInt(instance.providerServerId, 10))
}

export async function start(instance: Instance): Promise<string> {
  await powerOnServer(parseInt(instance.providerServerId, 10))
  const { tailscaleIp } = await verifyEnrollment(instance.hostname, { maxRetries: 100, intervalMs: 20 })
  return tailscaleIp
}

export async function cutPower(instance: Instance): Promise<void> {
  await powerOffServer(parseInt(instance.providerServerId, 10))
}

export async function destroy(instance: Instance): Promise<boolean> {
  await deleteServer(parseInt(instance.providerServerId, 10))
  const device = await findDeviceByIp(instance.tailscaleIp)
  if (device && device.hostname === instance.hostname) {
    await deleteDevice(device.id)
    return true
  }
  return false
}

/** What is left of a failed job goes; what is not there is no trouble. */
export async function rollback(instance: Partial<Instance>): Promise<void> {
  if (instance.providerServerId) await deleteServer(parseInt(instance.providerServerId, 10))
  const devices = await listDevices()
  for (const device of devices.filter(({ addresses }) => addresses?.includes(instance.tailscaleIp ?? ''))) {
    await deleteDevice(device.nodeId)
  }
}

/** A request that this package has no function for. */
export async function countDevices(): Promise<number> {
  const token = await getOAuthToken()
  const url = `${process.env.TAILSCALE_API_URL}/tailnet/-/devices`
  const response = await fetch(url, { headers: { Authorization: `Bearer ${token}` } })
  const { devices } = (await response.json()) as { devices: unknown[] }
  return devices.length
}

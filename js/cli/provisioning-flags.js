'use strict'

// The flags that say what is provisioned: the same for doing it and for planning it.

const { readFile, readLimit, readNumber, readPair } = require('./arguments.js')

const USUAL_REGION = 'us-east'

const PROVISIONING_FLAGS = {
  agent: { value: 'ID', says: 'the agent that the machine is for; required' },
  region: {
    value: 'REGION',
    says: `us-east, us-west, eu-central, eu-west, eu-north, ap-southeast, or a Hetzner location (${USUAL_REGION})`,
  },
  'server-type': { value: 'TYPE', many: true, option: 'serverTypes', says: 'server types to try, in this order; may be repeated' },
  location: { value: 'NAME', many: true, option: 'locations', says: "locations to try instead of the region's, in this order" },
  image: { value: 'IMAGE', option: 'image', says: 'name or id of the image (ubuntu-22.04)' },
  snapshot: { value: 'ID', option: 'snapshotId', says: 'a snapshot that has Tailscale already, instead of HETZNER_SNAPSHOT_ID' },
  'ssh-key': { value: 'KEY', many: true, option: 'sshKeys', says: 'ids or names of SSH keys, instead of HETZNER_SSH_KEY_ID' },
  label: {
    value: 'KEY=VALUE',
    many: true,
    read: readPair,
    gather: Object.fromEntries,
    option: 'labels',
    says: 'further labels of the server',
  },
  tag: { value: 'tag:NAME', many: true, option: 'tags', says: 'tags of the device beside tag:agent' },
  firewall: { value: 'ID', many: true, read: readNumber, option: 'firewalls', says: 'firewalls of the project' },
  network: { value: 'ID', many: true, read: readNumber, option: 'networks', says: 'private networks of the project' },
  'placement-group': { value: 'ID', read: readNumber, option: 'placementGroup', says: 'a placement group of the project' },
  'no-ipv4': { option: 'publicNet', means: { ipv4: false }, says: 'without a public IPv4 address' },
  'no-ipv6': { option: 'publicNet', means: { ipv6: false }, says: 'without public IPv6 addresses' },
  'user-data': {
    value: 'FILE',
    read: readFile,
    option: 'userData',
    says: 'what is added to the first boot, as JSON: users, files, packages, commands, hardening',
  },
  'no-ephemeral': { option: 'ephemeral', means: false, says: 'keep the device in the tailnet while the machine is off' },
  'strict-region': { option: 'strictRegion', means: true, says: 'refuse an unknown region instead of going to nbg1' },
}

/** How to wait for it, which only matters to the doing. */
const WAITING_FLAGS = {
  'no-wait': { option: 'wait', means: false, says: 'return as soon as the server exists; calling again goes on with the job' },
  'finish-within': {
    value: 'SECONDS',
    read: readLimit,
    option: 'finishWithinMs',
    says: 'with --no-wait: how long the machine has to join (600)',
  },
  'wait-for': {
    value: 'WHAT',
    option: 'waitFor',
    says: 'enrolled, or reachable: wait until a port of it answers in the tailnet (enrolled)',
  },
  port: { value: 'N', read: readNumber, option: 'reachablePort', says: 'with --wait-for reachable: that port (22)' },
  'allow-reusable-auth-key': { option: 'allowReusableAuthKey', means: true, says: 'let a reusable TAILSCALE_AUTH_KEY through' },
}

function paramsOf(operand, { agent, region = USUAL_REGION }) {
  return { jobId: operand, agentId: agent, region }
}

module.exports = { PROVISIONING_FLAGS, WAITING_FLAGS, paramsOf }

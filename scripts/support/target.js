'use strict'

// What a run may be asked for, and where its callbacks may go. The inputs come from whoever dispatched the run, so a
// message never repeats more of them than a short, harmless piece.

const { BlockList, isIP } = require('node:net')

/** An input or a setting that cannot be used. The message begins with the variable that a person can change. */
class InputError extends Error {
  constructor(variable, why) {
    super(`${variable}: ${why}`)
    Object.assign(this, { name: 'InputError', code: 'INVALID_INPUT', variable })
  }
}

/** Where the callbacks go: `CALLBACK_URL`, if that is an address which may be called at all. */
function readTarget({ CALLBACK_URL: text, CALLBACK_ORIGINS: origins }) {
  const refuse = (why) => {
    throw new InputError('CALLBACK_URL', why)
  }
  const allowed = readOrigins(origins)
  const url = readUrl(text, refuse)
  const loopback = LOOPBACK[url.hostname]
  if (loopback === undefined) checkPublic(url, refuse)
  if (allowed && !allowed.has(url.origin)) refuse(`its origin, ${show(url.origin)}, is not one of CALLBACK_ORIGINS`)
  if (loopback === undefined && !allowed) checkName(url.hostname, refuse)
  return { url, loopback }
}

/**
 * The addresses to connect to, looked up once. One that is not public spoils them all: whoever answers for the name could
 * choose which one is taken.
 */
async function resolveTarget({ url, loopback }, lookup) {
  if (loopback) return loopback
  const addresses = await lookup(url.hostname)
  if (addresses.length === 0) throw Object.assign(new Error('no address'), { code: 'ENOTFOUND' })
  const found = addresses.find(({ address }) => !isPublic(address))
  if (!found) return addresses
  throw new InputError('CALLBACK_URL', `${url.hostname} has the address ${found.address}, which is not public`)
}

/** An id of a job or an agent. It becomes a label of the server, so it has the grammar of labels. */
function readId(variable, text) {
  const rule = '1 to 63 letters, digits, full stops, underscores and hyphens, with a letter or a digit at both ends'
  return readText(variable, text, /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, rule)
}

/** A region. Which ones there are is for the provisioning to say. */
function readRegion(variable, text) {
  return readText(variable, text, /^[a-z0-9-]{1,63}$/, '1 to 63 small letters, digits and hyphens')
}

/** A text that fits a pattern as a whole. */
function readText(variable, text, pattern, rule) {
  if (text === undefined || text === '') throw new InputError(variable, 'is not set')
  if (!pattern.test(text)) throw new InputError(variable, `expected ${rule}, got ${show(text)}`)
  return text
}

/** As much of a text as a person needs to know it again: a short line in which nothing is a command or a colour. */
function show(text, most = 40) {
  const start = text.slice(0, most).replace(/[^ -~]|["\\]/g, '?').replace(/:(?=:)/g, ': ').replace(/#(?=#)/g, '# ')
  return text.length > most ? `"${start}…" (${text.length} characters)` : `"${start}"`
}

module.exports = { InputError, isPublic, readId, readRegion, readTarget, readText, resolveTarget, show }

const LONGEST_URL = 2048

/** The one exception, for tests and development: these names alone, in this spelling. They are never looked up. */
const LOOPBACK = {
  __proto__: null,
  '127.0.0.1': [{ address: '127.0.0.1', family: 4 }],
  '[::1]': [{ address: '::1', family: 6 }],
  localhost: [{ address: '127.0.0.1', family: 4 }, { address: '::1', family: 6 }],
}

/** The address as a `URL`, if there is only one way to read it. `new URL` alone forgives and repairs far too much. */
function readUrl(text, refuse) {
  if (text === undefined || text === '') refuse('is not set')
  if (text.length > LONGEST_URL) refuse(`is longer than ${LONGEST_URL} bytes`)
  if (!/^[!-~]+$/.test(text)) refuse('has characters other than visible ASCII')
  if (text.includes('\\')) refuse('has a backslash')
  if (text.includes('#')) refuse('has a fragment')
  const [, authority] = /^https?:\/\/([^/?]+)/i.exec(text) ?? refuse('expected https:// and a name')
  // Nothing of it is shown: it may be a password.
  if (authority.includes('@')) refuse('holds a user name or a password')
  const url = URL.canParse(text) ? new URL(text) : refuse('is not an address')
  const host = authority.replace(/:\d{1,5}$/, '').toLowerCase()
  if (host !== url.hostname) refuse(`its host, ${show(host)}, is another one than it looks like`)
  return url
}

function checkPublic(url, refuse) {
  if (url.protocol !== 'https:') refuse('expected https')
  if (isIP(url.hostname.replace(/^\[|\]$/g, ''))) refuse('expected a name, got an IP address')
  if (url.port !== '') refuse(`expected port 443, got ${url.port}`)
  const labels = url.hostname.split('.')
  const isName = url.hostname.length <= 253 && labels.every((label) => /^(?!-)[a-z0-9-]{1,63}(?<!-)$/.test(label))
  if (!isName) refuse(`${show(url.hostname)} is not the name of a host`)
}

/** Names that mean something only inside a network, or that are set apart for other uses. */
const INNER = [
  'alt', 'arpa', 'beta.tailscale.net', 'corp', 'home', 'internal', 'intranet', 'invalid', 'lan', 'local', 'localdomain',
  'localhost', 'onion', 'private', 'test', 'ts.net',
]

/** What a name has to be that nobody has put on the list of `CALLBACK_ORIGINS`. */
function checkName(name, refuse) {
  const labels = name.split('.')
  const isInner = INNER.some((suffix) => name.endsWith(`.${suffix}`))
  if (labels.length < 2 || isInner) refuse(`${show(name)} is a name of an inner network`)
  if (labels.some((label) => label.startsWith('xn--'))) {
    refuse(`${show(name)} stands for letters beyond ASCII, which can look like another name; CALLBACK_ORIGINS can allow it`)
  }
}

/** The origins of `CALLBACK_ORIGINS`; none if it is not set, and then all are allowed. */
function readOrigins(text = '') {
  if (text.trim() === '') return undefined
  const origins = text.split(/[\s,]+/).filter((part) => part !== '').map(readOrigin)
  if (origins.length === 0) throw new InputError('CALLBACK_ORIGINS', 'names no origin')
  return new Set(origins)
}

function readOrigin(text) {
  const { protocol, hostname, origin, href } = URL.canParse(text) ? new URL(text) : {}
  const mayBe = protocol === 'https:' || (protocol === 'http:' && LOOPBACK[hostname])
  // A path would look as if it mattered.
  if (!mayBe || href !== `${origin}/`) {
    throw new InputError('CALLBACK_ORIGINS', `expected origins such as https://app.example, got ${show(text)}`)
  }
  return origin
}

/** IANA's registries of special-purpose addresses, without the few entries that are reachable from everywhere. */
const INNER_IPV4 = [
  ['0.0.0.0', 8], // this network, and the unspecified address
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // shared by carriers; tailnets use it
  ['127.0.0.0', 8], // loopback
  ['169.254.0.0', 16], // link-local, metadata services
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments
  ['192.0.2.0', 24], // documentation
  ['192.31.196.0', 24], // AS112
  ['192.52.193.0', 24], // AMT
  ['192.88.99.0', 24], // 6to4 relays
  ['168.63.129.16', 32], // the platform beneath GitHub's own machines
  ['192.168.0.0', 16], // private
  ['192.175.48.0', 24], // AS112
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, and broadcast
]

/** What is not public within `GLOBAL_IPV6`. */
const INNER_IPV6 = [
  ['2001::', 23], // protocol assignments: Teredo, benchmarks, ORCHID
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4, which holds any IPv4 address
  ['2620:4f:8000::', 48], // AS112
  ['3ffe::', 16], // once a test network
  ['3fff::', 20], // documentation
]

/** All of IPv6 that is handed out, and NAT64, which is how a network without IPv4 reaches it. */
const NAT64 = '64:ff9b::'
const GLOBAL_IPV6 = [['2000::', 3], [NAT64, 96]]

const global = listOf([], GLOBAL_IPV6)
// Behind NAT64 an IPv4 address is as inner as it is itself.
const inner = listOf(INNER_IPV4, [...INNER_IPV6, ...INNER_IPV4.map(([net, bits]) => [`${NAT64}${net}`, 96 + bits])])

function listOf(ipv4, ipv6) {
  const list = new BlockList()
  for (const [net, bits] of ipv4) list.addSubnet(net, bits, 'ipv4')
  for (const [net, bits] of ipv6) list.addSubnet(net, bits, 'ipv6')
  return list
}

/** Whether an address can be reached from everywhere, so that nothing of a private network answers there. */
function isPublic(address) {
  // A zone ties an address to one interface.
  if (typeof address !== 'string' || address.includes('%')) return false
  const family = isIP(address)
  if (family === 4) return !inner.check(address, 'ipv4')
  return family === 6 && global.check(address, 'ipv6') && !inner.check(address, 'ipv6')
}

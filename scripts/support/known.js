'use strict'

// What a call has made by now, as far as its events tell: for whoever is ended in the middle of it, and has to say what may be left.

/** Nothing yet. */
const nothingKnown = () => ({ removed: new Set() })

/** Takes an event in. */
function note(known, { serverId, serverName, serverIp, detail }) {
  Object.assign(known, { name: serverName ?? known.name, id: serverId ?? known.id, ip: serverIp ?? known.ip })
  if (detail?.kind === 'removed') known.removed.add(detail.resource)
}

function describeKnown({ name, id, ip, removed }) {
  if (!name) return 'nothing'
  const server = id ? `server ${id} (${name}, ${ip})` : `a server named ${name}`
  const all = { server, device: 'its device', auth_key: 'its auth key' }
  const left = Object.keys(all).filter((kind) => !removed.has(kind))
  return left.map((kind) => all[kind]).join(', ') || 'nothing'
}

module.exports = { describeKnown, note, nothingKnown }

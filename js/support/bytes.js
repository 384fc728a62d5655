'use strict'

// Bytes, their spellings, and what proves them. Web APIs only.

/**
 * 1 or 0, in a time that depends on the length alone, which is the same for all: no branch and no index comes from the
 * content. `crypto.subtle.verify` would hash the body anew for each pair, and no standard says that it takes constant time.
 */
function isEqual(a, b) {
  let difference = a.length ^ b.length
  for (let at = 0; at < a.length; at += 1) difference |= a.charCodeAt(at) ^ b.charCodeAt(at)
  return Number(difference === 0)
}

async function mac(key, content) {
  const { subtle } = globalThis.crypto
  const imported = await subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
  return new Uint8Array(await subtle.sign('HMAC', imported, content))
}

function concat(chunks) {
  const all = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.length
  }
  return all
}

function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes))
}

function fromBase64(text) {
  // `atob` skips white space, which a secret has only by mistake.
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))
  } catch {
    return undefined
  }
}

module.exports = { concat, fromBase64, isEqual, mac, toBase64, toHex }

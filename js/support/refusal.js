'use strict'

/**
 * The class of what a verifier throws: an error as data, whose `status` is what to answer.
 *
 * Two bundles of one app each have a class of their own; the mark is the same in both.
 */
function refusalClass(name, statuses) {
  const mark = Symbol.for(`provision-vm.${name}`)
  class Refusal extends Error {
    constructor(code, message, data, cause) {
      super(message, cause === undefined ? undefined : { cause })
      Object.assign(this, { code, status: statuses[code], ...data })
    }

    /** `JSON.stringify` leaves out an error's message. */
    toJSON() {
      return { name: this.name, message: this.message, ...this }
    }
  }
  Object.defineProperty(Refusal, 'name', { value: name, configurable: true })
  // On the prototype, where the first line of `stack` finds it.
  Object.defineProperty(Refusal.prototype, 'name', { value: name, writable: true, configurable: true })
  Object.defineProperty(Refusal.prototype, mark, { value: true })
  return { Refusal, isRefusal: (error) => typeof error === 'object' && error?.[mark] === true }
}

module.exports = { refusalClass }

'use strict'

// Loaded before the script: sends it the signal `DIE_BY` as soon as it listens to all of them, which is before its
// native module is loaded and long before its first request.

const { on } = process
process.on = function (name, listener) {
  const result = on.call(this, name, listener)
  if (name === 'SIGTERM') process.kill(process.pid, process.env.DIE_BY)
  return result
}

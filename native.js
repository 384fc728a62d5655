'use strict'

// Loads the native module of this platform: from this folder in a clone, else from the package that npm has chosen for it. Each is named
// in full, within a `try`: so what traces or bundles files for a deployment finds the one that is there, and forgives the others.

/** The platforms that a module is built for. A machine may have modules for both C libraries, of which one fits. */
const MODULES = {
  'linux-x64': [
    () => { try { return require('./provision-vm.linux-x64-gnu.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-linux-x64-gnu') } catch (error) { return note(error) } },
    () => { try { return require('./provision-vm.linux-x64-musl.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-linux-x64-musl') } catch (error) { return note(error) } },
  ],
  'linux-arm64': [
    () => { try { return require('./provision-vm.linux-arm64-gnu.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-linux-arm64-gnu') } catch (error) { return note(error) } },
    () => { try { return require('./provision-vm.linux-arm64-musl.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-linux-arm64-musl') } catch (error) { return note(error) } },
  ],
  'darwin-x64': [
    () => { try { return require('./provision-vm.darwin-x64.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-darwin-x64') } catch (error) { return note(error) } },
  ],
  'darwin-arm64': [
    () => { try { return require('./provision-vm.darwin-arm64.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-darwin-arm64') } catch (error) { return note(error) } },
  ],
  'win32-x64': [
    () => { try { return require('./provision-vm.win32-x64-msvc.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-win32-x64-msvc') } catch (error) { return note(error) } },
  ],
  'win32-arm64': [
    () => { try { return require('./provision-vm.win32-arm64-msvc.node') } catch (error) { return note(error) } },
    () => { try { return require('provision-vm-win32-arm64-msvc') } catch (error) { return note(error) } },
  ],
}

/** Why one could not be loaded that is there, or else that none is. */
let obstacle
function note(error) {
  const isAbsent = /MODULE_NOT_FOUND/.test(error?.code)
  if (!obstacle || (obstacle.isAbsent && !isAbsent)) obstacle = { error, isAbsent }
}

module.exports = load()

function load() {
  const place = `${process.platform}-${process.arch}`
  // Where it lies elsewhere, by the name that modules made with napi-rs have for it.
  const elsewhere = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const ways = elsewhere ? [() => { try { return require(elsewhere) } catch (error) { return note(error) } }] : (MODULES[place] ?? [])
  for (const way of ways) {
    const found = way()
    if (found) return found
  }
  throw new Error(`provision-vm has no native module for this place: ${whyNot(place, Boolean(elsewhere))}`, { cause: obstacle?.error })
}

function whyNot(place, isElsewhere) {
  if (isElsewhere) return 'NAPI_RS_NATIVE_LIBRARY_PATH names one that cannot be loaded; its cause says more'
  if (obstacle && !obstacle.isAbsent) {
    return `the one for ${place} is there, but Node.js ${process.versions.node} cannot or may not load it; its cause says more`
  }
  if (!(place in MODULES)) return `there is none for ${place}, only for Linux, macOS and Windows on x64 and arm64`
  return (
    `the one for ${place} is not installed. npm has it as an optional dependency: install without --omit=optional, ` +
    'and with a lock file that knows this platform. In a clone of the repository, npm run build makes it'
  )
}

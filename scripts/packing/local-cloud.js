'use strict'

// Packs the local cloud for users' tests: a package that they install, and behind it one for each platform, with the program. Apart from
// the package itself, so that no production installs it.

const { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } = require('node:fs')
const path = require('node:path')

const manifest = require('../../package.json')
const { MARK, npmPack, PACKAGES, platformFolders, source, writeManifest } = require('../pack.js')
const { ROOT } = require('../setup.js')
const { linkedCrates, notices } = require('./notices.js')
const { sbom } = require('./sbom.js')

const NAME = 'provision-vm-local-cloud'
const PRODUCT = { name: 'the local cloud of provision-vm', word: 'program' }
const DESCRIPTION = 'A local Hetzner Cloud and Tailscale for the tests of what uses provision-vm'

/** How large a tarball may be as it is published, in bytes. */
const LIMITS = { main: 10_000, platform: 1_200_000 }

/**
 * Packs them, beside what `packAll` has packed or alone, and says the same of each as that does. The one that users install comes last, as
 * it has to be published. In a folder of `programs` each has the name of its target, such as `simulator.x86_64-unknown-linux-gnu`. Without
 * one, what Cargo has built here is packed, or nothing if it has not.
 */
function packLocalCloud({ programs, out: to = PACKAGES, isComplete = false } = {}) {
  const out = path.resolve(to)
  const work = clear(out)
  const platforms = platformFolders(path.join(work, 'npm')).map((platform) => describe(platform, programs))
  const missing = platforms.filter(({ file }) => !file || !existsSync(file))
  if (isComplete && programs && missing.length > 0) {
    throw new Error(`there is no program of the local cloud for ${missing.map(({ platform }) => platform).join(', ')}`)
  }
  const packed = platforms.filter((platform) => !missing.includes(platform)).map((platform) => packPlatform(platform, out))
  return packed.length > 0 ? [...packed, packMain(platforms, work, out)] : []
}

/** Makes a folder to work in. What is there of others is left, and a folder that is none of packages is not touched. */
function clear(out) {
  mkdirSync(out, { recursive: true })
  const there = readdirSync(out)
  if (there.length > 0 && !there.includes(MARK)) throw new Error(`${out} is not a folder of packages: it has ${there[0]}`)
  writeFileSync(path.join(out, MARK), 'What is here is removed when packages are made anew.\n')
  const work = path.join(out, 'local-cloud')
  rmSync(work, { recursive: true, force: true })
  for (const name of there.filter((name) => name.startsWith(`${NAME}-`))) rmSync(path.join(out, name))
  mkdirSync(work)
  return work
}

/** The package of a platform, as napi describes that of its module: for the same systems, under a name of its own. */
function describe({ home, own, target }, programs) {
  const platform = path.basename(home)
  const suffix = platform.startsWith('win32') ? '.exe' : ''
  const { main, files, ...rest } = own
  const renamed = { ...rest, name: `${NAME}-${platform}`, description: `${DESCRIPTION}: the program`, type: manifest.type }
  const built = path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'release', `simulator${suffix}`)
  const file = programs ? path.join(programs, `simulator.${target}${suffix}`) : isHere(own) && built
  return { home, own: renamed, platform, target, program: `simulator${suffix}`, file }
}

/** Whether a package is for the machine that this runs on. */
function isHere({ os, cpu, libc }) {
  const { glibcVersionRuntime } = process.report.getReport().header
  return os.includes(process.platform) && cpu.includes(process.arch) && (libc?.includes(glibcVersionRuntime ? 'glibc' : 'musl') ?? true)
}

function packPlatform({ home, own, target, program, file }, out) {
  copyFileSync(file, path.join(home, program))
  // What a workflow hands from job to job loses it.
  chmodSync(path.join(home, program), 0o755)
  copyFileSync(path.join(ROOT, 'LICENSE'), path.join(home, 'LICENSE'))
  const crates = linkedCrates(target, 'simulator')
  writeFileSync(path.join(home, 'README.md'), `# ${own.name}\n\nThe program of \`${NAME}\` for ${target}, which installs it.\n`)
  writeFileSync(path.join(home, 'THIRD-PARTY-NOTICES.md'), `${notices(target, crates, PRODUCT)}\n`)
  writeFileSync(path.join(out, `${own.name}-${own.version}.cdx.json`), `${JSON.stringify(sbom(own, crates), null, 2)}\n`)
  // Package managers that keep packages zipped have to unpack what is to be run.
  writeManifest(home, { ...own, files: [program, 'THIRD-PARTY-NOTICES.md'], preferUnplugged: true, ...source() })
  return { limit: LIMITS.platform, ...npmPack(home, out) }
}

function packMain(platforms, work, out) {
  const home = path.join(work, NAME)
  mkdirSync(home)
  copyFileSync(path.join(ROOT, 'LICENSE'), path.join(home, 'LICENSE'))
  writeFileSync(path.join(home, 'README.md'), README)
  const { version, license, type, engines } = manifest
  const optionalDependencies = Object.fromEntries(platforms.map(({ own }) => [own.name, version]))
  const own = { name: NAME, version, description: DESCRIPTION, license, type, engines, files: [], optionalDependencies }
  writeManifest(home, { ...own, ...source() })
  return { limit: LIMITS.main, ...npmPack(home, out) }
}

const README = `# ${NAME}

${DESCRIPTION}: the program behind \`provision-vm/local-cloud\`, for \`devDependencies\`, in the same version as \`provision-vm\`.

\`\`\`sh
npm install --save-dev ${NAME}
\`\`\`

\`\`\`js
import { provisionVM } from 'provision-vm'
import { startLocalCloud } from 'provision-vm/local-cloud'

const cloud = await startLocalCloud()
const vm = await provisionVM({ jobId: 'job-42', agentId: '550e8400-e29b', region: 'us-east' }, { env: cloud.env })
await cloud.stop()
\`\`\`

There is no JavaScript in it, and no script runs when it is installed.
`

module.exports = { packLocalCloud }

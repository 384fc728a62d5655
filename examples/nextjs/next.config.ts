import type { NextConfig } from 'next'

const config: NextConfig = {
  // A native module cannot be bundled; Node.js loads it from node_modules when it runs.
  serverExternalPackages: ['provision-vm'],
  // A folder with everything that the server needs, the native module among it, and nothing else.
  output: 'standalone',
  // Where a folder above has a lock file too, Next.js would take that one for the root, and `standalone` would be nested.
  outputFileTracingRoot: import.meta.dirname,
  turbopack: { root: import.meta.dirname },
}

export default config

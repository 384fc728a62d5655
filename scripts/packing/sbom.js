'use strict'

// A bill of materials (CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/) of a native module: what Cargo links into it.

/** The bill for the package of a platform, of the crates that are linked into its module. The same for the same sources. */
function sbom({ name, version }, crates) {
  const purl = (kind, name, version) => `pkg:${kind}/${name}@${version}`
  const root = purl('npm', name, version)
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: { type: 'library', 'bom-ref': root, name, version, purl: root, licenses: [{ license: { id: 'MIT' } }] } },
    components: crates.map((crate) => ({
      type: 'library',
      'bom-ref': purl('cargo', crate.name, crate.version),
      name: crate.name,
      version: crate.version,
      purl: purl('cargo', crate.name, crate.version),
      // Older crates write "MIT/Apache-2.0".
      licenses: [{ expression: crate.license.replace(/\s*\/\s*/g, ' OR ') }],
      ...(crate.repository && { externalReferences: [{ type: 'vcs', url: crate.repository }] }),
    })),
    dependencies: [{ ref: root, dependsOn: crates.map((crate) => purl('cargo', crate.name, crate.version)) }],
  }
}

module.exports = { sbom }

//! TLS: which ciphers are spoken, and which authorities are believed.
//!
//! * rustls with **ring**: no build tools beyond a C compiler, and the first handshake costs 4 ms of processor time where aws-lc costs
//!   55 ms (`facts/napi.md` 6). OpenSSL would share symbols with the one inside Node.
//! * Of ring's ciphers those of **AES-GCM**, and of its curves those of **NIST**: what TLS 1.3 obliges every server to (RFC 8446, 9.1).
//!   `ChaCha20`, `Curve25519` and the keys of clients would be nothing but more to download, and the curve's tables cannot be packed.
//! * Roots from **webpki-roots**, compiled in, as Node does: it works in images without CA files and builds a client in microseconds.
//!   Files named by `NODE_EXTRA_CA_CERTS` and `SSL_CERT_FILE` are added, so that a company's own CA works; a file that cannot be read
//!   is a warning, as in Node.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedCipherSuite};
use webpki::ring as signature;

use super::{TransportError, clean};

/// What a connection is secured with, and what had to be left out of it.
///
/// # Errors
///
/// [`TransportError::Connect`] if the library refuses its own configuration, which no setting can cause.
pub(super) fn config(extra_ca_files: &[PathBuf]) -> Result<(ClientConfig, Vec<String>), TransportError> {
    let (roots, warnings) = roots(extra_ca_files);
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TransportError::Connect { host: "any host".to_owned(), why: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((config, warnings))
}

fn roots(extra_ca_files: &[PathBuf]) -> (RootCertStore, Vec<String>) {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut warnings = Vec::new();
    for file in extra_ca_files {
        match CertificateDer::pem_file_iter(file).map(|certificates| certificates.flatten().collect::<Vec<_>>()) {
            Ok(certificates) if !certificates.is_empty() => {
                let (added, _) = roots.add_parsable_certificates(certificates);
                if added == 0 {
                    warnings.push(format!("no usable certificate in {}", clean(&file.display().to_string())));
                }
            }
            _ => warnings.push(format!("no certificates could be read from {}", clean(&file.display().to_string()))),
        }
    }
    (roots, warnings)
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: CIPHER_SUITES.to_vec(),
        kx_groups: vec![kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &System,
        key_provider: &System,
    }
}

/// In the order of our preference, which is ring's.
const CIPHER_SUITES: [SupportedCipherSuite; 6] = [
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// What certificates are signed with. The library's own list cannot be had without its other ciphers.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        signature::ECDSA_P256_SHA256,
        signature::ECDSA_P256_SHA384,
        signature::ECDSA_P384_SHA256,
        signature::ECDSA_P384_SHA384,
        signature::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        signature::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        signature::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        signature::RSA_PKCS1_2048_8192_SHA256,
        signature::RSA_PKCS1_2048_8192_SHA384,
        signature::RSA_PKCS1_2048_8192_SHA512,
        signature::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        signature::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        signature::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        // TLS 1.2 leaves the curve open; of two TLS 1.3 takes the first.
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[signature::ECDSA_P384_SHA384, signature::ECDSA_P256_SHA384]),
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[signature::ECDSA_P256_SHA256, signature::ECDSA_P384_SHA256]),
        (SignatureScheme::RSA_PSS_SHA512, &[signature::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[signature::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[signature::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[signature::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[signature::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[signature::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// Chance from the operating system, and no keys of clients.
#[derive(Debug)]
struct System;

impl SecureRandom for System {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(buffer).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for System {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("we have no key of our own".to_owned()))
    }
}

//! Where Tailscale comes from on a stock image.

/// The fingerprint of the key that signs Tailscale's Debian repositories (`facts/tailscale-and-first-boot.md` B1: Tailscale
/// does not publish it; it is what those who pin it saw).
pub const SIGNING_KEY: &str = "2596A99EAAB33821893C0A79458CA832957F5868";

/// Where Tailscale comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Package {
    /// Tailscale's signed Debian repository; whatever is newest there. It is trusted only with this signing key.
    Repository {
        /// The key's fingerprint: 40 hexadecimal digits.
        signing_key: String,
    },
    /// The static build of one version, known by its checksums: no package manager, and no updates by it.
    Static {
        /// Such as `1.102.3`.
        version: String,
        /// SHA-256 of the archive for x86: 64 hexadecimal digits.
        amd64: String,
        /// SHA-256 of the archive for Arm.
        arm64: String,
    },
}

impl Default for Package {
    fn default() -> Self {
        Self::Repository { signing_key: SIGNING_KEY.to_owned() }
    }
}

impl Package {
    /// What `join.sh` is told about it.
    pub(super) fn words(&self) -> Vec<&str> {
        match self {
            Self::Repository { signing_key } => vec!["repository", signing_key],
            Self::Static { version, amd64, arm64 } => vec!["static", version, amd64, arm64],
        }
    }
}

/// Whether a text is the fingerprint of a key.
pub fn is_fingerprint(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text is a SHA-256 checksum.
pub fn is_checksum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text is a version of Tailscale's: three numbers.
pub fn is_version(text: &str) -> bool {
    let is_number = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split('.').count() == 3 && text.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_package_is_plain() {
        assert!(is_fingerprint(SIGNING_KEY) && !is_fingerprint("2596") && !is_fingerprint(&"g".repeat(40)));
        assert!(is_checksum(&"aF09".repeat(16)) && !is_checksum(SIGNING_KEY));
        for (text, good) in [("1.102.3", true), ("1.102", false), ("1.a.3", false), ("1..3", false), ("1.2.3.4", false)]
        {
            assert_eq!(is_version(text), good, "{text}");
        }
    }
}

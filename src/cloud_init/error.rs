//! Why no first-boot document could be made.

/// A value that cannot go into a first-boot document. Never quotes a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudInitError {
    /// The host name would be refused by `tailscale up`, and the machine would never join. `INVALID_INPUT`.
    #[error("the host name {0:?} is no DNS label")]
    Hostname(String),
    /// The auth key holds characters that no key has. `CONFIG`.
    #[error("the auth key holds characters that no auth key has")]
    AuthKey,
    /// The address for boot reports, or its token, is none. `INVALID_INPUT`.
    #[error("boot reports cannot be posted to that address with that token")]
    Report,
    /// Hetzner takes at most 32 KiB. `INVALID_INPUT`.
    #[error("the first-boot document has {size} bytes, and Hetzner takes at most {limit}")]
    TooLarge {
        /// Bytes of the document.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The document could not be written as JSON. `INTERNAL`.
    #[error("the first-boot document cannot be written")]
    Unwritable,
}

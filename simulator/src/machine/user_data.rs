//! User data as the Hetzner datasource and cloud-init's front door take it (`facts/tailscale-and-first-boot.md` B2, B3).

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a blob turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UserData {
    /// A `#cloud-config`: the YAML document behind it.
    CloudConfig(String),
    /// A script, which is run as it is.
    Script(String),
}

/// No text that fits into 32 KiB of user data unpacks to more than this, unless it means harm.
const LARGEST: u64 = 8 * 1024 * 1024;

/// Tells what a blob is. The error is why cloud-init ignores it, or why it is not read here.
pub(super) fn open(blob: &str) -> Result<UserData, String> {
    if blob.is_empty() {
        return Err("there is no user data".to_owned());
    }
    // The datasource decodes base64 only if all of it is strict: a line end behind it makes it plain text.
    let text = match STANDARD.decode(blob) {
        Ok(bytes) if bytes.starts_with(&[0x1f, 0x8b]) => gunzip(&bytes)?,
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "what was base64 is no text".to_owned())?,
        Err(_) => blob.to_owned(),
    };
    if text.starts_with('\u{feff}') {
        return Err("a byte order mark stands before the document, so cloud-init takes it for plain text".to_owned());
    }
    let head: String = text.chars().take(4096).collect();
    if head.to_ascii_lowercase().contains("mime-version:") {
        return Err("it goes through the e-mail parser; multipart documents are not supported here".to_owned());
    }
    let start = text.trim_start();
    let first = start.lines().next().unwrap_or_default().trim_end().to_ascii_lowercase();
    if start.starts_with("#!") {
        return Ok(UserData::Script(start.to_owned()));
    }
    for kind in [
        "## template: jinja",
        "#cloud-config-archive",
        "#cloud-config-jsonp",
        "#include",
        "#cloud-boothook",
        "#part-handler",
    ] {
        if first.starts_with(kind) {
            return Err(format!("documents that begin with {kind} are not supported here"));
        }
    }
    if !first.starts_with("#cloud-config") {
        return Err("the first line is not #cloud-config, so cloud-init ignores it".to_owned());
    }
    Ok(UserData::CloudConfig(start.to_owned()))
}

/// Unpacks gzip.
pub(super) fn gunzip(bytes: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes)
        .take(LARGEST)
        .read_to_string(&mut text)
        .map_err(|_| "what should be gzip cannot be unpacked to text".to_owned())?;
    Ok(text)
}

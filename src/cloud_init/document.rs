//! The document itself: `#cloud-config` and one JSON object, which cloud-init reads as YAML.
//!
//! It holds three things: the auth key in a file that only root may read, the join script, and one command that runs
//! the script. The key is in no command line, and the script removes its file.

use serde::Serialize;

use super::CloudInitError;
use crate::secret::Secret;

/// Hetzner's limit for user data, in bytes.
pub const LARGEST: usize = 32 * 1024;

/// Readable by root alone before cloud-init has set any mode: `/root` itself is closed.
const KEY_FILE: &str = "/root/provision-vm/auth-key";
const SCRIPT_FILE: &str = "/root/provision-vm/join.sh";
const SCRIPT: &str = include_str!("join.sh");

/// What a new machine is to do at its first boot.
#[derive(Debug)]
pub struct FirstBoot<'a> {
    /// The key with which it joins.
    pub auth_key: &'a Secret,
    /// The name under which it joins: one DNS label.
    pub hostname: &'a str,
    /// Whether Tailscale is there already.
    pub mode: Mode,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A stock image: install Tailscale from its signed repository, then join.
    Install,
    /// A snapshot that has Tailscale already: join.
    EnrollOnly,
}

#[derive(Serialize)]
struct CloudConfig<'a> {
    hostname: &'a str,
    write_files: [WriteFile<'a>; 2],
    runcmd: [[&'a str; 4]; 1],
}

#[derive(Serialize)]
struct WriteFile<'a> {
    path: &'static str,
    owner: &'static str,
    /// A string: as a number, YAML 1.1 would read it as octal or not, by its version.
    permissions: &'static str,
    content: &'a str,
}

/// The document, as text for `user_data`. A secret as a whole, since it holds the key.
pub fn render(boot: &FirstBoot<'_>) -> Result<Secret, CloudInitError> {
    if !is_dns_label(boot.hostname) {
        return Err(CloudInitError::Hostname(boot.hostname.to_owned()));
    }
    let key = boot.auth_key.expose();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Err(CloudInitError::AuthKey);
    }
    let file = |path, permissions, content| WriteFile { path, owner: "root:root", permissions, content };
    let mode = match boot.mode {
        Mode::Install => "install",
        Mode::EnrollOnly => "enroll",
    };
    let document = CloudConfig {
        hostname: boot.hostname,
        write_files: [file(KEY_FILE, "0600", key), file(SCRIPT_FILE, "0700", SCRIPT)],
        runcmd: [["sh", SCRIPT_FILE, boot.hostname, mode]],
    };
    let json = serde_json::to_string(&document).map_err(|_| CloudInitError::Unwritable)?;
    let text = format!("#cloud-config\n{}\n", escape(&json));
    if text.len() > LARGEST {
        return Err(CloudInitError::TooLarge { size: text.len(), limit: LARGEST });
    }
    Ok(Secret::new(text))
}

/// One label of a host name, as `tailscale up --hostname` takes it.
fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// JSON leaves U+007F to U+009F as they are; YAML refuses the whole document for one of them, or reads U+0085 as a
/// line end. As escapes they are fine in both.
fn escape(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            // All of them are below U+0100, so two digits after the zeros are enough.
            '\u{7f}'..='\u{9f}' => out.extend(["\\u00", &hex(letter)]),
            _ => out.push(letter),
        }
    }
    out
}

fn hex(letter: char) -> String {
    format!("{:02x}", u32::from(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(mode: Mode) -> serde_json::Value {
        let text =
            render(&FirstBoot { auth_key: &Secret::new("tskey-auth-k1-x"), hostname: "agent-a-1", mode }).unwrap();
        let body = text.expose().strip_prefix("#cloud-config\n").expect("the header comes first");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn the_key_is_in_one_closed_file_and_on_no_command_line() {
        for (mode, word) in [(Mode::Install, "install"), (Mode::EnrollOnly, "enroll")] {
            let document = document(mode);
            assert_eq!(document["runcmd"], serde_json::json!([["sh", SCRIPT_FILE, "agent-a-1", word]]));
            assert_eq!(document["write_files"][0]["content"], "tskey-auth-k1-x");
            assert_eq!(document["write_files"][0]["permissions"], "0600");
            assert_eq!(document.to_string().matches("tskey-auth-k1-x").count(), 1);
        }
    }

    #[test]
    fn m20_odd_names_and_keys_are_refused() {
        let key = Secret::new("tskey-auth-k1-x");
        let long = "a".repeat(64);
        for hostname in ["", "-a", "a-", "a.b", "a b", "a\n", "$(id)", "ä", long.as_str()] {
            let boot = FirstBoot { auth_key: &key, hostname, mode: Mode::Install };
            assert!(matches!(render(&boot), Err(CloudInitError::Hostname(_))), "{hostname:?}");
        }
        for key in ["", "tskey auth", "tskey\nauth", "tskey\"", "tskéy"] {
            let key = Secret::new(key);
            let boot = FirstBoot { auth_key: &key, hostname: "a", mode: Mode::Install };
            assert_eq!(render(&boot).err(), Some(CloudInitError::AuthKey));
        }
    }

    #[test]
    fn what_yaml_would_refuse_is_escaped() {
        assert_eq!(escape("a\u{7f}b\u{85}c\u{9f}\u{a0}é😀"), "a\\u007fb\\u0085c\\u009f\u{a0}é😀");
    }

    #[test]
    fn the_script_is_never_taken_for_mail_or_a_template() {
        // cloud-init sends a blob with these bytes through its e-mail parser, or through Jinja (part B2).
        assert!(!SCRIPT.to_ascii_lowercase().contains("mime-version:"));
        assert!(!SCRIPT.contains("template: jinja"));
    }
}

//! The document itself: `#cloud-config` and one JSON object, which cloud-init reads as YAML.
//!
//! It holds three things: the auth key in a file that only root may read, the join script, and one command that runs
//! the script. The key is in no command line, and the script removes its file. What a caller adds comes after them.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use super::CloudInitError;
use super::additions::{Additions, Words};
use super::package::Package;
use super::report::Report;
use crate::secret::Secret;

/// Hetzner's limit for user data, in bytes.
pub const LARGEST: usize = 32 * 1024;
/// Auth keys have about 60 letters.
const LONGEST_KEY: usize = 128;

/// Where everything of ours is.
pub(super) const DIRECTORY: &str = "/root/provision-vm/";
/// Readable by root alone before cloud-init has set any mode: `/root` itself is closed.
const KEY_FILE: &str = "/root/provision-vm/auth-key";
const SCRIPT_FILE: &str = "/root/provision-vm/join.sh";
/// A snapshot of a machine that had joined brings who that was.
const FORGET: [&str; 6] = ["cloud-init-per", "instance", "provision-vm-forget", "rm", "-rf", "/var/lib/tailscale"];
const REPORT_FILE: &str = "/root/provision-vm/report";
const SCRIPT: &str = include_str!("join.sh");

/// What a new machine is to do at its first boot.
#[derive(Debug)]
pub struct FirstBoot<'a> {
    /// The key with which it joins.
    pub auth_key: &'a Secret,
    /// The name under which it joins: one DNS label.
    pub hostname: &'a str,
    /// Whether Tailscale is there already.
    pub mode: Mode<'a>,
    /// Where it says how far it has come, if anybody wants to hear.
    pub report: Option<&'a Report>,
    /// What the caller adds.
    pub additions: &'a Additions,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode<'a> {
    /// A stock image: install Tailscale, then join.
    Install(&'a Package),
    /// A snapshot that has Tailscale already: join.
    EnrollOnly,
}

#[derive(Serialize)]
struct CloudConfig<'a> {
    hostname: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bootcmd: Vec<Words<'a>>,
    write_files: Vec<WriteFile<'a>>,
    runcmd: Vec<Words<'a>>,
}

#[derive(Serialize)]
pub(super) struct WriteFile<'a> {
    path: Cow<'a, str>,
    owner: &'static str,
    /// A string: as a number, YAML 1.1 would read it as octal or not, by its version.
    permissions: &'a str,
    content: &'a str,
}

impl<'a> WriteFile<'a> {
    pub(super) fn new(path: impl Into<Cow<'a, str>>, permissions: &'a str, content: &'a str) -> Self {
        Self { path: path.into(), owner: "root:root", permissions, content }
    }
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
    let mode = match boot.mode {
        Mode::Install(package) => package.words(),
        Mode::EnrollOnly => vec!["enroll"],
    };
    let report = boot.report.map(|report| report.curl_config().ok_or(CloudInitError::Report)).transpose()?;
    let join = ["sh", SCRIPT_FILE, boot.hostname].into_iter().chain(mode).map(Cow::Borrowed);
    let join = Words(join.collect());
    let added = boot.additions.commands();
    let mut runcmd: Vec<Words<'_>> = if boot.additions.before_join {
        added.into_iter().chain([join]).collect()
    } else {
        std::iter::once(join).chain(added).collect()
    };
    runcmd.extend(boot.additions.last());
    let document = CloudConfig {
        hostname: boot.hostname,
        // Before the daemon starts, and for this machine once. What cloud-init runs it with is there in every version.
        bootcmd: match boot.mode {
            Mode::Install(_) => Vec::new(),
            Mode::EnrollOnly => vec![Words(FORGET.map(Cow::Borrowed).into())],
        },
        write_files: [WriteFile::new(KEY_FILE, "0600", key), WriteFile::new(SCRIPT_FILE, "0700", SCRIPT)]
            .into_iter()
            .chain(report.as_deref().map(|report| WriteFile::new(REPORT_FILE, "0600", report)))
            .chain(boot.additions.write_files())
            .collect(),
        runcmd,
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

/// Whether a document with these additions fits, whatever key it will get.
pub fn check(boot: &FirstBoot<'_>) -> Result<(), CloudInitError> {
    let auth_key = &Secret::new("k".repeat(LONGEST_KEY));
    render(&FirstBoot { auth_key, ..*boot }).map(drop)
}

/// JSON leaves everything beyond ASCII as it is; YAML refuses the whole document for some of it (U+007F, U+FFFE), and reads
/// other letters as line ends (U+0085, U+2028), which ends a document at `---`. As escapes all of them are fine in both. What is
/// beyond U+FFFF is plain to YAML, and as a pair of escapes it would not be.
fn escape(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            // Writing to a text cannot fail.
            '\u{7f}'..='\u{ffff}' => drop(write!(out, "\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::Value;

    use super::super::SIGNING_KEY;
    use super::super::additions::{Command, File, Owner, User};
    use super::*;

    fn document(mode: Mode<'_>, additions: &Additions) -> Value {
        let auth_key = &Secret::new("tskey-auth-k1-x");
        let text = render(&FirstBoot { auth_key, hostname: "agent-a-1", mode, report: None, additions }).unwrap();
        let body = text.expose().strip_prefix("#cloud-config\n").expect("the header comes first");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn the_key_is_in_one_closed_file_and_on_no_command_line() {
        let sums = ("a".repeat(64), "b".repeat(64));
        let built = Package::Static { version: "1.102.3".into(), amd64: sums.0.clone(), arm64: sums.1.clone() };
        for (mode, words) in [
            (Mode::Install(&Package::default()), vec!["repository", SIGNING_KEY]),
            (Mode::Install(&built), vec!["static", "1.102.3", &sums.0, &sums.1]),
            (Mode::EnrollOnly, vec!["enroll"]),
        ] {
            let document = document(mode, &Additions::default());
            let command: Vec<&str> = ["sh", SCRIPT_FILE, "agent-a-1"].into_iter().chain(words).collect();
            assert_eq!(document["runcmd"], serde_json::json!([command]));
            assert_eq!(document["bootcmd"].is_null(), mode != Mode::EnrollOnly, "only a snapshot brings an identity");
            assert_eq!(document["write_files"][0]["content"], "tskey-auth-k1-x");
            assert_eq!(document["write_files"][0]["permissions"], "0600");
            assert_eq!(document.to_string().matches("tskey-auth-k1-x").count(), 1);
        }
    }

    #[test]
    fn what_a_caller_adds_comes_after_the_join_and_cannot_spoil_it() {
        let owner = Owner { user: "app".into(), group: "www-data".into() };
        let file =
            File { path: "/etc/app".into(), content: Secret::new("a: 'b'\n"), permissions: "0640".into(), owner };
        let ssh_keys = vec!["ssh-ed25519 AAAA me@here".to_owned()];
        let groups = vec!["adm".to_owned(), "docker".to_owned()];
        let additions = Additions {
            before_join: false,
            users: vec![User { name: "app".into(), ssh_keys, groups, sudo: true, shell: "/bin/bash".into() }],
            packages: vec!["nginx".into(), "jq=1.6-2".into()],
            files: vec![file],
            commands: vec![
                Command::Text("echo 'unbalanced".into()),
                Command::Words(vec!["touch".into(), "/tmp/$(id)".into()]),
            ],
            hardening: true,
        };
        let of_join = ["sh", SCRIPT_FILE, "agent-a-1", "enroll"];
        let added = serde_json::json!([
            ["sh", "/root/provision-vm/user.sh", "app", "/bin/bash", "adm,docker", "sudo", "ssh-ed25519 AAAA me@here"],
            ["install", "-D", "-m", "0640", "--", "/root/provision-vm/files/0", "/etc/app"],
            ["rm", "-rf", "/root/provision-vm/files"],
            ["sh", "/root/provision-vm/packages.sh", "nginx", "jq=1.6-2"],
            ["chown", "--", "app:www-data", "/etc/app"],
            ["sh", "-c", "echo 'unbalanced"],
            ["sh", "-c", "exec \"$0\" \"$@\"", "touch", "/tmp/$(id)"],
        ]);
        let last = serde_json::json!(["sh", "/root/provision-vm/harden.sh"]);
        let document = document(Mode::EnrollOnly, &additions);
        let added = added.as_array().unwrap();
        let order = |before: &[Value], after: &[Value]| {
            Value::from([before, &[serde_json::json!(of_join)], after, std::slice::from_ref(&last)].concat())
        };
        assert_eq!(document["runcmd"], order(&[], added));
        let first = self::document(Mode::EnrollOnly, &Additions { before_join: true, ..additions.clone() });
        assert_eq!(first["runcmd"], order(added, &[]));
        let files = document["write_files"].as_array().unwrap();
        let files: Vec<_> = files.iter().map(|file| (file["path"].as_str(), file["permissions"].as_str())).collect();
        let ours = [(KEY_FILE, "0600"), (SCRIPT_FILE, "0700"), ("/root/provision-vm/files/0", "0600")];
        let scripts = ["user", "packages", "harden"].map(|name| format!("/root/provision-vm/{name}.sh"));
        let ours = ours.into_iter().chain(scripts.iter().map(|script| (script.as_str(), "0700")));
        assert_eq!(files, ours.map(|(path, mode)| (Some(path), Some(mode))).collect::<Vec<_>>());
        assert_eq!(document["write_files"][2]["content"], "a: 'b'\n");
        assert!(document.get("packages").is_none(), "cloud-init would install them before the join");
        assert!(!format!("{additions:?}").contains("a: 'b'"), "a file may hold a secret");
    }

    #[test]
    fn what_does_not_fit_is_refused_before_there_is_a_key() {
        let file = |size| File {
            path: "/a".into(),
            content: Secret::new("x".repeat(size)),
            permissions: "0600".into(),
            owner: Owner::default(),
        };
        let with = |size| Additions { files: vec![file(size)], ..Additions::default() };
        let (auth_key, package) = (&Secret::new(""), Package::default());
        let check = |additions: &Additions| {
            check(&FirstBoot { auth_key, hostname: "a", mode: Mode::Install(&package), report: None, additions })
        };
        assert_eq!(check(&with(12_000)), Ok(()));
        let found = check(&with(LARGEST));
        assert!(matches!(found, Err(CloudInitError::TooLarge { .. })), "{found:?}");
    }

    #[test]
    fn m20_odd_names_and_keys_are_refused() {
        fn boot(auth_key: &Secret) -> FirstBoot<'_> {
            static NONE: LazyLock<Additions> = LazyLock::new(Additions::default);
            FirstBoot { auth_key, hostname: "a", mode: Mode::EnrollOnly, report: None, additions: &NONE }
        }
        let key = Secret::new("tskey-auth-k1-x");
        let long = "a".repeat(64);
        for hostname in ["", "-a", "a-", "a.b", "a b", "a\n", "$(id)", "ä", long.as_str()] {
            let boot = FirstBoot { hostname, ..boot(&key) };
            assert!(matches!(render(&boot), Err(CloudInitError::Hostname(_))), "{hostname:?}");
        }
        for key in ["", "tskey auth", "tskey\nauth", "tskey\"", "tskéy"] {
            let key = Secret::new(key);
            assert_eq!(render(&boot(&key)).err(), Some(CloudInitError::AuthKey));
        }
    }

    #[test]
    fn what_yaml_would_refuse_is_escaped() {
        assert_eq!(escape("a\u{7f}\u{85}é\u{2028}\u{fffe}😀"), "a\\u007f\\u0085\\u00e9\\u2028\\ufffe😀");
    }

    #[test]
    fn the_script_is_never_taken_for_mail_or_a_template() {
        // cloud-init sends a blob with these bytes through its e-mail parser, or through Jinja (part B2).
        assert!(!SCRIPT.to_ascii_lowercase().contains("mime-version:"));
        assert!(!SCRIPT.contains("template: jinja"));
    }
}

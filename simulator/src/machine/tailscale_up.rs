//! `tailscale up` and its flags (`facts/tailscale-and-first-boot.md` B1): what it would try, or why it refuses at once.

use super::shell::UNKNOWN;
use super::system::System;

/// What a machine joins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub auth_key: String,
    pub hostname: String,
}

const WITH_VALUE: [&str; 21] = [
    "accept-risk",
    "advertise-routes",
    "advertise-tags",
    "audience",
    "auth-key",
    "authkey",
    "client-id",
    "client-secret",
    "exit-node",
    "hostname",
    "id-token",
    "login-server",
    "netfilter-mode",
    "nickname",
    "operator",
    "qr-format",
    "relay-server-port",
    "socket",
    "state",
    "timeout",
    "tun",
];
const SWITCHES: [&str; 17] = [
    "accept-dns",
    "accept-routes",
    "advertise-connector",
    "advertise-exit-node",
    "exit-node-allow-lan-access",
    "force-reauth",
    "host-routes",
    "json",
    "qr",
    "report-posture",
    "reset",
    "shields-up",
    "snat-subnet-routes",
    "ssh",
    "stateful-filtering",
    "unattended",
    "webclient",
];

/// Reads the words behind `tailscale up`.
pub(super) fn read(system: &System, words: &[String]) -> Result<Join, String> {
    let (mut key, mut hostname) = (None, String::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|flag| !flag.is_empty())
        else {
            return Err(format!("`tailscale up` takes no arguments but flags, and is given {word:?}"));
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
        if SWITCHES.contains(&name) {
            continue;
        }
        if !WITH_VALUE.contains(&name) {
            return Err(format!("flag provided but not defined: -{name}"));
        }
        let value =
            value.or_else(|| words.next().cloned()).ok_or_else(|| format!("flag needs an argument: -{name}"))?;
        match name {
            "auth-key" | "authkey" => key = Some(value),
            "hostname" => hostname = value,
            "timeout" if !is_duration(&value) => return Err(format!("{value:?} is no length of time")),
            "login-server" if !value.contains("tailscale.com") => {
                return Err("it joins by another control server".to_owned());
            }
            _ => {}
        }
    }
    let auth_key = auth_key(system, &key.ok_or("`tailscale up` is given no auth key and waits for a person")?)?;
    // Without a name, tailscaled reports the machine's own.
    let hostname = if hostname.is_empty() { system.hostname.clone() } else { hostname };
    if hostname.contains(UNKNOWN) {
        return Err("the host name cannot be told without running the script".to_owned());
    }
    let name = hostname.strip_suffix('.').unwrap_or(&hostname);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("tailscale refuses the host name {hostname:?}"));
    }
    Ok(Join { auth_key, hostname })
}

fn auth_key(system: &System, value: &str) -> Result<String, String> {
    let key = match value.strip_prefix("file:") {
        Some(path) => {
            let file = system.file(path).ok_or_else(|| format!("no file {path}, where the auth key should be"))?;
            file.text.as_deref().ok_or_else(|| format!("nobody knows what {path} holds"))?.trim()
        }
        None => value,
    };
    if key.contains(UNKNOWN) {
        return Err("the auth key cannot be told without running the script".to_owned());
    }
    match key.strip_prefix("tskey-auth-") {
        Some(rest) if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(key.to_owned()),
        _ if key.is_empty() => Err("the auth key is empty".to_owned()),
        _ if key.starts_with("tskey-client-") => Err("an OAuth client's secret is no auth key".to_owned()),
        _ => Err("invalid key: what is given as the auth key is none".to_owned()),
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// As Go reads one: `120s`, `1m30s`, `0`.
fn is_duration(text: &str) -> bool {
    if text == "0" || text.contains(UNKNOWN) {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let number =
            rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.').len();
        let unit = ["ms", "us", "ns", "h", "m", "s"].into_iter().find(|unit| rest[number..].starts_with(unit));
        match unit {
            Some(unit) if number > 0 => rest = &rest[number + unit.len()..],
            _ => return false,
        }
    }
    !text.is_empty()
}

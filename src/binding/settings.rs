//! Settings from `process.env`, as JavaScript saw it at the call (design 2.4). Nothing here asks the process itself: a
//! worker thread has an environment of its own, which `std::env` does not see.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::input::Options;
use crate::provision::settings::{
    BaseUrl, BaseUrlError, Credentials, HETZNER_URL, IdOrName, Network, Proxy, Reporting, TAILSCALE_URL,
    is_report_secret, is_report_url,
};
use crate::provision::{Cause, Settings, Source, USUAL_IMAGE, USUAL_SERVER_TYPES, USUAL_TIMEOUT};
use crate::secret::Secret;

/// Every variable that is read; `index.js` passes these and no others.
pub(super) const NAMES: [&str; 23] = [
    "HETZNER_API_TOKEN",
    "HETZNER_SSH_KEY_ID",
    "HETZNER_SNAPSHOT_ID",
    "HETZNER_API_URL",
    "TAILSCALE_OAUTH_CLIENT_ID",
    "TAILSCALE_OAUTH_CLIENT_SECRET",
    "TAILSCALE_AUTH_KEY",
    "TAILSCALE_API_URL",
    "BOOT_REPORT_URL",
    "BOOT_REPORT_SECRET",
    "PROVISION_TIMEOUT_SECONDS",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "PROVISION_VM_LOG",
    "RUST_LOG",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// The longest value that is looked at.
const LONGEST: usize = 16 * 1024;

/// Options that stand for a variable, and win over it.
const OPTIONS: [(&str, &str); 10] = [
    ("hetznerToken", "HETZNER_API_TOKEN"),
    ("sshKeys", "HETZNER_SSH_KEY_ID"),
    ("snapshotId", "HETZNER_SNAPSHOT_ID"),
    ("hetznerApiUrl", "HETZNER_API_URL"),
    ("tailscaleClientId", "TAILSCALE_OAUTH_CLIENT_ID"),
    ("tailscaleClientSecret", "TAILSCALE_OAUTH_CLIENT_SECRET"),
    ("tailscaleAuthKey", "TAILSCALE_AUTH_KEY"),
    ("tailscaleApiUrl", "TAILSCALE_API_URL"),
    ("bootReportUrl", "BOOT_REPORT_URL"),
    ("bootReportSecret", "BOOT_REPORT_SECRET"),
];

/// The names of the options that stand for a variable.
pub(super) fn option_names() -> impl Iterator<Item = &'static str> {
    OPTIONS.into_iter().map(|(option, _)| option)
}

/// The environment of one call, with the options that stand for a variable. Empty variables count as absent, as they do
/// where a workflow passes a missing secret on.
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
    /// What options have set.
    overridden: Vec<&'static str>,
}

impl Environment {
    pub(super) fn read(value: Option<&Value>) -> Result<Self, Cause> {
        let mut variables = BTreeMap::new();
        for (name, value) in value.and_then(Value::as_object).into_iter().flatten() {
            match value {
                Value::Null => {}
                Value::String(text) if text.len() <= LONGEST => {
                    let text = text.trim();
                    if !text.is_empty() {
                        variables.insert(name.clone(), text.to_owned());
                    }
                }
                Value::String(_) => return Err(refuse(name, "is longer than 16 KiB")),
                _ => return Err(refuse(name, "must be a string")),
            }
        }
        Ok(Self { variables, overridden: Vec::new() })
    }

    /// Lets the options that stand for a variable win.
    pub(super) fn overlay(mut self, options: Option<&Value>) -> Result<Self, Cause> {
        for (option, variable) in OPTIONS {
            let Some(value) = options.and_then(|options| options.get(option)).filter(|value| !value.is_null()) else {
                continue;
            };
            let refuse = |why: &str| Err(Cause::Input { field: format!("options.{option}"), why: why.to_owned() });
            let text = match (option, value) {
                ("sshKeys", Value::Array(keys)) => {
                    keys.iter().map(key_text).collect::<Option<Vec<_>>>().map(|k| k.join(","))
                }
                ("snapshotId", Value::Number(id)) => Some(id.to_string()),
                ("sshKeys", _) => None,
                _ => value.as_str().map(str::to_owned),
            };
            match text.map(|text| text.trim().to_owned()) {
                None if option == "sshKeys" => return refuse("expected an array of ids or names of SSH keys"),
                None => return refuse("expected a string"),
                Some(text) if text.is_empty() => return refuse("must not be empty"),
                Some(text) if text.len() > LONGEST => return refuse("is longer than 16 KiB"),
                Some(text) => {
                    self.variables.insert(variable.to_owned(), text);
                    self.overridden.push(variable);
                }
            }
        }
        Ok(self)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A complaint that names where a value came from.
    fn refuse(&self, name: &str, why: impl Into<String>) -> Cause {
        let option = OPTIONS.iter().find(|(_, variable)| *variable == name && self.overridden.contains(variable));
        match option {
            Some((option, _)) => Cause::Input { field: format!("options.{option}"), why: why.into() },
            None => refuse(name, why),
        }
    }

    /// The first of these that is set, with its name.
    fn first(&self, names: &[&'static str]) -> Option<(&'static str, &str)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    /// A value that is sent in a header or a form, so it must be visible ASCII. Never quoted in a complaint.
    fn visible(&self, name: &str) -> Result<Option<&str>, Cause> {
        match self.get(name) {
            Some(text) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(self.refuse(name, "holds blanks, line breaks or characters outside ASCII"))
            }
            found => Ok(found),
        }
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, Cause> {
        Ok(self.visible(name)?.map(Secret::new))
    }

    fn url(&self, name: &str, usual: &str, is_needed: bool) -> Result<BaseUrl, Cause> {
        BaseUrl::parse(self.get(name).filter(|_| is_needed).unwrap_or(usual))
            .map_err(|error| self.refuse(name, error.to_string()))
    }
}

/// An SSH key as it stands in the variable, in which commas part them.
fn key_text(key: &Value) -> Option<String> {
    match key {
        Value::Number(id) if id.as_u64().is_some() => Some(id.to_string()),
        Value::String(name) if !name.trim().is_empty() && !name.contains(',') => Some(name.clone()),
        _ => None,
    }
}

fn refuse(setting: &str, why: impl Into<String>) -> Cause {
    Cause::Setting { setting: setting.to_owned(), why: why.into() }
}

/// What the settings are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Making a machine.
    Provision,
    /// Looking after what is there.
    Reap,
    /// A single operation at Hetzner.
    Hetzner,
    /// A single operation at Tailscale.
    Tailscale,
    /// Looking what a machine would be made of.
    Plan,
    /// Looking at the SSH keys that an order names.
    Keys,
    /// Looking at the image that an order names.
    Image,
    /// Making auth keys, or taking the one that is given.
    AuthKey,
    /// Nothing that needs a setting.
    Nothing,
}

impl Purpose {
    fn needs_hetzner(self) -> bool {
        !matches!(self, Self::Tailscale | Self::AuthKey | Self::Nothing)
    }

    fn needs_tailscale(self) -> bool {
        matches!(self, Self::Provision | Self::Reap | Self::Tailscale | Self::AuthKey)
    }

    /// Whether what a machine is made of is needed.
    fn orders(self) -> bool {
        matches!(self, Self::Provision | Self::Plan)
    }

    fn needs_keys(self) -> bool {
        self.orders() || self == Self::Keys
    }

    fn needs_image(self) -> bool {
        self.orders() || self == Self::Image
    }

    fn needs_auth_key(self) -> bool {
        self.orders() || self == Self::AuthKey
    }
}

/// Reads and checks everything; a missing setting is named together with all others that are missing.
pub(super) fn read(environment: &Environment, options: Options, purpose: Purpose) -> Result<Settings, Cause> {
    require(environment, purpose)?;
    // What a call does not use cannot be wrong for it.
    let snapshot = environment.get("HETZNER_SNAPSHOT_ID").filter(|_| purpose.needs_image());
    let source = match (snapshot, options.image) {
        (Some(_), Some(_)) => {
            let why = "cannot be given together with a snapshot (HETZNER_SNAPSHOT_ID, snapshotId)".to_owned();
            return Err(Cause::Input { field: "options.image".to_owned(), why });
        }
        (Some(id), None) => match IdOrName::parse(id) {
            id @ IdOrName::Id(_) => Source::Snapshot(id),
            IdOrName::Name(_) => {
                return Err(environment.refuse("HETZNER_SNAPSHOT_ID", "must be the number of a snapshot"));
            }
        },
        (None, image) => Source::Image(IdOrName::parse(image.as_deref().unwrap_or(USUAL_IMAGE))),
    };
    Ok(Settings {
        hetzner_url: environment.url("HETZNER_API_URL", HETZNER_URL, purpose.needs_hetzner())?,
        hetzner_token: if purpose.needs_hetzner() { hetzner_token(environment)? } else { Secret::new("") },
        ssh_keys: if purpose.needs_keys() { ssh_keys(environment)? } else { Vec::new() },
        tailscale_url: environment.url("TAILSCALE_API_URL", TAILSCALE_URL, purpose.needs_tailscale())?,
        tailscale_credentials: if purpose.needs_tailscale() { credentials(environment)? } else { no_credentials() },
        auth_key: if purpose.needs_auth_key() { auth_key(environment)? } else { None },
        allow_reusable_auth_key: options.allow_reusable_auth_key,
        source,
        server_types: options
            .server_types
            .unwrap_or_else(|| USUAL_SERVER_TYPES.iter().map(|name| (*name).to_owned()).collect()),
        ephemeral: options.ephemeral.unwrap_or(true),
        extras: options.extras,
        strict_region: options.strict_region,
        timeout: match options.timeout {
            Some(timeout) => timeout,
            None => timeout(environment)?,
        },
        lifetime: match (options.lifetime, timeout(environment)) {
            (Some(lifetime), _) => lifetime,
            // A variable that an option stands for is not looked at.
            (None, Err(_)) if options.timeout.is_some() => USUAL_TIMEOUT,
            (None, variable) => variable?,
        },
        reach: options.reach,
        report: if purpose.orders() { reporting(environment)? } else { None },
        run: options.run,
        warnings: options.warnings,
    })
}

fn require(environment: &Environment, purpose: Purpose) -> Result<(), Cause> {
    let needed = [
        ("HETZNER_API_TOKEN", purpose.needs_hetzner()),
        ("HETZNER_SSH_KEY_ID", purpose.needs_keys()),
        ("TAILSCALE_OAUTH_CLIENT_ID", purpose.needs_tailscale()),
        ("TAILSCALE_OAUTH_CLIENT_SECRET", purpose.needs_tailscale() && identity_issuer(environment).is_none()),
    ];
    let needed = needed.into_iter().filter_map(|(name, is_needed)| is_needed.then_some(name));
    let missing: Vec<&str> = needed.filter(|name| environment.get(name).is_none()).collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(refuse(one, "is not set")),
        [first, rest @ ..] => Err(refuse(first, format!("is not set, and neither is {}", rest.join(", ")))),
    }
}

fn hetzner_token(environment: &Environment) -> Result<Secret, Cause> {
    const NAME: &str = "HETZNER_API_TOKEN";
    environment.secret(NAME)?.ok_or_else(|| refuse(NAME, "is not set"))
}

fn no_credentials() -> Credentials {
    Credentials::OAuth { client_id: String::new(), client_secret: Secret::new("") }
}

fn ssh_keys(environment: &Environment) -> Result<Vec<IdOrName>, Cause> {
    const NAME: &str = "HETZNER_SSH_KEY_ID";
    let list = environment.get(NAME).unwrap_or_default();
    let key = |text: &str| {
        let text = text.trim();
        let sound = !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control);
        sound
            .then(|| IdOrName::parse(text))
            .ok_or_else(|| environment.refuse(NAME, "must be ids or names of SSH keys, with commas between"))
    };
    list.split(',').map(key).collect()
}

/// Where GitHub offers an identity token to a job that asked for one.
fn identity_issuer(environment: &Environment) -> Option<(&str, &str)> {
    environment.get("ACTIONS_ID_TOKEN_REQUEST_URL").zip(environment.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"))
}

fn credentials(environment: &Environment) -> Result<Credentials, Cause> {
    const ID: &str = "TAILSCALE_OAUTH_CLIENT_ID";
    let client_id = environment.visible(ID)?.ok_or_else(|| refuse(ID, "is not set"))?.to_owned();
    if let Some(client_secret) = environment.secret("TAILSCALE_OAUTH_CLIENT_SECRET")? {
        return Ok(Credentials::OAuth { client_id, client_secret });
    }
    // Without a stored secret the job's own identity is the credential.
    let Some((url, _)) = identity_issuer(environment) else {
        return Err(refuse("TAILSCALE_OAUTH_CLIENT_SECRET", "is not set"));
    };
    let complain = |error: BaseUrlError| refuse("ACTIONS_ID_TOKEN_REQUEST_URL", error.to_string());
    let issuer = BaseUrl::parse_with_query(url).map_err(complain)?;
    let name = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
    let issuer_token = environment.secret(name)?.ok_or_else(|| refuse(name, "is not set"))?;
    Ok(Credentials::Federated { client_id, issuer, issuer_token })
}

fn auth_key(environment: &Environment) -> Result<Option<Secret>, Cause> {
    const NAME: &str = "TAILSCALE_AUTH_KEY";
    let key = environment.secret(NAME)?;
    match &key {
        Some(key) if !key.expose().starts_with("tskey-auth-") => {
            Err(environment.refuse(NAME, "must begin with tskey-auth-"))
        }
        _ => Ok(key),
    }
}

/// Where machines report, and what their tokens are made with: both, or neither.
fn reporting(environment: &Environment) -> Result<Option<Reporting>, Cause> {
    const URL: &str = "BOOT_REPORT_URL";
    const SECRET: &str = "BOOT_REPORT_SECRET";
    let (url, secret) = match (environment.get(URL), environment.secret(SECRET)?) {
        (None, None) => return Ok(None),
        (Some(url), Some(secret)) => (url, secret),
        (Some(_), None) => return Err(environment.refuse(URL, "is set without BOOT_REPORT_SECRET (bootReportSecret)")),
        (None, Some(_)) => return Err(environment.refuse(SECRET, "is set without BOOT_REPORT_URL (bootReportUrl)")),
    };
    BaseUrl::parse_with_query(url).map_err(|error| environment.refuse(URL, error.to_string()))?;
    if !is_report_url(url) {
        let why = "must be at most 1024 letters of ASCII, without quotes, backslashes, braces, brackets and fragment";
        return Err(environment.refuse(URL, why));
    }
    if !is_report_secret(&secret) {
        return Err(environment.refuse(SECRET, "must have at least 16 bytes, after whsec_ in base64"));
    }
    // As it was given: a machine's curl reads it anew, and follows nothing.
    Ok(Some(Reporting { url: url.to_owned(), secret }))
}

fn timeout(environment: &Environment) -> Result<Duration, Cause> {
    const NAME: &str = "PROVISION_TIMEOUT_SECONDS";
    let Some(text) = environment.get(NAME) else { return Ok(USUAL_TIMEOUT) };
    let seconds = text.parse::<u32>().ok().filter(|seconds| (1..=86_400).contains(seconds));
    let seconds = seconds.ok_or_else(|| refuse(NAME, "must be a whole number of seconds between 1 and 86400"))?;
    Ok(Duration::from_secs(seconds.into()))
}

/// Proxies and further certificate authorities, by the names that curl and Node know.
pub(super) fn network(environment: &Environment) -> Result<Network, Cause> {
    let proxy = |names: &[&'static str]| match environment.first(names) {
        None => Ok(None),
        Some((name, text)) => {
            Proxy::parse(text).map(Some).ok_or_else(|| refuse(name, "is not the address of an http: or https: proxy"))
        }
    };
    Ok(Network {
        proxy: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
        no_proxy: environment.first(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list.to_owned()),
        extra_ca_files: ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"]
            .into_iter()
            .filter_map(|name| environment.get(name).map(PathBuf::from))
            .collect(),
    })
}

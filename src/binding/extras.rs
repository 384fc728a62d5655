//! The options that say what a machine is to have beyond the usual. Every complaint names its path.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::fields::{Fields, LARGEST_ID, is_plain};
use crate::provision::settings::{
    Additions, Attachments, Command, Extras, File, FirewallRef, Labels, Owner, Package, PublicNet, User, is_checksum,
    is_fingerprint, is_label_key, is_label_value, is_package, is_path, is_permissions, is_ssh_key, is_user, is_version,
};
use crate::provision::{Cause, is_own_label};
use crate::secret::Secret;

/// The names of these options.
pub(super) const KNOWN: [&str; 11] = [
    "location",
    "locations",
    "labels",
    "tags",
    "firewalls",
    "networks",
    "placementGroup",
    "publicNet",
    "userData",
    "serverType",
    "tailscalePackage",
];

const MOST_LOCATIONS: usize = 10;
const MOST_LABELS: usize = 50;
const MOST_TAGS: usize = 20;
/// What Hetzner lets one server have (`facts/hetzner.md` 4).
const MOST_FIREWALLS: usize = 5;
const MOST_NETWORKS: usize = 3;
const MOST_ADDITIONS: usize = 100;

pub(super) fn read(fields: &Fields<'_>) -> Result<Extras, Cause> {
    let attachments = Attachments {
        firewalls: ids(fields, "firewalls", MOST_FIREWALLS)?
            .into_iter()
            .map(|firewall| FirewallRef { firewall })
            .collect(),
        networks: ids(fields, "networks", MOST_NETWORKS)?,
        placement_group: fields.whole("placementGroup", 1, LARGEST_ID)?,
        public_net: public_net(fields)?,
    };
    if !attachments.public_net.enable_ipv4 && !attachments.public_net.enable_ipv6 && attachments.networks.is_empty() {
        return Err(fields.refuse("publicNet", "a server without public addresses needs one of options.networks"));
    }
    Ok(Extras {
        locations: locations(fields)?,
        labels: labels(fields)?,
        tags: tags(fields)?,
        attachments,
        package: package(fields)?,
        additions: additions(fields)?,
    })
}

/// What of it decides on the first-boot document; nothing else is taken.
pub(super) fn first_boot(fields: &Fields<'_>) -> Result<(Package, Additions), Cause> {
    fields.refuse_unknown(&["userData", "tailscalePackage"])?;
    Ok((package(fields)?, additions(fields)?))
}

fn locations(fields: &Fields<'_>) -> Result<Vec<String>, Cause> {
    let one = fields.text("location")?;
    let several = fields.set("locations", MOST_LOCATIONS, "the name of a location", |value| {
        value.as_str().filter(|name| is_plain(name)).map(str::to_owned)
    })?;
    match (one, several) {
        (Some(_), Some(_)) => Err(fields.refuse("location", "cannot be given together with options.locations")),
        (Some(name), None) if is_plain(&name) => Ok(vec![name]),
        (Some(_), None) => Err(fields.refuse("location", "must be the name of a location")),
        (None, several) => Ok(several.unwrap_or_default()),
    }
}

fn labels(fields: &Fields<'_>) -> Result<Labels, Cause> {
    let Some(given) = fields.object("labels")? else { return Ok(Labels::new()) };
    if given.len() > MOST_LABELS {
        return Err(fields.refuse("labels", format!("must be at most {MOST_LABELS}")));
    }
    let mut labels = Labels::new();
    for (key, value) in given {
        if !is_label_key(key) {
            return Err(fields.refuse("labels", "a key is not one that Hetzner takes: at most 63 letters, digits, '-', '_' and '.', alphanumeric at both ends, with a DNS name and '/' before it or without"));
        }
        let path = format!("labels.{key}");
        if is_own_label(key) {
            return Err(fields.refuse(&path, "is a label of provision-vm's own"));
        }
        let text = value.as_str().filter(|text| text.is_empty() || is_label_value(text));
        let why = "must be a string of at most 63 letters, digits, '-', '_' and '.', alphanumeric at both ends";
        labels.insert(key.clone(), text.ok_or_else(|| fields.refuse(&path, why))?.to_owned());
    }
    Ok(labels)
}

/// Tailscale's tags are `tag:` and a name of letters, digits and hyphens that begins with a letter.
fn tags(fields: &Fields<'_>) -> Result<Vec<String>, Cause> {
    let is_tag = |text: &str| {
        let name = text.strip_prefix("tag:").unwrap_or_default();
        let starts_well = name.starts_with(|letter: char| letter.is_ascii_alphabetic());
        starts_well && name.len() <= 50 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let read = |value: &Value| value.as_str().filter(|text| is_tag(text)).map(str::to_owned);
    let tags = fields.list("tags", MOST_TAGS, "a tag such as tag:prod", read)?.unwrap_or_default();
    // Ours is always there, and twice is once.
    let mut seen = BTreeSet::from(["tag:agent".to_owned()]);
    Ok(tags.into_iter().filter(|tag| seen.insert(tag.clone())).collect())
}

fn ids(fields: &Fields<'_>, name: &'static str, most: usize) -> Result<Vec<u64>, Cause> {
    let read = |value: &Value| value.as_u64().filter(|id| (1..=LARGEST_ID).contains(id));
    Ok(fields.set(name, most, "an id", read)?.unwrap_or_default())
}

fn public_net(fields: &Fields<'_>) -> Result<PublicNet, Cause> {
    let Some(_) = fields.object("publicNet")? else { return Ok(PublicNet::default()) };
    let net = fields.below("publicNet", "options.publicNet")?;
    net.refuse_unknown(&["ipv4", "ipv6"])?;
    Ok(PublicNet { enable_ipv4: net.flag("ipv4")?.unwrap_or(true), enable_ipv6: net.flag("ipv6")?.unwrap_or(true) })
}

/// Where Tailscale comes from on a stock image: its repository, perhaps by another key, or one static build.
fn package(fields: &Fields<'_>) -> Result<Package, Cause> {
    let Some(_) = fields.object("tailscalePackage")? else { return Ok(Package::default()) };
    let given = fields.below("tailscalePackage", "options.tailscalePackage")?;
    given.refuse_unknown(&["signingKey", "version", "sha256"])?;
    let checked = |of: &Fields<'_>, name: &'static str, is_fit: fn(&str) -> bool, what: &str| match of.text(name)? {
        Some(text) if !is_fit(&text) => Err(of.refuse(name, format!("must be {what}"))),
        text => Ok(text),
    };
    let signing_key = checked(&given, "signingKey", is_fingerprint, "a fingerprint of 40 hexadecimal digits")?;
    let Some(version) = checked(&given, "version", is_version, "a version such as 1.102.3")? else {
        if given.has("sha256") {
            return Err(given.refuse("version", "is required with sha256"));
        }
        let signing_key = signing_key.map(|key| key.to_ascii_uppercase());
        return Ok(signing_key.map_or_else(Package::default, |signing_key| Package::Repository { signing_key }));
    };
    if signing_key.is_some() {
        return Err(given.refuse("signingKey", "is of the repository, and a version is fetched without it"));
    }
    if given.object("sha256")?.is_none() {
        return Err(given.refuse("sha256", "is required with version"));
    }
    let sums = given.below("sha256", "options.tailscalePackage.sha256")?;
    sums.refuse_unknown(&["amd64", "arm64"])?;
    let sum = |name| match checked(&sums, name, is_checksum, "a SHA-256 checksum of 64 hexadecimal digits")? {
        Some(sum) => Ok(sum.to_ascii_lowercase()),
        None => Err(sums.refuse(name, "is required")),
    };
    Ok(Package::Static { version, amd64: sum("amd64")?, arm64: sum("arm64")? })
}

const USER: &str = "a user: { name, sshKeys?, groups?, sudo?, shell? }";
const FILE: &str = "a file: { path, content, permissions?, owner? }";

fn additions(fields: &Fields<'_>) -> Result<Additions, Cause> {
    let Some(_) = fields.object("userData")? else { return Ok(Additions::default()) };
    let data = fields.below("userData", "options.userData")?;
    data.refuse_unknown(&["beforeJoin", "users", "files", "packages", "commands", "hardening"])?;
    let package = |value: &Value| value.as_str().filter(|name| is_package(name)).map(str::to_owned);
    Ok(Additions {
        before_join: data.flag("beforeJoin")?.unwrap_or_default(),
        users: data.list("users", MOST_ADDITIONS, USER, user)?.unwrap_or_default(),
        files: data.list("files", MOST_ADDITIONS, FILE, file)?.unwrap_or_default(),
        packages: data.list("packages", MOST_ADDITIONS, "the name of a package", package)?.unwrap_or_default(),
        commands: data
            .list("commands", MOST_ADDITIONS, "a command: a string or an array of strings", command)?
            .unwrap_or_default(),
        hardening: data.flag("hardening")?.unwrap_or_default(),
    })
}

/// An object with no other fields than these.
fn plain<'a>(value: &'a Value, known: &[&str]) -> Option<&'a Map<String, Value>> {
    value.as_object().filter(|object| object.keys().all(|key| known.contains(&key.as_str())))
}

fn user(value: &Value) -> Option<User> {
    let object = plain(value, &["name", "sshKeys", "groups", "sudo", "shell"])?;
    let given = |name: &str| object.get(name).filter(|value| !value.is_null());
    let texts = |name: &str, is_fit: fn(&str) -> bool| match given(name) {
        None => Some(Vec::new()),
        Some(list) => list
            .as_array()?
            .iter()
            .map(|item| item.as_str().filter(|text| is_fit(text)).map(str::to_owned))
            .collect::<Option<Vec<_>>>(),
    };
    Some(User {
        name: object.get("name")?.as_str().filter(|name| is_user(name))?.to_owned(),
        ssh_keys: texts("sshKeys", is_ssh_key)?,
        groups: texts("groups", is_user)?,
        sudo: given("sudo").map_or(Some(false), Value::as_bool)?,
        shell: given("shell")
            .map_or(Some("/bin/bash"), |shell| shell.as_str().filter(|path| is_path(path)))?
            .to_owned(),
    })
}

fn file(value: &Value) -> Option<File> {
    let object = plain(value, &["path", "content", "permissions", "owner"])?;
    let given = |name: &str| object.get(name).filter(|value| !value.is_null());
    let permissions =
        given("permissions").map_or(Some("0644"), |mode| mode.as_str().filter(|text| is_permissions(text)));
    Some(File {
        path: object.get("path")?.as_str().filter(|path| is_path(path))?.to_owned(),
        content: Secret::new(object.get("content")?.as_str()?),
        permissions: permissions?.to_owned(),
        owner: given("owner").map_or(Some(Owner::default()), |owner| Owner::parse(owner.as_str()?))?,
    })
}

fn command(value: &Value) -> Option<Command> {
    let word = |word: &Value| word.as_str().filter(|text| !text.contains('\0')).map(str::to_owned);
    match value {
        Value::String(text) if !text.trim().is_empty() => word(value).map(Command::Text),
        Value::Array(words) if !words.is_empty() => words.iter().map(word).collect::<Option<_>>().map(Command::Words),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn extras(options: &Value) -> Result<Extras, Cause> {
        read(&Fields::new("options", Some(options)).unwrap())
    }

    #[test]
    fn what_is_wanted_is_read() {
        let found = extras(&json!({
            "locations": ["fsn1", "hel1"], "labels": { "team": "blue", "example.com/x": "" }, "tags": ["tag:agent", "tag:prod"],
            "firewalls": [1], "networks": [2, 3], "placementGroup": 4, "publicNet": { "ipv4": false },
            "userData": {
                "packages": ["jq"], "files": [{ "path": "/etc/a", "content": "x" }], "commands": ["id", ["touch", "/a b"]],
            },
        }));
        let found = found.unwrap_or_else(|cause| panic!("{cause}"));
        assert_eq!(found.locations, ["fsn1", "hel1"]);
        assert_eq!((found.labels["team"].as_str(), found.labels["example.com/x"].as_str()), ("blue", ""));
        assert_eq!(found.tags, ["tag:prod"]);
        let wanted = Attachments {
            firewalls: vec![FirewallRef { firewall: 1 }],
            networks: vec![2, 3],
            placement_group: Some(4),
            public_net: PublicNet { enable_ipv4: false, enable_ipv6: true },
        };
        assert_eq!(found.attachments, wanted);
        assert_eq!((found.additions.files[0].permissions.as_str(), found.additions.commands.len()), ("0644", 2));
        assert_eq!(extras(&json!({ "location": "sin" })).map_err(drop).unwrap().locations, ["sin"]);
        assert_eq!(extras(&json!({ "labels": null, "userData": null })).map_err(drop), Ok(Extras::default()));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (options, field) in [
            (json!({ "location": "a b" }), "location"),
            (json!({ "location": "a", "locations": ["b"] }), "location"),
            (json!({ "locations": [] }), "locations"),
            (json!({ "locations": ["a", 5] }), "locations[1]"),
            (json!({ "labels": ["a"] }), "labels"),
            (json!({ "labels": { "a b": "c" } }), "labels"),
            (json!({ "labels": { "a": 5 } }), "labels.a"),
            (json!({ "labels": { "a": "b c" } }), "labels.a"),
            (json!({ "labels": { "state": "ready" } }), "labels.state"),
            (json!({ "labels": { "resumable": "yes" } }), "labels.resumable"),
            (json!({ "tags": ["prod"] }), "tags[0]"),
            (json!({ "tags": ["tag:1a"] }), "tags[0]"),
            (json!({ "firewalls": ["web"] }), "firewalls[0]"),
            (json!({ "firewalls": [1, 2, 3, 4, 5, 6] }), "firewalls"),
            (json!({ "networks": [1.5] }), "networks[0]"),
            (json!({ "networks": [5, 6, 5] }), "networks[2]"),
            (json!({ "networks": { "a": 1 } }), "networks"),
            (json!({ "placementGroup": 0 }), "placementGroup"),
            (json!({ "publicNet": false }), "publicNet"),
            (json!({ "publicNet": { "ipv4": "no" } }), "publicNet.ipv4"),
            (json!({ "publicNet": { "ipV4": false } }), "publicNet.ipV4"),
            (json!({ "publicNet": { "ipv4": false, "ipv6": false } }), "publicNet"),
            (json!({ "userData": "#cloud-config" }), "userData"),
            (json!({ "userData": { "package": ["jq"] } }), "userData.package"),
            (json!({ "userData": { "packages": ["--yes"] } }), "userData.packages[0]"),
            (json!({ "userData": { "files": [{ "path": "/a" }] } }), "userData.files[0]"),
            (
                json!({ "userData": { "files": [{ "path": "/a", "content": "", "owner": "a b" }] } }),
                "userData.files[0]",
            ),
            (json!({ "userData": { "files": [{ "path": "/a", "content": "", "mode": "x" }] } }), "userData.files[0]"),
            (json!({ "userData": { "users": [{ "name": "Root" }] } }), "userData.users[0]"),
            (json!({ "userData": { "users": [{ "name": "a", "sshKeys": ["x"] }] } }), "userData.users[0]"),
            (json!({ "userData": { "users": [{ "name": "a", "sudo": 1 }] } }), "userData.users[0]"),
            (json!({ "userData": { "hardening": "yes" } }), "userData.hardening"),
            (json!({ "userData": { "beforeJoin": 1 } }), "userData.beforeJoin"),
            (json!({ "tailscalePackage": { "signingKey": "1" } }), "tailscalePackage.signingKey"),
            (json!({ "tailscalePackage": { "version": "1.2" } }), "tailscalePackage.version"),
            (json!({ "tailscalePackage": { "version": "1.2.3" } }), "tailscalePackage.sha256"),
            (json!({ "tailscalePackage": { "sha256": {} } }), "tailscalePackage.version"),
            (
                json!({ "tailscalePackage": { "version": "1.2.3", "sha256": { "amd64": "a".repeat(64) } } }),
                "tailscalePackage.sha256.arm64",
            ),
            (json!({ "userData": { "commands": [["a", 5]] } }), "userData.commands[0]"),
            (json!({ "userData": { "commands": [" "] } }), "userData.commands[0]"),
        ] {
            let cause = extras(&options).err().unwrap_or_else(|| panic!("{options} is accepted"));
            assert_eq!(cause.field(), Some(format!("options.{field}").as_str()), "{options}: {cause}");
        }
    }
}

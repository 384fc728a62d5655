//! What happened and who caused it, typed: for those who check a world after every event.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Who caused a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// The world itself: time passes, machines boot, ephemeral devices are cleaned up.
    World,
    /// Somebody at the console.
    Operator,
    /// A sender of requests, by the number that came with them. A late request keeps its sender.
    Caller(u32),
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// When, since the world began.
    pub at: Duration,
    /// Who caused it.
    pub by: Actor,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are those of the things that the variants name")]
pub enum What {
    /// A server came into being.
    ServerMade { id: u64, name: String, labels: BTreeMap<String, String> },
    /// A server's name or labels were written.
    ServerLabelled { id: u64, name: String, before: BTreeMap<String, String>, after: BTreeMap<String, String> },
    /// A server went.
    ServerRemoved { id: u64, name: String, labels: BTreeMap<String, String> },
    /// An auth key was made.
    KeyMade { id: String, description: String, reusable: bool, preauthorized: bool, tags: Vec<String> },
    /// An auth key was revoked that was not before.
    KeyRevoked { id: String },
    /// A machine joined with a key.
    KeyUsed { id: String, node: String },
    /// A device came into the tailnet. `key` and `server` say whose machine it is, if it is one of this world.
    DeviceMade {
        node: String,
        hostname: String,
        tags: Vec<String>,
        key: Option<String>,
        server: Option<u64>,
        created_unix: i64,
    },
    /// A device went: on request, or by itself since it was ephemeral and away.
    DeviceRemoved { node: String, hostname: String, tags: Vec<String>, server: Option<u64>, by_itself: bool },
    /// A primary IP came with a server.
    PrimaryIpMade { id: u64, server: u64 },
    /// A primary IP went: with its server, or on request.
    PrimaryIpRemoved { id: u64 },
    /// A secret was handed out.
    SecretIssued { kind: SecretKind, text: String },
}

/// What kind of secret the clouds hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretKind {
    /// Tailscale's access token.
    AccessToken,
    /// An auth key.
    AuthKey,
    /// The issuer's identity token.
    IdentityToken,
    /// A server's root password.
    RootPassword,
}

/// What has become of the last exchange, beyond what its sender saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fate {
    /// The kind of the fault that it met.
    pub fault: Option<&'static str>,
    /// Whether the request was carried out.
    pub applied: Applied,
}

/// Whether a request was carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Applied {
    /// It never will be.
    #[default]
    No,
    /// It was.
    Now,
    /// It will be, later.
    Later,
}

/// A server as it truly is.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are a server's")]
pub struct ServerView<'a> {
    pub id: u64,
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub node: Option<&'a str>,
    pub ipv4: Option<std::net::Ipv4Addr>,
    /// Its /64 network, by its first address.
    pub ipv6: Option<std::net::Ipv6Addr>,
    pub networks: &'a [PrivateNet],
    pub firewalls: &'a [AppliedFirewall],
    pub placement_group: Option<u64>,
    pub protected: bool,
}

/// A server's place in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are a private interface's")]
pub struct PrivateNet {
    pub network: u64,
    pub ip: std::net::Ipv4Addr,
    #[serde(rename = "mac_address")]
    pub mac: String,
    /// Whether the action that attaches it has ended. Until then only the address is kept for it.
    pub attached: bool,
}

/// A firewall before a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are what they say")]
pub struct AppliedFirewall {
    pub firewall: u64,
    /// Whether the action that applies it has ended. Until then it stops nothing.
    pub applied: bool,
}

/// A network, a firewall or a placement group as it truly is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are what they say")]
pub struct BindingView<'a> {
    pub id: u64,
    pub name: &'a str,
    /// The servers that it is bound to.
    pub servers: Vec<u64>,
}

/// A device as it truly is.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are a device's")]
pub struct DeviceView<'a> {
    pub node: &'a str,
    pub hostname: &'a str,
    pub tags: &'a [String],
    pub ip: Option<&'a str>,
    pub ephemeral: bool,
    pub authorized: bool,
    pub server: Option<u64>,
    pub key: Option<&'a str>,
}

/// An auth key as it truly is.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are a key's")]
pub struct KeyView<'a> {
    pub id: &'a str,
    pub description: &'a str,
    pub usable: bool,
    pub used: bool,
}

/// A primary IP as it truly is.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are an address's")]
pub struct PrimaryIpView {
    pub id: u64,
    pub assignee: Option<u64>,
}

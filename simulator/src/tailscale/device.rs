//! Devices (A3).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Tailscale, TailscaleConfig, config::length, token::Token};
use crate::context::Context;
use crate::history::{DeviceView, What};
use crate::reply::{json_reply, object, query_of, tailscale_error};

/// A device that is put into the tailnet, by a machine or by hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlantedDevice {
    /// What the machine calls itself.
    pub hostname: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it goes when it has been away for long.
    pub ephemeral: bool,
    /// Whether it is approved.
    pub authorized: bool,
    /// Whether it is in touch.
    pub connected: bool,
    /// Unix seconds of its making; now if absent.
    pub created: Option<i64>,
    /// Where it connects from.
    pub public_ip: Option<IpAddr>,
    /// Its addresses, if not the ones that the tailnet would give it.
    pub addresses: Option<Vec<String>>,
    /// What tailnet lock says against it; nothing if empty.
    pub lock_error: String,
    /// Whether another tailnet shares it with this one.
    pub external: bool,
}

impl Default for PlantedDevice {
    fn default() -> Self {
        Self {
            hostname: "stranger".to_owned(),
            tags: Vec::new(),
            ephemeral: false,
            authorized: true,
            connected: true,
            created: None,
            public_ip: None,
            addresses: None,
            lock_error: String::new(),
            external: false,
        }
    }
}

/// A device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    number: u64,
    pub node_id: String,
    name: String,
    hostname: String,
    tags: Vec<String>,
    pub ephemeral: bool,
    authorized: bool,
    /// When it was made.
    since: Duration,
    /// When somebody approves it.
    approved_from: Option<Duration>,
    pub connected: bool,
    /// Before this, a device that is connected does not count as such yet.
    connected_from: Duration,
    /// Until then a device whose machine is gone still counts as connected.
    pub missed_from: Duration,
    pub last_seen: Duration,
    created: String,
    visible_from: Duration,
    addresses: Vec<String>,
    machine_key: String,
    node_key: String,
    key_expiry_disabled: bool,
    expired: Option<Duration>,
    lock_error: String,
    external: bool,
    public_ip: Option<IpAddr>,
    /// The key with which it joined. No answer of the API tells; only the true state does.
    pub key_id: Option<String>,
    /// The server whose machine it is. Only the true state tells this either.
    pub server: Option<u64>,
    /// When it was made, in unix seconds.
    pub created_unix: i64,
}

impl Device {
    pub(super) fn new(
        cx: &mut Context,
        number: u64,
        node_id: String,
        name: &str,
        planted: PlantedDevice,
        config: &TailscaleConfig,
    ) -> Self {
        // A world of its own for the moment, since it may lie before this one began.
        let created = planted.created.map_or_else(|| cx.timestamp(), |unix| Context::new(0, unix).timestamp());
        let lag = if planted.created.is_some() { 0.0 } else { config.visibility_seconds };
        Self {
            number: 4_000_000_000_000_000 + number,
            node_id,
            name: format!("{name}.tail0simulator.ts.net"),
            hostname: planted.hostname,
            key_expiry_disabled: !planted.tags.is_empty(),
            tags: planted.tags,
            ephemeral: planted.ephemeral,
            authorized: planted.authorized,
            since: cx.now,
            approved_from: None,
            connected: planted.connected,
            connected_from: cx.now,
            missed_from: cx.now,
            last_seen: cx.now,
            created,
            visible_from: cx.now.saturating_add(length(lag)),
            addresses: planted.addresses.unwrap_or_else(|| addresses(number, config.ipv6_only)),
            machine_key: format!("mkey:{}", cx.text(64, "0123456789abcdef")),
            node_key: format!("nodekey:{}", cx.text(64, "0123456789abcdef")),
            expired: None,
            lock_error: planted.lock_error,
            external: planted.external,
            public_ip: planted.public_ip,
            key_id: None,
            server: None,
            created_unix: planted.created.unwrap_or_else(|| cx.unix()),
        }
    }

    /// A machine has joined as this device; much of it shows only after a while.
    pub(super) fn joins(&mut self, cx: &Context, key_id: String, config: &TailscaleConfig) {
        self.key_id = Some(key_id);
        self.connected_from = cx.now.saturating_add(length(config.connected_after_seconds));
        let approval = config.approved_after_seconds.filter(|_| !config.never_authorized);
        self.approved_from = approval.map(|seconds| cx.now.saturating_add(length(seconds)));
    }

    /// Its machine has joined again: by what it says of itself and what its new key gives it.
    pub(super) fn joins_again(&mut self, hostname: String, tags: Vec<String>) {
        self.hostname = hostname;
        self.tags = tags;
        self.expired = None;
    }

    /// The name within the tailnet.
    pub(super) fn short_name(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    fn is_authorized(&self, cx: &Context) -> bool {
        self.authorized || self.approved_from.is_some_and(|at| at <= cx.now)
    }

    fn is_connected(&self, cx: &Context) -> bool {
        let in_touch = self.connected || cx.now < self.missed_from;
        in_touch && self.connected_from <= cx.now && self.expired.is_none()
    }

    /// Whether a packet to it can arrive: what is true at once, and shown by the API only after a while.
    fn is_in_touch(&self, cx: &Context) -> bool {
        self.connected && self.expired.is_none() && self.is_authorized(cx)
    }

    fn ipv4(&self) -> Option<&String> {
        self.addresses.iter().find(|address| address.parse::<Ipv4Addr>().is_ok())
    }

    /// As the API writes it, by its omission rules: no `tags` when there are none, no `isEphemeral` when it is not, no
    /// `lastSeen` while connected or if it never was. Devices of others lack what is not this tailnet's to tell.
    fn json(&self, cx: &Context, all: bool) -> Value {
        let ours = |text: &str| if self.external { String::new() } else { text.to_owned() };
        let expires = self.expired.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| cx.timestamp_at(at));
        let connected = self.is_connected(cx);
        let mut json = json!({
            "id": self.number.to_string(), "nodeId": self.node_id, "name": self.name, "hostname": self.hostname,
            "user": "", "addresses": self.addresses, "clientVersion": ours("1.102.3-t0123456789-gabcdef0123"),
            "updateAvailable": false, "os": "linux", "created": ours(&self.created), "connectedToControl": connected,
            "keyExpiryDisabled": self.key_expiry_disabled, "expires": expires, "authorized": self.is_authorized(cx),
            "isExternal": self.external, "machineKey": ours(&self.machine_key), "nodeKey": self.node_key,
            "blocksIncomingConnections": false, "tailnetLockKey": format!("nlpub:{}", &self.machine_key[5..]),
            "tailnetLockError": self.lock_error,
            // Fields come without notice; who decodes must not mind this one.
            "notYetDocumented": { "since": 2026 },
        });
        if !connected && self.connected_from <= cx.now {
            json["lastSeen"] = json!(cx.timestamp_at(self.last_seen));
        }
        if self.ephemeral {
            json["isEphemeral"] = json!(true);
        }
        if !self.tags.is_empty() {
            json["tags"] = json!(self.tags);
        }
        if all {
            json["enabledRoutes"] = json!([]);
            json["advertisedRoutes"] = json!([]);
            json["sshEnabled"] = json!(false);
            json["distro"] = json!({ "name": "ubuntu", "version": "22.04", "codeName": "jammy" });
            json["postureIdentity"] = json!({ "disabled": true });
            json["clientConnectivity"] = json!({
                "endpoints": self.public_ip.iter().map(|ip| SocketAddr::new(*ip, 41641).to_string()).collect::<Vec<_>>(),
                "mappingVariesByDestIP": false, "latency": { "Frankfurt": { "latencyMs": 5.2, "preferred": true } },
                "clientSupports": { "hairPinning": null, "ipv6": true, "pcp": false, "pmp": false, "udp": true, "upnp": false },
            });
        }
        json
    }

    /// What is true of it, typed.
    pub(super) fn view(&self, cx: &Context) -> DeviceView<'_> {
        DeviceView {
            node: &self.node_id,
            hostname: &self.hostname,
            tags: &self.tags,
            ip: self.ipv4().map(String::as_str),
            ephemeral: self.ephemeral,
            authorized: self.is_authorized(cx),
            server: self.server,
            key: self.key_id.as_deref(),
        }
    }

    /// What is written down when it comes.
    pub(super) fn made(&self) -> What {
        What::DeviceMade {
            node: self.node_id.clone(),
            hostname: self.hostname.clone(),
            tags: self.tags.clone(),
            key: self.key_id.clone(),
            server: self.server,
            created_unix: self.created_unix,
        }
    }

    /// What is written down when it goes.
    pub(super) fn removed(&self, by_itself: bool) -> What {
        What::DeviceRemoved {
            node: self.node_id.clone(),
            hostname: self.hostname.clone(),
            tags: self.tags.clone(),
            server: self.server,
            by_itself,
        }
    }

    pub(super) fn truth(&self, cx: &Context) -> Value {
        json!({
            "node_id": self.node_id, "id": self.number.to_string(), "name": self.name, "hostname": self.hostname,
            "tags": self.tags, "ephemeral": self.ephemeral, "authorized": self.is_authorized(cx),
            "connected": self.is_connected(cx), "ip": self.ipv4(), "created": self.created,
            "visible": self.visible_from <= cx.now, "external": self.external, "key": self.key_id,
        })
    }

    fn is(&self, id: &str) -> bool {
        self.node_id == id || self.number.to_string() == id
    }
}

/// An address of each kind. The last part of the first is never 0 or 255.
fn addresses(number: u64, ipv6_only: bool) -> Vec<String> {
    let part = |value: u64| u8::try_from(value).unwrap_or_default();
    let (net, host) = (number / 254, number % 254 + 1);
    let ipv4 = Ipv4Addr::new(100, 64 + part(net / 256 % 32), part(net % 256), part(host));
    let ipv6 = format!("fd7a:115c:a1e0::{:x}:{:x}", number >> 16 & 0xffff, number & 0xffff);
    (!ipv6_only).then(|| ipv4.to_string()).into_iter().chain([ipv6]).collect()
}

/// A machine in the tailnet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The server whose machine it is, if it is one of this world.
    pub server: Option<u64>,
    /// When it joined.
    pub since: Duration,
}

impl Tailscale {
    /// The machine behind an address, if one is in touch there.
    pub(crate) fn peer(&self, cx: &Context, ip: Ipv4Addr) -> Option<Peer> {
        let ip = ip.to_string();
        let is_it = |device: &&Device| device.ipv4() == Some(&ip) && device.is_in_touch(cx);
        self.devices.values().find(is_it).map(|device| Peer { server: device.server, since: device.since })
    }

    pub(super) fn list_devices(&self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        let query = query_of(request);
        let all = query.iter().any(|(name, value)| name == "fields" && value == "all");
        let filters: Vec<&(String, String)> =
            query.iter().filter(|(name, _)| name != "fields" && !self.config.ignore_filters).collect();
        let shown =
            |device: &&Device| device.visible_from <= cx.now && (!device.external || self.config.shows_external);
        // What most lists are filtered by is looked at before a device is written down: a large tailnet has thousands.
        let may_fit = |device: &&Device| {
            filters.iter().all(|(name, value)| match name.as_str() {
                "hostname" => device.hostname == *value,
                "tags" => device.tags.contains(value),
                _ => true,
            })
        };
        let mut devices: Vec<Value> = self
            .devices
            .values()
            .filter(shown)
            .filter(may_fit)
            .map(|device| device.json(cx, all))
            .filter(|json| filters.iter().all(|(name, value)| fits(&json[name.as_str()], value)))
            .collect();
        // No order is promised, so none is kept.
        cx.rng.shuffle(&mut devices);
        if devices.is_empty() && self.config.empty_list_is_null {
            return json_reply(200, &json!({ "devices": null }));
        }
        json_reply(200, &object([("devices", Value::Array(devices))]))
    }

    /// A device that this credential gets to see.
    fn find(&self, id: &str) -> Option<&Device> {
        let shown = |device: &&Device| device.is(id) && (!device.external || self.config.shows_external);
        self.devices.values().find(shown)
    }

    pub(super) fn get_device(&self, cx: &Context, request: &Request<Bytes>, id: &str) -> Response<Bytes> {
        let all = query_of(request).iter().any(|(name, value)| name == "fields" && value == "all");
        match self.find(id) {
            Some(device) => json_reply(200, &device.json(cx, all)),
            None => no_such_device(),
        }
    }

    pub(super) fn delete_device(&mut self, cx: &mut Context, id: &str) -> Response<Bytes> {
        match self.find(id).map(|device| (device.node_id.clone(), device.external)) {
            Some((_, true)) => tailscale_error(501, "cannot delete devices outside of your tailnet"),
            Some((node, false)) => {
                self.remove(cx, &node, false);
                json_reply(200, &Value::Null)
            }
            None => no_such_device(),
        }
    }

    pub(super) fn change_device(
        &mut self,
        cx: &Context,
        token: &Token,
        request: &Request<Bytes>,
        id: &str,
        what: &str,
    ) -> Response<Bytes> {
        let Some(device) = self.find(id) else { return no_such_device() };
        let (node, hostname, own_name) =
            (device.node_id.clone(), device.hostname.clone(), device.short_name().to_owned());
        let body: Value = match serde_json::from_slice(request.body()) {
            Ok(body) => body,
            // There is nothing to say about an expiry.
            Err(_) if what == "expire" => Value::Null,
            Err(_) => return tailscale_error(400, "unexpected end of JSON input"),
        };
        let tags: Vec<String> = serde_json::from_value(body["tags"].clone()).unwrap_or_default();
        if what == "tags" && tags.is_empty() {
            return tailscale_error(400, "tagged nodes cannot be untagged without reauth");
        }
        if what == "tags" && !self.may_give(token, &tags) {
            let message = format!("requested tags [{}] are invalid or not permitted", tags.join(" "));
            return tailscale_error(400, &message);
        }
        let name = match body["name"].as_str().unwrap_or_default() {
            // Back to what the machine calls itself, as near as that can be had.
            "" => self.unique_name(cx, &hostname),
            name if name != own_name && self.is_taken(cx, name) => {
                return tailscale_error(400, &format!("name \"{name}\" is already taken"));
            }
            name => name.to_owned(),
        };
        let Some(device) = self.devices.get_mut(&node) else { return no_such_device() };
        match what {
            "authorized" => {
                device.authorized = body["authorized"] == true;
                device.approved_from = None;
            }
            "tags" => device.tags = tags,
            "key" => device.key_expiry_disabled = body["keyExpiryDisabled"] == true,
            "name" => device.name = format!("{name}.tail0simulator.ts.net"),
            // The device has to log in anew; until then it is out.
            _ => {
                device.expired = Some(cx.now);
                device.last_seen = cx.now;
            }
        }
        json_reply(200, &Value::Null)
    }
}

/// Whether a top-level property has this value, or has it in its list.
fn fits(property: &Value, wanted: &str) -> bool {
    match property {
        Value::String(text) => text == wanted,
        Value::Bool(flag) => flag.to_string() == wanted,
        Value::Array(list) => list.iter().any(|item| item == wanted),
        _ => false,
    }
}

fn no_such_device() -> Response<Bytes> {
    tailscale_error(404, "no manageable device matching this ID found")
}

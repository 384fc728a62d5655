//! Devices (A3).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Tailscale, TailscaleConfig, token::Token};
use crate::context::Context;
use crate::reply::{json_reply, query_of, tailscale_error};

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
    pub connected: bool,
    pub last_seen: Duration,
    created: String,
    visible_from: Duration,
    ipv4: Option<Ipv4Addr>,
    machine_key: String,
    node_key: String,
    key_expiry_disabled: bool,
    public_ip: Option<IpAddr>,
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
        let octet = |shift: u32| u8::try_from((number >> shift) & 0xff).unwrap_or(0);
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
            connected: planted.connected,
            last_seen: cx.now,
            created,
            visible_from: cx.now + Duration::from_secs_f64(lag),
            ipv4: (!config.ipv6_only).then(|| Ipv4Addr::new(100, 64 + octet(16) % 64, octet(8), octet(0).max(1))),
            machine_key: format!("mkey:{}", cx.text(64, "0123456789abcdef")),
            node_key: format!("nodekey:{}", cx.text(64, "0123456789abcdef")),
            public_ip: planted.public_ip,
        }
    }

    /// The name within the tailnet.
    pub(super) fn short_name(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    fn addresses(&self) -> Vec<String> {
        let ipv6 = format!("fd7a:115c:a1e0::{:x}:{:x}", self.number >> 16 & 0xffff, self.number & 0xffff);
        self.ipv4.iter().map(Ipv4Addr::to_string).chain([ipv6]).collect()
    }

    /// As the API writes it, by its omission rules: no `tags` when there are none, no `isEphemeral` when it is not, no
    /// `lastSeen` while connected.
    fn json(&self, cx: &Context, all: bool) -> Value {
        let mut json = json!({
            "id": self.number.to_string(), "nodeId": self.node_id, "name": self.name, "hostname": self.hostname,
            "user": "", "addresses": self.addresses(), "clientVersion": "1.102.3-t0123456789-gabcdef0123",
            "updateAvailable": false, "os": "linux", "created": self.created, "connectedToControl": self.connected,
            "keyExpiryDisabled": self.key_expiry_disabled, "expires": "0001-01-01T00:00:00Z", "authorized": self.authorized,
            "isExternal": false, "machineKey": self.machine_key, "nodeKey": self.node_key,
            "blocksIncomingConnections": false, "tailnetLockKey": format!("nlpub:{}", &self.machine_key[5..]),
            "tailnetLockError": "",
        });
        if !self.connected {
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
            json["clientConnectivity"] = json!({
                "endpoints": self.public_ip.iter().map(|ip| format!("{ip}:41641")).collect::<Vec<_>>(),
                "mappingVariesByDestIP": false, "latency": {},
                "clientSupports": { "hairPinning": null, "ipv6": true, "pcp": false, "pmp": false, "udp": true, "upnp": false },
            });
        }
        json
    }

    pub(super) fn truth(&self, cx: &Context) -> Value {
        json!({
            "node_id": self.node_id, "id": self.number.to_string(), "name": self.name, "hostname": self.hostname,
            "tags": self.tags, "ephemeral": self.ephemeral, "authorized": self.authorized,
            "connected": self.connected, "ip": self.ipv4.map(|ip| ip.to_string()), "created": self.created,
            "visible": self.visible_from <= cx.now,
        })
    }

    fn is(&self, id: &str) -> bool {
        self.node_id == id || self.number.to_string() == id
    }
}

impl Tailscale {
    pub(super) fn list_devices(&self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        let query = query_of(request);
        let all = query.iter().any(|(name, value)| name == "fields" && value == "all");
        let filters: Vec<&(String, String)> =
            query.iter().filter(|(name, _)| name != "fields" && !self.config.ignore_filters).collect();
        let visible = self.devices.values().filter(|device| device.visible_from <= cx.now);
        let mut devices: Vec<Value> = visible
            .map(|device| device.json(cx, all))
            .filter(|json| filters.iter().all(|(name, value)| fits(&json[name.as_str()], value)))
            .collect();
        // No order is promised, so none is kept.
        cx.rng.shuffle(&mut devices);
        if devices.is_empty() && self.config.empty_list_is_null {
            return json_reply(200, &json!({ "devices": null }));
        }
        json_reply(200, &json!({ "devices": devices }))
    }

    fn find(&self, id: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.is(id))
    }

    pub(super) fn get_device(&self, cx: &Context, request: &Request<Bytes>, id: &str) -> Response<Bytes> {
        let all = query_of(request).iter().any(|(name, value)| name == "fields" && value == "all");
        match self.find(id) {
            Some(device) => json_reply(200, &device.json(cx, all)),
            None => no_such_device(),
        }
    }

    pub(super) fn delete_device(&mut self, id: &str) -> Response<Bytes> {
        match self.find(id).map(|device| device.node_id.clone()) {
            Some(node) => {
                self.devices.remove(&node);
                json_reply(200, &Value::Null)
            }
            None => no_such_device(),
        }
    }

    pub(super) fn change_device(
        &mut self,
        token: &Token,
        request: &Request<Bytes>,
        id: &str,
        what: &str,
    ) -> Response<Bytes> {
        let Some(node) = self.find(id).map(|device| device.node_id.clone()) else { return no_such_device() };
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let tags: Option<Vec<String>> = serde_json::from_value(body["tags"].clone()).ok();
        match (&tags, what) {
            (Some(tags), "tags") if tags.is_empty() => {
                return tailscale_error(400, "tagged nodes cannot be untagged without reauth");
            }
            (Some(tags), "tags") if !self.may_give(token, tags) => {
                let message = format!("requested tags [{}] are invalid or not permitted", tags.join(" "));
                return tailscale_error(400, &message);
            }
            _ => {}
        }
        if what == "name"
            && let Some(name) = body["name"].as_str()
            && self.devices.values().any(|device| device.short_name() == name && device.node_id != node)
        {
            return tailscale_error(400, &format!("name \"{name}\" is already taken"));
        }
        let Some(device) = self.devices.get_mut(&node) else { return no_such_device() };
        match what {
            "authorized" => device.authorized = body["authorized"].as_bool().unwrap_or(device.authorized),
            "tags" => device.tags = tags.unwrap_or_default(),
            "key" => device.key_expiry_disabled = body["keyExpiryDisabled"].as_bool().unwrap_or_default(),
            "name" => {
                let wanted = body["name"].as_str().filter(|name| !name.is_empty());
                let name = wanted.unwrap_or(&device.hostname).to_owned();
                device.name = format!("{name}.tail0simulator.ts.net");
            }
            _ => device.connected = false,
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

//! Tailscale: one tailnet with its credentials, keys and devices (`facts/tailscale-and-first-boot.md`, part A).
//!
//! This file holds the state and what happens to it by itself; `token.rs`, `key.rs` and `device.rs` answer requests.

mod config;
mod device;
mod key;
mod token;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use config::{OAuthClient, TailscaleConfig};
pub use device::PlantedDevice;

use device::Device;
use key::Key;
use token::Token;

use crate::context::Context;
use crate::reply::{bearer_of, tailscale_error, text_reply};

const LETTERS: &str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789";

/// The preferred id of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub String);

/// A machine that wants in.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub auth_key: String,
    pub hostname: String,
    pub public_ip: Option<IpAddr>,
}

/// The tailnet.
#[derive(Debug)]
pub(crate) struct Tailscale {
    config: TailscaleConfig,
    tokens: BTreeMap<String, Token>,
    keys: BTreeMap<String, Key>,
    devices: BTreeMap<String, Device>,
    next_device: u64,
}

impl Tailscale {
    pub(crate) fn new(config: TailscaleConfig) -> Self {
        Self { config, tokens: BTreeMap::new(), keys: BTreeMap::new(), devices: BTreeMap::new(), next_device: 1 }
    }

    pub(crate) fn configure(&mut self, config: TailscaleConfig) {
        self.config = config;
    }

    /// One request to the API, or to the issuer of identity tokens.
    pub(crate) fn handle(&mut self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let mut response = match path.strip_prefix("/api/v2/") {
            Some("oauth/token") => self.grant_token(cx, request),
            Some("oauth/token-exchange") => self.exchange_token(cx, request),
            Some(path) => self.authorized(cx, request, path.trim_end_matches('/')),
            None => self.issue_identity(cx, request),
        };
        let id = format!("REQ-{}{}", cx.unix(), cx.text(16, "0123456789abcdef"));
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert("x-tailscale-request-id", id);
        }
        response
    }

    fn authorized(&mut self, cx: &mut Context, request: &Request<Bytes>, path: &str) -> Response<Bytes> {
        let token = bearer_of(request).and_then(|token| self.tokens.get(token));
        let Some(token) = token.filter(|token| token.expires > cx.now).cloned() else {
            return tailscale_error(401, "API token invalid");
        };
        let parts: Vec<&str> = path.split('/').collect();
        let method = request.method().as_str();
        let reads = |scope: &str| {
            token.scopes.iter().any(|held| held == "all" || *held == scope || *held == format!("{scope}:read"))
        };
        let writes = |scope: &str| token.scopes.iter().any(|held| held == "all" || held == scope);
        let allowed = match (method, parts.as_slice()) {
            ("GET", ["tailnet", _, "keys", ..]) => reads("auth_keys"),
            (_, ["tailnet", _, "keys", ..]) => writes("auth_keys"),
            ("GET", ["tailnet", _, "devices"] | ["device", _]) => reads("devices:core"),
            (_, ["device", ..]) => writes("devices:core"),
            _ => true,
        };
        if let ["tailnet", tailnet, ..] = parts.as_slice()
            && *tailnet != "-"
        {
            return tailscale_error(404, &format!("tailnet \"{tailnet}\" not found"));
        }
        if !allowed {
            return tailscale_error(403, "calling actor does not have enough permissions to perform this function");
        }
        match (method, parts.as_slice()) {
            ("POST", ["tailnet", _, "keys"]) => self.create_key(cx, &token, request),
            ("GET", ["tailnet", _, "keys"]) => self.list_keys(cx, request),
            ("GET", ["tailnet", _, "keys", id]) => self.get_key(cx, id),
            ("DELETE", ["tailnet", _, "keys", id]) => self.revoke_key(cx, id),
            ("PUT", ["tailnet", _, "keys", _]) => tailscale_error(400, "keys of type \"auth\" can not be updated"),
            ("GET", ["tailnet", _, "devices"]) => self.list_devices(cx, request),
            ("GET", ["device", id]) => self.get_device(cx, request, id),
            ("DELETE", ["device", id]) => self.delete_device(id),
            ("POST", ["device", id, "authorized" | "tags" | "name" | "expire" | "key"]) => {
                self.change_device(&token, request, id, parts[2])
            }
            (_, ["tailnet", _, "keys" | "devices", ..] | ["device", ..]) => text_reply(405, "text/plain", ""),
            _ => text_reply(404, "text/plain; charset=utf-8", "404 page not found\n"),
        }
    }

    /// A machine runs `tailscale up`. The error is what it would print.
    pub(crate) fn join(&mut self, cx: &mut Context, join: Join) -> Result<NodeId, String> {
        let id = join.auth_key.strip_prefix("tskey-auth-").and_then(|rest| rest.split('-').next()).unwrap_or_default();
        let key = self.keys.get_mut(id).filter(|key| key.secret == join.auth_key);
        let key = key.ok_or("invalid key: API key does not exist")?;
        if !key.is_usable(cx.now) {
            return Err(format!("invalid key: API key {id} not valid"));
        }
        key.used = true;
        let (tags, ephemeral) = (key.capabilities.tags.clone(), key.capabilities.ephemeral);
        let approved = key.capabilities.preauthorized || !self.config.device_approval;
        let device = PlantedDevice {
            hostname: join.hostname,
            tags: self.config.device_tags.clone().unwrap_or(tags),
            ephemeral,
            authorized: approved && !self.config.never_authorized,
            connected: true,
            created: None,
            public_ip: join.public_ip,
        };
        Ok(self.plant_device(cx, device))
    }

    pub(crate) fn plant_device(&mut self, cx: &mut Context, planted: PlantedDevice) -> NodeId {
        let number = self.next_device;
        self.next_device += 1;
        let node_id = format!("n{}CNTRL", cx.text(10, LETTERS));
        let device =
            Device::new(cx, number, node_id.clone(), &self.unique_name(&planted.hostname), planted, &self.config);
        self.devices.insert(node_id.clone(), device);
        NodeId(node_id)
    }

    /// The first of a name keeps it; later ones get `-1`, `-2` and so on.
    fn unique_name(&self, hostname: &str) -> String {
        let name = hostname.to_ascii_lowercase();
        let taken = |candidate: &str| self.devices.values().any(|device| device.short_name() == candidate);
        if !taken(&name) {
            return name;
        }
        // As many names as there are devices are enough for one to be free.
        let mut names = (1..=self.devices.len()).map(|number| format!("{name}-{number}"));
        names.find(|candidate| !taken(candidate)).unwrap_or(name)
    }

    pub(crate) fn set_connected(&mut self, cx: &mut Context, node: &NodeId, connected: bool) {
        if let Some(device) = self.devices.get_mut(&node.0) {
            device.connected = connected;
            device.last_seen = cx.now;
        }
    }

    fn ephemeral_end(&self, device: &Device) -> Option<Duration> {
        (device.ephemeral && !device.connected)
            .then(|| device.last_seen + Duration::from_secs_f64(self.config.ephemeral_seconds))
    }

    /// Removes ephemeral devices that have been away for too long.
    pub(crate) fn tick(&mut self, cx: &mut Context) {
        let gone: Vec<String> = self
            .devices
            .values()
            .filter(|device| self.ephemeral_end(device).is_some_and(|end| end <= cx.now))
            .map(|device| device.node_id.clone())
            .collect();
        for id in gone {
            self.devices.remove(&id);
        }
    }

    pub(crate) fn next_event(&self) -> Option<Duration> {
        self.devices.values().filter_map(|device| self.ephemeral_end(device)).min()
    }

    /// What is true; no secrets.
    pub(crate) fn snapshot(&self, cx: &Context) -> Value {
        let keys: Vec<Value> = self.keys.values().map(|key| key.truth(cx)).collect();
        let devices: Vec<Value> = self.devices.values().map(|device| device.truth(cx)).collect();
        json!({ "keys": keys, "devices": devices, "tokens": self.tokens.len() })
    }
}

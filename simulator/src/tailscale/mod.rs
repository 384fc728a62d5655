//! Tailscale: one tailnet with its credentials, keys and devices (`facts/tailscale-and-first-boot.md`, part A).
//!
//! This file holds the state and what happens to it by itself; `token.rs`, `key.rs` and `device.rs` answer requests.

mod config;
mod device;
mod key;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use config::{OAuthClient, TailscaleConfig};
pub use device::PlantedDevice;
pub use key::PlantedKey;

use config::length;
use device::Device;
use key::{Capabilities, Key};
use token::Token;

use crate::context::Context;
use crate::history::{DeviceView, KeyView, What};
use crate::reply::{tailscale_error, text_reply};

const LETTERS: &str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789";

/// For a token whose scopes do not reach that far.
const NOT_ALLOWED: &str = "calling actor does not have enough permissions to perform this function";

/// The preferred id of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub String);

/// A machine that wants in.
#[derive(Clone)]
pub(crate) struct Join {
    pub auth_key: String,
    pub hostname: String,
    pub public_ip: Option<IpAddr>,
    /// The server whose machine it is.
    pub server: u64,
}

/// The tailnet.
#[derive(Debug)]
pub(crate) struct Tailscale {
    config: TailscaleConfig,
    tokens: BTreeMap<String, Token>,
    keys: BTreeMap<String, Key>,
    devices: BTreeMap<String, Device>,
    next_device: u64,
    /// Names of removed devices, and until when they stay taken.
    held_names: BTreeMap<String, Duration>,
}

impl Tailscale {
    pub(crate) fn new(config: TailscaleConfig) -> Self {
        Self {
            config,
            tokens: BTreeMap::new(),
            keys: BTreeMap::new(),
            devices: BTreeMap::new(),
            next_device: 1,
            held_names: BTreeMap::new(),
        }
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
        let Some(token) = self.token_of(cx, request) else { return tailscale_error(401, "API token invalid") };
        let parts: Vec<&str> = path.split('/').collect();
        let method = request.method().as_str();
        let writes = method != "GET";
        let allowed = match parts.as_slice() {
            ["tailnet", _, "keys"] | ["tailnet", _, "keys", _] => token.may("auth_keys", writes),
            ["tailnet", _, "devices"] | ["device", ..] => token.may("devices:core", writes),
            _ => true,
        };
        if let ["tailnet", tailnet, ..] = parts.as_slice()
            && *tailnet != "-"
            && **tailnet != self.config.tailnet_id
        {
            return tailscale_error(404, &format!("tailnet \"{tailnet}\" not found"));
        }
        if !allowed {
            return tailscale_error(403, NOT_ALLOWED);
        }
        match (method, parts.as_slice()) {
            ("POST", ["tailnet", _, "keys"]) => self.create_key(cx, &token, request),
            ("GET", ["tailnet", _, "keys"]) => self.list_keys(cx, request),
            ("GET", ["tailnet", _, "keys", id]) => self.get_key(cx, id),
            ("DELETE", ["tailnet", _, "keys", id]) => self.revoke_key(cx, id),
            ("PUT", ["tailnet", _, "keys", _]) => tailscale_error(400, "keys of type \"auth\" can not be updated"),
            ("GET", ["tailnet", _, "devices"]) => self.list_devices(cx, request),
            ("GET", ["device", id]) => self.get_device(cx, request, id),
            ("DELETE", ["device", id]) => self.delete_device(cx, id),
            ("POST", ["device", id, what @ ("authorized" | "tags" | "name" | "expire" | "key")]) => {
                self.change_device(cx, &token, request, id, what)
            }
            (
                _,
                ["tailnet", _, "keys" | "devices"]
                | ["tailnet", _, "keys", _]
                | ["device", _]
                | ["device", _, "authorized" | "tags" | "name" | "expire" | "key"],
            ) => text_reply(405, "text/plain", ""),
            _ => text_reply(404, "text/plain; charset=utf-8", "404 page not found\n"),
        }
    }

    /// A machine runs `tailscale up`. The error is what it would print.
    pub(crate) fn join(&mut self, cx: &mut Context, join: Join) -> Result<NodeId, String> {
        let (key_id, capabilities) = self.spend(cx, &join.auth_key)?;
        let server = join.server;
        let approved = capabilities.preauthorized || !self.config.device_approval;
        let planted = PlantedDevice {
            hostname: join.hostname,
            tags: self.config.device_tags.clone().unwrap_or(capabilities.tags),
            ephemeral: capabilities.ephemeral,
            authorized: approved && !self.config.never_authorized,
            addresses: self.config.device_addresses.clone(),
            lock_error: self.config.device_lock_error.clone(),
            public_ip: join.public_ip,
            ..PlantedDevice::default()
        };
        let node = self.add_device(cx, planted);
        if let Some(device) = self.devices.get_mut(&node.0) {
            device.joins(cx, key_id.clone(), &self.config);
            device.server = Some(server);
            cx.note(device.made());
        }
        cx.note(What::KeyUsed { id: key_id, node: node.0.clone() });
        Ok(node)
    }

    /// A machine that has joined runs `tailscale up` with a key again: its device is registered anew, as the same one.
    pub(crate) fn rejoin(&mut self, cx: &mut Context, node: &NodeId, join: Join) -> Result<NodeId, String> {
        if !self.devices.contains_key(&node.0) {
            // It was removed meanwhile, so this is a first time again.
            return self.join(cx, join);
        }
        let (key, capabilities) = self.spend(cx, &join.auth_key)?;
        if let Some(device) = self.devices.get_mut(&node.0) {
            device.joins_again(join.hostname, capabilities.tags);
        }
        self.set_connected(cx, node, true);
        cx.note(What::KeyUsed { id: key, node: node.0.clone() });
        Ok(node.clone())
    }

    /// A machine loses its place in the tailnet, though it is there; nobody waits until it is missed.
    pub(crate) fn log_out(&mut self, cx: &mut Context, node: &NodeId) {
        self.set_connected(cx, node, false);
        if let Some(device) = self.devices.get_mut(&node.0) {
            device.missed_from = cx.now;
        }
    }

    /// Takes a key from a machine: its id, and what it lets that machine do.
    fn spend(&mut self, cx: &Context, auth_key: &str) -> Result<(String, Capabilities), String> {
        let id = auth_key.strip_prefix("tskey-auth-").and_then(|rest| rest.split('-').next()).unwrap_or_default();
        let key = self.keys.get_mut(id).filter(|key| key.secret == auth_key && !key.is_revoked());
        let key = key.ok_or("invalid key: API key does not exist")?;
        if !key.is_usable(cx.now) {
            return Err(format!("invalid key: API key {id} not valid"));
        }
        key.used = true;
        Ok((key.id().to_owned(), key.capabilities.clone()))
    }

    pub(crate) fn plant_device(&mut self, cx: &mut Context, planted: PlantedDevice) -> NodeId {
        let node = self.add_device(cx, planted);
        if let Some(device) = self.devices.get(&node.0) {
            cx.note(device.made());
        }
        node
    }

    fn add_device(&mut self, cx: &mut Context, planted: PlantedDevice) -> NodeId {
        let number = self.next_device;
        self.next_device += 1;
        let node_id = format!("n{}CNTRL", cx.text(10, LETTERS));
        let name = self.unique_name(cx, &planted.hostname);
        let device = Device::new(cx, number, node_id.clone(), &name, planted, &self.config);
        self.devices.insert(node_id.clone(), device);
        NodeId(node_id)
    }

    /// Whether another device has this name, or had it until a short while ago.
    fn is_taken(&self, cx: &Context, name: &str) -> bool {
        self.devices.values().any(|device| device.short_name() == name)
            || self.held_names.get(name).is_some_and(|until| *until > cx.now)
    }

    /// The first of a name keeps it; later ones get `-1`, `-2` and so on.
    fn unique_name(&self, cx: &Context, hostname: &str) -> String {
        let name: String = hostname
            .to_ascii_lowercase()
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
            .collect();
        let name = Some(name.trim_matches('-')).filter(|name| !name.is_empty()).unwrap_or("device");
        if !self.is_taken(cx, name) {
            return name.to_owned();
        }
        let held = self.held_names.iter().filter(|(_, until)| **until > cx.now).map(|(name, _)| name.as_str());
        let taken: BTreeSet<&str> = self.devices.values().map(Device::short_name).chain(held).collect();
        // One of more names than are taken is free.
        let mut names = (1..=taken.len() + 1).map(|number| format!("{name}-{number}"));
        names.find(|candidate| !taken.contains(candidate.as_str())).unwrap_or_else(|| name.to_owned())
    }

    /// Takes a device off the tailnet. Its name may stay taken for a while.
    fn remove(&mut self, cx: &mut Context, node: &str, by_itself: bool) {
        if let Some(device) = self.devices.remove(node) {
            cx.note(device.removed(by_itself));
            let until = cx.now.saturating_add(length(self.config.name_held_seconds));
            self.held_names.retain(|_, until| *until > cx.now);
            self.held_names.insert(device.short_name().to_owned(), until);
        }
    }

    pub(crate) fn set_connected(&mut self, cx: &mut Context, node: &NodeId, connected: bool) {
        if let Some(device) = self.devices.get_mut(&node.0) {
            if device.connected && !connected {
                device.missed_from = cx.now.saturating_add(length(self.config.disconnect_seconds));
            }
            device.connected = connected;
            device.last_seen = cx.now;
        }
    }

    /// When an ephemeral device that is away will be removed: with the first batch after its time.
    fn ephemeral_end(&self, device: &Device) -> Option<Duration> {
        if !device.ephemeral || device.connected {
            return None;
        }
        let earliest = device.last_seen.saturating_add(length(self.config.ephemeral_seconds));
        let batch = length(self.config.ephemeral_batch_seconds).as_millis();
        if batch == 0 {
            return Some(earliest);
        }
        let end = earliest.as_millis().div_ceil(batch).saturating_mul(batch);
        Some(Duration::from_millis(u64::try_from(end).unwrap_or(u64::MAX)).max(earliest))
    }

    /// Removes ephemeral devices that have been away for too long, and forgets tokens whose time is up.
    pub(crate) fn tick(&mut self, cx: &mut Context) {
        self.tokens.retain(|_, token| token.expires > cx.now);
        let gone: Vec<String> = self
            .devices
            .values()
            .filter(|device| self.ephemeral_end(device).is_some_and(|end| end <= cx.now))
            .map(|device| device.node_id.clone())
            .collect();
        for id in gone {
            self.remove(cx, &id, true);
        }
    }

    pub(crate) fn next_event(&self) -> Option<Duration> {
        self.devices.values().filter_map(|device| self.ephemeral_end(device)).min()
    }

    /// Takes a device off the tailnet as somebody at the console would.
    pub(crate) fn remove_device(&mut self, cx: &mut Context, node: &NodeId) {
        self.remove(cx, &node.0, false);
    }

    pub(crate) fn devices(&self, cx: &Context) -> impl Iterator<Item = DeviceView<'_>> {
        self.devices.values().map(|device| device.view(cx))
    }

    pub(crate) fn keys(&self, now: Duration) -> impl Iterator<Item = KeyView<'_>> {
        self.keys.values().map(move |key| key.view(now))
    }

    /// What is true; no secrets.
    pub(crate) fn snapshot(&self, cx: &Context) -> Value {
        let tokens = self.tokens.values().filter(|token| token.expires > cx.now).count();
        let keys: Vec<Value> = self.keys.values().map(|key| key.truth(cx)).collect();
        let devices: Vec<Value> = self.devices.values().map(|device| device.truth(cx)).collect();
        json!({ "keys": keys, "devices": devices, "tokens": tokens })
    }
}

#[cfg(test)]
mod tests;

//! `POST /servers`: the checks in the order in which the real API seems to make them, then the server.

use std::net::IpAddr;

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::binding::Bindings;
use super::catalogue::{self, Image, Sale, Type};
use super::input::{Checked, invalid, read_body, read_labels};
use super::selector::Labels;
use super::{Hetzner, Server};
use crate::agenda::{Agenda, Happening};
use crate::config::HetznerConfig;
use crate::context::Context;
use crate::history::{SecretKind, What};
use crate::reply::{hetzner_error, json_reply, object};
use crate::world::between;

const LARGEST_USER_DATA: usize = 32 * 1024;

/// An order that passed every check.
struct Order {
    name: String,
    server_type: &'static Type,
    location: &'static str,
    image: &'static Image,
    labels: Labels,
    user_data: Option<String>,
    /// The keys that may log in.
    ssh_keys: Vec<u64>,
    start: bool,
    ipv4: Address,
    ipv6: Address,
    bindings: Bindings,
}

/// A public address of an order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Address {
    None,
    /// A new one.
    New,
    /// One of the project.
    Given(u64),
}

impl Hetzner {
    pub(super) fn create_server(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        body: &[u8],
    ) -> Response<Bytes> {
        match read_body(body).and_then(|body| self.check(cx, config, &body)) {
            Ok(order) => self.carry_out(cx, agenda, config, order),
            Err(refusal) => *refusal,
        }
    }

    fn check(&self, cx: &Context, config: &HetznerConfig, body: &Map<String, Value>) -> Checked<Order> {
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        if !is_hostname(name) {
            return Err(invalid("name", "must be a valid hostname").into());
        }
        for field in ["server_type", "image"] {
            if !matches!(body.get(field), Some(Value::String(_) | Value::Number(_))) {
                return Err(invalid(field, "Missing data for required field.").into());
            }
        }
        let server_type =
            Type::find(&body["server_type"]).ok_or_else(|| invalid("server_type", "server type not found"))?;
        let location = match body.get("location") {
            None | Some(Value::Null) => "nbg1",
            Some(location) => {
                catalogue::find_location(location).ok_or_else(|| invalid("location", "location not found"))?
            }
        };
        let image = Image::find(&body["image"], server_type.arm)
            .ok_or_else(|| hetzner_error(404, "not_found", "image not found", Value::Null))?;
        if image.arm != server_type.arm {
            return Err(invalid("image", "image architecture does not match the server type").into());
        }
        let ssh_keys = self.check_ssh_keys(body.get("ssh_keys"))?;
        let user_data = body.get("user_data").and_then(Value::as_str).map(str::to_owned);
        if user_data.as_ref().is_some_and(|text| text.len() > LARGEST_USER_DATA) {
            return Err(invalid("user_data", "Length must be between 0 and 32768.").into());
        }
        let labels = read_labels(body.get("labels"))?;
        let (ipv4, ipv6) = (self.check_address(body, "ipv4", location)?, self.check_address(body, "ipv6", location)?);
        let held = self.held_names.get(name).is_some_and(|until| *until > cx.now);
        if held || self.servers.values().any(|server| server.name == name) {
            let details = json!({ "fields": [{ "name": "name" }] });
            return Err(hetzner_error(409, "uniqueness_error", "server name is already used", details).into());
        }
        let is_public = [ipv4, ipv6] != [Address::None; 2];
        let bindings = self.check_bindings(body, location, is_public)?;
        let start = body.get("start_after_create").and_then(Value::as_bool).unwrap_or(true);
        if start && !is_public && bindings.networks.is_empty() {
            // Only what is not to be started at once can do without (ansible-collections/hetzner.hcloud#150, #356).
            return Err(invalid("public_net", "server needs at least one network").into());
        }
        if self.servers.len() >= config.server_limit {
            let details = json!({ "limits": [{ "name": "server_limit" }] });
            return Err(hetzner_error(403, "resource_limit_exceeded", "server limit exceeded", details).into());
        }
        let new_ips = [ipv4, ipv6].into_iter().filter(|address| *address == Address::New).count();
        if self.primary_ips.len() + new_ips > config.primary_ip_limit {
            let details = json!({ "limits": [{ "name": "primary_ip_limit" }] });
            return Err(hetzner_error(403, "resource_limit_exceeded", "primary ip limit exceeded", details).into());
        }
        check_sale(config, server_type, location)?;
        let name = name.to_owned();
        Ok(Order { name, server_type, location, image, labels, user_data, ssh_keys, start, ipv4, ipv6, bindings })
    }

    /// What an order says of its address of this family. An id counts for nothing where the family is switched off.
    fn check_address(&self, body: &Map<String, Value>, family: &str, location: &str) -> Checked<Address> {
        let net = body.get("public_net");
        let switch = net.and_then(|net| net.get(format!("enable_{family}"))).and_then(Value::as_bool);
        if switch == Some(false) {
            return Ok(Address::None);
        }
        let given = self.check_given_ip(net.and_then(|net| net.get(family)), family == "ipv6", location)?;
        Ok(given.map_or(Address::New, Address::Given))
    }

    fn check_ssh_keys(&self, keys: Option<&Value>) -> Checked<Vec<u64>> {
        let Some(keys) = keys.filter(|keys| !keys.is_null()) else { return Ok(Vec::new()) };
        let Some(keys) = keys.as_array() else { return Err(invalid("ssh_keys", "Not a valid list.").into()) };
        let find = |key| self.ssh_keys.values().find(|known| catalogue::is(key, known.id, &known.name));
        let id = |key| find(key).map(|known| known.id).ok_or_else(|| invalid("ssh_keys", "SSH key not found").into());
        keys.iter().map(id).collect()
    }

    fn carry_out(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        order: Order,
    ) -> Response<Bytes> {
        let mut server = self.new_server(cx, order.name, order.labels, order.server_type, order.location, order.image);
        server.user_data = order.user_data;
        server.ssh_keys = order.ssh_keys;
        server.locked = config.locked_while_creating;
        let made_ips = self.address(cx, config, &mut server, order.ipv4, order.ipv6);
        let (least, most) = config.create_seconds;
        let length = between(cx, least, most);
        let resources = vec![(server.id, "server"), (order.image.id, "image")];
        let create = self.begin_action(cx, agenda, "create_server", resources, None);
        agenda.put(cx.now + length, Happening::ActionEnds(create));
        let mut next = Vec::new();
        if order.start {
            next.push(self.follow_create(cx, "start_server", create, vec![(server.id, "server")]));
        }
        next.extend(self.bind(cx, &mut server, create, &order.bindings));
        let password = (server.ssh_keys.is_empty() || config.always_root_password)
            .then(|| cx.text(20, "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"));
        if let Some(text) = password.clone() {
            cx.note(What::SecretIssued { kind: SecretKind::RootPassword, text });
        }
        let (id, name, labels) = (server.id, server.name.clone(), server.labels.clone());
        self.servers.insert(id, server);
        let body = object([
            ("server", self.server_json(cx, config, &self.servers[&id])),
            ("action", self.actions[&create].json(cx)),
            ("next_actions", Value::Array(next)),
            ("root_password", password.map_or(Value::Null, Value::String)),
        ]);
        cx.note(What::ServerMade { id, name, labels });
        for ip in made_ips {
            cx.note(What::PrimaryIpMade { id: ip, server: id });
        }
        json_reply(201, &body)
    }

    /// Gives a server the addresses of its order. Returns the ids of those that are noted as having come with it.
    fn address(
        &mut self,
        cx: &Context,
        config: &HetznerConfig,
        server: &mut Server,
        ipv4: Address,
        ipv6: Address,
    ) -> Vec<u64> {
        let mut ids = Vec::new();
        let own = [server.ipv4.take().map(IpAddr::from), server.ipv6.take().map(IpAddr::from)];
        for (address, own) in [ipv4, ipv6].into_iter().zip(own) {
            let (id, ip) = match (address, own) {
                (Address::Given(id), _) => (id, self.assign_ip(id, server.id)),
                (Address::New, Some(ip)) => (self.new_ip(cx, server, ip, config.primary_ips_auto_delete), Some(ip)),
                _ => continue,
            };
            match ip {
                Some(IpAddr::V4(ip)) => (server.ipv4, server.ipv4_id) = (Some(ip), id),
                Some(IpAddr::V6(ip)) => (server.ipv6, server.ipv6_id) = (Some(ip), id),
                None => {}
            }
            ids.push(id);
        }
        ids
    }
}

/// Whether a type can be had in a place, now.
fn check_sale(config: &HetznerConfig, server_type: &Type, location: &str) -> Checked<()> {
    match server_type.sale(location) {
        Sale::Unlisted => {
            Err(hetzner_error(422, "invalid_input", "unsupported location for server type", json!({})).into())
        }
        Sale::Withdrawn if config.withdrawn_is_412 => {
            Err(hetzner_error(412, "resource_unavailable", "server type is unavailable in this location", json!({}))
                .into())
        }
        Sale::Withdrawn => {
            let message = format!("server type {} is deprecated in {location}", server_type.id);
            Err(hetzner_error(422, "invalid_input", &message, json!({})).into())
        }
        Sale::Sold
            if server_type.is_scarce() || config.out_of_stock.contains(&format!("{}@{location}", server_type.name)) =>
        {
            Err(hetzner_error(412, "resource_unavailable", "error during placement", json!({})).into())
        }
        Sale::Sold => Ok(()),
    }
}

/// RFC 1123: labels of letters, digits and hyphens, with dots between.
pub(super) fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && !name.is_empty() && name.split('.').all(label)
}

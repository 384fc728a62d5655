//! `POST /servers`: the checks in the order in which the real API seems to make them, then the server.

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::Hetzner;
use super::action::{Action, ActionState};
use super::catalogue::{self, Image, Sale, Type};
use super::selector::{Labels, complaint};
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
    has_keys: bool,
    start: bool,
    ipv4: bool,
    ipv6: bool,
    /// An address of the project that the server is to have instead of a new one.
    given_ipv4: Option<u64>,
}

fn invalid(field: &str, message: &str) -> Response<Bytes> {
    let details = json!({ "fields": [{ "name": field, "messages": [message] }] });
    hetzner_error(422, "invalid_input", &format!("invalid input in field '{field}'"), details)
}

impl Hetzner {
    pub(super) fn create_server(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        body: &[u8],
    ) -> Response<Bytes> {
        let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(body) else {
            return hetzner_error(400, "json_error", "could not parse the request body as JSON", Value::Null);
        };
        match self.check(cx, config, &body) {
            Ok(order) => self.carry_out(cx, agenda, config, order),
            Err(refusal) => *refusal,
        }
    }

    fn check(
        &self,
        cx: &Context,
        config: &HetznerConfig,
        body: &Map<String, Value>,
    ) -> Result<Order, Box<Response<Bytes>>> {
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
        let has_keys = self.check_ssh_keys(body.get("ssh_keys"))?;
        let user_data = body.get("user_data").and_then(Value::as_str).map(str::to_owned);
        if user_data.as_ref().is_some_and(|text| text.len() > LARGEST_USER_DATA) {
            return Err(invalid("user_data", "Length must be between 0 and 32768.").into());
        }
        let labels = read_labels(body.get("labels"))?;
        let net = |field: &str| {
            body.get("public_net").and_then(|net| net.get(field)).and_then(Value::as_bool).unwrap_or(true)
        };
        let (ipv4, ipv6) = (net("enable_ipv4"), net("enable_ipv6"));
        if !ipv4 && !ipv6 {
            return Err(invalid("public_net", "server needs at least one network").into());
        }
        let given_ipv4 = self.check_given_ip(body.get("public_net"))?;
        let held = self.held_names.get(name).is_some_and(|until| *until > cx.now);
        if held || self.servers.values().any(|server| server.name == name) {
            let details = json!({ "fields": [{ "name": "name" }] });
            return Err(hetzner_error(409, "uniqueness_error", "server name is already used", details).into());
        }
        if self.servers.len() >= config.server_limit {
            let details = json!({ "limits": [{ "name": "server_limit" }] });
            return Err(hetzner_error(403, "resource_limit_exceeded", "server limit exceeded", details).into());
        }
        if self.primary_ips.len() + usize::from(ipv4) + usize::from(ipv6) > config.primary_ip_limit {
            let details = json!({ "limits": [{ "name": "primary_ip_limit" }] });
            return Err(hetzner_error(403, "resource_limit_exceeded", "primary ip limit exceeded", details).into());
        }
        check_sale(config, server_type, location)?;
        let start = body.get("start_after_create").and_then(Value::as_bool).unwrap_or(true);
        let name = name.to_owned();
        Ok(Order { name, server_type, location, image, labels, user_data, has_keys, start, ipv4, ipv6, given_ipv4 })
    }

    fn check_given_ip(&self, net: Option<&Value>) -> Result<Option<u64>, Box<Response<Bytes>>> {
        let Some(id) = net.and_then(|net| net.get("ipv4")).and_then(Value::as_u64) else { return Ok(None) };
        match self.primary_ips.get(&id) {
            None => Err(hetzner_error(404, "not_found", "primary ip not found", Value::Null).into()),
            Some(ip) if ip.assignee.is_some() => {
                Err(hetzner_error(422, "primary_ip_assigned", "primary ip is already assigned", json!({})).into())
            }
            Some(_) => Ok(Some(id)),
        }
    }

    fn check_ssh_keys(&self, keys: Option<&Value>) -> Result<bool, Box<Response<Bytes>>> {
        let Some(keys) = keys.filter(|keys| !keys.is_null()) else { return Ok(false) };
        let Some(keys) = keys.as_array() else { return Err(invalid("ssh_keys", "Not a valid list.").into()) };
        for key in keys {
            if !self.ssh_keys.values().any(|known| catalogue::is(key, known.id, &known.name)) {
                return Err(invalid("ssh_keys", "SSH key not found").into());
            }
        }
        Ok(!keys.is_empty())
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
        server.has_ipv4 = order.ipv4;
        server.locked = config.locked_while_creating;
        let given = order.given_ipv4.and_then(|id| self.primary_ips.get_mut(&id));
        if let Some(ip) = given {
            ip.assignee = Some(server.id);
            server.ipv4_id = ip.id;
            server.ipv4 = ip.ip.parse().unwrap_or(server.ipv4);
        } else if order.ipv4 {
            server.ipv4_id = self.new_ip(cx, &server, false, config.primary_ips_auto_delete);
        }
        if order.ipv6 {
            server.ipv6_id = self.new_ip(cx, &server, true, config.primary_ips_auto_delete);
        }
        let (least, most) = config.create_seconds;
        let length = between(cx, least, most);
        let create = self.begin_action(cx, agenda, "create_server", server.id, None);
        if let Some(action) = self.actions.get_mut(&create) {
            action.image = Some(order.image.id);
        }
        agenda.put(cx.now + length, Happening::ActionEnds(create));
        let mut next = Vec::new();
        if order.start {
            self.next_action += 1;
            let start = Action {
                id: self.next_action,
                command: "start_server",
                server: server.id,
                image: None,
                parent: Some(create),
                started: cx.now,
                state: ActionState::Running,
            };
            next.push(start.json(cx));
            self.actions.insert(start.id, start);
        }
        let password = (!order.has_keys || config.always_root_password)
            .then(|| cx.text(20, "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"));
        if let Some(text) = password.clone() {
            cx.note(What::SecretIssued { kind: SecretKind::RootPassword, text });
        }
        let body = object([
            ("server", server.json(cx, config)),
            ("action", self.actions[&create].json(cx)),
            ("next_actions", Value::Array(next)),
            ("root_password", password.map_or(Value::Null, Value::String)),
        ]);
        let (id, name, labels) = (server.id, server.name.clone(), server.labels.clone());
        let ips = [server.ipv4_id, server.ipv6_id];
        self.servers.insert(id, server);
        cx.note(What::ServerMade { id, name, labels });
        for ip in ips.into_iter().filter(|ip| *ip != 0) {
            cx.note(What::PrimaryIpMade { id: ip, server: id });
        }
        json_reply(201, &body)
    }
}

fn read_labels(labels: Option<&Value>) -> Result<Labels, Box<Response<Bytes>>> {
    let labels = match labels {
        None | Some(Value::Null) => Labels::new(),
        Some(labels) => {
            serde_json::from_value(labels.clone()).map_err(|_| invalid("labels", "Not a valid mapping."))?
        }
    };
    match complaint(&labels) {
        Some(complaint) => Err(invalid("labels", &complaint).into()),
        None => Ok(labels),
    }
}

/// Whether a type can be had in a place, now.
fn check_sale(config: &HetznerConfig, server_type: &Type, location: &str) -> Result<(), Box<Response<Bytes>>> {
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

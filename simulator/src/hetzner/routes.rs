//! Requests in, answers out: the limit, the token, and the table of routes.
//!
//! What is asked of servers, actions, SSH keys, addresses and what servers are bound to is answered in the file of each.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use serde_json::{Value, json};

use super::Hetzner;
use super::catalogue::{self, Image, Type};
use super::query::{Query, paged, parse, value, values};
use crate::agenda::Agenda;
use crate::config::HetznerConfig;
use crate::context::Context;
use crate::reply::{bearer_of, hetzner_error, json_reply, object, query_of, text_reply};

/// The first parts of all paths; anything else is answered before the token is looked at.
const ROOMS: [&str; 12] = [
    "servers",
    "actions",
    "server_types",
    "locations",
    "images",
    "ssh_keys",
    "primary_ips",
    "networks",
    "firewalls",
    "placement_groups",
    "pricing",
    "datacenters",
];

impl Hetzner {
    /// One request to the API.
    pub(crate) fn handle(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        request: &Request<Bytes>,
    ) -> Response<Bytes> {
        let mut response = match self.bucket.take(cx, config) {
            Ok(()) => self.authorize(cx, agenda, config, request),
            Err(refusal) => *refusal,
        };
        self.bucket.stamp(cx, config, &mut response);
        let id = cx.text(16, "0123456789abcdef");
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert("x-correlation-id", id);
        }
        response
    }

    fn authorize(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        request: &Request<Bytes>,
    ) -> Response<Bytes> {
        let path = request.uri().path().trim_start_matches("/v1").trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        if !ROOMS.contains(&parts[0]) {
            return text_reply(
                404,
                "application/json; charset=utf-8",
                "{\n  \"error\": {\n    \"code\": \"not_found\",\n    \"message\": \"api route not found\",\n    \"details\": null\n  }\n}\n",
            );
        }
        match bearer_of(request) {
            None => return hetzner_error(401, "unauthorized", "token is required", Value::Null),
            Some(token) if token == config.token => {}
            Some(token) if token == config.read_only_token => {
                if request.method() != Method::GET {
                    return hetzner_error(403, "forbidden", "the token is read-only", Value::Null);
                }
            }
            Some(_) => {
                return hetzner_error(401, "unauthorized", "the token you have provided is invalid", Value::Null);
            }
        }
        let query = query_of(request);
        self.answer(cx, agenda, config, request.method(), &parts, &query, request.body())
    }

    #[expect(clippy::too_many_arguments, reason = "the table of routes; all of it is one request")]
    fn answer(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        method: &Method,
        parts: &[&str],
        query: &Query,
        body: &[u8],
    ) -> Response<Bytes> {
        match (method.as_str(), parts) {
            ("GET", ["servers"]) => self.list_servers(cx, config, query),
            ("POST", ["servers"]) => self.create_server(cx, agenda, config, body),
            ("GET", ["servers", "actions"]) => self.list_actions(cx, query, None),
            ("GET", ["servers", "actions", id] | ["servers", _, "actions", id] | ["actions", id]) => {
                self.get_action(cx, id)
            }
            ("GET", ["actions"]) => self.get_actions(cx, query),
            ("GET", ["servers", id]) => match self.visible(cx, config, id) {
                Some(server) => json_reply(200, &object([("server", self.server_json(cx, config, server))])),
                None => not_found("server"),
            },
            ("PUT", ["servers", id]) => self.update_server(cx, config, id, body),
            ("DELETE", ["servers", id]) => self.delete_server(cx, agenda, config, id),
            ("GET", ["servers", id, "actions"]) => match parse(id).filter(|id| self.servers.contains_key(id)) {
                Some(id) => self.list_actions(cx, query, Some(id)),
                None => not_found("server"),
            },
            ("POST", ["servers", id, "actions", command]) => self.power(cx, agenda, config, id, command),
            ("GET", ["server_types"]) => {
                let wanted = value(query, "name");
                let all = Type::all().filter(|t| wanted.is_none_or(|name| t.name == name));
                paged("server_types", all.map(|t| t.piece(config)).collect(), query)
            }
            ("GET", ["server_types", id]) => match Type::find(&json!(id)) {
                Some(found) => json_reply(200, &json!({ "server_type": type_json(found, config) })),
                None => not_found("server type"),
            },
            ("GET", ["locations"]) => {
                let wanted = value(query, "name");
                let all = catalogue::locations().into_iter().filter(|l| wanted.is_none_or(|name| l["name"] == name));
                paged("locations", all.collect(), query)
            }
            ("GET", ["locations", id]) => match catalogue::find_location(&json!(id)) {
                Some(name) => json_reply(200, &json!({ "location": catalogue::location(name) })),
                None => not_found("location"),
            },
            ("GET", ["images"]) => list_images(cx, config, query),
            ("GET", ["images", id]) => match Image::all().find(|image| Some(image.id) == parse(id)) {
                Some(image) => json_reply(200, &json!({ "image": image.json(cx, config.show_deprecated) })),
                None => not_found("image"),
            },
            ("GET" | "POST" | "DELETE", ["ssh_keys", ..]) => self.ssh_keys(cx, method, &parts[1..], query, body),
            ("GET" | "DELETE", ["primary_ips", ..]) => self.primary_ips(cx, method, &parts[1..], query),
            (_, ["networks", rest @ ..]) => self.networks(cx, method, rest, query, body),
            (_, ["firewalls", rest @ ..]) => self.firewalls(cx, agenda, config, method, rest, query, body),
            (_, ["placement_groups", rest @ ..]) => self.placement_groups(cx, method, rest, query, body),
            ("GET", ["pricing"]) => json_reply(200, &pricing(config)),
            (_, ["datacenters", ..]) => {
                let details =
                    json!({ "announcement": "https://docs.hetzner.cloud/changelog#2026-07-01-removing-datacenters" });
                hetzner_error(410, "deprecated_api_endpoint", "API functionality was removed", details)
            }
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }
}

fn list_images(cx: &Context, config: &HetznerConfig, query: &Query) -> Response<Bytes> {
    let (name, architecture, kinds) = (value(query, "name"), value(query, "architecture"), values(query, "type"));
    let images = Image::all().filter(|image| {
        let kind = if image.is_snapshot() { "snapshot" } else { "system" };
        name.is_none_or(|name| image.name == Some(name))
            && architecture.is_none_or(|wanted| image.architecture() == wanted)
            && (kinds.is_empty() || kinds.contains(&kind))
    });
    paged("images", images.map(|image| image.json(cx, config.show_deprecated)).collect(), query)
}

fn type_json(server_type: &Type, config: &HetznerConfig) -> Value {
    let out_of_stock = |location: &str| config.out_of_stock.contains(&format!("{}@{location}", server_type.name));
    server_type.json(out_of_stock, config.show_deprecated)
}

fn pricing(config: &HetznerConfig) -> Value {
    let amount = |net: &str| json!({ "net": net, "gross": format!("{net}000000") });
    let types: Vec<Value> =
        Type::all().map(|t| json!({ "id": t.id, "name": t.name, "prices": type_json(t, config)["prices"] })).collect();
    json!({ "pricing": {
        "currency": "EUR", "vat_rate": "0.000000",
        "primary_ips": [], "floating_ips": [], "load_balancer_types": [], "server_types": types,
        "floating_ip": { "price_monthly": amount("3.0000000000") },
        "image": { "price_per_gb_month": amount("0.0119000000") },
        "volume": { "price_per_gb_month": amount("0.0440000000") },
        "server_backup": { "percentage": "20.0000000000" },
    } })
}

pub(super) fn not_found(what: &str) -> Response<Bytes> {
    hetzner_error(404, "not_found", &format!("{what} not found"), Value::Null)
}

//! Requests in, answers out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use serde_json::{Value, json};

use super::catalogue::{self, Image, Type};
use super::selector::{Labels, Selector, complaint};
use super::server::Server;
use super::{Hetzner, PrimaryIp, SshKey, action::Action, order::is_hostname};
use crate::agenda::Agenda;
use crate::config::HetznerConfig;
use crate::context::Context;
use crate::history::What;
use crate::reply::{bearer_of, hetzner_error, json_reply, object, query_of, text_reply};

/// The first parts of all paths; anything else is answered before the token is looked at.
const ROOMS: [&str; 9] =
    ["servers", "actions", "server_types", "locations", "images", "ssh_keys", "primary_ips", "pricing", "datacenters"];
/// `GET /actions` answers for no more ids than this.
const MOST_ACTION_IDS: usize = 25;

type Query = Vec<(String, String)>;

fn not_found(what: &str) -> Response<Bytes> {
    hetzner_error(404, "not_found", &format!("{what} not found"), Value::Null)
}

fn value<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn values<'a>(query: &'a Query, name: &str) -> Vec<&'a str> {
    query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
}

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
                Some(server) => json_reply(200, &object([("server", server.json(cx, config))])),
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
            ("GET", ["pricing"]) => json_reply(200, &pricing(config)),
            (_, ["datacenters", ..]) => {
                let details =
                    json!({ "announcement": "https://docs.hetzner.cloud/changelog#2026-07-01-removing-datacenters" });
                hetzner_error(410, "deprecated_api_endpoint", "API functionality was removed", details)
            }
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }

    /// A server as reads show it: a new one perhaps not yet, a deleted one perhaps still.
    fn visible(&self, cx: &Context, config: &HetznerConfig, id: &str) -> Option<&Server> {
        let id = parse(id)?;
        let living = self.servers.get(&id).filter(|server| is_shown(server, cx, config));
        living.or_else(|| {
            self.graves.get(&id).filter(|(_, gone)| is_haunting(*gone, cx, config)).map(|(server, _)| server)
        })
    }

    fn list_servers(&self, cx: &Context, config: &HetznerConfig, query: &Query) -> Response<Bytes> {
        let selector = match value(query, "label_selector").map(Selector::parse) {
            Some(None) => return hetzner_error(422, "invalid_input", "invalid label selector", json!({})),
            selector => selector.flatten(),
        };
        let (name, statuses) = (value(query, "name"), values(query, "status"));
        let dead = self.graves.values().filter(|(_, gone)| is_haunting(*gone, cx, config)).map(|(server, _)| server);
        let mut servers: Vec<&Server> =
            self.servers.values().filter(|server| is_shown(server, cx, config)).chain(dead).collect();
        servers.retain(|server| {
            name.is_none_or(|name| server.name == name)
                && (statuses.is_empty() || statuses.contains(&server.status))
                && selector.as_ref().is_none_or(|selector| selector.fits(server.shown_labels(cx, config)))
        });
        for key in values(query, "sort").into_iter().rev() {
            let (field, down) = key.split_once(':').map_or((key, false), |(field, order)| (field, order == "desc"));
            match field {
                "name" => servers.sort_by(|a, b| a.name.cmp(&b.name)),
                "id" | "created" => servers.sort_by_key(|server| server.id),
                _ => {}
            }
            if down {
                servers.reverse();
            }
        }
        paged("servers", servers.into_iter().map(|server| server.json(cx, config)).collect(), query)
    }

    fn update_server(&mut self, cx: &mut Context, config: &HetznerConfig, id: &str, body: &[u8]) -> Response<Bytes> {
        let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(body) else {
            return hetzner_error(400, "json_error", "could not parse the request body as JSON", Value::Null);
        };
        let labels = match body.get("labels").map(|labels| serde_json::from_value::<Labels>(labels.clone())) {
            Some(Ok(labels)) => match complaint(&labels) {
                Some(complaint) => return hetzner_error(422, "invalid_input", &complaint, json!({})),
                None => Some(labels),
            },
            Some(Err(_)) => return hetzner_error(422, "invalid_input", "invalid input in field 'labels'", json!({})),
            None => None,
        };
        let name = body.get("name").and_then(Value::as_str).map(str::to_owned);
        if let Some(name) = &name {
            if !is_hostname(name) {
                return hetzner_error(422, "invalid_input", "invalid input in field 'name'", json!({}));
            }
            if self.servers.values().any(|server| server.name == *name && Some(server.id) != parse(id)) {
                let details = json!({ "fields": [{ "name": "name" }] });
                return hetzner_error(409, "uniqueness_error", "server name is already used", details);
            }
        }
        let Some(server) = parse(id).and_then(|id| self.servers.get_mut(&id)) else { return not_found("server") };
        server.relabel(cx, name, labels);
        json_reply(200, &object([("server", server.json(cx, config))]))
    }

    fn delete_server(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        id: &str,
    ) -> Response<Bytes> {
        let Some(server) = parse(id).and_then(|id| self.servers.get(&id)) else { return not_found("server") };
        if server.protected {
            return hetzner_error(423, "protected", "server deletion is protected", Value::Null);
        }
        if server.locked {
            return locked();
        }
        let id = server.id;
        self.remove(cx, config, id);
        let length = Duration::from_secs_f64(config.action_seconds);
        let action = self.begin_action(cx, agenda, "delete_server", id, Some(length));
        json_reply(200, &json!({ "action": self.actions[&action].json(cx) }))
    }

    fn power(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        id: &str,
        command: &str,
    ) -> Response<Bytes> {
        let command = match command {
            "poweron" => "start_server",
            "poweroff" => "stop_server",
            "shutdown" => "shutdown_server",
            "reboot" => "reboot_server",
            "reset" => "reset_server",
            _ => return not_found("action"),
        };
        let Some(server) = parse(id).and_then(|id| self.servers.get(&id)) else { return not_found("server") };
        if server.locked {
            return locked();
        }
        let id = server.id;
        let length = Duration::from_secs_f64(config.action_seconds);
        let action = self.begin_action(cx, agenda, command, id, Some(length));
        json_reply(201, &json!({ "action": self.actions[&action].json(cx) }))
    }

    fn get_action(&self, cx: &Context, id: &str) -> Response<Bytes> {
        match parse(id).and_then(|id| self.actions.get(&id)) {
            Some(action) => json_reply(200, &json!({ "action": action.json(cx) })),
            None => not_found("action"),
        }
    }

    fn get_actions(&self, cx: &Context, query: &Query) -> Response<Bytes> {
        let ids = values(query, "id");
        if ids.is_empty() {
            let details = json!({ "fields": [{ "name": "id", "messages": ["Missing data for required field."] }] });
            return hetzner_error(422, "invalid_input", "invalid input in field 'id'", details);
        }
        // Unknown ids are simply not there, and so are those beyond the cap.
        let found = ids.into_iter().take(MOST_ACTION_IDS).filter_map(parse).filter_map(|id| self.actions.get(&id));
        let actions: Vec<Value> = found.map(|action| action.json(cx)).collect();
        json_reply(200, &object([("actions", Value::Array(actions))]))
    }

    fn list_actions(&self, cx: &Context, query: &Query, server: Option<u64>) -> Response<Bytes> {
        let (ids, statuses) = (values(query, "id"), values(query, "status"));
        let fits = |action: &&Action| {
            let json = action.json(cx);
            server.is_none_or(|server| action.server == server)
                && (ids.is_empty() || ids.iter().any(|id| parse(id) == Some(action.id)))
                && (statuses.is_empty() || statuses.iter().any(|status| json["status"] == *status))
        };
        paged("actions", self.actions.values().filter(fits).map(|action| action.json(cx)).collect(), query)
    }

    fn ssh_keys(
        &mut self,
        cx: &Context,
        method: &Method,
        rest: &[&str],
        query: &Query,
        body: &[u8],
    ) -> Response<Bytes> {
        match (method.as_str(), rest) {
            ("GET", []) => {
                let name = value(query, "name");
                let keys = self.ssh_keys.values().filter(|key| name.is_none_or(|name| key.name == name));
                paged("ssh_keys", keys.map(|key| key.json(cx)).collect(), query)
            }
            ("POST", []) => self.create_ssh_key(cx, body),
            ("GET", [id]) => match parse(id).and_then(|id| self.ssh_keys.get(&id)) {
                Some(key) => json_reply(200, &json!({ "ssh_key": key.json(cx) })),
                None => not_found("ssh key"),
            },
            ("DELETE", [id]) => match parse(id).and_then(|id| self.ssh_keys.remove(&id)) {
                Some(_) => text_reply(204, "application/json", ""),
                None => not_found("ssh key"),
            },
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }

    fn create_ssh_key(&mut self, cx: &Context, body: &[u8]) -> Response<Bytes> {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return hetzner_error(400, "json_error", "could not parse the request body as JSON", Value::Null);
        };
        let (Some(name), Some(public_key)) = (body["name"].as_str(), body["public_key"].as_str()) else {
            return hetzner_error(422, "invalid_input", "invalid input in field 'name'", json!({}));
        };
        for (field, taken) in [
            ("name", self.ssh_keys.values().any(|key| key.name == name)),
            ("public_key", self.ssh_keys.values().any(|key| key.public_key == public_key)),
        ] {
            if taken {
                let details = json!({ "fields": [{ "name": field }] });
                return hetzner_error(409, "uniqueness_error", "SSH key not unique", details);
            }
        }
        let id = self.next_key;
        self.next_key += 1;
        let labels = serde_json::from_value(body["labels"].clone()).unwrap_or_default();
        let key = SshKey { id, name: name.to_owned(), public_key: public_key.to_owned(), labels, created: cx.now };
        let answer = json_reply(201, &json!({ "ssh_key": key.json(cx) }));
        self.ssh_keys.insert(id, key);
        answer
    }

    fn primary_ips(&mut self, cx: &mut Context, method: &Method, rest: &[&str], query: &Query) -> Response<Bytes> {
        match (method.as_str(), rest) {
            ("GET", []) => {
                let ip = value(query, "ip");
                let ips = self.primary_ips.values().filter(|known| ip.is_none_or(|ip| known.ip == ip));
                paged("primary_ips", ips.map(|ip| ip.json(cx)).collect(), query)
            }
            ("GET", [id]) => match parse(id).and_then(|id| self.primary_ips.get(&id)) {
                Some(ip) => json_reply(200, &json!({ "primary_ip": ip.json(cx) })),
                None => not_found("primary ip"),
            },
            ("DELETE", [id]) => match parse(id).and_then(|id| self.primary_ips.get(&id)).map(|ip| (ip.id, ip.assignee))
            {
                None => not_found("primary ip"),
                Some((_, Some(_))) => hetzner_error(422, "primary_ip_assigned", "primary ip is assigned", Value::Null),
                Some((id, None)) => {
                    self.primary_ips.remove(&id);
                    cx.note(What::PrimaryIpRemoved { id });
                    text_reply(204, "application/json", "")
                }
            },
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }
}

impl SshKey {
    fn json(&self, cx: &Context) -> Value {
        // The real one is the MD5 of the key; any text of that form serves those who only show it.
        let print: Vec<String> = (0..16_u64).map(|part| format!("{:02x}", (self.id * 31 + part * 17) % 256)).collect();
        json!({
            "id": self.id, "name": self.name, "fingerprint": print.join(":"), "public_key": self.public_key,
            "labels": self.labels, "created": cx.timestamp_at(self.created),
        })
    }
}

impl PrimaryIp {
    fn json(&self, cx: &Context) -> Value {
        json!({
            "id": self.id, "name": format!("primary_ip-{}", self.id), "ip": if self.v6 { format!("{}/64", self.ip) } else { self.ip.clone() },
            "type": if self.v6 { "ipv6" } else { "ipv4" },
            "assignee_id": self.assignee, "assignee_type": if self.assignee.is_some() { "server" } else { "unassigned" },
            "auto_delete": self.auto_delete, "blocked": false, "created": cx.timestamp_at(self.created), "dns_ptr": [],
            "labels": {}, "location": catalogue::location(self.location), "protection": { "delete": false },
        })
    }
}

fn parse(id: &str) -> Option<u64> {
    id.parse().ok()
}

fn is_shown(server: &Server, cx: &Context, config: &HetznerConfig) -> bool {
    server.created + Duration::from_secs_f64(config.stale_created_seconds) <= cx.now
}

/// Whether reads still show what went at this moment.
fn is_haunting(gone: Duration, cx: &Context, config: &HetznerConfig) -> bool {
    gone + Duration::from_secs_f64(config.stale_deleted_seconds) > cx.now
}

fn locked() -> Response<Bytes> {
    hetzner_error(423, "locked", "cannot perform operation because server is locked", Value::Null)
}

fn type_json(server_type: &Type, config: &HetznerConfig) -> Value {
    let out_of_stock = |location: &str| config.out_of_stock.contains(&format!("{}@{location}", server_type.name));
    server_type.json(out_of_stock, config.show_deprecated)
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

/// One page of a list, with the six numbers that describe it.
fn paged(key: &str, items: Vec<Value>, query: &Query) -> Response<Bytes> {
    let number = |name: &str, usual: usize| value(query, name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (page, per_page) = (number("page", 1).max(1), number("per_page", 25).clamp(1, 50));
    let total = items.len();
    let last = total.div_ceil(per_page).max(1);
    let items: Vec<Value> = items.into_iter().skip((page - 1) * per_page).take(per_page).collect();
    let pagination = json!({
        "page": page, "per_page": per_page, "previous_page": (page > 1).then(|| page - 1),
        "next_page": (page < last).then_some(page + 1), "last_page": last, "total_entries": total,
    });
    let meta = object([("pagination", pagination)]);
    json_reply(200, &object([(key, Value::Array(items)), ("meta", meta)]))
}

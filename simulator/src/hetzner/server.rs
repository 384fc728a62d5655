//! Servers, how the API writes them (`facts/hetzner.md` 1.3), and the requests that read, change and delete them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::Hetzner;
use super::catalogue::{self, Image, Type};
use super::order::is_hostname;
use super::query::{Query, named, paged, parse, selector, sort, value, values};
use super::routes::not_found;
use super::selector::{Labels, complaint};
use crate::agenda::Agenda;
use crate::config::HetznerConfig;
use crate::context::Context;
use crate::history::{AppliedFirewall, PrivateNet, ServerView, What};
use crate::machine::JoinPlan;
use crate::memo::piece;
use crate::reply::{hetzner_error, json_reply, object};

/// A server of the project.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub id: u64,
    pub name: String,
    pub status: &'static str,
    pub created: Duration,
    pub labels: Labels,
    /// The labels before the last change, and when that was.
    pub labels_before: Option<(Labels, Duration)>,
    pub kind: &'static Type,
    pub location: &'static str,
    pub image: &'static Image,
    pub user_data: Option<String>,
    pub ipv4: Option<Ipv4Addr>,
    /// Its /64 network, by its first address.
    pub ipv6: Option<Ipv6Addr>,
    pub ipv4_id: u64,
    pub ipv6_id: u64,
    pub networks: Vec<PrivateNet>,
    pub firewalls: Vec<AppliedFirewall>,
    pub placement_group: Option<u64>,
    pub locked: bool,
    pub protected: bool,
    /// The keys that may log in.
    pub ssh_keys: Vec<u64>,
    /// The first-boot document was read.
    pub first_boot_done: bool,
    /// What its machine did then, a line each.
    pub boot: Vec<String>,
    /// What the document makes of it, until it has joined.
    pub plan: Option<JoinPlan>,
    /// The device that its machine became.
    pub node: Option<String>,
}

impl Server {
    /// Whether it has a public interface.
    pub(crate) fn is_public(&self) -> bool {
        self.ipv4.is_some() || self.ipv6.is_some()
    }

    /// Whether it could be started: without an interface it cannot.
    pub(crate) fn has_interface(&self) -> bool {
        self.is_public() || self.networks.iter().any(|net| net.attached)
    }

    /// Whether an address of a network is its own, or kept for it.
    pub(super) fn has_private_ip(&self, network: u64, ip: Ipv4Addr) -> bool {
        self.networks.iter().any(|net| net.network == network && net.ip == ip)
    }

    /// Where its machine says that it connects from: tailscaled reports the addresses of its interfaces. Behind a NAT that is
    /// the private one.
    pub(crate) fn connects_from(&self) -> Option<IpAddr> {
        let first = self.ipv6.map(|net| IpAddr::from(Ipv6Addr::from(u128::from(net) + 1)));
        let private = self.networks.iter().find(|net| net.attached).map(|net| IpAddr::from(net.ip));
        self.ipv4.map(IpAddr::from).or(first).or(private)
    }

    /// As the API writes it, but for its placement group, which the project knows.
    fn json(&self, cx: &Context, config: &HetznerConfig) -> Value {
        let ipv4 = self.ipv4.map(|ip| {
            let [a, b, c, d] = ip.octets();
            json!({
                "id": self.ipv4_id, "ip": ip.to_string(), "blocked": false,
                "dns_ptr": format!("static.{d}.{c}.{b}.{a}.clients.your-server.de"),
            })
        });
        let ipv6 = self
            .ipv6
            .map(|ip| json!({ "id": self.ipv6_id, "ip": format!("{ip}/64"), "blocked": false, "dns_ptr": [] }));
        let firewalls = self.firewalls.iter().map(|firewall| {
            json!({ "id": firewall.firewall, "status": if firewall.applied { "applied" } else { "pending" } })
        });
        let networks = self.networks.iter().filter(|net| net.attached);
        let networks = networks
            .map(|net| json!({ "network": net.network, "ip": net.ip, "alias_ips": [], "mac_address": net.mac }));
        let mut json = json!({
            "id": self.id, "name": self.name, "status": self.status, "created": cx.timestamp_at(self.created),
            "public_net": {
                "ipv4": null, "ipv6": null, "floating_ips": [], "firewalls": firewalls.collect::<Vec<_>>(),
            },
            "private_net": networks.collect::<Vec<_>>(),
            "server_type": null, "location": null, "image": null,
            "iso": null, "rescue_enabled": false, "locked": self.locked, "backup_window": null,
            "outgoing_traffic": 0, "ingoing_traffic": 0, "included_traffic": 0,
            "protection": { "delete": self.protected, "rebuild": self.protected },
            "labels": self.shown_labels(cx, config),
            "volumes": [], "load_balancers": [], "primary_disk_size": self.kind.disk, "placement_group": null,
        });
        json["public_net"]["ipv4"] = ipv4.unwrap_or_default();
        json["public_net"]["ipv6"] = ipv6.unwrap_or_default();
        json["server_type"] = self.kind.piece(config);
        json["location"] = piece(format!("location {}", self.location), || catalogue::location(self.location));
        json["image"] = self.image.json(cx, config.show_deprecated);
        json
    }

    /// The labels as reads show them.
    pub(crate) fn shown_labels(&self, cx: &Context, config: &HetznerConfig) -> &Labels {
        let stale = |at: Duration| at + Duration::from_secs_f64(config.stale_labels_seconds) > cx.now;
        self.labels_before.as_ref().filter(|(_, at)| stale(*at)).map_or(&self.labels, |(labels, _)| labels)
    }

    /// Writes its name and labels.
    pub(crate) fn relabel(&mut self, cx: &mut Context, name: Option<String>, labels: Option<Labels>) {
        let after = labels.unwrap_or_else(|| self.labels.clone());
        let before = std::mem::replace(&mut self.labels, after.clone());
        self.name = name.unwrap_or_else(|| self.name.clone());
        self.labels_before = Some((before.clone(), cx.now));
        cx.note(What::ServerLabelled { id: self.id, name: self.name.clone(), before, after });
    }

    /// What is true of it, typed.
    pub(crate) fn view(&self) -> ServerView<'_> {
        ServerView {
            id: self.id,
            name: &self.name,
            labels: &self.labels,
            node: self.node.as_deref(),
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            networks: &self.networks,
            firewalls: &self.firewalls,
            placement_group: self.placement_group,
            protected: self.protected,
        }
    }

    /// What is true of it, without its user data.
    pub(crate) fn truth(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "status": self.status, "labels": self.labels,
            "location": self.location, "server_type": self.kind.name, "image": self.image.id, "ssh_keys": self.ssh_keys,
            "ipv4": self.ipv4, "ipv6": self.ipv6, "networks": self.networks, "firewalls": self.firewalls,
            "placement_group": self.placement_group, "node": self.node,
            "protected": self.protected, "first_boot_done": self.first_boot_done, "boot": self.boot,
        })
    }
}

/// A server that is put into the world without a request.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlantedServer {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its type; `cpx11` if absent.
    pub server_type: Option<String>,
    /// Its location; `ash` if absent.
    pub location: Option<String>,
    /// Whether it is protected against deletion.
    pub protected: bool,
}

impl PlantedServer {
    /// Refuses a type or a location that there is not.
    ///
    /// # Errors
    ///
    /// Which.
    pub fn check(self) -> Result<Self, String> {
        let (server_type, location) = (self.server_type.as_deref(), self.location.as_deref());
        if let Some(name) = server_type.filter(|name| Type::find(&json!(name)).is_none()) {
            return Err(format!("server_type: there is no {name}"));
        }
        if let Some(name) = location.filter(|name| catalogue::find_location(&json!(name)).is_none()) {
            return Err(format!("location: there is no {name}"));
        }
        Ok(self)
    }
}

named!(Server);

impl Hetzner {
    /// A server as the API writes it.
    pub(super) fn server_json(&self, cx: &Context, config: &HetznerConfig, server: &Server) -> Value {
        let mut json = server.json(cx, config);
        if let Some(group) = server.placement_group.and_then(|id| self.placement_groups.get(&id)) {
            json["placement_group"] = self.placement_group_json(cx, group);
        }
        json
    }

    /// A server as reads show it: a new one perhaps not yet, a deleted one perhaps still.
    pub(super) fn visible(&self, cx: &Context, config: &HetznerConfig, id: &str) -> Option<&Server> {
        let id = parse(id)?;
        let living = self.servers.get(&id).filter(|server| is_shown(server, cx, config));
        living.or_else(|| {
            self.graves.get(&id).filter(|(_, gone)| is_haunting(*gone, cx, config)).map(|(server, _)| server)
        })
    }

    pub(super) fn list_servers(&self, cx: &Context, config: &HetznerConfig, query: &Query) -> Response<Bytes> {
        let selector = match selector(query) {
            Ok(selector) => selector,
            Err(refusal) => return *refusal,
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
        sort(&mut servers, query);
        paged("servers", servers.into_iter().map(|server| self.server_json(cx, config, server)).collect(), query)
    }

    pub(super) fn update_server(
        &mut self,
        cx: &mut Context,
        config: &HetznerConfig,
        id: &str,
        body: &[u8],
    ) -> Response<Bytes> {
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
        let Some(id) = parse(id).filter(|id| self.servers.contains_key(id)) else { return not_found("server") };
        if let Some(server) = self.servers.get_mut(&id) {
            server.relabel(cx, name, labels);
        }
        json_reply(200, &object([("server", self.server_json(cx, config, &self.servers[&id]))]))
    }

    pub(super) fn delete_server(
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
        let action = self.begin_action(cx, agenda, "delete_server", vec![(id, "server")], Some(length));
        json_reply(200, &json!({ "action": self.actions[&action].json(cx) }))
    }

    pub(super) fn power(
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
        let action = self.begin_action(cx, agenda, command, vec![(id, "server")], Some(length));
        json_reply(201, &json!({ "action": self.actions[&action].json(cx) }))
    }
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

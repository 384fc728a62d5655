//! Firewalls with their rules, and the requests about them.
//!
//! Facts: the API description (tag Firewalls), and the page "Cloud Firewalls FAQ" of Hetzner's documentation.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Map, Value, json};

use super::cidr::block;
use super::input::{Checked, in_use, invalid, read_body, read_labels, read_list, read_name};
use super::query::{Query, named, paged, parse, wanted};
use super::routes::not_found;
use super::selector::Labels;
use super::{Hetzner, Server};
use crate::agenda::Agenda;
use crate::config::HetznerConfig;
use crate::context::Context;
use crate::history::AppliedFirewall;
use crate::reply::{hetzner_error, json_reply, no_content};

const MOST_RULES: usize = 50;
const MOST_BLOCKS: usize = 100;

/// A firewall of the project.
#[derive(Clone, Debug)]
pub(super) struct Firewall {
    id: u64,
    name: String,
    labels: Labels,
    created: Duration,
    pub rules: Vec<Rule>,
}

/// What a firewall lets through.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    description: Option<String>,
    pub outbound: bool,
    protocol: String,
    /// As it was written, and what it means.
    port: Option<(String, u16, u16)>,
    /// Where from or where to, by its direction.
    blocks: Vec<String>,
}

named!(Firewall);

impl Rule {
    /// Whether it lets this port of everybody be reached. `everybody` is `0.0.0.0/0` or `::/0`; a world that is put
    /// together of smaller blocks is not recognised.
    pub(super) fn lets_out(&self, port: u16, everybody: &str) -> bool {
        let fits = self.port.as_ref().is_some_and(|(_, least, most)| (*least..=*most).contains(&port));
        self.outbound && self.protocol == "tcp" && fits && self.blocks.iter().any(|block| block == everybody)
    }

    fn read(rule: &Value) -> Checked<Self> {
        let complain = |message: &str| invalid("rules", message);
        let text = |field: &str| rule[field].as_str();
        let outbound = match text("direction") {
            Some("in") => false,
            Some("out") => true,
            _ => return Err(complain("direction must be one of: in, out").into()),
        };
        let protocol = text("protocol").filter(|name| ["tcp", "udp", "icmp", "esp", "gre"].contains(name));
        let protocol = protocol.ok_or_else(|| complain("protocol must be one of: tcp, udp, icmp, esp, gre"))?;
        let port = match (protocol, text("port")) {
            ("tcp" | "udp", Some(port)) => {
                let (least, most) = ports(port).ok_or_else(|| complain("port is no port and no range of ports"))?;
                Some((port.to_owned(), least, most))
            }
            // ansible-collections/hetzner.hcloud#344: mandatory for these two.
            ("tcp" | "udp", None) => return Err(complain("port is missing").into()),
            (_, Some(_)) => return Err(complain("port is only for tcp and udp").into()),
            (_, None) => None,
        };
        let (own, other) = if outbound { ("destination_ips", "source_ips") } else { ("source_ips", "destination_ips") };
        if rule[other].as_array().is_some_and(|blocks| !blocks.is_empty()) {
            return Err(complain(&format!("{other} does not go with this direction")).into());
        }
        let blocks = rule[own].as_array().map_or(&[][..], Vec::as_slice);
        let blocks: Option<Vec<String>> = blocks.iter().map(|text| text.as_str().and_then(block)).collect();
        let blocks = blocks.filter(|blocks| (1..=MOST_BLOCKS).contains(&blocks.len()));
        let blocks = blocks.ok_or_else(|| complain(&format!("{own} must be 1 to 100 CIDR blocks")))?;
        let description = text("description").map(str::to_owned);
        if description.as_ref().is_some_and(|text| text.chars().count() > 255) {
            return Err(complain("description is longer than 255").into());
        }
        Ok(Self { description, outbound, protocol: protocol.to_owned(), port, blocks })
    }

    fn json(&self) -> Value {
        let (source, destination) =
            if self.outbound { (&[][..], &self.blocks[..]) } else { (&self.blocks[..], &[][..]) };
        json!({
            "description": self.description, "direction": if self.outbound { "out" } else { "in" },
            "protocol": self.protocol, "port": self.port.as_ref().map(|(text, ..)| text),
            "source_ips": source, "destination_ips": destination,
        })
    }
}

/// `443`, `1024-5000` or, as the console and Terraform write all of them, `any`.
fn ports(text: &str) -> Option<(u16, u16)> {
    if text == "any" {
        return Some((1, u16::MAX));
    }
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let (least, most) = (least.parse().ok()?, most.parse().ok()?);
    (least > 0 && least <= most).then_some((least, most))
}

impl Hetzner {
    #[expect(clippy::too_many_arguments, reason = "a table of routes; all of it is one request")]
    pub(super) fn firewalls(
        &mut self,
        cx: &Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        method: &Method,
        rest: &[&str],
        query: &Query,
        body: &[u8],
    ) -> Response<Bytes> {
        match (method.as_str(), rest) {
            ("GET", []) => match wanted(self.firewalls.values(), query) {
                Ok(found) => {
                    let found = found.into_iter().map(|firewall| self.firewall_json(cx, firewall));
                    paged("firewalls", found.collect(), query)
                }
                Err(refusal) => *refusal,
            },
            ("POST", []) => match self.create_firewall(cx, agenda, config, body) {
                Ok((id, actions)) => {
                    let actions: Vec<Value> = actions.iter().map(|id| self.actions[id].json(cx)).collect();
                    let firewall = self.firewall_json(cx, &self.firewalls[&id]);
                    json_reply(201, &json!({ "firewall": firewall, "actions": actions }))
                }
                Err(refusal) => *refusal,
            },
            ("GET", [id]) => match parse(id).and_then(|id| self.firewalls.get(&id)) {
                Some(firewall) => json_reply(200, &json!({ "firewall": self.firewall_json(cx, firewall) })),
                None => not_found("firewall"),
            },
            ("DELETE", [id]) => match parse(id).filter(|id| self.firewalls.contains_key(id)) {
                None => not_found("firewall"),
                Some(id) if !self.servers_behind(id).is_empty() => in_use("firewall", id),
                Some(id) => {
                    self.firewalls.remove(&id);
                    no_content()
                }
            },
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }

    /// Makes a firewall; returns its id and those of the actions that follow.
    pub(crate) fn create_firewall(
        &mut self,
        cx: &Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        body: &[u8],
    ) -> Checked<(u64, Vec<u64>)> {
        let body = read_body(body)?;
        let (firewall, servers) = (self.read_firewall(cx, &body)?, self.read_targets(&body)?);
        let (id, has_rules) = (firewall.id, !firewall.rules.is_empty());
        self.next_binding += 1;
        self.firewalls.insert(id, firewall);
        let length = Some(Duration::from_secs_f64(config.action_seconds));
        let mut actions = Vec::new();
        if has_rules {
            actions.push(self.begin_action(cx, agenda, "set_firewall_rules", vec![(id, "firewall")], length));
        }
        for server in servers {
            if let Some(server) = self.servers.get_mut(&server) {
                server.firewalls.push(AppliedFirewall { firewall: id, applied: false });
            }
            let resources = vec![(server, "server"), (id, "firewall")];
            actions.push(self.begin_action(cx, agenda, "apply_firewall", resources, length));
        }
        Ok((id, actions))
    }

    fn read_firewall(&self, cx: &Context, body: &Map<String, Value>) -> Checked<Firewall> {
        let name = read_name(body.get("name"), "firewall", &self.firewalls)?;
        let rules = read_list(body, "rules")?;
        if rules.len() > MOST_RULES {
            return Err(invalid("rules", "there are more than 50 rules").into());
        }
        Ok(Firewall {
            id: self.next_binding,
            name,
            labels: read_labels(body.get("labels"))?,
            created: cx.now,
            rules: rules.iter().map(Rule::read).collect::<Result<_, _>>()?,
        })
    }

    /// The servers of `apply_to`.
    fn read_targets(&self, body: &Map<String, Value>) -> Checked<Vec<u64>> {
        let mut servers = Vec::new();
        for target in read_list(body, "apply_to")? {
            if target["type"] != "server" {
                // Refused rather than taken and not heeded.
                let message = "label selectors are not simulated";
                return Err(hetzner_error(422, "unsupported_error", message, Value::Null).into());
            }
            let server = target["server"]["id"].as_u64().and_then(|id| self.servers.get(&id));
            let server = server.ok_or_else(|| {
                hetzner_error(422, "firewall_resource_not_found", "firewall resource not found", Value::Null)
            })?;
            if !server.is_public() {
                return Err(private_net_only().into());
            }
            if servers.contains(&server.id) {
                let message = "server was applied more than once";
                return Err(hetzner_error(422, "server_already_added", message, Value::Null).into());
            }
            servers.push(server.id);
        }
        Ok(servers)
    }

    fn firewall_json(&self, cx: &Context, firewall: &Firewall) -> Value {
        let applied_to = self.servers_behind(firewall.id).into_iter();
        json!({
            "id": firewall.id, "name": firewall.name, "labels": firewall.labels,
            "created": cx.timestamp_at(firewall.created),
            "rules": firewall.rules.iter().map(Rule::json).collect::<Vec<_>>(),
            "applied_to": applied_to.map(|id| json!({ "type": "server", "server": { "id": id } })).collect::<Vec<_>>(),
        })
    }

    /// The servers that a firewall is applied to, or will be.
    pub(super) fn servers_behind(&self, id: u64) -> Vec<u64> {
        let is_behind = |server: &&Server| server.firewalls.iter().any(|firewall| firewall.firewall == id);
        self.servers.values().filter(is_behind).map(|server| server.id).collect()
    }
}

/// A firewall stands before the public interface alone. The code is that of the action `apply_to_resources`; what an
/// order for such a server is answered with, no source says.
pub(super) fn private_net_only() -> Response<Bytes> {
    hetzner_error(422, "private_net_only_server", "server has no public interface", Value::Null)
}

//! Networks with their subnets, and the requests about them.
//!
//! The rules are those of the API description (tag Networks): private ranges of RFC 1918, subnets within them, each in
//! one network zone, and a first address that nobody gets, since it is the gateway.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Map, Value, json};

use super::cidr::Range;
use super::input::{Checked, invalid, read_body, read_labels, read_list, read_name};
use super::query::{Query, named, paged, parse, wanted};
use super::routes::not_found;
use super::selector::Labels;
use super::{Hetzner, catalogue};
use crate::context::Context;
use crate::reply::{hetzner_error, json_reply, no_content};

/// The smallest network and the smallest subnet, as lengths of their prefixes.
const SMALLEST_NETWORK: u8 = 24;
const SMALLEST_SUBNET: u8 = 30;

/// The gateway of all public interfaces: no host of a network can have it.
const PUBLIC_GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 31, 1, 1);

/// A network of the project.
#[derive(Clone, Debug)]
pub(super) struct Network {
    id: u64,
    name: String,
    labels: Labels,
    created: Duration,
    pub range: Range,
    subnets: Vec<Subnet>,
    routes: Vec<(Range, Ipv4Addr)>,
    exposed: bool,
}

/// A part of a network, for the servers of one zone.
#[derive(Clone, Debug)]
struct Subnet {
    kind: String,
    range: Range,
    zone: String,
}

named!(Network);

impl Network {
    /// The first address that a server of this zone can have, if there is one.
    pub(super) fn free_ip(&self, zone: &str, is_taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let reserved = [self.gateway(), PUBLIC_GATEWAY];
        let subnets = self.subnets.iter().filter(|subnet| subnet.zone == zone);
        subnets.flat_map(|subnet| subnet.range.hosts()).find(|ip| !reserved.contains(ip) && !is_taken(*ip))
    }

    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.range.first_host()
    }

    /// The subnet that an address is in.
    pub(super) fn subnet_of(&self, ip: Ipv4Addr) -> Option<String> {
        self.subnets.iter().find(|subnet| subnet.range.holds(ip)).map(|subnet| subnet.range.to_string())
    }

    fn json(&self, cx: &Context, servers: &[u64]) -> Value {
        let gateway = self.gateway().to_string();
        let subnets = self.subnets.iter().map(|subnet| {
            json!({
                "type": subnet.kind, "ip_range": subnet.range.to_string(), "network_zone": subnet.zone,
                "gateway": gateway, "vswitch_id": null,
            })
        });
        let routes =
            self.routes.iter().map(|(to, gateway)| json!({ "destination": to.to_string(), "gateway": gateway }));
        json!({
            "id": self.id, "name": self.name, "ip_range": self.range.to_string(), "labels": self.labels,
            "created": cx.timestamp_at(self.created), "protection": { "delete": false },
            "subnets": subnets.collect::<Vec<_>>(), "routes": routes.collect::<Vec<_>>(),
            "servers": servers, "load_balancers": [], "expose_routes_to_vswitch": self.exposed,
        })
    }

    /// Reads a subnet of the body and puts it among the others.
    fn add_subnet(&mut self, subnet: &Value) -> Checked<()> {
        let kind = subnet["type"].as_str().unwrap_or_default();
        if kind == "vswitch" {
            // There is no Robot in this world, so it has none.
            return Err(invalid("subnets", "vSwitch not found").into());
        }
        if kind != "cloud" && kind != "server" {
            return Err(invalid("subnets", "type must be one of: cloud, server, vswitch").into());
        }
        let zone = subnet["network_zone"].as_str().filter(|zone| catalogue::is_zone(zone));
        let zone = zone.ok_or_else(|| invalid("subnets", "network zone not found"))?.to_owned();
        let is_free = |range: Range| !self.subnets.iter().any(|other| other.range.overlaps(range));
        let range = match &subnet["ip_range"] {
            Value::Null => self.range.parts(SMALLEST_NETWORK).find(|range| is_free(*range)),
            range => range
                .as_str()
                .and_then(Range::parse)
                .filter(|range| range.bits() <= SMALLEST_SUBNET && self.range.spans(*range) && is_free(*range)),
        };
        let message = "ip_range must be a free part of the network's, /30 or larger";
        let range = range.ok_or_else(|| invalid("subnets", message))?;
        self.subnets.push(Subnet { kind: kind.to_owned(), range, zone });
        Ok(())
    }

    /// Reads a route of the body and puts it among the others.
    fn add_route(&mut self, route: &Value) -> Checked<()> {
        let everything = |to: &Range| to.bits() == 0;
        let destination = route["destination"].as_str().and_then(Range::parse).filter(|to| {
            everything(to) || to.is_private() && !self.subnets.iter().any(|subnet| subnet.range.overlaps(*to))
        });
        let gateway = route["gateway"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        let gateway = gateway.filter(|ip| self.range.holds(*ip) && *ip != self.gateway());
        let (Some(destination), Some(gateway)) = (destination, gateway) else {
            return Err(invalid("routes", "not a valid route within this network").into());
        };
        self.routes.push((destination, gateway));
        Ok(())
    }
}

impl Hetzner {
    pub(super) fn networks(
        &mut self,
        cx: &Context,
        method: &Method,
        rest: &[&str],
        query: &Query,
        body: &[u8],
    ) -> Response<Bytes> {
        match (method.as_str(), rest) {
            ("GET", []) => match wanted(self.networks.values(), query) {
                Ok(found) => {
                    paged("networks", found.into_iter().map(|network| self.network_json(cx, network)).collect(), query)
                }
                Err(refusal) => *refusal,
            },
            ("POST", []) => match self.create_network(cx, body) {
                Ok(id) => json_reply(201, &json!({ "network": self.network_json(cx, &self.networks[&id]) })),
                Err(refusal) => *refusal,
            },
            ("GET", [id]) => match parse(id).and_then(|id| self.networks.get(&id)) {
                Some(network) => json_reply(200, &json!({ "network": self.network_json(cx, network) })),
                None => not_found("network"),
            },
            ("DELETE", [id]) => match parse(id).and_then(|id| self.networks.remove(&id)) {
                Some(network) => {
                    // "Attached resources will be detached automatically" (API description).
                    for server in self.servers.values_mut() {
                        server.networks.retain(|net| net.network != network.id);
                    }
                    no_content()
                }
                None => not_found("network"),
            },
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }

    pub(crate) fn create_network(&mut self, cx: &Context, body: &[u8]) -> Checked<u64> {
        let body = read_body(body)?;
        let mut network = self.read_network(cx, &body)?;
        for subnet in read_list(&body, "subnets")? {
            network.add_subnet(subnet)?;
        }
        for route in read_list(&body, "routes")? {
            network.add_route(route)?;
        }
        self.next_binding += 1;
        self.networks.insert(network.id, network);
        Ok(self.next_binding - 1)
    }

    fn read_network(&self, cx: &Context, body: &Map<String, Value>) -> Checked<Network> {
        let name = read_name(body.get("name"), "network", &self.networks)?;
        let range = body.get("ip_range").and_then(Value::as_str).and_then(Range::parse);
        let range = range.filter(|range| range.is_private() && range.bits() <= SMALLEST_NETWORK);
        let range = range.ok_or_else(|| invalid("ip_range", "must be a private range, /24 or larger"))?;
        Ok(Network {
            id: self.next_binding,
            name,
            labels: read_labels(body.get("labels"))?,
            created: cx.now,
            range,
            subnets: Vec::new(),
            routes: Vec::new(),
            exposed: body.get("expose_routes_to_vswitch").and_then(Value::as_bool).unwrap_or(false),
        })
    }

    fn network_json(&self, cx: &Context, network: &Network) -> Value {
        network.json(cx, &self.servers_in_network(network.id))
    }

    /// The servers that are attached to a network.
    pub(super) fn servers_in_network(&self, id: u64) -> Vec<u64> {
        let is_in = |server: &&super::Server| server.networks.iter().any(|net| net.network == id && net.attached);
        self.servers.values().filter(is_in).map(|server| server.id).collect()
    }
}

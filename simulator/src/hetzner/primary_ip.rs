//! Primary IPs, and the requests about them.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Value, json};

use super::input::Checked;
use super::query::{Query, paged, parse, value};
use super::routes::not_found;
use super::server::Server;
use super::{Hetzner, catalogue};
use crate::context::Context;
use crate::history::What;
use crate::reply::{hetzner_error, json_reply, no_content};

/// An address of the project, with a server or without.
#[derive(Clone, Debug)]
pub(super) struct PrimaryIp {
    pub id: u64,
    pub ip: String,
    pub v6: bool,
    pub assignee: Option<u64>,
    pub auto_delete: bool,
    pub location: &'static str,
    pub created: Duration,
}

impl PrimaryIp {
    fn json(&self, cx: &Context) -> Value {
        json!({
            "id": self.id, "name": format!("primary_ip-{}", self.id),
            "ip": if self.v6 { format!("{}/64", self.ip) } else { self.ip.clone() },
            "type": if self.v6 { "ipv6" } else { "ipv4" },
            "assignee_id": self.assignee,
            "assignee_type": if self.assignee.is_some() { "server" } else { "unassigned" },
            "auto_delete": self.auto_delete, "blocked": false, "created": cx.timestamp_at(self.created), "dns_ptr": [],
            "labels": {}, "location": catalogue::location(self.location), "protection": { "delete": false },
        })
    }
}

impl Hetzner {
    /// Makes an address that comes with its server.
    pub(super) fn new_ip(&mut self, cx: &Context, server: &Server, ip: IpAddr, auto_delete: bool) -> u64 {
        self.next_ip += 1;
        let (id, location) = (self.next_ip, server.location);
        let (assignee, v6, ip) = (Some(server.id), ip.is_ipv6(), ip.to_string());
        self.primary_ips.insert(id, PrimaryIp { id, ip, v6, assignee, auto_delete, location, created: cx.now });
        id
    }

    /// The address that an order asks for instead of a new one. Refusals: the table of the API description of
    /// `POST /servers`.
    pub(super) fn check_given_ip(&self, id: Option<&Value>, v6: bool, location: &str) -> Checked<Option<u64>> {
        let Some(id) = id.and_then(Value::as_u64) else { return Ok(None) };
        let Some(ip) = self.primary_ips.get(&id) else { return Err(not_found("primary ip").into()) };
        let (status, code, message) = match ip {
            ip if ip.v6 != v6 => (412, "primary_ip_version_mismatch", "primary ip has the wrong ip version"),
            ip if ip.assignee.is_some() => (422, "primary_ip_assigned", "primary ip is already assigned"),
            ip if ip.location != location => {
                (422, "primary_ip_datacenter_mismatch", "primary ip is in a different location")
            }
            ip => return Ok(Some(ip.id)),
        };
        Err(hetzner_error(status, code, message, json!({})).into())
    }

    /// Gives an address of the project to a server; returns what it is.
    pub(super) fn assign_ip(&mut self, id: u64, server: u64) -> Option<IpAddr> {
        let ip = self.primary_ips.get_mut(&id)?;
        ip.assignee = Some(server);
        ip.ip.parse().ok()
    }

    pub(super) fn primary_ips(
        &mut self,
        cx: &mut Context,
        method: &Method,
        rest: &[&str],
        query: &Query,
    ) -> Response<Bytes> {
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
                    no_content()
                }
            },
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }
}

//! What an order binds a server to: its networks, its firewalls, its placement group, and the actions that do so.
//!
//! Where no source says how an order is refused, the code is that of the single action of the same meaning.

use std::net::Ipv4Addr;

use serde_json::{Map, Value};

use super::action::{Action, ActionState};
use super::catalogue;
use super::firewall::private_net_only;
use super::input::{Checked, invalid, read_list};
use super::placement_group::MOST_SERVERS;
use super::query::Named;
use super::{Hetzner, Server};
use crate::context::Context;
use crate::history::{AppliedFirewall, BindingView, PrivateNet};
use crate::reply::hetzner_error;

/// What passed every check.
pub(super) struct Bindings {
    /// Networks, and the address that the server gets in each.
    pub networks: Vec<(u64, Ipv4Addr)>,
    firewalls: Vec<u64>,
    placement_group: Option<u64>,
}

impl Hetzner {
    pub(super) fn check_bindings(
        &self,
        body: &Map<String, Value>,
        location: &str,
        is_public: bool,
    ) -> Checked<Bindings> {
        Ok(Bindings {
            networks: self.check_networks(body, location)?,
            firewalls: self.check_firewalls(body, is_public)?,
            placement_group: self.check_placement_group(body.get("placement_group"))?,
        })
    }

    fn check_networks(&self, body: &Map<String, Value>, location: &str) -> Checked<Vec<(u64, Ipv4Addr)>> {
        let zone = catalogue::zone(location);
        let mut found: Vec<(u64, Ipv4Addr)> = Vec::new();
        for id in read_list(body, "networks")? {
            let network = id.as_u64().and_then(|id| self.networks.get(&id)).ok_or_else(|| missing("network"))?;
            if found.iter().any(|(other, _)| *other == network.id()) {
                let message = "server is already attached to the network";
                return Err(hetzner_error(422, "server_already_attached", message, Value::Null).into());
            }
            if found.iter().filter_map(|(id, _)| self.networks.get(id)).any(|net| net.range.overlaps(network.range)) {
                let message = "the network's range overlaps with that of another network of the server";
                return Err(hetzner_error(422, "networks_overlap", message, Value::Null).into());
            }
            let is_taken = |ip| self.servers.values().any(|server| server.has_private_ip(network.id(), ip));
            // Word for word, and one text for all three reasons (no subnet, wrong zone, full):
            // hetznercloud/csi-driver#492.
            let ip = network.free_ip(zone, is_taken).ok_or_else(|| {
                let id = network.id();
                let message = format!("network {id} has no free IP available or is in a different network zone");
                hetzner_error(422, "invalid_input", &message, Value::Null)
            })?;
            found.push((network.id(), ip));
        }
        Ok(found)
    }

    fn check_firewalls(&self, body: &Map<String, Value>, is_public: bool) -> Checked<Vec<u64>> {
        let mut found: Vec<u64> = Vec::new();
        for item in read_list(body, "firewalls")? {
            let Some(id) = item.get("firewall").and_then(Value::as_u64) else {
                return Err(invalid("firewalls", "Missing data for required field.").into());
            };
            if !self.firewalls.contains_key(&id) {
                return Err(missing("firewall").into());
            }
            if !is_public {
                return Err(private_net_only().into());
            }
            if found.contains(&id) {
                let message = "firewall is already applied to the server";
                return Err(hetzner_error(422, "firewall_already_applied", message, Value::Null).into());
            }
            found.push(id);
        }
        Ok(found)
    }

    fn check_placement_group(&self, group: Option<&Value>) -> Checked<Option<u64>> {
        let Some(group) = group.filter(|group| !group.is_null()) else { return Ok(None) };
        let id = group.as_u64().filter(|id| self.placement_groups.contains_key(id));
        let id = id.ok_or_else(|| missing("placement group"))?;
        if self.servers_in_group(id).len() >= MOST_SERVERS {
            // Code and text: hetznercloud/terraform-provider-hcloud#1170. The status is not told there; 422 is that of
            // all refusals of an order that are about placement.
            let message = format!("placement group with ID {id} contains already {MOST_SERVERS} servers");
            return Err(hetzner_error(422, "placement_group_member_limit_reached", &message, Value::Null).into());
        }
        Ok(Some(id))
    }

    /// Binds a new server. Returns the actions that follow its create, one for each network and each firewall; they
    /// stand behind `start_server` in `next_actions` (tonobo/hcloud-ruby#72).
    pub(super) fn bind(&mut self, cx: &Context, server: &mut Server, create: u64, bindings: &Bindings) -> Vec<Value> {
        server.placement_group = bindings.placement_group;
        for (number, (network, ip)) in (1..).zip(&bindings.networks) {
            let mac = mac_address(server.id, number);
            server.networks.push(PrivateNet { network: *network, ip: *ip, mac, attached: false });
        }
        let firewalls = bindings.firewalls.iter();
        server.firewalls = firewalls.map(|id| AppliedFirewall { firewall: *id, applied: false }).collect();
        let networks = bindings.networks.iter().map(|(id, _)| ("attach_to_network", (*id, "network")));
        let firewalls = bindings.firewalls.iter().map(|id| ("apply_firewall", (*id, "firewall")));
        networks
            .chain(firewalls)
            .map(|(command, resource)| self.follow_create(cx, command, create, vec![(server.id, "server"), resource]))
            .collect()
    }

    /// An action that begins when a create has ended, as it is written.
    pub(super) fn follow_create(
        &mut self,
        cx: &Context,
        command: &'static str,
        create: u64,
        resources: Vec<(u64, &'static str)>,
    ) -> Value {
        self.next_action += 1;
        let id = self.next_action;
        let (parent, state) = (Some(create), ActionState::Running);
        let action = Action { id, command, resources, parent, started: cx.now, state };
        let json = action.json(cx);
        self.actions.insert(id, action);
        json
    }

    pub(crate) fn network_views(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.networks.values().map(|network| view(network, self.servers_in_network(network.id())))
    }

    pub(crate) fn firewall_views(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.firewalls.values().map(|firewall| view(firewall, self.servers_behind(firewall.id())))
    }

    pub(crate) fn placement_group_views(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.placement_groups.values().map(|group| view(group, self.servers_in_group(group.id())))
    }
}

fn view<T: Named>(thing: &T, servers: Vec<u64>) -> BindingView<'_> {
    BindingView { id: thing.id(), name: thing.name(), servers }
}

/// As for an image that is not there. What an order with an unknown id of these is answered with, no source says.
fn missing(what: &str) -> http::Response<bytes::Bytes> {
    hetzner_error(404, "not_found", &format!("{what} not found"), Value::Null)
}

/// Of the form that the API description shows. One for each interface of each server, and nothing of it by chance.
fn mac_address(server: u64, number: u64) -> String {
    let [.., a, b, c] = server.to_be_bytes();
    format!("86:00:{number:02x}:{a:02x}:{b:02x}:{c:02x}")
}

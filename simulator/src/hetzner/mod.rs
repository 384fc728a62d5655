//! Hetzner Cloud: one project, its servers, and the rules of the API (`facts/hetzner.md`).
//!
//! This file holds the state and what happens to it. `routes.rs` takes requests in; `server.rs`, `action.rs`,
//! `ssh_key.rs`, `primary_ip.rs`, `network.rs`, `firewall.rs` and `placement_group.rs` answer those about their own,
//! `order.rs` is `POST /servers`, `binding.rs` what of the last three it binds a server to. `reach.rs` says whether the
//! machine of a server that is bound so reaches the Internet, `metadata.rs` what that machine can ask about itself.

mod action;
mod binding;
mod bucket;
mod catalogue;
mod cidr;
mod firewall;
mod input;
mod metadata;
mod network;
mod order;
mod placement_group;
mod primary_ip;
mod query;
mod reach;
mod routes;
mod selector;
mod server;
mod ssh_key;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde_json::{Value, json};

use action::{Action, ActionState};
use bucket::Bucket;
use catalogue::{Image, Type};
use firewall::Firewall;
use network::Network;
use placement_group::PlacementGroup;
use primary_ip::PrimaryIp;
use selector::Labels;
use server::Server;
use ssh_key::SshKey;

pub use server::PlantedServer;

use crate::agenda::{Agenda, Happening};
use crate::config::{ActionOutcome, HetznerConfig};
use crate::context::Context;
use crate::history::{Actor, PrimaryIpView, ServerView, What};
use crate::world::between;

/// The project.
#[derive(Debug)]
pub(crate) struct Hetzner {
    servers: BTreeMap<u64, Server>,
    /// Deleted servers, and when they went: reads may still show them for a while.
    graves: BTreeMap<u64, (Server, Duration)>,
    actions: BTreeMap<u64, Action>,
    primary_ips: BTreeMap<u64, PrimaryIp>,
    ssh_keys: BTreeMap<u64, SshKey>,
    networks: BTreeMap<u64, Network>,
    firewalls: BTreeMap<u64, Firewall>,
    placement_groups: BTreeMap<u64, PlacementGroup>,
    held_names: BTreeMap<String, Duration>,
    bucket: Bucket,
    next_server: u64,
    next_action: u64,
    next_ip: u64,
    next_key: u64,
    /// The next id of a network, a firewall or a placement group: one series, so that no id fits two kinds.
    next_binding: u64,
    ever: u64,
    unplugged: Vec<String>,
}

impl Hetzner {
    pub(crate) fn new(config: &HetznerConfig) -> Self {
        let key = SshKey {
            id: 4711,
            name: "ci".to_owned(),
            public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAISIMULATORSIMULATORSIMULATORSIMULATOR0 ci".to_owned(),
            labels: Labels::new(),
            created: Duration::ZERO,
        };
        Self {
            servers: BTreeMap::new(),
            graves: BTreeMap::new(),
            actions: BTreeMap::new(),
            primary_ips: BTreeMap::new(),
            ssh_keys: BTreeMap::from([(key.id, key)]),
            networks: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            placement_groups: BTreeMap::new(),
            held_names: BTreeMap::new(),
            bucket: Bucket::new(config),
            next_server: 131_072_001,
            next_action: 734_200_118_400_512,
            next_ip: 120_000_001,
            next_key: 4712,
            next_binding: 10_500_001,
            ever: 0,
            unplugged: Vec::new(),
        }
    }

    /// The bucket holds from now on what the configuration says.
    pub(crate) fn fill_bucket(&mut self, cx: &Context, config: &HetznerConfig) {
        self.bucket = Bucket::filled_at(cx.now, config);
    }

    /// An action ends as the configuration says; what it worked on changes. Returns how it ended.
    pub(crate) fn end_action(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        id: u64,
    ) -> String {
        let Some(action) = self.actions.get_mut(&id) else { return "forgotten".to_owned() };
        let server = action.server().and_then(|id| self.servers.get(&id));
        let outcome = match action.command {
            "create_server" => config.create_action.clone(),
            // Code and text: hetznercloud/terraform-provider-hcloud#1264.
            "start_server" if server.is_some_and(|server| !server.has_interface()) => ActionOutcome::Error {
                code: "invalid_input".to_owned(),
                message: "no public or private network interfaces found, cannot start server".to_owned(),
            },
            "start_server" => config.start_action.clone(),
            "attach_to_network" | "apply_firewall" => config.attach_action.clone(),
            _ => ActionOutcome::Success,
        };
        let said = match outcome {
            ActionOutcome::Never => return "goes on for ever".to_owned(),
            ActionOutcome::Success => {
                action.state = ActionState::Success(cx.now);
                "success".to_owned()
            }
            ActionOutcome::Error { code, message } => {
                let said = format!("error {code}");
                action.state = ActionState::Error(cx.now, code, message);
                said
            }
        };
        let action = action.clone();
        self.after_action(cx, agenda, config, &action, said != "success");
        said
    }

    fn after_action(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        action: &Action,
        failed: bool,
    ) {
        let Some(server) = action.server().and_then(|id| self.servers.get_mut(&id)) else { return };
        match action.command {
            "create_server" => {
                server.locked = false;
                server.status = "off";
                self.after_create(cx, agenda, config, action, failed);
            }
            "attach_to_network" if !failed => {
                let nets = server.networks.iter_mut().filter(|net| action.one("network") == Some(net.network));
                nets.for_each(|net| net.attached = true);
            }
            "apply_firewall" if !failed => {
                let firewalls = server.firewalls.iter_mut();
                let firewalls = firewalls.filter(|firewall| action.one("firewall") == Some(firewall.firewall));
                firewalls.for_each(|firewall| firewall.applied = true);
            }
            "start_server" | "reboot_server" | "reset_server" if !failed => {
                server.status = "running";
                agenda.put(cx.now, Happening::MachineStarts(server.id));
            }
            "stop_server" => {
                let id = server.id;
                self.power_off(id);
            }
            // Success means that the button was pressed, no more.
            "shutdown_server" if config.shutdown_works => {
                agenda.put(cx.now + Duration::from_secs(5), Happening::MachineOff(server.id));
            }
            _ => {}
        }
    }

    /// The actions that follow a create begin, or fail with it. A server is bound before it starts: one whose only
    /// interface is a private one could not start otherwise.
    fn after_create(
        &mut self,
        cx: &mut Context,
        agenda: &mut Agenda,
        config: &HetznerConfig,
        create: &Action,
        failed: bool,
    ) {
        let followers = self.actions.values_mut().filter(|next| next.parent == Some(create.id));
        if failed {
            // Nothing can succeed on a server that was not made.
            return followers.for_each(|next| {
                next.state = ActionState::Error(cx.now, "action_failed".to_owned(), "Action failed".to_owned());
            });
        }
        let mut followers: Vec<(bool, u64)> = followers.map(|next| (next.command == "start_server", next.id)).collect();
        followers.sort_unstable();
        let bound = match followers.first() {
            Some((false, _)) => cx.now + Duration::from_secs_f64(config.action_seconds),
            _ => cx.now,
        };
        for (starts, id) in followers {
            let mut end = bound;
            if starts {
                let (least, most) = config.start_seconds;
                end += between(cx, least, most);
                if let Some(server) = create.server().and_then(|id| self.servers.get_mut(&id)) {
                    server.status = "starting";
                }
            }
            agenda.put(end, Happening::ActionEnds(id));
        }
    }

    /// Begins an action that will end by itself.
    fn begin_action(
        &mut self,
        cx: &Context,
        agenda: &mut Agenda,
        command: &'static str,
        resources: Vec<(u64, &'static str)>,
        length: Option<Duration>,
    ) -> u64 {
        self.next_action += 1;
        let id = self.next_action;
        let action = Action { id, command, resources, parent: None, started: cx.now, state: ActionState::Running };
        self.actions.insert(id, action);
        if let Some(length) = length {
            agenda.put(cx.now + length, Happening::ActionEnds(id));
        }
        id
    }

    pub(crate) fn power_off(&mut self, id: u64) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.status = "off";
            self.unplugged.extend(server.node.clone());
        }
    }

    /// Removes a server and all that goes with it.
    pub(crate) fn remove(&mut self, cx: &mut Context, config: &HetznerConfig, id: u64) {
        let Some(server) = self.servers.remove(&id) else { return };
        self.unplugged.extend(server.node.clone());
        if config.name_held_seconds > 0.0 {
            let until = cx.now + Duration::from_secs_f64(config.name_held_seconds);
            self.held_names.insert(server.name.clone(), until);
        }
        cx.note(What::ServerRemoved { id, name: server.name.clone(), labels: server.labels.clone() });
        for ip in self.primary_ips.values_mut().filter(|ip| ip.assignee == Some(id)) {
            ip.assignee = None;
            if ip.auto_delete {
                // It goes with its server; nobody asked for that.
                cx.note_of(Actor::World, What::PrimaryIpRemoved { id: ip.id });
            }
        }
        self.primary_ips.retain(|_, ip| ip.assignee.is_some() || !ip.auto_delete);
        self.graves.insert(id, (server, cx.now));
    }

    /// The machines that lost their power since the last call.
    pub(crate) fn take_unplugged(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unplugged)
    }

    pub(crate) fn is_on(&self, id: u64) -> bool {
        self.servers.get(&id).is_some_and(|server| server.status == "running")
    }

    pub(crate) fn running_server(&mut self, id: u64) -> Option<&mut Server> {
        self.servers.get_mut(&id).filter(|server| server.status == "running")
    }

    pub(crate) fn plant(&mut self, cx: &mut Context, planted: PlantedServer) -> u64 {
        let server_type = planted.server_type.and_then(|name| Type::find(&json!(name)));
        let location = planted.location.and_then(|name| catalogue::find_location(&json!(name)));
        let image = Image::find(&json!("ubuntu-22.04"), false);
        let (Some(server_type), Some(image)) = (server_type.or_else(|| Type::find(&json!("cpx11"))), image) else {
            return 0;
        };
        let location = location.unwrap_or("ash");
        let mut server = self.new_server(cx, planted.name, planted.labels, server_type, location, image);
        server.status = "running";
        server.locked = false;
        server.protected = planted.protected;
        server.first_boot_done = true;
        let id = server.id;
        cx.note(What::ServerMade { id, name: server.name.clone(), labels: server.labels.clone() });
        self.servers.insert(id, server);
        id
    }

    pub(crate) fn touch(&mut self, cx: &mut Context, id: u64, labels: Option<Labels>, protect: Option<bool>) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        if labels.is_some() {
            server.relabel(cx, None, labels);
        }
        if let Some(protect) = protect {
            server.protected = protect;
        }
    }

    fn new_server(
        &mut self,
        cx: &Context,
        name: String,
        labels: Labels,
        server_type: &'static Type,
        location: &'static str,
        image: &'static Image,
    ) -> Server {
        self.next_server += 1;
        self.ever += 1;
        let id = self.next_server;
        // 203.0.113.0/24, TEST-NET-3, and the rest of it by wrapping into 198.51.100.0/24.
        let last = u8::try_from(self.ever % 254 + 1).unwrap_or(1);
        let ipv4 = if (self.ever / 254).is_multiple_of(2) {
            Ipv4Addr::new(203, 0, 113, last)
        } else {
            Ipv4Addr::new(198, 51, 100, last)
        };
        let part = |number: u64| u16::try_from(number & 0xffff).unwrap_or_default();
        Server {
            id,
            name,
            status: "initializing",
            created: cx.now,
            labels,
            labels_before: None,
            kind: server_type,
            location,
            image,
            user_data: None,
            ipv4: Some(ipv4),
            ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, part(id >> 16), part(id), 0, 0, 0, 0)),
            ipv4_id: 0,
            ipv6_id: 0,
            networks: Vec::new(),
            firewalls: Vec::new(),
            placement_group: None,
            locked: false,
            protected: false,
            ssh_keys: Vec::new(),
            first_boot_done: false,
            boot: Vec::new(),
            plan: None,
            node: None,
        }
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = ServerView<'_>> {
        self.servers.values().map(Server::view)
    }

    pub(crate) fn primary_ip_views(&self) -> impl Iterator<Item = PrimaryIpView> {
        self.primary_ips.values().map(|ip| PrimaryIpView { id: ip.id, assignee: ip.assignee })
    }

    pub(crate) fn snapshot_servers(&self) -> Vec<Value> {
        self.servers.values().map(Server::truth).collect()
    }

    pub(crate) fn snapshot_primary_ips(&self) -> Vec<Value> {
        self.primary_ips.values().map(|ip| json!({ "id": ip.id, "ip": ip.ip, "assignee_id": ip.assignee })).collect()
    }

    /// How many servers there have ever been: a job that made two and removed one shows here.
    pub(crate) fn servers_ever(&self) -> u64 {
        self.ever
    }
}

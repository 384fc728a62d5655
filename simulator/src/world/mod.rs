//! The world: time passes, requests come in, things happen.
//!
//! This file holds the state, its time and what can be seen of it. `exchange.rs` is what becomes of a request,
//! `happening.rs` what happens by itself, `operator.rs` what somebody does at the console, `outside.rs` how a
//! program outside plays a machine, `dial.rs` who can be reached.

mod dial;
mod exchange;
mod happening;
mod operator;
mod outside;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::agenda::Agenda;
use crate::config::Config;
use crate::context::Context;
use crate::fault::{Fault, FaultKind, Faults};
use crate::hetzner::Hetzner;
use crate::history::{BindingView, Change, DeviceView, Fate, KeyView, PrimaryIpView, ServerView};
use crate::tailscale::{NodeId, Tailscale};

pub use dial::Unreached;
pub use exchange::Delivery;
pub use outside::{Joined, NotJoined};

/// One world. A pure state machine: no clock, no threads, no sockets.
#[derive(Debug)]
pub struct World {
    config: Config,
    cx: Context,
    agenda: Agenda,
    hetzner: Hetzner,
    tailscale: Tailscale,
    faults: Faults,
    /// The fault that the next request meets, whatever it is.
    ambush: Option<FaultKind>,
    fate: Fate,
    /// The server whose machine the metadata server takes for the one that asks, if somebody has said so.
    asking: Option<u64>,
    journal: Vec<Entry>,
}

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Milliseconds since the world began.
    pub at_ms: u64,
    /// `hetzner`, `tailscale`, `oidc`, `metadata`, `dial` or `world`.
    pub who: &'static str,
    /// The request line, the address that was dialled, or what happened.
    pub what: String,
    /// The status, the cut, or nothing.
    pub outcome: String,
    /// The fault that the request met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl World {
    /// A world at its beginning.
    pub fn new(config: Config) -> Self {
        let cx = Context::new(config.seed, config.epoch);
        let hetzner = Hetzner::new(&config.hetzner);
        let tailscale = Tailscale::new(config.tailscale.clone());
        Self {
            config,
            cx,
            agenda: Agenda::default(),
            hetzner,
            tailscale,
            faults: Faults::default(),
            ambush: None,
            fate: Fate::default(),
            asking: None,
            journal: Vec::new(),
        }
    }

    /// How the world behaves from now on.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes how the world behaves from now on. A new `rate_remaining` is what is left in the bucket now.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let remaining = self.config.hetzner.rate_remaining;
        change(&mut self.config);
        if self.config.hetzner.rate_remaining != remaining {
            self.hetzner.fill_bucket(&self.cx, &self.config.hetzner);
        }
        self.tailscale.configure(self.config.tailscale.clone());
    }

    /// Arms a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&mut self) {
        self.faults.disarm();
    }

    /// Lets the next request, whatever it is, meet this fault before any that is armed.
    pub fn ambush(&mut self, kind: FaultKind) {
        self.ambush = Some(kind);
    }

    /// When the next thing happens by itself.
    pub fn next_event(&self) -> Option<Duration> {
        [self.agenda.next(), self.tailscale.next_event()].into_iter().flatten().min()
    }

    /// Lets everything happen that is due by `now`, in order. Time never goes back.
    pub fn advance(&mut self, now: Duration) {
        while let Some(next) = self.next_event().filter(|next| *next <= now) {
            self.cx.now = self.cx.now.max(next);
            self.tailscale.tick(&mut self.cx);
            while let Some((_, happening)) = self.agenda.take_due(self.cx.now) {
                self.happen(happening);
            }
        }
        self.cx.now = self.cx.now.max(now);
    }

    /// What happened since the last call, and who caused it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.cx.take_changes()
    }

    /// What became of the last exchange.
    pub fn last_fate(&self) -> Fate {
        self.fate
    }

    /// The world's wall clock in unix seconds.
    pub fn unix(&self) -> i64 {
        self.cx.unix()
    }

    /// The servers, as they truly are.
    pub fn servers(&self) -> impl Iterator<Item = ServerView<'_>> {
        self.hetzner.servers()
    }

    /// The devices, as they truly are.
    pub fn devices(&self) -> impl Iterator<Item = DeviceView<'_>> {
        self.tailscale.devices(&self.cx)
    }

    /// The auth keys, as they truly are.
    pub fn keys(&self) -> impl Iterator<Item = KeyView<'_>> {
        self.tailscale.keys(self.cx.now)
    }

    /// The primary IPs, as they truly are.
    pub fn primary_ips(&self) -> impl Iterator<Item = PrimaryIpView> {
        self.hetzner.primary_ip_views()
    }

    /// The networks, with the servers that are attached to them.
    pub fn networks(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.hetzner.network_views()
    }

    /// The firewalls, with the servers that they are applied to, or will be.
    pub fn firewalls(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.hetzner.firewall_views()
    }

    /// The placement groups, with their servers.
    pub fn placement_groups(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.hetzner.placement_group_views()
    }

    /// The history so far.
    pub fn journal(&self) -> &[Entry] {
        &self.journal
    }

    /// What is true now. Holds no secret but the tokens of nobody.
    pub fn snapshot(&self) -> Value {
        let tailscale = self.tailscale.snapshot(&self.cx);
        json!({
            "now": self.cx.timestamp(),
            "elapsed_ms": millis(self.cx.now),
            "servers": self.hetzner.snapshot_servers(),
            "primary_ips": self.hetzner.snapshot_primary_ips(),
            "networks": self.networks().collect::<Vec<_>>(),
            "firewalls": self.firewalls().collect::<Vec<_>>(),
            "placement_groups": self.placement_groups().collect::<Vec<_>>(),
            "servers_ever": self.hetzner.servers_ever(),
            "keys": tailscale["keys"],
            "devices": tailscale["devices"],
            "requests": {
                "hetzner": self.count("hetzner"),
                "tailscale": self.count("tailscale"),
                "oidc": self.count("oidc"),
            },
            "faults_fired": self.faults.fired,
        })
    }

    fn count(&self, who: &str) -> usize {
        self.journal.iter().filter(|entry| entry.who == who).count()
    }

    /// Servers that were removed take their machine's device off the net.
    fn follow_up(&mut self) {
        for node in self.hetzner.take_unplugged() {
            self.tailscale.set_connected(&mut self.cx, &NodeId(node), false);
        }
    }

    fn note(&mut self, who: &'static str, what: String, outcome: String, fault: Option<String>) {
        self.journal.push(Entry { at_ms: millis(self.cx.now), who, what, outcome, fault });
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// A length between the two, by chance.
pub(crate) fn between(cx: &mut Context, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64((least + (most - least) * cx.rng.f64()).max(0.0))
}

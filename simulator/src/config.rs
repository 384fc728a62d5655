//! How the world behaves. Every knob has a default that makes a good day.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::tailscale::TailscaleConfig;

/// How one world behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The seed of every random choice.
    pub seed: u64,
    /// Unix seconds at which the world begins.
    pub epoch: i64,
    /// How long an answer takes, in milliseconds: between the two, by chance.
    pub latency_ms: (u64, u64),
    /// Hetzner.
    pub hetzner: HetznerConfig,
    /// Tailscale.
    pub tailscale: TailscaleConfig,
    /// The machines.
    pub machine: MachineConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            // 2026-11-23T10:00:00Z
            epoch: 1_795_428_000,
            latency_ms: (30, 120),
            hetzner: HetznerConfig::default(),
            tailscale: TailscaleConfig::default(),
            machine: MachineConfig::default(),
        }
    }
}

/// How Hetzner behaves. Times: `facts/hetzner.md` 8.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HetznerConfig {
    /// The token that may do everything.
    pub token: String,
    /// The token that may only read.
    pub read_only_token: String,
    /// Seconds that a create action takes: between the two, by chance.
    pub create_seconds: (f64, f64),
    /// Seconds that a start action takes.
    pub start_seconds: (f64, f64),
    /// Seconds that any other action takes.
    pub action_seconds: f64,
    /// How create actions end.
    pub create_action: ActionOutcome,
    /// How start actions end.
    pub start_action: ActionOutcome,
    /// How the actions end that attach a server to a network, or apply a firewall to it.
    pub attach_action: ActionOutcome,
    /// Whether a server may not be deleted while its create action runs (423 `locked`).
    pub locked_while_creating: bool,
    /// Whether a machine heeds the power button.
    pub shutdown_works: bool,
    /// Seconds during which reads do not show a new server yet.
    pub stale_created_seconds: f64,
    /// Seconds during which reads still show a deleted server.
    pub stale_deleted_seconds: f64,
    /// Seconds for which the name of a deleted server stays taken.
    pub name_held_seconds: f64,
    /// How many servers the project may have.
    pub server_limit: usize,
    /// How many primary IPs the project may have.
    pub primary_ip_limit: usize,
    /// Whether primary IPs go with their server.
    pub primary_ips_auto_delete: bool,
    /// The networks, by name, that lead servers without public addresses to the Internet: somebody keeps a NAT there.
    pub nat_networks: BTreeSet<String>,
    /// Requests per hour.
    pub rate_limit: u32,
    /// How much of the bucket is filled, at the beginning and whenever this changes; all of it if absent.
    pub rate_remaining: Option<f64>,
    /// What is out of stock, as `type@location`.
    pub out_of_stock: BTreeSet<String>,
    /// Whether an order for a type that is no longer sold is answered with 412 instead of 422.
    pub withdrawn_is_412: bool,
    /// Whether the legacy field `deprecated` is still shown.
    pub show_deprecated: bool,
    /// Seconds during which reads still show the labels that a server had before.
    pub stale_labels_seconds: f64,
    /// Whether every new server is answered with a root password, even one with SSH keys.
    pub always_root_password: bool,
    /// Requests a second that other users of the project take out of the bucket.
    pub foreign_requests_per_second: f64,
}

impl Default for HetznerConfig {
    fn default() -> Self {
        Self {
            token: "simulatorhetznerreadwritetoken00SECRETSECRETSECRETSECRETSECRET01".to_owned(),
            read_only_token: "simulatorhetznerreadonlytoken000SECRETSECRETSECRETSECRETSECRET02".to_owned(),
            create_seconds: (3.0, 8.0),
            start_seconds: (2.0, 4.0),
            action_seconds: 2.0,
            create_action: ActionOutcome::Success,
            start_action: ActionOutcome::Success,
            attach_action: ActionOutcome::Success,
            locked_while_creating: false,
            shutdown_works: true,
            stale_created_seconds: 0.0,
            stale_deleted_seconds: 0.0,
            name_held_seconds: 0.0,
            server_limit: 1000,
            primary_ip_limit: 4000,
            primary_ips_auto_delete: true,
            nat_networks: BTreeSet::new(),
            rate_limit: 3600,
            rate_remaining: None,
            out_of_stock: BTreeSet::new(),
            withdrawn_is_412: false,
            show_deprecated: false,
            stale_labels_seconds: 0.0,
            always_root_password: false,
            foreign_requests_per_second: 0.0,
        }
    }
}

/// How an action ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionOutcome {
    /// Well.
    Success,
    /// Badly, with this code and text. What it worked on stays.
    Error {
        /// Hetzner's code.
        code: String,
        /// Hetzner's text.
        message: String,
    },
    /// Not at all.
    Never,
}

/// How machines behave.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineConfig {
    /// Seconds from power to the first-boot document.
    pub kernel_seconds: (f64, f64),
    /// Seconds that installing Tailscale takes, where the document asks for it.
    pub install_seconds: (f64, f64),
    /// Seconds from `tailscale up` to the device.
    pub join_seconds: f64,
    /// What becomes of a boot.
    pub boot: BootOutcome,
    /// How likely it is that a boot ends before the machine joins, whatever `boot` says.
    pub fails_chance: f64,
    /// Whether a machine that has begun to join is let in even if its server is deleted meanwhile.
    pub queued_joins: bool,
    /// Seconds after which a machine joins once more, as another device. Only a reusable key lets it.
    pub joins_again_after_seconds: Option<f64>,
    /// Seconds from the join until something listens on its ports.
    pub listens_after_seconds: f64,
    /// The TCP ports on which something listens then.
    pub ports: BTreeSet<u16>,
    /// Whether connections over the tailnet reach it: its policy may forbid them, or the caller may not be in it.
    pub reachable: bool,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            kernel_seconds: (6.0, 9.0),
            install_seconds: (7.0, 11.0),
            join_seconds: 1.5,
            boot: BootOutcome::Joins,
            fails_chance: 0.0,
            queued_joins: false,
            joins_again_after_seconds: None,
            listens_after_seconds: 2.0,
            ports: BTreeSet::from([22]),
            reachable: true,
        }
    }
}

/// What becomes of a machine's first boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootOutcome {
    /// It does what its first-boot document says.
    Joins,
    /// It boots and never joins.
    NeverJoins,
    /// It hangs before it reads anything.
    NeverBoots,
    /// A program outside plays it: it reads nothing and joins when that program says so.
    Outside,
}

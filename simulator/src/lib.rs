//! A small world with rules: Hetzner Cloud, Tailscale, and machines that boot, read their user data and join.
//!
//! It is no mock: nobody tells it what to answer. It is given requests and lets things happen, by the rules that the
//! real services follow (`facts/hetzner.md`, `facts/tailscale-and-first-boot.md`), and can be asked what is true.
//! It depends on nothing of `provision-vm`; a shared type would make both sides wrong together.
//!
//! Two doors lead in:
//!
//! * [`World::exchange`], in process: no sockets, no threads, no clock. The caller says what time it is, so one seed
//!   and one series of requests give one history.
//! * the binary, on loopback: `cargo run -p simulator -- --port 0`. Its control paths are under `/_sim`.
//!
//! Faults are scripted here ([`Fault`]), never in the code under test.

#![allow(clippy::struct_excessive_bools, reason = "knobs and wire facts are independent flags")]

mod agenda;
mod config;
mod context;
mod fault;
mod garble;
mod hetzner;
mod history;
mod machine;
mod memo;
mod reply;
#[cfg(feature = "server")]
pub mod server;
mod tailscale;
mod world;

pub use config::{ActionOutcome, BootOutcome, Config, HetznerConfig, MachineConfig};
pub use context::Context;
pub use fault::{Api, Cut, Fault, FaultKind};
pub use hetzner::PlantedServer;
pub use history::{
    Actor, Applied, AppliedFirewall, BindingView, Change, DeviceView, Fate, KeyView, PrimaryIpView, PrivateNet,
    SecretKind, ServerView, What,
};
pub use machine::{FirstBoot, JoinPlan, first_boot};
pub use tailscale::{NodeId, OAuthClient, PlantedDevice, PlantedKey, TailscaleConfig};
pub use world::{Delivery, Entry, Joined, NotJoined, Unreached, World};

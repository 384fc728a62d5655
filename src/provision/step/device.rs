//! The device that the machine makes of itself when it joins. No step of ours makes it, but a key in a machine's hands
//! may, so its undo is declared before the key: in reverse it runs last, when the server is gone and the key revoked and
//! no further device can come (faults M08, M09).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::enrollment::Expected;
use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::Claim;
use super::super::leftover::{Kind, Leftover};
use super::super::run::{Doing, Run};
use super::super::saga::{Machine, Scene, Undo};
use crate::hetzner::HetznerError;
use crate::tailscale::{Device, NodeId, TailscaleError};
use crate::transport::sleep;

/// How long a device may take to show in lists after its machine joined.
const PATIENCE_WITH_LISTS: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The devices that carry the job's host name before anything is made: remains of earlier attempts, or strangers.
pub(in super::super) async fn known_before(run: &Run<'_>) -> Result<Vec<NodeId>, Cause> {
    run.enter(Step::AuthKey);
    let devices = run.guard(async {
        let found = run.tailscale.find_devices(&run.job.name, run.within()).await;
        found.doing("the devices could not be read")
    });
    Ok(devices.await?.into_iter().map(|device| device.node_id).collect())
}

/// Removes the devices of a server that this very call deleted.
pub(in super::super) struct UndoDevice {
    hostname: String,
    attempt: String,
    attempt_started: i64,
    known: Vec<NodeId>,
}

impl UndoDevice {
    pub(in super::super) fn new(hostname: &str, attempt: &str, attempt_started: i64, known: Vec<NodeId>) -> Self {
        Self { hostname: hostname.to_owned(), attempt: attempt.to_owned(), attempt_started, known }
    }

    fn expected(&self) -> Expected<'_> {
        Expected { hostname: &self.hostname, attempt_started: self.attempt_started, known: &self.known }
    }

    /// The devices that may be ours. A new one may not show at once, so who knows or cannot rule out that there is one
    /// looks for a while.
    async fn find(&self, scene: &Scene<'_>) -> Result<Vec<Device>, TailscaleError> {
        let patience = if scene.key_used() == Some(false) { Duration::ZERO } else { PATIENCE_WITH_LISTS };
        let until = scene.deadline.min(scene.run.clock.now() + patience);
        loop {
            let mut devices = scene.run.tailscale.find_devices(&self.hostname, scene.within()).await?;
            devices.retain(|device| self.expected().may_be(device));
            if !devices.is_empty() || scene.run.clock.now() + LOOK_AGAIN > until {
                return Ok(devices);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Removes one of the devices that may be ours. Of several only the one that connects from the machine's address is
    /// provably it (fault M14).
    async fn remove(&self, scene: &Scene<'_>, device: &Device, among: usize, ip: Option<Ipv4Addr>) -> Option<Leftover> {
        let tailscale = &scene.run.tailscale;
        let outcome: Result<Option<&str>, TailscaleError> = async {
            // A fresh read decides: between the list and now it may have gone, or have been changed.
            match tailscale.find_device(&device.node_id, scene.within()).await? {
                None => return Ok(None),
                Some(fresh) if !self.expected().may_be(&fresh) => return Ok(Some("it is not provably ours any more")),
                Some(fresh) if among > 1 && !ip.is_some_and(|ip| fresh.endpoints.contains(&IpAddr::V4(ip))) => {
                    return Ok(Some("several devices claim to be this machine, and this one connects from elsewhere"));
                }
                Some(_) => tailscale.delete_device(&device.node_id, scene.within()).await?,
            }
            let shown = tailscale.find_device(&device.node_id, scene.within()).await?.is_some();
            Ok(shown.then_some("Tailscale still shows it after its removal"))
        }
        .await;
        match outcome {
            Ok(None) => {
                scene.run.say(Scope::Tailscale, format!("Device removed: id={}", device.node_id));
                None
            }
            Ok(Some(why)) => Some(Leftover::exists(Kind::Device, why)),
            Err(error) => Some(Leftover::unconfirmed(Kind::Device, error.to_string())),
        }
    }

    /// Whether another server of this name stands by now: the job was called again, and a device of that name may be
    /// that server's machine.
    async fn has_successor(&self, scene: &Scene<'_>) -> Result<bool, HetznerError> {
        let server = scene.run.hetzner.find_server_by_name(&self.hostname, scene.within()).await?;
        // Our own deleted server may still show for a moment; by its attempt it is known.
        let claim = server.as_ref().map(Claim::read);
        Ok(claim.is_some_and(|claim| claim.is_none_or(|claim| claim.attempt != self.attempt)))
    }
}

impl Undo for UndoDevice {
    fn undo<'a>(&'a self, scene: &'a Scene<'a>) -> BoxFuture<'a, Vec<Leftover>> {
        Box::pin(async move {
            let machine = scene.machine();
            if machine == Machine::NeverMade {
                return Vec::new();
            }
            let devices = match self.find(scene).await {
                Ok(devices) => devices,
                Err(error) => {
                    let why = format!("the devices could not be read ({error})");
                    return vec![Leftover::may_appear(Kind::Device, why).name(&self.hostname)];
                }
            };
            let mut left = Vec::new();
            if devices.is_empty() && scene.key_used() == Some(true) {
                let why = "a machine joined, but no list shows a device that is provably its";
                left.push(Leftover::may_appear(Kind::Device, why));
            }
            for device in &devices {
                // Asked anew for each, after the list: a wrong delete is worse than an orphan.
                let leftover = match machine {
                    Machine::Deleted { ip } => match self.has_successor(scene).await {
                        Ok(false) => self.remove(scene, device, devices.len(), ip).await,
                        Ok(true) => {
                            let why = "a newer server of this name stands, whose machine it may be";
                            Some(Leftover::exists(Kind::Device, why))
                        }
                        Err(error) => {
                            let why = format!("whether a newer server stands is not known ({error})");
                            Some(Leftover::exists(Kind::Device, why))
                        }
                    },
                    _ => Some(Leftover::exists(Kind::Device, "its server was not deleted by this call")),
                };
                left.extend(leftover.map(|leftover| leftover.id(&device.node_id)));
            }
            left.into_iter().map(|leftover| leftover.name(&self.hostname)).collect()
        })
    }

    fn may_leave(&self, why: &str) -> Option<Leftover> {
        Some(Leftover::may_appear(Kind::Device, why).name(&self.hostname))
    }
}

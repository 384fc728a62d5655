//! The device that the machine makes of itself when it joins. No step of ours makes it, but a key in a machine's hands
//! may, so its undo is declared before the key: in reverse it runs last, when the server is gone and the key revoked and
//! no further device can come (faults M08, M09).

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::enrollment::Expected;
use super::super::error::{Cause, Leftover};
use super::super::event::{Scope, Step};
use super::super::job::Claim;
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

    fn leftover(&self, device: Option<&Device>, why: impl Into<String>) -> Leftover {
        let id = device.map(|device| device.node_id.0.clone());
        Leftover { kind: "device", id, name: Some(self.hostname.clone()), why: why.into() }
    }

    async fn remove(&self, scene: &Scene<'_>, device: &Device) -> Option<Leftover> {
        let tailscale = &scene.run.tailscale;
        let outcome: Result<Option<&str>, TailscaleError> = async {
            // A fresh read decides: between the list and now it may have gone, or have been changed.
            match tailscale.find_device(&device.node_id, scene.within()).await? {
                None => return Ok(None),
                Some(fresh) if !self.expected().may_be(&fresh) => return Ok(Some("it is not provably ours any more")),
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
            Ok(Some(why)) => Some(self.leftover(Some(device), why)),
            Err(error) => Some(self.leftover(Some(device), error.to_string())),
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
                Err(error) => return vec![self.leftover(None, format!("it may exist ({error})"))],
            };
            let mut left = Vec::new();
            if devices.is_empty() && scene.key_used() == Some(true) {
                left.push(
                    self.leftover(
                        None,
                        "may appear: a machine joined, but no list shows a device that is provably its",
                    ),
                );
            }
            for device in &devices {
                // Asked anew for each, after the list: a wrong delete is worse than an orphan.
                let objection = match machine {
                    Machine::Deleted => match self.has_successor(scene).await {
                        Ok(false) => None,
                        Ok(true) => Some("a newer server of this name stands, whose machine it may be".to_owned()),
                        Err(error) => Some(format!("whether a newer server stands is not known ({error})")),
                    },
                    _ => Some("its server was not deleted by this call".to_owned()),
                };
                left.extend(match objection {
                    Some(why) => Some(self.leftover(Some(device), why)),
                    None => self.remove(scene, device).await,
                });
            }
            left
        })
    }

    fn may_leave(&self, why: &str) -> Option<Leftover> {
        Some(self.leftover(None, why))
    }
}

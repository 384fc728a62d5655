//! The device that the machine makes of itself when it joins. No step of ours makes it, but a key in a machine's hands
//! may, so its undo is declared before the key: in reverse it runs last, when the server is gone and the key revoked and
//! no further device can come (faults M08, M09).

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::enrollment::Expected;
use super::super::error::Leftover;
use super::super::event::Scope;
use super::super::saga::{Machine, Scene, Undo};
use crate::tailscale::{Device, TailscaleError};
use crate::transport::sleep;

/// How long a device may take to show in lists after its machine joined.
const PATIENCE_WITH_LISTS: Duration = Duration::from_secs(15);
const PATIENCE_IF_UNSURE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Removes the devices of a server that this very call deleted.
pub(in super::super) struct UndoDevice {
    hostname: String,
    attempt_started: i64,
}

impl UndoDevice {
    pub(in super::super) fn new(hostname: &str, attempt_started: i64) -> Self {
        Self { hostname: hostname.to_owned(), attempt_started }
    }

    fn expected(&self) -> Expected<'_> {
        Expected { hostname: &self.hostname, attempt_started: self.attempt_started }
    }

    /// The devices that may be ours. A new one may not show at once, so who knows or cannot rule out that there is one
    /// looks for a while.
    async fn find(&self, scene: &Scene<'_>) -> Result<Vec<Device>, TailscaleError> {
        let patience = match scene.key_used() {
            Some(true) => PATIENCE_WITH_LISTS,
            Some(false) => Duration::ZERO,
            None => PATIENCE_IF_UNSURE,
        };
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
        let outcome: Result<bool, TailscaleError> = async {
            // A fresh read decides: between the list and now the id may have come to mean another machine.
            match tailscale.find_device(&device.node_id, scene.within()).await? {
                Some(fresh) if self.expected().may_be(&fresh) => {
                    tailscale.delete_device(&device.node_id, scene.within()).await?;
                    Ok(tailscale.find_device(&device.node_id, scene.within()).await?.is_none())
                }
                Some(_) | None => Ok(true),
            }
        }
        .await;
        match outcome {
            Ok(true) => {
                scene.run.say(Scope::Tailscale, format!("Device removed: id={}", device.node_id));
                None
            }
            Ok(false) => Some(self.leftover(Some(device), "Tailscale still shows it after its removal")),
            Err(error) => Some(self.leftover(Some(device), error.to_string())),
        }
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
                if machine == Machine::Deleted {
                    left.extend(self.remove(scene, device).await);
                } else {
                    left.push(self.leftover(Some(device), "its server was not deleted by this call"));
                }
            }
            left
        })
    }

    fn may_leave(&self, why: &str) -> Option<Leftover> {
        Some(self.leftover(None, why))
    }
}

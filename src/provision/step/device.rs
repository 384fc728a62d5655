//! The device that the machine makes of itself when it joins. No step of ours makes it, but a key in a machine's hands
//! may, so its undo is declared before the key: in reverse it runs last, when the server is gone and the key revoked and
//! no further device can come (faults M08, M09).

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::enrollment::Expected;
use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::{Claim, TAG};
use super::super::leftover::{Kind, Leftover};
use super::super::presence::Place;
use super::super::run::{Doing, Run};
use super::super::saga::{Machine, Scene, Undo};
use crate::hetzner::HetznerError;
use crate::tailscale::{Device, NodeId, TailscaleError};
use crate::transport::{sleep, sleep_until};

/// How long a device may take to show in lists after its machine joined.
pub(super) const PATIENCE_WITH_LISTS: Duration = Duration::from_secs(15);
/// How long another one may take that the same machine makes of itself by joining again.
const PATIENCE_WITH_MORE: Duration = Duration::from_secs(5);
/// How long one may take whose machine was let in between the word that the key is unused and its revocation.
pub(super) const PATIENCE_AFTER_DENIAL: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// By how much the clocks of the two clouds may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(15);
/// Between two looks at a device that does not say where it connects from.
const LISTEN_AGAIN: Duration = Duration::from_secs(3);

/// The devices that carry the job's host name before anything is made: remains of earlier attempts, or strangers.
pub(in super::super) async fn known_before(run: &Run<'_>) -> Result<Vec<NodeId>, Cause> {
    run.enter(Step::AuthKey);
    let devices = run.guard(async {
        let found = run.tailscale.look_for_devices(&run.job.name, TAG, run.within()).await;
        found.doing("the devices could not be read")
    });
    Ok(devices.await?.into_iter().map(|device| device.node_id).collect())
}

/// What has become of one device.
struct Settled {
    leftover: Option<Leftover>,
    /// It may be the machine of this call, as far as was seen.
    is_candidate: bool,
    /// It does not say where it connects from; a later look may tell.
    is_silent: bool,
}

impl Settled {
    fn candidate(leftover: Option<Leftover>) -> Self {
        Self { leftover, is_candidate: true, is_silent: false }
    }

    fn strange(leftover: Option<Leftover>) -> Self {
        Self { leftover, is_candidate: false, is_silent: false }
    }
}

/// Removes the devices of a server that this very call deleted.
pub(in super::super) struct UndoDevice {
    hostname: String,
    attempt: String,
    attempt_started: i64,
    known: Vec<NodeId>,
    /// The device that was verified when the server was handed over.
    verified: Option<NodeId>,
    /// When the key that its machine joins with has ended, in the cloud's unix time, if that is known.
    key_ended: Option<i64>,
}

impl UndoDevice {
    pub(in super::super) fn new(hostname: &str, attempt: &str, attempt_started: i64, known: Vec<NodeId>) -> Self {
        let (hostname, attempt) = (hostname.to_owned(), attempt.to_owned());
        Self { hostname, attempt, attempt_started, known, verified: None, key_ended: None }
    }

    /// The same for an attempt whose key ends by itself at that time: whatever joined before shows by then and a little.
    pub(in super::super) fn until(self, key_ended: Option<i64>) -> Self {
        Self { key_ended, ..self }
    }

    /// The same for a server that was handed over: its label names the device, so no other one is looked for.
    pub(in super::super) fn verified(self, node_id: Option<&str>) -> Self {
        Self { verified: node_id.and_then(NodeId::parse), ..self }
    }

    fn expected(&self) -> Expected<'_> {
        Expected { hostname: &self.hostname, attempt_started: self.attempt_started, known: &self.known }
    }

    /// The devices that may be ours, but those that are settled. A new one may not show at once, so who knows or cannot rule
    /// out that there is one looks for a while.
    async fn find(
        &self,
        scene: &Scene<'_>,
        settled: &[NodeId],
        has_candidate: bool,
    ) -> Result<Vec<Device>, TailscaleError> {
        let patience = match scene.key_used() {
            Some(false) => PATIENCE_AFTER_DENIAL,
            _ if has_candidate => PATIENCE_WITH_MORE,
            _ if self.is_long_over(scene) => Duration::ZERO,
            _ => PATIENCE_WITH_LISTS,
        };
        let until = scene.deadline.min(scene.run.clock.now() + patience);
        let mut has_looked = false;
        loop {
            let mut devices = match scene.run.tailscale.find_devices(&self.hostname, scene.within()).await {
                // The time is up; what the look before showed counts.
                Err(_) if has_looked && scene.run.clock.now() >= until => return Ok(Vec::new()),
                found => found?,
            };
            has_looked = true;
            devices.retain(|device| self.expected().may_be(device) && !settled.contains(&device.node_id));
            if !devices.is_empty() || scene.run.clock.now() + LOOK_AGAIN > until {
                return Ok(devices);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn is_long_over(&self, scene: &Scene<'_>) -> bool {
        let shown = |ended: i64| ended.saturating_add_unsigned((PATIENCE_WITH_LISTS + CLOCKS_DIFFER).as_secs());
        self.key_ended.is_some_and(|ended| shown(ended) < scene.run.clock.cloud_unix())
    }

    /// Removes one of the devices that may be ours, or says why not.
    async fn settle(&self, scene: &Scene<'_>, device: &Device) -> Settled {
        let (addresses, is_deleted) = match scene.machine() {
            Machine::NeverMade => return Settled::strange(None),
            Machine::Deleted { addresses } => (addresses, true),
            Machine::NotDeletedByUs { addresses } => (addresses, false),
        };
        // A fresh read decides: between the list and now it may have gone, or have been changed.
        let fresh = match scene.run.tailscale.find_device(&device.node_id, scene.within()).await {
            Ok(Some(fresh)) => fresh,
            Ok(None) => return Settled::candidate(None),
            Err(error) => return Settled::candidate(Some(Leftover::unconfirmed(Kind::Device, error.to_string()))),
        };
        let place = Place::of(&fresh, addresses);
        if place == Place::Here {
            // With a key that was unused a moment ago as well.
            scene.has_joined();
        }
        self.settle_fresh(scene, &fresh, place, is_deleted).await
    }

    /// Nothing but the address that it connects from ties a device to a machine, and that is its own word. It is no proof,
    /// but it tells apart who claims the same name. So what does not say where it is goes to nobody's account.
    async fn settle_fresh(&self, scene: &Scene<'_>, fresh: &Device, place: Place, is_deleted: bool) -> Settled {
        let is_at_ours = place == Place::Here;
        let settled = |leftover| if is_at_ours { Settled::candidate(leftover) } else { Settled::strange(leftover) };
        let exists = |why: &str| Some(Leftover::exists(Kind::Device, why));
        if !self.expected().may_be(fresh) {
            return settled(exists("it is not provably ours any more"));
        }
        // With a key that nobody used, nobody of ours has joined.
        if scene.key_used() == Some(false) && !is_at_ours {
            return settled(None);
        }
        // Asked after the list: a wrong delete is worse than an orphan.
        match self.has_successor(scene).await {
            Ok(false) => {}
            // The machine of a newer server of this name.
            Ok(true) if !is_at_ours => return settled(None),
            Ok(true) => return settled(exists("a newer server of this name stands")),
            Err(error) => {
                let why = format!("whether it is a newer server's is not known ({error})");
                return settled(Some(Leftover::unconfirmed(Kind::Device, why)));
            }
        }
        if !is_deleted {
            return settled(exists("its server was not deleted by this call"));
        }
        if is_at_ours {
            return Settled::candidate(self.remove(scene, &fresh.node_id).await);
        }
        let why = "it does not connect from the deleted server, so it is not provably the machine of this call";
        Settled { leftover: exists(why), is_candidate: false, is_silent: place == Place::Unknown }
    }

    /// Removes the device that was verified, if it still has our name and tag: it may be anywhere by now. And any other one
    /// that the same machine has made of itself.
    async fn remove_verified(&self, scene: &Scene<'_>, id: &NodeId) -> Vec<Leftover> {
        let exists = |why: &str| Some(Leftover::exists(Kind::Device, why));
        let leftover = match scene.run.tailscale.find_device(id, scene.within()).await {
            Ok(None) => None,
            Ok(Some(_)) if !matches!(scene.machine(), Machine::Deleted { .. }) => {
                exists("its server was not deleted by this call")
            }
            Ok(Some(fresh)) if !self.expected().may_be(&fresh) => exists("it is not provably ours any more"),
            Ok(Some(_)) => self.remove(scene, id).await,
            Err(error) => Some(Leftover::unconfirmed(Kind::Device, error.to_string())),
        };
        let mut left: Vec<Leftover> = leftover.map(|leftover| leftover.id(id)).into_iter().collect();
        match scene.run.tailscale.find_devices(&self.hostname, scene.within()).await {
            Ok(devices) => {
                for device in devices.iter().filter(|device| device.node_id != *id && self.expected().may_be(device)) {
                    let Settled { leftover, is_candidate, .. } = self.settle(scene, device).await;
                    left.extend(leftover.filter(|_| is_candidate).map(|leftover| leftover.id(&device.node_id)));
                }
            }
            Err(error) => {
                let why = format!("the devices could not be read ({error})");
                left.push(Leftover::may_appear(Kind::Device, why));
            }
        }
        left.into_iter().map(|leftover| leftover.name(&self.hostname)).collect()
    }

    async fn remove(&self, scene: &Scene<'_>, id: &NodeId) -> Option<Leftover> {
        let tailscale = &scene.run.tailscale;
        let outcome: Result<bool, TailscaleError> = async {
            tailscale.delete_device(id, scene.within()).await?;
            Ok(tailscale.find_device(id, scene.within()).await?.is_none())
        }
        .await;
        match outcome {
            Ok(true) => {
                scene.run.removed(Scope::Tailscale, format!("Device removed: id={id}"), Kind::Device, id);
                None
            }
            Ok(false) => Some(Leftover::exists(Kind::Device, "Tailscale still shows it after its removal")),
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
            if scene.machine() == Machine::NeverMade {
                return Vec::new();
            }
            scene.run.say(Scope::Tailscale, "Looking for devices that its machine has made of itself");
            if let Some(id) = &self.verified {
                return self.remove_verified(scene, id).await;
            }
            let mut is_blind = false;
            let (mut left, mut settled, mut has_candidate) = (Vec::new(), Vec::new(), false);
            // A machine that has just joined may not have said yet where it is.
            let hearing = scene.deadline.min(scene.run.clock.now() + PATIENCE_WITH_LISTS);
            // What the last look saw of those that do not say where they are.
            let mut silent = Vec::new();
            loop {
                let devices = match self.find(scene, &settled, has_candidate).await {
                    Ok(devices) => devices,
                    Err(error) => {
                        let why = format!("the devices could not be read ({error})");
                        left.push((scene.run.clock.now(), Leftover::may_appear(Kind::Device, why)));
                        is_blind = true;
                        break;
                    }
                };
                let is_last_hearing = scene.run.clock.now() + LISTEN_AGAIN > hearing;
                silent.clear();
                for device in &devices {
                    let since = scene.run.clock.now();
                    let Settled { leftover, is_candidate, is_silent } = self.settle(scene, device).await;
                    let leftover = leftover.map(|leftover| (since, leftover.id(&device.node_id)));
                    has_candidate |= is_candidate;
                    if is_silent && !is_last_hearing {
                        silent.extend(leftover);
                    } else {
                        left.extend(leftover);
                        settled.push(device.node_id.clone());
                    }
                }
                // A single-use key lets one machine in, which may show later than others that claim its name. With another
                // key it may join again and again.
                let is_complete = scene.key_used().is_some() && has_candidate;
                if devices.is_empty() || is_complete {
                    break;
                }
                if !silent.is_empty() {
                    sleep_until(scene.deadline.min(scene.run.clock.now() + LISTEN_AGAIN)).await;
                }
            }
            left.append(&mut silent);
            if !has_candidate && !is_blind && scene.key_used() == Some(true) {
                let why = "a machine joined, but no list shows a device that is provably its";
                left.push((scene.run.clock.now(), Leftover::may_appear(Kind::Device, why)));
            }
            // Devices go by themselves, and by other calls.
            let now = scene.run.clock.now();
            let told = |(since, left): (_, Leftover)| left.name(&self.hostname).after(now.duration_since(since));
            left.into_iter().map(told).collect()
        })
    }

    fn may_leave(&self, why: &str) -> Vec<Leftover> {
        vec![Leftover::may_appear(Kind::Device, why).name(&self.hostname)]
    }
}

//! The undo of the orders of auth keys: by id, and by description what orders made that got no answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::super::event::Scope;
use super::super::super::leftover::{Kind, Leftover};
use super::super::super::run::Run;
use super::super::super::saga::{Machine, Scene, Undo};
use crate::tailscale::{AuthKey, KeyId, TailscaleError};
use crate::transport::{Instant, Judge, Opinion, Patience, Urgency, Within, sleep_until};

/// How long an order that got no answer may still be carried out.
const SETTLE: Duration = Duration::from_secs(20);
/// How long to ask whether a key was used before it is revoked.
const CURIOSITY: Duration = Duration::from_secs(2);
/// How long to ask that of a key of the customer's.
const WATCH: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Revokes the key of this attempt by its id, and by its description what unanswered orders made.
pub(in super::super::super) struct UndoAuthKey {
    description: String,
    /// Minted by an attempt that is past its end, and so is the key.
    is_dead: bool,
    /// A label names the key, which anybody may have written.
    is_of_label: bool,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// Orders that may still be carried out, or were without our hearing of it.
    floating: u32,
    /// What unanswered orders have made, as a list showed it, and is not revoked yet.
    unheard: Vec<KeyId>,
    /// The same, revoked. A list may still show them.
    revoked: Vec<KeyId>,
    minted: Option<KeyId>,
    /// When the key ends by itself. Until then a key that is of no more use must have been used.
    ends: Option<Instant>,
}

impl UndoAuthKey {
    pub(super) fn new(description: String) -> Self {
        Self { description, is_dead: false, is_of_label: false, state: Mutex::default() }
    }

    /// The undo of the key that another attempt minted, as its server's label names it. `is_dead` says that it is past its end.
    pub(in super::super::super) fn of_label(id: &str, description: String, is_dead: bool) -> Self {
        let state = State { minted: Some(KeyId(id.to_owned())), ..State::default() };
        Self { description, is_dead, is_of_label: true, state: Mutex::new(state) }
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    pub(super) fn ordered(&self) {
        self.change(|state| state.floating += 1);
    }

    pub(super) fn not_applied(&self) {
        self.change(|state| state.floating = state.floating.saturating_sub(1));
    }

    /// The order's answer tells of the key, which ends by itself at that time.
    pub(super) fn made(&self, id: KeyId, ends: Instant) {
        self.change(|state| {
            state.floating = state.floating.saturating_sub(1);
            state.minted = Some(id);
            state.ends = Some(ends);
        });
    }

    /// What unanswered orders have made and could not be revoked.
    pub(super) fn unrevoked(&self) -> Vec<KeyId> {
        self.state().unheard
    }

    /// Whether an order may still be carried out, or was without our hearing of it.
    pub(super) fn has_unseen(&self) -> bool {
        self.state().floating > 0
    }

    /// Whether there is anything of an unanswered order, or may be.
    pub(super) fn has_unheard(&self) -> bool {
        self.has_unseen() || !self.state().unheard.is_empty()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Revokes every usable key of this description but the one in hand, as far as each lets itself be revoked. Where
    /// listing is not permitted nothing is found, and the orders stay unresolved.
    pub(super) async fn revoke_unheard(&self, run: &Run<'_>, within: Within) -> Result<(), TailscaleError> {
        let keys = match run.tailscale.find_keys(|text| text == self.description, within).await {
            Err(error) if error.is_forbidden() => return Ok(()),
            keys => keys?,
        };
        self.change(|state| {
            for key in keys {
                let mut known = state.minted.iter().chain(&state.unheard).chain(&state.revoked);
                if !known.any(|id| *id == key.id) {
                    state.floating = state.floating.saturating_sub(1);
                    state.unheard.push(key.id);
                }
            }
        });
        let mut outcome = Ok(());
        for id in self.state().unheard {
            match is_usable_after_revocation(run, &id, within).await {
                Ok(false) => {
                    self.change(|state| {
                        state.unheard.retain(|unheard| *unheard != id);
                        state.revoked.push(id.clone());
                    });
                    let message = format!("Unheard auth key revoked: id={id}");
                    run.removed(Scope::Tailscale, message, Kind::AuthKey, &id);
                }
                Ok(true) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    async fn revoke(&self, scene: &Scene<'_>, id: &KeyId) -> Option<Leftover> {
        let tailscale = &scene.run.tailscale;
        // A single-use key that is spent before we revoke it has let a machine in, whether that shows yet or not. Worth
        // knowing, but not worth a delay of the revocation.
        let soon = scene.deadline.min(scene.run.clock.now() + CURIOSITY);
        let once = Within { deadline: soon, patience: Patience::Tries(1), urgency: Urgency::Undo };
        // The key of a dead attempt has ended by itself, which says nothing about its use.
        let mut is_useless = self.is_dead;
        if self.is_of_label {
            // One that lives may still let a machine in, so it is worth waiting for.
            let within = if self.is_dead { once } else { scene.within() };
            let named = |why: &str| Some(Leftover::unconfirmed(Kind::AuthKey, why).id(id).name(&self.description));
            match self.read_of_label(scene, id, within).await {
                // One that was spared may belong to an attempt that lives, so it goes only with its server.
                Ok(Some(key)) if !scene.is_server_gone() => {
                    return if key.invalid || self.is_dead { None } else { named("its server was not removed") };
                }
                Ok(Some(key)) if !key.invalid && !self.is_dead => scene.set_key_used(Some(false)),
                Ok(Some(_)) => {}
                Err(error) if !self.is_dead => return named(&error.to_string()),
                Ok(None) | Err(_) => return None,
            }
        }
        if scene.run.notes().is_shut_out {
            // The undo of its server has revoked it, unused.
            scene.set_key_used(Some(false));
        } else if self.is_of_label {
            // What there was to learn of it was read above.
        } else if let Ok(before) = tailscale.find_key(id, once).await {
            is_useless = before.is_none_or(|key| key.invalid);
            if self.state().ends.is_some_and(|end| scene.run.clock.now() < end) {
                scene.set_key_used(Some(is_useless));
            }
        }
        let leftover = match is_usable_after_revocation(scene.run, id, scene.within()).await {
            Ok(true) => {
                scene.set_key_used(None);
                Leftover::exists(Kind::AuthKey, "Tailscale still shows it as usable")
            }
            Ok(false) => {
                scene.run.removed(Scope::Tailscale, format!("Auth key revoked: id={id}"), Kind::AuthKey, id);
                return None;
            }
            Err(_) if is_useless => return None,
            Err(error) => {
                scene.set_key_used(None);
                Leftover::unconfirmed(Kind::AuthKey, format!("{error}; it ends by itself soon after the deadline"))
            }
        };
        Some(leftover.id(id).name(&self.description))
    }

    /// The key that an attempt's label names, if it is that attempt's: anybody may have written the label.
    async fn read_of_label(
        &self,
        scene: &Scene<'_>,
        id: &KeyId,
        within: Within,
    ) -> Result<Option<AuthKey>, TailscaleError> {
        let key = scene.run.tailscale.find_key(id, within).await?;
        Ok(key.filter(|key| key.description == self.description))
    }

    /// Looks for keys that unanswered orders may still make, and revokes them.
    async fn settle(&self, scene: &Scene<'_>) -> Vec<Leftover> {
        let end = scene.deadline.min(scene.run.clock.now() + SETTLE);
        let mut obstacle = None;
        while self.has_unheard() {
            let outcome = self.revoke_unheard(scene.run, scene.within()).await;
            let is_final = outcome.as_ref().is_err_and(|error| error.opinion() == Opinion::Stop);
            obstacle = outcome.err();
            if is_final || scene.run.clock.now() >= end {
                break;
            }
            // The last look is at the very end.
            sleep_until(end.min(scene.run.clock.now() + LOOK_AGAIN)).await;
        }
        self.unheard(&obstacle.map(|error| format!(" ({error})")).unwrap_or_default())
    }

    /// What unanswered orders have made or may still make.
    fn unheard(&self, why: &str) -> Vec<Leftover> {
        let State { floating, unheard, .. } = self.state();
        let why = format!("an order got no answer{why}; nobody has its text, and it ends by itself");
        let seen = unheard.iter().map(|id| Leftover::unconfirmed(Kind::AuthKey, &why).id(id).name(&self.description));
        let unseen = (0..floating).map(|_| Leftover::may_appear(Kind::AuthKey, &why).name(&self.description));
        seen.chain(unseen).collect()
    }
}

impl Undo for UndoAuthKey {
    fn undo<'a>(&'a self, scene: &'a Scene<'a>) -> BoxFuture<'a, Vec<Leftover>> {
        Box::pin(async move {
            let mut left = Vec::new();
            if let Some(id) = self.state().minted {
                left.extend(self.revoke(scene, &id).await);
            }
            left.extend(self.settle(scene).await);
            left
        })
    }

    fn may_leave(&self, why: &str) -> Vec<Leftover> {
        let minted = self.state().minted;
        let minted = minted.map(|id| Leftover::unconfirmed(Kind::AuthKey, why).id(&id).name(&self.description));
        minted.into_iter().chain(self.unheard(&format!(", and {why}"))).collect()
    }
}

/// Revokes a key and reads it again: whoever says that it is done need not be Tailscale.
pub(in super::super::super) async fn is_usable_after_revocation(
    run: &Run<'_>,
    id: &KeyId,
    within: Within,
) -> Result<bool, TailscaleError> {
    run.tailscale.revoke_key(id, within).await?;
    Ok(run.tailscale.find_key(id, within).await?.is_some_and(|key| !key.invalid))
}

/// The key that the settings bring is the customer's, so nothing is undone. But whether the attempt used it up tells that
/// a machine has joined, and that only another key helps the next call.
pub(super) struct WatchGiven {
    pub id: KeyId,
    /// It lets one machine in, as a read has shown.
    pub is_single_use: bool,
}

impl Undo for WatchGiven {
    fn undo<'a>(&'a self, scene: &'a Scene<'a>) -> BoxFuture<'a, Vec<Leftover>> {
        Box::pin(async move {
            let deadline = scene.deadline.min(scene.run.clock.now() + WATCH);
            let within = Within { deadline, patience: Patience::UntilDeadline, urgency: Urgency::Undo };
            if self.is_single_use {
                scene.set_given_once();
            }
            let is_spent = match scene.run.tailscale.find_key(&self.id, within).await {
                // One that was shown before and is not any more is used up as well.
                Ok(found) if found.as_ref().map_or(self.is_single_use, |key| key.invalid) => {
                    scene.set_key_used(Some(true));
                    true
                }
                Ok(_) => false,
                // Whoever cannot tell must not promise that the same call will do.
                Err(_) => self.is_single_use && scene.machine() != Machine::NeverMade,
            };
            if is_spent {
                scene.spend_given_key();
            }
            Vec::new()
        })
    }

    fn may_leave(&self, _: &str) -> Vec<Leftover> {
        Vec::new()
    }
}

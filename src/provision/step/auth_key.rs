//! The auth key: minted for one machine, revoked whatever happens.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::{Attempt, TAG};
use super::super::leftover::{Kind, Leftover};
use super::super::run::{Doing, Heard, Run};
use super::super::saga::{Machine, Saga, Scene, Undo};
use crate::secret::Secret;
use crate::tailscale::{Capabilities, CreatedKey, KeyId, KeyOrder, TailscaleError, key_id_of};
use crate::transport::{Instant, Judge, Opinion, Patience, Within, sleep_until};

/// A key outlives the deadline by this much, so that it cannot end before the machine had its chance (fault K08).
const LIFE_MARGIN: Duration = Duration::from_secs(60);
/// How often lost replies may make us order anew.
const ORDERS: u32 = 3;
/// How long an order that got no answer may still be carried out.
const SETTLE: Duration = Duration::from_secs(20);
/// How long to ask whether a key was used before it is revoked.
const CURIOSITY: Duration = Duration::from_secs(2);
/// How long to ask that of a key of the customer's.
const WATCH: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The time for revoking a key that has served.
const RETIRE_LIMIT: Duration = Duration::from_secs(30);

const DOING: &str = "the Tailscale auth key could not be made";

/// A key in hand.
pub(in super::super) struct Key {
    pub text: Secret,
    pub id: Option<KeyId>,
    /// It lets one machine in, so that its use tells of that machine.
    is_single_use: bool,
    /// What is known of our orders, if we made it.
    minted: Option<Arc<UndoAuthKey>>,
}

impl Key {
    /// Whether a machine has joined with this key, as far as that can be told: only of a key that is for one machine, and
    /// that may be read.
    pub(in super::super) async fn is_used(
        &self,
        run: &Run<'_>,
        within: Within,
    ) -> Result<Option<bool>, TailscaleError> {
        let Some(id) = self.id.as_ref().filter(|_| self.is_single_use) else { return Ok(None) };
        match run.tailscale.find_key(id, within).await {
            Ok(key) => Ok(Some(key.is_none_or(|key| key.invalid))),
            Err(error) if error.is_forbidden() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The id of a key that we made: the only kind that we revoke.
    pub(in super::super) fn minted_id(&self) -> Option<&KeyId> {
        self.id.as_ref().filter(|_| self.minted.is_some())
    }
}

/// Has a key for this attempt: a new one, or the one that the settings bring.
pub(in super::super) async fn ensure(run: &Run<'_>, saga: &Saga, attempt: &Attempt) -> Result<Key, Cause> {
    run.enter(Step::AuthKey);
    let (key, word) = match &run.settings.auth_key {
        Some(given) => {
            let key = check_given(run, given).await?;
            if let Some(id) = &key.id {
                saga.declare(WatchGiven { id: id.clone(), is_single_use: key.is_single_use });
            }
            (key, "taken from TAILSCALE_AUTH_KEY")
        }
        None => (mint(run, saga, attempt).await?, "generated"),
    };
    run.say(Scope::ProvisionVm, format!("Tailscale auth key {word}"));
    Ok(key)
}

async fn mint(run: &Run<'_>, saga: &Saga, attempt: &Attempt) -> Result<Key, Cause> {
    let wanted = Capabilities {
        reusable: false,
        ephemeral: run.settings.ephemeral,
        preauthorized: true,
        tags: vec![TAG.to_owned()],
    };
    let undo = saga.declare(UndoAuthKey::new(run.job.key_description(&attempt.id)));
    let created = order(run, &wanted, &undo).await?;
    let text = check_minted(&created, &wanted)?;
    Ok(Key { text, id: Some(created.id), is_single_use: true, minted: Some(undo) })
}

/// Orders until an answer comes. Whatever an unanswered order may have made is looked for and revoked first (fault K02);
/// where listing is not permitted it dies by its short life, and nobody has its text (K03).
async fn order(run: &Run<'_>, wanted: &Capabilities, undo: &UndoAuthKey) -> Result<CreatedKey, Cause> {
    let (mut unclear, mut refusals) = (0, 0);
    loop {
        let error = match hear(run, wanted, undo).await? {
            Ok(created) => return Ok(created),
            Err(error) => error,
        };
        if error.may_have_applied() {
            unclear += 1;
            if unclear >= ORDERS {
                return Err(error).doing(DOING);
            }
            run.say(Scope::Tailscale, format!("No clear answer to the order of an auth key ({error}), looking for it"));
            run.guard(async { Ok(undo.revoke_unheard(run, run.within()).await) }).await?.doing(DOING)?;
        } else {
            refusals += 1;
            match run.pause_before_order(error.opinion(), refusals) {
                Some(pause) => run.pause(pause).await?,
                None => return Err(error).doing(DOING),
            }
        }
    }
}

async fn hear(
    run: &Run<'_>,
    wanted: &Capabilities,
    undo: &UndoAuthKey,
) -> Result<Result<CreatedKey, TailscaleError>, Cause> {
    if let Some(cause) = run.ended() {
        return Err(cause);
    }
    let life = run.deadline.saturating_duration_since(run.clock.now()) + LIFE_MARGIN;
    let order = KeyOrder { capabilities: wanted, life, description: &undo.description };
    undo.change(|state| state.floating += 1);
    let heard = run.hear(run.tailscale.create_key(&order, run.within_grace())).await;
    let (reply, cause) = match heard {
        Heard::Reply(reply) => (Some(reply), None),
        Heard::Interrupted(cause, reply) => (reply, Some(cause)),
    };
    match &reply {
        // One that is not sound names no key for sure, so what it made is looked for by its description.
        Some(Ok(created)) if created.is_sound() => undo.change(|state| {
            state.floating = state.floating.saturating_sub(1);
            state.minted = Some(created.id.clone());
            state.ends = Some(run.clock.now() + life);
        }),
        Some(Err(error)) if !error.may_have_applied() => {
            undo.change(|state| state.floating = state.floating.saturating_sub(1));
        }
        _ => {}
    }
    match (cause, reply) {
        (None, Some(reply)) => Ok(reply),
        (cause, _) => Err(cause.unwrap_or(Cause::Aborted)),
    }
}

/// Faults K06 and K07: better no server than one that cannot join, or a key that does more than was asked.
fn check_minted(created: &CreatedKey, wanted: &Capabilities) -> Result<Secret, Cause> {
    let Some(text) = &created.key else { return Err(Cause::UnusableKey("the answer held no key")) };
    let plain = text.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !text.expose().starts_with("tskey-") || !plain || text.expose().len() > 512 {
        return Err(Cause::UnusableKey("the answer held something that is no auth key"));
    }
    if !created.is_sound() {
        return Err(Cause::UnusableKey("its id and its text are not of one key"));
    }
    let got = &created.capabilities;
    if got.reusable || !got.preauthorized || got.tags != wanted.tags || got.ephemeral != wanted.ephemeral {
        return Err(Cause::UnusableKey("it may do other things than were ordered"));
    }
    Ok(text.clone())
}

/// `TAILSCALE_AUTH_KEY` is the customer's: used with a warning, checked where the API allows, never revoked.
async fn check_given(run: &Run<'_>, given: &Secret) -> Result<Key, Cause> {
    run.warn(
        Scope::Tailscale,
        "TAILSCALE_AUTH_KEY is meant for migration only: such a key is not made for one machine and is not revoked after use",
    );
    let refuse = |why: &str| Err(Cause::Setting { setting: "TAILSCALE_AUTH_KEY".to_owned(), why: why.to_owned() });
    let id = key_id_of(given);
    let found = match &id {
        Some(id) => run.guard(async { Ok(run.tailscale.find_key(id, run.within()).await) }).await?,
        None => Ok(None),
    };
    let is_single_use = matches!(&found, Ok(Some(key)) if !key.capabilities.reusable);
    match found {
        Ok(Some(key)) if key.invalid => return refuse("the key is revoked, expired or used up"),
        Ok(Some(key)) if key.capabilities.reusable && !run.settings.allow_reusable_auth_key => {
            return refuse(
                "the key is reusable, so every machine that has it can let in others; set allowReusableAuthKey to use it all the same",
            );
        }
        Ok(Some(key)) if !key.capabilities.tags.iter().any(|tag| tag == TAG) => {
            return refuse("the key does not carry tag:agent, so its device could not be verified");
        }
        Ok(Some(_)) => {}
        Ok(None) => {
            run.warn(Scope::Tailscale, "TAILSCALE_AUTH_KEY could not be checked: Tailscale does not show this key");
        }
        Err(error) if error.is_forbidden() => {
            run.warn(Scope::Tailscale, "TAILSCALE_AUTH_KEY could not be checked: reading keys is not permitted");
        }
        Err(error) => return Err(error).doing("TAILSCALE_AUTH_KEY could not be checked"),
    }
    Ok(Key { text: given.clone(), id, is_single_use, minted: None })
}

/// Revokes the key that has served, and whatever unanswered orders made beside it. The machine is in by now, so a
/// failure is a warning (fault M23).
///
/// The server is ready, and may be in somebody's hands: not even a panic in here may undo it.
pub(in super::super) async fn retire(run: &Run<'_>, key: &Key) {
    if AssertUnwindSafe(revoke_spent(run, key)).catch_unwind().await.is_err() {
        run.warn(Scope::Tailscale, "The revocation of the spent auth key broke down; it ends by itself");
    }
}

async fn revoke_spent(run: &Run<'_>, key: &Key) {
    let (Some(undo), Some(id)) = (&key.minted, &key.id) else { return };
    let within = Within { deadline: run.clock.now() + RETIRE_LIMIT, patience: Patience::USUAL };
    if let Err(error) = run.tailscale.revoke_key(id, within).await {
        run.warn(Scope::Tailscale, format!("The spent auth key {id} could not be revoked: {error}"));
    }
    if !undo.has_unheard() {
        return;
    }
    let looked = undo.revoke_unheard(run, within).await;
    for id in undo.state().unheard {
        run.warn(Scope::Tailscale, format!("The auth key {id}, whose text nobody has, could not be revoked"));
    }
    if looked.is_err() || undo.state().floating > 0 {
        let message = format!(
            "An order of an auth key got no answer: an unused key described as {:?} may exist until it ends by itself",
            undo.description
        );
        run.warn(Scope::Tailscale, message);
    }
}

/// Revokes the key of this attempt by its id, and by its description what unanswered orders made.
pub(in super::super) struct UndoAuthKey {
    description: String,
    /// Minted by an attempt that is past its end, and so is the key.
    is_dead: bool,
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
    fn new(description: String) -> Self {
        Self { description, is_dead: false, state: Mutex::default() }
    }

    /// The undo of the key that a dead attempt minted, as its server's label names it.
    pub(in super::super) fn of_dead(id: &str, description: String) -> Self {
        let state = State { minted: Some(KeyId(id.to_owned())), ..State::default() };
        Self { description, is_dead: true, state: Mutex::new(state) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Revokes every usable key of this description but the one in hand, as far as each lets itself be revoked. Where
    /// listing is not permitted nothing is found, and the orders stay unresolved.
    async fn revoke_unheard(&self, run: &Run<'_>, within: Within) -> Result<(), TailscaleError> {
        let keys = match run.tailscale.find_keys_described(&self.description, within).await {
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
            // A read confirms it: whoever says that it is done need not be Tailscale.
            let revoked: Result<_, TailscaleError> = async {
                run.tailscale.revoke_key(&id, within).await?;
                Ok(run.tailscale.find_key(&id, within).await?.is_none_or(|key| key.invalid))
            }
            .await;
            match revoked {
                Ok(true) => {
                    self.change(|state| {
                        state.unheard.retain(|unheard| *unheard != id);
                        state.revoked.push(id.clone());
                    });
                    run.say(Scope::Tailscale, format!("Unheard auth key revoked: id={id}"));
                }
                Ok(false) => {}
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
        let once = Within { deadline: soon, patience: Patience::Tries(1) };
        // The key of a dead attempt has ended by itself, which says nothing about its use.
        let mut is_useless = self.is_dead;
        if self.is_dead && !self.is_provably_of_dead(scene, id, once).await {
            return None;
        }
        if !self.is_dead
            && let Ok(before) = tailscale.find_key(id, once).await
        {
            is_useless = before.is_none_or(|key| key.invalid);
            if self.state().ends.is_some_and(|end| scene.run.clock.now() < end) {
                scene.set_key_used(Some(is_useless));
            }
        }
        let outcome: Result<_, TailscaleError> = async {
            tailscale.revoke_key(id, scene.within()).await?;
            tailscale.find_key(id, scene.within()).await
        }
        .await;
        let leftover = match outcome {
            Ok(Some(key)) if !key.invalid => {
                scene.set_key_used(None);
                Leftover::exists(Kind::AuthKey, "Tailscale still shows it as usable")
            }
            Ok(_) => {
                scene.run.say(Scope::Tailscale, format!("Auth key revoked: id={id}"));
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

    /// Whether the key that a dead attempt's label names is that attempt's: anybody may have written the label. And it goes
    /// only with the server: one that was spared may belong to an attempt that lives.
    async fn is_provably_of_dead(&self, scene: &Scene<'_>, id: &KeyId, within: Within) -> bool {
        if !matches!(scene.machine(), Machine::Deleted { .. }) {
            return false;
        }
        let key = scene.run.tailscale.find_key(id, within).await;
        matches!(key, Ok(Some(key)) if key.description == self.description)
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

    fn has_unheard(&self) -> bool {
        let State { floating, unheard, .. } = self.state();
        floating > 0 || !unheard.is_empty()
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

/// The key that the settings bring is the customer's, so nothing is undone. But whether the attempt used it up tells that
/// a machine has joined, and that only another key helps the next call.
struct WatchGiven {
    id: KeyId,
    is_single_use: bool,
}

impl Undo for WatchGiven {
    fn undo<'a>(&'a self, scene: &'a Scene<'a>) -> BoxFuture<'a, Vec<Leftover>> {
        Box::pin(async move {
            let deadline = scene.deadline.min(scene.run.clock.now() + WATCH);
            let within = Within { deadline, patience: Patience::UntilDeadline };
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

//! The auth key: minted for one machine, revoked whatever happens.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::error::{Cause, Leftover};
use super::super::event::{Scope, Step};
use super::super::job::{Attempt, TAG};
use super::super::run::{Doing, Run};
use super::super::saga::{Saga, Scene, Undo};
use crate::secret::Secret;
use crate::tailscale::{Capabilities, CreatedKey, KeyId, KeyOrder, TailscaleError, key_id_of};

/// A key outlives the deadline by this much, so that it cannot end before the machine had its chance (fault K08).
const LIFE_MARGIN: Duration = Duration::from_secs(60);
/// How often a lost reply may make us order anew; each unheard key is revoked first.
const ORDERS: u32 = 3;

/// A key in hand.
pub(in super::super) struct Key {
    pub text: Secret,
    pub id: Option<KeyId>,
    /// We made it, so we revoke it.
    pub minted: bool,
}

/// Has a key for this attempt: a new one, or the one that the settings bring.
pub(in super::super) async fn ensure(run: &Run<'_>, saga: &Saga, attempt: &Attempt) -> Result<Key, Cause> {
    run.enter(Step::AuthKey);
    let key = match &run.settings.auth_key {
        Some(given) => check_given(run, given).await?,
        None => mint(run, saga, attempt).await?,
    };
    let word = if key.minted { "generated" } else { "taken from TAILSCALE_AUTH_KEY" };
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
    let description = run.job.key_description(attempt);
    let undo = saga.declare(UndoAuthKey {
        description: description.clone(),
        tells_use: true,
        state: Mutex::new(State::NotOrdered),
    });
    let created = run.guard(order(run, &wanted, &description, &undo)).await?;
    undo.set(State::Minted(created.id.clone()));
    let text = check_minted(&created, &wanted)?;
    Ok(Key { text, id: Some(created.id), minted: true })
}

async fn order(
    run: &Run<'_>,
    wanted: &Capabilities,
    description: &str,
    undo: &UndoAuthKey,
) -> Result<CreatedKey, Cause> {
    let doing = "the Tailscale auth key could not be made";
    let mut orders = 1;
    loop {
        let life = run.deadline.saturating_duration_since(run.clock.now()) + LIFE_MARGIN;
        undo.set(State::Unresolved);
        match run.tailscale.create_key(&KeyOrder { capabilities: wanted, life, description }, run.within()).await {
            Err(error) if error.may_have_applied() && orders < ORDERS => {
                orders += 1;
                run.say(Scope::Tailscale, format!("no answer to the order of an auth key ({error}), looking for it"));
                revoke_unheard(run, description).await?;
            }
            Err(error) => {
                if !error.may_have_applied() {
                    undo.set(State::NotOrdered);
                }
                return Err(error).doing(doing);
            }
            Ok(created) => return Ok(created),
        }
    }
}

/// Revokes a key that was made but whose text was lost with the answer (fault K02). Where listing is not permitted it
/// dies by its short life instead (K03).
async fn revoke_unheard(run: &Run<'_>, description: &str) -> Result<(), Cause> {
    match run.tailscale.find_keys_described(description, run.within()).await {
        Ok(keys) => {
            for key in keys {
                run.tailscale
                    .revoke_key(&key.id, run.within())
                    .await
                    .doing("an unheard auth key could not be revoked")?;
            }
            Ok(())
        }
        Err(error) if error.is_forbidden() => Ok(()),
        Err(error) => Err(error).doing("a lost auth key could not be looked for"),
    }
}

/// Faults K06 and K07: better no server than one that cannot join, or a key that does more than was asked.
fn check_minted(created: &CreatedKey, wanted: &Capabilities) -> Result<Secret, Cause> {
    let Some(text) = &created.key else { return Err(Cause::UnusableKey("the answer held no key")) };
    let plain = text.expose().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !text.expose().starts_with("tskey-") || !plain || text.expose().len() > 512 {
        return Err(Cause::UnusableKey("the answer held something that is no auth key"));
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
    match found {
        Ok(Some(key)) if key.invalid => refuse("the key is revoked, expired or used up"),
        Ok(Some(key)) if key.capabilities.reusable && !run.settings.allow_reusable_auth_key => refuse(
            "the key is reusable, so every machine that has it can let in others; set allowReusableAuthKey to use it all the same",
        ),
        Ok(Some(key)) if !key.capabilities.tags.iter().any(|tag| tag == TAG) => {
            refuse("the key does not carry tag:agent, so its device could not be verified")
        }
        Ok(Some(_)) => Ok(Key { text: given.clone(), id, minted: false }),
        Ok(None) => {
            run.warn(Scope::Tailscale, "TAILSCALE_AUTH_KEY could not be checked: Tailscale does not show this key");
            Ok(Key { text: given.clone(), id, minted: false })
        }
        Err(error) if error.is_forbidden() => {
            run.warn(Scope::Tailscale, "TAILSCALE_AUTH_KEY could not be checked: reading keys is not permitted");
            Ok(Key { text: given.clone(), id, minted: false })
        }
        Err(error) => Err(error).doing("TAILSCALE_AUTH_KEY could not be checked"),
    }
}

/// Revokes the key of this attempt: by its id, or by its description if the answer was lost.
pub(in super::super) struct UndoAuthKey {
    description: String,
    /// Whether an invalid key must have been used. The key of a dead attempt has expired by itself.
    tells_use: bool,
    state: Mutex<State>,
}

#[derive(Clone)]
enum State {
    NotOrdered,
    Unresolved,
    Minted(KeyId),
}

impl UndoAuthKey {
    /// The undo of the key that a dead attempt minted, as its server's label names it.
    pub(in super::super) fn of_dead(id: &str) -> Self {
        Self {
            description: "auth key of a dead attempt".to_owned(),
            tells_use: false,
            state: Mutex::new(State::Minted(KeyId(id.to_owned()))),
        }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn leftover(&self, id: Option<&KeyId>, why: impl Into<String>) -> Leftover {
        let id = id.map(|id| id.0.clone());
        Leftover { kind: "auth_key", id, name: Some(self.description.clone()), why: why.into() }
    }

    async fn revoke(&self, scene: &Scene<'_>, id: &KeyId) -> Option<Leftover> {
        let tailscale = &scene.run.tailscale;
        let outcome: Result<_, TailscaleError> = async {
            // A single-use key that is spent before we revoke it has let a machine in, whether that shows yet or not.
            let before = tailscale.find_key(id, scene.within()).await?;
            if self.tells_use {
                scene.set_key_used(before.is_none_or(|key| key.invalid));
            }
            tailscale.revoke_key(id, scene.within()).await?;
            tailscale.find_key(id, scene.within()).await
        }
        .await;
        match outcome {
            Ok(Some(key)) if !key.invalid => Some(self.leftover(Some(id), "Tailscale still shows it as usable")),
            Ok(_) => {
                scene.run.say(Scope::Tailscale, format!("Auth key revoked: id={id}"));
                None
            }
            Err(error) => Some(self.leftover(Some(id), format!("{error}; it ends by itself soon after the deadline"))),
        }
    }
}

impl Undo for UndoAuthKey {
    fn undo<'a>(&'a self, scene: &'a Scene<'a>) -> BoxFuture<'a, Vec<Leftover>> {
        Box::pin(async move {
            match self.state() {
                State::NotOrdered => Vec::new(),
                State::Minted(id) => self.revoke(scene, &id).await.into_iter().collect(),
                State::Unresolved => {
                    match scene.run.tailscale.find_keys_described(&self.description, scene.within()).await {
                        Ok(keys) => {
                            let mut left = Vec::new();
                            for key in keys {
                                left.extend(self.revoke(scene, &key.id).await);
                            }
                            left
                        }
                        Err(error) => {
                            let why = format!("it may exist ({error}); nobody has its text, and it ends by itself");
                            vec![self.leftover(None, why)]
                        }
                    }
                }
            }
        })
    }

    fn may_leave(&self, why: &str) -> Option<Leftover> {
        match self.state() {
            State::NotOrdered => None,
            State::Unresolved => Some(self.leftover(None, why)),
            State::Minted(id) => Some(self.leftover(Some(&id), why)),
        }
    }
}

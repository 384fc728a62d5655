//! The auth key: minted for one machine, revoked whatever happens.

mod undo;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::{Attempt, Claim, TAG};
use super::super::run::{Doing, Heard, Run};
use super::super::saga::Saga;
use crate::secret::Secret;
use crate::tailscale::{Capabilities, CreatedKey, KeyId, KeyOrder, TailscaleError, key_id_of};
use crate::transport::{Judge, Patience, Urgency, Within};
use undo::WatchGiven;
pub(in super::super) use undo::{UndoAuthKey, is_usable_after_revocation};

/// A key outlives the deadline by this much, so that it cannot end before the machine had its chance (fault K08).
const LIFE_MARGIN: Duration = Duration::from_secs(60);
/// How often lost replies may make us order anew.
const ORDERS: u32 = 3;
/// The time for revoking a key that has served.
const RETIRE_LIMIT: Duration = Duration::from_secs(30);

/// When the key ends that an attempt has minted, if it has, in the cloud's unix time: some time after its deadline.
pub(in super::super) fn key_end(claim: &Claim) -> Option<i64> {
    claim.auth_key.as_ref()?;
    claim.deadline().map(|end| end.saturating_add_unsigned(LIFE_MARGIN.as_secs()))
}

const DOING: &str = "the Tailscale auth key could not be made";

/// A key whose text is in hand.
pub(in super::super) struct FreshKey {
    pub text: Secret,
    pub key: Key,
}

/// The key of an attempt.
pub(in super::super) struct Key {
    pub id: Option<KeyId>,
    /// It lets one machine in, so that its use tells of that machine.
    is_single_use: bool,
    origin: Origin,
}

/// Where a key is from.
enum Origin {
    /// We made it. With what is known of our orders.
    Minted(Arc<UndoAuthKey>),
    /// The settings bring it: the customer's.
    Given,
    /// A server's label names it as that of the attempt that is described so. Anybody may have written the label.
    Labelled(String),
}

impl Key {
    /// The key of an attempt that another call began, as the label of its server names it.
    pub(in super::super) fn of_label(id: Option<&str>, description: String) -> Self {
        let id = id.map(|id| KeyId(id.to_owned()));
        Self { id, is_single_use: true, origin: Origin::Labelled(description) }
    }

    /// Whether a machine has joined with this key, as far as that can be told: only of a key that is for one machine, and
    /// that may be read.
    pub(in super::super) async fn is_used(
        &self,
        run: &Run<'_>,
        within: Within,
    ) -> Result<Option<bool>, TailscaleError> {
        let Some(id) = self.id.as_ref().filter(|_| self.is_single_use) else { return Ok(None) };
        let key = if within.urgency == Urgency::Look {
            run.tailscale.look_at_key(id).await
        } else {
            run.tailscale.find_key(id, within).await
        };
        match (key, &self.origin) {
            // One that is not provably the attempt's cannot speak for it.
            (Ok(key), Origin::Labelled(description)) => {
                Ok(key.filter(|key| key.description == *description).map(|key| key.invalid))
            }
            (Ok(key), _) => Ok(Some(key.is_none_or(|key| key.invalid))),
            (Err(error), _) if error.is_forbidden() => Ok(None),
            (Err(error), _) => Err(error),
        }
    }

    /// Whether an order beside this key's may have made one that nobody has seen.
    pub(in super::super) fn has_unseen_twin(&self) -> bool {
        matches!(&self.origin, Origin::Minted(undo) if undo.has_unseen())
    }

    /// The id of a key that we made: the only kind that we revoke.
    pub(in super::super) fn minted_id(&self) -> Option<&KeyId> {
        self.id.as_ref().filter(|_| matches!(self.origin, Origin::Minted(_)))
    }
}

/// Has a key for this attempt: a new one, or the one that the settings bring.
pub(in super::super) async fn ensure(run: &Run<'_>, saga: &Saga, attempt: &Attempt) -> Result<FreshKey, Cause> {
    run.enter(Step::AuthKey);
    let (key, word) = if let Some(given) = &run.settings.auth_key {
        let key = check_given(run, given).await?;
        if let Some(id) = &key.id {
            saga.declare(WatchGiven { id: id.clone(), is_single_use: key.is_single_use });
        }
        (FreshKey { text: given.clone(), key }, "taken from TAILSCALE_AUTH_KEY")
    } else {
        let life = run.attempt_time() + LIFE_MARGIN;
        (mint(run, saga, attempt, life).await?, "generated")
    };
    run.say(Scope::ProvisionVm, format!("Tailscale auth key {word}"));
    Ok(key)
}

/// A new key for one machine, that lives so long.
pub(in super::super) async fn mint(
    run: &Run<'_>,
    saga: &Saga,
    attempt: &Attempt,
    life: Duration,
) -> Result<FreshKey, Cause> {
    let wanted = Capabilities {
        reusable: false,
        ephemeral: run.settings.ephemeral,
        preauthorized: true,
        tags: std::iter::once(TAG.to_owned()).chain(run.settings.extras.tags.iter().cloned()).collect(),
    };
    let undo = saga.declare(UndoAuthKey::new(run.job.key_description(&attempt.id)));
    let created = order(run, &wanted, life, &undo).await?;
    let text = check_minted(&created, &wanted)?;
    let key = Key { id: Some(created.id), is_single_use: true, origin: Origin::Minted(undo) };
    Ok(FreshKey { text, key })
}

/// Orders until an answer comes. Whatever an unanswered order may have made is looked for and revoked first (fault K02);
/// where listing is not permitted it dies by its short life, and nobody has its text (K03).
async fn order(run: &Run<'_>, wanted: &Capabilities, life: Duration, undo: &UndoAuthKey) -> Result<CreatedKey, Cause> {
    let (mut unclear, mut refusals) = (0, 0);
    loop {
        let error = match hear(run, wanted, life, undo).await? {
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
    life: Duration,
    undo: &UndoAuthKey,
) -> Result<Result<CreatedKey, TailscaleError>, Cause> {
    if let Some(cause) = run.ended() {
        return Err(cause);
    }
    let order = KeyOrder { capabilities: wanted, life, description: undo.description() };
    let _place = run.guard(async { run.tailscale.may_order(run.deadline()).await.ok_or(Cause::Deadline) }).await?;
    undo.ordered();
    let heard = run.hear(run.tailscale.create_key(&order, run.within_grace())).await;
    let (reply, cause) = match heard {
        Heard::Reply(reply) => (Some(reply), None),
        Heard::Interrupted(cause, reply) => (reply, Some(cause)),
    };
    match &reply {
        // One that is not sound names no key for sure, so what it made is looked for by its description.
        Some(Ok(created)) if created.is_sound() => undo.made(created.id.clone(), run.clock.now() + life),
        Some(Err(error)) if !error.may_have_applied() => undo.not_applied(),
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
    let tags = |capabilities: &Capabilities| capabilities.tags.iter().cloned().collect::<BTreeSet<_>>();
    let has_other_tags = tags(got) != tags(wanted);
    if got.reusable || !got.preauthorized || has_other_tags || got.ephemeral != wanted.ephemeral {
        return Err(Cause::UnusableKey("it may do other things than were ordered"));
    }
    Ok(text.clone())
}

/// `TAILSCALE_AUTH_KEY` is the customer's: used with a warning, checked where the API allows, never revoked.
pub(in super::super) async fn check_given(run: &Run<'_>, given: &Secret) -> Result<Key, Cause> {
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
    Ok(Key { id, is_single_use, origin: Origin::Given })
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
    let Some(id) = &key.id else { return };
    let within =
        Within { deadline: run.clock.now() + RETIRE_LIMIT, patience: Patience::USUAL, urgency: Urgency::Finish };
    let revoked = match &key.origin {
        Origin::Given => return,
        Origin::Minted(_) => run.tailscale.revoke_key(id, within).await,
        Origin::Labelled(description) => match run.tailscale.find_key(id, within).await {
            Ok(Some(key)) if key.description == *description => run.tailscale.revoke_key(id, within).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
    };
    if let Err(error) = revoked {
        run.warn(Scope::Tailscale, format!("The spent auth key {id} could not be revoked: {error}"));
    }
    revoke_twins(run, key, within).await;
}

/// Revokes whatever unanswered orders made beside a key that a machine is still to use, whose call does not wait for it.
pub(in super::super) async fn leave(run: &Run<'_>, key: &Key) {
    let within =
        Within { deadline: run.clock.now() + RETIRE_LIMIT, patience: Patience::USUAL, urgency: Urgency::Finish };
    if AssertUnwindSafe(revoke_twins(run, key, within)).catch_unwind().await.is_err() {
        run.warn(Scope::Tailscale, "The look for auth keys that nobody has broke down; they end by themselves");
    }
}

async fn revoke_twins(run: &Run<'_>, key: &Key, within: Within) {
    let Origin::Minted(undo) = &key.origin else { return };
    if !undo.has_unheard() {
        return;
    }
    let looked = undo.revoke_unheard(run, within).await;
    for id in undo.unrevoked() {
        run.warn(Scope::Tailscale, format!("The auth key {id}, whose text nobody has, could not be revoked"));
    }
    if looked.is_err() || undo.has_unseen() {
        let message = format!(
            "An order of an auth key got no answer: an unused key described as {:?} may exist until it ends by itself",
            undo.description()
        );
        run.warn(Scope::Tailscale, message);
    }
}

//! The two waits, at the same time: Hetzner's actions, and the device. 8 s and 25 s become 25 s.
//!
//! A look that fails for a passing reason is no reason to give up; only the deadline ends the wait then. The next look is
//! the repetition, so a single one is not repeated, and looks that fail come ever more slowly.
//!
//! Each job says when it would look; the rooms of the clouds let one look serve all jobs of the process that wait.

mod machine;
mod proof;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join};
use tokio::sync::{Notify, oneshot};

use super::super::enrollment::{Enrolled, Enrollment, Expected, Obstacle};
use super::super::error::Cause;
use super::super::event::{Detail, Scope, Step};
use super::super::evidence::{Evidence, KeyWord, Shown};
use super::super::run::{Doing, Run};
use super::auth_key::Key;
use super::server::Made;
use crate::hetzner::ServerId;
use crate::tailscale::TailscaleError;
use crate::transport::{Instant, Judge, Opinion, Pace, Patience, Urgency, Within, sleep_until};
use machine::{Actions, Machine, Trouble, machine};
use proof::{Proof, Sight};

/// When the deadline comes, one last look may take this long (fault M08).
const LAST_LOOK: Duration = Duration::from_secs(5);
const DEVICES: &str = "the devices could not be read";

/// How far the waits have come, for when the deadline ends them.
struct Progress {
    actions_done: bool,
    obstacle: Obstacle,
    /// Why the last look at the server failed, if it did.
    blind_to_server: Option<Cause>,
    /// Why the last look at the devices failed, if it did.
    blind_to_devices: Option<TailscaleError>,
}

/// Waits until every action succeeded and the device is verified.
pub(in super::super) async fn both(
    run: &Run<'_>,
    made: &Made,
    key: &Key,
    expected: &Expected<'_>,
) -> Result<Enrolled, Cause> {
    run.enter(Step::Wait);
    let progress = Mutex::new(Progress {
        actions_done: false,
        obstacle: Obstacle::Absent,
        blind_to_server: None,
        blind_to_devices: None,
    });
    let proof = Proof::new(key, made);
    let (done, actions_done) = oneshot::channel();
    let has_joined = Notify::new();
    let joined: BoxFuture<'_, _> = Box::pin(async {
        let enrolled = device(run, &proof, expected, &progress).await?;
        has_joined.notify_one();
        // The other side ends only with a failure, which wins below.
        let _ = actions_done.await;
        Ok(enrolled)
    });
    let waits = async {
        tokio::select! {
            biased;
            outcome = joined => outcome,
            cause = machine(run, made, &progress, done, &has_joined).boxed() => Err(cause),
        }
    };
    let outcome = run.guard(waits).await;
    if !matches!(outcome, Err(Cause::Deadline)) {
        return outcome;
    }
    // What could not be seen until the end is no verdict on the machine.
    let Progress { actions_done, obstacle, blind_to_server, blind_to_devices } =
        progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    if actions_done {
        return last_look(run, made.id, &proof, expected, obstacle, blind_to_devices).boxed().await;
    }
    let unfinished = || Cause::ActionTimeout("Hetzner did not finish making the server before the deadline".to_owned());
    Err(blind_to_server.unwrap_or_else(unfinished))
}

/// How one look at a machine ended that nobody waits for.
pub(in super::super) enum Seen {
    /// Every action succeeded, and the device is verified.
    Joined(Enrolled),
    /// It is on its way.
    NotYet,
    /// It will never join.
    Failed(Cause),
    /// What could not be seen is no verdict on the machine.
    Blind(Cause),
}

/// Looks once at what [`both`] waits for.
pub(in super::super) async fn once(run: &Run<'_>, made: &Made, key: &Key, expected: &Expected<'_>) -> Seen {
    run.enter(Step::Wait);
    let mut actions = Actions::new(made);
    let mut server = Machine::new(made);
    let (proof, now) = (Proof::new(key, made), run.clock.now());
    let look = run.guard(async {
        if !actions.pending.is_empty()
            && let Err(trouble) = actions.look(run, now).await
        {
            return Ok(trouble.into());
        }
        if !actions.pending.is_empty() {
            return Ok(Seen::NotYet);
        }
        match server.look(run, true, now).await {
            Ok(None) => {}
            // It was off, and has been given power.
            Ok(Some(_)) => return Ok(Seen::NotYet),
            Err(trouble) => return Ok(trouble.into()),
        }
        Ok(match proof.look(run, expected, Sight::Own(run.within())).await.doing(DEVICES) {
            Ok(Enrollment::Verified(enrolled)) => Seen::Joined(enrolled),
            // One look is no verdict on several that claim to be it.
            Ok(Enrollment::NotYet(_) | Enrollment::Ambiguous(_)) => Seen::NotYet,
            Err(cause) => Seen::Blind(cause),
        })
    });
    look.await.unwrap_or_else(Seen::Blind)
}

impl From<Trouble> for Seen {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            // An answer of the API's, such as a token that is refused, says nothing about the machine.
            Trouble::Passing(_, cause) | Trouble::Final(cause @ Cause::Hetzner { .. }) => Self::Blind(cause),
            Trouble::Final(cause) => Self::Failed(cause),
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tailscale's side: waits for a device that verifies.
async fn device(
    run: &Run<'_>,
    proof: &Proof<'_>,
    expected: &Expected<'_>,
    progress: &Mutex<Progress>,
) -> Result<Enrolled, Cause> {
    let (began, mut pace) = (run.clock.now(), Pace::default());
    loop {
        let now = run.clock.now();
        // Anew for each look, since others have booted meanwhile.
        let due = now + pace.next(run.boot_window().pace(now.duration_since(began)));
        let seen = match proof.look(run, expected, Sight::Shared(due)).await {
            Ok(seen) => seen,
            Err(error) if error.opinion() == Opinion::Stop => return Err(error).doing(DEVICES),
            Err(error) => {
                pace.went_badly(error.opinion(), run.chance.fraction());
                lock(progress).blind_to_devices = Some(error);
                continue;
            }
        };
        pace.went_well();
        lock(progress).blind_to_devices = None;
        match seen {
            Enrollment::Verified(enrolled) => {
                run.has_booted_in(run.clock.now().duration_since(began));
                return Ok(enrolled);
            }
            Enrollment::Ambiguous(devices) => return Err(Cause::EnrollAmbiguous(devices.len())),
            Enrollment::NotYet(obstacle) => {
                let mut progress = lock(progress);
                if progress.obstacle != obstacle {
                    tracing::debug!(?obstacle, "not verified yet");
                    if obstacle != Obstacle::Absent {
                        let why = obstacle.as_str();
                        run.tell(Scope::Tailscale, format!("Waiting: {why}"), Detail::Waiting(why));
                    }
                    progress.obstacle = obstacle;
                }
            }
        }
    }
}

/// The device may have come since the look before. Without an answer now, that look is what counts, or why it failed.
async fn last_look(
    run: &Run<'_>,
    server: ServerId,
    proof: &Proof<'_>,
    expected: &Expected<'_>,
    before: Obstacle,
    blind: Option<TailscaleError>,
) -> Result<Enrolled, Cause> {
    let within =
        Within { deadline: run.clock.now() + LAST_LOOK, patience: Patience::UntilDeadline, urgency: Urgency::Finish };
    let obstacle = match proof.look(run, expected, Sight::Own(within)).await {
        Ok(Enrollment::Verified(enrolled)) => return Ok(enrolled),
        Ok(Enrollment::Ambiguous(devices)) => return Err(Cause::EnrollAmbiguous(devices.len())),
        Ok(Enrollment::NotYet(obstacle)) => obstacle,
        Err(_) => match blind {
            Some(error) => return Err(error).doing(DEVICES),
            None => before,
        },
    };
    let fails = if obstacle.may_pass() { Cause::EnrollTimeout } else { Cause::EnrollRejected };
    Err(fails(gather(run, server, proof, obstacle, within.deadline).await))
}

/// What both clouds show of a machine that did not join. It is for a person to read, so what cannot be seen at once, or in what
/// is left of the last look, is left out.
async fn gather(run: &Run<'_>, id: ServerId, proof: &Proof<'_>, obstacle: Obstacle, deadline: Instant) -> Evidence {
    let within = Within { deadline, patience: Patience::Tries(1), urgency: Urgency::Look };
    let server = async {
        match run.hetzner.find_server(id, within).await {
            Ok(Some(server)) => Shown::As(server.status),
            Ok(None) => Shown::Gone,
            Err(_) => Shown::Unseen,
        }
    };
    let key = async {
        match proof.key_word() {
            // What was said before the last look may have changed.
            KeyWord::Unasked | KeyWord::Awaited => proof.ask_key(run, within).await.unwrap_or_default(),
            word => word,
        }
    };
    let looks = std::pin::pin!(join(server, key));
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => Evidence::of(obstacle),
        () = sleep_until(deadline) => Evidence::of(obstacle),
        (server, key) = looks => Evidence { obstacle, server, key },
    }
}

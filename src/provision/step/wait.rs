//! The two waits, at the same time: Hetzner's actions, and the device. 8 s and 25 s become 25 s.
//!
//! A poll that fails for a passing reason is no reason to give up; only the deadline ends the wait then.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join;

use super::super::enrollment::{Enrolled, Enrollment, Expected, Obstacle, judge};
use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::run::{Doing, Run};
use super::server::Made;
use crate::hetzner::{ActionId, ActionStatus, ServerId};
use crate::transport::{Judge, Opinion, Patience, Within, sleep};

/// When the deadline comes, one last look may take this long (fault M08).
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How often to see whether the server still exists at all (fault G15).
const STILL_THERE: Duration = Duration::from_secs(30);

/// How many readings in a row may leave an action out before it counts as forgotten.
const READINGS: u32 = 3;

const DEVICES: &str = "the devices could not be read";

/// How far the waits have come, for when the deadline ends them.
struct Progress {
    actions_done: bool,
    obstacle: Obstacle,
}

/// Waits until every action succeeded and the device is verified.
pub(in super::super) async fn both(run: &Run<'_>, made: &Made, expected: &Expected<'_>) -> Result<Enrolled, Cause> {
    run.enter(Step::Wait);
    let progress = Mutex::new(Progress { actions_done: false, obstacle: Obstacle::Absent });
    let waits = async {
        let both = try_join(actions(run, made, &progress), device(run, expected, &progress));
        tokio::select! {
            biased;
            outcome = both => outcome.map(|((), enrolled)| enrolled),
            cause = vanished(run, made.server.id) => Err(cause),
        }
    };
    match run.guard(waits).await {
        Err(Cause::Deadline) if !lock(&progress).actions_done => Err(Cause::ActionTimeout),
        Err(Cause::Deadline) => last_look(run, expected).await,
        outcome => outcome,
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn actions(run: &Run<'_>, made: &Made, progress: &Mutex<Progress>) -> Result<(), Cause> {
    let mut pending = made.actions.clone();
    let mut unshown = 0;
    let began = run.clock.now();
    while !pending.is_empty() {
        sleep(action_pace(run.clock.now().duration_since(began))).await;
        let shown = match run.hetzner.get_actions(&pending, run.within()).await {
            Ok(shown) => shown,
            Err(error) if error.opinion() == Opinion::Stop && !error.is_not_found() => {
                return Err(error).doing("the server's actions could not be read");
            }
            Err(_) => continue,
        };
        for action in &shown {
            if let ActionStatus::Error { code, message } = &action.status {
                let reason = format!("{code}: {message}");
                return Err(Cause::ActionFailed { command: action.command.clone(), reason });
            }
        }
        // Hetzner forgets old actions, and may show new ones late: what it does not show for several readings cannot be
        // waited for (fault G14).
        unshown = if shown.len() < pending.len() { unshown + 1 } else { 0 };
        let status_of = |id: &ActionId| shown.iter().find(|action| action.id == *id).map(|action| &action.status);
        pending.retain(|id| status_of(id).map_or(unshown < READINGS, |status| *status == ActionStatus::Running));
    }
    lock(progress).actions_done = true;
    run.say(Scope::ProvisionVm, "Hetzner server is ready");
    Ok(())
}

async fn device(run: &Run<'_>, expected: &Expected<'_>, progress: &Mutex<Progress>) -> Result<Enrolled, Cause> {
    let began = run.clock.now();
    loop {
        sleep(device_pace(run.clock.now().duration_since(began))).await;
        let devices = match run.tailscale.find_devices(expected.hostname, run.within()).await {
            Ok(devices) => devices,
            Err(error) if error.opinion() == Opinion::Stop => return Err(error).doing(DEVICES),
            Err(_) => continue,
        };
        match judge(&devices, expected) {
            Enrollment::Verified(enrolled) => return Ok(enrolled),
            Enrollment::Ambiguous(count) => return Err(Cause::EnrollAmbiguous(count)),
            Enrollment::NotYet(obstacle) => {
                let mut progress = lock(progress);
                if progress.obstacle != obstacle {
                    tracing::debug!(?obstacle, "not verified yet");
                    if obstacle != Obstacle::Absent {
                        run.say(Scope::Tailscale, format!("Waiting: {}", obstacle.as_str()));
                    }
                    progress.obstacle = obstacle;
                }
            }
        }
    }
}

/// Ends when the server is gone: somebody deleted it, and no device will come.
async fn vanished(run: &Run<'_>, id: ServerId) -> Cause {
    let mut missing = 0;
    loop {
        sleep(STILL_THERE).await;
        match run.hetzner.find_server(id, run.within()).await {
            Ok(None) => missing += 1,
            _ => missing = 0,
        }
        if missing == 2 {
            return Cause::Superseded(format!("server {id} was deleted by somebody else"));
        }
    }
}

async fn last_look(run: &Run<'_>, expected: &Expected<'_>) -> Result<Enrolled, Cause> {
    let within = Within { deadline: run.clock.now() + LAST_LOOK, patience: Patience::Tries(1) };
    let devices = run.tailscale.find_devices(expected.hostname, within).await.doing(DEVICES)?;
    match judge(&devices, expected) {
        Enrollment::Verified(enrolled) => Ok(enrolled),
        Enrollment::Ambiguous(count) => Err(Cause::EnrollAmbiguous(count)),
        Enrollment::NotYet(obstacle) => Err(match obstacle {
            Obstacle::Absent | Obstacle::Disconnected => Cause::EnrollTimeout(obstacle.as_str()),
            _ => Cause::EnrollRejected(obstacle.as_str()),
        }),
    }
}

/// Actions mostly end within ten seconds (`facts/hetzner.md` 8); slow ones are not hurried by asking.
fn action_pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        0..10 => Duration::from_millis(1500),
        10..60 => Duration::from_secs(3),
        _ => Duration::from_secs(10),
    }
}

/// No machine boots and joins within eight seconds; then most do within a minute.
fn device_pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        8..60 => Duration::from_secs(1),
        0..180 => Duration::from_secs(2),
        _ => Duration::from_secs(5),
    }
}

//! Waits with a given number of looks. A look that fails for a passing reason counts as one.

use super::super::enrollment::{Enrollment, Expected, Obstacle, judge};
use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::evidence::Evidence;
use super::super::run::{Doing, Run};
use super::{Answer, Polling, not_found};
use crate::hetzner::{ActionId, ActionStatus};
use crate::transport::{Document, Judge, Opinion, Pace, sleep};

/// How many looks in a row may not show an action before it counts as unknown: reads may lag behind.
const UNSHOWN: u32 = 3;

/// Looks at an action until it has ended. Returns it in Hetzner's words.
pub(super) async fn for_action(run: &Run<'_>, id: ActionId, polling: Polling) -> Result<Document, Cause> {
    run.enter(Step::Wait);
    let doing = "the action could not be read";
    let (mut unshown, mut trouble, mut pace) = (0, None, Pace::default());
    run.guard(async {
        for look in 0..polling.looks.max(1) {
            if look > 0 {
                sleep(pace.next(polling.interval)).await;
            }
            match run.hetzner.find_action(id, run.within_a_look()).await {
                Ok(Some((action, document))) => match action.status {
                    ActionStatus::Success => return Ok(document),
                    ActionStatus::Error { code, message } => {
                        let reason = format!("{code}: {message}");
                        return Err(Cause::ActionFailed { command: action.command, reason });
                    }
                    ActionStatus::Running => unshown = 0,
                },
                Ok(None) => {
                    unshown += 1;
                    if unshown >= UNSHOWN {
                        return Err(not_found("action", id.0));
                    }
                }
                Err(error) if error.opinion() == Opinion::Stop => return Err(error).doing(doing),
                Err(error) => {
                    pace.went_badly(error.opinion(), run.chance.fraction());
                    trouble = Some(error);
                    continue;
                }
            }
            pace.went_well();
            trouble = None;
        }
        match trouble {
            Some(error) => Err(error).doing(doing),
            None if unshown > 0 => Err(not_found("action", id.0)),
            None => Err(Cause::ActionTimeout(format!("action {} did not end within {} looks", id.0, polling.looks))),
        }
    })
    .await
}

/// Looks at the devices of a host name until one verifies.
pub(super) async fn for_device(run: &Run<'_>, hostname: &str, polling: Polling) -> Result<Answer, Cause> {
    run.enter(Step::Verify);
    let doing = "the devices could not be read";
    // No attempt of ours, so no age: whatever carries the name and the tag may be it, if it is the only one.
    let expected = Expected { hostname, attempt_started: i64::MIN, known: &[] };
    let (mut seen, mut trouble, mut pace) = (Enrollment::NotYet(Obstacle::Absent), None, Pace::default());
    run.guard(async {
        for look in 0..polling.looks.max(1) {
            if look > 0 {
                sleep(pace.next(polling.interval)).await;
            }
            match run.tailscale.find_devices(hostname, run.within_a_look()).await {
                Ok(devices) => seen = judge(&devices, &expected),
                Err(error) if error.opinion() == Opinion::Stop => return Err(error).doing(doing),
                Err(error) => {
                    pace.went_badly(error.opinion(), run.chance.fraction());
                    trouble = Some(error);
                    continue;
                }
            }
            pace.went_well();
            trouble = None;
            if let Enrollment::Verified(enrolled) = &seen {
                run.say(Scope::Tailscale, format!("Tailscale enrollment verified: ip={}", enrolled.ip));
                return Ok(Answer::Device {
                    ip: enrolled.ip,
                    device_id: enrolled.device_id.clone(),
                    node_id: enrolled.node_id.clone(),
                });
            }
        }
        match (trouble, seen) {
            (Some(error), _) => Err(error).doing(doing),
            (None, Enrollment::Ambiguous(devices)) => Err(Cause::EnrollAmbiguous(devices.len())),
            (None, Enrollment::NotYet(obstacle)) if !obstacle.may_pass() => {
                Err(Cause::EnrollRejected(Evidence::of(obstacle)))
            }
            (None, Enrollment::NotYet(obstacle)) => Err(Cause::EnrollTimeout(Evidence::of(obstacle))),
            (None, Enrollment::Verified(_)) => Err(Cause::EnrollTimeout(Evidence::of(Obstacle::Absent))),
        }
    })
    .await
}

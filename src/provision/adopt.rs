//! A job that was seen before: what stands there, and what follows from it (design 2.1 step 4, design 6).
//!
//! Ownership never moves on a living server. So a call returns what is ready, follows what is under way without ever
//! owning it, and takes over only what is dead: past the end that its own label names.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::enrollment::{Enrolled, Enrollment};
use super::error::Cause;
use super::event::{Scope, Step};
use super::job::{Claim, JOB};
use super::leftover::{Hold, Kind, Leftover};
use super::presence;
use super::run::{Doing, Run};
use super::saga::Saga;
use super::step::auth_key::{UndoAuthKey, key_end};
use super::step::device::UndoDevice;
use super::step::removal::{Guard, still_shown};
use super::step::server::UndoServer;
use super::step::{reach, ready};
use crate::hetzner::{HetznerError, Server};
use crate::transport::{Judge, Opinion, Pace, Within, sleep};

const FOLLOWED: &str = "the followed server could not be read";
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a machine that was handed over before may take to show itself.
const PATIENCE_WITH_READY: Duration = Duration::from_secs(30);
/// How long the machine of a dead attempt may take to show itself before it is removed.
pub(super) const PATIENCE_WITH_DEAD: Duration = Duration::from_secs(15);

/// What stands under a job's name or label.
#[derive(Debug)]
pub(super) enum Standing {
    /// Nothing.
    Absent,
    /// A server that was handed over.
    Ready(Server),
    /// A server that another attempt is making.
    Underway(Server),
    /// A server that another attempt has begun, and that any call for its job may finish.
    Begun(Server, Claim),
    /// A server whose attempt is past its end, or past its deadline with nobody waiting.
    Dead(Server, Claim),
}

/// Looks the job up by its label. A server that has its name alone shows itself when the name is ordered: names are unique.
pub(super) async fn look_up(run: &Run<'_>) -> Result<Standing, Cause> {
    run.enter(Step::Lookup);
    let look = async { look_for_servers(run, run.within()).await.doing("the job could not be looked up") };
    // The oldest decides: it is the one that any other attempt yields to.
    let oldest = run.guard(look).await?.into_iter().min_by_key(|server| server.id);
    if !run.clock.is_settled() {
        // It takes two answers that agree to believe a clock that this machine's denies. The catalogue is needed soon anyway.
        let read = async { run.hetzner.server_types(run.within()).await.doing("the server types could not be read") };
        run.guard(read).await?;
    }
    if !run.clock.is_settled() {
        // That one was in hand already.
        let doing = "the job could not be looked up";
        run.guard(async { run.hetzner.find_server_by_name(&run.job.name, run.within()).await.doing(doing) }).await?;
    }
    oldest.map_or(Ok(Standing::Absent), |server| classify(run, server))
}

/// The servers that carry the job's label now.
pub(super) async fn look_for_servers(run: &Run<'_>, within: Within) -> Result<Vec<Server>, HetznerError> {
    run.hetzner.look_for_servers(JOB, &run.job.id, within).await
}

/// Whose a server is that carries our job's label or our name.
pub(super) fn classify(run: &Run<'_>, server: Server) -> Result<Standing, Cause> {
    let job = run.job;
    let Some(claim) = Claim::read(&server) else {
        return Err(if server.name == job.name {
            Cause::NameConflict { name: server.name, id: Some(server.id.0) }
        } else {
            Cause::ForeignServer { id: server.id.0 }
        });
    };
    if claim.job != job.id {
        return Err(Cause::NameConflict { name: server.name, id: Some(server.id.0) });
    }
    if claim.agent != job.agent {
        return Err(Cause::JobMismatch { job: job.id.clone(), ours: job.agent.clone(), theirs: claim.agent });
    }
    Ok(if claim.ready {
        Standing::Ready(server)
    } else if run.is_dead(&claim) || run.is_overdue(&claim) {
        Standing::Dead(server, claim)
    } else if claim.is_resumable {
        Standing::Begun(server, claim)
    } else {
        Standing::Underway(server)
    })
}

/// Waits for what another attempt makes of its server. Makes nothing and removes nothing.
///
/// If our own deadline comes first, the error says when the other attempt counts as dead: from then on a call removes
/// what it left and begins anew.
pub(super) async fn follow(run: &Run<'_>, server: Server) -> Result<Standing, Cause> {
    run.enter(Step::Follow);
    run.say(Scope::ProvisionVm, format!("Another attempt of this job is under way, following it: id={}", server.id));
    let blind = Mutex::new(None);
    match run.guard(watch(run, &server, &blind)).await {
        Err(Cause::Deadline) => {
            if let Some(error) = blind.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(error).doing(FOLLOWED);
            }
            let expires = Claim::read(&server).and_then(|claim| claim.expires);
            let dead_in = |expires: i64| u64::try_from(expires.saturating_sub(run.clock.cloud_unix())).unwrap_or(0);
            let dead_in = expires.map(|expires| Duration::from_secs(dead_in(expires)));
            Err(Cause::StillFollowing { id: server.id.0, dead_in })
        }
        outcome => outcome,
    }
}

/// Looks until the other attempt has come to its end. `blind` is why the last look failed, if it did.
async fn watch(run: &Run<'_>, server: &Server, blind: &Mutex<Option<HetznerError>>) -> Result<Standing, Cause> {
    let note = |error| *blind.lock().unwrap_or_else(PoisonError::into_inner) = error;
    let (began, mut pace, mut missing) = (run.clock.now(), Pace::default(), 0);
    loop {
        sleep(pace.next(follow_pace(run.clock.now().duration_since(began)))).await;
        match run.hetzner.find_server(server.id, run.within_a_look()).await {
            Ok(Some(fresh)) => match classify(run, fresh)? {
                Standing::Underway(..) => missing = 0,
                settled => return Ok(settled),
            },
            // Thrice, since a read may lag behind a create.
            Ok(None) if missing >= 2 => {
                return Err(Cause::Superseded("the attempt that was followed removed its server".to_owned()));
            }
            Ok(None) => missing += 1,
            Err(error) if error.opinion() == Opinion::Stop => return Err(error).doing(FOLLOWED),
            Err(error) => {
                pace.went_badly(error.opinion(), run.chance.fraction());
                note(Some(error));
                continue;
            }
        }
        pace.went_well();
        note(None);
    }
}

/// Others wait longer than the maker does, so they look less often.
fn follow_pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        0..20 => LOOK_AGAIN,
        20..60 => Duration::from_secs(4),
        _ => Duration::from_secs(12),
    }
}

/// Verifies the device of a server that was handed over before.
pub(super) async fn verify_ready(run: &Run<'_>, server: &Server) -> Result<Enrolled, Cause> {
    run.enter(Step::Verify);
    run.know_server(server);
    let patience = if run.waits { PATIENCE_WITH_READY } else { Duration::ZERO };
    match look_patiently(run, server, patience).await? {
        Enrollment::Verified(enrolled) => Ok(enrolled),
        Enrollment::NotYet(obstacle) => Err(Cause::Dormant { name: server.name.clone(), obstacle }),
        Enrollment::Ambiguous(devices) => Err(Cause::EnrollAmbiguous(devices.len())),
    }
}

/// Whether the machine of a dead attempt has joined after all: one look at its devices.
pub(super) async fn look(run: &Run<'_>, server: &Server) -> Result<Enrollment, Cause> {
    run.guard(look_once(run, server)).await
}

/// The same, but until a device verifies or patience ends: one bad look is no reason to delete a machine, nor to give up
/// one that was handed over.
async fn look_patiently(run: &Run<'_>, server: &Server, patience: Duration) -> Result<Enrollment, Cause> {
    let until = run.clock.now() + patience;
    run.guard(async {
        loop {
            match look_once(run, server).await? {
                Enrollment::NotYet(_) | Enrollment::Ambiguous(_) if run.clock.now() < until => sleep(LOOK_AGAIN).await,
                seen => return Ok(seen),
            }
        }
    })
    .await
}

async fn look_once(run: &Run<'_>, server: &Server) -> Result<Enrollment, Cause> {
    presence::look(run, server, run.within()).await.doing("the devices could not be read")
}

/// What became of a dead attempt.
pub(super) enum Taken {
    /// Its machine had joined, and its server is marked ready.
    Finished(Server, Enrolled),
    /// Its server is gone; with what stays of the rest.
    Cleared(Vec<Leftover>),
    /// Somebody else finished it meanwhile.
    Overtaken(Server),
}

/// Finishes what a dead attempt left, or removes it.
///
/// # Errors
///
/// With the server, if it could be neither finished nor removed.
pub(super) async fn take_over(run: &Run<'_>, server: &Server, claim: &Claim) -> Result<Taken, (Cause, Vec<Leftover>)> {
    let still_there = |cause| {
        let why = "left by a dead attempt of this job, and neither finished nor removed by this call";
        // One that is anybody's to finish, somebody may be removing just now.
        let left = if claim.is_resumable { Leftover::unconfirmed } else { Leftover::exists }(Kind::Server, why);
        (cause, vec![left.id(&server.id).name(&server.name)])
    };
    let unfinished = |cause: Cause| {
        let why = "its machine has joined, and whether it is marked ready now is not known";
        let hold = if cause.code().is_retryable() { Hold::None } else { Hold::Person };
        (cause, vec![Leftover::unconfirmed(Kind::Server, why).id(&server.id).name(&server.name).hold(hold)])
    };
    // It may have shown itself only when an attempt of our own yielded to it.
    run.enter(Step::Lookup);
    let message = format!("An attempt of this job is over, looking whether its machine has joined: id={}", server.id);
    run.say(Scope::ProvisionVm, message);
    // Who does not wait has to make do with how long it has been over.
    let patience = if run.waits { PATIENCE_WITH_DEAD } else { PATIENCE_WITH_DEAD.saturating_sub(run.time_over(claim)) };
    match look_patiently(run, server, patience).await.map_err(still_there)? {
        Enrollment::Verified(enrolled) => {
            take(run, server, &enrolled);
            // Its machine has joined, so it is not this call's to remove.
            let unreached = |cause: Cause| {
                let why =
                    "its attempt is over, its machine has joined and was not reached; look at it, or deprovision it";
                (cause, vec![Leftover::exists(Kind::Server, why).id(&server.id).name(&server.name)])
            };
            reach::wait(run, enrolled.ip).await.map_err(unreached)?;
            let marked = ready::mark(run, server.id, &claim.attempt, &enrolled, || {}).await;
            return Ok(Taken::Finished(marked.map_err(unfinished)?, enrolled));
        }
        Enrollment::Ambiguous(devices) => return Err(still_there(Cause::EnrollAmbiguous(devices.len()))),
        Enrollment::NotYet(_) => {}
    }
    let mut left = clear(run, server, claim, Guard::Dead).await;
    if !left.iter().any(|left| left.kind == Kind::Server) {
        return Ok(Taken::Cleared(left));
    }
    // Another call that saw the machine join has marked it ready; so the job is done.
    match still_shown(run, server.id, run.within_aftermath()).await {
        Ok(Some(fresh)) if Claim::read(&fresh).is_some_and(|claim| claim.ready) => Ok(Taken::Overtaken(fresh)),
        // It took longer to go than its removal could see.
        Ok(None) => {
            left.retain(|left| left.kind != Kind::Server);
            match run.ended() {
                None => Ok(Taken::Cleared(left)),
                Some(cause) => Err((cause, left)),
            }
        }
        // What ended the call comes first, not what became of the removal that it found itself in.
        _ => Err((run.ended().unwrap_or(Cause::Remains), left)),
    }
}

/// Marks the server of a dead attempt ready, whose machine has joined.
pub(super) async fn finish(
    run: &Run<'_>,
    server: &Server,
    claim: &Claim,
    enrolled: &Enrolled,
) -> Result<Server, Cause> {
    take(run, server, enrolled);
    ready::mark(run, server.id, &claim.attempt, enrolled, || {}).await
}

/// Says that the machine of a dead attempt is taken.
fn take(run: &Run<'_>, server: &Server, enrolled: &Enrolled) {
    run.know_server(server);
    let message = format!("A dead attempt of this job left a joined machine, taking it: id={}", server.id);
    run.say(Scope::ProvisionVm, message);
    run.verified(enrolled);
}

/// Removes what an attempt left or made, and returns what stays.
pub(super) async fn clear(run: &Run<'_>, server: &Server, claim: &Claim, guard: Guard) -> Vec<Leftover> {
    if guard != Guard::Told {
        run.say(Scope::ProvisionVm, format!("Removing what a dead attempt of this job left: id={}", server.id));
    }
    let remains = Saga::default();
    declare(run, &remains, server, claim, guard);
    remains.compensate(run).await
}

/// Declares what undoes an attempt that another call made, in the order in which it made it.
pub(super) fn declare(run: &Run<'_>, saga: &Saga, server: &Server, claim: &Claim, guard: Guard) -> Arc<UndoServer> {
    let device = UndoDevice::new(&server.name, &claim.attempt, claim.started, Vec::new()).until(key_end(claim));
    saga.declare(device.verified(claim.node_id.as_deref().filter(|_| claim.ready)));
    if let Some(key) = &claim.auth_key {
        // That of a server that was handed over has served.
        let is_dead = claim.ready || run.is_dead(claim);
        saga.declare(UndoAuthKey::of_label(key, run.job.key_description(&claim.attempt), is_dead));
    }
    saga.declare(UndoServer::of_other(server, claim, guard))
}

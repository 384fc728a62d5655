//! Jobs that nobody waits for (`wait: false`): one call begins an attempt, any later one finishes it.
//!
//! For callers that live shorter than a machine takes to boot. The server's label says that its attempt is anybody's to
//! finish, from the order on, so it does not matter whether the call that began it lives to say so. Since others may be
//! finishing it at the same time, whoever fails to removes it only if no device stands that is its machine.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::enrollment::{Enrolled, Expected};
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Scope, Step};
use super::job::Claim;
use super::leftover::{Kind, Leftover};
use super::run::Run;
use super::saga::Saga;
use super::step::auth_key::{self, Key};
use super::step::reach;
use super::step::removal::Guard;
use super::step::server::{self, Made};
use super::step::wait::{self, Seen};
use super::{
    Failure, Params, Progress, Provisioned, Provisioner, Settings, State, Terms, Underway, adopt, attempted, conclude,
    hand_over, note_job, undone,
};
use crate::hetzner::{ActionStatus, Server};
use crate::tailscale::NodeId;

impl Provisioner {
    /// Brings a job as far as it goes without waiting for its machine: makes its server if there is none, and finishes the
    /// job if its machine has joined. [`Provisioner::provision`] finishes it as well, and waits for it.
    ///
    /// # Errors
    ///
    /// As [`Provisioner::provision`]. What could not be seen of a machine that is on its way is no reason to undo it.
    pub async fn begin(
        &self,
        params: &Params,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<Progress, Box<ProvisionError>> {
        note_job(&*observer, params);
        let terms = Terms { timeout: settings.timeout, allowance: None, waits: false };
        self.settle_alone(params, settings, cancel, observer, terms).await
    }
}

/// An attempt whose server stands, and whose machine has still to join.
pub(super) struct Begun {
    pub made: Made,
    pub key: Key,
    pub attempt: String,
    pub started: i64,
    /// Devices of its name that were there before.
    pub known: Vec<NodeId>,
    /// Begun by another call.
    pub reused: bool,
}

impl Begun {
    pub(super) fn expected<'a>(&'a self, run: &'a Run<'_>) -> Expected<'a> {
        Expected { hostname: &run.job.name, attempt_started: self.started, known: &self.known }
    }
}

/// Leaves an attempt of our own to whoever calls next.
pub(super) async fn leave(run: &Run<'_>, begun: Begun, server: Server) -> Underway {
    auth_key::leave(run, &begun.key).await;
    Underway { price: begun.made.price, ..underway(run, server, false) }
}

/// A job whose machine is on its way.
pub(super) fn underway(run: &Run<'_>, server: Server, reused: bool) -> Underway {
    run.know_server(&server);
    run.say(Scope::ProvisionVm, format!("Not waiting for the machine, which is on its way: id={}", server.id));
    run.end_step();
    let time_left = Claim::read(&server).and_then(|claim| run.time_left(&claim));
    let mut notes = run.notes();
    Underway {
        state: if server.status == "running" { State::Booting } else { State::Creating },
        reused,
        used_snapshot: run.settings.source.is_snapshot(),
        time_left,
        attempts: std::mem::take(&mut notes.candidates),
        timings: std::mem::take(&mut notes.timings),
        requests: (run.hetzner.sent(), run.tailscale.sent()),
        price: None,
        warnings: std::mem::take(&mut notes.warnings),
        server,
    }
}

/// What became of an attempt that another call began.
pub(super) enum Completed {
    /// Its machine has joined, and is handed over.
    Finished(Provisioned),
    /// Its time was up before ours.
    Over(Server),
}

/// Waits for the machine of an attempt that another call has begun, and finishes it. Undoes it if the machine never will join, or
/// the caller gives up.
pub(super) async fn complete(run: &Run<'_>, server: Server, claim: &Claim) -> Result<Completed, Failure> {
    let own_deadline = run.keep_deadline_of(claim);
    let saga = Saga::default();
    let spared = on_its_way(&server, claim, &run.job.key_description(&claim.attempt));
    let outcome = attempted(async {
        let begun = take_up(run, &saga, &server, claim).await?;
        let enrolled = wait::both(run, &begun.made, &begun.key, &begun.expected(run)).await?;
        conclude(run, begun, &enrolled).await
    });
    let outcome = outcome.await;
    let (now, deadline) = (run.clock.now(), run.deadline());
    run.set_deadline(own_deadline);
    let cause = match outcome {
        Ok(done) => return Ok(Completed::Finished(done)),
        Err(cause) => cause,
    };
    if now >= deadline && !run.cancel.is_cancelled() {
        // That our time is up says nothing about a machine that has some left; and where its time is up, it is the attempt that
        // failed, and not this call.
        if run.ended().is_none() {
            return Ok(Completed::Over(server));
        }
        let cause = match cause {
            // What a person has to hear: it has joined and was not reached, or what is known of it.
            Cause::NotReachable { .. } => cause,
            Cause::EnrollTimeout(evidence) | Cause::EnrollRejected(evidence) => Cause::NotYetJoined(evidence),
            _ => Cause::Deadline,
        };
        return Err((cause, spared));
    }
    // Nor does what a cloud will not tell this call, such as one with a wrong token.
    if matches!(cause, Cause::Hetzner { .. } | Cause::Tailscale { .. }) {
        return Err((cause, spared));
    }
    Err(undone(run, &saga, cause).await)
}

/// What is named of an attempt that goes on without this call.
fn on_its_way(server: &Server, claim: &Claim, description: &str) -> Vec<Leftover> {
    // Another call may be finishing or removing it just now.
    let why = "it is on its way, and the next call for this job goes on with it";
    let key = claim.auth_key.iter().map(|id| Leftover::unconfirmed(Kind::AuthKey, why).id(id).name(description));
    std::iter::once(Leftover::unconfirmed(Kind::Server, why).id(&server.id).name(&server.name)).chain(key).collect()
}

/// Looks once at the machine of an attempt that another call has begun, and finishes it if the machine has joined. Undoes
/// it if the machine never will.
pub(super) async fn advance(run: &Run<'_>, server: Server, claim: &Claim) -> Result<Progress, Failure> {
    let saga = Saga::default();
    let description = run.job.key_description(&claim.attempt);
    let spared = |cause: Cause, server: &Server| (cause, on_its_way(server, claim, &description));
    let begun = match take_up(run, &saga, &server, claim).await {
        Ok(begun) => begun,
        Err(cause) => return Err(spared(cause, &server)),
    };
    let enrolled: Enrolled = match wait::once(run, &begun.made, &begun.key, &begun.expected(run)).await {
        Seen::Joined(enrolled) => enrolled,
        Seen::NotYet => return Ok(Progress::Underway(Box::new(underway(run, server, true)))),
        Seen::Blind(cause) => return Err(spared(cause, &server)),
        Seen::Failed(cause) => {
            return Err(undone(run, &saga, cause).await);
        }
    };
    run.verified(&enrolled);
    match reach::once(run, enrolled.ip).await {
        Ok(true) => {}
        Ok(false) => return Ok(Progress::Underway(Box::new(underway(run, server, true)))),
        Err(cause) => return Err(spared(cause, &server)),
    }
    match attempted(hand_over(run, begun, &enrolled)).await {
        Ok(done) => Ok(Progress::Ready(Box::new(done))),
        Err(cause) => Err(undone(run, &saga, cause).await),
    }
}

/// Declares what undoes the attempt, and reads what has become of its server.
async fn take_up(run: &Run<'_>, saga: &Saga, server: &Server, claim: &Claim) -> Result<Begun, Cause> {
    run.enter(Step::Wait);
    run.is_at(&claim.attempt);
    run.know_server(server);
    run.say(Scope::ProvisionVm, format!("Going on with an attempt that another call began: id={}", server.id));
    let undo = adopt::declare(run, saga, server, claim, Guard::Resumable);
    let mut actions = server::read_actions(run, server.id).await?;
    actions.retain(|action| action.status != ActionStatus::Success);
    let actions = actions.into_iter().map(|action| action.id).collect();
    Ok(Begun {
        made: Made { id: server.id, addresses: server.addresses, actions, price: None, undo },
        key: Key::of_label(claim.auth_key.as_deref(), run.job.key_description(&claim.attempt)),
        attempt: claim.attempt.clone(),
        started: claim.started,
        // What was there before is known to the call that began alone. Whose a device is, its key and its place tell.
        known: Vec::new(),
        reused: true,
    })
}

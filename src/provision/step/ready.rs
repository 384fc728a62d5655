//! The end of a job: one more look for rivals, and the mark `ready`.
//!
//! The machine is verified by now, so a caller who gives up, or a deadline, does not undo it any more; these last
//! requests have a limit of their own.

use std::time::Duration;

use super::super::adopt;
use super::super::enrollment::Enrolled;
use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::{Claim, ready_labels};
use super::super::run::{Doing, Run};
use crate::hetzner::{Server, ServerId};
use crate::transport::{Judge, Patience, Repeat, Urgency, Within, retry, sleep};

const LIMIT: Duration = Duration::from_secs(60);
/// They may outlive the deadline by this much; it is taken off the time for an undo.
const BEYOND_DEADLINE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Marks the attempt's server ready and confirms it by a read, whose answer it returns. `about_to_write` is called before each time that the mark is sent.
///
/// `ready` is what makes it untouchable for every undo, cleanup and reaper, so no call succeeds without it.
pub(in super::super) async fn mark(
    run: &Run<'_>,
    id: ServerId,
    attempt: &str,
    enrolled: &Enrolled,
    about_to_write: impl Fn(),
) -> Result<Server, Cause> {
    run.enter(Step::Ready);
    let deadline = (run.clock.now() + LIMIT).min(run.deadline() + BEYOND_DEADLINE);
    let within = Within { deadline, patience: Patience::UntilDeadline, urgency: Urgency::Finish };
    let doing = "the server could not be marked ready";
    let mut tried = 0;
    // Every single write has a read of its own before it: it replaces all labels, and between two tries the server may
    // have become another's.
    loop {
        let server = sole_server(run, id, within).await?;
        let claim = Claim::read(&server).filter(|claim| run.job.owns(claim) && claim.attempt == attempt);
        let Some(claim) = claim else {
            let changed = Cause::Superseded(format!("the labels of server {id} were changed by somebody else"));
            return Err(adopt::classify(run, server).err().unwrap_or(changed));
        };
        if claim.ready && tried > 0 {
            break;
        }
        about_to_write();
        let once = Within { patience: Patience::Tries(1), ..within };
        let error = match run.hetzner.replace_labels(id, &ready_labels(&server, &enrolled.node_id), once).await {
            Ok(_) => break,
            Err(error) if error.is_not_found() => {
                return Err(Cause::Superseded(format!("server {id} was deleted by somebody else")));
            }
            Err(error) => error,
        };
        tried += 1;
        let fraction = run.chance.fraction();
        let pause = retry::pause(error.opinion(), Repeat::Safe, Patience::UntilDeadline, tried, fraction);
        match pause.filter(|pause| run.clock.now() + *pause < within.deadline) {
            Some(pause) => sleep(pause).await,
            None => return Err(error).doing(doing),
        }
    }
    loop {
        let fresh = adopt::look_for_servers(run, within).await.doing(doing)?.into_iter().find(|server| server.id == id);
        if let Some(server) = fresh.filter(|server| Claim::read(server).is_some_and(|claim| claim.ready)) {
            run.say(Scope::ProvisionVm, format!("Hetzner server marked ready: id={id}"));
            return Ok(server);
        }
        if run.clock.now() + LOOK_AGAIN >= within.deadline {
            return Err(Cause::Superseded(format!("server {id} does not stay marked ready")));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The server as it is now, if no older one of the same job stands beside it. Names keep one job from having two, but a
/// job under two agents has two names.
async fn sole_server(run: &Run<'_>, id: ServerId, within: Within) -> Result<Server, Cause> {
    let doing = "the job's servers could not be read";
    let servers = adopt::look_for_servers(run, within).await.doing(doing)?;
    if let Some(older) = servers.iter().find(|server| server.id < id) {
        let superseded = Cause::Superseded(format!("server {} of this job is older", older.id));
        return Err(adopt::classify(run, older.clone()).err().unwrap_or(superseded));
    }
    if let Some(server) = servers.into_iter().find(|server| server.id == id) {
        return Ok(server);
    }
    // A list may lag behind; the server itself decides.
    let found = run.hetzner.find_server(id, within).await.doing(doing)?;
    found.ok_or_else(|| Cause::Superseded(format!("server {id} was deleted by somebody else")))
}

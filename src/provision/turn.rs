//! Where a job stands decides what is done for it: looked up, it is taken up, waited for, cleared away or begun.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::adopt::{self, Standing, Taken};
use super::enrollment::Enrolled;
use super::error::Cause;
use super::event::Step;
use super::job::Claim;
use super::leftover::{Hold, Kind, Leftover};
use super::resume::{self, Completed};
use super::run::Run;
use super::step::reach;
use super::{Failure, Progress, attempt, caught, finish, unless_panic};
use crate::hetzner::Server;

/// How often a call looks again because another attempt came between. Each turn is caused by somebody else's progress.
const TURNS: u32 = 4;

/// Turns until the job is settled. A turn ends with a machine, or one that is on its way if nobody waits for it; with a failure,
/// or because another attempt of the same job moved, which makes it worth looking again.
pub(super) async fn settle(run: &Run<'_>) -> Result<Progress, Failure> {
    // What an attempt of ours left before it met another one. It stays left whatever becomes of the job.
    let mut before = Vec::new();
    // An attempt undoes what it began even if it panics; a panic outside of one still has to become an error.
    let (cause, mut left) = match unless_panic(take_turns(run, &mut before)).await {
        Ok(progress) => return Ok(progress),
        Err(failure) => failure,
    };
    left.extend(before.into_iter().map(Leftover::grown_old));
    Err((cause, left))
}

async fn take_turns(run: &Run<'_>, before: &mut Vec<Leftover>) -> Result<Progress, Failure> {
    let mut standing = adopt::look_up(run).boxed().await.map_err(nothing_left)?;
    for _ in 0..TURNS {
        standing = match turn(run, standing, before).await? {
            Turn::Settled(progress) => return Ok(progress),
            Turn::Again(standing) => *standing,
        };
    }
    // The last turn may have ended in an undo, which is not what went wrong.
    run.enter(Step::Lookup);
    Err(nothing_left(Cause::Superseded("other attempts of this job kept coming between".to_owned())))
}

/// How a turn ended.
enum Turn {
    /// The job has a machine, or one that is on its way if nobody waits for it.
    Settled(Progress),
    /// This is where the job stands now.
    Again(Box<Standing>),
}

/// One turn. Each way through it is a future of its own, with room for nothing but what it takes.
fn turn<'a>(
    run: &'a Run<'_>,
    standing: Standing,
    before: &'a mut Vec<Leftover>,
) -> BoxFuture<'a, Result<Turn, Failure>> {
    match standing {
        Standing::Ready(server) => Box::pin(confirm(run, server)),
        Standing::Begun(server, claim) if run.waits => Box::pin(async move {
            Ok(match resume::complete(run, server, &claim).await? {
                Completed::Finished(done) => Turn::Settled(Progress::Ready(Box::new(done))),
                Completed::Over(server) => again(Standing::Dead(server, claim)),
            })
        }),
        Standing::Begun(server, claim) => {
            Box::pin(async move { resume::advance(run, server, &claim).await.map(Turn::Settled) })
        }
        Standing::Underway(server) if run.waits => {
            Box::pin(async move { adopt::follow(run, server).await.map(again).map_err(nothing_left) })
        }
        Standing::Underway(server) => {
            let underway = resume::underway(run, server, true);
            Box::pin(ready(Ok(Turn::Settled(Progress::Underway(Box::new(underway))))))
        }
        Standing::Dead(server, claim) => Box::pin(clear(run, server, claim, before)),
        Standing::Absent => Box::pin(begin_anew(run, before)),
    }
}

/// Hands over what somebody else has made ready.
async fn confirm(run: &Run<'_>, server: Server) -> Result<Turn, Failure> {
    let enrolled = adopt::verify_ready(run, &server).await.map_err(nothing_left)?;
    run.verified(&enrolled);
    reach::wait(run, enrolled.ip).await.map_err(nothing_left)?;
    reuse(run, server, &enrolled).map_err(|failure| *failure)
}

/// A machine that was there.
fn reuse(run: &Run<'_>, server: Server, enrolled: &Enrolled) -> Result<Turn, Box<Failure>> {
    let left = vec![left_ready(&server)];
    let done = finish(run, server, enrolled, true, None).map_err(|cause| Box::new((cause, left)))?;
    Ok(Turn::Settled(Progress::Ready(Box::new(done))))
}

/// Finishes what a dead attempt left, or removes it.
async fn clear(run: &Run<'_>, server: Server, claim: Claim, before: &mut Vec<Leftover>) -> Result<Turn, Failure> {
    match take_over(run, &server, &claim).await? {
        Taken::Finished(server, enrolled) => reuse(run, server, &enrolled).map_err(|failure| *failure),
        Taken::Overtaken(server) => Ok(again(Standing::Ready(server))),
        Taken::Cleared(left) => {
            before.extend(left);
            adopt::look_up(run).await.map(again).map_err(nothing_left)
        }
    }
}

/// An attempt of our own.
async fn begin_anew(run: &Run<'_>, before: &mut Vec<Leftover>) -> Result<Turn, Failure> {
    match attempt(run).await {
        Ok(progress) => Ok(Turn::Settled(progress)),
        // It is undone; the other one's server is what stands there now.
        Err((Cause::Taken(server), left)) => {
            before.extend(left);
            run.end_undo();
            adopt::classify(run, *server).map(again).map_err(nothing_left)
        }
        Err(failure) => Err(failure),
    }
}

fn again(standing: Standing) -> Turn {
    Turn::Again(Box::new(standing))
}

pub(super) fn nothing_left(cause: Cause) -> Failure {
    (cause, Vec::new())
}

/// What stays if a machine that is ready, whoever made it, cannot be used.
fn left_ready(server: &Server) -> Leftover {
    let left = Leftover::exists(Kind::Server, "it is ready, and only a person may remove it");
    left.id(&server.id).name(&server.name).hold(Hold::Person)
}

/// As [`adopt::take_over`]; a panic in it still names the server.
async fn take_over(run: &Run<'_>, server: &Server, claim: &Claim) -> Result<Taken, Failure> {
    match caught(adopt::take_over(run, server, claim)).await {
        Ok(taken) => taken,
        Err(cause) => {
            let why = "left by a dead attempt of this job; its removal broke down";
            let left = Leftover::unconfirmed(Kind::Server, why).id(&server.id).name(&server.name);
            Err((cause, vec![left]))
        }
    }
}

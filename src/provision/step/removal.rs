//! How a server of ours is removed: read, prove, delete, confirm (design 6, "Deleting").

use std::time::Duration;

use super::super::enrollment::{Enrollment, Obstacle};
use super::super::event::Scope;
use super::super::job::{Claim, Job, attempt_of};
use super::super::leftover::{Hold, Kind, Leftover};
use super::super::presence;
use super::super::run::Run;
use super::device::{PATIENCE_AFTER_DENIAL, PATIENCE_WITH_LISTS};
use crate::hetzner::{HetznerError, PrimaryIp, PrimaryIpId, Server, ServerId};
use crate::tailscale::{KeyId, TailscaleError};
use crate::transport::{Instant, Judge, Opinion, Patience, Repeat, TransportError, Within, retry, sleep, sleep_until};

/// A new server may be missing from reads for up to 5 s (fault G32), so a first "not there" is not believed.
pub(in super::super) const READS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(2500), Duration::from_secs(3)];
/// Between two looks at whether a deleted server is gone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a deleted server may still show, before the deletion itself counts as failed (faults X03, X08).
const STILL_SHOWN: Duration = Duration::from_secs(15);
/// How often a deletion is asked for that Hetzner accepts and does not carry out.
const DELETIONS: u32 = 2;
/// How often an address is looked at that should go with its server.
const ADDRESS_LOOKS: u32 = 8;

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Removal {
    /// Deleted by this call, and a read confirmed the absence.
    Deleted {
        /// The addresses that it was last seen with.
        primary_ips: Vec<PrimaryIpId>,
    },
    /// It was gone already.
    WasGone,
    /// It is, or may be, still there.
    Left(Leftover),
}

/// A server that is to go.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Target<'a> {
    pub id: ServerId,
    /// The attempt that made it.
    pub attempt: &'a str,
    /// When that attempt counts as dead, if its server says so.
    pub expires: Option<i64>,
    pub guard: Guard,
}

/// What has to be true of a server, at the very moment of each delete, besides that it is the attempt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Guard {
    /// Nothing: it is the call's own.
    Own,
    /// Nothing: it is the call's own, and no job's. The attempt alone is on its labels.
    Ordered,
    /// Its key is revoked, and no device stands that may be its machine: any call for the job may be finishing it.
    Resumable,
    /// Nothing: somebody has said that this very server shall go, also if it is ready.
    Told,
    /// Its attempt is past its end, or past its deadline with nobody waiting, and no device verifies that may be its machine. Its
    /// job is to be made anew.
    Dead,
    /// Its attempt is past its end, and no device stands that may be its machine. Nobody asked for the job.
    DeadAndAlone,
}

impl Guard {
    fn is_of_dead(self) -> bool {
        matches!(self, Self::Dead | Self::DeadAndAlone)
    }
}

/// Deletes a server if a fresh read shows this job, this attempt, and not `ready`; then waits until it is gone.
///
/// Every single delete has a read of its own before it, since between two tries the server may have become another's.
pub(in super::super) async fn remove_server(run: &Run<'_>, target: Target<'_>, within: Within) -> Removal {
    let once = Within { patience: Patience::Tries(1), ..within };
    let usual_hold = target.expires.map_or(Hold::None, Hold::Until);
    // What is refused for good will be refused to the next call as well. That our time is up is no refusal.
    let hold_of = |error: &HetznerError| {
        let is_out_of_time = matches!(error, HetznerError::Transport(TransportError::OutOfTime { .. }));
        if error.opinion() == Opinion::Stop && !is_out_of_time { Hold::Person } else { usual_hold }
    };
    let unconfirmed =
        |why: &str, hold| Removal::Left(Leftover::unconfirmed(Kind::Server, why).id(&target.id).hold(hold));
    let exists = |why: &str, hold| Removal::Left(Leftover::exists(Kind::Server, why).id(&target.id).hold(hold));
    // Whether Hetzner has accepted its deletion, and whether it may have been our asking that removed it.
    let (mut is_accepted, mut is_ours, mut deletions, mut tried) = (false, false, 0, 0);
    let mut primary_ips = Vec::new();
    loop {
        // An absence right after a delete without a clear answer is as doubtful as one before it.
        let reads = if is_accepted { &READS[..1] } else { &READS[..] };
        let shown = match read_patiently(run, target.id, reads, within).await {
            Ok(shown) => shown,
            Err(error) => return unconfirmed(&error.to_string(), hold_of(&error)),
        };
        let Some(server) = shown else {
            return gone(run, target.id, is_ours, primary_ips);
        };
        if let Some((objection, hold)) = objection(run, target, &server) {
            return exists(objection, hold);
        }
        if target.guard == Guard::Resumable {
            match shut_out(run, &server, within).await {
                Ok(None) => {}
                // Another call may be finishing or removing it just now.
                Ok(Some(device)) => return unconfirmed(device, Hold::None),
                Err(error) => {
                    return unconfirmed(&format!("whether its machine has joined is not known ({error})"), usual_hold);
                }
            }
        }
        if target.guard.is_of_dead() {
            // Another call that sees its machine join marks it ready, and a read may not show that yet.
            match presence::look(run, &server, within).await {
                Ok(Enrollment::Verified(_)) => return exists("its machine has joined after all", Hold::None),
                Ok(Enrollment::Ambiguous(_) | Enrollment::NotYet(Obstacle::Another)) => {
                    return exists("a device of its name stands that is not provably its machine", Hold::Person);
                }
                Ok(Enrollment::NotYet(obstacle))
                    if target.guard == Guard::DeadAndAlone && obstacle.is_of_a_device() =>
                {
                    return exists(obstacle.as_str(), Hold::None);
                }
                Ok(Enrollment::NotYet(_)) => {}
                Err(error) => {
                    return exists(&format!("whether its machine has joined is not known ({error})"), usual_hold);
                }
            }
        }
        primary_ips = server.primary_ips;
        match run.hetzner.delete_server(target.id, once).await {
            Ok(was_there) => {
                (is_accepted, is_ours) = (true, is_ours || was_there);
                let until = within.deadline.min(run.clock.now() + STILL_SHOWN);
                match gone_by(run, target.id, until, within).await {
                    Ok(true) => return gone(run, target.id, is_ours, primary_ips),
                    Ok(false) => {}
                    Err(error) => {
                        let why = format!("it was deleted, but no read confirms it ({error})");
                        return unconfirmed(&why, hold_of(&error));
                    }
                }
                // The action behind it may have failed, so it is asked for once more (fault X08).
                deletions += 1;
                if deletions == DELETIONS {
                    return unconfirmed("Hetzner still shows it after its deletion", usual_hold);
                }
            }
            Err(error) if error.is_protected() => return exists("it is protected against deletion", Hold::Person),
            Err(error) => {
                tried += 1;
                is_ours |= error.may_have_applied();
                let fraction = run.chance.fraction();
                let pause = retry::pause(error.opinion(), Repeat::Safe, Patience::UntilDeadline, tried, fraction);
                match pause.filter(|pause| run.clock.now() + *pause < within.deadline) {
                    Some(pause) => sleep(pause).await,
                    None if is_ours => return unconfirmed(&error.to_string(), hold_of(&error)),
                    None => return exists(&error.to_string(), hold_of(&error)),
                }
            }
        }
    }
}

/// Sees to it that no machine joins any more of a server that any call for its job may be finishing, and says so if one may have
/// joined before. A delete may take effect long after it was sent, when another call has marked the server ready. So what
/// decides is not the delete but the key: once it is revoked unused, no call can see a machine join that it could mark. A key made
/// by hand is not ours to revoke, and without one there is only the look.
async fn shut_out(run: &Run<'_>, server: &Server, within: Within) -> Result<Option<&'static str>, TailscaleError> {
    let claim = Claim::read(server);
    let key = claim.as_ref().and_then(|claim| Some((KeyId(claim.auth_key.clone()?), &claim.attempt)));
    let mut patience = PATIENCE_WITH_LISTS;
    if let Some((id, attempt)) = key {
        let description = run.job.key_description(attempt);
        let found = run.tailscale.find_key(&id, within).await?.filter(|key| key.description == description);
        if found.is_some_and(|key| !key.invalid) {
            run.tailscale.revoke_key(&id, within).await?;
            patience = PATIENCE_AFTER_DENIAL;
        }
    }
    let until = within.deadline.min(run.clock.now() + patience);
    loop {
        match presence::look(run, server, within).await? {
            Enrollment::Verified(_) => return Ok(Some("its machine has joined after all")),
            Enrollment::Ambiguous(_) => return Ok(Some("devices of its name stand that may be its machine")),
            Enrollment::NotYet(obstacle) if obstacle.is_of_a_device() => return Ok(Some(obstacle.as_str())),
            Enrollment::NotYet(_) if run.clock.now() + LOOK_AGAIN > until => {
                run.notes().is_shut_out = patience == PATIENCE_AFTER_DENIAL;
                return Ok(None);
            }
            Enrollment::NotYet(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

fn gone(run: &Run<'_>, id: ServerId, is_ours: bool, primary_ips: Vec<PrimaryIpId>) -> Removal {
    if !is_ours {
        return Removal::WasGone;
    }
    run.removed(Scope::Hetzner, format!("Server deleted: id={id}"), Kind::Server, &id);
    Removal::Deleted { primary_ips }
}

/// The server, if any of several reads still shows it.
pub(in super::super) async fn still_shown(
    run: &Run<'_>,
    id: ServerId,
    within: Within,
) -> Result<Option<Server>, HetznerError> {
    read_patiently(run, id, &READS, within).await
}

async fn read_patiently(
    run: &Run<'_>,
    id: ServerId,
    pauses: &[Duration],
    within: Within,
) -> Result<Option<Server>, HetznerError> {
    for pause in pauses {
        sleep_until(within.deadline.min(run.clock.now() + *pause)).await;
        if let Some(server) = run.hetzner.find_server(id, within).await? {
            return Ok(Some(server));
        }
    }
    Ok(None)
}

/// Whether a deleted server is gone by then.
async fn gone_by(run: &Run<'_>, id: ServerId, until: Instant, within: Within) -> Result<bool, HetznerError> {
    while run.hetzner.find_server(id, within).await?.is_some() {
        if run.clock.now() + LOOK_AGAIN >= until {
            return Ok(false);
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

/// Why a server must not be deleted by an undo of this attempt, and what that means for the job.
fn objection(run: &Run<'_>, target: Target<'_>, server: &Server) -> Option<(&'static str, Hold)> {
    let job: &Job = run.job;
    let changed = ("its name or labels were changed, so it is not provably ours any more", Hold::Person);
    if target.guard == Guard::Ordered {
        let is_ours = server.name == job.name && attempt_of(server) == Some(target.attempt);
        return (!is_ours).then_some(changed);
    }
    match Claim::read(server) {
        Some(claim) if claim.ready && target.guard != Guard::Told => {
            Some(("it is marked ready; the next call for this job returns it", Hold::None))
        }
        Some(claim) if server.name == job.name && job.owns(&claim) && claim.attempt == target.attempt => {
            let lives = match target.guard {
                Guard::Dead => !run.is_dead(&claim) && !run.is_overdue(&claim),
                Guard::DeadAndAlone => !run.is_dead(&claim),
                _ => false,
            };
            lives.then(|| ("its attempt is not past its end", claim.expires.map_or(Hold::Person, Hold::Until)))
        }
        _ => Some(changed),
    }
}

/// Removes the addresses that came with a deleted server and did not go with it (fault M24). Returns those that stay.
pub(in super::super) async fn remove_primary_ips(run: &Run<'_>, ids: &[PrimaryIpId], within: Within) -> Vec<Leftover> {
    let mut left = Vec::new();
    for id in ids {
        left.extend(remove_primary_ip(run, *id, within).await.err().map(|leftover| leftover.id(id)));
    }
    left
}

async fn remove_primary_ip(run: &Run<'_>, id: PrimaryIpId, within: Within) -> Result<(), Leftover> {
    let unconfirmed = |error: HetznerError| Leftover::unconfirmed(Kind::PrimaryIp, error.to_string());
    for _ in 0..ADDRESS_LOOKS {
        match run.hetzner.find_primary_ip(id, within).await.map_err(unconfirmed)? {
            None => return Ok(()),
            Some(ip) if ip.assignee.is_some() => sleep_until(within.deadline.min(run.clock.now() + LOOK_AGAIN)).await,
            Some(_) => {
                run.hetzner.delete_primary_ip(id, within).await.map_err(unconfirmed)?;
                run.removed(Scope::Hetzner, format!("Primary IP deleted: id={id}"), Kind::PrimaryIp, &id);
            }
        }
    }
    Err(Leftover::exists(Kind::PrimaryIp, "it is still there, or belongs to another server now"))
}

/// Names the addresses of the deleted server `of` that did not go with it, and are not provably ours to remove (design 6).
pub(in super::super) async fn find_primary_ips(
    run: &Run<'_>,
    ids: &[PrimaryIpId],
    of: ServerId,
    within: Within,
) -> Vec<Leftover> {
    let mut left = Vec::new();
    for id in ids {
        left.extend(find_primary_ip(run, *id, of, within).await.map(|leftover| leftover.id(id)));
    }
    left
}

async fn find_primary_ip(run: &Run<'_>, id: PrimaryIpId, of: ServerId, within: Within) -> Option<Leftover> {
    for _ in 0..ADDRESS_LOOKS {
        match run.hetzner.find_primary_ip(id, within).await {
            Ok(Some(PrimaryIp { assignee: None })) => {
                let why = "it outlived its server, and may have been there before it";
                return Some(Leftover::exists(Kind::PrimaryIp, why));
            }
            // It is about to go with its server, or to be left alone.
            Ok(Some(PrimaryIp { assignee: Some(server) })) if server == of => {
                sleep_until(within.deadline.min(run.clock.now() + LOOK_AGAIN)).await;
            }
            // It went, or was given to another server.
            Ok(_) => return None,
            Err(error) => return Some(Leftover::unconfirmed(Kind::PrimaryIp, error.to_string())),
        }
    }
    Some(Leftover::unconfirmed(Kind::PrimaryIp, "Hetzner still shows it as the deleted server's"))
}

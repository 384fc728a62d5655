//! How a server of ours is removed: read, prove, delete, confirm (design 6, "Deleting").

use std::time::Duration;

use super::super::event::Scope;
use super::super::job::{Claim, Job};
use super::super::run::Run;
use crate::hetzner::{HetznerError, PrimaryIpId, Server, ServerId};
use crate::transport::{Within, sleep};

/// A new server may be missing from reads for up to 5 s (fault G32), so a first "not there" is not believed.
const READS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(2500), Duration::from_secs(3)];
/// Between two looks at whether a deleted server is gone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often an address is looked at that should go with its server.
const ADDRESS_LOOKS: u32 = 8;

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Removal {
    /// Deleted by this call, and a read confirmed the absence.
    Deleted,
    /// It was gone already.
    WasGone,
    /// It is still there, and why.
    Left(String),
}

/// Deletes a server if a fresh read shows this job, this attempt, and not `ready`; then waits until it is gone.
///
/// With `only_if_dead`, the attempt must be past its end as well, by the cloud's clock now.
pub(in super::super) async fn remove_server(
    run: &Run<'_>,
    id: ServerId,
    attempt: &str,
    only_if_dead: bool,
    within: Within,
) -> Removal {
    match try_remove(run, id, attempt, only_if_dead, within).await {
        Ok(removal) => removal,
        Err(error) if error.is_protected() => Removal::Left("it is protected against deletion".to_owned()),
        Err(error) => Removal::Left(error.to_string()),
    }
}

async fn try_remove(
    run: &Run<'_>,
    id: ServerId,
    attempt: &str,
    only_if_dead: bool,
    within: Within,
) -> Result<Removal, HetznerError> {
    let Some(server) = read_patiently(run, id, within).await? else { return Ok(Removal::WasGone) };
    if let Some(objection) = objection(run.job, attempt, &server) {
        return Ok(Removal::Left(objection.to_owned()));
    }
    if only_if_dead && !Claim::read(&server).is_some_and(|claim| claim.is_dead(run.clock.cloud_unix())) {
        return Ok(Removal::Left("its attempt is not past its end".to_owned()));
    }
    run.hetzner.delete_server(id, within).await?;
    while run.hetzner.find_server(id, within).await?.is_some() {
        if run.clock.now() + LOOK_AGAIN >= within.deadline {
            return Ok(Removal::Left("Hetzner still shows it after its deletion".to_owned()));
        }
        sleep(LOOK_AGAIN).await;
    }
    run.say(Scope::Hetzner, format!("Server deleted: id={id}"));
    Ok(Removal::Deleted)
}

async fn read_patiently(run: &Run<'_>, id: ServerId, within: Within) -> Result<Option<Server>, HetznerError> {
    for pause in READS {
        sleep(pause).await;
        if let Some(server) = run.hetzner.find_server(id, within).await? {
            return Ok(Some(server));
        }
    }
    Ok(None)
}

/// Why a server must not be deleted by an undo of this attempt.
fn objection(job: &Job, attempt: &str, server: &Server) -> Option<&'static str> {
    match Claim::read(server) {
        Some(claim) if claim.ready => Some("it is marked ready; the next call for this job returns it"),
        Some(claim) if server.name == job.name && job.owns(&claim) && claim.attempt == attempt => None,
        _ => Some("its name or labels were changed, so it is not provably ours any more"),
    }
}

/// Removes the addresses that came with a deleted server and did not go with it (fault M24). Returns those that stay.
pub(in super::super) async fn remove_primary_ips(
    run: &Run<'_>,
    ids: &[PrimaryIpId],
    within: Within,
) -> Vec<(PrimaryIpId, String)> {
    let mut left = Vec::new();
    for id in ids {
        if let Err(why) = remove_primary_ip(run, *id, within).await {
            left.push((*id, why));
        }
    }
    left
}

async fn remove_primary_ip(run: &Run<'_>, id: PrimaryIpId, within: Within) -> Result<(), String> {
    for _ in 0..ADDRESS_LOOKS {
        match run.hetzner.find_primary_ip(id, within).await.map_err(|error| error.to_string())? {
            None => return Ok(()),
            Some(ip) if ip.assigned => sleep(LOOK_AGAIN).await,
            Some(_) => {
                run.hetzner.delete_primary_ip(id, within).await.map_err(|error| error.to_string())?;
                run.say(Scope::Hetzner, format!("Primary IP deleted: id={id}"));
            }
        }
    }
    Err("it is still there, or belongs to another server now".to_owned())
}

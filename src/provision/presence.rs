//! Whether the machine of a server that an earlier attempt made stands in the tailnet.
//!
//! That attempt knew which devices were there before it, and its key told when a machine joined. Who comes later has
//! neither. What is left is where a device connects from: its own word, and no proof, but it tells apart who claims the
//! same name. So nothing that visibly connects from elsewhere counts as the machine.

use std::net::{IpAddr, Ipv4Addr};

use super::enrollment::{Enrolled, Enrollment, Expected, Obstacle, judge};
use super::run::Run;
use crate::hetzner::Server;
use crate::tailscale::{NodeId, TailscaleError};
use crate::transport::Within;

/// How many devices of one name are told apart.
const MOST: usize = 4;

/// One look at the devices that may be the machine of `server`, whose attempt began at `started`, in the cloud's unix time.
pub(super) async fn look(
    run: &Run<'_>,
    server: &Server,
    started: i64,
    within: Within,
) -> Result<Enrollment, TailscaleError> {
    let expected = Expected { hostname: &server.name, attempt_started: started, known: &[] };
    let fitting = match judge(&run.tailscale.find_devices(expected.hostname, within).await?, &expected) {
        Enrollment::Verified(enrolled) => vec![enrolled],
        Enrollment::Ambiguous(several) => several,
        not_yet @ Enrollment::NotYet(_) => return Ok(not_yet),
    };
    let (mut here, mut unknown, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for enrolled in fitting.into_iter().take(MOST) {
        match place(run, &enrolled, server.ipv4, within).await? {
            Some(Place::Here) => here.push(enrolled),
            Some(Place::Unknown) => unknown.push(enrolled),
            Some(Place::Elsewhere) => elsewhere.push(enrolled),
            None => {}
        }
    }
    let (mut sure, mut doubtful) = (here, elsewhere);
    if sure.is_empty() && doubtful.is_empty() {
        sure = unknown;
    } else if sure.is_empty() {
        doubtful.extend(unknown);
    }
    Ok(match (sure.len(), sure.pop(), doubtful.len()) {
        (1, Some(enrolled), _) => Enrollment::Verified(enrolled),
        (0, _, 0) => Enrollment::NotYet(Obstacle::Absent),
        (0, _, 1) => Enrollment::NotYet(Obstacle::Another),
        (0, ..) => Enrollment::Ambiguous(doubtful),
        (_, last, _) => Enrollment::Ambiguous(sure.into_iter().chain(last).collect()),
    })
}

/// Where a device connects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From the server's address, or the server has none.
    Here,
    /// It does not say.
    Unknown,
    /// From other addresses than the server's.
    Elsewhere,
}

/// Asks a device where it connects from; nothing if it is gone.
pub(super) async fn place(
    run: &Run<'_>,
    enrolled: &Enrolled,
    ip: Option<Ipv4Addr>,
    within: Within,
) -> Result<Option<Place>, TailscaleError> {
    let device = run.tailscale.find_device(&NodeId(enrolled.node_id.clone()), within).await?;
    Ok(device.map(|device| match ip {
        Some(ip) if device.endpoints.contains(&IpAddr::V4(ip)) => Place::Here,
        Some(_) if device.endpoints.is_empty() => Place::Unknown,
        Some(_) => Place::Elsewhere,
        None => Place::Here,
    }))
}

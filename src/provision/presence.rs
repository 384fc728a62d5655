//! Whether the machine of a server that an earlier attempt made stands in the tailnet.
//!
//! A server that was handed over names its device in a label. For any other one, that attempt knew which devices were
//! there before it, and its key told when a machine joined; who comes later has neither. What is left is where a device
//! connects from: its own word, and no proof, but it tells apart who claims the same name. So nothing that visibly connects
//! from elsewhere counts as the machine, and nothing that does not say where it connects from.

use super::enrollment::{Enrolled, Enrollment, Expected, Obstacle, judge};
use super::job::{Claim, TAG};
use super::run::Run;
use crate::hetzner::{Addresses, Server};
use crate::tailscale::{Device, NodeId, TailscaleError};
use crate::transport::{Urgency, Within};

/// How many devices of one name are told apart.
const MOST: usize = 4;

/// One look at the devices that may be the machine of a server of ours.
pub(super) async fn look(run: &Run<'_>, server: &Server, within: Within) -> Result<Enrollment, TailscaleError> {
    let claim = Claim::read(server);
    let started = claim.as_ref().map_or(0, |claim| claim.started);
    let expected = Expected { hostname: &server.name, attempt_started: started, known: &[] };
    let mut devices = run.tailscale.find_devices(expected.hostname, within).await?;
    if let Some(node_id) = claim.filter(|claim| claim.ready).and_then(|claim| claim.node_id) {
        devices.retain(|device| device.node_id.0 == node_id);
        return Ok(judge(&devices, &expected));
    }
    let fitting = match judge(&devices, &expected) {
        Enrollment::Verified(enrolled) => vec![enrolled],
        Enrollment::Ambiguous(several) => several,
        not_yet @ Enrollment::NotYet(_) => return Ok(not_yet),
    };
    let (mut sure, mut doubtful) = (Vec::new(), Vec::new());
    for enrolled in fitting.into_iter().take(MOST) {
        match place(run, &enrolled, server.addresses, within).await? {
            Some(Place::Here) => sure.push(enrolled),
            Some(Place::Unknown | Place::Elsewhere) => doubtful.push(enrolled),
            None => {}
        }
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
    /// From an address of the server's.
    Here,
    /// It does not say, or the server has no address.
    Unknown,
    /// From other addresses than the server's.
    Elsewhere,
}

impl Place {
    /// Where a device, as its own answer tells, connects from as seen from a server with these addresses.
    pub(super) fn of(device: &Device, addresses: Addresses) -> Self {
        if device.endpoints.iter().any(|ip| addresses.include(*ip)) {
            return Self::Here;
        }
        let is_comparable = addresses.main().is_some() && !device.endpoints.is_empty();
        if is_comparable { Self::Elsewhere } else { Self::Unknown }
    }
}

/// Asks a device where it connects from; nothing if it is gone.
pub(super) async fn place(
    run: &Run<'_>,
    enrolled: &Enrolled,
    addresses: Addresses,
    within: Within,
) -> Result<Option<Place>, TailscaleError> {
    let id = NodeId(enrolled.node_id.clone());
    let device = if within.urgency == Urgency::Look {
        run.tailscale.look_at_device(&id, TAG).await?
    } else {
        run.tailscale.find_device(&id, within).await?
    };
    Ok(device.map(|device| Place::of(&device, addresses)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_device_that_does_not_say_where_it_connects_from_is_neither_here_nor_elsewhere() {
        let with = |ipv4| Addresses { ipv4, ..Addresses::default() };
        let (server, none) = (with(Some(Ipv4Addr::new(203, 0, 113, 10))), with(None));
        let (here, other) = ("203.0.113.10", "198.51.100.7");
        for (addresses, endpoints, place) in [
            (server, &[here][..], Place::Here),
            (server, &[other, here], Place::Here),
            (server, &[other, "2001:db8::1"], Place::Elsewhere),
            (server, &[], Place::Unknown),
            (none, &[other], Place::Unknown),
            (none, &[], Place::Unknown),
        ] {
            let device = Device {
                id: "1".into(),
                node_id: NodeId("n1CNTRL".into()),
                name: "agent-a-1.example.ts.net".into(),
                hostname: "agent-a-1".into(),
                addresses: vec![],
                tags: vec![],
                created: None,
                authorized: true,
                connected: true,
                lock_error: None,
                endpoints: endpoints.iter().map(|text| text.parse().unwrap()).collect(),
            };
            assert_eq!(Place::of(&device, addresses), place, "{addresses:?} {endpoints:?}");
        }
    }
}

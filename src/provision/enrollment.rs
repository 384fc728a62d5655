//! Which device is the machine we made? A pure function of what Tailscale shows (design 2.1 step 9, design 6).
//!
//! There is no link between a device and its key or server, and a host name is whatever a machine says of itself. So a
//! device counts only if it has our host name, carries our tag (which the tailnet's policy guards), is newer than the
//! attempt, is approved and connected, has one address of the tailnet's range, and is the only one.

use std::net::{IpAddr, Ipv4Addr};

use super::job::TAG;
use crate::tailscale::{Device, NodeId};

/// Clocks of the two clouds may differ by this much, in seconds.
const CLOCK_MARGIN: i64 = 300;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// The server's name.
    pub hostname: &'a str,
    /// The attempt's start, in the cloud's unix time.
    pub attempt_started: i64,
    /// Devices of that name which were there before: a device of the last attempt may still seem connected.
    pub known: &'a [NodeId],
}

impl Expected<'_> {
    /// Whether a device can be ours at all: name, tag and age. All else about it may still change.
    pub(super) fn may_be(&self, device: &Device) -> bool {
        self.is_new(device) && device.tags.iter().any(|tag| tag == TAG)
    }

    fn is_new(&self, device: &Device) -> bool {
        device.hostname.eq_ignore_ascii_case(self.hostname)
            && !self.known.contains(&device.node_id)
            && device.created.is_some_and(|created| created > self.attempt_started.saturating_sub(CLOCK_MARGIN))
    }
}

/// A device that is the machine we made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Enrolled {
    pub device_id: String,
    pub node_id: String,
    pub ip: Ipv4Addr,
}

/// What Tailscale shows, seen as an answer to "has it joined?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Enrollment {
    /// It has.
    Verified(Enrolled),
    /// Not yet, and what stands in the way.
    NotYet(Obstacle),
    /// More than one device fits.
    Ambiguous(Vec<Enrolled>),
}

/// What stands in the way of a verified device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// There is none of that name.
    Absent,
    /// There is one without our tag; not ours, and not touched.
    Untagged,
    /// It waits for approval.
    Unauthorized,
    /// It is not in touch.
    Disconnected,
    /// It has no single address of the tailnet's range.
    Address,
    /// The tailnet lock refuses it.
    Locked(String),
    /// It is not the machine that this attempt made: its key was not used yet, or the device connects from elsewhere.
    Another,
}

impl Obstacle {
    /// Whether a device stands in the tailnet that may be the machine, although it does not verify.
    pub(super) fn is_of_a_device(&self) -> bool {
        !matches!(self, Self::Absent | Self::Untagged)
    }

    /// Whether it may go away without anybody doing anything.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Absent | Self::Disconnected | Self::Another)
    }

    /// The obstacle in words.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Absent => "no such device was seen",
            Self::Untagged => "a device of that name is there, but without tag:agent",
            Self::Unauthorized => "the device waits for approval",
            Self::Disconnected => "the device is not connected",
            Self::Address => "the device has no single address of the tailnet",
            Self::Locked(_) => "the tailnet lock does not trust the device",
            Self::Another => "a device of that name is there, but it did not join with this attempt's key",
        }
    }
}

/// Judges one reading of the devices.
pub(super) fn judge(devices: &[Device], expected: &Expected<'_>) -> Enrollment {
    let ours: Vec<&Device> = devices.iter().filter(|device| expected.may_be(device)).collect();
    let (mut verified, mut obstacle) = (Vec::new(), None);
    for device in ours {
        match inspect(device) {
            Ok(enrolled) => verified.push(enrolled),
            Err(found) => obstacle = Some(found),
        }
    }
    if verified.len() > 1 {
        return Enrollment::Ambiguous(verified);
    }
    verified.pop().map_or_else(
        || {
            let untagged = devices.iter().any(|device| expected.is_new(device)).then_some(Obstacle::Untagged);
            Enrollment::NotYet(obstacle.or(untagged).unwrap_or(Obstacle::Absent))
        },
        Enrollment::Verified,
    )
}

fn inspect(device: &Device) -> Result<Enrolled, Obstacle> {
    if let Some(error) = &device.lock_error {
        return Err(Obstacle::Locked(error.clone()));
    }
    if !device.authorized {
        return Err(Obstacle::Unauthorized);
    }
    if !device.connected {
        return Err(Obstacle::Disconnected);
    }
    let mut addresses = device.addresses.iter().filter_map(|address| match address {
        IpAddr::V4(ip) if is_tailnet(*ip) => Some(*ip),
        _ => None,
    });
    match (addresses.next(), addresses.next()) {
        (Some(ip), None) => Ok(Enrolled { device_id: device.id.clone(), node_id: device.node_id.0.clone(), ip }),
        _ => Err(Obstacle::Address),
    }
}

/// 100.64.0.0/10, from which every tailnet takes its IPv4 addresses.
fn is_tailnet(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && (64..128).contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;
    const START: i64 = 1_795_428_000;

    fn device() -> Device {
        Device {
            id: "1".into(),
            node_id: NodeId("n1CNTRL".into()),
            name: "agent-a-1-1.example.ts.net".into(),
            hostname: "agent-a-1".into(),
            addresses: vec!["fd7a:115c:a1e0::1".parse().unwrap(), "100.101.1.2".parse().unwrap()],
            tags: vec!["tag:other".into(), TAG.into()],
            created: Some(START + 20),
            authorized: true,
            connected: true,
            lock_error: None,
            endpoints: vec![],
        }
    }

    type Change = fn(&mut Device);

    #[test]
    fn a_device_is_ours_only_if_everything_fits() {
        let expected = Expected { hostname: "agent-a-1", attempt_started: START, known: &[] };
        let with = |change: fn(&mut Device)| {
            let mut device = device();
            change(&mut device);
            judge(&[device], &expected)
        };
        assert!(
            matches!(judge(&[device()], &expected), Enrollment::Verified(e) if e.ip == Ipv4Addr::new(100, 101, 1, 2))
        );
        let cases: [(&str, Change, Obstacle); 11] = [
            ("M12 stale", |d| d.created = Some(START - CLOCK_MARGIN), Obstacle::Absent),
            ("shared in", |d| d.created = None, Obstacle::Absent),
            ("another name", |d| d.hostname = "agent-a-2".into(), Obstacle::Absent),
            ("M13 impostor without tag", |d| d.tags.clear(), Obstacle::Untagged),
            ("M11 other tag", |d| d.tags = vec!["tag:agents".into()], Obstacle::Untagged),
            ("M10 not approved", |d| d.authorized = false, Obstacle::Unauthorized),
            ("M18 not connected", |d| d.connected = false, Obstacle::Disconnected),
            ("M16 no address", |d| d.addresses.clear(), Obstacle::Address),
            ("M16 IPv6 only", |d| d.addresses.truncate(1), Obstacle::Address),
            ("M16 outside the range", |d| d.addresses = vec!["100.128.0.1".parse().unwrap()], Obstacle::Address),
            ("M19 locked", |d| d.lock_error = Some("no signature".into()), Obstacle::Locked("no signature".into())),
        ];
        for (name, change, obstacle) in cases {
            assert_eq!(with(change), Enrollment::NotYet(obstacle), "{name}");
        }
    }

    #[test]
    fn m14_two_that_fit_are_ambiguous_and_a_stale_twin_is_not() {
        let expected = Expected { hostname: "agent-a-1", attempt_started: START, known: &[] };
        let mut twin = device();
        twin.node_id = NodeId("n2CNTRL".into());
        assert!(matches!(judge(&[device(), twin.clone()], &expected), Enrollment::Ambiguous(two) if two.len() == 2));
        let known = [twin.node_id.clone()];
        let knowing = Expected { known: &known, ..expected };
        assert!(matches!(judge(&[twin.clone(), device()], &knowing), Enrollment::Verified(_)));
        twin.connected = false;
        assert!(matches!(judge(&[twin, device()], &expected), Enrollment::Verified(_)));
    }
}

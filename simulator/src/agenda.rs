//! What is going to happen, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::history::Actor;
use crate::machine::JoinPlan;

/// Something that happens by itself.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A request whose sender has given up is carried out after all.
    LateRequest(Actor, Box<http::Request<Bytes>>),
    /// An action comes to its end.
    ActionEnds(u64),
    /// A server's machine has power; its system begins to boot.
    MachineStarts(u64),
    /// The system is up: the first-boot document is read, or an old device comes back.
    MachineUp(u64),
    /// The machine joins the tailnet with the key that it found.
    MachineJoins(u64),
    /// The machine asks to join; it need not be there any more when it is let in.
    MachineAsks(u64, Duration),
    /// A machine that has joined asks once more.
    MachineAsksAgain(u64, Box<JoinPlan>),
    /// A machine that asked to join before it was deleted is let in.
    QueuedJoin(u64, Box<JoinPlan>, Option<std::net::IpAddr>),
    /// The machine goes off.
    MachineOff(u64),
}

/// The list of happenings, by time and then by the order in which they were put down.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    entries: BTreeMap<(Duration, u64), Happening>,
    serial: u64,
}

impl Agenda {
    pub(crate) fn put(&mut self, at: Duration, happening: Happening) {
        self.serial += 1;
        self.entries.insert((at, self.serial), happening);
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.entries.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next happening that is due.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<(Duration, Happening)> {
        let entry = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
        let at = entry.key().0;
        Some((at, entry.remove()))
    }
}

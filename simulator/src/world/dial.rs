//! Whether a machine can be reached over the tailnet, from a caller that is in it.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::World;

/// Why a connection did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// The machine is there, and nothing listens.
    Refused,
    /// Nobody answers.
    NoAnswer,
}

impl Unreached {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoAnswer => "no answer",
        }
    }
}

impl World {
    /// Tries a TCP connection at `now` (time since the world began) to an address of the tailnet. It comes about if a device
    /// of that address is in touch, its server runs, and something listens there by now.
    ///
    /// # Errors
    ///
    /// As a caller in the tailnet would see it.
    pub fn reach(&mut self, now: Duration, ip: Ipv4Addr, port: u16) -> Result<(), Unreached> {
        self.advance(now);
        let outcome = self.answers(ip, port);
        let said = outcome.err().map_or("open", Unreached::name).to_owned();
        self.note("dial", format!("{ip}:{port}"), said, None);
        outcome
    }

    fn answers(&self, ip: Ipv4Addr, port: u16) -> Result<(), Unreached> {
        let machine = &self.config.machine;
        let peer = self.tailscale.peer(&self.cx, ip).filter(|_| machine.reachable).ok_or(Unreached::NoAnswer)?;
        if peer.server.is_some_and(|server| !self.hetzner.is_on(server)) {
            return Err(Unreached::NoAnswer);
        }
        let listens = peer.since.saturating_add(Duration::from_secs_f64(machine.listens_after_seconds.max(0.0)));
        let is_open = machine.ports.contains(&port) && listens <= self.cx.now;
        if is_open { Ok(()) } else { Err(Unreached::Refused) }
    }
}

//! The rule for connections to machines: I07.

use std::hash::Hash;
use std::net::Ipv4Addr;

use simulator::{DeviceView, Unreached, World};

use super::{Audit, Call};

impl Audit {
    /// A process opens a connection: only for a call that asks for it, to that port of the machine that bears its name.
    pub fn dialled(&mut self, process: u32, ip: Ipv4Addr, port: u16, outcome: Result<(), Unreached>, world: &World) {
        (process, self.now, ip, port, outcome.is_ok()).hash(&mut self.trace);
        self.note(|| format!("process {process} dials {ip}:{port}: {outcome:?}"));
        let now = self.now;
        if let Some(process) = self.processes.get_mut(&process) {
            process.active_at = now;
        }
        let address = ip.to_string();
        let device = world.devices().find(|device| device.ip == Some(&address));
        let asks = |call: &Call| {
            let names = |device: &DeviceView<'_>| call.name.as_deref() == Some(device.hostname);
            call.process == process
                && call.settled.is_none()
                && call.reach == Some(port)
                && device.as_ref().is_none_or(names)
        };
        match self.calls.iter().rposition(asks) {
            None => self.violated("I07", format!("{ip}:{port} is dialled, and no call asks for it")),
            Some(call) if outcome.is_ok() => self.calls[call].reached = Some(ip),
            Some(_) => {}
        }
    }
}

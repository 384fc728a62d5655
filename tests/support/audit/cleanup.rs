//! The rules for who cleans up after runs of a workflow: what it may remove (I02, I03), and what its report says (I12, I13).
//!
//! Whose an attempt is tells the call that minted it, and not how the attempt's id reads: that is what may be got wrong.

use std::hash::Hash;
use std::time::Duration;

use provision_vm::provision::{CleanedUp, Kind, LeftBy, Leftover};
use simulator::{Actor, World};

use super::changes::ServerRecord;
use super::leftovers::Thing;
use super::{Audit, Call};

/// A clean-up after runs of a workflow, and what its process may remove.
#[derive(Clone, Debug)]
pub struct Cleanup {
    process: u32,
    what: LeftBy,
    began: Duration,
    /// What it said at its end, unless that was an error.
    pub(super) report: Option<CleanedUp>,
}

impl Cleanup {
    /// Whether a call is one of these runs for this job.
    fn is_after(&self, call: &Call) -> bool {
        call.job == self.what.job_id && call.run.as_ref().is_some_and(|run| self.what.runs.contains(run))
    }
}

impl Audit {
    /// A clean-up begins, by a process that does nothing else.
    pub fn begin_cleanup(&mut self, process: u32, what: &LeftBy, now: Duration) {
        self.advance_to(now);
        self.note(|| format!("process {process} cleans up: {what:?}"));
        self.processes.entry(process).or_default().begin(now);
        self.cleanups.push(Cleanup { process, what: what.clone(), began: now, report: None });
    }

    /// A clean-up reports.
    pub fn cleaned_up(&mut self, process: u32, report: &CleanedUp, world: &World) {
        let said = format!("{report:?}");
        said.hash(&mut self.trace);
        self.note(|| format!("process {process} has cleaned up: {said}"));
        self.search("a clean-up's report", said.as_bytes(), &[]);
        self.counts.cleanups += 1;
        self.counts.cleaned += u32::try_from(report.servers.len() + report.keys.len()).unwrap_or(u32::MAX);
        let Some(at) = self.cleanups.iter().rposition(|cleanup| cleanup.process == process) else { return };
        self.check_cleaned_up(&self.cleanups[at].clone(), report, world);
        self.cleanups[at].report = Some(report.clone());
    }

    /// A clean-up has come to its end, or its process has.
    pub fn end_cleanup(&mut self, process: u32) {
        if let Some(process) = self.processes.get_mut(&process) {
            process.running -= 1;
        }
    }

    /// The last clean-up of a process, if that is what it is for. It may have ended: what it sent may be carried out later.
    pub(super) fn cleans_up(&self, process: u32) -> Option<&Cleanup> {
        self.cleanups.iter().rfind(|cleanup| cleanup.process == process)
    }

    /// Whether an attempt was made for this job by one of the runs that are over.
    fn is_over(&self, cleanup: &Cleanup, attempt: &str) -> bool {
        self.attempts.get(attempt).is_some_and(|call| cleanup.is_after(&self.calls[*call]))
    }

    /// I02 and I03: what is not ready and of these runs and this job may go. That another attempt is dead, or anybody's to
    /// finish, does not make it theirs.
    pub(super) fn check_cleaning(&mut self, cleanup: &Cleanup, id: u64, server: &ServerRecord) {
        let label = |key: &str| server.labels.get(key).map(String::as_str).unwrap_or_default();
        if (label("managed_by"), label("provisioning_job_id")) != ("provision-vm", &cleanup.what.job_id) {
            self.violated("I02", format!("server {id} is cleaned up and was not the job's: {:?}", server.labels));
        } else if server.is_ready() {
            self.violated("I03", format!("server {id} is cleaned up and was ready"));
        } else if !self.is_over(cleanup, label("attempt")) {
            self.violated("I03", format!("server {id} is cleaned up, and no run that is over made it"));
        }
    }

    /// I02: a key goes only if an attempt of these runs at this job minted it.
    pub(super) fn check_key_cleaning(&mut self, cleanup: &Cleanup, id: &str, call: Option<usize>) {
        if !call.is_some_and(|call| cleanup.is_after(&self.calls[call])) {
            self.violated("I02", format!("key {id} is cleaned up, and no run that is over minted it"));
        }
    }

    /// I12 and I13: what is left of these runs is named, and what is said to be gone is gone.
    fn check_cleaned_up(&mut self, cleanup: &Cleanup, report: &CleanedUp, world: &World) {
        let invariant = if report.leftovers.is_empty() { "I12" } else { "I13" };
        let mut left = self.left_of_runs(cleanup, world);
        if report.servers.is_empty() {
            left.extend(self.lonely_devices(cleanup, world));
        }
        for thing in left {
            if !report.leftovers.iter().any(|left| covers(left, &thing)) {
                let (kind, id) = (thing.kind.as_str(), &thing.id);
                self.violated(invariant, format!("{kind} {id} is there after the clean-up and not named"));
            }
        }
        for removed in report.servers.iter().filter(|removed| removed.left.is_none()) {
            if self.servers.get(&removed.server_id).is_none_or(|server| server.alive) {
                self.violated("I13", format!("server {} is said to be gone", removed.server_id));
            }
        }
        for id in &report.keys {
            if world.keys().any(|key| key.id == id.as_str() && key.usable) {
                self.violated("I13", format!("key {id} is said to be revoked"));
            }
        }
        for left in &report.leftovers {
            let is_known = left.id.as_ref().is_none_or(|id| match left.kind {
                Kind::Server => id.parse().is_ok_and(|id: u64| self.servers.contains_key(&id)),
                Kind::AuthKey => self.keys.contains_key(id),
                Kind::Device => self.devices.contains_key(id),
                // Those that went are forgotten.
                Kind::PrimaryIp => true,
            });
            if !is_known {
                self.violated("I13", format!("what is named has never been: {left:?}"));
            }
        }
    }

    /// What stands, at the end of a clean-up, that it had to remove or to name: unfinished servers, keys that are still of
    /// use, and the machines and addresses of the servers that it removed.
    ///
    /// An order that was on its way when its process died may land after the last look. So what came to be since the
    /// clean-up began is not held against it; `came_of` counts what lands after its end.
    fn left_of_runs(&self, cleanup: &Cleanup, world: &World) -> Vec<Thing> {
        let of_runs = |call: Option<usize>| call.is_some_and(|call| cleanup.is_after(&self.calls[call]));
        let is_left = |server: &ServerRecord| {
            let is_open = server.alive && !server.meddled && !server.is_ready();
            is_open && of_runs(server.maker) && server.made < cleanup.began
        };
        let of_server = |kind, id: String, name: &str, of| Thing { kind, id, name: name.to_owned(), of };
        let servers = self.servers.iter().filter(|(_, server)| is_left(server));
        let servers = servers.map(|(id, server)| of_server(Kind::Server, id.to_string(), &server.name, None));
        let was_removed = |id: &u64| {
            let by = Some(Actor::Caller(cleanup.process));
            self.servers.get(id).is_some_and(|server| !server.alive && !server.meddled && server.removed_by == by)
        };
        let devices = world.devices().filter(|device| device.server.as_ref().is_some_and(was_removed));
        let devices =
            devices.map(|device| of_server(Kind::Device, device.node.to_owned(), device.hostname, device.server));
        let addresses = self.addresses.iter().filter(|(_, server)| was_removed(server));
        let addresses = addresses.map(|(id, server)| of_server(Kind::PrimaryIp, id.to_string(), "", Some(*server)));
        let is_open = |id: &str| self.keys.get(id).is_some_and(|key| of_runs(key.call) && key.made < cleanup.began);
        let keys = world.keys().filter(|key| key.usable && is_open(key.id));
        let keys = keys.map(|key| of_server(Kind::AuthKey, key.id.to_owned(), key.description, None));
        servers.chain(devices).chain(addresses).chain(keys).collect()
    }

    /// Devices whose server such a run had removed before it ended. They cannot be proved to be the run's, so they are named
    /// by whoever knows the agent, if no server of the job stands.
    fn lonely_devices(&self, cleanup: &Cleanup, world: &World) -> Vec<Thing> {
        let of_job = |server: &ServerRecord| {
            server.labels.get("provisioning_job_id") == Some(&cleanup.what.job_id)
                && (server.alive || server.made >= cleanup.began)
        };
        if self.servers.values().any(of_job) {
            return Vec::new();
        }
        let is_lonely = |id: &u64| {
            let server = self.servers.get(id).filter(|server| !server.meddled);
            let maker = server.and_then(|server| server.maker).map(|maker| &self.calls[maker]);
            maker.is_some_and(|call| cleanup.is_after(call) && cleanup.what.agent_id.as_ref() == Some(&call.agent))
        };
        let began = self.epoch + i64::try_from(cleanup.began.as_secs()).unwrap_or(0);
        let devices = world.devices().filter(|device| device.server.as_ref().is_some_and(is_lonely));
        let is_old = |node: &str| self.devices.get(node).is_some_and(|device| device.created < began);
        let thing = |device: simulator::DeviceView<'_>| {
            let (id, name) = (device.node.to_owned(), device.hostname.to_owned());
            Thing { kind: Kind::Device, id, name, of: device.server }
        };
        devices.filter(|device| is_old(device.node)).map(thing).collect()
    }

    /// Something of a call has come to be. If a clean-up after its run has ended by then, an order was carried out late:
    /// nobody's fault, but to be known, since only the reaper, or its own end, removes it.
    pub(super) fn came_of(&mut self, call: usize, what: &str) {
        let record = &self.calls[call];
        let is_before = |cleanup: &Cleanup| cleanup.report.is_some() && record.began < cleanup.began;
        if self.cleanups.iter().any(|cleanup| is_before(cleanup) && cleanup.is_after(record)) {
            self.counts.landed_late += 1;
            self.note(|| format!("{what} of call {call} lands after the clean-up"));
        }
    }

    /// A device has come to be whose server is gone. Who removed it had seen to it that none can.
    pub(super) fn check_late_device(&mut self, node: &str, server: &ServerRecord) {
        let Some(Actor::Caller(process)) = server.removed_by else { return };
        let report = self.cleans_up(process).and_then(|cleanup| cleanup.report.as_ref());
        if report.is_some_and(|report| report.leftovers.is_empty()) {
            self.violated("I12", format!("device {node} appears after the clean-up said that nothing was left"));
        }
    }
}

/// Whether an entry is about this: by its id, or by its name where it has none, or since it names the server that it came with.
pub(super) fn covers(left: &Leftover, thing: &Thing) -> bool {
    let of = thing.of.map(|server| server.to_string());
    let is_it = match &left.id {
        Some(id) => *id == thing.id,
        // Of keys that could not be listed, what their descriptions begin with is named.
        None => left.name.as_ref().is_some_and(|name| thing.name.starts_with(name.as_str())),
    };
    (left.kind == thing.kind && is_it) || (left.kind == Kind::Server && left.id.is_some() && left.id == of)
}

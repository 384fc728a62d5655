//! The rules for the end of a call: I11 to I16.

use std::fmt::Write as _;
use std::hash::Hash;
use std::time::Duration;

use provision_vm::provision::{Certainty, Code, Hold, Kind, Leftover, ProvisionError, Provisioned, Step};
use simulator::World;

use super::call::Settled;
use super::{ABORT, Audit};
use crate::support::Outcome;

/// What may come after the deadline: the undo's minute, which a last look and the mark are taken off.
const AFTER_DEADLINE: Duration = Duration::from_secs(60 + 1);
/// What may come after the caller's signal: the mark and the retirement of a verified machine, and the whole undo.
const AFTER_CANCEL: Duration = Duration::from_secs(30 + 30 + 60 + 1);

impl Audit {
    /// A call has come to its end.
    pub fn settled(&mut self, call: usize, outcome: &Outcome, world: &World) {
        if self.calls[call].passengers > 1 {
            return self.left(call, outcome);
        }
        self.check_time(call, outcome);
        let said = match outcome {
            Ok(done) => {
                self.check_success(call, done, world);
                format!("{done:?}")
            }
            Err(error) => {
                self.check_failure(call, error, world);
                self.check_promise(error);
                self.check_cause(call, error);
                let mut said = format!("{error} {error:?}");
                for cause in error.causes() {
                    let _ = write!(said, " {cause}");
                }
                said
            }
        };
        (call, &said).hash(&mut self.trace);
        self.note(|| format!("call {call} ends: {said}"));
        self.search("an outcome", said.as_bytes(), &[]);
        self.calls[call].settled = Some(match outcome {
            Ok(done) => Settled::Well { warned_of_keys: warns_of_keys(done) },
            Err(error) => Settled::Badly { kinds: error.leftovers.iter().map(|left| left.kind).collect() },
        });
        let Some(process) = self.processes.get_mut(&self.calls[call].process) else { return };
        process.running -= 1;
        if process.running == 0 {
            let counts = &mut self.counts;
            let list = if outcome.is_ok() { &mut counts.requests } else { &mut counts.requests_of_failures };
            list.push(process.sent);
        }
    }

    /// One of several callers of a flight leaves, or the first of them lands.
    fn left(&mut self, call: usize, outcome: &Outcome) {
        self.calls[call].passengers -= 1;
        (call, outcome.is_ok()).hash(&mut self.trace);
        if let Some(process) = self.processes.get_mut(&self.calls[call].process) {
            process.running -= 1;
        }
    }

    /// I14.
    fn check_time(&mut self, call: usize, outcome: &Outcome) {
        let record = &self.calls[call];
        let (now, undo_at) = (self.now, record.undo_at);
        if now > record.began + record.timeout + AFTER_DEADLINE {
            let late = now.saturating_sub(record.began + record.timeout);
            self.violated("I14", format!("settled {late:?} after the deadline"));
        }
        let Some(cancelled) = self.calls[call].cancelled_at else { return };
        if now > cancelled + AFTER_CANCEL {
            let late = now.saturating_sub(cancelled);
            self.violated("I14", format!("settled {late:?} after the caller's signal"));
        }
        let aborted = outcome.as_ref().is_err_and(|error| error.cause.code() == Code::Aborted);
        let reacted = undo_at.unwrap_or(now);
        if aborted && !self.calls[call].took_over && !self.calls[call].cancelled_in_undo && reacted > cancelled + ABORT
        {
            let late = reacted.saturating_sub(cancelled);
            self.violated("I14", format!("the undo began {late:?} after the caller's signal"));
        }
    }

    /// I11.
    fn check_success(&mut self, call: usize, done: &Provisioned, world: &World) {
        let id = done.server.id.0;
        let (job, agent) = (self.calls[call].job.clone(), self.calls[call].agent.clone());
        let is_ready = |server: &&super::ServerRecord| {
            server.alive && server.is_ready() && server.labels.get("provisioning_job_id") == Some(&job)
        };
        let ready = self.servers.values().filter(is_ready).count();
        let meddled = self.servers.get(&id).is_some_and(|server| server.meddled);
        if ready != 1 && !meddled {
            self.violated("I11", format!("the call succeeded, and {ready} servers of its job are ready"));
        }
        match world.servers().find(|server| server.id == id) {
            None if meddled => {}
            None => self.violated("I11", format!("the call returned server {id}, which is not there")),
            Some(server) => {
                let label = |key: &str| server.labels.get(key).map(String::as_str);
                if !meddled && (label("provisioning_job_id"), label("agent_id")) != (Some(&job), Some(&agent)) {
                    self.violated("I11", format!("server {id} is not the job's"));
                }
                if server.ipv4 != Some(done.server_ip) {
                    self.violated("I11", format!("{} is not the address of server {id}", done.server_ip));
                }
            }
        }
        let device = world.devices().find(|device| device.node == done.node_id);
        let ip = done.tailscale_ip.to_string();
        let gone = self.devices.get(&done.node_id).is_some_and(|device| !device.alive);
        match device {
            None if gone || meddled => {}
            Some(device) if device.server == Some(id) && device.ip == Some(&ip) && device.authorized => {}
            _ => self
                .violated("I11", format!("device {} is not the machine of server {id}, or not approved", done.node_id)),
        }
        if !warns_of_keys(done) {
            for key in self.usable_keys(call, world) {
                self.violated("I11", format!("key {key} of a call that succeeded is still usable"));
            }
        }
    }

    /// I12 and I13.
    fn check_failure(&mut self, call: usize, error: &ProvisionError, world: &World) {
        let named = |kind: Kind, id: &str, name: &str| {
            error.leftovers.iter().any(|left| {
                left.kind == kind
                    && left.id.as_deref().map_or_else(|| left.name.as_deref() == Some(name), |known| known == id)
            })
        };
        let invariant = if error.leftovers.is_empty() { "I12" } else { "I13" };
        let own: Vec<(u64, super::ServerRecord)> = self
            .servers
            .iter()
            .filter(|(_, server)| server.maker == Some(call))
            .map(|(id, server)| (*id, server.clone()))
            .collect();
        for (id, server) in &own {
            if server.alive && !named(Kind::Server, &id.to_string(), &server.name) {
                self.violated(invariant, format!("server {id} is there and not named"));
            }
            let of_it = |device: &simulator::DeviceView<'_>| device.server == Some(*id) && !server.alive;
            for device in world.devices().filter(of_it) {
                if !named(Kind::Device, device.node, device.hostname) {
                    self.violated(invariant, format!("device {} is there and not named", device.node));
                }
            }
            let addresses: Vec<u64> = self
                .addresses
                .iter()
                .filter(|(_, of)| *of == id && !server.alive)
                .map(|(address, _)| *address)
                .collect();
            for address in addresses {
                // A server is named with its addresses, and whoever removes one by hand knows what hangs on it.
                let with_server = server.meddled || named(Kind::Server, &id.to_string(), &server.name);
                if !with_server && !named(Kind::PrimaryIp, &address.to_string(), "") {
                    self.violated(invariant, format!("primary IP {address} is there and not named"));
                }
            }
        }
        for id in self.usable_keys(call, world) {
            let description = world.keys().find(|key| key.id == id).map(|key| key.description).unwrap_or_default();
            if !named(Kind::AuthKey, &id, description) {
                self.violated(invariant, format!("key {id} is usable and not named"));
            }
        }
        for left in &error.leftovers {
            if let Some(why) = self.invented(call, left, world) {
                self.violated("I13", format!("{why}: {left:?}"));
            }
        }
    }

    /// The usable keys that this call minted.
    fn usable_keys(&self, call: usize, world: &World) -> Vec<String> {
        let own = |id: &str| self.keys.get(id).is_some_and(|key| key.call == Some(call));
        world.keys().filter(|key| key.usable && own(key.id)).map(|key| key.id.to_owned()).collect()
    }

    /// Whether a device is the machine of a server that stands and that another call made.
    fn is_anothers(&self, call: usize, node: &str) -> bool {
        let server = self.devices.get(node).and_then(|device| device.server).and_then(|id| self.servers.get(&id));
        server.is_some_and(|server| server.alive && server.maker.is_some_and(|maker| maker != call))
            && !self.calls[call].took_over
    }

    /// Why a leftover cannot be.
    fn invented(&self, call: usize, left: &Leftover, world: &World) -> Option<&'static str> {
        let record = &self.calls[call];
        let meddled = self.servers.values().any(|server| server.meddled && left.name.as_ref() == Some(&server.name));
        let number = left.id.as_ref().and_then(|id| id.parse::<u64>().ok());
        let (ever, is_there) = match (left.kind, &left.id) {
            (Kind::Server, Some(_)) => {
                let server = number.and_then(|id| self.servers.get(&id));
                (server.is_some(), server.is_some_and(|server| server.alive))
            }
            (Kind::AuthKey, Some(id)) => {
                (self.keys.contains_key(id), world.keys().any(|key| key.id == id.as_str() && key.usable))
            }
            (Kind::Device, Some(id)) if self.is_anothers(call, id) => {
                return Some("the device is the machine of another call's server");
            }
            (Kind::Device, Some(id)) => {
                (self.devices.contains_key(id), self.devices.get(id).is_some_and(|device| device.alive))
            }
            (Kind::PrimaryIp, Some(_)) => {
                let known = number.is_some_and(|id| self.addresses.contains_key(&id));
                // Those that went are forgotten; the world's numbers tell an address from an invention.
                (number.is_some_and(|id| id > 120_000_000), known)
            }
            (Kind::Server, None) => (record.servers.any, record.servers.ever_unclear),
            (Kind::AuthKey, None) => (record.keys.any, record.keys.ever_unclear),
            (Kind::Device, None) => (record.servers.any || record.took_over, true),
            (Kind::PrimaryIp, None) => return Some("an address without its id"),
        };
        match left.certainty {
            _ if !ever => Some("what is named has never been"),
            Certainty::Exists if !is_there && !meddled => Some("what is named is not there"),
            Certainty::MayAppear if left.id.is_none() && !is_there => Some("no order is open that could make it"),
            _ => None,
        }
    }

    /// I15, as far as it can be told without a repetition; the random worlds repeat the call as well.
    fn check_promise(&mut self, error: &ProvisionError) {
        let is_stuck = error.leftovers.iter().any(|left| left.hold == Hold::Person);
        if error.is_retryable() && (is_stuck || !error.cause.code().is_retryable()) {
            self.violated("I15", format!("it is called retryable, and is not: {error:?}"));
        }
    }

    /// I16.
    fn check_cause(&mut self, call: usize, error: &ProvisionError) {
        let record = &self.calls[call];
        // An attempt that yields is undone, and the call goes on.
        let yields = |cause: &String| cause.starts_with("another attempt of this job was faster");
        let undoes = record.undo_cause.clone().filter(|cause| !record.took_over && !yields(cause));
        if error.step == Step::Undo {
            self.violated("I16", format!("the error's step is the undo: {error}"));
        }
        if let Some(cause) = undoes.filter(|cause| *cause != error.to_string()) {
            self.violated("I16", format!("the undo began because of {cause:?}, and the error says {error}"));
        }
    }
}

fn warns_of_keys(done: &Provisioned) -> bool {
    done.warnings.iter().any(|warning| warning.contains("auth key") || warning.contains("auth_key"))
}

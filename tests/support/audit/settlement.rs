//! The rules for the end of a call: I11, and I14 to I16. What a failed one names is held against the world in `leftovers.rs`.

use std::fmt::Write as _;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use provision_vm::provision::{Code, Hold, ProvisionError, Provisioned, Step, Underway};
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
                self.counts.named += u32::try_from(error.leftovers.len()).unwrap_or(u32::MAX);
                let mut said = format!("{error} {error:?} {}", error.hint());
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
            Ok(done) => Settled::Well { warnings: done.warnings.clone() },
            Err(error) => Settled::Badly { leftovers: error.leftovers.clone() },
        });
        self.ended(call, outcome.is_ok());
    }

    fn ended(&mut self, call: usize, is_well: bool) {
        let Some(process) = self.processes.get_mut(&self.calls[call].process) else { return };
        process.running -= 1;
        if process.running == 0 {
            let counts = &mut self.counts;
            let list = if is_well { &mut counts.requests } else { &mut counts.requests_of_failures };
            list.push(process.sent);
        }
    }

    /// A call has come to its end that does not wait for its machine, and leaves it on its way.
    pub fn left_underway(&mut self, call: usize, underway: &Underway, world: &World) {
        let (id, said) = (underway.server.id.0, format!("{underway:?}"));
        (call, &said).hash(&mut self.trace);
        self.note(|| format!("call {call} ends: {said}"));
        self.search("an outcome", said.as_bytes(), &[]);
        let job = self.calls[call].job.clone();
        match (self.servers.get(&id), world.servers().find(|server| server.id == id)) {
            (Some(record), _) if record.meddled || !record.alive => {}
            (Some(record), Some(_)) if record.labels.get("provisioning_job_id") == Some(&job) => {}
            _ => self.violated("I11", format!("the call left server {id} on its way, which is not there or another's")),
        }
        self.calls[call].settled = Some(Settled::Underway { warnings: underway.warnings.clone() });
        self.ended(call, true);
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
        let deadline = record.began + record.timeout + record.spread;
        if now > deadline + AFTER_DEADLINE {
            let late = now.saturating_sub(deadline);
            self.violated("I14", format!("settled {late:?} after the deadline"));
        }
        let Some(cancelled) = self.calls[call].cancelled_at else { return };
        if now > cancelled + AFTER_CANCEL {
            let late = now.saturating_sub(cancelled);
            self.violated("I14", format!("settled {late:?} after the caller's signal"));
        }
        let aborted = outcome.as_ref().is_err_and(|error| error.cause.code() == Code::Aborted);
        let reacted = undo_at.unwrap_or(now);
        if aborted
            && !self.calls[call].is_clearing
            && !self.calls[call].cancelled_in_undo
            && reacted > cancelled + ABORT
        {
            let late = reacted.saturating_sub(cancelled);
            self.violated("I14", format!("the undo began {late:?} after the caller's signal"));
        }
    }

    /// I11.
    fn check_success(&mut self, call: usize, done: &Provisioned, world: &World) {
        let id = done.server.id.0;
        let (job, agent) = (self.calls[call].job.clone(), self.calls[call].agent.clone());
        // What somebody at the console calls ready is his.
        let is_ready = |(other, server): &(&u64, &super::ServerRecord)| {
            server.alive
                && server.is_ready()
                && (!server.meddled || **other == id)
                && server.labels.get("provisioning_job_id") == Some(&job)
        };
        let ready = self.servers.iter().filter(is_ready).count();
        let meddled = self.servers.get(&id).is_some_and(|server| server.meddled);
        // Another agent's attempt at the job may stand beside it for as long as it takes to see that it came second.
        let is_other = |(other, server): &(&u64, &super::ServerRecord)| {
            let label = |key: &str| server.labels.get(key).map(String::as_str);
            server.alive
                && !server.meddled
                && **other != id
                && (label("provisioning_job_id"), label("agent_id")) == (Some(&job), Some(&agent))
        };
        let others: Vec<u64> = self.servers.iter().filter(is_other).map(|(id, _)| *id).collect();
        if !others.is_empty() && !meddled {
            self.violated("I11", format!("the call returned server {id}, and beside it there are {others:?}"));
        }
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
                let private = server.networks.first().map(|net| IpAddr::V4(net.ip));
                let ipv6 = server.ipv6.map(|net| IpAddr::V6(Ipv6Addr::from_bits(net.to_bits() | 1)));
                if server.ipv4.map(IpAddr::V4).or(ipv6).or(private) != Some(done.server_ip) {
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
        let record = &self.calls[call];
        if record.reach.is_some() && record.reached != Some(done.tailscale_ip) {
            self.violated("I11", format!("the call succeeded, and did not reach {}", done.tailscale_ip));
        }
        if !warns_of_keys(&done.warnings) {
            for key in self.usable_keys(call, world) {
                self.violated("I11", format!("key {key} of a call that succeeded is still usable"));
            }
        }
    }

    /// The usable keys that this call minted.
    fn usable_keys(&self, call: usize, world: &World) -> Vec<String> {
        let own = |id: &str| self.keys.get(id).is_some_and(|key| key.call == Some(call));
        world.keys().filter(|key| key.usable && own(key.id)).map(|key| key.id.to_owned()).collect()
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
        let undoes = record.undo_cause.clone().filter(|cause| !record.is_clearing && !yields(cause));
        if error.step == Step::Undo {
            self.violated("I16", format!("the error's step is the undo: {error}"));
        }
        if let Some(cause) = undoes.filter(|cause| *cause != error.to_string()) {
            self.violated("I16", format!("the undo began because of {cause:?}, and the error says {error}"));
        }
    }
}

/// Whether a call that succeeded has said that a key of its own may be left.
pub(super) fn warns_of_keys(warnings: &[String]) -> bool {
    warnings.iter().any(|warning| warning.contains("auth key") || warning.contains("auth_key"))
}

//! Watches a world and its callers, and holds every event against the invariants of `facts/faults.md` 3.
//!
//! A violation is a value. The ordinary tests panic on it when their world ends; the hunt for planted bugs reads it.
//!
//! `requests.rs` has the rules for what is sent, `dials.rs` for connections to machines, `changes.rs` for what happens,
//! `settlement.rs` for what a call says at its end, `leftovers.rs` for what it names and what nobody does, `cleanup.rs` for who
//! cleans up after a run, `secrets.rs` and `log.rs` for what must never be said at all.

mod call;
mod changes;
mod cleanup;
mod dials;
mod leftovers;
pub mod log;
mod requests;
mod secrets;
mod settlement;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use provision_vm::provision::{Event, Observer, Params, ReapOptions, ReapReport, Settings, Step};
use provision_vm::secret::Secret;
use provision_vm::tailscale::Credentials;
use simulator::{Config, World};

pub use call::Call;
use call::{Process, Reaps, Settled};
use changes::KeyRecord;
pub use changes::{DeviceRecord, ServerRecord};
use cleanup::Cleanup;
pub use leftovers::Thing;
pub use requests::{Counts, Sent};
pub use secrets::Kind as Canary;
use secrets::{Kind, Secrets};

use super::cloud::Shared;

/// From the caller's signal to the undo.
const ABORT: Duration = Duration::from_millis(100);

/// What must not be, and is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
    /// When, since the world began.
    pub at: Duration,
}

/// The record of one world.
#[derive(Debug)]
pub struct Audit {
    pub violations: Vec<Violation>,
    pub now: Duration,
    pub counts: Counts,
    epoch: i64,
    calls: Vec<Call>,
    processes: BTreeMap<u32, Process>,
    /// Whose an attempt is.
    attempts: BTreeMap<String, usize>,
    pub servers: BTreeMap<u64, ServerRecord>,
    keys: BTreeMap<String, KeyRecord>,
    pub devices: BTreeMap<String, DeviceRecord>,
    /// What each process was last shown of each server.
    shown: BTreeMap<(u32, u64), requests::Shown>,
    /// Servers as they were when a process asked for their deletion in a request that will be carried out later.
    late: BTreeMap<(u32, u64), ServerRecord>,
    /// How many times a process was shown a server since it last asked for its deletion, at most one for each of its calls.
    reads: BTreeMap<(u32, u64), u32>,
    /// The same for the next write of a server's labels, which a list may show as well.
    views: BTreeMap<(u32, u64), u32>,
    /// What a process was last shown of a server when it wrote its labels.
    basis: BTreeMap<(u32, u64), requests::Shown>,
    /// How often in a row a process was clearly told that a server is not there.
    absent: BTreeMap<(u32, u64), u32>,
    /// Which servers a process has asked to delete and was clearly told that it is done.
    accepted: BTreeSet<(u32, u64)>,
    /// Which servers a process has asked to delete, but those that were clearly refused.
    asked: BTreeSet<(u32, u64)>,
    /// Addresses, with their server.
    addresses: BTreeMap<u64, u64>,
    secrets: Secrets,
    trace: DefaultHasher,
    /// What the reapers reported.
    reports: Vec<ReapReport>,
    /// The clean-ups, in the order in which they began.
    cleanups: Vec<Cleanup>,
    /// No request removes anything, so whatever came to be and was named has to be there.
    pub deletes_never: bool,
    /// What the calls told, if anybody wants to read it.
    pub told: Option<Vec<(Duration, String)>>,
}

impl Audit {
    pub fn new(config: &Config) -> Self {
        let mut secrets = Secrets::default();
        secrets.add(Kind::HetznerToken, &config.hetzner.token);
        secrets.add(Kind::IssuerToken, &config.tailscale.issuer_token);
        for client in &config.tailscale.clients {
            secrets.add(Kind::OAuthSecret, &client.secret);
        }
        Self {
            violations: Vec::new(),
            now: Duration::ZERO,
            counts: Counts::default(),
            epoch: config.epoch,
            calls: Vec::new(),
            processes: BTreeMap::new(),
            attempts: BTreeMap::new(),
            servers: BTreeMap::new(),
            keys: BTreeMap::new(),
            devices: BTreeMap::new(),
            shown: BTreeMap::new(),
            late: BTreeMap::new(),
            reads: BTreeMap::new(),
            views: BTreeMap::new(),
            basis: BTreeMap::new(),
            absent: BTreeMap::new(),
            accepted: BTreeSet::new(),
            asked: BTreeSet::new(),
            addresses: BTreeMap::new(),
            secrets,
            trace: DefaultHasher::new(),
            reports: Vec::new(),
            cleanups: Vec::new(),
            deletes_never: false,
            told: None,
        }
    }

    /// A number for all that has happened: the same seed must leave the same.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub fn advance_to(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Takes over what has happened in the world.
    pub fn hear(&mut self, world: &mut World) {
        for change in world.take_changes() {
            change.hash(&mut self.trace);
            self.changed(change);
        }
    }

    /// A call begins.
    pub fn begin(&mut self, process: u32, params: &Params, settings: &Settings, waits: bool, now: Duration) -> usize {
        self.advance_to(now);
        self.secrets.add(Kind::HetznerToken, settings.hetzner_token.expose());
        match &settings.tailscale_credentials {
            Credentials::OAuth { client_secret, .. } => self.secrets.add(Kind::OAuthSecret, client_secret.expose()),
            Credentials::Federated { issuer_token, .. } => self.secrets.add(Kind::IssuerToken, issuer_token.expose()),
        }
        if let Some(key) = &settings.auth_key {
            self.secrets.add(Kind::GivenKey, key.expose());
        }
        if let Some(report) = &settings.report {
            self.secrets.add(Kind::ReportSecret, report.secret.expose());
        }
        self.processes.entry(process).or_default().begin(now);
        // The same job twice in one process is one flight, unless the first was given up. Who does not wait boards none.
        let shares = |call: &Call| {
            let is_flight = waits && call.waits && call.settled.is_none() && call.cancelled_at.is_none();
            is_flight && call.process == process && call.is_for(params)
        };
        if let Some(flight) = self.calls.iter().rposition(shares) {
            let call = &mut self.calls[flight];
            call.passengers += 1;
            if call.name.is_none() {
                call.spread = now.saturating_sub(call.began);
            }
            return flight;
        }
        self.calls.push(Call { waits, ..Call::new(process, params, settings, now) });
        let call = self.calls.len() - 1;
        self.note(|| format!("call {call} begins in process {process}"));
        call
    }

    /// The caller of a call has given up.
    pub fn cancelled(&mut self, call: usize, now: Duration) {
        self.advance_to(now);
        self.note(|| format!("call {call} is cancelled"));
        let call = &mut self.calls[call];
        if call.passengers == 1 {
            call.cancelled_at.get_or_insert(now);
            call.cancelled_in_undo = call.step == Step::Undo;
        }
        if let Some(process) = self.processes.get_mut(&call.process) {
            process.active_at = now;
        }
    }

    /// The process of a call is no more, or at least the call is.
    pub fn died(&mut self, call: usize) {
        self.note(|| format!("call {call} dies"));
        let call = &mut self.calls[call];
        call.passengers -= 1;
        if call.passengers == 0 {
            call.settled = Some(Settled::Died);
        }
        if let Some(process) = self.processes.get_mut(&call.process) {
            process.running -= 1;
        }
    }

    /// A reaper begins.
    pub fn begin_reap(&mut self, process: u32, options: ReapOptions, now: Duration) {
        self.advance_to(now);
        let process = self.processes.entry(process).or_default();
        process.begin(now);
        let grace = i64::try_from(options.grace.as_secs()).unwrap_or(i64::MAX);
        process.reaps = Some(Reaps { dry_run: options.dry_run, grace });
    }

    /// A reaper reports.
    pub fn reaped(&mut self, report: &ReapReport) {
        let said = format!("{report:?}");
        said.hash(&mut self.trace);
        self.note(|| format!("a reaper ends: {said}"));
        self.search("a reaper's report", said.as_bytes(), &[]);
        self.reports.push(report.clone());
    }

    /// A reaper has come to its end, or its process has.
    pub fn end_reap(&mut self, process: u32) {
        if let Some(process) = self.processes.get_mut(&process) {
            (process.running, process.reaps) = (process.running - 1, None);
        }
    }

    /// A call tells something.
    pub fn event(&mut self, call: usize, event: &Event) {
        (call, event.step, &event.message).hash(&mut self.trace);
        self.note(|| format!("call {call}: {}: {}", event.step.as_str(), event.message));
        self.search("an event", event.message.as_bytes(), &[]);
        let (now, name) = (self.now, event.known.server_name.as_deref());
        let call = &mut self.calls[call];
        if call.name.is_none() {
            call.name = name.map(str::to_owned);
            // It may have waited for a flight of the same job to land, and its time counts all the same.
            call.timeout = call.timeout.saturating_sub(now.saturating_sub(call.began));
            call.began = now;
        }
        // Its time begins when the budget lets it in.
        let (process, was_queued) = (call.process, std::mem::take(&mut call.is_queued));
        if was_queued {
            call.began = now;
        }
        call.is_queued = event.message.starts_with("Waiting for room in the project's request budget");
        call.step = event.step;
        // An attempt of its own begins.
        call.is_clearing &= event.step != Step::AuthKey && !event.message.starts_with("Undoing what was begun");
        // An attempt that yielded to another is undone, and the call goes on.
        if event.step != Step::Undo {
            (call.undo_at, call.undo_cause) = (None, None);
        }
        if event.step == Step::Undo && call.undo_at.is_none() {
            call.undo_at = Some(now);
            call.undo_cause = event.message.strip_prefix("Undoing what was begun: ").map(str::to_owned);
        }
        if event.message.starts_with("Removing what a dead attempt") {
            (call.took_over, call.is_clearing) = (true, true);
        }
        call.took_over |= event.message.starts_with("Going on with an attempt");
        if was_queued && let Some(process) = self.processes.get_mut(&process) {
            process.active_at = now;
        }
    }

    /// A call tells a secret, so that logs can mask it.
    pub fn told_secret(&mut self, text: &str) {
        if text.starts_with("pvb1.") {
            self.secrets.add(Kind::ReportToken, text);
        }
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let at = self.now;
        if let Some(told) = &mut self.told {
            told.push((at, text()));
        }
    }

    /// Notes a violation.
    pub fn violated(&mut self, invariant: &'static str, what: impl Into<String>) {
        let violation = Violation { invariant, what: what.into(), at: self.now };
        self.note(|| format!("VIOLATION {}: {}", violation.invariant, violation.what));
        self.violations.push(violation);
    }

    /// Looks for secrets in what was said, but for those that may stand there.
    pub(super) fn search(&mut self, place: &str, text: &[u8], allowed: &[Kind]) {
        self.counts.searched += 1;
        if let Some(kind) = self.secrets.find(text, allowed) {
            let shown = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
            self.violated("I06", format!("{kind:?} is in {place}: {shown}"));
        }
    }

    /// The kinds of secrets that there were.
    pub fn secret_kinds(&self) -> BTreeSet<Kind> {
        self.secrets.kinds().collect()
    }

    fn unix(&self) -> i64 {
        self.epoch + i64::try_from(self.now.as_secs()).unwrap_or(0)
    }

    /// The call of a process that works under this name, or whose job has this short hash.
    fn call_of(&self, process: u32, name: &str) -> Option<usize> {
        let is_it = |call: &Call| {
            call.process == process && call.name.as_deref().is_some_and(|own| own == name || own.ends_with(name))
        };
        self.calls.iter().rposition(is_it)
    }
}

/// Hears what a call tells, before its own observer does.
pub struct Listener {
    pub inner: Arc<dyn Observer>,
    pub shared: Weak<Shared>,
    pub call: usize,
}

impl Observer for Listener {
    fn event(&self, event: Event) {
        if let Some(shared) = self.shared.upgrade() {
            let mut audit = shared.audit();
            audit.advance_to(shared.now());
            audit.event(self.call, &event);
        }
        self.inner.event(event);
    }

    fn secret(&self, secret: &Secret) {
        if let Some(shared) = self.shared.upgrade() {
            shared.audit().told_secret(secret.expose());
        }
        self.inner.secret(secret);
    }
}

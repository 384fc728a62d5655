//! The rules for what happens in the world: I01, I02, I03, I10, and what appears after a call said that nothing would.

use std::collections::BTreeMap;
use std::time::Duration;

use provision_vm::provision::Kind as LeftKind;
use simulator::{Actor, Change, SecretKind, What};

use super::Audit;
use super::call::{Reaps, Settled};
use super::requests::Shown;
use super::secrets::Kind;
use super::settlement::warns_of_keys;

const TAG: &str = "tag:agent";
/// What is known of the cloud's time may be as old as the slowest answer.
const CLOCK_LAG: i64 = 40;
/// A delete comes no later than this after the read that speaks for it.
const LAST_READ: Duration = Duration::from_secs(45);
/// An attempt counts as dead this long after its deadline: 60 s to undo, 300 s for clocks.
const LIFE_BEYOND: i64 = 360;
/// A device counts as new if it is not older than the attempt by more than this.
const AGE_MARGIN: i64 = 300;

/// What is known of a server.
#[derive(Clone, Debug)]
pub struct ServerRecord {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// The call that made it; nobody if it was planted.
    pub maker: Option<usize>,
    pub made: Duration,
    pub alive: bool,
    pub removed_by: Option<Actor>,
    /// Somebody at the console has had a hand in it.
    pub meddled: bool,
    /// Its attempt is anybody's to finish who calls for its job: nobody waits for it.
    pub is_shared: bool,
}

impl ServerRecord {
    fn label(&self, key: &str) -> &str {
        self.labels.get(key).map(String::as_str).unwrap_or_default()
    }

    pub fn is_ready(&self) -> bool {
        self.label("state") == "ready"
    }

    fn is_dead(&self, unix: i64) -> bool {
        self.label("state") == "creating" && self.label("expires").parse().is_ok_and(|expires: i64| expires < unix)
    }
}

/// What is known of an auth key.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    pub call: Option<usize>,
    pub attempt: Option<String>,
    pub made: Duration,
    pub capable: bool,
    pub revoked: bool,
}

/// What is known of a device.
#[derive(Clone, Debug)]
pub struct DeviceRecord {
    pub server: Option<u64>,
    pub alive: bool,
    /// Somebody at the console removed it.
    pub meddled: bool,
    pub created: i64,
}

impl Audit {
    pub(super) fn changed(&mut self, change: Change) {
        self.now = self.now.max(change.at);
        let process = match change.by {
            // Whom nobody watches is as good as somebody at the console.
            Actor::Caller(0) | Actor::Operator | Actor::World => None,
            Actor::Caller(process) => Some(process),
        };
        match change.what {
            What::ServerMade { id, name, labels } => self.server_made(process, id, name, labels),
            What::ServerLabelled { id, name, after, .. } => self.server_labelled(process, id, name, after),
            What::ServerRemoved { id, .. } => self.server_removed(change.by, process, id),
            What::KeyMade { id, description, reusable, preauthorized, tags } => {
                self.key_made(process, &id, &description, &tags, !reusable && preauthorized);
            }
            What::KeyRevoked { id } => self.key_revoked(process, &id),
            What::KeyUsed { .. } => {}
            What::DeviceMade { node, server, created_unix, .. } => self.device_made(&node, server, created_unix),
            What::DeviceRemoved { node, hostname, tags, by_itself, .. } => {
                if let Some(device) = self.devices.get_mut(&node) {
                    device.meddled = process.is_none() && !by_itself;
                }
                self.device_removed(process, &node, &hostname, &tags);
            }
            What::PrimaryIpMade { id, server } => {
                self.addresses.insert(id, server);
            }
            What::PrimaryIpRemoved { id } => self.address_removed(process, id),
            What::SecretIssued { kind, text } => {
                let kind = match kind {
                    SecretKind::AccessToken => Kind::AccessToken,
                    SecretKind::AuthKey => Kind::AuthKey,
                    SecretKind::IdentityToken => Kind::IdentityToken,
                    SecretKind::RootPassword => Kind::RootPassword,
                };
                self.secrets.add(kind, &text);
            }
        }
    }

    fn server_made(&mut self, process: Option<u32>, id: u64, name: String, labels: BTreeMap<String, String>) {
        // A late order belongs to the call that sent it, not to the last one of that name.
        let by_attempt = labels.get("attempt").and_then(|attempt| self.attempts.get(attempt)).copied();
        let maker = process.and_then(|process| by_attempt.or_else(|| self.call_of(process, &name)));
        let is_shared = labels.get("resumable").is_some_and(|label| label == "yes");
        let meddled = process.is_none();
        let made = self.now;
        let record = ServerRecord { name, labels, maker, made, alive: true, removed_by: None, meddled, is_shared };
        if process.is_some() {
            self.check_new_server(&record);
        }
        self.servers.insert(id, record);
        let Some(maker) = maker else { return };
        let job = self.calls[maker].job.clone();
        self.check_sole(&job);
        self.came_of(maker, "a server");
        if self.calls[maker].has_denied(LeftKind::Server) {
            self.violated("I12", format!("server {id} appears after its call said that nothing was left"));
        }
    }

    fn check_new_server(&mut self, server: &ServerRecord) {
        for (key, value) in &server.labels {
            self.search("a label", key.as_bytes(), &[]);
            self.search("a label", value.as_bytes(), &[]);
        }
        self.search("a server's name", server.name.as_bytes(), &[]);
        let Some(maker) = server.maker else {
            return self.violated("I02", format!("server {} is made under a name that no call told", server.name));
        };
        let call = &self.calls[maker];
        let ours = [
            ("provisioning_job_id", call.job.as_str()),
            ("agent_id", &call.agent),
            ("managed_by", "provision-vm"),
            ("state", "creating"),
        ];
        let (waits, lifetime) = (call.waits, i64::try_from(call.lifetime.as_secs()).unwrap_or(i64::MAX));
        let missing = ours.iter().find(|(key, value)| server.label(key) != *value).map(|(key, _)| *key);
        let (began, timeout, spread) = (call.began, call.timeout, call.spread.as_secs());
        if let Some(key) = missing {
            self.violated("I18", format!("a new server's label {key} is not right: {:?}", server.labels));
        }
        if server.is_shared == waits {
            self.violated("I18", format!("whether anybody may finish a new server is not right: {:?}", server.labels));
        }
        let unix = |at: Duration| self.epoch + i64::try_from(at.as_secs()).unwrap_or(0);
        let started = server.label("attempt_started").parse().unwrap_or(0);
        let expires = server.label("expires").parse().unwrap_or(0);
        let earliest = unix(began) - CLOCK_LAG;
        // Of a call that does not wait, it counts from the attempt.
        let due = if waits { unix(began + timeout) } else { started + lifetime } + LIFE_BEYOND;
        if !(earliest..=self.unix() + 2).contains(&started) {
            self.violated("I10", format!("attempt_started {started} is not the cloud's time ({})", self.unix()));
        }
        if !(due - CLOCK_LAG..=due.saturating_add_unsigned(spread) + 5).contains(&expires) {
            self.violated("I10", format!("expires {expires} is not the end of the attempt ({due})"));
        }
    }

    /// I01: of one job and agent one server, and of one job one that is ready.
    fn check_sole(&mut self, job: &str) {
        let of_job = |server: &&ServerRecord| {
            server.alive && !server.meddled && server.maker.is_some_and(|maker| self.calls[maker].job == job)
        };
        let servers: Vec<&ServerRecord> = self.servers.values().filter(of_job).collect();
        let ready = servers.iter().filter(|server| server.is_ready()).count();
        let same = servers
            .iter()
            .enumerate()
            .any(|(at, server)| servers[..at].iter().any(|other| other.label("agent_id") == server.label("agent_id")));
        if same {
            self.violated("I01", format!("job {job} has {} servers", servers.len()));
        } else if ready > 1 {
            self.violated("I01", format!("job {job} has {ready} ready servers"));
        }
    }

    fn server_labelled(&mut self, process: Option<u32>, id: u64, name: String, after: BTreeMap<String, String>) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let before = std::mem::replace(&mut server.labels, after);
        let renamed = std::mem::replace(&mut server.name, name) != server.name;
        let Some(process) = process else {
            server.meddled = true;
            return;
        };
        let server = server.clone();
        // Nothing binds a write to the read before it, so what somebody at the console writes between the two is lost. Then
        // what was read is what counts.
        let basis = self.basis.get(&(process, id)).filter(|_| server.meddled).cloned();
        let (name, before) = basis.map_or((server.name.clone(), before), |shown| (shown.name, shown.labels));
        let mut expected = before.clone();
        expected.remove("expires");
        expected.remove("resumable");
        expected.insert("state".to_owned(), "ready".to_owned());
        expected.extend(server.labels.get("node_id").map(|node| ("node_id".to_owned(), node.clone())));
        if renamed || server.labels != expected {
            self.violated("I02", format!("server {id} is relabelled: {before:?} to {:?}", server.labels));
        }
        let was = ServerRecord { name, labels: before, ..server };
        let unix = self.unix();
        let ours = self.owns(process, &was);
        let taken_over = (was.is_dead(unix) || was.is_shared) && self.serves(process, &was);
        if !(ours || taken_over || was.is_ready()) {
            self.violated("I03", format!("server {id} of another attempt is marked ready"));
        }
        let of_it = |device: &DeviceRecord| device.server == Some(id) && (device.alive || device.meddled);
        let joined = self.devices.values().any(of_it);
        if !(joined || was.is_ready() || was.meddled) {
            self.violated("I11", format!("server {id} is marked ready, but its machine is not in the tailnet"));
        }
        if let Some(job) = was.maker.map(|maker| self.calls[maker].job.clone()) {
            self.check_sole(&job);
        }
    }

    /// Whether a server carries an attempt that a call of this process minted.
    pub(super) fn owns(&self, process: u32, server: &ServerRecord) -> bool {
        self.attempts.get(server.label("attempt")).is_some_and(|call| self.calls[*call].process == process)
    }

    /// Whether a call of this process is about this server's job, agent and name; a reaper is about all.
    fn serves(&self, process: u32, server: &ServerRecord) -> bool {
        if self.reaps(process).is_some_and(|reaps| !reaps.dry_run) {
            return server.label("managed_by") == "provision-vm";
        }
        server.label("managed_by") == "provision-vm"
            && self.calls.iter().any(|call| {
                call.process == process
                    && call.job == server.label("provisioning_job_id")
                    && call.agent == server.label("agent_id")
                    && call.name.as_ref() == Some(&server.name)
            })
    }

    fn has_ended(&self, process: u32) -> bool {
        self.processes.get(&process).is_some_and(|process| process.running == 0)
    }

    pub(super) fn reaps(&self, process: u32) -> Option<Reaps> {
        self.processes.get(&process).and_then(|process| process.reaps)
    }

    fn server_removed(&mut self, by: Actor, process: Option<u32>, id: u64) {
        let unix = self.unix();
        let Some(server) = self.servers.get_mut(&id) else { return };
        (server.alive, server.removed_by) = (false, Some(by));
        let Some(process) = process else {
            server.meddled = true;
            return;
        };
        let mut server = server.clone();
        // What is carried out minutes after its sender has ended can only have been right when it was sent.
        if let Some(then) = self.late.get(&(process, id)).filter(|_| self.has_ended(process)) {
            server = ServerRecord { removed_by: server.removed_by, ..then.clone() };
        }
        // Nothing binds a delete to the read before it, so a label that somebody writes between the two is not seen, nor one
        // that a read does not show yet. Then what was read is what counts.
        let fresh = |shown: &&Shown| server.meddled && self.now.saturating_sub(shown.at) < LAST_READ;
        if let Some(shown) = self.shown.get(&(process, id)).filter(fresh) {
            (server.name, server.labels) = (shown.name.clone(), shown.labels.clone());
        }
        if let Some(cleanup) = self.cleans_up(process).cloned() {
            return self.check_cleaning(&cleanup, id, &server);
        }
        if !self.serves(process, &server) {
            self.violated("I02", format!("server {id} is deleted and was not the job's: {:?}", server.labels));
        } else if server.is_ready() {
            self.violated("I03", format!("server {id} is deleted and was ready"));
        } else if !self.owns(process, &server) && !server.is_dead(unix) && !server.is_shared {
            self.violated("I03", format!("server {id} of another living attempt is deleted"));
        }
        let Some(reaps) = self.reaps(process) else { return };
        let joined = self.devices.values().any(|device| device.server == Some(id) && device.alive);
        if !server.is_dead(unix - reaps.grace) {
            self.violated("I03", format!("server {id} is reaped within the grace period"));
        } else if joined {
            self.violated("I03", format!("server {id} is reaped though its machine is in the tailnet"));
        }
    }

    fn key_made(&mut self, process: Option<u32>, id: &str, description: &str, tags: &[String], is_plain: bool) {
        let attempt = description.strip_prefix("provision-vm ").and_then(|rest| rest.split(' ').next_back());
        let attempt = attempt.filter(|_| process.is_some()).map(str::to_owned);
        let call = attempt.as_ref().and_then(|attempt| self.attempts.get(attempt)).copied();
        self.search("a key's description", description.as_bytes(), &[]);
        let capable = is_plain && call.map_or_else(|| tags == [TAG], |call| tags == self.calls[call].tags);
        if process.is_some() && (!capable || call.is_none()) {
            self.violated("I04", format!("key {id} ({description}) is not the single-use, tagged key of an attempt"));
        }
        self.keys.insert(id.to_owned(), KeyRecord { call, attempt, made: self.now, capable, revoked: false });
        let Some(call) = call else { return };
        self.came_of(call, "a key");
        match &self.calls[call].settled {
            Some(Settled::Badly { .. }) if self.calls[call].has_denied(LeftKind::AuthKey) => {
                self.violated("I12", format!("key {id} appears after its call said that nothing was left"));
            }
            Some(Settled::Well { warnings }) if !warns_of_keys(warnings) => {
                self.violated("I11", format!("key {id} appears after its call succeeded without a word of it"));
            }
            _ => {}
        }
    }

    fn key_revoked(&mut self, process: Option<u32>, id: &str) {
        let Some(key) = self.keys.get_mut(id) else { return };
        key.revoked = true;
        let Some(process) = process else { return };
        let call = key.call;
        if let Some(cleanup) = self.cleans_up(process).cloned() {
            return self.check_key_cleaning(&cleanup, id, call);
        }
        let own = call.is_some_and(|call| self.calls[call].process == process);
        // The key of a dead attempt goes with its server, and that of one that anybody may finish with whoever does.
        let unix = self.unix();
        let may_end = |server: &ServerRecord| server.is_dead(unix) || server.is_shared;
        let of_other = self.servers.values().any(|server| {
            server.label("auth_key") == id && may_end(server) && (server.meddled || self.serves(process, server))
        });
        if !own && !of_other {
            self.violated("I02", format!("key {id} is revoked, but nobody here minted it"));
        }
    }

    fn device_made(&mut self, node: &str, server: Option<u64>, created: i64) {
        self.devices.insert(node.to_owned(), DeviceRecord { server, alive: true, meddled: false, created });
        let Some(server) = server.and_then(|id| self.servers.get(&id)).filter(|server| !server.alive).cloned() else {
            return;
        };
        self.check_late_device(node, &server);
        let Some(call) = server.maker else { return };
        if self.calls[call].has_denied(LeftKind::Device) && self.calls[call].has_denied(LeftKind::Server) {
            self.violated("I12", format!("device {node} appears after its call said that nothing was left"));
        }
    }

    fn device_removed(&mut self, process: Option<u32>, node: &str, hostname: &str, tags: &[String]) {
        let Some(device) = self.devices.get_mut(node) else { return };
        device.alive = false;
        let device = device.clone();
        let Some(process) = process else { return };
        let by = Actor::Caller(process);
        // Whoever asked without hearing a clear answer cannot know that another one's asking was faster.
        let asked = |id: &u64, server: &ServerRecord| !server.alive && self.asked.contains(&(process, *id));
        let deleted = |(id, server): &(&u64, &ServerRecord)| {
            server.name == hostname && (server.removed_by == Some(by) || asked(id, server))
        };
        let since = |server: &ServerRecord| server.label("attempt_started").parse::<i64>().unwrap_or(i64::MAX);
        let why = if !tags.iter().any(|tag| tag == TAG) {
            Some("it has not our tag")
        } else if device.server.is_none() {
            Some("it is no server's machine")
        } else if !self.servers.iter().any(|server| deleted(&server)) {
            Some("no server of its name was deleted by this process")
        } else if !self.servers.iter().any(|it| deleted(&it) && device.created > since(it.1) - AGE_MARGIN) {
            Some("it is older than the attempt")
        } else if device.server.and_then(|id| self.servers.get(&id)).is_some_and(|server| server.alive) {
            Some("it is the machine of a server that stands")
        } else {
            None
        };
        if let Some(why) = why {
            self.violated("I02", format!("device {node} is deleted, but {why}"));
        }
    }

    fn address_removed(&mut self, process: Option<u32>, id: u64) {
        let server = self.addresses.remove(&id);
        let Some(process) = process else { return };
        let server = server.and_then(|server| self.servers.get(&server));
        // Those of a dead attempt's server may be the customer's, whoever removed the server (design 6, rule 5).
        let maker = server.and_then(|server| server.maker);
        let ours = maker.is_some_and(|maker| self.calls[maker].process == process);
        if !ours {
            self.violated("I02", format!("primary IP {id} is deleted and did not come with a server of this process"));
        }
    }
}

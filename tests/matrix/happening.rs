//! Faults of meaning: every answer is well formed, and what it says is the trouble. Actions that fail, machines that do
//! not join, devices that are not ours, operators who meddle, clocks that are wrong, undos that do not work.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use provision_vm::provision::{Code, Kind};
use simulator::{ActionOutcome, Api, BootOutcome, Config, FaultKind, PlantedDevice, PlantedServer};
use tokio::time::sleep;

use crate::form::refusal;
use crate::scenario::{Call, Ending, Scenario, Stage, steady};
use crate::support::{Cloud, labels};
use crate::wire::{Aim, Mishap, Plan};
use crate::{judge, pool};

/// One story with a fault of meaning.
#[derive(Clone)]
pub struct Happening {
    pub row: &'static str,
    pub name: &'static str,
    /// How the world differs.
    config: fn(&mut Config),
    scenario: Scenario,
    timeout: Duration,
    plan: Plan,
    /// What others do, and when (milliseconds).
    acts: Vec<(u64, Act)>,
    /// The code, or nothing for success.
    pub end: Option<Code>,
    /// What the error must name.
    pub left: Vec<Kind>,
}

/// What somebody else does.
#[derive(Clone, Copy)]
enum Act {
    /// An operator deletes the server.
    DeleteServer,
    /// An operator protects the server against deletion.
    Protect,
    /// An operator changes a label of the server.
    Relabel(&'static str, &'static str),
    /// A device of the server's name comes into the tailnet: with our tag or without, made so long ago.
    Device { tagged: bool, connected: bool, age: i64 },
    /// A server of the job's name appears that is not ours.
    TakeName,
    /// Our machine sleeps for so many seconds.
    Suspend(u64),
    /// The world changes its ways.
    Configure(fn(&mut Config)),
}

pub struct Seen {
    pub row: &'static str,
    pub name: &'static str,
    pub code: Option<Code>,
    pub left: Vec<Kind>,
    pub wrong: Vec<String>,
}

fn story(row: &'static str, name: &'static str, config: fn(&mut Config)) -> Happening {
    let (scenario, timeout, plan, acts) = (Scenario::Succeeds, Duration::from_secs(90), Vec::new(), Vec::new());
    Happening { row, name, config, scenario, timeout, plan, acts, end: None, left: Vec::new() }
}

impl Happening {
    fn ends(self, code: Code) -> Self {
        Self { end: Some(code), ..self }
    }

    fn leaves(self, kinds: &[Kind]) -> Self {
        Self { left: kinds.to_vec(), ..self }
    }

    fn act(mut self, at: u64, act: Act) -> Self {
        self.acts.push((at, act));
        self
    }

    fn with(mut self, aim: Aim, mishap: Option<Mishap>) -> Self {
        self.plan.push((aim, mishap.unwrap()));
        self
    }

    fn within(self, seconds: u64) -> Self {
        Self { timeout: Duration::from_secs(seconds), ..self }
    }
}

fn every(operation: &str) -> Aim {
    Aim::Every(operation.to_owned())
}

/// No device is approved yet.
#[expect(clippy::unnecessary_wraps, reason = "one shape for all mishaps")]
fn unapproved() -> Option<Mishap> {
    Some(Mishap::Twist(|body| {
        for device in body["devices"].as_array_mut().into_iter().flatten() {
            device["authorized"] = false.into();
        }
    }))
}

fn never_joins(config: &mut Config) {
    config.machine.boot = BootOutcome::NeverJoins;
}

fn usual(_: &mut Config) {}

fn failing() -> ActionOutcome {
    ActionOutcome::Error { code: "action_failed".into(), message: "Action failed".into() }
}

/// All of them.
pub fn all_stories() -> Vec<Happening> {
    use Act::{Configure, DeleteServer, Device, Protect, Relabel, Suspend, TakeName};
    vec![
        story("G15", "an operator deletes the server during the wait", never_joins)
            .act(20_000, DeleteServer)
            .within(600)
            .ends(Code::Superseded),
        story("G32", "reads show a new server 5 s late", |c| c.hetzner.stale_created_seconds = 5.0),
        story("G32", "reads show a deleted server for 5 s more", |c| {
            never_joins(c);
            c.hetzner.stale_deleted_seconds = 5.0;
        })
        .ends(Code::EnrollTimeout),
        story("G33", "others have used the project's requests up", |c| c.hetzner.rate_remaining = Some(2.0)),
        story("P06", "the order is carried out 12 s after it was given up", usual)
            .with(Aim::At(5), Some(Mishap::Fault(FaultKind::ResetThenApply { after_ms: 12_000 })))
            .within(3)
            .ends(Code::Deadline),
        story("P06", "the order is carried out long after everything is over", usual)
            .with(Aim::At(5), Some(Mishap::Fault(FaultKind::ResetThenApply { after_ms: 900_000 })))
            .within(3)
            .ends(Code::Deadline)
            .leaves(&[Kind::Server]),
        story("P18", "the name is taken by a server that is not ours, between look-up and order", usual)
            .act(290, TakeName)
            .ends(Code::NameConflict),
        story("P33", "the first order is carried out after the second one's server is gone", |c| {
            c.hetzner.create_action = failing();
        })
        .with(Aim::At(5), Some(Mishap::Fault(FaultKind::ResetThenApply { after_ms: 14_000 })))
        .ends(Code::ActionFailed),
        story("T05", "the access token ends during the call", usual)
            .with(every("tailscale POST /oauth/token"), Some(Mishap::Twist(|body| body["expires_in"] = 3.into()))),
        story("K03", "the order of a key gets no answer, and keys may not be listed", usual)
            .with(Aim::At(4), Some(Mishap::Fault(FaultKind::ResetAfterApply)))
            .with(every("tailscale GET /tailnet/-/keys"), refusal(Api::Tailscale, 403, "")),
        story("K08", "a machine that joins just before the deadline", |c| c.machine.join_seconds = 60.0),
        story("M01", "the create action fails", |c| c.hetzner.create_action = failing()).ends(Code::ActionFailed),
        story("M02", "the start action fails", |c| c.hetzner.start_action = failing()).ends(Code::ActionFailed),
        story("M03", "the create action never ends", |c| c.hetzner.create_action = ActionOutcome::Never)
            .ends(Code::ActionTimeout),
        story("M05", "the actions succeed, and the server stays off", never_joins)
            .with(
                every("hetzner GET /servers"),
                Some(Mishap::Twist(|body| {
                    for server in body["servers"].as_array_mut().into_iter().flatten() {
                        server["status"] = "off".into();
                    }
                })),
            )
            .within(600)
            .ends(Code::ActionFailed),
        story("M07", "the machine never joins", never_joins).ends(Code::EnrollTimeout),
        story("M07", "the machine never boots", |c| c.machine.boot = BootOutcome::NeverBoots).ends(Code::EnrollTimeout),
        story("M08", "the device shows just before the deadline", usual).within(26),
        story("M08", "the device shows just after the deadline", usual).within(25).ends(Code::EnrollTimeout),
        story("M09", "a machine joined and shows in no list yet when it is undone", |c| {
            c.tailscale.visibility_seconds = 8.0;
        })
        .within(28)
        .ends(Code::EnrollTimeout),
        story("M09", "a machine joined and never shows", |c| c.tailscale.visibility_seconds = 1e6)
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Device]),
        story("M10", "the device is never approved", |c| c.tailscale.never_authorized = true)
            .ends(Code::EnrollRejected),
        (32..40).fold(story("M10", "the device is approved some seconds after it shows", usual), |story, index| {
            story.with(Aim::At(index), unapproved())
        }),
        story("M11", "the device has another tag", |c| c.tailscale.device_tags = Some(vec!["tag:other".into()]))
            .ends(Code::EnrollRejected)
            .leaves(&[Kind::Device]),
        story("M11", "the device has our tag and another", |c| {
            c.tailscale.device_tags = Some(vec!["tag:other".into(), "tag:agent".into()]);
        }),
        story("M12", "a stale device of the same name", usual)
            .act(0, Device { tagged: true, connected: true, age: 86_400 }),
        story("M12", "a young device of the same name that was there before", usual)
            .act(0, Device { tagged: true, connected: true, age: 10 }),
        story("M13", "an impostor of the same name, without our tag", usual)
            .act(5_000, Device { tagged: false, connected: true, age: 0 }),
        story("M14", "two new devices of our name and tag", usual)
            .act(24_950, Device { tagged: true, connected: true, age: 0 })
            .ends(Code::EnrollAmbiguous)
            .leaves(&[Kind::Device]),
        story("M15", "the device's name in the tailnet gets a suffix, since another has it", usual)
            .act(0, Device { tagged: false, connected: false, age: 86_400 }),
        story("M16", "the device has an IPv6 address only", |c| c.tailscale.ipv6_only = true)
            .ends(Code::EnrollRejected),
        story("M16", "the device's address is outside the tailnet's range", |c| {
            c.tailscale.device_addresses = Some(vec!["203.0.113.77".into()]);
        })
        .ends(Code::EnrollRejected),
        story("M18", "the device is connected 20 s after it shows", |c| c.tailscale.connected_after_seconds = 20.0),
        story("M18", "the device never connects", |c| c.tailscale.connected_after_seconds = 1e6)
            .ends(Code::EnrollTimeout),
        story("M19", "tailnet lock refuses the device", |c| c.tailscale.device_lock_error = "no signature".into())
            .ends(Code::EnrollRejected),
        story("M22", "the mark ready can never be written", usual)
            .with(every("hetzner PUT /servers/*"), refusal(Api::Hetzner, 503, "unavailable"))
            .ends(Code::Upstream),
        story("M23", "the spent key cannot be revoked", usual)
            .with(every("tailscale DELETE /tailnet/-/keys/*"), refusal(Api::Tailscale, 403, "")),
        story("M24", "addresses outlive their server", |c| {
            never_joins(c);
            c.hetzner.primary_ips_auto_delete = false;
        })
        .ends(Code::EnrollTimeout),
        story("M25", "an operator protects the server against deletion", never_joins)
            .act(20_000, Protect)
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Server]),
        story("X01", "deletes fail until the time for the undo ends", never_joins)
            .with(every("hetzner DELETE /servers/*"), refusal(Api::Hetzner, 503, "unavailable"))
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Server]),
        story("X03", "a deleted server still shows for 10 s", |c| {
            never_joins(c);
            c.hetzner.stale_deleted_seconds = 10.0;
        })
        .ends(Code::EnrollTimeout),
        story("X04", "the server is locked while its create action runs", |c| {
            c.hetzner.locked_while_creating = true;
            c.hetzner.create_seconds = (20.0, 20.0);
        })
        .within(5)
        .ends(Code::ActionTimeout),
        story("X06", "the token of Hetzner is revoked before the undo", never_joins)
            .act(30_000, Configure(|c| c.hetzner.token = "another".into()))
            .within(60)
            .ends(Code::AuthHetzner)
            .leaves(&[Kind::Server]),
        story("X09", "the device cannot be removed", usual)
            .with(every("tailscale DELETE /device/*"), refusal(Api::Tailscale, 503, ""))
            .with(every("hetzner PUT /servers/*"), refusal(Api::Hetzner, 422, "invalid_input"))
            .ends(Code::Protocol)
            .leaves(&[Kind::Device]),
        story("X12", "an undo panics, and the others still run", never_joins)
            .with(every("hetzner DELETE /servers/*"), Some(Mishap::Panic { applied: false }))
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Server]),
        story("X13", "the job fails and so does its undo: the first cause is told", |c| {
            c.hetzner.create_action = failing();
        })
        .with(every("hetzner DELETE /servers/*"), refusal(Api::Hetzner, 403, "forbidden"))
        .ends(Code::ActionFailed)
        .leaves(&[Kind::Server]),
        story("X14", "somebody changed the attempt's label", never_joins)
            .act(20_000, Relabel("attempt", "another"))
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Server]),
        story("X14", "somebody took the server over by its labels", never_joins)
            .act(20_000, Relabel("managed_by", "somebody"))
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Server]),
        story("X15", "no request is left in the bucket for the undo", never_joins)
            .act(39_000, Configure(|c| c.hetzner.rate_limit = 1))
            .within(40)
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Server]),
        story("X16", "the time for the undo ends", never_joins)
            .with(every("hetzner GET /servers/*"), Some(Mishap::Fault(FaultKind::HangBeforeApply)))
            .within(40)
            .ends(Code::EnrollTimeout)
            .leaves(&[Kind::Server]),
        story("Z01", "our clock is ten years behind the cloud's", |c| c.epoch += 315_360_000),
        story("Z01", "our clock is ten years ahead of the cloud's", |c| c.epoch -= 315_360_000),
        story("Z01", "our clock is an hour behind the cloud's", |c| c.epoch += 3_600),
        story("Z03", "our machine sleeps for half an hour during the wait", never_joins)
            .act(20_000, Suspend(1_800))
            .ends(Code::EnrollTimeout),
        story("Z04", "the machine's clock is wrong, and it joins late", |c| c.machine.join_seconds = 45.0),
        story("Z05", "the year 2039", |c| c.epoch = 2_180_000_000),
    ]
}

pub fn all() -> &'static [Seen] {
    static ALL: OnceLock<Vec<Seen>> = OnceLock::new();
    ALL.get_or_init(|| pool::run(&all_stories(), |story| Box::pin(run(story.clone()))))
}

async fn run(story: Happening) -> Seen {
    let mut config = steady();
    (story.config)(&mut config);
    let mut stage = Stage::set_with(story.scenario, config).await;
    stage.settings.timeout = story.timeout;
    let name = crate::scenario::server_name().await;
    // What is there from the beginning is not the call's.
    let (before, during): (Vec<_>, Vec<_>) = story.acts.iter().copied().partition(|(at, _)| *at == 0);
    for (_, act) in before {
        perform(&stage.cloud, act, &name).await;
    }
    stage.before = stage.cloud.truth();
    let cloud = stage.cloud.clone();
    let strangers = Mutex::new(Vec::new());
    let acts = async {
        let mut now = 0;
        for (at, act) in during {
            sleep(Duration::from_millis(at - now)).await;
            now = at;
            let stranger = perform(&cloud, act, &name).await;
            strangers.lock().unwrap().extend(stranger);
        }
        std::future::pending::<()>().await;
    };
    let call = tokio::select! {
        biased;
        call = stage.call(story.plan.clone(), Ending::None) => call,
        () = acts => unreachable!(),
    };
    let mut wrong = judge(&story, &stage, &call).await;
    let truth = stage.cloud.truth().0.to_string();
    wrong.extend(
        strangers
            .into_inner()
            .unwrap()
            .iter()
            .filter(|id| !truth.contains(id.as_str()))
            .map(|id| format!("what somebody else has put there is gone: {id}")),
    );
    wrong.extend(stage.broken());
    let mut left: Vec<Kind> =
        call.error().map(|error| error.leftovers.iter().map(|left| left.kind).collect()).unwrap_or_default();
    left.sort();
    left.dedup();
    Seen { row: story.row, name: story.name, code: call.code(), left, wrong }
}

async fn judge(story: &Happening, stage: &Stage, call: &Call) -> Vec<String> {
    let mut wrong = call.misfires.clone();
    // An operator's things are not the call's to name; these stories say themselves what must be left.
    let is_meddled =
        story.acts.iter().any(|(_, act)| matches!(act, Act::Device { .. } | Act::TakeName | Act::Suspend(_)));
    if is_meddled {
        wrong.extend(judge::spared(&stage.before, &call.after));
    } else {
        wrong.extend(judge::inspect(stage, call));
    }
    if let Some(Ok(done)) = call.outcome.as_ref().filter(|_| is_meddled) {
        // Whoever else claims the name, the result is the machine of the job's own server.
        let machine = call.after.servers().iter().find(|server| server["id"] == done.server.id.0).cloned();
        if machine.is_none_or(|server| server["node"] != done.node_id.as_str()) {
            wrong.push(format!("device {} is not the machine of server {}", done.node_id, done.server.id));
        }
    }
    let why = call.error().map(|error| (error.to_string(), error.causes(), &error.leftovers));
    if call.code() != story.end || call.outcome.is_none() {
        wrong.push(format!("ended with {:?} instead of {:?}: {why:?} {:?}", call.code(), story.end, call.escaped));
    }
    let mut kinds: Vec<Kind> =
        call.error().map(|error| error.leftovers.iter().map(|left| left.kind).collect()).unwrap_or_default();
    // The addresses of a server that is left are left with it.
    kinds.retain(|kind| story.left.contains(kind) || *kind != Kind::PrimaryIp);
    kinds.sort();
    kinds.dedup();
    if kinds != story.left {
        wrong.push(format!("names {kinds:?} instead of {:?}: {why:?}", story.left));
    }
    if story.row == "M14" || story.row == "P18" {
        // The stranger's server or device is still there, and nothing else.
        let truth = stage.cloud.truth();
        if truth.servers().len() + truth.devices().len() != 1 {
            wrong.push(format!("not one stranger is left: {}", truth.0));
        }
    }
    // What may still be carried out is either undone by now or was named.
    sleep(Duration::from_secs(30)).await;
    if let Some(error) = call.error().filter(|_| !is_meddled) {
        wrong.extend(judge::leftovers_exact(stage, call, &stage.cloud.truth(), error));
    }
    wrong
}

/// Does it, and returns the id of what was put into the world.
async fn perform(cloud: &Cloud, act: Act, name: &str) -> Option<String> {
    let server = || cloud.truth().servers().first().cloned().unwrap();
    match act {
        Act::DeleteServer => {
            let id = server()["id"].as_u64().unwrap();
            cloud.world().remove_server(id);
        }
        Act::Protect => {
            let id = server()["id"].as_u64().unwrap();
            cloud.world().touch_server(id, None, Some(true));
        }
        Act::Relabel(label, value) => {
            let server = server();
            let mut labels: std::collections::BTreeMap<String, String> =
                serde_json::from_value(server["labels"].clone()).unwrap();
            labels.insert(label.to_owned(), value.to_owned());
            cloud.world().touch_server(server["id"].as_u64().unwrap(), Some(labels), None);
        }
        Act::Device { tagged, connected, age } => {
            let tags = if tagged { vec!["tag:agent".to_owned()] } else { Vec::new() };
            let created = (age > 0).then(|| steady().epoch - age);
            let device =
                PlantedDevice { hostname: name.to_owned(), tags, connected, created, ..PlantedDevice::default() };
            return Some(cloud.world().plant_device(device).0);
        }
        Act::TakeName => {
            let server = PlantedServer { name: name.to_owned(), labels: labels(&[]), ..PlantedServer::default() };
            return Some(cloud.world().plant_server(server).to_string());
        }
        Act::Suspend(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
        Act::Configure(change) => cloud.world().configure(change),
    }
    None
}

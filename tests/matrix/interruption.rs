//! Interruptions between any two events of a call: its caller gives up, its process dies, its own transport panics.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use provision_vm::provision::{CancellationToken, Certainty, Code, Leftover, ReapOptions, Silent};
use simulator::BootOutcome;
use tokio::time::sleep;

use crate::role::Role;
use crate::scenario::{Call, Ending, LONG_DEAD, Scenario, Stage};
use crate::single::calm;
use crate::wire::{Aim, Mishap};
use crate::{judge, pool};

/// The stories that are interrupted. The others differ from these in single requests only.
const STORIES: [Scenario; 6] = [
    Scenario::Succeeds,
    Scenario::NeverJoins,
    Scenario::Follows,
    Scenario::TakesOver,
    Scenario::TakesJoined,
    Scenario::Returned,
];

/// How long after the caller has given up the undo must have begun.
const ABORT_MS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A: the caller gives up.
    Abort,
    /// Z: the process dies, and the job is called again when its attempt counts as dead.
    DeathThenCall,
    /// Z: the process dies, and the reaper comes when its attempt counts as dead.
    DeathThenReap,
    /// N: a panic in our own transport.
    Panic,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Abort, Self::DeathThenCall, Self::DeathThenReap, Self::Panic];

    pub fn words(self) -> &'static str {
        match self {
            Self::Abort => "the caller gives up",
            Self::DeathThenCall => "the process dies; the job is called again after its expiry",
            Self::DeathThenReap => "the process dies; one `reap` after its expiry",
            Self::Panic => "a panic in our own transport",
        }
    }
}

#[derive(Clone, Copy)]
pub struct Case {
    pub scenario: Scenario,
    pub kind: Kind,
    /// Milliseconds since the call began; for a panic twice the request's number, odd with its answer in hand.
    at: u64,
}

pub struct Seen {
    pub case: Case,
    pub code: Option<Code>,
    /// From the caller's giving up to the undo, or to the end.
    pub reaction: Option<u64>,
    pub wrong: Vec<String>,
}

impl Case {
    pub fn name(&self) -> String {
        let Self { scenario, kind, at } = self;
        match kind {
            Kind::Panic => {
                let when = if at % 2 == 0 { "before it is sent" } else { "with its answer in hand" };
                let index = usize::try_from(at / 2).unwrap();
                let operation = &calm(*scenario).operations[index];
                format!("a panic at request {index} ({operation}) {when} of {scenario:?}")
            }
            _ => format!("{kind:?} at {at} ms of {scenario:?}"),
        }
    }
}

/// Just after every event, and in the middle of any two.
fn instants(scenario: Scenario) -> Vec<u64> {
    let events = &calm(scenario).instants;
    let middles = events.windows(2).map(|pair| u64::midpoint(pair[0], pair[1]));
    let mut instants: Vec<u64> = events.iter().map(|at| at + 1).chain(middles).collect();
    instants.sort_unstable();
    instants.dedup();
    instants.retain(|at| *at < calm(scenario).length);
    instants
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for scenario in STORIES {
        for kind in [Kind::Abort, Kind::DeathThenCall, Kind::DeathThenReap] {
            cases.extend(instants(scenario).into_iter().map(|at| Case { scenario, kind, at }));
        }
        let requests = u64::try_from(calm(scenario).operations.len()).unwrap();
        cases.extend((0..2 * requests).map(|at| Case { scenario, kind: Kind::Panic, at }));
    }
    cases
}

pub fn all() -> &'static [Seen] {
    static ALL: OnceLock<Vec<Seen>> = OnceLock::new();
    ALL.get_or_init(|| pool::run(&cases(), |case| Box::pin(run(*case))))
}

async fn run(case: Case) -> Seen {
    let stage = Stage::set(case.scenario).await;
    let at = Duration::from_millis(case.at);
    let mut seen = match case.kind {
        Kind::Abort => abort(&case, &stage, &stage.call(Vec::new(), Ending::Cancel(at)).await),
        Kind::DeathThenCall | Kind::DeathThenReap => {
            let call = stage.call(Vec::new(), Ending::Death(at)).await;
            death(case, &stage, &call).await
        }
        Kind::Panic => {
            let (index, applied) = (usize::try_from(case.at / 2).unwrap(), case.at % 2 == 1);
            let call = stage.call(vec![(Aim::At(index), Mishap::Panic { applied })], Ending::None).await;
            panic(case, &stage, &call, calm(case.scenario).roles[index])
        }
    };
    seen.wrong.extend(stage.broken());
    seen
}

/// The undo begins at once and leaves nothing; or it was too late, and the result wins.
fn abort(case: &Case, stage: &Stage, call: &Call) -> Seen {
    let mut wrong = judge::inspect(stage, call);
    let natural = case.scenario.natural_end();
    let reaction = call.undo_began().filter(|began| *began >= case.at).unwrap_or(call.length).saturating_sub(case.at);
    // What a dead attempt left is removed to its end: half of that would help nobody.
    let said = |text: &str| call.events.iter().find(|event| event.message.starts_with(text));
    let began_removing = said("Removing what a dead attempt").map_or(u64::MAX, |event| millis(event.elapsed));
    let is_removing = began_removing <= case.at;
    let at_deadline = u128::from(case.at) >= stage.settings.timeout.as_millis();
    let was_undoing = call.undo_began().is_some_and(|began| began < case.at);
    match call.code() {
        Some(Code::Aborted) => {
            if reaction > ABORT_MS && !is_removing {
                wrong.push(format!("the undo began {reaction} ms after the caller had given up"));
            }
            // What a dead attempt left, and was there before, is still there.
            let was_there = |left: &Leftover| {
                let id: Option<u64> = left.id.as_deref().and_then(|id| id.parse().ok());
                left.certainty == Certainty::Exists && stage.before.servers().iter().any(|it| it["id"].as_u64() == id)
            };
            let left: Vec<_> = call.error().unwrap().leftovers.iter().filter(|left| !was_there(left)).collect();
            if !left.is_empty() {
                wrong.push(format!("left: {left:?}"));
            }
        }
        None if natural.is_none() => {
            let verified = said("Tailscale enrollment verified").map(|event| millis(event.elapsed));
            if verified.is_none_or(|verified| verified > case.at + 1) {
                wrong.push("the call succeeded although its caller had given up before".to_owned());
            }
        }
        // The undo, or the last look at the deadline.
        code if code == natural && (was_undoing || at_deadline) => {}
        code => wrong.push(format!("ended with {code:?}")),
    }
    let reaction = (call.code() == Some(Code::Aborted) && !is_removing).then_some(reaction);
    Seen { case: *case, code: call.code(), reaction, wrong }
}

/// Nothing more happens by itself; when the attempt counts as dead, one call or one `reap` puts the world in order.
async fn death(case: Case, stage: &Stage, call: &Call) -> Seen {
    let mut wrong = call.misfires.clone();
    if call.outcome.is_some() {
        wrong.push("the call was over before its process could die".to_owned());
    }
    let requests = |stage: &Stage| stage.cloud.truth().0["requests"].clone();
    let before = requests(stage);
    stage.cloud.world().configure(|config| config.machine.boot = BootOutcome::Joins);
    sleep(LONG_DEAD).await;
    if requests(stage) != before {
        wrong.push(format!("a dead process still asks: {before} {}", requests(stage)));
    }
    let mut code = None;
    if case.kind == Kind::DeathThenCall {
        let again = stage.again(Vec::new()).await;
        code = again.code();
        match &again.outcome {
            Some(Ok(done)) => wrong.extend(judge::one_ready(&stage.before, &again.after, done).err()),
            _ => wrong.push(format!("called again: {:?} {:?}", again.escaped, again.error())),
        }
        let devices = again.after.devices().len();
        if devices != 1 {
            wrong.push(format!("{devices} devices: {}", again.after.0));
        }
    } else {
        let options = ReapOptions { dry_run: false, grace: Duration::ZERO };
        let process = stage.cloud.process(77);
        match process.reap(options, &stage.settings, CancellationToken::new(), Arc::new(Silent)).await {
            Ok(_) => wrong.extend(in_order(stage)),
            Err(error) => wrong.push(format!("reaped: {error}")),
        }
    }
    Seen { case, code, reaction: None, wrong }
}

/// Nothing is left but a ready server with its machine.
fn in_order(stage: &Stage) -> Vec<String> {
    let truth = stage.cloud.truth();
    let servers = truth.servers();
    let is_ready = |server: &serde_json::Value| server["labels"]["state"] == "ready";
    let is_of_server = |device: &serde_json::Value| servers.iter().any(|server| server["node"] == device["node_id"]);
    let addresses = truth.0["primary_ips"].as_array().unwrap();
    let is_in_order = servers.iter().all(is_ready)
        && truth.devices().iter().all(is_of_server)
        && (!servers.is_empty() || addresses.is_empty())
        && truth.usable_keys() == 0;
    if is_in_order { Vec::new() } else { vec![format!("after one reap: {}", truth.0)] }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap()
}

fn panic(case: Case, stage: &Stage, call: &Call, role: Role) -> Seen {
    let mut wrong = judge::inspect(stage, call);
    let natural = case.scenario.natural_end();
    let fits = match role {
        // The call is as good as over, or an undo is, and the others still run.
        Role::Undo | Role::Retire => call.code() == natural,
        Role::LastLook => [natural, Some(Code::Internal)].contains(&call.code()),
        // One undo of the dead attempt's remains: the others still run.
        Role::Removal => [None, Some(Code::Internal), Some(Code::Upstream)].contains(&call.code()),
        _ => call.code() == Some(Code::Internal),
    };
    if !fits && call.escaped.is_none() {
        wrong.push(format!("{role:?} ended with {:?}", call.code()));
    }
    Seen { case, code: call.code(), reaction: None, wrong }
}

//! One world from its beginning to its end: the plan, then a quiet phase in which everything must come right.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use provision_vm::provision::{
    CancellationToken, Code, Kind, Params, Progress, ProvisionError, ReapOptions, ReapReport, Settings, Silent,
};
use simulator::{ActionOutcome, BootOutcome, NodeId, PlantedDevice, PlantedServer};

use crate::plan::{Begins, Caller, Cleanup, Deed, Plan, Reap, Turn, all_well};
use crate::support::audit::{Canary, Counts, DeviceRecord, Thing, Violation};
use crate::support::{Cloud, Outcome, Process, labels};

/// How often a call is repeated in the quiet phase; each time as its error asks.
const REPEATS: usize = 5;
/// From the last call to when every attempt is dead, whatever its timeout.
const ALL_DEAD: Duration = Duration::from_secs(600 + 60 + 300 + 60);
/// How long a clean-up may look for what a run left.
const CLEANUP: Duration = Duration::from_secs(60);
/// Ephemeral devices that are away are gone by then.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// Where no server of the clouds is.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

/// What became of a world.
#[derive(Debug, Default)]
pub struct Report {
    /// A number for all that happened.
    pub trace: u64,
    pub violations: Vec<Violation>,
    pub panic: Option<String>,
    /// How each call ended; `None` for one that died.
    pub codes: Vec<Option<Result<(), Code>>>,
    pub counts: Counts,
    /// The kinds of secrets that were searched for.
    pub secrets: BTreeSet<Canary>,
    pub journal: Vec<String>,
    /// Whether nothing but time could go wrong.
    pub fair: bool,
    /// Whether no call could delete anything.
    pub deletes_never: bool,
    /// Whether every failed call named what stood of its making, and nothing else.
    pub is_exact: bool,
    /// What stands of failed or dead calls, and nobody named it.
    pub orphans: Vec<Thing>,
}

/// Runs one world on this thread.
pub fn run(seed: u64, with_journal: bool) -> Report {
    let world = AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live(Plan::new(seed), with_journal))
    });
    std::panic::catch_unwind(world).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Report { panic: Some(text), ..Report::default() }
    })
}

async fn live(plan: Plan, with_journal: bool) -> Report {
    let cloud = Cloud::new(plan.config.clone());
    cloud.audit().told = with_journal.then(Vec::new);
    let mut weather = plan.climate.weather();
    let clock = cloud.clone();
    cloud.set_weather(Some(Box::new(move |request| weather(request, clock.now()))));
    cloud.audit().deletes_never = plan.climate.deletes_never();
    let processes: Vec<Process> = (0..plan.deaths.len()).map(|at| cloud.process(plan.seed + at as u64)).collect();
    let calls = join_all(plan.callers.iter().map(|caller| call(&cloud, &plan, &processes, caller)));
    let beside = join(operate(&cloud, &plan), join_all(plan.reaps.iter().map(|reap| reap_at(&cloud, *reap))));
    let tidying = plan.cleanups.iter().map(|cleanup| clean_up_meanwhile(&cloud, cleanup));
    let ((outcomes, _), _) = join(join(calls, beside), join_all(tidying)).await;
    join_all(plan.cleanups.iter().map(|cleanup| clean_up_afterwards(&cloud, cleanup))).await;
    let mut codes: Vec<_> = outcomes.iter().map(|ended| ended.as_ref().map(|(outcome, _)| code(outcome))).collect();

    // The weather closure holds the cloud.
    cloud.set_weather(None);
    let mut orphans = orphans_of_failures(&cloud);
    let is_exact = !cloud.audit().violations.iter().any(|violation| ["I12", "I13"].contains(&violation.invariant));
    calm(&cloud, &plan);
    let jobs: BTreeSet<usize> = plan.callers.iter().map(|caller| caller.job).collect();
    for job in jobs {
        let last = plan.callers.iter().zip(&outcomes).rfind(|(caller, _)| caller.job == job);
        let Some((caller, outcome)) = last else { continue };
        codes.push(Some(repeat(&cloud, caller, outcome.as_ref()).await));
    }
    orphans.extend(bury(&cloud).await);

    let violations = cloud.finish();
    let journal = if with_journal { journal(&cloud) } else { Vec::new() };
    let audit = cloud.audit();
    let fair = plan.climate.is_fair() && plan.deeds.is_empty();
    let internal = codes.iter().flatten().any(|code| *code == Err(Code::Internal));
    let panic = internal.then(|| "a call ended as INTERNAL".to_owned());
    let deletes_never = plan.climate.deletes_never();
    let (trace, counts) = (audit.trace(), audit.counts.clone());
    let secrets = audit.secret_kinds();
    Report { trace, violations, panic, codes, counts, secrets, journal, fair, deletes_never, is_exact, orphans }
}

fn code(outcome: &Outcome) -> Result<(), Code> {
    outcome.as_ref().map(|_| ()).map_err(|error| error.cause.code())
}

/// One call, unless its process dies.
async fn call(cloud: &Cloud, plan: &Plan, processes: &[Process], caller: &Caller) -> Option<(Outcome, Settings)> {
    let death = plan.deaths[caller.process].unwrap_or(Duration::MAX);
    if caller.start >= death {
        return None;
    }
    tokio::time::sleep(caller.start).await;
    let cancel = CancellationToken::new();
    let settings = caller.settings(cloud);
    let params = caller.params();
    // Who does not wait boards no flight, so its calls are told apart by a process of their own.
    let own = caller.pauses.as_ref().map(|_| cloud.process(plan.seed + 500));
    let work = async {
        if let (Some(process), Some(pauses)) = (&own, &caller.pauses) {
            return in_pieces(process, pauses, &params, &settings, &cancel).await;
        }
        let process = &processes[caller.process];
        Some(process.provision(&params, &settings, cancel.clone(), Arc::new(Silent)).await)
    };
    let giving_up = async {
        tokio::time::sleep(caller.abort?).await;
        cancel.cancel();
        std::future::pending::<Option<()>>().await
    };
    let dying = async {
        match death.checked_sub(caller.start).filter(|_| death != Duration::MAX) {
            Some(rest) => tokio::time::sleep(rest).await,
            None => std::future::pending().await,
        }
    };
    let (mut work, mut giving_up, mut dying) = (std::pin::pin!(work), std::pin::pin!(giving_up), std::pin::pin!(dying));
    let mut waits = true;
    let outcome = loop {
        tokio::select! {
            biased;
            () = &mut dying => return None,
            _ = &mut giving_up, if waits => waits = false,
            outcome = &mut work => break outcome,
        }
    };
    Some((outcome?, settings.clone()))
}

/// Calls that never wait, until the job is at its end or nobody calls any more.
async fn in_pieces(
    process: &Process,
    pauses: &[Duration],
    params: &Params,
    settings: &Settings,
    cancel: &CancellationToken,
) -> Option<Outcome> {
    for pause in pauses {
        match process.begin(params, settings, cancel.clone(), Arc::new(Silent)).await {
            Ok(Progress::Ready(done)) => return Some(Ok(*done)),
            Ok(Progress::Underway(_)) => tokio::time::sleep(*pause).await,
            Err(error) => return Some(Err(error)),
        }
    }
    None
}

async fn operate(cloud: &Cloud, plan: &Plan) {
    let mut past = Duration::ZERO;
    for (at, deed) in &plan.deeds {
        tokio::time::sleep(at.saturating_sub(past)).await;
        past = *at;
        act(cloud, plan, *deed);
    }
}

fn act(cloud: &Cloud, plan: &Plan, deed: Deed) {
    let mut world = cloud.world();
    let ids: Vec<u64> = world.servers().map(|server| server.id).collect();
    let id = |which: usize| ids.get(which % ids.len().max(1)).copied();
    let name_of = |which: usize| cloud_name(&world, which).unwrap_or_else(|| format!("agent-{which}"));
    match deed {
        Deed::DeleteServer(which) => id(which).into_iter().for_each(|id| world.remove_server(id)),
        Deed::Relabel(which, key, value) => {
            let Some(id) = id(which) else { return };
            let mut labels = world.servers().find(|server| server.id == id).map(|server| server.labels.clone());
            if let Some(labels) = &mut labels {
                labels.insert(key.to_owned(), value.to_owned());
            }
            world.touch_server(id, labels, None);
        }
        Deed::Protect(which) => id(which).into_iter().for_each(|id| world.touch_server(id, None, Some(true))),
        Deed::PlantServer(job) => {
            let labels = labels(&[("provisioning_job_id", &format!("job-{job}")), ("owner", "somebody")]);
            world.plant_server(PlantedServer { name: format!("planted-{job}"), labels, ..Default::default() });
        }
        Deed::PlantUntagged(which) => {
            let hostname = name_of(which);
            world.plant_device(PlantedDevice { hostname, ..Default::default() });
        }
        Deed::PlantOld(which) => {
            let (hostname, tags) = (name_of(which), vec!["tag:agent".to_owned()]);
            let created = Some(plan.config.epoch - 86_400);
            world.plant_device(PlantedDevice { hostname, tags, created, ..Default::default() });
        }
        Deed::PlantTwin(which) => {
            let Some(hostname) = cloud_name(&world, which) else { return };
            // Some do not say where they are.
            let public_ip = (!which.is_multiple_of(3)).then(|| ELSEWHERE.into());
            let tags = vec!["tag:agent".to_owned()];
            world.plant_device(PlantedDevice { hostname, tags, public_ip, ..Default::default() });
        }
        Deed::DeleteDevice(which) => {
            let nodes: Vec<NodeId> = world.devices().map(|device| NodeId(device.node.to_owned())).collect();
            nodes.get(which % nodes.len().max(1)).into_iter().for_each(|node| world.remove_device(node));
        }
        Deed::Configure(turn) => world.configure(|config| match turn {
            Turn::ActionsFail => {
                let (code, message) = ("action_failed".to_owned(), "Action failed".to_owned());
                config.hetzner.create_action = ActionOutcome::Error { code, message };
            }
            Turn::NobodyJoins => config.machine.boot = BootOutcome::NeverJoins,
            Turn::AllWell => all_well(config),
        }),
    }
}

fn cloud_name(world: &simulator::World, which: usize) -> Option<String> {
    let names: Vec<&str> = world.servers().map(|server| server.name).collect();
    names.get(which % names.len().max(1)).map(|name| (*name).to_owned())
}

async fn reap_at(cloud: &Cloud, reap: Reap) {
    tokio::time::sleep(reap.at).await;
    // In bad weather it may fail.
    let _ = reap_once(cloud, reap.dry_run, reap.grace).await;
}

async fn reap_once(cloud: &Cloud, dry_run: bool, grace: Duration) -> Result<ReapReport, Box<ProvisionError>> {
    let settings = any_settings(cloud);
    let options = ReapOptions { dry_run, grace };
    cloud.process(1_000).reap(options, &settings, CancellationToken::new(), Arc::new(Silent)).await
}

/// A clean-up after a run whose process died, or after one that is nobody's, while other calls are at work.
async fn clean_up_meanwhile(cloud: &Cloud, cleanup: &Cleanup) {
    if let Begins::At(at) = cleanup.begins {
        tokio::time::sleep(at).await;
        clean_up(cloud, cleanup).await;
    }
}

/// A clean-up after a run that has come to its end.
async fn clean_up_afterwards(cloud: &Cloud, cleanup: &Cleanup) {
    if let Begins::AfterAll(pause) = cleanup.begins {
        tokio::time::sleep(pause).await;
        clean_up(cloud, cleanup).await;
    }
}

async fn clean_up(cloud: &Cloud, cleanup: &Cleanup) {
    let settings = Settings { timeout: CLEANUP, ..any_settings(cloud) };
    let process = cloud.process(1_500);
    // In bad weather it may fail.
    let _ = process.clean_up(&cleanup.what(), &settings, CancellationToken::new(), Arc::new(Silent)).await;
}

/// The settings of somebody who has no special wishes.
fn any_settings(cloud: &Cloud) -> Settings {
    plain(0, 0).settings(cloud)
}

fn plain(job: usize, agent: usize) -> Caller {
    Caller {
        process: 0,
        job,
        agent,
        region: "us-east",
        start: Duration::ZERO,
        abort: None,
        timeout: Duration::from_secs(600),
        snapshot: false,
        federated: false,
        ephemeral: true,
        given_key: None,
        run: None,
        pauses: None,
        reach: None,
    }
}

/// All causes of failure end: the clouds behave, and whoever meddled cleans up after himself.
fn calm(cloud: &Cloud, plan: &Plan) {
    let (meddled, twins): (Vec<u64>, Vec<String>) = {
        let mut audit = cloud.audit();
        let mut world = cloud.world();
        audit.hear(&mut world);
        let is_meddled = |server: &&crate::support::audit::ServerRecord| server.alive && server.meddled;
        let meddled = audit.servers.iter().filter(|(_, server)| is_meddled(server)).map(|(id, _)| *id);
        let is_twin =
            |device: &DeviceRecord| device.alive && device.server.is_none() && device.created >= plan.config.epoch;
        let twins = audit.devices.iter().filter(|(_, device)| is_twin(device)).map(|(node, _)| node.clone());
        (meddled.collect(), twins.collect())
    };
    let mut world = cloud.world();
    world.configure(all_well);
    let ids: Vec<u64> = world.servers().map(|server| server.id).collect();
    for id in ids {
        world.touch_server(id, None, Some(false));
    }
    for id in meddled {
        world.remove_server(id);
    }
    part(&mut world);
    // And only a person knows which new device of our tag and name is a stranger's.
    let twins: Vec<NodeId> = twins.into_iter().map(NodeId).collect();
    for node in twins {
        world.remove_device(&node);
    }
    // A ready machine that lost its device is a person's to look at, and so is one whose boot failed.
    if plan.deeds.iter().any(|(_, deed)| matches!(deed, Deed::DeleteDevice(_))) {
        let lost = |server: &simulator::ServerView<'_>| {
            let has_device = world.devices().any(|device| device.server == Some(server.id));
            server.labels.get("state").is_some_and(|state| state == "ready") && !has_device
        };
        let lost: Vec<u64> = world.servers().filter(lost).map(|server| server.id).collect();
        for id in lost {
            world.remove_server(id);
        }
    }
}

/// A machine that joined twice is two devices, and only a person can say which one is to stay.
fn part(world: &mut simulator::World) {
    let first = |node: &str| world.servers().any(|server| server.node == Some(node));
    let second = |device: &simulator::DeviceView<'_>| device.server.is_some() && !first(device.node);
    let twice: Vec<NodeId> = world.devices().filter(second).map(|device| NodeId(device.node.to_owned())).collect();
    for node in twice {
        world.remove_device(&node);
    }
}

/// A job belongs to the agent whose server stands.
fn standing_agent(cloud: &Cloud, job: usize) -> Option<usize> {
    cloud.world().servers().find_map(|server| {
        let of_job = server.labels.get("provisioning_job_id").is_some_and(|id| *id == format!("job-{job}"));
        of_job.then(|| usize::from(server.labels.get("agent_id").is_some_and(|agent| agent.starts_with("Other"))))
    })
}

/// I15 and I17: the call is made again, as its error asks, until it succeeds.
async fn repeat(cloud: &Cloud, caller: &Caller, first: Option<&(Outcome, Settings)>) -> Result<(), Code> {
    let mut was_retryable = false;
    if let Some((Err(error), _)) = first {
        was_retryable = error.is_retryable();
        tokio::time::sleep(error.retry_after().unwrap_or_default()).await;
    }
    let mut told = Vec::new();
    for round in 0..REPEATS {
        // It may have been about to when all became well.
        part(&mut cloud.world());
        let agent = standing_agent(cloud, caller.job);
        // What is called retryable is said of the very same call, unless another agent's has won meanwhile.
        // The machine of a server that was left may use up the key that its call brought.
        let is_left = |error: &ProvisionError| error.leftovers.iter().any(|left| left.kind == Kind::Server);
        let keeps_key = caller.given_key.is_none()
            || first.is_some_and(|(outcome, _)| outcome.as_ref().err().is_none_or(|error| !is_left(error)));
        let is_same = round == 0 && was_retryable && keeps_key && agent.is_none_or(|agent| agent == caller.agent);
        // With the same settings, and the same key if they bring one.
        let (again, settings) = if let Some((_, settings)) = first.filter(|_| is_same) {
            (caller.clone(), settings.clone())
        } else {
            let plain = plain(caller.job, agent.unwrap_or(caller.agent));
            let settings = plain.settings(cloud);
            (plain, settings)
        };
        let process = cloud.process(2_000 + round as u64);
        let outcome = process.provision(&again.params(), &settings, CancellationToken::new(), Arc::new(Silent)).await;
        let Err(error) = outcome else { return Ok(()) };
        told.push(format!("{}: {error}", error.cause.code().as_str()));
        // The attempts of two agents, both dead, may stand under one job; it is the other one's then.
        let is_anothers = error.cause.code() == Code::JobMismatch && standing_agent(cloud, caller.job).is_some();
        // What a short deadline cut off has used the customer's key up all the same; with another one it goes on.
        let needs_key = is_same && error.is_key_spent;
        if !error.is_retryable() && !is_anothers && !needs_key {
            let invariant = if was_retryable { "I15" } else { "I17" };
            cloud.audit().violated(invariant, format!("a repeat in calm weather fails for good: {told:?}"));
            return Err(error.cause.code());
        }
        was_retryable = true;
        tokio::time::sleep(error.retry_after().unwrap_or(Duration::from_secs(1))).await;
    }
    cloud.audit().violated("I17", format!("job-{} does not come right: {told:?}", caller.job));
    Err(Code::Deadline)
}

/// What failed calls left and nobody named, when all calls have ended.
fn orphans_of_failures(cloud: &Cloud) -> Vec<Thing> {
    let mut audit = cloud.audit();
    let mut world = cloud.world();
    audit.hear(&mut world);
    audit.check_orphans_of_failures(&world)
}

/// I18: one pass past the end of all attempts leaves nothing of those that died, but what goes by itself soon after.
async fn bury(cloud: &Cloud) -> Vec<Thing> {
    tokio::time::sleep(ALL_DEAD).await;
    let report = reap_once(cloud, false, Duration::from_secs(1)).await;
    if let Err(error) = &report {
        let told = format!("the reaper fails in calm weather: {error} {:?}", error.causes());
        cloud.audit().violated("I18", told);
    }
    tokio::time::sleep(FORGOTTEN).await;
    let mut audit = cloud.audit();
    let mut world = cloud.world();
    audit.hear(&mut world);
    audit.check_orphans_of_the_dead(report.as_ref().ok(), &world)
}

fn journal(cloud: &Cloud) -> Vec<String> {
    let (audit, world) = (cloud.audit(), cloud.world());
    let line = |entry: &simulator::Entry| {
        let fault = entry.fault.as_deref().map(|fault| format!("  [{fault}]")).unwrap_or_default();
        let text = format!("{:9} {} -> {}{fault}", entry.who, entry.what, entry.outcome);
        (Duration::from_millis(entry.at_ms), text)
    };
    let told = audit.told.iter().flatten().map(|(at, text)| (*at, text.clone()));
    let mut lines: Vec<(Duration, String)> = world.journal().iter().map(line).chain(told).collect();
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(at, text)| format!("{:>9.3} {text}", at.as_secs_f64())).collect()
}

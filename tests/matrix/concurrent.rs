//! Several calls at once (class Q), and orders that meet another attempt's server (P14 to P17).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use provision_vm::provision::{CancellationToken, Code, Params, ReapOptions, Settings, Silent};
use simulator::{BootOutcome, FaultKind, PlantedServer};
use tokio::time::{sleep, timeout};

use crate::scenario::{DEADLINE, LONG_DEAD, server_name, steady};
use crate::support::{Cloud, Outcome, Process, labels, params, settings};
use crate::wire::{Aim, Mishap, Wire};
use crate::{judge, pool};

/// One situation. It returns what was wrong.
pub struct Situation {
    pub row: &'static str,
    pub name: &'static str,
    /// How the calls end, in words.
    pub ends: &'static str,
    run: fn() -> BoxFuture<'static, Vec<String>>,
}

pub const ALL: &[Situation] = &[
    situation(
        "P15",
        "the order meets a server that another attempt has finished meanwhile",
        "success, the other's server",
        || Box::pin(overtaken()),
    ),
    situation("P16", "the order meets a server that another attempt is making", "success, the other's server", || {
        Box::pin(neck_and_neck())
    }),
    situation("Q01", "the same job twice in one process", "one flight, one result for both", || {
        Box::pin(twice_in_one_process())
    }),
    situation(
        "Q02",
        "the same job in two processes, at the same instant and later",
        "success for both, one server",
        || Box::pin(two_processes()),
    ),
    situation("Q03", "the followed attempt fails and undoes its server", "SUPERSEDED for the follower", || {
        Box::pin(followed_fails())
    }),
    situation(
        "Q04",
        "the followed attempt's process dies",
        "DEADLINE for the follower, then success after `retryAfterMs`",
        || Box::pin(followed_dies()),
    ),
    situation("Q05", "a follower gives up", "ABORTED for the follower, success for the other", || {
        Box::pin(follower_gives_up())
    }),
    situation("Q06", "a reaper comes by while a call is under way", "success; the reaper keeps away", || {
        Box::pin(reaper_during_call())
    }),
    situation("Q07", "two reapers at once", "both end well", || Box::pin(two_reapers())),
    situation("Q09", "two jobs of the same agent", "success for both, two servers", || Box::pin(two_jobs())),
    situation("Q10", "another job's server has the name", "NAME_CONFLICT; not touched", || {
        Box::pin(name_of_another_job())
    }),
    situation("Q11", "50 jobs at once in one process", "success for all", || Box::pin(fifty_jobs())),
];

type Run = fn() -> BoxFuture<'static, Vec<String>>;

const fn situation(row: &'static str, name: &'static str, ends: &'static str, run: Run) -> Situation {
    Situation { row, name, ends, run }
}

/// What was wrong, situation by situation.
pub fn all() -> &'static [Vec<String>] {
    static SEEN: OnceLock<Vec<Vec<String>>> = OnceLock::new();
    SEEN.get_or_init(|| pool::run(ALL, |situation| (situation.run)()))
}

async fn call(process: &Process, settings: &Settings) -> Outcome {
    process.provision(&params(), settings, CancellationToken::new(), Arc::new(Silent)).await
}

async fn later(length: Duration, process: &Process, settings: &Settings) -> Outcome {
    sleep(length).await;
    call(process, settings).await
}

/// Both calls succeed with the same server, and only one was ever made.
fn one_for_both(cloud: &Cloud, before: &crate::support::Truth, outcomes: &[&Outcome]) -> Vec<String> {
    let truth = cloud.truth();
    let mut wrong = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(done) => wrong.extend(judge::one_ready(before, &truth, done).err()),
            Err(error) => wrong.push(format!("{error} {:?}", error.causes())),
        }
    }
    if truth.servers_ever() != 1 {
        wrong.push(format!("{} servers were made", truth.servers_ever()));
    }
    if truth.usable_keys() != 0 {
        wrong.push("a usable key is left".to_owned());
    }
    wrong
}

fn check(is_so: bool, what: &str, cloud: &Cloud) -> Vec<String> {
    if is_so { Vec::new() } else { vec![format!("not so: {what}: {}", cloud.truth().0)] }
}

/// A process whose requests 3 and 5 take long: another one may pass it between look-up and order.
fn slow_process(cloud: &Cloud, seconds: u64) -> Process {
    let slow = |index| (Aim::At(index), Mishap::Fault(FaultKind::Slow { ms: seconds * 1_000 }));
    cloud.process_through(3, |cloud| Arc::new(Wire::new(&cloud, vec![slow(3), slow(5)])))
}

async fn overtaken() -> Vec<String> {
    let (cloud, settings) = (Cloud::new(steady()), settings());
    let before = cloud.truth();
    let (slow, quick) = (slow_process(&cloud, 20), cloud.process(1));
    let (slow, quick) = tokio::join!(call(&slow, &settings), later(Duration::from_secs(1), &quick, &settings));
    let mut wrong = one_for_both(&cloud, &before, &[&slow, &quick]);
    wrong.extend(check(slow.is_ok_and(|done| done.reused), "the slow call was given the other's server", &cloud));
    wrong
}

async fn neck_and_neck() -> Vec<String> {
    let (cloud, settings) = (Cloud::new(steady()), settings());
    let before = cloud.truth();
    let (slow, quick) = (slow_process(&cloud, 4), cloud.process(1));
    let (slow, quick) = tokio::join!(call(&slow, &settings), later(Duration::from_secs(1), &quick, &settings));
    one_for_both(&cloud, &before, &[&slow, &quick])
}

async fn twice_in_one_process() -> Vec<String> {
    let (cloud, settings) = (Cloud::new(steady()), settings());
    let before = cloud.truth();
    let process = cloud.process(1);
    let (one, two) = tokio::join!(call(&process, &settings), later(Duration::from_secs(5), &process, &settings));
    let mut wrong = one_for_both(&cloud, &before, &[&one, &two]);
    let requests = cloud.truth().requests("hetzner");
    wrong.extend(check(requests < 20, "the second call made no requests of its own", &cloud));
    wrong
}

async fn two_processes() -> Vec<String> {
    let mut wrong = Vec::new();
    for later_ms in [0, 1, 50, 130, 250, 400, 2_000, 9_000, 25_000, 26_000] {
        let (cloud, settings) = (Cloud::new(steady()), settings());
        let before = cloud.truth();
        let (first, second) = (cloud.process(1), cloud.process(2));
        let second = later(Duration::from_millis(later_ms), &second, &settings);
        let (one, two) = tokio::join!(call(&first, &settings), second);
        wrong.extend(one_for_both(&cloud, &before, &[&one, &two]).into_iter().map(|it| format!("{later_ms} ms: {it}")));
    }
    wrong
}

async fn followed_fails() -> Vec<String> {
    let mut config = steady();
    config.machine.boot = BootOutcome::NeverJoins;
    let (cloud, settings) = (Cloud::new(config), settings());
    let short = Settings { timeout: Duration::from_secs(60), ..settings.clone() };
    let (maker, follower) = (cloud.process(1), cloud.process(2));
    let follower = later(Duration::from_secs(10), &follower, &settings);
    let (first, second) = tokio::join!(call(&maker, &short), follower);
    let code = |outcome: &Outcome| outcome.as_ref().err().map(|error| error.cause.code());
    let mut wrong = check(
        (code(&first), code(&second)) == (Some(Code::EnrollTimeout), Some(Code::Superseded)),
        "ENROLL_TIMEOUT and SUPERSEDED",
        &cloud,
    );
    wrong.extend(check(
        cloud.truth().servers().is_empty() && cloud.truth().usable_keys() == 0,
        "nothing is left",
        &cloud,
    ));
    wrong
}

async fn followed_dies() -> Vec<String> {
    let mut config = steady();
    config.machine.boot = BootOutcome::NeverJoins;
    let (cloud, settings) = (Cloud::new(config), settings());
    let (maker, follower) = (cloud.process(1), cloud.process(2));
    let dying = timeout(Duration::from_secs(15), call(&maker, &settings));
    let follower = later(Duration::from_secs(10), &follower, &settings);
    let (died, second) = tokio::join!(dying, follower);
    let error = second.unwrap_err();
    let mut wrong = check(died.is_err(), "the maker died", &cloud);
    wrong.extend(check(error.cause.code() == Code::Deadline && error.is_retryable(), "DEADLINE, retryable", &cloud));
    wrong.extend(check(cloud.truth().servers().len() == 1, "an attempt that may still live is left alone", &cloud));
    let before = cloud.truth();
    cloud.world().configure(|config| config.machine.boot = BootOutcome::Joins);
    sleep(error.retry_after().unwrap_or_default()).await;
    match call(&cloud.process(3), &settings).await {
        Ok(done) => wrong.extend(judge::one_ready(&before, &cloud.truth(), &done).err()),
        Err(error) => wrong.push(format!("called again after retry_after: {error} {:?}", error.causes())),
    }
    wrong
}

async fn follower_gives_up() -> Vec<String> {
    let (cloud, settings) = (Cloud::new(steady()), settings());
    let before = cloud.truth();
    let (maker, follower) = (cloud.process(1), cloud.process(2));
    let cancel = CancellationToken::new();
    let following = async {
        sleep(Duration::from_secs(3)).await;
        follower.provision(&params(), &settings, cancel.clone(), Arc::new(Silent)).await
    };
    let giving_up = async {
        sleep(Duration::from_secs(9)).await;
        cancel.cancel();
    };
    let (first, second, ()) = tokio::join!(call(&maker, &settings), following, giving_up);
    let mut wrong = one_for_both(&cloud, &before, &[&first]);
    let error = second.unwrap_err();
    let is_clean = error.cause.code() == Code::Aborted && error.leftovers.is_empty();
    wrong.extend(check(is_clean, "ABORTED, and nothing of its own is left", &cloud));
    wrong
}

async fn reap(process: &Process) -> Result<usize, String> {
    let options = ReapOptions { dry_run: false, grace: Duration::ZERO };
    let report = process.reap(options, &settings(), CancellationToken::new(), Arc::new(Silent)).await;
    report.map(|report| report.servers.len()).map_err(|error| error.to_string())
}

async fn reaper_during_call() -> Vec<String> {
    let mut config = steady();
    // Almost as long as its deadline.
    config.machine.join_seconds = 520.0;
    let (cloud, settings) = (Cloud::new(config), Settings { timeout: DEADLINE, ..settings() });
    let before = cloud.truth();
    let (maker, reaper) = (cloud.process(1), cloud.process(2));
    let reaping = async {
        let mut wrong = Vec::new();
        for _ in 0..17 {
            sleep(Duration::from_secs(30)).await;
            match reap(&reaper).await {
                Ok(0) => {}
                other => wrong.push(format!("the reaper saw a living attempt as dead: {other:?}")),
            }
        }
        wrong
    };
    let (made, mut wrong) = tokio::join!(call(&maker, &settings), reaping);
    wrong.extend(one_for_both(&cloud, &before, &[&made]));
    wrong
}

async fn two_reapers() -> Vec<String> {
    let mut config = steady();
    config.machine.boot = BootOutcome::NeverJoins;
    let (cloud, settings) = (Cloud::new(config), settings());
    let died = timeout(Duration::from_secs(15), call(&cloud.process(1), &settings)).await;
    sleep(LONG_DEAD).await;
    let (one, two) = (cloud.process(2), cloud.process(3));
    let (one, two) = tokio::join!(reap(&one), reap(&two));
    let truth = cloud.truth();
    let is_empty = truth.servers().is_empty() && truth.usable_keys() == 0 && truth.devices().is_empty();
    let mut wrong = check(died.is_err() && one.is_ok() && two.is_ok(), "both reapers end well", &cloud);
    wrong.extend(check(is_empty, "nothing is left", &cloud));
    wrong
}

async fn two_jobs() -> Vec<String> {
    let (cloud, settings) = (Cloud::new(steady()), settings());
    let process = cloud.process(1);
    let other = Params { job_id: "job-2".to_owned(), ..params() };
    let other = process.provision(&other, &settings, CancellationToken::new(), Arc::new(Silent));
    let (one, two) = tokio::join!(call(&process, &settings), other);
    let (Ok(one), Ok(two)) = (one, two) else { return vec!["one of two jobs failed".to_owned()] };
    let differ = one.server.id != two.server.id && one.server.name != two.server.name && one.node_id != two.node_id;
    check(differ && cloud.truth().servers().len() == 2, "two servers with names of their own", &cloud)
}

async fn name_of_another_job() -> Vec<String> {
    let cloud = Cloud::new(steady());
    let labels = labels(&[
        ("managed_by", "provision-vm"),
        ("state", "creating"),
        ("attempt", "x"),
        ("attempt_started", "1"),
        ("provisioning_job_id", "another-job"),
        ("agent_id", "550e8400-e29b"),
    ]);
    let name = server_name().await;
    cloud.world().plant_server(PlantedServer { name, labels, ..PlantedServer::default() });
    let before = cloud.truth();
    let error = call(&cloud.process(1), &settings()).await.unwrap_err();
    let is_untouched = cloud.truth().servers() == before.servers();
    check(error.cause.code() == Code::NameConflict && is_untouched, "NAME_CONFLICT, and not touched", &cloud)
}

async fn fifty_jobs() -> Vec<String> {
    let (cloud, settings) = (Cloud::new(steady()), settings());
    let process = cloud.process(1);
    let jobs = (0..50).map(|number| {
        let (process, settings) = (&process, &settings);
        async move {
            let params = Params { job_id: format!("job-{number}"), ..params() };
            process.provision(&params, settings, CancellationToken::new(), Arc::new(Silent)).await
        }
    });
    let failed = join_all(jobs).await.into_iter().filter_map(Result::err).map(|error| error.to_string());
    let mut wrong: Vec<String> = failed.collect();
    let truth = cloud.truth();
    wrong.extend(check(
        truth.servers().len() == 50 && truth.devices().len() == 50,
        "50 servers in the tailnet",
        &cloud,
    ));
    wrong
}

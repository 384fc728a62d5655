//! Machines that have to be reached over the tailnet (`waitFor: 'reachable'`): who is waited for, and what stays of who is not
//! reached.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use provision_vm::provision::{
    CancellationToken, Code, Event, Hold, Kind, Leftover, Observer, Progress, ProvisionError, ReapOptions, Settings,
    Silent, State, Step,
};
use provision_vm::secret::Secret;
use provision_vm::transport::{Dial, DialError};
use simulator::{Config, MachineConfig};

use crate::support::{Cloud, Notebook, Outcome, Process, code, params, settings, with_timeout};

fn reaching(seconds: u64) -> Settings {
    Settings { reach: Some(22), ..with_timeout(seconds) }
}

/// The next call takes the server that stands, now that its machine can be reached, and makes no other.
async fn assert_taken_once_it_listens(cloud: &Cloud) {
    turn(cloud, |machine| machine.ports = [22].into());
    let outcome = cloud.provision(&reaching(100)).await;
    cloud.truth().assert_one_ready(&outcome);
    assert_eq!((outcome.unwrap().reused, cloud.truth().servers_ever()), (true, 1));
}

fn world(change: impl FnOnce(&mut MachineConfig)) -> Cloud {
    let mut config = Config::default();
    change(&mut config.machine);
    Cloud::new(config)
}

fn turn(cloud: &Cloud, change: impl FnOnce(&mut MachineConfig)) {
    cloud.world().configure(|config| change(&mut config.machine));
}

/// How often a machine was dialled.
fn dials(cloud: &Cloud) -> usize {
    cloud.world().journal().iter().filter(|entry| entry.who == "dial").count()
}

/// A machine that is not in the tailnet, or whose Tailscale is in userspace mode.
struct Outside(Cloud);

impl Dial for Outside {
    fn dial(&self, ip: Ipv4Addr, port: u16) -> BoxFuture<'_, Result<(), DialError>> {
        Box::pin(async move { self.0.dial(ip, port).await.and(Err(DialError::NoRoute)) })
    }
}

fn outside(cloud: &Cloud) -> Process {
    cloud.process_between(7, |cloud| Arc::new(cloud), |cloud| Arc::new(Outside(cloud)))
}

async fn call(process: &Process, settings: &Settings) -> Outcome {
    process.provision(&params(), settings, CancellationToken::new(), Arc::new(Silent)).await
}

async fn begin(cloud: &Cloud, settings: &Settings) -> Result<Progress, Box<ProvisionError>> {
    cloud.process(3).begin(&params(), settings, CancellationToken::new(), Arc::new(Silent)).await
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// It failed since the machine was not reached, and says so.
#[track_caller]
fn assert_not_reached(outcome: &Result<impl std::fmt::Debug, Box<ProvisionError>>, why: &str) -> Vec<Leftover> {
    let error = outcome.as_ref().unwrap_err();
    assert_eq!((error.cause.code(), error.step), (Code::NotReachable, Step::Reach), "{error}");
    assert_eq!(error.to_string(), format!("100.64.0.2:22 cannot be reached over the tailnet: {why}"));
    assert!(error.is_retryable());
    error.leftovers.clone()
}

/// The server stands as it did, and was not handed over.
#[track_caller]
fn assert_named_and_there(cloud: &Cloud, left: &[Leftover]) {
    let [server] = cloud.truth().servers().try_into().unwrap();
    let named = left.iter().find(|left| left.kind == Kind::Server).unwrap();
    assert_eq!((named.id.clone().unwrap(), named.hold), (server["id"].to_string(), Hold::None));
    assert_eq!(server["labels"]["state"], "creating");
    assert_eq!(cloud.truth().devices().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_dialled_until_it_answers_and_never_without_being_asked_to() {
    type Change = fn(&mut MachineConfig);
    let machines: [(&str, Change, Option<u16>, Option<usize>); 6] = [
        ("nobody asks", |machine| machine.reachable = false, None, Some(0)),
        ("at once", |machine| machine.listens_after_seconds = 0.0, Some(22), Some(1)),
        ("after a moment", |_| (), Some(22), None),
        ("after a minute", |machine| machine.listens_after_seconds = 60.0, Some(22), None),
        ("its last port", |machine| machine.ports = [65_535].into(), Some(65_535), None),
        ("one of several", |machine| machine.ports = [22, 80].into(), Some(80), None),
    ];
    for (case, change, reach, dialled) in machines {
        let cloud = world(change);
        let outcome = cloud.provision(&Settings { reach, ..settings() }).await;
        cloud.truth().assert_one_ready(&outcome);
        let steps: Vec<Step> = outcome.unwrap().timings.iter().map(|timing| timing.step).collect();
        assert_eq!(steps.contains(&Step::Reach), reach.is_some(), "{case}: {steps:?}");
        assert!(dialled.is_none_or(|dialled| dials(&cloud) == dialled), "{case}: {}", dials(&cloud));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_into_reach_in_time_is_handed_over() {
    let cloud = world(|machine| machine.reachable = false);
    let (process, notes, wanted) = (cloud.process(7), Arc::new(Notebook::default()), params());
    let settings = reaching(600);
    let call = process.provision(&wanted, &settings, CancellationToken::new(), notes.clone());
    let opens = async {
        pass(60).await;
        turn(&cloud, |machine| (machine.reachable, machine.listens_after_seconds) = (true, 300.0));
    };
    let (outcome, ()) = tokio::join!(call, opens);
    cloud.truth().assert_one_ready(&outcome);
    // What stands in the way is told when it changes, and not each time.
    let told: Vec<String> = notes.messages().into_iter().filter(|line| line.starts_with("Waiting: 100.")).collect();
    let at = "Waiting: 100.64.0.2:22 cannot be reached yet,";
    assert_eq!(told, [format!("{at} there is no answer"), format!("{at} the connection is refused")]);
    let dials = dials(&cloud);
    assert!((30..80).contains(&dials), "five minutes take {dials} connections");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_reached_by_the_deadline_is_undone() {
    let closed: fn(&mut MachineConfig) = |machine| machine.ports.clear();
    let silent: fn(&mut MachineConfig) = |machine| machine.reachable = false;
    for (change, is_outside, why) in [
        (closed, false, "the connection is refused"),
        (silent, false, "there is no answer"),
        (|_| (), true, "there is no route to it"),
    ] {
        for timeout in [40, 120] {
            let cloud = world(change);
            let process = if is_outside { outside(&cloud) } else { cloud.process(7) };
            let outcome = call(&process, &reaching(timeout)).await;
            assert_eq!(assert_not_reached(&outcome, why), []);
            assert!(dials(&cloud) > 1);
            cloud.truth().assert_empty();
            assert_eq!(cloud.truth().servers_ever(), 1);
        }
    }
}

/// Gives a call up as soon as it says a certain thing.
struct GivesUp(&'static str, CancellationToken);

impl Observer for GivesUp {
    fn event(&self, event: Event) {
        if event.message.starts_with(self.0) {
            self.1.cancel();
        }
    }

    fn secret(&self, _: &Secret) {}
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_while_a_machine_is_dialled_or_between_two_tries_has_all_undone() {
    for moment in ["Connecting to", "Waiting: 100."] {
        for reachable in [true, false] {
            let cloud = world(|machine| (machine.reachable, machine.listens_after_seconds) = (reachable, 1e6));
            let (process, cancel) = (cloud.process(7), CancellationToken::new());
            let observer = Arc::new(GivesUp(moment, cancel.clone()));
            let outcome = process.provision(&params(), &reaching(600), cancel, observer).await;
            let error = outcome.unwrap_err();
            assert_eq!((error.cause.code(), error.step), (Code::Aborted, Step::Reach));
            assert_eq!(error.leftovers, []);
            cloud.truth().assert_empty();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn once_it_was_reached_the_machine_wins_over_a_late_signal() {
    let cloud = Cloud::usual();
    let (process, cancel) = (cloud.process(7), CancellationToken::new());
    let observer = Arc::new(GivesUp("The machine was reached", cancel.clone()));
    let outcome = process.provision(&params(), &reaching(600), cancel, observer).await;
    cloud.truth().assert_one_ready(&outcome);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_ready_and_not_reached_is_left_alone() {
    let cloud = Cloud::usual();
    let first = cloud.provision(&settings()).await;
    let before = cloud.truth();
    for closed in [true, false] {
        turn(&cloud, |machine| (machine.reachable, machine.ports) = (closed, [80].into()));
        let why = if closed { "the connection is refused" } else { "there is no answer" };
        assert_eq!(assert_not_reached(&cloud.provision(&reaching(60)).await, why), []);
        // Nor does a single look change anything.
        assert_eq!(assert_not_reached(&begin(&cloud, &reaching(60)).await, why), []);
        assert_eq!((cloud.truth().servers(), cloud.truth().devices()), (before.servers(), before.devices()));
        // Who does not ask for it gets it as ever.
        let outcome = cloud.provision(&settings()).await;
        cloud.truth().assert_one_ready(&outcome);
    }
    turn(&cloud, |machine| *machine = MachineConfig::default());
    let again = cloud.provision(&reaching(60)).await;
    cloud.truth().assert_one_ready(&again);
    assert!(again.as_ref().unwrap().reused);
    assert_eq!(again.unwrap().server.id, first.unwrap().server.id);
}

#[tokio::test(start_paused = true)]
async fn a_follower_reaches_the_machine_of_another_attempt_for_itself() {
    for opens in [true, false] {
        let cloud = world(|machine| machine.listens_after_seconds = if opens { 90.0 } else { 1e6 });
        let (one, two) = (cloud.process(1), cloud.process(2));
        let (plain, wanting) = (settings(), reaching(300));
        let late = async {
            pass(5).await;
            call(&two, &wanting).await
        };
        let (made, followed) = tokio::join!(call(&one, &plain), late);
        cloud.truth().assert_one_ready(&made);
        if opens {
            cloud.truth().assert_one_ready(&followed);
            assert!(followed.unwrap().reused);
        } else {
            assert_eq!(assert_not_reached(&followed, "the connection is refused"), []);
        }
        assert_eq!(cloud.truth().servers_ever(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_follows_an_attempt_that_is_undone_for_want_of_reach_removes_nothing() {
    let cloud = world(|machine| machine.ports.clear());
    let (one, two) = (cloud.process(1), cloud.process(2));
    let (short, long) = (reaching(60), reaching(300));
    let late = async {
        pass(5).await;
        call(&two, &long).await
    };
    let (made, followed) = tokio::join!(call(&one, &short), late);
    assert_eq!(assert_not_reached(&made, "the connection is refused"), []);
    assert_eq!(code(&followed), Code::Superseded);
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn without_a_wait_each_look_tries_once_and_one_that_is_not_reached_is_still_booting() {
    for is_silent in [true, false] {
        let cloud = world(|machine| (machine.reachable, machine.listens_after_seconds) = (!is_silent, 45.0));
        assert!(matches!(begin(&cloud, &reaching(600)).await, Ok(Progress::Underway(_))));
        assert_eq!(dials(&cloud), 0, "there is nobody to dial yet");
        pass(40).await;
        for dialled in 1..=3 {
            let before = cloud.now();
            match begin(&cloud, &reaching(600)).await {
                Ok(Progress::Underway(underway)) => {
                    assert_eq!((underway.state, underway.reused), (State::Booting, true));
                }
                other => panic!("it is not reached yet: {other:?}"),
            }
            assert!(cloud.now().saturating_sub(before) < Duration::from_secs(5), "a look is a short one");
            assert_eq!(dials(&cloud), dialled);
            assert_eq!(cloud.truth().servers()[0]["labels"]["state"], "creating");
        }
        turn(&cloud, |machine| machine.reachable = true);
        pass(60).await;
        match begin(&cloud, &reaching(600)).await {
            Ok(Progress::Ready(done)) => cloud.truth().assert_one_ready(&Ok(*done)),
            other => panic!("it is reached: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_waits_for_and_nobody_reaches_in_time_is_named_and_stays() {
    let cloud = world(|machine| machine.ports.clear());
    assert!(matches!(begin(&cloud, &reaching(100)).await, Ok(Progress::Underway(_))));
    pass(120).await;
    // Its time is up, but its machine has joined, so nothing proves that it may go.
    let left = assert_not_reached(&begin(&cloud, &reaching(100)).await, "the connection is refused");
    assert_named_and_there(&cloud, &left);
    let left = assert_not_reached(&cloud.provision(&reaching(100)).await, "the connection is refused");
    assert_named_and_there(&cloud, &left);
    assert_taken_once_it_listens(&cloud).await;
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_with_an_attempt_and_does_not_reach_its_machine_leaves_it_to_the_next() {
    for gives_up in [true, false] {
        let cloud = world(|machine| machine.ports.clear());
        assert!(matches!(begin(&cloud, &reaching(600)).await, Ok(Progress::Underway(_))));
        let (process, cancel) = (cloud.process(5), CancellationToken::new());
        let observer = Arc::new(GivesUp(if gives_up { "Waiting: 100." } else { "never" }, cancel.clone()));
        let outcome = process.provision(&params(), &reaching(60), cancel, observer).await;
        let left = if gives_up {
            assert_eq!(code(&outcome), Code::Aborted);
            outcome.unwrap_err().leftovers
        } else {
            assert_not_reached(&outcome, "the connection is refused")
        };
        assert_named_and_there(&cloud, &left);
        assert_taken_once_it_listens(&cloud).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_machine_of_a_dead_attempt_is_taken_once_it_is_reached_and_not_before() {
    let cloud = world(|machine| machine.ports.clear());
    let died = tokio::time::timeout(Duration::from_secs(40), cloud.provision(&reaching(120))).await;
    assert!(died.is_err());
    pass(900).await;
    let left = assert_not_reached(&cloud.provision(&reaching(60)).await, "the connection is refused");
    assert_named_and_there(&cloud, &left);
    assert_taken_once_it_listens(&cloud).await;
}

#[tokio::test(start_paused = true)]
async fn a_reaper_and_a_look_do_not_dial_whatever_the_settings_say() {
    let cloud = Cloud::usual();
    let died = tokio::time::timeout(Duration::from_secs(15), cloud.provision(&with_timeout(120))).await;
    assert!(died.is_err());
    pass(1200).await;
    let (process, settings) = (cloud.process(9), reaching(60));
    let looked = process.status(&params().job_id, &settings, CancellationToken::new(), Arc::new(Silent)).await;
    assert_eq!(looked.unwrap().state, State::Expired);
    let options = ReapOptions { dry_run: false, ..ReapOptions::default() };
    process.reap(options, &settings, CancellationToken::new(), Arc::new(Silent)).await.unwrap();
    assert_eq!(cloud.truth().servers()[0]["labels"]["state"], "ready");
    assert_eq!(dials(&cloud), 0);
}

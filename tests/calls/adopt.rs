//! A job that is called for again: returned, followed, taken over, or refused.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{
    Cloud, Meddler, Notebook, Outcome, answer, code, fault, labels, namesake, params, settings, with_timeout,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use provision_vm::provision::{CancellationToken, Code, Kind, Params};
use provision_vm::transport::{Transport, TransportError};
use simulator::{Api, BootOutcome, Config, NodeId, PlantedDevice, PlantedServer};

#[tokio::test(start_paused = true)]
async fn q08_the_same_job_again_gives_the_same_server_without_any_side_effect() {
    let cloud = Cloud::usual();
    let first = cloud.provision(&settings()).await;
    let before = cloud.truth();
    let second = cloud.provision(&settings()).await;
    let after = cloud.truth();
    after.assert_one_ready(&second);
    assert_eq!(first.unwrap().server.id, second.as_ref().unwrap().server.id);
    assert!(second.unwrap().reused);
    assert_eq!(after.servers_ever(), 1);
    assert_eq!(before.0["keys"], after.0["keys"]);
}

#[tokio::test(start_paused = true)]
async fn q02_two_processes_at_once_end_with_one_server_for_both() {
    for (seed, later_ms) in [(1, 0), (2, 50), (3, 400), (4, 2_000), (5, 9_000), (6, 30_000)] {
        let cloud = Cloud::new(Config { seed, ..Config::default() });
        let (one, two) = (cloud.process(seed), cloud.process(seed + 100));
        let (params, settings) = (params(), settings());
        let notes = || Arc::new(Notebook::default());
        let late = async {
            tokio::time::sleep(Duration::from_millis(later_ms)).await;
            two.provision(&params, &settings, CancellationToken::new(), notes()).await
        };
        let (first, second) = tokio::join!(one.provision(&params, &settings, CancellationToken::new(), notes()), late);
        let truth = cloud.truth();
        truth.assert_one_ready(&first);
        truth.assert_one_ready(&second);
        assert_eq!(truth.servers_ever(), 1);
        let reused = [first.unwrap().reused, second.unwrap().reused];
        assert_eq!(reused.iter().filter(|reused| **reused).count(), 1, "seed {seed}: one of the two made it");
    }
}

#[tokio::test(start_paused = true)]
async fn p18_a_name_that_is_not_ours_is_never_touched() {
    let name = {
        let cloud = Cloud::usual();
        cloud.provision(&settings()).await.unwrap().server.name
    };
    let ours = [("managed_by", "provision-vm"), ("state", "creating"), ("attempt", "x"), ("attempt_started", "1")];
    let job = [("provisioning_job_id", "job-1"), ("agent_id", "550e8400-e29b")];
    let other = [("provisioning_job_id", "job-2"), ("agent_id", "550e8400-e29b")];
    let mismatch = [("provisioning_job_id", "job-1"), ("agent_id", "another")];
    for (case, name, labels, expected) in [
        ("is taken", name.as_str(), labels(&[]), Code::NameConflict),
        ("is taken", name.as_str(), labels(&[&ours[..], &other[..]].concat()), Code::NameConflict),
        ("belongs to agent another", "elsewhere", labels(&[&ours[..], &mismatch[..]].concat()), Code::JobMismatch),
        // The old orchestrator's.
        ("was not made by", "agent-550e8400-1700000000", labels(&job), Code::NameConflict),
    ] {
        let cloud = Cloud::usual();
        let id = cloud.world().plant_server(PlantedServer { name: name.to_owned(), labels, ..Default::default() });
        let before = cloud.truth();
        let outcome = cloud.provision(&settings()).await;
        assert_eq!(code(&outcome), expected, "{case}");
        assert!(outcome.unwrap_err().to_string().contains(case), "{case}");
        let after = cloud.truth();
        assert_eq!(before.servers(), after.servers(), "{case}");
        assert_eq!(after.servers()[0]["id"], id);
        // A name that is taken shows when it is ordered; the key of that order goes with it.
        assert_eq!(after.usable_keys(), 0, "{case}: {}", after.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_followed_while_it_may_live_and_redone_when_it_is_dead() {
    let cloud = Cloud::that_never_joins();
    // The process dies while it waits: the call is dropped, nothing is undone.
    let died = tokio::time::timeout(Duration::from_secs(40), cloud.provision(&with_timeout(120))).await;
    assert!(died.is_err());
    let dead = cloud.truth();
    assert_eq!(dead.servers().len(), 1);

    // Too early: it may still live. It is followed and left alone.
    let outcome = cloud.provision(&with_timeout(60)).await;
    assert_eq!(code(&outcome), Code::Deadline);
    assert_eq!(cloud.truth().servers(), dead.servers());

    // Past its end: removed, and made anew.
    tokio::time::sleep(Duration::from_secs(600)).await;
    cloud.world().configure(|config| config.machine.boot = BootOutcome::Joins);
    let outcome = cloud.provision(&settings()).await;
    let truth = cloud.truth();
    truth.assert_one_ready(&outcome);
    assert_ne!(truth.servers()[0]["id"], dead.servers()[0]["id"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_attempt_whose_machine_joined_is_taken_as_it_is() {
    let cloud = Cloud::usual();
    let died = tokio::time::timeout(Duration::from_secs(15), cloud.provision(&with_timeout(120))).await;
    assert!(died.is_err());
    tokio::time::sleep(Duration::from_secs(900)).await;
    let before = cloud.truth();
    assert_eq!(before.devices().len(), 1, "its machine joined on its own");
    let outcome = cloud.provision(&settings()).await;
    cloud.truth().assert_one_ready(&outcome);
    assert!(outcome.as_ref().unwrap().reused);
    assert_eq!(cloud.truth().servers_ever(), 1);
}

#[tokio::test(start_paused = true)]
async fn q05_a_follower_who_gives_up_removes_nothing() {
    let cloud = Cloud::usual();
    let (params, settings) = (params(), settings());
    let (maker, other) = (cloud.process(1), cloud.process(2));
    let notes = || Arc::new(Notebook::default());
    let cancel = CancellationToken::new();
    let late = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        other.provision(&params, &settings, cancel.clone(), notes()).await
    };
    let giving_up = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        cancel.cancel();
    };
    let made = maker.provision(&params, &settings, CancellationToken::new(), notes());
    let (made, followed, ()) = tokio::join!(made, late, giving_up);
    assert_eq!(code(&followed), Code::Aborted);
    assert!(followed.unwrap_err().leftovers.is_empty());
    cloud.truth().assert_one_ready(&made);
}

#[tokio::test(start_paused = true)]
async fn q03_a_follower_hears_that_the_attempt_was_undone() {
    let cloud = Cloud::that_never_joins();
    let (params, short, long) = (params(), with_timeout(60), settings());
    let (maker, other) = (cloud.process(1), cloud.process(2));
    let notes = || Arc::new(Notebook::default());
    let late = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        other.provision(&params, &long, CancellationToken::new(), notes()).await
    };
    let (made, followed) = tokio::join!(maker.provision(&params, &short, CancellationToken::new(), notes()), late);
    assert_eq!((code(&made), code(&followed)), (Code::EnrollTimeout, Code::Superseded));
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn q01_the_same_job_twice_in_one_process_is_one_flight() {
    let cloud = Cloud::usual();
    let (params, settings, process) = (params(), settings(), cloud.process(7));
    let (first, late) = (Arc::new(Notebook::default()), Arc::new(Notebook::default()));
    let boarding = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        process.provision(&params, &settings, CancellationToken::new(), late.clone()).await
    };
    let call = process.provision(&params, &settings, CancellationToken::new(), first.clone());
    let (one, two) = tokio::join!(call, boarding);
    cloud.truth().assert_one_ready(&one);
    assert_eq!(one.unwrap(), two.unwrap(), "both get the same result");
    assert_eq!(cloud.truth().0["keys"].as_array().unwrap().len(), 1);
    assert_eq!(*first.secrets.lock().unwrap(), *late.secrets.lock().unwrap(), "who boards late masks what was minted");
    assert!(late.messages().len() < first.messages().len() && !late.messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn q01_only_the_last_to_leave_a_flight_ends_it() {
    for leavers in [1, 2] {
        let cloud = Cloud::usual();
        let (params, settings, process) = (params(), settings(), cloud.process(7));
        let cancels = [CancellationToken::new(), CancellationToken::new()];
        let call = |number: usize| {
            process.provision(&params, &settings, cancels[number].clone(), Arc::new(Notebook::default()))
        };
        let leaving = async {
            for cancel in &cancels[..leavers] {
                tokio::time::sleep(Duration::from_secs(5)).await;
                cancel.cancel();
            }
            // Whoever comes now does not board a flight that was given up: it is a new one.
            tokio::time::sleep(Duration::from_millis(10)).await;
            process.provision(&params, &settings, CancellationToken::new(), Arc::new(Notebook::default())).await
        };
        let (first, second, third) = tokio::join!(call(0), call(1), leaving);
        assert_eq!(code(&first), Code::Aborted);
        assert_eq!(second.is_ok(), leavers == 1);
        cloud.truth().assert_one_ready(&third);
        assert_eq!(cloud.truth().servers_ever(), leavers as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn q01_a_caller_that_dies_on_a_flight_leaves_it_to_the_others() {
    let cloud = Cloud::usual();
    let (params, settings, process) = (params(), settings(), cloud.process(7));
    let call = || process.provision(&params, &settings, CancellationToken::new(), Arc::new(Notebook::default()));
    let (died, lived) = tokio::join!(tokio::time::timeout(Duration::from_secs(9), call()), call());
    assert!(died.is_err());
    cloud.truth().assert_one_ready(&lived);
    assert_eq!(cloud.truth().servers_ever(), 1);
}

/// A follower's way to the clouds that answers its first looks at the followed server with this, and notes when it looks.
struct Peephole {
    cloud: Cloud,
    status: u16,
    times: usize,
    looks: Arc<Mutex<Vec<Duration>>>,
}

impl Transport for Peephole {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        if request.uri().path().starts_with("/v1/servers/") {
            let mut looks = self.looks.lock().unwrap();
            looks.push(self.cloud.now());
            if looks.len() <= self.times {
                let code = if self.status == 404 { "not_found" } else { "forbidden" };
                let body = serde_json::json!({ "error": { "code": code, "message": "no" } }).to_string();
                let answer = http::Response::builder().status(self.status).body(Bytes::from(body)).unwrap();
                return Box::pin(async { Ok(answer) });
            }
        }
        self.cloud.exchange(request)
    }
}

/// Follows a job that another process has begun 3 s before.
async fn follow(cloud: &Cloud, seconds: u64, status: u16, times: usize) -> (Outcome, Vec<Duration>) {
    let (params, settings, patience) = (params(), with_timeout(300), with_timeout(seconds));
    let looks = Arc::new(Mutex::default());
    let noting = looks.clone();
    let follower = cloud
        .process_through(2, |cloud| Arc::new(Peephole { cloud, status, times, looks: noting }) as Arc<dyn Transport>);
    let (maker, notes) = (cloud.process(1), || Arc::new(Notebook::default()));
    let late = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        follower.provision(&params, &patience, CancellationToken::new(), notes()).await
    };
    let made = maker.provision(&params, &settings, CancellationToken::new(), notes());
    let outcome = tokio::select! {
        biased;
        outcome = late => outcome,
        made = async { let made = made.await; std::future::pending::<()>().await; made } => made,
    };
    let looks = looks.lock().unwrap().clone();
    (outcome, looks)
}

#[tokio::test(start_paused = true)]
async fn q03_a_follower_believes_a_third_absence_and_a_first_refusal() {
    for (status, times, code) in
        [(404, 2, None), (404, 3, Some(Code::Superseded)), (503, 3, None), (403, 1, Some(Code::Forbidden))]
    {
        let (outcome, _) = follow(&Cloud::usual(), 200, status, times).await;
        assert_eq!(outcome.err().map(|error| error.cause.code()), code, "{status}, {times} times");
    }
}

#[tokio::test(start_paused = true)]
async fn q02_a_follower_looks_less_and_less_often() {
    let (outcome, looks) = follow(&Cloud::that_never_joins(), 110, 0, 0).await;
    assert_eq!(code(&outcome), Code::Deadline);
    let within = |from, to| looks.iter().filter(|at| (from..to).contains(&at.as_secs())).count();
    let counts = [within(3, 23), within(23, 63), within(63, 113)];
    assert!(
        (8..=10).contains(&counts[0]) && (8..=10).contains(&counts[1]) && (3..=5).contains(&counts[2]),
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn q08_a_ready_job_whose_device_does_not_verify_says_whether_waiting_helps() {
    let untagged = |device: PlantedDevice| PlantedDevice { tags: Vec::new(), ..device };
    let cut_off = |device: PlantedDevice| PlantedDevice { connected: false, ..device };
    let twins = |device: PlantedDevice| device;
    for (case, plant, how_many, code_and_retryable) in [
        ("gone", None, 0, (Code::EnrollTimeout, false)),
        ("without its tag", Some(&untagged as &dyn Fn(_) -> _), 1, (Code::EnrollRejected, false)),
        ("out of touch", Some(&cut_off as &dyn Fn(_) -> _), 1, (Code::EnrollTimeout, true)),
        ("two strangers", Some(&twins as &dyn Fn(_) -> _), 2, (Code::EnrollAmbiguous, false)),
    ] {
        let cloud = Cloud::usual();
        let made = cloud.provision(&settings()).await.unwrap();
        cloud.world().remove_device(&NodeId(made.node_id));
        if how_many > 0 {
            // Handed over before the label told of its device.
            let mut labels = made.server.labels.clone();
            labels.insert("state".to_owned(), "ready".to_owned());
            labels.remove("node_id");
            cloud.world().touch_server(made.server.id.0, Some(labels), None);
        }
        for _ in 0..how_many {
            cloud.world().plant_device(plant.unwrap()(namesake(&made.server.name)));
        }
        let error = cloud.provision(&settings()).await.unwrap_err();
        assert_eq!((error.cause.code(), error.is_retryable()), code_and_retryable, "{case}: {error}");
        assert_eq!(error.leftovers, [], "{case}");
        assert_eq!(cloud.truth().servers()[0]["id"], made.server.id.0, "{case}: what is ready stays");
    }
}

#[tokio::test(start_paused = true)]
async fn m14_a_namesake_that_connects_from_elsewhere_does_not_hide_a_ready_machine() {
    let cloud = Cloud::usual();
    let made = cloud.provision(&settings()).await;
    let elsewhere = Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)));
    let name = made.as_ref().unwrap().server.name.clone();
    let stranger = cloud.world().plant_device(PlantedDevice { public_ip: elsewhere, ..namesake(&name) });
    let again = cloud.provision(&settings()).await;
    assert_eq!(again.unwrap().node_id, made.unwrap().node_id);
    assert!(cloud.world().devices().any(|device| device.node == stranger.0), "nor is it touched");
}

#[tokio::test(start_paused = true)]
async fn q04_a_dead_attempt_that_another_call_finishes_first_is_returned_and_not_removed() {
    let mut config = Config::default();
    // Its machine joins, and no list shows it before it is removed.
    config.tailscale.visibility_seconds = 635.0;
    let cloud = Cloud::new(config);
    assert!(tokio::time::timeout(Duration::from_secs(40), cloud.provision(&with_timeout(120))).await.is_err());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let other = cloud.clone();
    let finish = move || {
        let mut world = other.world();
        let (id, mut labels) = world.servers().next().map(|server| (server.id, server.labels.clone())).unwrap();
        labels.insert("state".to_owned(), "ready".to_owned());
        world.touch_server(id, Some(labels), None);
    };
    let meddler = Arc::new(Meddler("Removing what a dead attempt", finish));
    let outcome = cloud.process(7).provision(&params(), &settings(), CancellationToken::new(), meddler).await;
    let done = outcome.unwrap();
    assert!(done.reused);
    assert_eq!(cloud.truth().servers()[0]["id"], done.server.id.0);
    assert_eq!(cloud.truth().servers_ever(), 1);
}

/// A transport with a fault of ours: it breaks down once the last server is gone.
struct PanicsWithoutServers(Cloud);

impl Transport for PanicsWithoutServers {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        let looks_for_job = request.uri().query().is_some_and(|query| query.contains("label_selector"));
        assert!(!looks_for_job || !self.0.truth().servers().is_empty(), "a fault of ours");
        self.0.exchange(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_a_take_over_still_names_what_that_left() {
    let cloud = Cloud::with_a_dead_attempt(|_| ()).await;
    let name = cloud.truth().servers()[0]["name"].as_str().unwrap().to_owned();
    let node = cloud.world().plant_device(PlantedDevice { connected: false, ..namesake(&name) });
    let kind = answer(403, serde_json::json!({ "message": "not allowed" }), false);
    cloud.world().inject(fault(Api::Tailscale, "DELETE", "/device/*", 99, kind));
    let process = cloud.process_through(9, |cloud| Arc::new(PanicsWithoutServers(cloud)));
    let notes = Arc::new(Notebook::default());
    let error = process.provision(&params(), &settings(), CancellationToken::new(), notes).await.unwrap_err();
    assert_eq!(error.cause.code(), Code::Internal);
    let named: Vec<_> = error.leftovers.iter().map(|left| (left.kind, left.id.as_deref())).collect();
    assert_eq!(named, [(Kind::Device, Some(node.0.as_str()))]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_two_agents_call_for_at_once_belongs_to_the_first_and_the_other_is_told_so() {
    let cloud = Cloud::usual();
    let (one, two) = (cloud.process(1), cloud.process(2));
    let other = Params { agent_id: "another".to_owned(), ..params() };
    let (params, settings) = (params(), settings());
    let (ours, theirs) = (Arc::new(Notebook::default()), Arc::new(Notebook::default()));
    let (first, second) = tokio::join!(
        one.provision(&params, &settings, CancellationToken::new(), ours),
        two.provision(&other, &settings, CancellationToken::new(), theirs),
    );
    let (done, failed) = if first.is_ok() { (first, second) } else { (second, first) };
    assert_eq!(code(&failed), Code::JobMismatch);
    assert_eq!(failed.unwrap_err().leftovers, []);
    cloud.truth().assert_one_ready(&done);
}

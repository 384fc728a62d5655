//! The end of a job on somebody's word, and the look at where it stands.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Cloud, Notebook, answer, fault, labels, namesake, page, params, settings, with_timeout};
use provision_vm::provision::{
    CancellationToken, Code, Deprovisioned, Kind, Params, ProvisionError, State, Status, Which,
};
use serde_json::json;
use simulator::{Api, Config, FaultKind, PlantedDevice, PlantedServer};

async fn deprovision(cloud: &Cloud, which: Which) -> Result<Deprovisioned, Box<ProvisionError>> {
    let notes = Arc::new(Notebook::default());
    cloud.told(5).deprovision(&which, &settings(), CancellationToken::new(), notes).await
}

fn of_job() -> Which {
    Which::Job(params().job_id)
}

async fn look(cloud: &Cloud) -> Status {
    let notes = Arc::new(Notebook::default());
    cloud.told(5).status("job-1", &settings(), CancellationToken::new(), notes).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_ready_job_goes_with_its_device_and_a_repetition_finds_nothing() {
    for by in ["job", "id", "name"] {
        let cloud = Cloud::usual();
        let done = cloud.provision(&settings()).await.unwrap();
        let which = match by {
            "job" => of_job(),
            "id" => Which::Server { id: done.server.id.0, force: false },
            _ => Which::Name(done.server.name.clone()),
        };
        let report = deprovision(&cloud, which.clone()).await.unwrap();
        let [server] = report.servers.as_slice() else { panic!("{report:?}") };
        assert_eq!(
            (server.server_id, server.job_id.as_deref(), &server.left),
            (done.server.id.0, Some("job-1"), &None)
        );
        assert_eq!(report.leftovers, [], "{by}");
        cloud.truth().assert_empty();
        let again = deprovision(&cloud, which).await.unwrap();
        assert_eq!((again.servers.as_slice(), again.leftovers.as_slice()), (&[][..], &[][..]));
        // The job can be had anew.
        cloud.truth().assert_empty();
        assert!(!cloud.provision(&settings()).await.unwrap().reused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_connects_from_elsewhere_by_now_goes_by_its_label() {
    let cloud = Cloud::usual();
    let done = cloud.provision(&settings()).await.unwrap();
    // A stranger of the same name stands beside it.
    let stranger = cloud.world().plant_device(namesake(&done.server.name));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let report = deprovision(&cloud, of_job()).await.unwrap();
    assert_eq!(report.leftovers, []);
    let truth = cloud.truth();
    assert_eq!((truth.servers().len(), truth.devices().len()), (0, 1));
    assert_eq!(truth.devices()[0]["node_id"], stranger.0.as_str());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_under_way_or_dead_goes_with_its_key() {
    for (dies_after, waits) in [(4, 0), (12, 0), (30, 0), (12, 900)] {
        let cloud = Cloud::usual();
        let settings = with_timeout(60);
        let died = tokio::time::timeout(Duration::from_secs(dies_after), cloud.provision(&settings)).await;
        tokio::time::sleep(Duration::from_secs(waits)).await;
        if died.is_err() {
            assert_eq!(cloud.truth().servers().len(), 1);
        }
        let report = deprovision(&cloud, of_job()).await.unwrap();
        assert_eq!((report.servers.len(), report.leftovers.as_slice()), (1, &[][..]), "{dies_after} s");
        tokio::time::sleep(Duration::from_secs(60)).await;
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn m09_a_machine_that_is_let_in_while_its_server_goes_goes_too() {
    let mut config = Config::default();
    config.machine.queued_joins = true;
    (config.machine.install_seconds, config.machine.join_seconds) = ((1.0, 1.0), 6.0);
    let cloud = Cloud::new(config);
    let call = async {
        let settings = settings();
        tokio::select! {
            _ = cloud.provision(&settings) => panic!("it was to die"),
            () = cloud.until(|truth| truth.servers().iter().any(|server| server["first_boot_done"] == true)) => {}
        }
    };
    call.await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = deprovision(&cloud, of_job()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left: Vec<Kind> = report.leftovers.iter().map(|left| left.kind).collect();
    assert!(cloud.truth().devices().is_empty() || left.contains(&Kind::Device), "{left:?} {}", cloud.truth().0);
    assert_eq!((cloud.truth().servers().len(), cloud.truth().usable_keys()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_provably_ours_is_refused_unless_told_by_its_id_and_force() {
    let plant = |cloud: &Cloud, more: &[(&str, &str)]| {
        let labels = labels(&[&[("provisioning_job_id", "job-1")][..], more].concat());
        cloud.world().plant_server(PlantedServer { name: "web-1".to_owned(), labels, ..PlantedServer::default() })
    };
    let cloud = Cloud::usual();
    let id = plant(&cloud, &[("agent_id", "somebody")]);
    for which in [of_job(), Which::Server { id, force: false }, Which::Name("web-1".to_owned())] {
        let error = deprovision(&cloud, which.clone()).await.unwrap_err();
        assert_eq!((error.cause.code(), error.leftovers.as_slice()), (Code::NameConflict, &[][..]), "{which:?}");
        assert_eq!(cloud.truth().servers().len(), 1);
    }
    let report = deprovision(&cloud, Which::Server { id, force: true }).await.unwrap();
    assert_eq!((report.servers.len(), report.servers[0].job_id.clone()), (1, None));
    cloud.truth().assert_empty();
    // One of a job's two is foreign: neither goes.
    let cloud = Cloud::usual();
    cloud.provision(&settings()).await.unwrap();
    plant(&cloud, &[]);
    assert!(deprovision(&cloud, of_job()).await.is_err());
    assert_eq!((cloud.truth().servers().len(), cloud.truth().devices().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_asked_for_goes_whatever_is_answered() {
    // Lists are answered without their filter, and a server with another one.
    let cloud = Cloud::usual();
    let other = Params { job_id: "job-2".to_owned(), ..params() };
    let mine = cloud.provision(&settings()).await.unwrap();
    let notes = || Arc::new(Notebook::default());
    let theirs = cloud.process(3).provision(&other, &settings(), CancellationToken::new(), notes()).await.unwrap();
    let (all, one) = (cloud.clone(), theirs.server.id);
    let list = move || {
        let servers: Vec<_> =
            all.world().servers().map(|s| json!({ "id": s.id, "name": s.name, "labels": s.labels })).collect();
        json!({ "servers": servers, "meta": { "pagination": null } })
    };
    let unfiltered = answer(200, list(), false);
    cloud.world().inject(fault(Api::Hetzner, "GET", "/servers", 1, unfiltered.clone()));
    assert_eq!(look(&cloud).await.server.unwrap().id, mine.server.id);
    cloud.world().inject(fault(Api::Hetzner, "GET", "/servers", 1, unfiltered));
    let report = deprovision(&cloud, of_job()).await.unwrap();
    assert_eq!((report.servers.len(), report.servers[0].server_id), (1, mine.server.id.0));
    assert_eq!(cloud.truth().servers().len(), 1);
    let wrong = json!({ "server": { "id": one.0, "name": theirs.server.name, "labels": theirs.server.labels } });
    cloud.world().inject(fault(Api::Hetzner, "GET", "/servers/*", 99, answer(200, wrong, false)));
    assert!(deprovision(&cloud, Which::Server { id: 77, force: true }).await.is_err());
    assert_eq!(cloud.truth().servers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_key_of_an_attempt_that_lives_is_revoked_or_named() {
    for (method, times, left) in [("GET", 3, 0), ("GET", 999, 1), ("DELETE", 3, 0), ("DELETE", 999, 1)] {
        let cloud = Cloud::that_never_joins();
        let settings = with_timeout(60);
        assert!(tokio::time::timeout(Duration::from_secs(12), cloud.provision(&settings)).await.is_err());
        let broken = page(503, "<html>unavailable</html>", false);
        cloud.world().inject(fault(Api::Tailscale, method, "/tailnet/-/keys/*", times, broken));
        let report = deprovision(&cloud, of_job()).await.unwrap();
        let keys = report.leftovers.iter().filter(|left| left.kind == Kind::AuthKey).count();
        assert_eq!((keys, cloud.truth().usable_keys()), (left, left), "{method} {times}: {:?}", report.leftovers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_device_of_the_same_machine_goes_too_and_a_server_that_lags_is_found() {
    let cloud = Cloud::usual();
    let done = cloud.provision(&settings()).await.unwrap();
    let public_ip = Some(done.server_ip);
    cloud.world().plant_device(PlantedDevice { public_ip, ..namesake(&done.server.name) });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(deprovision(&cloud, of_job()).await.unwrap().leftovers, []);
    assert_eq!(cloud.truth().devices().len(), 0);

    let mut config = Config::default();
    config.hetzner.stale_created_seconds = 5.0;
    let cloud = Cloud::new(config);
    let settings = with_timeout(60);
    let dying = async {
        tokio::select! {
            _ = cloud.provision(&settings) => panic!("it was to die"),
            () = cloud.until(|truth| !truth.servers().is_empty()) => {}
        }
    };
    dying.await;
    assert_eq!(deprovision(&cloud, of_job()).await.unwrap().servers.len(), 1);
    assert_eq!(cloud.truth().servers().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_forced_removal_that_has_begun_is_not_cut_short() {
    let cloud = Cloud::usual();
    let id = cloud.world().plant_server(PlantedServer { name: "web-1".to_owned(), ..PlantedServer::default() });
    cloud.world().inject(fault(Api::Hetzner, "DELETE", "/servers/*", 1, FaultKind::Slow { ms: 5_000 }));
    let cancel = CancellationToken::new();
    let giving_up = async {
        cloud.until(|truth| truth.faults_fired() > 0).await;
        cancel.cancel();
    };
    let (told, settings, which) = (cloud.told(5), settings(), Which::Server { id, force: true });
    let call = told.deprovision(&which, &settings, cancel.clone(), Arc::new(Notebook::default()));
    let report = tokio::join!(call, giving_up).0.unwrap();
    assert_eq!((report.servers[0].left.clone(), report.leftovers), (None, vec![]));
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_named() {
    let cloud = Cloud::usual();
    let done = cloud.provision(&settings()).await.unwrap();
    cloud.world().touch_server(done.server.id.0, None, Some(true));
    let report = deprovision(&cloud, of_job()).await.unwrap();
    assert!(report.servers[0].left.as_ref().unwrap().contains("protected"));
    let kinds: Vec<Kind> = report.leftovers.iter().map(|left| left.kind).collect();
    assert_eq!(kinds, [Kind::Server, Kind::Device]);
    assert_eq!((cloud.truth().servers().len(), cloud.truth().devices().len()), (1, 1));
    // Lifted, it goes.
    cloud.world().touch_server(done.server.id.0, None, Some(false));
    assert_eq!(deprovision(&cloud, of_job()).await.unwrap().leftovers, []);
    cloud.truth().assert_empty();

    let cloud = Cloud::usual();
    let done = cloud.provision(&settings()).await.unwrap();
    let refusal = answer(403, json!({ "message": "not permitted" }), false);
    cloud.world().inject(fault(Api::Tailscale, "DELETE", "/device/*", 99, refusal));
    let report = deprovision(&cloud, of_job()).await.unwrap();
    let [left] = report.leftovers.as_slice() else { panic!("{report:?}") };
    assert_eq!((left.kind, left.id.as_deref()), (Kind::Device, Some(done.node_id.as_str())));
}

#[tokio::test(start_paused = true)]
async fn a_removal_survives_what_passes_and_is_not_cut_short() {
    for (method, path, kind, times) in [
        ("DELETE", "/servers/*", FaultKind::ResetAfterApply, 1),
        ("DELETE", "/servers/*", page(502, "<html>bad gateway</html>", false), 3),
        ("GET", "/servers/*", FaultKind::RateLimited { with_headers: true }, 2),
    ] {
        let cloud = Cloud::usual();
        cloud.provision(&settings()).await.unwrap();
        cloud.world().inject(fault(Api::Hetzner, method, path, times, kind));
        let cancel = CancellationToken::new();
        let giving_up = async {
            cloud.until(|truth| truth.faults_fired() > 0).await;
            cancel.cancel();
        };
        let (told, settings, which) = (cloud.told(5), settings(), of_job());
        let call = told.deprovision(&which, &settings, cancel.clone(), Arc::new(Notebook::default()));
        let (report, ()) = tokio::join!(call, giving_up);
        let report = report.unwrap();
        assert_eq!(report.servers[0].left, None, "{report:?}");
        assert_eq!(cloud.truth().servers().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_tells_the_whole_way_and_takes_two_requests_at_most() {
    let cloud = Cloud::usual();
    assert_eq!((look(&cloud).await.state, look(&cloud).await.percent), (State::Absent, 0));
    let watching = async {
        let (mut seen, mut percent) = (Vec::new(), 0);
        loop {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let status = look(&cloud).await;
            assert!(status.requests.0 <= 2 && status.requests.1 <= 2, "{:?}", status.requests);
            assert!(status.percent >= percent || status.state == State::Absent, "{status:?} after {percent}");
            percent = status.percent;
            // It may look before there is anything to see.
            if seen.last() != Some(&status.state) && status.state != State::Absent {
                seen.push(status.state);
            }
            if status.state == State::Ready {
                return (seen, status);
            }
        }
    };
    let settings = settings();
    let (done, (seen, status)) = tokio::join!(cloud.provision(&settings), watching);
    let done = done.unwrap();
    assert_eq!(seen, [State::Creating, State::Booting, State::Enrolled, State::Ready]);
    assert_eq!((status.tailscale_ip, status.percent), (Some(done.tailscale_ip), 100));
    assert_eq!((status.server.unwrap().id, status.agent.as_deref()), (done.server.id, Some("550e8400-e29b")));
    assert_eq!(status.node_id.as_deref(), Some(done.node_id.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_status_of_what_died_is_expired_and_of_what_is_undone_absent() {
    let cloud = Cloud::with_a_dead_attempt(|_| ()).await;
    let status = look(&cloud).await;
    assert_eq!((status.state, status.expires_in), (State::Expired, Some(Duration::ZERO)));
    assert!(cloud.provision(&with_timeout(40)).await.is_err());
    assert_eq!(look(&cloud).await.state, State::Absent);
    // One that is ready and off is ready, and its device does not verify.
    let cloud = Cloud::usual();
    let done = cloud.provision(&settings()).await.unwrap();
    let node = done.node_id.clone();
    cloud.world().remove_device(&simulator::NodeId(node));
    let status = look(&cloud).await;
    assert_eq!((status.state, status.tailscale_ip), (State::Ready, None));
    assert_eq!(status.obstacle, Some("no such device was seen"));
    // A stranger's server under the job's label is nobody's state.
    let cloud = Cloud::usual();
    let labels = labels(&[("provisioning_job_id", "job-1")]);
    cloud.world().plant_server(PlantedServer { name: "web-1".to_owned(), labels, ..PlantedServer::default() });
    let notes = Arc::new(Notebook::default());
    let error = cloud.told(5).status("job-1", &settings(), CancellationToken::new(), notes).await.unwrap_err();
    assert_eq!(error.cause.code(), Code::NameConflict);
}

//! What a run of a workflow left, and who may remove it (faults H02 to H06).

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Cloud, Notebook, answer, fault, page, params, settings};
use provision_vm::provision::settings::WorkflowRun;
use provision_vm::provision::{CancellationToken, CleanedUp, Code, Kind, LeftBy, Outcome, Params, Settings};
use serde_json::json;
use simulator::{Api, Config, FaultKind};

fn run(id: &str) -> WorkflowRun {
    WorkflowRun::new(id).unwrap()
}

fn of_run(id: &str) -> Settings {
    Settings { run: Some(run(id)), ..settings() }
}

/// Cleans up after runs of the usual job.
async fn clean_up(cloud: &Cloud, ids: &[&str]) -> CleanedUp {
    let Params { job_id, agent_id, .. } = params();
    let what = LeftBy { job_id, agent_id: Some(agent_id), runs: ids.iter().map(|id| run(id)).collect() };
    let notes = Arc::new(Notebook::default());
    let settings = Settings { timeout: Duration::from_secs(60), ..settings() };
    cloud.process(5).clean_up(&what, &settings, CancellationToken::new(), notes).await.unwrap()
}

/// Nothing was found.
fn is_nothing(report: &CleanedUp) -> bool {
    report.servers.is_empty() && report.keys.is_empty() && report.leftovers.is_empty()
}

/// A call of this run that is killed as soon as the world is so.
async fn killed_when(cloud: &Cloud, id: &str, is_so: impl Fn(&crate::support::Truth) -> bool) {
    let settings = of_run(id);
    tokio::select! {
        _ = cloud.provision(&settings) => panic!("it was to be killed"),
        () = cloud.until(is_so) => {}
    }
}

async fn provision(cloud: &Cloud, settings: &Settings) -> Outcome {
    cloud.provision(settings).await
}

#[tokio::test(start_paused = true)]
async fn h02_what_a_killed_run_left_goes_whenever_it_was_killed() {
    type IsSo = fn(&crate::support::Truth) -> bool;
    let moments: [(&str, IsSo, usize, usize); 4] = [
        ("a key alone", |truth| truth.usable_keys() == 1, 0, 1),
        ("a server that is being made", |truth| truth.servers().len() == 1, 1, 0),
        ("a machine that boots", |truth| truth.servers().iter().any(|it| it["status"] == "running"), 1, 0),
        ("a machine that has joined", |truth| truth.devices().iter().any(|it| it["connected"] == true), 1, 0),
    ];
    for (moment, is_so, servers, keys) in moments {
        let cloud = Cloud::usual();
        killed_when(&cloud, "4711-1", is_so).await;
        // What was on its way when the process died still arrives.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let report = clean_up(&cloud, &["4711-1"]).await;
        assert_eq!((report.servers.len(), report.keys.len()), (servers, keys), "{moment}: {report:?}");
        assert_eq!(report.leftovers, [], "{moment}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        cloud.truth().assert_empty();
        assert!(is_nothing(&clean_up(&cloud, &["4711-1"]).await), "{moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn h06_what_was_handed_over_stays_whoever_made_it() {
    let cloud = Cloud::usual();
    let made = provision(&cloud, &of_run("4711-1")).await.unwrap();
    // The same run, its next attempt, another run, and one whose id merely begins alike.
    assert!(is_nothing(&clean_up(&cloud, &["4711-1"]).await));
    assert!(is_nothing(&clean_up(&cloud, &["4711-1", "4711-2", "4712-1", "471"]).await));
    let again = provision(&cloud, &of_run("4711-2")).await.unwrap();
    assert!(again.reused && again.server.id == made.server.id);
}

#[tokio::test(start_paused = true)]
async fn h04_what_another_run_has_under_way_stays() {
    let cloud = Cloud::usual();
    let settings = of_run("4711-1");
    let underway = provision(&cloud, &settings);
    let meddling = async {
        cloud.until(|truth| truth.servers().len() == 1).await;
        for ids in [&["4712-1"][..], &["4711-2"], &["4711-11", "4711"]] {
            assert!(is_nothing(&clean_up(&cloud, ids).await), "{ids:?}");
        }
    };
    let (made, ()) = tokio::join!(underway, meddling);
    assert!(!made.unwrap().reused);
}

#[tokio::test(start_paused = true)]
async fn h05_earlier_attempts_of_a_run_are_over_as_well() {
    let cloud = Cloud::usual();
    killed_when(&cloud, "4711-1", |truth| truth.servers().len() == 1).await;
    let report = clean_up(&cloud, &["4711-1", "4711-2"]).await;
    assert_eq!((report.servers.len(), report.leftovers.as_slice()), (1, &[][..]));
    cloud.truth().assert_empty();
    assert!(!provision(&cloud, &of_run("4711-2")).await.unwrap().reused);
}

#[tokio::test(start_paused = true)]
async fn another_jobs_server_of_the_same_run_stays() {
    let cloud = Cloud::usual();
    let (params, settings) = (Params { job_id: "job-2".to_owned(), ..params() }, of_run("4711-1"));
    let process = cloud.process(3);
    let other = process.provision(&params, &settings, CancellationToken::new(), Arc::new(Notebook::default()));
    let meddling = async {
        cloud.until(|truth| truth.servers().len() == 1).await;
        assert!(is_nothing(&clean_up(&cloud, &["4711-1"]).await));
    };
    let (made, ()) = tokio::join!(other, meddling);
    made.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_outlived_its_hand_over_goes_and_its_machine_stays() {
    let cloud = Cloud::usual();
    // An order whose answer was lost is carried out late, and the process dies before it revokes what that made.
    cloud.fault(Api::Tailscale, "POST", "/tailnet/-/keys", FaultKind::ResetThenApply { after_ms: 25_000 });
    killed_when(&cloud, "4711-1", |truth| truth.servers().iter().any(|it| it["labels"]["state"] == "ready")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cloud.truth();
    assert_eq!(before.usable_keys(), 1, "{}", before.0);
    let report = clean_up(&cloud, &["4711-1"]).await;
    assert_eq!((report.servers.len(), report.keys.len(), report.leftovers.len()), (0, 1, 0));
    let truth = cloud.truth();
    assert_eq!((truth.servers().len(), truth.devices().len(), truth.usable_keys()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_named_and_the_rest_goes() {
    let cloud = Cloud::usual();
    killed_when(&cloud, "4711-1", |truth| truth.servers().len() == 1).await;
    let refusal = answer(403, json!({ "error": { "code": "protected", "message": "server is protected" } }), false);
    cloud.world().inject(fault(Api::Hetzner, "DELETE", "/servers/*", u32::MAX, refusal));
    let report = clean_up(&cloud, &["4711-1"]).await;
    let left: Vec<Kind> = report.leftovers.iter().map(|left| left.kind).collect();
    assert!(left.contains(&Kind::Server) && report.servers[0].left.is_some(), "{report:?}");
    assert_eq!(cloud.truth().usable_keys(), 0, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_still_good_after_its_revocation_is_named() {
    let cloud = Cloud::usual();
    killed_when(&cloud, "4711-1", |truth| truth.usable_keys() == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Whoever says that it is done need not be Tailscale.
    let welcome = page(200, "<html>welcome</html>", false);
    cloud.world().inject(fault(Api::Tailscale, "DELETE", "/tailnet/-/keys/*", u32::MAX, welcome));
    let report = clean_up(&cloud, &["4711-1"]).await;
    assert_eq!((cloud.truth().usable_keys(), report.keys.len()), (1, 0), "{report:?}");
    assert!(report.leftovers.iter().any(|left| left.kind == Kind::AuthKey && left.id.is_some()), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn devices_that_cannot_be_read_are_not_said_to_be_gone() {
    let cloud = Cloud::usual();
    let (settings, cancel) = (of_run("4711-1"), CancellationToken::new());
    let process = cloud.process(3);
    let (params, notes) = (params(), Arc::new(Notebook::default()));
    let dying = async {
        cloud.until(|truth| truth.devices().iter().any(|it| it["connected"] == true)).await;
        cancel.cancel();
        cloud.until(|truth| truth.servers().is_empty()).await;
    };
    tokio::select! {
        _ = process.provision(&params, &settings, cancel.clone(), notes) => panic!("it was to be killed"),
        () = dying => {}
    }
    cloud.world().inject(fault(Api::Tailscale, "GET", "/tailnet/-/devices", u32::MAX, FaultKind::Refuse));
    let report = clean_up(&cloud, &["4711-1"]).await;
    assert_eq!(cloud.truth().devices().len(), 1);
    assert!(report.leftovers.iter().any(|left| left.kind == Kind::Device), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tailnet_that_cannot_be_asked_keeps_no_server_alive() {
    let cloud = Cloud::usual();
    killed_when(&cloud, "4711-1", |truth| truth.servers().len() == 1).await;
    cloud.world().inject(fault(Api::Tailscale, "GET", "/tailnet/**", u32::MAX, FaultKind::Refuse));
    let report = clean_up(&cloud, &["4711-1"]).await;
    assert_eq!(cloud.truth().servers().len(), 0);
    // Whether another key is about could not be read, so it is named by what its description would begin with.
    assert!(report.leftovers.iter().any(|left| left.kind == Kind::AuthKey && left.id.is_none()), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn g32_what_was_marked_just_now_stays_though_no_read_shows_it_yet() {
    let mut config = Config::default();
    config.hetzner.stale_labels_seconds = 5.0;
    let cloud = Cloud::new(config);
    killed_when(&cloud, "4711-1", |truth| truth.servers().iter().any(|it| it["labels"]["state"] == "ready")).await;
    assert!(is_nothing(&clean_up(&cloud, &["4711-1"]).await));
    assert_eq!((cloud.truth().servers().len(), cloud.truth().devices().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_cannot_be_asked_keeps_no_key_alive() {
    let cloud = Cloud::usual();
    killed_when(&cloud, "4711-1", |truth| truth.usable_keys() == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refusal =
        answer(401, json!({ "error": { "code": "unauthorized", "message": "unable to authenticate" } }), false);
    cloud.world().inject(fault(Api::Hetzner, "GET", "/servers", u32::MAX, refusal));
    let what = LeftBy { job_id: params().job_id, agent_id: None, runs: vec![run("4711-1")] };
    let notes = Arc::new(Notebook::default());
    let error = cloud.told(5).clean_up(&what, &settings(), CancellationToken::new(), notes).await.unwrap_err();
    assert_eq!((error.cause.code(), cloud.truth().usable_keys()), (Code::AuthHetzner, 0));
}

#[tokio::test(start_paused = true)]
async fn g10_an_outage_that_passes_is_waited_for() {
    let cloud = Cloud::usual();
    killed_when(&cloud, "4711-1", |truth| truth.servers().len() == 1).await;
    cloud.world().inject(fault(Api::Hetzner, "GET", "/servers", 8, answer(503, json!({}), false)));
    let began = cloud.now();
    let report = clean_up(&cloud, &["4711-1"]).await;
    assert_eq!((report.servers.len(), report.leftovers.as_slice()), (1, &[][..]));
    let took = cloud.now().saturating_sub(began);
    assert!(took > Duration::from_secs(5), "{took:?}");
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_cannot_be_asked_is_an_error() {
    let cloud = Cloud::usual();
    cloud.world().inject(fault(Api::Hetzner, "GET", "/servers", u32::MAX, FaultKind::Refuse));
    let what = LeftBy { job_id: params().job_id, agent_id: None, runs: vec![run("4711-1")] };
    let settings = Settings { timeout: Duration::from_secs(20), ..settings() };
    let notes = Arc::new(Notebook::default());
    let error = cloud.told(5).clean_up(&what, &settings, CancellationToken::new(), notes).await.unwrap_err();
    assert_eq!(error.cause.code(), Code::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_server_the_run_removed_itself_is_named_and_stays() {
    let cloud = Cloud::usual();
    let settings = of_run("4711-1");
    let giving_up = CancellationToken::new();
    let process = cloud.process(3);
    let (params, notes) = (params(), Arc::new(Notebook::default()));
    tokio::select! {
        _ = process.provision(&params, &settings, giving_up.clone(), notes) => panic!("it was to be killed"),
        () = async {
            cloud.until(|truth| truth.devices().iter().any(|it| it["connected"] == true)).await;
            giving_up.cancel();
            cloud.until(|truth| truth.servers().is_empty()).await;
        } => {}
    }
    let report = clean_up(&cloud, &["4711-1"]).await;
    let left: Vec<_> = report.leftovers.iter().map(|left| (left.kind, left.name.clone())).collect();
    let name = cloud.truth().devices()[0]["hostname"].as_str().map(str::to_owned);
    assert_eq!((left, report.keys.len()), (vec![(Kind::Device, name)], 0));
    // As does the device of a job that has its server in another project.
    assert_eq!(cloud.truth().devices().len(), 1);
}

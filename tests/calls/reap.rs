//! What dead attempts left is found by its labels, and finished or removed; what may still live is not touched.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Cloud, labels, settings, with_timeout};
use provision_vm::provision::{CancellationToken, Fate, Kind, ReapOptions, ReapReport, Silent};
use simulator::{Api, Config, Fault, FaultKind, PlantedServer};

const FOR_REAL: ReapOptions = ReapOptions { dry_run: false, grace: Duration::from_secs(300) };

async fn reap(cloud: &Cloud, options: ReapOptions) -> ReapReport {
    let reaper = cloud.process(99);
    reaper.reap(options, &settings(), CancellationToken::new(), Arc::new(Silent)).await.unwrap()
}

/// A call whose process dies after so many seconds; its attempt counts as dead after 60 s + 360 s.
async fn die_after(cloud: &Cloud, seconds: u64) {
    let died = tokio::time::timeout(Duration::from_secs(seconds), cloud.provision(&with_timeout(60))).await;
    assert!(died.is_err());
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn i18_one_pass_after_the_end_of_an_attempt_leaves_nothing_of_it() {
    for dies_after in [3, 9, 20, 45] {
        let cloud = Cloud::that_never_joins();
        die_after(&cloud, dies_after).await;
        pass(720).await;
        let report = reap(&cloud, FOR_REAL).await;
        assert_eq!((report.servers.len(), report.alive), (1, 0), "{report:?}");
        assert_eq!((&report.servers[0].fate, report.servers[0].leftovers.as_slice()), (&Fate::Removed, &[][..]));
        cloud.truth().assert_empty();
        assert_eq!(reap(&cloud, FOR_REAL).await.servers, [], "Q07: a second pass finds nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_it_would_do_and_changes_nothing() {
    let cloud = Cloud::that_never_joins();
    die_after(&cloud, 20).await;
    pass(900).await;
    let before = cloud.truth();
    let report = reap(&cloud, ReapOptions::default()).await;
    assert!(report.dry_run);
    let [server] = report.servers.as_slice() else { panic!("one server: {report:?}") };
    assert_eq!((server.fate.clone(), server.job_id.as_str()), (Fate::WouldRemove, "job-1"));
    assert!((495..505).contains(&server.dead_for.as_secs()), "{server:?}");
    let after = cloud.truth();
    assert_eq!((before.servers(), before.0["keys"].clone()), (after.servers(), after.0["keys"].clone()));
    let journal = cloud.world().journal().to_vec();
    assert!(
        journal.iter().rev().take(4).all(|entry| !entry.what.starts_with("DELETE") && !entry.what.starts_with("PUT"))
    );
    let is_late = |entry: &&simulator::Entry| entry.at_ms > 900_000;
    let looks = journal.iter().filter(is_late).filter(|entry| entry.what.contains("/devices?")).count();
    assert_eq!(looks, 1, "nothing hangs on its word, so one look is enough");
}

#[tokio::test(start_paused = true)]
async fn q06_an_attempt_that_may_still_live_is_left_alone() {
    let cloud = Cloud::that_never_joins();
    die_after(&cloud, 20).await;
    // Its end is at 420 s, and the grace is 300 s.
    for (wait, found) in [(0, 0), (390, 0), (290, 0), (40, 1)] {
        pass(wait).await;
        let report = reap(&cloud, FOR_REAL).await;
        assert_eq!((report.servers.len(), report.alive), (found, u32::from(found == 0)), "after {wait} s more");
    }
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn m22_a_machine_that_joined_is_marked_ready_instead_of_removed() {
    let cloud = Cloud::usual();
    die_after(&cloud, 15).await;
    pass(900).await;
    let dry = reap(&cloud, ReapOptions::default()).await;
    assert_eq!(dry.servers[0].fate, Fate::WouldMarkReady);
    let report = reap(&cloud, FOR_REAL).await;
    assert_eq!(report.servers[0].fate, Fate::MarkedReady);
    let outcome = cloud.provision(&settings()).await;
    assert!(outcome.as_ref().unwrap().reused);
    cloud.truth().assert_one_ready(&outcome);
}

#[tokio::test(start_paused = true)]
async fn m22_a_machine_that_no_list_shows_at_first_is_seen_at_the_second_look() {
    let mut config = Config::default();
    // It joins at about 25 s, and the reaper comes at 915 s.
    config.tailscale.visibility_seconds = 897.0;
    let cloud = Cloud::new(config);
    die_after(&cloud, 15).await;
    pass(900).await;
    assert_eq!(reap(&cloud, ReapOptions::default()).await.servers[0].fate, Fate::WouldRemove);
    assert_eq!(reap(&cloud, FOR_REAL).await.servers[0].fate, Fate::MarkedReady);
    assert_eq!(cloud.truth().servers()[0]["labels"]["state"], "ready");
}

#[tokio::test(start_paused = true)]
async fn a_machine_whose_device_stands_but_does_not_verify_is_reported() {
    let mut config = Config::default();
    config.tailscale.never_authorized = true;
    let cloud = Cloud::new(config);
    die_after(&cloud, 40).await;
    pass(900).await;
    for options in [ReapOptions::default(), FOR_REAL] {
        let report = reap(&cloud, options).await;
        assert_eq!(report.servers[0].fate, Fate::Left("the device waits for approval".to_owned()));
        assert_eq!(report.servers[0].leftovers.len(), usize::from(!options.dry_run));
    }
    assert_eq!((cloud.truth().servers().len(), cloud.truth().devices().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn i02_only_what_is_provably_ours_is_touched() {
    let dead = [
        ("managed_by", "provision-vm"),
        ("provisioning_job_id", "job-9"),
        ("agent_id", "agent-9"),
        ("attempt", "0123456789abcdef"),
        ("attempt_started", "1795420000"),
        ("expires", "1795421000"),
        ("state", "creating"),
    ];
    let without = |name: &str| dead.into_iter().filter(|(key, _)| *key != name).collect::<Vec<_>>();
    let with =
        |name: &str, value: &'static str| dead.map(|(key, old)| (key, if key == name { value } else { old })).to_vec();
    for (case, name, pairs) in [
        ("another name", "web-1", dead.to_vec()),
        ("nobody's", "agent-agent-9-0", without("managed_by")),
        ("somebody else's", "agent-agent-9-1", with("managed_by", "terraform")),
        ("no end", "agent-agent-9-2", without("expires")),
        ("no attempt", "agent-agent-9-3", without("attempt")),
        ("an unreadable end", "agent-agent-9-4", with("expires", "soon")),
        ("ready", "agent-agent-9-5", with("state", "ready")),
        ("a state of tomorrow", "agent-agent-9-6", with("state", "frozen")),
    ] {
        let cloud = Cloud::usual();
        let planted = PlantedServer { name: name.to_owned(), labels: labels(&pairs), ..Default::default() };
        cloud.world().plant_server(planted);
        let before = cloud.truth().servers();
        let report = reap(&cloud, FOR_REAL).await;
        assert_eq!(before, cloud.truth().servers(), "{case}: {report:?}");
        assert!(report.servers.iter().all(|server| matches!(server.fate, Fate::Left(_))), "{case}: {report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn m25_what_cannot_be_removed_is_named_and_does_not_stop_the_pass() {
    let cloud = Cloud::that_never_joins();
    die_after(&cloud, 20).await;
    let id = cloud.truth().servers()[0]["id"].as_u64().unwrap();
    cloud.world().touch_server(id, None, Some(true));
    pass(900).await;
    let report = reap(&cloud, FOR_REAL).await;
    let [server] = report.servers.as_slice() else { panic!("one server: {report:?}") };
    assert!(matches!(&server.fate, Fate::Left(why) if why.contains("protected")), "{server:?}");
    assert_eq!((server.leftovers[0].kind, server.leftovers[0].id.clone()), (Kind::Server, Some(id.to_string())));
}

#[tokio::test(start_paused = true)]
async fn q07_two_reapers_at_once_and_lost_replies_do_no_harm() {
    for kind in [FaultKind::ResetAfterApply, FaultKind::ResetBeforeApply, FaultKind::RateLimited { with_headers: true }]
    {
        let cloud = Cloud::that_never_joins();
        die_after(&cloud, 20).await;
        pass(900).await;
        let (method, path) = (Some("DELETE".to_owned()), Some("/servers/*".to_owned()));
        cloud.world().inject(Fault { api: Api::Hetzner, method, path, skip: 0, times: 2, kind });
        let (one, two) = tokio::join!(reap(&cloud, FOR_REAL), reap(&cloud, FOR_REAL));
        for report in [one, two] {
            assert!(report.servers.iter().all(|server| server.fate == Fate::Removed), "{report:?}");
        }
        cloud.truth().assert_empty();
    }
}

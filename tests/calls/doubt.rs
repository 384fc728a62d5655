//! What must not be believed at once: an absence, a clock, a namesake, an address, a text.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use provision_vm::provision::{CancellationToken, Certainty, Code, Fate, Hold, Kind, ReapOptions, ReapReport};
use serde_json::{Value, json};
use simulator::{ActionOutcome, Api, Config, Fault, FaultKind, PlantedDevice, PlantedServer};

use crate::support::{
    Changed, Cloud, Meddler, Notebook, answer, change_json, fault, labels, namesake, page, params, settings,
    with_timeout,
};

fn notes() -> Arc<Notebook> {
    Arc::default()
}

async fn reap(cloud: &Cloud) -> ReapReport {
    let options = ReapOptions { dry_run: false, ..ReapOptions::default() };
    cloud.process(9).reap(options, &settings(), CancellationToken::new(), notes()).await.unwrap()
}

fn name_and_address(cloud: &Cloud) -> (String, IpAddr) {
    let world = cloud.world();
    let server = world.servers().next().unwrap();
    (server.name.to_owned(), server.ipv4.unwrap().into())
}

#[tokio::test(start_paused = true)]
async fn x05_x08_one_absence_after_a_delete_without_a_clear_answer_is_not_believed() {
    // Whoever says that it is done need not be Hetzner.
    for (status, text) in [(502, "<html>bad gateway</html>"), (200, "<html>welcome</html>")] {
        let cloud = Cloud::usual();
        let (params, settings, process, cancel) = (params(), settings(), cloud.process(7), CancellationToken::new());
        let call = process.provision(&params, &settings, cancel.clone(), notes());
        let giving_up = async {
            cloud.until(|truth| !truth.servers().is_empty()).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            cloud.fault(Api::Hetzner, "DELETE", "/servers/*", page(status, text, false));
            let stale = FaultKind::StaleRead { seconds: 5.0 };
            cloud.world().inject(Fault { skip: 1, ..fault(Api::Hetzner, "GET", "/servers/*", 1, stale) });
            cancel.cancel();
        };
        let (outcome, ()) = tokio::join!(call, giving_up);
        assert_eq!(outcome.unwrap_err().leftovers, [], "{status}");
        assert_eq!(cloud.truth().faults_fired(), 2, "{status}");
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn m22_a_reaper_looks_for_devices_before_every_single_delete() {
    let cloud = Cloud::with_a_dead_attempt(|_| ()).await;
    let (name, ip) = name_and_address(&cloud);
    let locked = answer(423, json!({ "error": { "code": "locked", "message": "locked" } }), false);
    cloud.world().inject(fault(Api::Hetzner, "DELETE", "/servers/*", 4, locked));
    let planting = async {
        cloud.until(|truth| truth.faults_fired() > 0).await;
        let device = PlantedDevice { connected: false, public_ip: Some(ip), ..namesake(&name) };
        cloud.world().plant_device(device);
    };
    let (report, ()) = tokio::join!(reap(&cloud), planting);
    assert_eq!(report.servers[0].fate, Fate::Left("the device is not connected".to_owned()));
    assert_eq!((cloud.truth().servers().len(), cloud.truth().devices().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn z01_a_clock_that_the_other_cloud_denies_makes_no_living_attempt_look_dead() {
    let cloud = Cloud::that_never_joins();
    let (params, settings) = (params(), with_timeout(300));
    let one = cloud.process(1);
    // A gateway whose dates are an hour ahead stands before Hetzner.
    let two = cloud.process_through(2, |cloud| {
        Changed::way(cloud, |request, answer| {
            let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
            if let Some(date) = date.filter(|_| request.uri().host() == Some("api.hetzner.cloud")) {
                let later = httpdate::parse_http_date(date).unwrap() + Duration::from_secs(3_600);
                let later = httpdate::fmt_http_date(later).parse().unwrap();
                answer.headers_mut().insert(http::header::DATE, later);
            }
        })
    });
    let late = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        two.provision(&params, &settings, CancellationToken::new(), notes()).await
    };
    let (first, _) = tokio::join!(one.provision(&params, &settings, CancellationToken::new(), notes()), late);
    assert_eq!(first.unwrap_err().cause.code(), Code::EnrollTimeout);
    assert_eq!(cloud.truth().servers_ever(), 1);
}

#[tokio::test(start_paused = true)]
async fn m13_a_namesake_that_does_not_say_where_it_is_makes_no_dead_attempt_ready() {
    let cloud = Cloud::with_a_dead_attempt(|_| ()).await;
    let (name, _) = name_and_address(&cloud);
    cloud.world().plant_device(namesake(&name));
    let error = cloud.provision(&settings()).await.unwrap_err();
    assert!(!error.is_retryable() && error.leftovers[0].hold == Hold::Person, "{error} {:?}", error.leftovers);
    assert!(matches!(reap(&cloud).await.servers[0].fate, Fate::Left(_)));
    assert_eq!(cloud.truth().servers()[0]["labels"]["state"], "creating");
}

#[tokio::test(start_paused = true)]
async fn q08_a_machine_that_was_handed_over_is_known_by_its_device() {
    let cloud = Cloud::usual();
    // Its device says that it connects from a private address alone.
    let process = cloud.process_through(1, |cloud| {
        Changed::way(cloud, |request, answer| {
            if request.uri().path().contains("/device/") {
                change_json(answer, |json| json["clientConnectivity"]["endpoints"] = json!(["10.0.0.5:41641"]));
            }
        })
    });
    for reused in [false, true] {
        let outcome = process.provision(&params(), &settings(), CancellationToken::new(), notes()).await;
        assert_eq!(outcome.unwrap().reused, reused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_attempt_whose_server_has_no_ipv4_is_not_marked_ready_and_refused_for_ever() {
    let cloud = Cloud::usual();
    assert!(tokio::time::timeout(Duration::from_secs(15), cloud.provision(&with_timeout(120))).await.is_err());
    tokio::time::sleep(Duration::from_secs(900)).await;
    let process = cloud.process_through(2, |cloud| {
        Changed::way(cloud, |request, answer| {
            if request.uri().path().contains("/servers") {
                change_json(answer, |json| {
                    if let Some(server) = json.get_mut("server") {
                        server["public_net"]["ipv4"] = Value::Null;
                    }
                    for server in json.get_mut("servers").and_then(Value::as_array_mut).into_iter().flatten() {
                        server["public_net"]["ipv4"] = Value::Null;
                    }
                });
            }
        })
    });
    let outcome = process.provision(&params(), &settings(), CancellationToken::new(), notes()).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.leftovers[0].kind, error.leftovers[0].hold), (Kind::Server, Hold::Person));
    assert_eq!(cloud.truth().servers()[0]["labels"]["state"], "creating");
}

#[tokio::test(start_paused = true)]
async fn m24_an_address_that_parts_late_from_a_dead_attempts_server_is_named() {
    let cloud = Cloud::with_a_dead_attempt(|config| config.hetzner.primary_ips_auto_delete = false).await;
    let id = cloud.truth().servers()[0]["id"].clone();
    let assigned = answer(200, json!({ "primary_ip": { "id": 1, "assignee_id": id } }), false);
    cloud.world().inject(fault(Api::Hetzner, "GET", "/primary_ips/*", 2, assigned));
    let report = reap(&cloud).await;
    assert_eq!(report.servers[0].fate, Fate::Removed);
    let named = report.servers[0].leftovers.iter().filter(|left| left.kind == Kind::PrimaryIp).count();
    assert_eq!(named, cloud.truth().0["primary_ips"].as_array().unwrap().len());
    assert_eq!(named, 2);
}

#[tokio::test(start_paused = true)]
async fn g15_what_somebody_took_away_before_the_mark_is_not_called_retryable() {
    let cloud = Cloud::usual();
    assert!(tokio::time::timeout(Duration::from_secs(15), cloud.provision(&with_timeout(120))).await.is_err());
    tokio::time::sleep(Duration::from_secs(900)).await;
    let other = cloud.clone();
    let meddler = Meddler("A dead attempt of this job left a joined", move || {
        let mut world = other.world();
        let (id, mut labels) = world.servers().next().map(|server| (server.id, server.labels.clone())).unwrap();
        labels.insert("managed_by".to_owned(), "somebody".to_owned());
        world.touch_server(id, Some(labels), None);
    });
    let call = cloud.process(7);
    let outcome = call.provision(&params(), &settings(), CancellationToken::new(), Arc::new(meddler)).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.cause.code(), error.is_retryable()), (Code::NameConflict, false));
    let left = &error.leftovers[0];
    assert_eq!((left.kind, left.certainty, left.hold), (Kind::Server, Certainty::Unconfirmed, Hold::Person));
}

#[tokio::test(start_paused = true)]
async fn q10_an_older_server_that_is_not_ours_is_no_race_that_was_lost() {
    let cloud = Cloud::usual();
    let old = cloud.world().plant_server(PlantedServer { name: "old-box".to_owned(), ..PlantedServer::default() });
    let other = cloud.clone();
    let meddler = Meddler("Hetzner server created", move || {
        other.world().touch_server(old, Some(labels(&[("provisioning_job_id", "job-1")])), None);
    });
    let call = cloud.process(7);
    let outcome = call.provision(&params(), &settings(), CancellationToken::new(), Arc::new(meddler)).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.cause.code(), error.is_retryable()), (Code::NameConflict, false));
    assert_eq!(error.leftovers, []);
    assert_eq!(cloud.truth().servers()[0]["id"], old);
}

#[tokio::test(start_paused = true)]
async fn y05_a_token_that_an_action_repeats_is_in_no_error() {
    let mut config = Config::default();
    let token = config.hetzner.token.clone();
    let (code, message) = ("action_failed".to_owned(), format!("call with Bearer {token} failed"));
    config.hetzner.create_action = ActionOutcome::Error { code, message };
    let error = Cloud::new(config).provision(&settings()).await.unwrap_err();
    assert_eq!(error.cause.code(), Code::ActionFailed);
    assert!(error.to_string().contains("Bearer ***") && !error.to_string().contains(&token), "{error}");
}

#[tokio::test(start_paused = true)]
async fn m14_two_namesakes_from_elsewhere_are_reported_and_nothing_is_removed() {
    let cloud = Cloud::with_a_dead_attempt(|_| ()).await;
    let (name, _) = name_and_address(&cloud);
    let elsewhere = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    for public_ip in [elsewhere, IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10))] {
        cloud.world().plant_device(PlantedDevice { public_ip: Some(public_ip), ..namesake(&name) });
    }
    let report = reap(&cloud).await;
    assert_eq!(report.servers[0].fate, Fate::Left("2 devices claim to be this machine".to_owned()));
    assert_eq!((cloud.truth().servers().len(), cloud.truth().devices().len()), (1, 2));
}

//! What must be spared, whatever an answer, a label or a clock says: servers that are ready or alive, devices and keys that are
//! somebody else's. And what such doubts must not hide.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Cloud, Notebook, Outcome, answer, fault, labels, namesake, params, settings, with_timeout};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use provision_vm::provision::{CancellationToken, Code, Kind, Settings};
use provision_vm::secret::Secret;
use provision_vm::tailscale::Credentials;
use provision_vm::transport::{BaseUrl, Transport, TransportError};
use serde_json::json;
use simulator::{Api, BootOutcome, Config, Fault, FaultKind, PlantedDevice, PlantedKey};

/// A call that is given up a while after its server was made.
async fn given_up_with_a_server(cloud: &Cloud, after: Duration) -> Outcome {
    let cancel = CancellationToken::new();
    let (params, settings, process) = (params(), settings(), cloud.process(7));
    let call = process.provision(&params, &settings, cancel.clone(), Arc::new(Notebook::default()));
    let giving_up = async {
        cloud.until(|truth| !truth.servers().is_empty()).await;
        tokio::time::sleep(after).await;
        cancel.cancel();
    };
    tokio::join!(call, giving_up).0
}

#[tokio::test(start_paused = true)]
async fn a_server_that_took_long_to_be_marked_ready_is_not_undone_on_a_stale_read() {
    let mut config = Config::default();
    config.hetzner.stale_labels_seconds = 5.0;
    let cloud = Cloud::new(config);
    cloud.world().inject(fault(Api::Hetzner, "PUT", "/servers/*", 4, FaultKind::RateLimited { with_headers: false }));
    let settings = settings();
    let meddling = async {
        cloud.until(|truth| truth.servers().first().is_some_and(|server| server["labels"]["state"] == "ready")).await;
        cloud.world().inject(fault(Api::Hetzner, "GET", "/servers", 1, FaultKind::TlsInvalid));
    };
    let (outcome, ()) = tokio::join!(cloud.provision(&settings), meddling);
    assert_eq!(outcome.unwrap_err().cause.code(), Code::Tls);
    assert_eq!(cloud.truth().servers()[0]["labels"]["state"], "ready");
}

#[tokio::test(start_paused = true)]
async fn p30_an_answer_that_names_another_server_leaves_the_order_open() {
    let name = Cloud::usual().provision(&settings()).await.unwrap().server.name;
    let cloud = Cloud::new(Config { latency_ms: (1000, 1000), ..Config::default() });
    let action = json!({ "id": 1, "command": "create_server", "status": "running", "progress": 0 });
    let server = json!({ "id": 999_999, "name": name, "labels": {} });
    let kind = answer(201, json!({ "server": server, "action": action, "next_actions": [] }), true);
    cloud.world().inject(fault(Api::Hetzner, "POST", "/servers", 1, kind));
    let error = given_up_with_a_server(&cloud, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.leftovers, []);
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn p24_a_lock_on_an_order_may_mean_that_it_was_carried_out() {
    let cloud = Cloud::new(Config { latency_ms: (100, 100), ..Config::default() });
    let kind = answer(423, json!({ "error": { "code": "locked", "message": "locked" } }), true);
    cloud.world().inject(fault(Api::Hetzner, "POST", "/servers", 4, kind));
    let error = given_up_with_a_server(&cloud, Duration::from_millis(110)).await.unwrap_err();
    assert_eq!(error.leftovers, []);
    cloud.truth().assert_empty();
}

/// A gateway that strips the date of every answer.
struct Dateless(Cloud);

impl Transport for Dateless {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let mut answer = self.0.exchange(request).await?;
            answer.headers_mut().remove(http::header::DATE);
            Ok(answer)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn z01_a_clock_that_is_ahead_makes_no_living_attempt_look_dead() {
    let mut config = Config::default();
    config.machine.boot = BootOutcome::NeverJoins;
    // Far behind this machine's clock, on whatever day the test runs.
    config.epoch = 1_700_000_000;
    let cloud = Cloud::new(config);
    let (params, long, short) = (params(), with_timeout(120), with_timeout(60));
    let (one, two) = (cloud.process(1), cloud.process_through(2, |cloud| Arc::new(Dateless(cloud))));
    let notes = || Arc::new(Notebook::default());
    let late = async {
        tokio::time::sleep(Duration::from_secs(15)).await;
        two.provision(&params, &short, CancellationToken::new(), notes()).await
    };
    let (first, second) = tokio::join!(one.provision(&params, &long, CancellationToken::new(), notes()), late);
    assert_eq!(first.unwrap_err().cause.code(), Code::EnrollTimeout);
    assert_eq!(second.unwrap_err().cause.code(), Code::Deadline);
    assert_eq!(cloud.truth().servers_ever(), 1);
}

/// A machine that slept for half an hour: every clock but its own has gone on meanwhile.
struct Slept(Cloud, Duration);

impl Transport for Slept {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let mut answer = self.0.exchange(request).await?;
            let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
            if let Some(date) = date.filter(|_| self.0.now() > self.1) {
                let later = httpdate::parse_http_date(date).unwrap() + Duration::from_secs(1_800);
                let later = httpdate::fmt_http_date(later).parse().unwrap();
                answer.headers_mut().insert(http::header::DATE, later);
            }
            Ok(answer)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn z03_the_deadline_does_not_wait_for_a_machine_that_slept() {
    let cloud = Cloud::that_never_joins();
    let process = cloud.process_through(1, |cloud| Arc::new(Slept(cloud, Duration::from_secs(30))));
    let (params, settings, notes) = (params(), with_timeout(900), Arc::new(Notebook::default()));
    let outcome = process.provision(&params, &settings, CancellationToken::new(), notes).await;
    assert_eq!(outcome.unwrap_err().cause.code(), Code::EnrollTimeout);
    assert!(cloud.now() < Duration::from_secs(180), "it ended after {:?}", cloud.now());
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_tagged_device_that_joined_without_our_key_is_not_ours_to_remove() {
    let name = Cloud::usual().provision(&settings()).await.unwrap().server.name;
    let cloud = Cloud::that_never_joins();
    let settings = with_timeout(60);
    let planting = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        cloud.world().plant_device(namesake(&name))
    };
    let (outcome, node) = tokio::join!(cloud.provision(&settings), planting);
    assert_eq!(outcome.unwrap_err().leftovers, []);
    assert!(cloud.truth().devices().iter().any(|device| device["node_id"] == node.0.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_not_revoked_on_the_word_of_a_label() {
    let cloud = Cloud::that_never_joins();
    let tags = vec!["tag:agent".to_owned()];
    let key = cloud.world().plant_key(PlantedKey { reusable: true, ephemeral: true, tags });
    let id = key.split('-').nth(2).unwrap().to_owned();
    assert!(tokio::time::timeout(Duration::from_secs(30), cloud.provision(&with_timeout(120))).await.is_err());
    {
        let mut world = cloud.world();
        let (server, mut labels) = world.servers().next().map(|server| (server.id, server.labels.clone())).unwrap();
        labels.insert("auth_key".to_owned(), id.clone());
        world.touch_server(server, Some(labels), None);
        world.configure(|config| config.machine.boot = BootOutcome::Joins);
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    cloud.provision(&settings()).await.unwrap();
    assert!(cloud.world().keys().any(|key| key.id == id && key.usable));
}

#[tokio::test(start_paused = true)]
async fn g15_a_server_that_is_gone_when_it_should_be_marked_ready_is_superseded() {
    let cloud = Cloud::usual();
    let kind = answer(404, json!({ "error": { "code": "not_found", "message": "server not found" } }), false);
    cloud.world().inject(fault(Api::Hetzner, "PUT", "/servers/*", 1, kind));
    let error = cloud.provision(&settings()).await.unwrap_err();
    assert_eq!((error.cause.code(), error.is_retryable()), (Code::Superseded, true));
}

#[tokio::test(start_paused = true)]
async fn y05_what_an_issuer_of_tokens_echoes_is_in_no_error() {
    let cloud = Cloud::usual();
    let config = Config::default().tailscale;
    let issuer_token = "eyJhbGciOiJSUzI1NiJ9.e30.QWxhZGRpbjpvcGVuc2VzYW1lU0VDUkVU";
    let credentials = Credentials::Federated {
        client_id: config.federated_id,
        issuer: BaseUrl::parse_with_query("https://issuer.example/_sim/oidc/token?api-version=2.0").unwrap(),
        issuer_token: Secret::new(issuer_token),
    };
    let kind = answer(500, json!({ "message": format!("internal error at Bearer {issuer_token}") }), false);
    cloud.world().inject(Fault { api: Api::Oidc, method: None, path: None, skip: 0, times: 99, kind });
    let settings = Settings { tailscale_credentials: credentials, ..settings() };
    let error = cloud.provision(&settings).await.unwrap_err();
    assert!(!format!("{error} {error:?} {:?}", error.causes()).contains(issuer_token));
}

#[tokio::test(start_paused = true)]
async fn a_key_of_the_customer_that_an_attempt_used_up_makes_a_repeat_pointless() {
    // The machine joins, and the call is given up before any list shows it: a used key still tells of it.
    let cases = [
        ("used", false, 60.0, false, false, 1),
        ("used and not shown any more", false, 60.0, true, false, 1),
        ("reusable", true, 8.0, false, true, 0),
    ];
    for (name, reusable, visible_after, hides, is_retryable, left) in cases {
        let mut config = Config::default();
        config.tailscale.visibility_seconds = visible_after;
        config.tailscale.hide_invalid_keys = hides;
        let cloud = Cloud::new(config);
        let tags = vec!["tag:agent".to_owned()];
        let key = Secret::new(cloud.world().plant_key(PlantedKey { reusable, ephemeral: true, tags }));
        let settings = Settings { auth_key: Some(key), allow_reusable_auth_key: true, ..settings() };
        let (cancel, process) = (CancellationToken::new(), cloud.process(7));
        let giving_up = async {
            cloud.until(|truth| !truth.devices().is_empty()).await;
            cancel.cancel();
        };
        let (params, notes) = (params(), Arc::new(Notebook::default()));
        let call = process.provision(&params, &settings, cancel.clone(), notes);
        let error = tokio::join!(call, giving_up).0.unwrap_err();
        assert_eq!((error.cause.code(), error.is_retryable()), (Code::Aborted, is_retryable), "{name}");
        assert_eq!(error.leftovers.len(), left, "{name}: {:?}", error.leftovers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_let_in_during_the_undo_spends_the_customers_key() {
    let mut config = Config::default();
    config.machine.queued_joins = true;
    (config.machine.install_seconds, config.machine.join_seconds) = ((1.0, 1.0), 14.0);
    let cloud = Cloud::new(config);
    let tags = vec!["tag:agent".to_owned()];
    let key = Secret::new(cloud.world().plant_key(PlantedKey { reusable: false, ephemeral: true, tags }));
    let settings = Settings { auth_key: Some(key), ..settings() };
    let (cancel, process) = (CancellationToken::new(), cloud.process(7));
    let giving_up = async {
        cloud.until(|truth| truth.servers().iter().any(|server| server["first_boot_done"] == true)).await;
        // By then it has asked to be let in.
        tokio::time::sleep(Duration::from_secs(2)).await;
        cancel.cancel();
    };
    let (params, notes) = (params(), Arc::new(Notebook::default()));
    let call = process.provision(&params, &settings, cancel.clone(), notes.clone());
    let error = tokio::join!(call, giving_up).0.unwrap_err();
    let told = notes.messages().into_iter().filter(|message| message.contains("the next call needs a new key"));
    assert_eq!(told.count(), 1);
    // The key was unused when the undo looked at it, and used when the device came.
    assert_eq!((error.cause.code(), error.is_retryable()), (Code::Aborted, false), "{:?}", error.leftovers);
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_given_key_whose_use_cannot_be_told_is_not_called_good() {
    let cloud = Cloud::that_never_joins();
    let tags = vec!["tag:agent".to_owned()];
    let key = Secret::new(cloud.world().plant_key(PlantedKey { reusable: false, ephemeral: true, tags }));
    let settings = Settings { auth_key: Some(key), ..with_timeout(40) };
    let blinding = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let refusal = answer(403, json!({ "message": "not permitted" }), false);
        cloud.world().inject(fault(Api::Tailscale, "GET", "/tailnet/-/keys/*", 99, refusal));
    };
    let (outcome, ()) = tokio::join!(cloud.provision(&settings), blinding);
    let error = outcome.unwrap_err();
    assert_eq!((error.cause.code(), error.is_retryable()), (Code::EnrollTimeout, false));
    assert_eq!(error.leftovers, []);
}

#[tokio::test(start_paused = true)]
async fn m13_a_namesake_that_does_not_say_where_it_is_outlives_the_removal_of_a_dead_attempt() {
    let cloud = Cloud::with_a_dead_attempt(|_| ()).await;
    let name = cloud.truth().servers()[0]["name"].as_str().unwrap().to_owned();
    let stranger = cloud.world().plant_device(PlantedDevice { connected: false, ..namesake(&name) });
    cloud.world().configure(|config| config.machine.boot = BootOutcome::Joins);
    let outcome = cloud.provision(&settings()).await;
    let truth = cloud.truth();
    assert!(truth.devices().iter().any(|device| device["node_id"] == stranger.0.as_str()), "{}", truth.0);
    assert!(outcome.unwrap().warnings.iter().any(|warning| warning.contains(&stranger.0)));
}

#[tokio::test(start_paused = true)]
async fn m13_a_namesake_that_does_not_say_where_it_is_is_neither_returned_nor_removed() {
    let name = Cloud::usual().provision(&settings()).await.unwrap().server.name;
    for lag in [0.5, 3.0, 8.0] {
        for gives_up in [false, true] {
            let mut config = Config::default();
            config.tailscale.visibility_seconds = lag;
            let cloud = Cloud::new(config);
            let (cancel, process) = (CancellationToken::new(), cloud.process(7));
            let meddling = async {
                tokio::time::sleep(Duration::from_secs(10)).await;
                let stranger = cloud.world().plant_device(namesake(&name));
                cloud.until(|truth| truth.devices().len() == 2).await;
                if gives_up {
                    cancel.cancel();
                }
                stranger
            };
            let (params, settings) = (params(), settings());
            let call = process.provision(&params, &settings, cancel.clone(), Arc::new(Notebook::default()));
            let (outcome, stranger) = tokio::join!(call, meddling);
            let truth = cloud.truth();
            assert!(truth.devices().iter().any(|device| device["node_id"] == stranger.0.as_str()), "{}", truth.0);
            match outcome {
                Ok(done) => assert_ne!(done.node_id, stranger.0),
                Err(error) => {
                    let names_it = error.leftovers.iter().any(|left| left.id.as_deref() == Some(&stranger.0));
                    assert!(names_it || !gives_up, "{lag}: {:?}", error.leftovers);
                    // The call's own one went, for it is told apart by where it connects from.
                    assert_eq!((truth.servers().len(), truth.devices().len()), (0, 1), "{lag}: {}", truth.0);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_given_away_between_two_writes_is_left_as_it_is() {
    let broken = answer(503, json!({ "error": { "code": "unavailable", "message": "unavailable" } }), false);
    for (kind, times) in [(broken, 2), (FaultKind::RateLimited { with_headers: true }, 4)] {
        let cloud = Cloud::usual();
        cloud.world().inject(fault(Api::Hetzner, "PUT", "/servers/*", times, kind));
        let given = labels(&[("provisioning_job_id", "somebody-elses"), ("owner", "somebody")]);
        let giving = async {
            cloud.until(|truth| truth.faults_fired() == 1).await;
            let mut world = cloud.world();
            let id = world.servers().next().map(|server| server.id).unwrap();
            world.touch_server(id, Some(given.clone()), None);
        };
        let settings = settings();
        let (outcome, ()) = tokio::join!(cloud.provision(&settings), giving);
        assert!(outcome.is_err());
        assert_eq!(cloud.truth().servers()[0]["labels"], json!(given));
    }
}

#[tokio::test(start_paused = true)]
async fn x14_a_server_that_is_marked_between_two_deletes_is_left() {
    let cloud = Cloud::that_never_joins();
    let locked = answer(423, json!({ "error": { "code": "locked", "message": "locked" } }), false);
    cloud.world().inject(fault(Api::Hetzner, "DELETE", "/servers/*", 1, locked));
    let marking = async {
        cloud.until(|truth| truth.faults_fired() == 1).await;
        let mut world = cloud.world();
        let (id, mut labels) = world.servers().next().map(|server| (server.id, server.labels.clone())).unwrap();
        labels.insert("state".to_owned(), "ready".to_owned());
        world.touch_server(id, Some(labels), None);
    };
    let settings = with_timeout(40);
    let (outcome, ()) = tokio::join!(cloud.provision(&settings), marking);
    let leftovers = outcome.unwrap_err().leftovers;
    assert_eq!(cloud.truth().servers().len(), 1);
    assert!(
        leftovers.iter().any(|left| left.kind == Kind::Server && left.why.contains("marked ready")),
        "{leftovers:?}"
    );
}

//! One job, one VM: what exists afterwards, in a simulated world.

use std::sync::Arc;

use crate::support::{Cloud, Notebook, answer, code, page, params, settings, with_timeout};
use provision_vm::provision::{CancellationToken, Code, Params, Settings, Source};
use provision_vm::secret::Secret;
use provision_vm::tailscale::Credentials;
use provision_vm::transport::BaseUrl;
use simulator::{Api, BootOutcome, Config, FaultKind, PlantedDevice};

#[tokio::test(start_paused = true)]
async fn a_job_becomes_one_machine_in_the_tailnet() {
    let cloud = Cloud::usual();
    let notes = Arc::new(Notebook::default());
    let outcome = cloud.process(7).provision(&params(), &settings(), CancellationToken::new(), notes.clone()).await;
    let truth = cloud.truth();
    truth.assert_one_ready(&outcome);
    let done = outcome.unwrap();
    assert_eq!((done.server.location.as_str(), done.server.server_type.as_str()), ("ash", "cpx11"));
    assert!(!done.reused && !done.used_snapshot && done.warnings.is_empty());
    assert_eq!(done.price.unwrap().hourly, "0.033");
    let labels = &truth.servers()[0]["labels"];
    assert_eq!((&labels["provisioning_job_id"], &labels["agent_id"]), (&"job-1".into(), &"550e8400-e29b".into()));
    let messages = notes.messages();
    for words in [
        "Tailscale auth key generated",
        "Cloud-init config generated",
        "Hetzner server created: id=",
        "Hetzner server is ready",
        "Tailscale enrollment verified: ip=100.",
    ] {
        assert!(messages.iter().any(|message| message.starts_with(words)), "{words:?} is not in {messages:?}");
    }
    let (hetzner, tailscale) = done.requests;
    assert_eq!((u64::from(hetzner), u64::from(tailscale)), (truth.requests("hetzner"), truth.requests("tailscale")));
    assert!(hetzner <= 20 && tailscale <= 40, "{hetzner} requests to Hetzner, {tailscale} to Tailscale");
}

#[tokio::test(start_paused = true)]
async fn every_region_and_an_unknown_one_get_a_server() {
    for (region, location) in [
        ("us-east", "ash"),
        ("us-west", "hil"),
        ("eu-central", "nbg1"),
        ("eu-west", "fsn1"),
        ("eu-north", "hel1"),
        ("ap-southeast", "sin"),
        ("hel1", "hel1"),
        ("mars", "nbg1"),
    ] {
        let cloud = Cloud::usual();
        let params = Params { region: region.to_owned(), ..params() };
        let notes = Arc::new(Notebook::default());
        let outcome = cloud.process(7).provision(&params, &settings(), CancellationToken::new(), notes).await;
        cloud.truth().assert_one_ready(&outcome);
        let done = outcome.unwrap();
        assert_eq!(done.server.location, location);
        assert_eq!(done.warnings.len(), usize::from(region == "mars"), "{:?}", done.warnings);
        // cpx11 is withdrawn outside the US, and cx23 out of stock.
        let us = ["ash", "hil"].contains(&location);
        assert_eq!(done.server.server_type, if us { "cpx11" } else { "cpx12" });
        let cpx11 = done.attempts.iter().find(|attempt| attempt.server_type == "cpx11").unwrap();
        assert_eq!(cpx11.refused.is_none(), us, "{:?}", done.attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_without_an_answer_ends_with_one_server_and_success() {
    for (name, kind) in [
        ("P03 not applied", FaultKind::ResetBeforeApply),
        ("P03 hang, not applied", FaultKind::HangBeforeApply),
        ("P04 applied", FaultKind::ResetAfterApply),
        ("P04 hang, applied", FaultKind::HangAfterApply),
        ("P05 applied while we look", FaultKind::ResetThenApply { after_ms: 3_000 }),
        ("P05 applied after our second order", FaultKind::ResetThenApply { after_ms: 7_000 }),
        ("P26 502, applied", page(502, "<html>bad gateway</html>", true)),
        ("P26 500, not applied", page(500, "", false)),
        ("P25 too many requests", FaultKind::RateLimited { with_headers: true }),
        ("P27 cut short", FaultKind::Truncate),
        ("P27 empty", FaultKind::Empty),
        ("P27 a page of HTML", FaultKind::Html),
        ("P01 refused", FaultKind::Refuse),
    ] {
        let cloud = Cloud::usual();
        cloud.fault(Api::Hetzner, "POST", "/servers", kind);
        let outcome = cloud.provision(&settings()).await;
        let truth = cloud.truth();
        assert_eq!(truth.faults_fired(), 1, "{name}: the fault did not fire");
        truth.assert_one_ready(&outcome);
        assert_eq!(truth.servers_ever(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_without_an_answer_leaves_one_spent_key_and_no_other() {
    for (name, kind) in [
        ("K02 not applied", FaultKind::ResetBeforeApply),
        ("K02 applied", FaultKind::ResetAfterApply),
        ("K05 502, applied", page(502, "", true)),
        ("K05 cut short", FaultKind::Truncate),
    ] {
        let cloud = Cloud::usual();
        cloud.fault(Api::Tailscale, "POST", "/tailnet/-/keys", kind);
        let outcome = cloud.provision(&settings()).await;
        let truth = cloud.truth();
        assert_eq!(truth.faults_fired(), 1, "{name}: the fault did not fire");
        truth.assert_one_ready(&outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn candidates_are_tried_in_turn() {
    let mut config = Config::default();
    config.hetzner.out_of_stock.insert("cpx11@ash".to_owned());
    let cloud = Cloud::new(config);
    // Sold in Ashburn: cpx11, out of stock, and cpx21.
    let outcome = cloud.provision(&settings()).await;
    cloud.truth().assert_one_ready(&outcome);
    assert_eq!(outcome.unwrap().server.server_type, "cpx21");

    let mut config = Config::default();
    config.hetzner.out_of_stock.extend(["cpx11@ash".to_owned(), "cpx21@ash".to_owned()]);
    let cloud = Cloud::new(config);
    let outcome = cloud.provision(&settings()).await;
    assert_eq!(code(&outcome), Code::Capacity);
    assert_eq!(outcome.unwrap_err().attempts.len(), 5);
    cloud.truth().assert_empty();

    let cloud = Cloud::usual();
    let own = Settings { server_types: vec!["cax11".into(), "cpx12".into()], ..settings() };
    assert_eq!(code(&cloud.provision(&own).await), Code::Config);
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_type_that_sold_out_since_the_list_was_read_costs_one_order() {
    let body = serde_json::json!({ "error": { "code": "resource_unavailable", "message": "error during placement" } });
    for (status, code) in [(412, "resource_unavailable"), (422, "placement_error")] {
        let cloud = Cloud::usual();
        let mut json = body.clone();
        json["error"]["code"] = code.into();
        cloud.fault(Api::Hetzner, "POST", "/servers", answer(status, json, false));
        let outcome = cloud.provision(&settings()).await;
        cloud.truth().assert_one_ready(&outcome);
        let done = outcome.unwrap();
        assert_eq!(done.server.server_type, "cpx21");
        assert!(done.attempts.iter().any(|a| a.server_type == "cpx11" && a.refused.is_some()), "{:?}", done.attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_in_the_tailnet_do_not_confuse_the_match() {
    let cloud = Cloud::usual();
    let name = Cloud::usual().provision(&settings()).await.unwrap().server.name;
    let stale = PlantedDevice {
        hostname: name.clone(),
        tags: vec!["tag:agent".into()],
        connected: false,
        created: Some(1_795_428_000 - 86_400),
        ..Default::default()
    };
    let impostor = PlantedDevice { hostname: name, ..Default::default() };
    cloud.world().plant_device(stale);
    cloud.world().plant_device(impostor);
    let outcome = cloud.provision(&settings()).await;
    cloud.truth().assert_one_ready(&outcome);
    assert_eq!(cloud.truth().devices().len(), 3, "strangers are left alone");
}

#[tokio::test(start_paused = true)]
async fn lagging_reads_and_odd_lists_change_nothing() {
    type Change = fn(&mut Config);
    let cases: [(&str, Change); 6] = [
        ("G32 new servers show late", |c| c.hetzner.stale_created_seconds = 5.0),
        ("A3 filters ignored", |c| c.tailscale.ignore_filters = true),
        ("A3 empty list is null", |c| c.tailscale.empty_list_is_null = true),
        ("A2 spent keys are hidden", |c| c.tailscale.hide_invalid_keys = true),
        ("legacy field shown", |c| c.hetzner.show_deprecated = true),
        ("a slow day", |c| c.hetzner.create_seconds = (90.0, 90.0)),
    ];
    for (name, change) in cases {
        let mut config = Config::default();
        change(&mut config);
        let cloud = Cloud::new(config);
        let outcome = cloud.provision(&settings()).await;
        assert!(outcome.is_ok(), "{name}");
        cloud.truth().assert_one_ready(&outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_only_enrolls_and_is_faster() {
    let cloud = Cloud::usual();
    let snapshot = Source::Snapshot(provision_vm::hetzner::IdOrName::Id(301_000_001));
    let outcome = cloud.provision(&Settings { source: snapshot, ..settings() }).await;
    cloud.truth().assert_one_ready(&outcome);
    assert!(outcome.unwrap().used_snapshot);
    assert_eq!(cloud.truth().servers()[0]["image"], 301_000_001);
}

#[tokio::test(start_paused = true)]
async fn workload_identity_needs_no_stored_secret() {
    let cloud = Cloud::usual();
    let config = Config::default().tailscale;
    let credentials = Credentials::Federated {
        client_id: config.federated_id,
        issuer: BaseUrl::parse_with_query("https://issuer.example/_sim/oidc/token?api-version=2.0").unwrap(),
        issuer_token: Secret::new(config.issuer_token),
    };
    let outcome = cloud.provision(&Settings { tailscale_credentials: credentials, ..settings() }).await;
    cloud.truth().assert_one_ready(&outcome);
    assert_eq!(cloud.truth().requests("oidc"), 1);
}

#[tokio::test(start_paused = true)]
async fn y08_a_key_made_by_hand_is_checked_used_and_never_revoked() {
    for (reusable, allowed, expected) in [(false, false, None), (true, false, Some(Code::Config)), (true, true, None)] {
        let cloud = Cloud::usual();
        let key = make_key(&cloud, reusable).await;
        let settings = Settings { auth_key: Some(key), allow_reusable_auth_key: allowed, ..settings() };
        let outcome = cloud.provision(&settings).await;
        assert_eq!(outcome.as_ref().err().map(|error| error.cause.code()), expected);
        let truth = cloud.truth();
        assert_eq!(truth.0["keys"][0]["revoked"], false, "it is the customer's");
        match outcome {
            Ok(done) => assert!(done.warnings[0].contains("TAILSCALE_AUTH_KEY"), "{:?}", done.warnings),
            Err(_) => assert!(truth.servers().is_empty()),
        }
    }
}

/// A key as somebody would make it at the console.
async fn make_key(cloud: &Cloud, reusable: bool) -> Secret {
    use provision_vm::transport::Transport as _;
    let config = Config::default().tailscale;
    let send = |path: &str, token: Option<String>, kind: &'static str, body: String| {
        let mut request =
            http::Request::post(format!("https://api.tailscale.com/api/v2{path}")).header("content-type", kind);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body.into()).unwrap();
        let cloud = cloud.clone();
        async move { serde_json::from_slice::<serde_json::Value>(cloud.exchange(request).await.unwrap().body()).unwrap() }
    };
    let form = format!("client_secret={}", config.clients[0].secret);
    let token = send("/oauth/token", None, "application/x-www-form-urlencoded", form).await;
    let token = token["access_token"].as_str().map(str::to_owned);
    let create = serde_json::json!({ "reusable": reusable, "preauthorized": true, "tags": ["tag:agent"] });
    let body = serde_json::json!({ "capabilities": { "devices": { "create": create } } }).to_string();
    Secret::new(send("/tailnet/-/keys", token, "application/json", body).await["key"].as_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn y03_no_secret_is_in_any_event_or_error() {
    let mut config = Config::default();
    config.machine.boot = BootOutcome::NeverJoins;
    for config in [Config::default(), config] {
        let cloud = Cloud::new(config);
        let notes = Arc::new(Notebook::default());
        let settings = with_timeout(90);
        let outcome = cloud.process(7).provision(&params(), &settings, CancellationToken::new(), notes.clone()).await;
        let minted = notes.secrets.lock().unwrap().clone();
        assert_eq!(minted.len(), 2, "an access token and an auth key");
        let said = format!("{:?} {outcome:?} {settings:?}", notes.events.lock().unwrap());
        let configured = [settings.hetzner_token.expose().to_owned(), "SECRETSECRET".to_owned()];
        for secret in minted.iter().chain(&configured) {
            assert!(!said.contains(secret.as_str()), "{secret} is in {said}");
        }
    }
}

//! One job, no VM: what failed is undone, and what could not be undone is named.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Cloud, Notebook, answer, code, params, settings, with_timeout};
use provision_vm::provision::{CancellationToken, Certainty, Code, Kind, Params, Settings, Source};
use simulator::{ActionOutcome, Api, BootOutcome, Config};

#[tokio::test(start_paused = true)]
async fn an_unknown_region_is_an_error_if_it_should_be() {
    let cloud = Cloud::usual();
    let params = Params { region: "mars".to_owned(), ..params() };
    let strict = Settings { strict_region: true, ..settings() };
    let notes = Arc::new(Notebook::default());
    let outcome = cloud.process(7).provision(&params, &strict, CancellationToken::new(), notes).await;
    assert_eq!(code(&outcome), Code::InvalidInput);
    assert_eq!(cloud.truth().requests("hetzner"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_is_undone_and_named() {
    type Change = fn(&mut Config);
    let error = || ActionOutcome::Error { code: "action_failed".into(), message: "Action failed".into() };
    let failing_create: Change = |c| c.hetzner.create_action = ActionOutcome::Never;
    let cases: [(&str, Change, Code); 11] = [
        ("M07 never joins", |c| c.machine.boot = BootOutcome::NeverJoins, Code::EnrollTimeout),
        ("M07 never boots", |c| c.machine.boot = BootOutcome::NeverBoots, Code::EnrollTimeout),
        ("M03 create never ends", failing_create, Code::ActionTimeout),
        ("M10 never approved", |c| c.tailscale.never_authorized = true, Code::EnrollRejected),
        ("M11 another tag", |c| c.tailscale.device_tags = Some(vec!["tag:other".into()]), Code::EnrollRejected),
        ("M16 IPv6 only", |c| c.tailscale.ipv6_only = true, Code::EnrollRejected),
        ("P10 quota", |c| c.hetzner.server_limit = 0, Code::Quota),
        ("K04 tag not ours", |c| c.tailscale.clients[0].tags = vec!["tag:other".into()], Code::Forbidden),
        ("K04 no scope", |c| c.tailscale.clients[0].scopes = vec!["devices:core".into()], Code::Forbidden),
        ("P08 another token", |c| c.hetzner.token = "another".into(), Code::AuthHetzner),
        ("T02 another client", |c| c.tailscale.clients[0].secret = "another".into(), Code::AuthTailscale),
    ];
    for (name, change, expected) in cases {
        let mut config = Config::default();
        change(&mut config);
        let cloud = Cloud::new(config);
        let outcome = cloud.provision(&with_timeout(90)).await;
        assert_eq!(code(&outcome), expected, "{name}");
        let left = &outcome.unwrap_err().leftovers;
        let truth = cloud.truth();
        // A device that is not provably ours stays, and goes by itself: it is ephemeral (M11).
        if name.starts_with("M11") {
            assert!(truth.servers().is_empty() && truth.usable_keys() == 0);
        } else {
            truth.assert_empty();
        }
        // What joined with our key and is not provably ours is named instead of removed (M11).
        assert_eq!(left.len(), usize::from(name.starts_with("M11")), "{name}: {left:?}");
    }
    for (name, change) in [
        ("M01 create fails", (|c, e| c.hetzner.create_action = e) as fn(&mut Config, ActionOutcome)),
        ("M02 start fails", |c, e| c.hetzner.start_action = e),
    ] {
        let mut config = Config::default();
        change(&mut config, error());
        let cloud = Cloud::new(config);
        let outcome = cloud.provision(&settings()).await;
        assert_eq!(code(&outcome), Code::ActionFailed, "{name}");
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn p12_an_order_that_points_at_a_setting_names_it() {
    let cloud = Cloud::usual();
    let keys = vec![provision_vm::hetzner::IdOrName::Id(99)];
    let outcome = cloud.provision(&Settings { ssh_keys: keys, ..settings() }).await;
    assert_eq!(code(&outcome), Code::Config);
    assert_eq!(outcome.unwrap_err().cause.field(), Some("HETZNER_SSH_KEY_ID"));
    cloud.truth().assert_empty();

    let image = Source::Image(provision_vm::hetzner::IdOrName::Name("ubuntu-1.0".to_owned()));
    let outcome = cloud.provision(&Settings { source: image, ..settings() }).await;
    assert_eq!(code(&outcome), Code::Config);
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_at_any_moment_leaves_nothing() {
    for moment in (0..38_000).step_by(250) {
        let mut config = Config::default();
        // A device that joined and does not show yet must not be forgotten (fault M09).
        config.tailscale.visibility_seconds = if moment % 500 == 0 { 0.5 } else { 6.0 };
        let cloud = Cloud::new(config);
        let cancel = CancellationToken::new();
        let (params, settings, process) = (params(), settings(), cloud.process(7));
        let call = process.provision(&params, &settings, cancel.clone(), Arc::new(Notebook::default()));
        let giving_up = async {
            tokio::time::sleep(Duration::from_millis(moment)).await;
            cancel.cancel();
        };
        let (outcome, ()) = tokio::join!(call, giving_up);
        if let Err(error) = &outcome {
            assert_eq!(error.cause.code(), Code::Aborted, "at {moment} ms: {error}");
            assert!(error.leftovers.is_empty(), "at {moment} ms: {:?}", error.leftovers);
            cloud.truth().assert_empty();
        } else {
            // Once verified, the result wins.
            cloud.truth().assert_one_ready(&outcome);
            assert!(moment > 15_000, "at {moment} ms there was nothing to win");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn m09_a_machine_that_joined_but_never_shows_is_named() {
    let mut config = Config::default();
    config.tailscale.visibility_seconds = 1e6;
    let cloud = Cloud::new(config);
    let outcome = cloud.provision(&with_timeout(60)).await;
    assert_eq!(code(&outcome), Code::EnrollTimeout);
    let left = outcome.unwrap_err().leftovers;
    let [device] = left.as_slice() else { panic!("one leftover: {left:?}") };
    assert!(device.kind == Kind::Device && device.certainty == Certainty::MayAppear, "{device:?}");
}

#[tokio::test(start_paused = true)]
async fn g15_a_server_that_somebody_deleted_ends_the_wait() {
    let cloud = Cloud::that_never_joins();
    let operator = cloud.clone();
    let removal = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let id = operator.truth().servers()[0]["id"].as_u64().unwrap();
        operator.world().remove_server(id);
    };
    let settings = settings();
    let (outcome, ()) = tokio::join!(cloud.provision(&settings), removal);
    assert_eq!(code(&outcome), Code::Superseded);
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_locked_server_is_deleted_when_its_lock_opens() {
    let mut config = Config::default();
    config.hetzner.locked_while_creating = true;
    config.hetzner.create_seconds = (20.0, 20.0);
    let cloud = Cloud::new(config);
    let outcome = cloud.provision(&with_timeout(5)).await;
    assert_eq!(code(&outcome), Code::ActionTimeout);
    assert!(outcome.unwrap_err().leftovers.is_empty());
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn m24_addresses_that_outlive_their_server_are_removed() {
    let mut config = Config::default();
    config.hetzner.primary_ips_auto_delete = false;
    config.machine.boot = BootOutcome::NeverJoins;
    let cloud = Cloud::new(config);
    assert_eq!(code(&cloud.provision(&with_timeout(60)).await), Code::EnrollTimeout);
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn deleted_servers_that_still_show_are_waited_for() {
    let mut config = Config::default();
    config.hetzner.stale_deleted_seconds = 5.0;
    config.hetzner.name_held_seconds = 10.0;
    config.machine.boot = BootOutcome::NeverJoins;
    let cloud = Cloud::new(config);
    assert_eq!(code(&cloud.provision(&with_timeout(60)).await), Code::EnrollTimeout);
    cloud.truth().assert_empty();
    cloud.world().configure(|config| config.machine.boot = BootOutcome::Joins);
    // P19: the name is still held when the job is called again.
    let outcome = cloud.provision(&settings()).await;
    cloud.truth().assert_one_ready(&outcome);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_named() {
    let cloud = Cloud::that_never_joins();
    let (settings, operator) = (with_timeout(60), cloud.clone());
    let protect = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let id = operator.truth().servers()[0]["id"].as_u64().unwrap();
        operator.world().touch_server(id, None, Some(true));
        id
    };
    let (outcome, id) = tokio::join!(cloud.provision(&settings), protect);
    let error = outcome.unwrap_err();
    assert_eq!(error.cause.code(), Code::EnrollTimeout, "the first cause stays the main one");
    let [left] = error.leftovers.as_slice() else { panic!("one leftover: {:?}", error.leftovers) };
    assert_eq!((left.kind, left.id.as_deref()), (Kind::Server, Some(id.to_string().as_str())));
    assert!(left.why.contains("protected"));
    assert_eq!(cloud.truth().usable_keys(), 0, "the other undos still ran");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_before_it_makes_anything_undoes_nothing() {
    let cloud = Cloud::usual();
    let kind = answer(403, serde_json::json!({ "message": "not allowed" }), false);
    cloud.fault(Api::Tailscale, "GET", "/tailnet/-/devices", kind);
    let (process, notes) = (cloud.process(7), Arc::new(Notebook::default()));
    let outcome = process.provision(&params(), &settings(), CancellationToken::new(), notes.clone()).await;
    assert_eq!(code(&outcome), Code::Forbidden);
    assert!(notes.messages().iter().all(|message| !message.contains("Undoing")), "{:?}", notes.messages());
}

//! The single operations: they do what they are told, see that it is so, and leave nothing of what failed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Cloud, Meddler, Notebook, answer, fault, labels, namesake, page, settings, with_timeout};
use provision_vm::provision::settings::{Additions, Document, NodeId, Package};
use provision_vm::provision::{
    Answer, CancellationToken, Certainty, Code, Kind, Operation, Polling, ProvisionError, render_first_boot,
};
use provision_vm::secret::Secret;
use simulator::{Api, BootOutcome, Config, FaultKind, PlantedDevice, PlantedServer};

type Told = Result<Answer, Box<ProvisionError>>;

async fn tell(cloud: &Cloud, operation: Operation) -> Told {
    let notes = Arc::new(Notebook::default());
    cloud.told(5).perform(&operation, &settings(), CancellationToken::new(), notes).await
}

#[track_caller]
fn code(told: &Told) -> Code {
    told.as_ref().err().unwrap_or_else(|| panic!("it succeeded: {told:?}")).cause.code()
}

#[track_caller]
fn document(told: Told) -> Value {
    match told {
        Ok(Answer::Document(document)) => serde_json::from_str(document.text()).unwrap(),
        other => panic!("no document: {other:?}"),
    }
}

fn order(change: impl FnOnce(&mut Value)) -> Operation {
    let mut order = json!({
        "name": "agent-web-1", "server_type": "cpx11", "location": "ash", "image": "ubuntu-22.04", "ssh_keys": [4711],
        "labels": { "agent_id": "a-1" },
    });
    change(&mut order);
    let name = order["name"].as_str().unwrap().to_owned();
    Operation::CreateServer { name, order: Document::new(order.to_string()) }
}

fn usual_order() -> Operation {
    order(|_| ())
}

fn looks(looks: u32, seconds: u64) -> Polling {
    Polling { looks, interval: Duration::from_secs(seconds) }
}

fn status(cloud: &Cloud, id: u64) -> String {
    let servers = cloud.truth().servers();
    servers.iter().find(|server| server["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
}

/// A running server that nobody watches over.
fn plant(cloud: &Cloud) -> u64 {
    let labels = labels(&[("owner", "somebody")]);
    cloud.world().plant_server(PlantedServer { name: "web-1".to_owned(), labels, ..PlantedServer::default() })
}

#[tokio::test(start_paused = true)]
async fn a_server_is_made_joined_and_removed_by_single_operations() {
    let cloud = Cloud::usual();
    let Ok(Answer::AuthKey { key, id }) = tell(&cloud, Operation::CreateAuthKey(Duration::from_secs(600))).await else {
        panic!("no key")
    };
    assert!(key.expose().contains(&id));
    let user_data = render_first_boot("agent-web-1", &key, Some(&Package::default()), &Additions::default()).unwrap();
    let made = document(tell(&cloud, order(|order| order["user_data"] = json!(user_data.expose()))).await);
    assert_eq!(made["server"]["name"], "agent-web-1");
    assert_eq!(made["server"]["labels"]["agent_id"], "a-1");
    let (server, action) = (made["server"]["id"].as_u64().unwrap(), made["action"]["id"].as_u64().unwrap());
    let ended = document(tell(&cloud, Operation::WaitForAction(action, looks(30, 2))).await);
    assert_eq!((&ended["action"]["status"], &ended["action"]["id"]), (&json!("success"), &json!(action)));
    let Ok(Answer::Device { ip, node_id, .. }) =
        tell(&cloud, Operation::VerifyEnrollment("agent-web-1".to_owned(), looks(30, 5))).await
    else {
        panic!("not enrolled")
    };
    let found = document(tell(&cloud, Operation::FindDevice(ip.into())).await);
    assert_eq!((&found["nodeId"], &found["hostname"]), (&json!(node_id), &json!("agent-web-1")));
    let all = document(tell(&cloud, Operation::ListDevices).await);
    assert_eq!(all["devices"].as_array().unwrap().len(), 1);
    tell(&cloud, Operation::ShutDown(server)).await.unwrap();
    assert_eq!(status(&cloud, server), "off");
    tell(&cloud, Operation::PowerOn(server)).await.unwrap();
    assert_eq!(status(&cloud, server), "running");
    tell(&cloud, Operation::DeleteServer(server)).await.unwrap();
    tell(&cloud, Operation::DeleteDevice(NodeId::parse(&node_id).unwrap())).await.unwrap();
    assert!(matches!(tell(&cloud, Operation::FindDevice(ip.into())).await, Ok(Answer::Nothing)));
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn p01_an_order_whose_answer_is_lost_is_found_and_described() {
    let lost = [
        ("P05", FaultKind::ResetAfterApply),
        ("P06", FaultKind::ResetThenApply { after_ms: 4_000 }),
        ("P08", FaultKind::HangAfterApply),
        ("P12", FaultKind::Truncate),
        ("P11", FaultKind::Html),
        ("P20", page(502, "<html>bad gateway</html>", true)),
    ];
    for (name, kind) in lost {
        let cloud = Cloud::usual();
        cloud.fault(Api::Hetzner, "POST", "/servers", kind);
        let made = document(tell(&cloud, usual_order()).await);
        let servers = cloud.truth().servers();
        assert_eq!((servers.len(), cloud.truth().servers_ever()), (1, 1), "{name}");
        assert_eq!(made["server"]["id"], servers[0]["id"], "{name}");
        assert_eq!(made["action"]["command"], "create_server", "{name}: {made}");
        assert_eq!(made["next_actions"][0]["command"], "start_server", "{name}");
        assert_eq!(made["root_password"], Value::Null, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_was_not_carried_out_is_placed_again() {
    for kind in [FaultKind::Refuse, FaultKind::ResetBeforeApply, FaultKind::RateLimited { with_headers: true }] {
        let cloud = Cloud::usual();
        cloud.fault(Api::Hetzner, "POST", "/servers", kind);
        document(tell(&cloud, usual_order()).await);
        assert_eq!((cloud.truth().servers().len(), cloud.truth().servers_ever()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_given_up_leaves_nothing() {
    // While it is on its way, while its answer is lost, and while the lost server is looked for.
    for (kind, after_ms) in [
        (None, 10),
        (Some(FaultKind::HangAfterApply), 500),
        (Some(FaultKind::ResetThenApply { after_ms: 9_000 }), 1_500),
        (Some(FaultKind::ResetAfterApply), 400),
    ] {
        let cloud = Cloud::usual();
        if let Some(kind) = kind.clone() {
            cloud.fault(Api::Hetzner, "POST", "/servers", kind);
        }
        let cancel = CancellationToken::new();
        let giving_up = async {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            cancel.cancel();
        };
        let (told, settings) = (cloud.told(5), settings());
        let operation = usual_order();
        let call = told.perform(&operation, &settings, cancel.clone(), Arc::new(Notebook::default()));
        let (outcome, ()) = tokio::join!(call, giving_up);
        let error = outcome.unwrap_err();
        assert_eq!((error.cause.code(), error.leftovers.as_slice()), (Code::Aborted, &[][..]), "{kind:?}");
        tokio::time::sleep(Duration::from_secs(30)).await;
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_undo_fails_names_the_server() {
    let cloud = Cloud::usual();
    cloud.fault(Api::Hetzner, "POST", "/servers", FaultKind::HangAfterApply);
    let refusal = answer(423, json!({ "error": { "code": "protected", "message": "protected" } }), false);
    cloud.world().inject(fault(Api::Hetzner, "DELETE", "/servers/*", 99, refusal));
    let cancel = CancellationToken::new();
    let told = cloud.told(5);
    let giving_up = async {
        cloud.until(|truth| !truth.servers().is_empty()).await;
        cancel.cancel();
    };
    let (operation, settings) = (usual_order(), settings());
    let call = told.perform(&operation, &settings, cancel.clone(), Arc::new(Notebook::default()));
    let error = tokio::join!(call, giving_up).0.unwrap_err();
    let [left] = error.leftovers.as_slice() else { panic!("{:?}", error.leftovers) };
    assert_eq!((left.kind, left.certainty), (Kind::Server, Certainty::Exists));
    assert_eq!(left.id.as_deref(), Some(cloud.truth().servers()[0]["id"].to_string().as_str()));
}

#[tokio::test(start_paused = true)]
async fn i02_an_address_that_the_caller_brings_outlives_the_undo_of_its_order() {
    let mut config = Config::default();
    config.hetzner.primary_ips_auto_delete = false;
    let cloud = Cloud::new(config);
    let first = document(tell(&cloud, usual_order()).await);
    tell(&cloud, Operation::DeleteServer(first["server"]["id"].as_u64().unwrap())).await.unwrap();
    let own = first["server"]["public_net"]["ipv4"]["id"].as_u64().unwrap();
    cloud.fault(Api::Hetzner, "POST", "/servers", FaultKind::Slow { ms: 3_000 });
    let cancel = CancellationToken::new();
    let giving_up = async {
        cloud.until(|truth| truth.servers_ever() == 2).await;
        cancel.cancel();
    };
    let operation = order(|order| {
        order["name"] = json!("agent-web-2");
        order["public_net"] = json!({ "ipv4": own });
    });
    let (told, settings) = (cloud.told(5), settings());
    let call = told.perform(&operation, &settings, cancel.clone(), Arc::new(Notebook::default()));
    let error = tokio::join!(call, giving_up).0.unwrap_err();
    assert_eq!((error.cause.code(), cloud.truth().servers().len()), (Code::Aborted, 0));
    assert!(cloud.world().primary_ips().any(|ip| ip.id == own), "it is the caller's");
    assert!(error.leftovers.iter().any(|left| left.id.as_deref() == Some(&own.to_string())), "{:?}", error.leftovers);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_by_another_server_is_left_alone() {
    let cloud = Cloud::usual();
    plant(&cloud);
    let told = tell(&cloud, order(|order| order["name"] = json!("web-1"))).await;
    assert_eq!(code(&told), Code::NameConflict);
    assert_eq!(told.unwrap_err().leftovers, []);
    assert_eq!((cloud.truth().servers().len(), cloud.truth().servers_ever()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_hetzner_refuses_in_an_order_is_the_callers_to_correct() {
    type Change = fn(&mut Value);
    let cases: [(Change, Code); 5] = [
        (|order| order["image"] = json!("beos-5"), Code::InvalidInput),
        (|order| order["server_type"] = json!("cpx9000"), Code::InvalidInput),
        (|order| order["location"] = json!("nbg1"), Code::InvalidInput),
        (|order| order["labels"]["bad key"] = json!("x"), Code::InvalidInput),
        (|order| (order["server_type"], order["location"]) = (json!("cpx22"), json!("hel1")), Code::Capacity),
    ];
    for (change, wanted) in cases {
        let cloud = Cloud::usual();
        cloud.world().configure(|config| config.hetzner.out_of_stock = ["cpx22@hel1".to_owned()].into());
        assert_eq!(code(&tell(&cloud, order(change)).await), wanted);
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_password_comes_with_a_server_without_keys() {
    let cloud = Cloud::usual();
    let made = document(tell(&cloud, order(|order| order["ssh_keys"] = json!([]))).await);
    assert!(made["root_password"].as_str().unwrap().len() > 10);
}

#[tokio::test(start_paused = true)]
async fn an_action_is_waited_for_as_often_as_told() {
    type Change = fn(&mut Config);
    let never: Change = |config| config.hetzner.create_action = simulator::ActionOutcome::Never;
    let fails: Change = |config| {
        let (code, message) = ("unknown_error".to_owned(), "Unknown Error".to_owned());
        config.hetzner.create_action = simulator::ActionOutcome::Error { code, message };
    };
    for (change, wanted) in [(never, Code::ActionTimeout), (fails, Code::ActionFailed)] {
        let mut config = Config::default();
        change(&mut config);
        let cloud = Cloud::new(config);
        let made = document(tell(&cloud, usual_order()).await);
        let (before, action) = (cloud.truth().requests("hetzner"), made["action"]["id"].as_u64().unwrap());
        let told = tell(&cloud, Operation::WaitForAction(action, looks(12, 2))).await;
        assert_eq!(code(&told), wanted);
        assert!(cloud.truth().requests("hetzner") - before <= 12);
    }
    let cloud = Cloud::usual();
    assert_eq!(code(&tell(&cloud, Operation::WaitForAction(77, looks(9, 1))).await), Code::NotFound);
    assert_eq!(cloud.truth().requests("hetzner"), 3);
    let gateway = page(502, "<html>bad gateway</html>", false);
    cloud.world().inject(fault(Api::Hetzner, "GET", "/actions/*", 4, gateway));
    let made = document(tell(&cloud, usual_order()).await);
    let action = made["action"]["id"].as_u64().unwrap();
    tell(&cloud, Operation::WaitForAction(action, looks(60, 1))).await.unwrap();
    assert_eq!(cloud.truth().faults_fired(), 4, "D23: a passing failure is no verdict");
}

#[tokio::test(start_paused = true)]
async fn x01_what_is_not_there_counts_as_deleted() {
    let cloud = Cloud::usual();
    tell(&cloud, Operation::DeleteServer(77)).await.unwrap();
    tell(&cloud, Operation::DeleteDevice(NodeId::parse("n77CNTRL").unwrap())).await.unwrap();
    assert_eq!((cloud.truth().requests("hetzner"), cloud.truth().servers_ever()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_asked_for_until_it_is_seen() {
    let locked = || answer(423, json!({ "error": { "code": "locked", "message": "locked" } }), false);
    for (name, kind, times) in [
        ("X02 locked", locked(), 12),
        ("X05 the answer is lost", FaultKind::ResetAfterApply, 1),
        ("X06 a page between", page(404, "<html>this is no API</html>", false), 2),
        ("G11 limited", FaultKind::RateLimited { with_headers: true }, 2),
    ] {
        let cloud = Cloud::usual();
        let id = plant(&cloud);
        cloud.world().inject(fault(Api::Hetzner, "DELETE", "/servers/*", times, kind));
        tell(&cloud, Operation::DeleteServer(id)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        cloud.truth().assert_empty();
        assert_eq!(cloud.truth().faults_fired(), u64::from(times), "{name}");
    }
    let mut config = Config::default();
    config.hetzner.stale_deleted_seconds = 8.0;
    let cloud = Cloud::new(config);
    let id = plant(&cloud);
    let began = cloud.now();
    tell(&cloud, Operation::DeleteServer(id)).await.unwrap();
    assert!(cloud.now().saturating_sub(began) >= Duration::from_secs(8), "D82: it is not gone before a read says so");
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_names_what_it_left() {
    let cloud = Cloud::usual();
    let id = plant(&cloud);
    cloud.world().touch_server(id, None, Some(true));
    let error = tell(&cloud, Operation::DeleteServer(id)).await.unwrap_err();
    let [left] = error.leftovers.as_slice() else { panic!("{:?}", error.leftovers) };
    assert_eq!((left.kind, left.id.clone()), (Kind::Server, Some(id.to_string())));
    assert!(!error.is_retryable() && left.why.contains("protected"), "{left}");
    assert_eq!(cloud.truth().servers().len(), 1);

    let stranger = cloud.world().plant_device(PlantedDevice { external: true, ..PlantedDevice::default() });
    cloud.world().configure(|config| config.tailscale.shows_external = true);
    let error = tell(&cloud, Operation::DeleteDevice(NodeId::parse(&stranger.0).unwrap())).await.unwrap_err();
    assert_eq!(error.leftovers[0].kind, Kind::Device);
}

#[tokio::test(start_paused = true)]
async fn d28_only_a_minute_without_effect_cuts_the_power() {
    let mut config = Config::default();
    config.hetzner.shutdown_works = false;
    let cloud = Cloud::new(config);
    let id = plant(&cloud);
    let began = cloud.now();
    tell(&cloud, Operation::ShutDown(id)).await.unwrap();
    assert_eq!(status(&cloud, id), "off");
    assert!((60..80).contains(&cloud.now().saturating_sub(began).as_secs()), "{:?}", cloud.now().saturating_sub(began));
    let pressed = |cloud: &Cloud, switch: &str| {
        cloud.world().journal().iter().filter(|entry| entry.what.ends_with(switch)).count()
    };
    assert_eq!((pressed(&cloud, "/shutdown"), pressed(&cloud, "/poweroff")), (1, 1));

    // A blip of the monitoring is none; a token that is refused ends the call, and the machine keeps its power.
    for (name, kind, times, ends) in [
        ("500", page(500, "oops", false), 3, None),
        (
            "401",
            answer(401, json!({ "error": { "code": "unauthorized", "message": "the token is invalid" } }), false),
            99,
            Some(Code::AuthHetzner),
        ),
    ] {
        let cloud = Cloud::usual();
        let id = plant(&cloud);
        let arming = cloud.clone();
        let arm = move || arming.world().inject(fault(Api::Hetzner, "GET", "/**", times, kind.clone()));
        let meddler = Arc::new(Meddler("If the device", arm));
        let told = cloud.told(5);
        let outcome = told.perform(&Operation::ShutDown(id), &settings(), CancellationToken::new(), meddler).await;
        assert_eq!(outcome.err().map(|error| error.cause.code()), ends, "{name}");
        assert_eq!(pressed(&cloud, "/poweroff"), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn power_that_is_there_already_is_no_error_and_what_is_unknown_is() {
    let cloud = Cloud::usual();
    let id = plant(&cloud);
    tell(&cloud, Operation::PowerOn(id)).await.unwrap();
    tell(&cloud, Operation::PowerOff(id)).await.unwrap();
    let before = cloud.truth().requests("hetzner");
    tell(&cloud, Operation::ShutDown(id)).await.unwrap();
    assert_eq!(cloud.truth().requests("hetzner") - before, 1, "it is off");
    for operation in [Operation::ShutDown(77), Operation::PowerOn(77), Operation::PowerOff(77)] {
        let told = tell(&cloud, operation.clone()).await;
        assert_eq!(code(&told), Code::NotFound, "{operation:?}");
        assert!(told.unwrap_err().to_string().contains("server 77 does not exist"));
    }
    let mut config = Config::default();
    config.hetzner.start_action = simulator::ActionOutcome::Never;
    let cloud = Cloud::new(config);
    let id = plant(&cloud);
    tell(&cloud, Operation::PowerOff(id)).await.unwrap();
    assert_eq!(code(&tell(&cloud, Operation::PowerOn(id)).await), Code::ActionTimeout);
}

#[tokio::test(start_paused = true)]
async fn stop_two_hours_start_loses_an_ephemeral_device_and_keeps_a_lasting_one() {
    for (ephemeral, comes_back) in [(true, false), (false, true)] {
        let cloud = Cloud::usual();
        let done = cloud.provision(&provision_vm::provision::Settings { ephemeral, ..settings() }).await.unwrap();
        let notes = Arc::new(Notebook::default());
        let told = cloud.told(5);
        let id = done.server.id.0;
        told.perform(&Operation::ShutDown(id), &settings(), CancellationToken::new(), notes.clone()).await.unwrap();
        assert!(notes.messages().iter().any(|message| message.contains("leaves the tailnet for good")));
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
        tell(&cloud, Operation::PowerOn(id)).await.unwrap();
        let told = tell(&cloud, Operation::VerifyEnrollment(done.server.name.clone(), looks(12, 5))).await;
        match told {
            Ok(Answer::Device { ip, .. }) => assert!(comes_back && ip == done.tailscale_ip),
            other => assert!(!comes_back && code(&other) == Code::EnrollTimeout, "{other:?}"),
        }
        assert_eq!(cloud.truth().devices().len(), usize::from(comes_back));
    }
}

#[tokio::test(start_paused = true)]
async fn k02_an_auth_key_whose_answer_is_lost_is_revoked_and_ordered_anew() {
    for kind in [FaultKind::ResetAfterApply, FaultKind::Truncate, FaultKind::HangAfterApply] {
        let cloud = Cloud::usual();
        cloud.fault(Api::Tailscale, "POST", "/tailnet/-/keys", kind);
        let told = tell(&cloud, Operation::CreateAuthKey(Duration::from_secs(600))).await;
        assert!(matches!(told, Ok(Answer::AuthKey { .. })), "{told:?}");
        assert_eq!(cloud.truth().usable_keys(), 1);
    }
    // One that is given up is not left usable.
    let cloud = Cloud::usual();
    cloud.fault(Api::Tailscale, "POST", "/tailnet/-/keys", FaultKind::HangAfterApply);
    let cancel = CancellationToken::new();
    let giving_up = async {
        cloud.until(|truth| truth.usable_keys() == 1).await;
        cancel.cancel();
    };
    let (told, operation, settings) = (cloud.told(5), Operation::CreateAuthKey(Duration::from_secs(600)), settings());
    let call = told.perform(&operation, &settings, cancel.clone(), Arc::new(Notebook::default()));
    let error = tokio::join!(call, giving_up).0.unwrap_err();
    assert_eq!((error.cause.code(), error.leftovers.as_slice()), (Code::Aborted, &[][..]));
    assert_eq!(cloud.truth().usable_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_is_verified_by_name_tag_approval_and_address() {
    let usual = || namesake("agent-web-1");
    for (name, devices, wanted) in [
        ("one", vec![usual()], None),
        ("none", vec![], Some(Code::EnrollTimeout)),
        ("M13 no tag", vec![PlantedDevice { tags: vec![], ..usual() }], Some(Code::EnrollRejected)),
        ("M10 not approved", vec![PlantedDevice { authorized: false, ..usual() }], Some(Code::EnrollRejected)),
        ("M18 not connected", vec![PlantedDevice { connected: false, ..usual() }], Some(Code::EnrollTimeout)),
        ("M14 two", vec![usual(), usual()], Some(Code::EnrollAmbiguous)),
        ("another name", vec![namesake("agent-web-2")], Some(Code::EnrollTimeout)),
    ] {
        let cloud = Cloud::usual();
        for device in devices {
            cloud.world().plant_device(device);
        }
        let told = tell(&cloud, Operation::VerifyEnrollment("agent-web-1".to_owned(), looks(4, 5))).await;
        assert_eq!(told.err().map(|error| error.cause.code()), wanted, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn d34_a_blip_during_the_wait_for_a_device_is_no_verdict() {
    let cloud = Cloud::usual();
    cloud.world().inject(fault(Api::Tailscale, "GET", "/tailnet/-/devices", 3, page(502, "bad gateway", false)));
    cloud.world().plant_device(namesake("agent-web-1"));
    tell(&cloud, Operation::VerifyEnrollment("agent-web-1".to_owned(), looks(9, 1))).await.unwrap();
    cloud.world().inject(fault(Api::Tailscale, "GET", "/tailnet/-/devices", 9, page(502, "bad gateway", false)));
    let told = tell(&cloud, Operation::VerifyEnrollment("agent-web-1".to_owned(), looks(3, 1))).await;
    assert_eq!(code(&told), Code::Upstream);
}

#[tokio::test(start_paused = true)]
async fn a_device_is_found_by_its_address_even_if_filters_are_ignored() {
    for ignores in [false, true] {
        let mut config = Config::default();
        config.tailscale.ignore_filters = ignores;
        let cloud = Cloud::new(config);
        let wanted = cloud.world().plant_device(namesake("agent-web-1"));
        cloud.world().plant_device(namesake("agent-web-2"));
        // Lists show a device only after a while.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let ip =
            cloud.truth().devices().iter().find(|device| device["node_id"] == wanted.0.as_str()).unwrap()["ip"].clone();
        let found = document(tell(&cloud, Operation::FindDevice(ip.as_str().unwrap().parse().unwrap())).await);
        assert_eq!(found["nodeId"], wanted.0.as_str());
        let nobody = tell(&cloud, Operation::FindDevice("100.99.99.99".parse().unwrap())).await;
        assert!(matches!(nobody, Ok(Answer::Nothing)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_needs_the_settings_of_its_own_cloud_alone_and_keeps_its_deadline() {
    let cloud = Cloud::usual();
    let id = plant(&cloud);
    let hetzner_alone = provision_vm::provision::Settings {
        tailscale_credentials: provision_vm::tailscale::Credentials::OAuth {
            client_id: String::new(),
            client_secret: Secret::new(""),
        },
        ..settings()
    };
    let (told, notes) = (cloud.told(5), Arc::new(Notebook::default()));
    told.perform(&Operation::PowerOff(id), &hetzner_alone, CancellationToken::new(), notes.clone()).await.unwrap();
    let tailscale_alone = provision_vm::provision::Settings { hetzner_token: Secret::new(""), ..settings() };
    let token =
        told.perform(&Operation::GetAccessToken, &tailscale_alone, CancellationToken::new(), notes.clone()).await;
    let Ok(Answer::AccessToken(token)) = token else { panic!("{token:?}") };
    assert!(notes.secrets.lock().unwrap().iter().any(|secret| secret == token.expose()), "a log can mask it");
    assert_eq!((cloud.truth().requests("tailscale"), cloud.truth().requests("hetzner")), (1, 5));

    let cloud = Cloud::that_never_joins();
    cloud.world().configure(|config| config.machine.boot = BootOutcome::NeverBoots);
    let (told, began) = (cloud.told(5), cloud.now());
    let waiting = Operation::VerifyEnrollment("agent-web-1".to_owned(), looks(900, 5));
    let outcome = told.perform(&waiting, &with_timeout(20), CancellationToken::new(), notes).await;
    assert_eq!(code(&outcome), Code::Deadline);
    assert_eq!(cloud.now().saturating_sub(began).as_secs(), 20);
}

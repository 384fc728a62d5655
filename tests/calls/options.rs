//! Each option of a machine, by what it does in the world.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Cloud, Outcome, settings, with_timeout};
use provision_vm::provision::settings::{
    Additions, Attachments, Command, Extras, File, FirewallRef, Owner, PublicNet, User,
};
use provision_vm::provision::{Code, Settings};
use provision_vm::secret::Secret;
use simulator::{ActionOutcome, Config, World};

fn wanting(extras: Extras) -> Settings {
    Settings { extras, ..settings() }
}

fn attached(attachments: Attachments) -> Settings {
    wanting(Extras { attachments, ..Extras::default() })
}

fn public(enable_ipv4: bool, enable_ipv6: bool) -> PublicNet {
    PublicNet { enable_ipv4, enable_ipv6 }
}

/// The network of the project, in the zone of ash.
fn network(world: &mut World) -> u64 {
    let subnet = json!({ "type": "cloud", "ip_range": "10.0.1.0/24", "network_zone": "us-east" });
    world.plant_network(&json!({ "name": "inner", "ip_range": "10.0.0.0/16", "subnets": [subnet] })).unwrap()
}

fn firewall(world: &mut World, rules: &Value) -> u64 {
    world.plant_firewall(&json!({ "name": "guard", "rules": rules })).unwrap()
}

fn code(outcome: &Outcome) -> Code {
    outcome.as_ref().unwrap_err().cause.code()
}

#[tokio::test(start_paused = true)]
async fn locations_are_tried_in_order_each_with_all_types() {
    let mut config = Config::default();
    for server_type in ["cpx11", "cx23", "cpx12", "cpx22", "cpx21"] {
        config.hetzner.out_of_stock.insert(format!("{server_type}@fsn1"));
    }
    let cloud = Cloud::new(config);
    let locations = vec!["fsn1".to_owned(), "hel1".to_owned()];
    let outcome = cloud.provision(&wanting(Extras { locations, ..Extras::default() })).await;
    cloud.truth().assert_one_ready(&outcome);
    let done = outcome.unwrap();
    assert_eq!(done.server.location, "hel1");
    let (last, before) = done.attempts.split_last().unwrap();
    assert_eq!((last.location.as_str(), last.refused.as_deref()), ("hel1", None));
    assert!(before.iter().any(|attempt| attempt.location == "fsn1"), "{before:?}");
    assert!(before.iter().all(|attempt| attempt.refused.is_some()));
}

#[tokio::test(start_paused = true)]
async fn one_location_wins_over_the_region_and_an_unknown_one_sells_nothing() {
    let cloud = Cloud::usual();
    let at = |location: &str| wanting(Extras { locations: vec![location.to_owned()], ..Extras::default() });
    assert_eq!(code(&cloud.provision(&at("xyz1")).await), Code::Config);
    let done = cloud.provision(&at("sin")).await.unwrap();
    assert_eq!(done.server.location, "sin");
}

#[tokio::test(start_paused = true)]
async fn labels_stand_beside_ours_and_stay_when_it_is_ready() {
    let cloud = Cloud::usual();
    let labels = [("team", "blue"), ("example.com/tier", ""), ("state", "ready")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let outcome = cloud.provision(&wanting(Extras { labels, ..Extras::default() })).await;
    let truth = cloud.truth();
    truth.assert_one_ready(&outcome);
    let labels = &truth.servers()[0]["labels"];
    assert_eq!((&labels["team"], &labels["example.com/tier"]), (&json!("blue"), &json!("")));
    assert_eq!(labels["managed_by"], "provision-vm");
}

#[tokio::test(start_paused = true)]
async fn tags_are_the_devices_beside_ours() {
    let mut config = Config::default();
    config.tailscale.clients[0].tags.push("tag:prod".to_owned());
    let cloud = Cloud::new(config);
    let tagged = |tag: &str| wanting(Extras { tags: vec![tag.to_owned()], ..Extras::default() });
    let outcome = cloud.provision(&tagged("tag:other")).await;
    assert_eq!(code(&outcome), Code::Forbidden, "the client does not own it: {outcome:?}");
    cloud.truth().assert_empty();
    let outcome = cloud.provision(&tagged("tag:prod")).await;
    cloud.truth().assert_one_ready(&outcome);
    assert_eq!(cloud.truth().devices()[0]["tags"], json!(["tag:agent", "tag:prod"]));
}

#[tokio::test(start_paused = true)]
async fn a_server_is_bound_to_what_is_wanted_from_the_start() {
    let cloud = Cloud::usual();
    let (network, firewall, group) = {
        let mut world = cloud.world();
        let rule = json!({ "direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["203.0.113.0/24"] });
        let group = world.plant_placement_group(&json!({ "name": "apart", "type": "spread" })).unwrap();
        (network(&mut world), firewall(&mut world, &json!([rule])), group)
    };
    let wanted = Attachments {
        firewalls: vec![FirewallRef { firewall }],
        networks: vec![network],
        placement_group: Some(group),
        public_net: PublicNet::default(),
    };
    let outcome = cloud.provision(&attached(wanted)).await;
    let truth = cloud.truth();
    truth.assert_one_ready(&outcome);
    let server = &truth.servers()[0];
    assert_eq!(
        (&server["networks"][0]["network"], &server["networks"][0]["attached"]),
        (&json!(network), &json!(true))
    );
    assert_eq!(
        (&server["firewalls"][0]["firewall"], &server["firewalls"][0]["applied"]),
        (&json!(firewall), &json!(true))
    );
    assert_eq!(server["placement_group"], group);
    assert_eq!(outcome.unwrap().server_ip.to_string(), server["ipv4"].as_str().unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_refused_and_named_and_nothing_is_left() {
    let missing = 77;
    for attachments in [
        Attachments { firewalls: vec![FirewallRef { firewall: missing }], ..Attachments::default() },
        Attachments { networks: vec![missing], ..Attachments::default() },
        Attachments { placement_group: Some(missing), ..Attachments::default() },
    ] {
        let cloud = Cloud::usual();
        let error = cloud.provision(&attached(attachments)).await.unwrap_err();
        assert_eq!(error.cause.code(), Code::Config, "{error:?}");
        assert!(error.causes().concat().contains("not found"), "{:?}", error.causes());
        assert!(error.leftovers.is_empty() && !error.is_retryable(), "{error:?}");
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_of_another_zone_is_refused() {
    let cloud = Cloud::usual();
    let networks = vec![network(&mut cloud.world())];
    let extras = Extras {
        locations: vec!["fsn1".to_owned()],
        attachments: Attachments { networks, ..Attachments::default() },
        ..Extras::default()
    };
    let error = cloud.provision(&wanting(extras)).await.unwrap_err();
    assert_eq!(error.cause.code(), Code::InvalidInput, "{error:?}");
    assert!(error.causes().concat().contains("is in a different network zone"), "{:?}", error.causes());
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn an_attachment_that_fails_fails_the_job_and_is_undone() {
    let mut config = Config::default();
    let (code, message) = ("network_not_available".to_owned(), "no".to_owned());
    config.hetzner.attach_action = ActionOutcome::Error { code, message };
    let cloud = Cloud::new(config);
    let networks = vec![network(&mut cloud.world())];
    let outcome = cloud.provision(&attached(Attachments { networks, ..Attachments::default() })).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.cause.code(), error.leftovers.as_slice()), (Code::ActionFailed, &[][..]), "{error:?}");
    cloud.truth().assert_empty();
}

#[tokio::test(start_paused = true)]
async fn without_ipv4_it_joins_by_ipv6_and_has_no_such_address() {
    let cloud = Cloud::usual();
    let wanted = Attachments { public_net: public(false, true), ..Attachments::default() };
    let done = cloud.provision(&attached(wanted)).await.unwrap();
    assert!(matches!(done.server_ip, IpAddr::V6(_)), "{}", done.server_ip);
    let truth = cloud.truth();
    let server = &truth.servers()[0];
    assert!(server["ipv4"].is_null() && server["ipv6"].is_string(), "{server}");
    assert_eq!(truth.0["primary_ips"].as_array().unwrap().len(), 1, "an address that nobody wants costs nothing");
    assert!(cloud.now() < Duration::from_secs(45), "its place is known by its IPv6 network: {:?}", cloud.now());
}

#[tokio::test(start_paused = true)]
async fn without_ipv6_it_has_an_ipv4_address_alone() {
    let cloud = Cloud::usual();
    let wanted = Attachments { public_net: public(true, false), ..Attachments::default() };
    let outcome = cloud.provision(&attached(wanted)).await;
    let truth = cloud.truth();
    truth.assert_one_ready(&outcome);
    let server = &truth.servers()[0];
    assert!(server["ipv6"].is_null() && server["ipv4"] == outcome.unwrap().server_ip.to_string(), "{server}");
    assert_eq!(truth.0["primary_ips"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_public_addresses_it_joins_through_a_network_that_leads_out() {
    let mut config = Config::default();
    config.hetzner.nat_networks.insert("inner".to_owned());
    let cloud = Cloud::new(config);
    let network = network(&mut cloud.world());
    let wanted = Attachments { networks: vec![network], public_net: public(false, false), ..Attachments::default() };
    let done = cloud.provision(&attached(wanted)).await.unwrap();
    assert!(done.server_ip.to_string().starts_with("10.0.1."), "{}", done.server_ip);
    assert!(cloud.truth().0["primary_ips"].as_array().unwrap().is_empty());
    assert_eq!(cloud.truth().usable_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_way_out_it_never_joins_and_is_undone() {
    let closed = json!([{ "direction": "out", "protocol": "udp", "port": "53", "destination_ips": ["0.0.0.0/0"] }]);
    for is_walled in [false, true] {
        let cloud = Cloud::usual();
        let wanted = {
            let mut world = cloud.world();
            if is_walled {
                let firewall = firewall(&mut world, &closed);
                Attachments { firewalls: vec![FirewallRef { firewall }], ..Attachments::default() }
            } else {
                let networks = vec![network(&mut world)];
                Attachments { networks, public_net: public(false, false), ..Attachments::default() }
            }
        };
        let settings = Settings { timeout: with_timeout(120).timeout, ..attached(wanted) };
        let error = cloud.provision(&settings).await.unwrap_err();
        assert_eq!((error.cause.code(), error.leftovers.as_slice()), (Code::EnrollTimeout, &[][..]));
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_added_to_the_first_boot_is_on_the_machine_and_the_join_comes_first() {
    let cloud = Cloud::usual();
    let additions = Additions {
        packages: vec!["jq".to_owned()],
        files: vec![File {
            path: "/etc/app.conf".to_owned(),
            content: Secret::new("a: 1\n"),
            permissions: "0640".to_owned(),
            owner: Owner::default(),
        }],
        users: vec![User {
            name: "app".to_owned(),
            ssh_keys: Vec::new(),
            groups: Vec::new(),
            sudo: false,
            shell: "/bin/sh".to_owned(),
        }],
        hardening: true,
        // A slip that would cost a whole script.
        commands: vec![
            Command::Text("echo 'unbalanced".to_owned()),
            Command::Words(vec!["touch".into(), "/tmp/done".into()]),
        ],
        ..Additions::default()
    };
    let outcome = cloud.provision(&wanting(Extras { additions, ..Extras::default() })).await;
    let truth = cloud.truth();
    truth.assert_one_ready(&outcome);
    let boot: Vec<&str> = truth.0["servers"][0]["boot"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let at =
        |part: &str| boot.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {boot:?}"));
    let placed = at("'install' '-D' '-m' '0640' '--' '/root/provision-vm/files/0' '/etc/app.conf'");
    let run = [
        at("packages.sh' 'jq'"),
        at("unbalanced"),
        at("'touch' '/tmp/done'"),
        at("'sh' '/root/provision-vm/harden.sh'"),
    ];
    let order = [vec![at("tailscale up"), at("user.sh' 'app'"), placed], run.to_vec()].concat();
    assert!(order.is_sorted(), "{boot:?}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_before_any_request() {
    let cloud = Cloud::usual();
    let (content, owner) = (Secret::new("x".repeat(40_000)), Owner::default());
    let file = File { path: "/a".into(), content, permissions: "0600".into(), owner };
    let additions = Additions { files: vec![file], ..Additions::default() };
    let error = cloud.provision(&wanting(Extras { additions, ..Extras::default() })).await.unwrap_err();
    assert_eq!((error.cause.code(), error.cause.field()), (Code::InvalidInput, Some("options.userData")));
    assert_eq!(cloud.truth().requests("hetzner") + cloud.truth().requests("tailscale"), 0);
}

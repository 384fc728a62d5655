//! The simulator as the cloud of a machine that a program outside plays.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};
use simulator::{BootOutcome, Config, Joined, MachineConfig, NotJoined, PlantedKey, World};

const DOCUMENT: &str = "#cloud-config\nruncmd: ['tailscale up --auth-key=tskey-auth-none-x']\n# ü\n";

struct Cloud {
    world: World,
    now: Duration,
}

impl Cloud {
    fn new() -> Self {
        let machine = MachineConfig { boot: BootOutcome::Outside, ..MachineConfig::default() };
        Self { world: World::new(Config { machine, ..Config::default() }), now: Duration::ZERO }
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let token = format!("Bearer {}", self.world.config().hetzner.token);
        let request = Request::builder().method(method).uri(format!("https://api.example/v1{path}"));
        let request = request.header("authorization", token).body(Bytes::from(body.to_string())).unwrap();
        let delivery = self.world.exchange(self.now, request);
        self.pass(60);
        serde_json::from_slice(delivery.outcome.unwrap().body()).unwrap_or_default()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.world.advance(self.now);
    }

    /// A server that runs; its id.
    fn server(&mut self, name: &str, fields: &Value) -> u64 {
        let mut order = json!({ "name": name, "server_type": "cpx11", "image": "ubuntu-22.04", "location": "ash" });
        for (field, value) in fields.as_object().unwrap() {
            order[field] = value.clone();
        }
        let made = self.ask("POST", "/servers", &order);
        made["server"]["id"].as_u64().unwrap_or_else(|| unreachable!("{made}"))
    }

    fn key(&mut self, reusable: bool) -> String {
        self.world.plant_key(PlantedKey { reusable, ephemeral: true, tags: vec!["tag:agent".into()] })
    }

    fn read(&mut self, path: &str) -> (u16, String) {
        let response = self.world.metadata(&Method::GET, path);
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    fn connected(&self) -> Vec<bool> {
        let devices = self.world.snapshot()["devices"].clone();
        devices.as_array().unwrap().iter().map(|device| device["connected"] == true).collect()
    }
}

fn refused(outcome: Result<Joined, NotJoined>) -> String {
    match outcome {
        Err(NotJoined::Refused(why)) => why,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn a_machine_finds_itself_described() {
    let mut cloud = Cloud::new();
    let id = cloud.server("agent-1", &json!({ "user_data": DOCUMENT, "ssh_keys": [4711] }));
    let ip = cloud.world.servers().next().unwrap().ipv4.unwrap().to_string();
    for (path, expected) in [
        ("metadata/hostname", "agent-1".to_owned()),
        ("metadata/instance-id", id.to_string()),
        ("metadata/instance-id/", id.to_string()),
        ("metadata/public-ipv4", ip.clone()),
        ("metadata/local-ipv4", String::new()),
        ("metadata/availability-zone", "ash-dc1".to_owned()),
        ("metadata/region", "us-east".to_owned()),
        ("metadata/private-networks", "[]\n".to_owned()),
        ("userdata", DOCUMENT.to_owned()),
    ] {
        assert_eq!(cloud.read(&format!("/hetzner/v1/{path}")), (200, expected), "{path}");
    }
    for path in ["", "/", "/hetzner/v1", "/hetzner/v1/metadata/nothing", "/latest/meta-data", "/userdata", "/metadata"]
    {
        assert_eq!(cloud.read(path).0, 404, "{path}");
    }
    let posted = cloud.world.metadata(&Method::POST, "/hetzner/v1/metadata");
    assert_eq!(posted.status(), 404);

    let (_, text) = cloud.read("/hetzner/v1/metadata");
    for line in ["hostname: agent-1", &format!("instance-id: {id}"), &format!("public-ipv4: {ip}"), "region: us-east"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let summary: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(summary["instance-id"], id);
    assert_eq!(summary["public-keys"].as_array().unwrap().len(), 1);
    let config = &summary["network-config"];
    assert_eq!((&config["version"], &config["config"][0]["type"]), (&json!(1), &json!("physical")));
    let kinds: Vec<&Value> =
        config["config"][0]["subnets"].as_array().unwrap().iter().map(|net| &net["type"]).collect();
    assert_eq!(kinds, ["dhcp", "static"]);
    let vendor = summary["vendor_data"].as_str().unwrap();
    assert!(vendor.contains("#cloud-config\nfqdn: agent-1\nmanage_etc_hosts: true\n"), "{vendor}");
    assert!(!text.contains("tskey-"), "the document is elsewhere");
}

#[test]
fn private_networks_are_described_and_public_addresses_may_be_missing() {
    let mut cloud = Cloud::new();
    let subnets = json!([{ "type": "cloud", "ip_range": "10.0.1.0/24", "network_zone": "us-east" }]);
    let network = json!({ "name": "inside", "ip_range": "10.0.0.0/16", "subnets": subnets });
    let network = cloud.world.plant_network(&network).unwrap();
    let public_net = json!({ "enable_ipv4": false, "enable_ipv6": false });
    let id = cloud.server("agent-1", &json!({ "networks": [network], "public_net": public_net }));
    let (status, text) = cloud.read("/hetzner/v1/metadata/private-networks");
    assert_eq!(status, 200);
    assert!(text.starts_with("- ip: 10.0.1."), "scripts take this line apart: {text}");
    let nets: Value = serde_saphyr::from_str(&text).unwrap();
    let expected = json!({
        "interface_num": 1, "network_id": network, "network_name": "inside", "network": "10.0.0.0/16",
        "subnet": "10.0.1.0/24", "gateway": "10.0.0.1", "alias_ips": [],
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&nets[0][field], value, "{text}");
    }
    assert_eq!(cloud.read("/hetzner/v1/metadata/public-ipv4"), (200, String::new()));
    let summary: Value = serde_saphyr::from_str(&cloud.read("/hetzner/v1/metadata").1).unwrap();
    assert_eq!((&summary["instance-id"], &summary["network-config"]["config"]), (&json!(id), &json!([])));
    assert_eq!(cloud.read("/hetzner/v1/userdata"), (204, String::new()), "there is none");
}

#[test]
fn the_server_that_asks_is_the_newest_or_the_one_that_was_said() {
    let mut cloud = Cloud::new();
    let name = |cloud: &mut Cloud| cloud.read("/hetzner/v1/metadata/hostname");
    assert_eq!(name(&mut cloud).0, 404, "there is no machine yet");
    let first = cloud.server("first", &json!({}));
    let second = cloud.server("second", &json!({}));
    assert_eq!(name(&mut cloud).1, "second");
    cloud.world.power_off(second);
    assert_eq!(name(&mut cloud).1, "first");
    cloud.world.ask_metadata_as(first);
    cloud.server("third", &json!({}));
    assert_eq!(name(&mut cloud).1, "first");
    cloud.ask("DELETE", &format!("/servers/{first}"), &Value::Null);
    assert_eq!(name(&mut cloud).0, 404, "who is gone asks nothing");
    cloud.world.ask_metadata_as(second);
    assert_eq!(name(&mut cloud).0, 404, "who is off asks nothing");
    assert_eq!(cloud.read("/hetzner/v1/userdata").0, 404);
}

#[test]
fn a_machine_that_is_played_from_outside_joins_when_it_is_told() {
    let mut cloud = Cloud::new();
    let key = cloud.key(false);
    let data = format!("#cloud-config\nruncmd: ['tailscale up --auth-key={key}']\n");
    let id = cloud.server("agent-1", &json!({ "user_data": data }));
    cloud.pass(3600);
    assert_eq!(cloud.world.devices().count(), 0, "nothing joins by itself");
    assert_eq!(cloud.world.user_data(id), Some(data.as_str()));

    let joined = cloud.world.join(id, &key, "agent-1").unwrap();
    let device = cloud.world.devices().next().unwrap();
    assert_eq!((device.node, device.hostname, device.server), (joined.node.0.as_str(), "agent-1", Some(id)));
    assert_eq!((device.ip, device.ephemeral, device.tags), (joined.ip.as_deref(), true, &["tag:agent".to_owned()][..]));
    assert!(joined.ip.unwrap().starts_with("100."));
    assert_eq!(cloud.world.servers().next().unwrap().node, Some(device.node));
    assert!(cloud.world.keys().all(|key| key.used && !key.usable));
    assert_eq!(cloud.connected(), [true]);

    cloud.ask("DELETE", &format!("/servers/{id}"), &Value::Null);
    assert_eq!(cloud.connected(), [false], "its machine is gone");
    assert_eq!(cloud.world.join(id, &key, "agent-1"), Err(NotJoined::NoMachine));
}

#[test]
fn the_tailnet_judges_the_key_and_a_spent_one_logs_the_machine_out() {
    let mut cloud = Cloud::new();
    let id = cloud.server("agent-1", &json!({}));
    assert_eq!(refused(cloud.world.join(id, "hello", "a")), "invalid key: API key does not exist");
    let (key, other) = (cloud.key(false), cloud.key(false));
    let spent = "not valid";
    let first = cloud.world.join(id, &key, "").unwrap();
    assert_eq!(cloud.world.devices().next().unwrap().hostname, "agent-1", "the machine's own name");

    // With a fresh key it stays who it is.
    let again = cloud.world.join(id, &other, "agent-2").unwrap();
    assert_eq!(again, first);
    assert_eq!(cloud.world.devices().map(|device| device.hostname).collect::<Vec<_>>(), ["agent-2"]);

    // With a spent one it is logged out, and nothing brings it back but a key that is good.
    assert!(refused(cloud.world.join(id, &key, "agent-1")).ends_with(spent));
    assert_eq!((cloud.connected(), cloud.world.servers().next().unwrap().node), (vec![false], None));
    cloud.ask("POST", &format!("/servers/{id}/actions/reboot"), &json!({}));
    cloud.pass(600);
    assert_eq!(cloud.connected(), [false]);

    let second = cloud.server("agent-3", &json!({}));
    assert!(
        refused(cloud.world.join(second, &other, "agent-3")).ends_with(spent),
        "another machine gets nothing for it"
    );
    cloud.world.power_off(second);
    let fresh = cloud.key(true);
    assert_eq!(cloud.world.join(second, &fresh, "agent-3"), Err(NotJoined::NoMachine));
}

#[test]
fn a_machine_without_a_way_out_does_not_join() {
    let mut cloud = Cloud::new();
    let rules =
        json!([{ "direction": "out", "protocol": "tcp", "port": "80", "destination_ips": ["0.0.0.0/0", "::/0"] }]);
    let firewall = cloud.world.plant_firewall(&json!({ "name": "wall", "rules": rules })).unwrap();
    let id = cloud.server("agent-1", &json!({ "firewalls": [{ "firewall": firewall }] }));
    let key = cloud.key(false);
    let why = refused(cloud.world.join(id, &key, "agent-1"));
    assert!(why.contains("firewall"), "{why}");
    assert!(cloud.world.keys().all(|key| key.usable), "nothing was used");
}

//! The rules of the world, and that one seed gives one history.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use simulator::{Actor, Api, Applied, Config, Cut, Fault, FaultKind, PlantedDevice, Unreached, What, World};

/// A client that asks one question after the other.
struct Client {
    world: World,
    now: Duration,
    token: String,
}

impl Client {
    fn new(config: Config) -> Self {
        let token = config.hetzner.token.clone();
        Self { world: World::new(config), now: Duration::ZERO, token }
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), Cut> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let uri = format!("https://api.example/v1{path}");
        let request =
            Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {}", self.token));
        let delivery = self.world.exchange(self.now, request.body(body).unwrap());
        self.now += delivery.after;
        let answer = delivery.outcome?;
        Ok((answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default()))
    }

    fn get(&mut self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &Value::Null).unwrap()
    }

    fn order(&mut self, name: &str) -> (u16, Value) {
        let up = "#cloud-config\nruncmd: ['tailscale up --auth-key=tskey-auth-none-x']";
        let body = json!({ "name": name, "server_type": "cpx11", "image": "ubuntu-22.04", "location": "ash", "user_data": up });
        self.ask("POST", "/servers", &body).unwrap()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.world.advance(self.now);
    }
}

fn history(seed: u64) -> String {
    let mut client = Client::new(Config { seed, ..Config::default() });
    let kind = FaultKind::ResetThenApply { after_ms: 2500 };
    client.world.inject(Fault { api: Api::Hetzner, method: Some("POST".into()), path: None, skip: 1, times: 1, kind });
    client.order("a");
    assert!(client.ask("POST", "/servers", &json!({ "name": "b", "server_type": 22, "image": "debian-12" })).is_err());
    for _ in 0..30 {
        client.get("/servers?per_page=1");
        client.pass(1);
    }
    serde_json::to_string(client.world.journal()).unwrap() + &client.world.snapshot().to_string()
}

#[test]
fn one_seed_gives_one_history_and_another_seed_another() {
    assert_eq!(history(5), history(5));
    assert_ne!(history(5), history(6));
}

#[test]
fn a_server_goes_through_its_states_and_its_actions_through_theirs() {
    let mut client = Client::new(Config::default());
    let (_, created) = client.order("a");
    let server = format!("/servers/{}", created["server"]["id"]);
    let ids = format!("/actions?id={}&id={}&id=1", created["action"]["id"], created["next_actions"][0]["id"]);
    assert_eq!(created["next_actions"][0]["parent_id"], created["action"]["id"]);
    let mut states = vec![];
    for _ in 0..20 {
        let state = client.get(&server).1["server"]["status"].clone();
        if states.last() != Some(&state) {
            states.push(state);
        }
        client.pass(1);
    }
    assert_eq!(states, ["initializing", "starting", "running"]);
    let (_, actions) = client.get(&ids);
    let statuses: Vec<&Value> = actions["actions"].as_array().unwrap().iter().map(|action| &action["status"]).collect();
    assert_eq!(statuses, ["success", "success"], "an unknown id is left out");
}

#[test]
fn actions_are_answered_for_25_ids_and_no_more() {
    let mut client = Client::new(Config::default());
    let ids: Vec<String> =
        (0..30).map(|n| format!("id={}", client.order(&format!("s{n}")).1["action"]["id"])).collect();
    let (_, answer) = client.get(&format!("/actions?{}", ids.join("&")));
    assert_eq!(answer["actions"].as_array().unwrap().len(), 25);
}

#[test]
fn lists_come_in_pages() {
    let mut client = Client::new(Config::default());
    for n in 0..7 {
        client.order(&format!("s{n}"));
    }
    let mut seen = vec![];
    let mut page = json!(1);
    while !page.is_null() {
        let (_, answer) = client.get(&format!("/servers?per_page=3&page={page}&sort=name:desc"));
        seen.extend(
            answer["servers"].as_array().unwrap().iter().map(|server| server["name"].as_str().unwrap().to_owned()),
        );
        page = answer["meta"]["pagination"]["next_page"].clone();
    }
    assert_eq!(seen, ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]);
}

type Change = fn(&mut Value);

#[test]
fn orders_are_refused_for_their_own_reasons() {
    let base = json!({ "name": "a", "server_type": "cpx11", "image": "ubuntu-22.04", "location": "ash" });
    let cases: [(Change, u16, &str, &str); 9] = [
        (|o| o["name"] = json!("a_b"), 422, "invalid_input", "name"),
        (|o| o["server_type"] = json!("cpx99"), 422, "invalid_input", "server_type"),
        (|o| o["image"] = json!("ubuntu-1.0"), 404, "not_found", "image not found"),
        (|o| o["location"] = json!("nbg1"), 422, "invalid_input", "deprecated"),
        (|o| o["server_type"] = json!("cpx12"), 422, "invalid_input", "unsupported location for server type"),
        (|o| o["ssh_keys"] = json!([99]), 422, "invalid_input", "ssh_keys"),
        (|o| o["user_data"] = json!("x".repeat(32_769)), 422, "invalid_input", "user_data"),
        (|o| o["labels"] = json!({ "a": "b c" }), 422, "invalid_input", "labels"),
        (
            |o| o["public_net"] = json!({ "enable_ipv4": false, "enable_ipv6": false }),
            422,
            "invalid_input",
            "public_net",
        ),
    ];
    for (change, status, code, text) in cases {
        let mut client = Client::new(Config::default());
        let mut order = base.clone();
        change(&mut order);
        let (got, answer) = client.ask("POST", "/servers", &order).unwrap();
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{order}");
        assert!(answer["error"].to_string().contains(text), "{answer}");
        assert_eq!(client.world.snapshot()["servers_ever"], 0);
    }
}

#[test]
fn the_bucket_is_refilled_once_a_second() {
    let mut config = Config { latency_ms: (0, 0), ..Config::default() };
    config.hetzner.rate_remaining = Some(2.0);
    let mut client = Client::new(config);
    let statuses: Vec<u16> = (0..3).map(|_| client.get("/locations").0).collect();
    assert_eq!(statuses, [200, 200, 429]);
    client.pass(1);
    let statuses: Vec<u16> = (0..2).map(|_| client.get("/locations").0).collect();
    assert_eq!(statuses, [200, 429]);
}

#[test]
fn the_bucket_can_be_set_to_what_is_left() {
    let mut client = Client::new(Config { latency_ms: (0, 0), ..Config::default() });
    client.pass(10);
    client.world.configure(|config| config.hetzner.rate_remaining = Some(1.0));
    assert_eq!([client.get("/locations").0, client.get("/locations").0], [200, 429]);
    client.world.configure(|config| config.latency_ms = (1, 1));
    assert_eq!(client.get("/locations").0, 429, "what else changes leaves it alone");
}

#[test]
fn names_are_unique_and_free_again_after_a_delete() {
    let mut config = Config::default();
    config.hetzner.name_held_seconds = 10.0;
    let mut client = Client::new(config);
    let id = client.order("a").1["server"]["id"].clone();
    assert_eq!(client.order("a").0, 409);
    client.ask("DELETE", &format!("/servers/{id}"), &Value::Null).unwrap();
    assert_eq!(client.order("a").0, 409, "held");
    client.pass(11);
    assert_eq!(client.order("a").0, 201);
}

#[test]
fn a_press_of_the_power_button_takes_a_while_and_may_be_ignored() {
    for works in [true, false] {
        let mut config = Config::default();
        config.hetzner.shutdown_works = works;
        let mut client = Client::new(config);
        let id = client.order("a").1["server"]["id"].clone();
        client.pass(30);
        client.ask("POST", &format!("/servers/{id}/actions/shutdown"), &Value::Null).unwrap();
        client.pass(3);
        assert_eq!(
            client.get(&format!("/servers/{id}")).1["server"]["status"],
            "running",
            "the action says nothing yet"
        );
        client.pass(10);
        let status = client.get(&format!("/servers/{id}")).1["server"]["status"].clone();
        assert_eq!(status, if works { "off" } else { "running" });
    }
}

#[test]
fn the_history_says_what_happened_and_who_caused_it() {
    let mut world = World::new(Config::default());
    let token = world.config().hetzner.token.clone();
    let body = json!({ "name": "a", "server_type": "cpx11", "image": "ubuntu-22.04", "location": "ash" }).to_string();
    let order = |name: &str| {
        let request =
            Request::post("https://api.example/v1/servers").header("authorization", format!("Bearer {token}"));
        request.body(Bytes::from(body.replace("\"a\"", &format!("{name:?}")))).unwrap()
    };
    world.ambush(FaultKind::ResetThenApply { after_ms: 500 });
    assert!(world.exchange_as(7, Duration::ZERO, order("late")).outcome.is_err());
    assert_eq!((world.last_fate().fault, world.last_fate().applied), (Some("reset_then_apply"), Applied::Later));
    assert!(world.exchange_as(8, Duration::ZERO, order("now")).outcome.is_ok());
    assert_eq!((world.last_fate().fault, world.last_fate().applied), (None, Applied::Now));
    world.advance(Duration::from_secs(1));
    let late = world.servers().find(|server| server.name == "late").unwrap().id;
    world.remove_server(late);
    let servers: Vec<(Actor, Duration, &str)> = world
        .take_changes()
        .iter()
        .filter_map(|change| match &change.what {
            What::ServerMade { name, .. } => Some((change.by, change.at, if name == "late" { "late" } else { "now" })),
            What::ServerRemoved { .. } => Some((change.by, change.at, "removed")),
            _ => None,
        })
        .collect();
    let after = Duration::from_millis;
    let expected = [
        (Actor::Caller(8), after(0), "now"),
        (Actor::Caller(7), after(500), "late"),
        (Actor::Operator, after(1000), "removed"),
    ];
    assert_eq!(servers, expected);
    assert!(world.take_changes().is_empty());
}

#[test]
fn a_stale_read_shows_the_project_as_it_was() {
    let mut client = Client::new(Config::default());
    client.order("a");
    client.pass(2);
    client.world.ambush(FaultKind::StaleRead { seconds: 5.0 });
    assert_eq!(client.get("/servers?name=a").1["servers"], json!([]));
    assert_eq!(client.get("/servers?name=a").1["servers"][0]["name"], "a");
    let id = client.world.servers().next().unwrap().id;
    client.pass(5);
    client.world.touch_server(id, Some([("state".to_owned(), "ready".to_owned())].into()), None);
    client.world.ambush(FaultKind::StaleRead { seconds: 5.0 });
    assert_eq!(client.get(&format!("/servers/{id}")).1["server"]["labels"], json!({}));
    assert_eq!(client.get(&format!("/servers/{id}")).1["server"]["labels"]["state"], "ready");
    client.world.remove_server(id);
    client.world.ambush(FaultKind::StaleRead { seconds: 5.0 });
    assert_eq!(client.get(&format!("/servers/{id}")).0, 200);
    assert_eq!(client.get(&format!("/servers/{id}")).0, 404);
}

#[test]
fn a_machine_answers_on_its_ports_once_it_listens_and_while_it_is_in_the_tailnet() {
    use Unreached::{NoAnswer, Refused};
    let mut world = World::new(Config::default());
    let node = world.plant_device(PlantedDevice::default());
    let ip = world.devices().find_map(|device| device.ip?.parse().ok()).unwrap();
    let nobody = "100.64.9.9".parse().unwrap();
    for (seconds, ip, port, outcome) in
        [(1, ip, 22, Err(Refused)), (2, ip, 22, Ok(())), (2, ip, 80, Err(Refused)), (2, nobody, 22, Err(NoAnswer))]
    {
        assert_eq!(world.reach(Duration::from_secs(seconds), ip, port), outcome, "{ip}:{port} after {seconds} s");
    }
    let later = Duration::from_secs(9);
    world.configure(|config| config.machine.reachable = false);
    assert_eq!(world.reach(later, ip, 22), Err(NoAnswer));
    world.configure(|config| (config.machine.reachable, config.machine.ports) = (true, [80].into()));
    assert_eq!((world.reach(later, ip, 80), world.reach(later, ip, 22)), (Ok(()), Err(Refused)));
    world.remove_device(&node);
    assert_eq!(world.reach(later, ip, 80), Err(NoAnswer));
}

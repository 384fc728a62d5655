//! Who asks, and what is asked for.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use simulator::{Config, World};

/// A client that asks one question after the other, in a world whose machines would join if they could.
pub struct Client {
    pub world: World,
    now: Duration,
    pub token: String,
}

impl Client {
    pub fn new(config: Config) -> Self {
        let token = config.hetzner.token.clone();
        Self { world: World::new(config), now: Duration::ZERO, token }
    }

    pub fn usual() -> Self {
        Self::new(Config::default())
    }

    pub fn ask(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let uri = format!("https://api.example/v1{path}");
        let request =
            Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {}", self.token));
        let delivery = self.world.exchange(self.now, request.body(body).unwrap());
        self.now += delivery.after;
        let answer = delivery.outcome.unwrap();
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    pub fn get(&mut self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub fn delete(&mut self, path: &str) -> (u16, Value) {
        self.ask("DELETE", path, &Value::Null)
    }

    /// Orders a server whose machine asks to join, with these fields in the order.
    pub fn order(&mut self, name: &str, fields: &Value) -> (u16, Value) {
        let data = "#cloud-config\nruncmd: ['tailscale up --auth-key=tskey-auth-none-x']";
        let mut order = json!({
            "name": name, "server_type": "cpx11", "image": "ubuntu-22.04", "location": "ash", "user_data": data,
        });
        for (field, value) in fields.as_object().unwrap() {
            order[field] = value.clone();
        }
        self.ask("POST", "/servers", &order)
    }

    /// The same; it has to be taken.
    #[track_caller]
    pub fn ordered(&mut self, name: &str, fields: &Value) -> Value {
        let (status, answer) = self.order(name, fields);
        assert_eq!(status, 201, "{answer}");
        answer
    }

    pub fn server(&mut self, created: &Value) -> Value {
        self.get(&format!("/servers/{}", created["server"]["id"]))["server"].clone()
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.world.advance(self.now);
    }

    /// Whether a machine has asked to join until now, and why not if it will not. The key that it asks with is no good:
    /// what counts is that it got through.
    pub fn tried_to_join(&self) -> Result<(), String> {
        let journal = self.world.journal();
        if journal.iter().any(|entry| entry.what.ends_with("joins")) {
            return Ok(());
        }
        let mut said = journal.iter().filter(|entry| entry.what.ends_with("is up")).map(|entry| entry.outcome.clone());
        Err(said.next_back().unwrap_or_else(|| "no machine is up".to_owned()))
    }

    pub fn network(&mut self, name: &str, zone: &str) -> u64 {
        let subnets = json!([{ "type": "cloud", "network_zone": zone, "ip_range": "10.0.1.0/24" }]);
        self.world.plant_network(&json!({ "name": name, "ip_range": "10.0.0.0/16", "subnets": subnets })).unwrap()
    }

    pub fn firewall(&mut self, name: &str, rules: &Value) -> u64 {
        let id = self.world.plant_firewall(&json!({ "name": name, "rules": rules })).unwrap();
        self.pass(5);
        id
    }

    pub fn placement_group(&mut self, name: &str) -> u64 {
        self.world.plant_placement_group(&json!({ "name": name, "type": "spread" })).unwrap()
    }
}

/// No public address.
pub fn private(network: u64) -> Value {
    json!({ "networks": [network], "public_net": { "enable_ipv4": false, "enable_ipv6": false } })
}

pub fn out(protocol: &str, port: &str, to: &str) -> Value {
    json!({ "direction": "out", "protocol": protocol, "port": port, "destination_ips": [to] })
}

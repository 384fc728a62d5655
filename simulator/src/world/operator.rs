//! What somebody does at the console, past the API.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::World;
use crate::hetzner::PlantedServer;
use crate::history::Actor;
use crate::tailscale::{NodeId, PlantedDevice, PlantedKey};

impl World {
    /// Puts a server into the world that nobody asked for through the API.
    pub fn plant_server(&mut self, server: PlantedServer) -> u64 {
        self.cx.by = Actor::Operator;
        let id = self.hetzner.plant(&mut self.cx, server);
        self.cx.by = Actor::World;
        self.note("world", format!("server {id} is planted"), String::new(), None);
        id
    }

    /// Makes a network as somebody at the console would, from the body of the API's request; returns its id.
    ///
    /// # Errors
    ///
    /// The API's refusal, as text.
    pub fn plant_network(&mut self, body: &Value) -> Result<u64, String> {
        told(self.hetzner.create_network(&self.cx, body.to_string().as_bytes()))
    }

    /// Makes a firewall in the same way.
    ///
    /// # Errors
    ///
    /// The API's refusal, as text.
    pub fn plant_firewall(&mut self, body: &Value) -> Result<u64, String> {
        let body = body.to_string();
        let made = self.hetzner.create_firewall(&self.cx, &mut self.agenda, &self.config.hetzner, body.as_bytes());
        told(made.map(|(id, _)| id))
    }

    /// Makes a placement group in the same way.
    ///
    /// # Errors
    ///
    /// The API's refusal, as text.
    pub fn plant_placement_group(&mut self, body: &Value) -> Result<u64, String> {
        told(self.hetzner.create_placement_group(&self.cx, body.to_string().as_bytes()))
    }

    /// Changes a server as an operator at the console would: its labels, or its protection.
    pub fn touch_server(&mut self, id: u64, labels: Option<BTreeMap<String, String>>, protect: Option<bool>) {
        self.cx.by = Actor::Operator;
        self.hetzner.touch(&mut self.cx, id, labels, protect);
        self.cx.by = Actor::World;
    }

    /// Removes a server as an operator at the console would.
    pub fn remove_server(&mut self, id: u64) {
        self.cx.by = Actor::Operator;
        self.hetzner.remove(&mut self.cx, &self.config.hetzner, id);
        self.cx.by = Actor::World;
        self.follow_up();
        self.note("world", format!("server {id} is removed by somebody"), String::new(), None);
    }

    /// Puts a device into the tailnet that no server of ours made.
    pub fn plant_device(&mut self, device: PlantedDevice) -> NodeId {
        self.cx.by = Actor::Operator;
        let node = self.tailscale.plant_device(&mut self.cx, device);
        self.cx.by = Actor::World;
        node
    }

    /// Makes a pre-authorised auth key as somebody at the console would; returns its text.
    pub fn plant_key(&mut self, key: PlantedKey) -> String {
        self.cx.by = Actor::Operator;
        let text = self.tailscale.plant_key(&mut self.cx, key);
        self.cx.by = Actor::World;
        text
    }

    /// Takes a device off the tailnet as somebody at the console would.
    pub fn remove_device(&mut self, node: &NodeId) {
        self.cx.by = Actor::Operator;
        self.tailscale.remove_device(&mut self.cx, node);
        self.cx.by = Actor::World;
    }
}

fn told(made: Result<u64, Box<Response<Bytes>>>) -> Result<u64, String> {
    made.map_err(|refusal| String::from_utf8_lossy(refusal.body()).into_owned())
}

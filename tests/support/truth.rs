//! What is true in the world, for tests that look at what exists afterwards.

use serde_json::Value;

use super::Outcome;

/// What is true in the world.
pub struct Truth(pub Value);

impl Truth {
    pub fn servers(&self) -> Vec<Value> {
        self.0["servers"].as_array().unwrap().clone()
    }

    pub fn devices(&self) -> Vec<Value> {
        self.0["devices"].as_array().unwrap().clone()
    }

    pub fn usable_keys(&self) -> usize {
        self.0["keys"].as_array().unwrap().iter().filter(|key| key["usable"] == true).count()
    }

    pub fn servers_ever(&self) -> u64 {
        self.0["servers_ever"].as_u64().unwrap()
    }

    pub fn requests(&self, api: &str) -> u64 {
        self.0["requests"][api].as_u64().unwrap()
    }

    pub fn faults_fired(&self) -> u64 {
        self.0["faults_fired"].as_u64().unwrap()
    }

    /// No server, no device, no address, no usable key.
    #[track_caller]
    pub fn assert_empty(&self) {
        assert!(self.servers().is_empty(), "servers are left: {}", self.0);
        assert!(self.devices().is_empty(), "devices are left: {}", self.0);
        assert!(self.0["primary_ips"].as_array().unwrap().is_empty(), "addresses are left: {}", self.0);
        assert_eq!(self.usable_keys(), 0, "usable keys are left: {}", self.0);
    }

    /// Exactly one server, ready, with its connected device, and no usable key.
    #[track_caller]
    pub fn assert_one_ready(&self, outcome: &Outcome) {
        let done = outcome.as_ref().unwrap_or_else(|error| panic!("{error}: {:?} {}", error.causes(), self.0));
        let [server] = self.servers().try_into().unwrap_or_else(|_| panic!("not one server: {}", self.0));
        assert_eq!(server["id"], done.server.id.0);
        assert_eq!(server["labels"]["state"], "ready");
        let device = self.devices().into_iter().find(|device| device["node_id"] == done.node_id.as_str()).unwrap();
        assert_eq!(server["node"], device["node_id"], "the device is not that server's machine");
        assert_eq!(device["ip"], done.tailscale_ip.to_string());
        assert_eq!(self.usable_keys(), 0, "usable keys are left: {}", self.0);
    }
}

//! How a program outside plays a machine: what it reads there, and that it joins.

use bytes::Bytes;
use http::{Method, Response};

use super::World;
use crate::tailscale::{Join, NodeId};

/// A machine has joined: its device, and that device's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The device.
    pub node: NodeId,
    /// Its IPv4 address in the tailnet, if it has one.
    pub ip: Option<String>,
}

/// Why a machine that is played from outside has not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotJoined {
    /// There is no such machine, or it is off.
    NoMachine,
    /// What `tailscale up` says there.
    Refused(String),
}

impl World {
    /// Says which server's machine asks the metadata server from now on; Hetzner knows it by the network. Before that,
    /// it is the newest one that runs.
    pub fn ask_metadata_as(&mut self, server: u64) {
        self.asking = Some(server);
    }

    /// One request to the metadata server.
    pub fn metadata(&mut self, method: &Method, path: &str) -> Response<Bytes> {
        let server = self.asking.or_else(|| self.hetzner.newest_running()).unwrap_or_default();
        let path = path.trim_end_matches('/');
        let response = self.hetzner.metadata(server, if method == Method::GET { path } else { "" });
        self.note("metadata", format!("{method} {path}"), response.status().as_u16().to_string(), None);
        response
    }

    /// The first-boot document of a server, if it has one.
    pub fn user_data(&self, server: u64) -> Option<&str> {
        self.hetzner.user_data(server)
    }

    /// A machine's power is cut.
    pub fn power_off(&mut self, server: u64) {
        self.hetzner.power_off(server);
        self.follow_up();
        self.note("world", format!("machine {server} goes off"), String::new(), None);
    }

    /// Does what `tailscale up` with this key and name would do on the machine of a server.
    ///
    /// On one that has joined already it registers the device anew: with a key that is spent or revoked, that logs it out
    /// (`facts/tailscale-and-first-boot.md` B1, the retry loop trap).
    ///
    /// # Errors
    ///
    /// If the machine is not there or off, or the tailnet refuses it.
    pub fn join(&mut self, server: u64, auth_key: &str, hostname: &str) -> Result<Joined, NotJoined> {
        let outcome = self.up(server, auth_key, hostname);
        let said = match &outcome {
            Ok(joined) => format!("as {}", joined.node.0),
            Err(NotJoined::NoMachine) => return outcome,
            Err(NotJoined::Refused(why)) => format!("refused: {why}"),
        };
        self.note("world", format!("machine {server} joins"), said, None);
        outcome
    }

    fn up(&mut self, id: u64, auth_key: &str, hostname: &str) -> Result<Joined, NotJoined> {
        let way_out = self.hetzner.way_out(&self.config.hetzner, id);
        let server = self.hetzner.running_server(id).ok_or(NotJoined::NoMachine)?;
        way_out.map_err(NotJoined::Refused)?;
        server.first_boot_done = true;
        let before = server.node.take().map(NodeId);
        let name = if hostname.is_empty() { server.name.clone() } else { hostname.to_owned() };
        let join =
            Join { auth_key: auth_key.to_owned(), hostname: name, public_ip: server.connects_from(), server: id };
        let joined = match &before {
            Some(node) => self.tailscale.rejoin(&mut self.cx, node, join),
            None => self.tailscale.join(&mut self.cx, join),
        };
        match joined {
            Ok(node) => {
                if let Some(server) = self.hetzner.running_server(id) {
                    server.node = Some(node.0.clone());
                }
                let ip = self.devices().find(|device| device.node == node.0).and_then(|device| device.ip);
                let ip = ip.map(str::to_owned);
                Ok(Joined { node, ip })
            }
            Err(why) => {
                if let Some(node) = before {
                    self.tailscale.log_out(&mut self.cx, &node);
                }
                Err(NotJoined::Refused(why))
            }
        }
    }
}

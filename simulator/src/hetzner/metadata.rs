//! The metadata server that every machine can ask about itself, and where cloud-init finds the first-boot document
//! (`facts/tailscale-and-first-boot.md` B3).
//!
//! The documented fields are those of the API description (tag Server Metadata). `local-ipv4`, `network-config`,
//! `public-keys` and `vendor_data` are not documented, but cloud-init's datasource reads them; their shape is that of
//! the answers in its tests and in coreos-cloudinit's.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::server::Server;
use super::{Hetzner, catalogue};
use crate::reply::{no_content, text_reply};

/// Hetzner's resolvers.
const RESOLVERS: [&str; 2] = ["185.12.64.1", "185.12.64.2"];
const RESOLVERS_V6: [&str; 2] = ["2a01:4ff:ff00::add:2", "2a01:4ff:ff00::add:1"];

impl Hetzner {
    /// Answers one path to the machine of this server. A server that is off has no machine that could ask.
    pub(crate) fn metadata(&self, id: u64, path: &str) -> Response<Bytes> {
        let Some(server) = self.servers.get(&id).filter(|server| server.status == "running") else { return nothing() };
        let text = |text: String| text_reply(200, "text/plain", text);
        let ipv4 = || server.ipv4.map(|ip| ip.to_string()).unwrap_or_default();
        match path.strip_prefix("/hetzner/v1/").unwrap_or_default() {
            "metadata" => text(self.summary(server)),
            "metadata/hostname" => text(server.name.clone()),
            "metadata/instance-id" => text(server.id.to_string()),
            "metadata/public-ipv4" => text(ipv4()),
            // Empty in every answer that was seen.
            "metadata/local-ipv4" => text(String::new()),
            "metadata/availability-zone" => text(availability_zone(server.location)),
            "metadata/region" => text(catalogue::zone(server.location).to_owned()),
            "metadata/private-networks" => text(self.private_networks(server)),
            // Byte for byte what was ordered; without any, an answer without content.
            "userdata" => match server.user_data.as_deref().unwrap_or_default() {
                "" => no_content(),
                data => text(data.to_owned()),
            },
            _ => nothing(),
        }
    }

    /// The machine that asks as long as nobody says which one does: that of the server that was made last.
    pub(crate) fn newest_running(&self) -> Option<u64> {
        self.servers.values().rev().find(|server| server.status == "running").map(|server| server.id)
    }

    /// The first-boot document of a server.
    pub(crate) fn user_data(&self, id: u64) -> Option<&str> {
        self.servers.get(&id)?.user_data.as_deref()
    }

    fn summary(&self, server: &Server) -> String {
        let keys = server.ssh_keys.iter().filter_map(|id| self.ssh_keys.get(id));
        let keys: Vec<&str> = keys.map(|key| key.public_key.as_str()).collect();
        mapping(&[
            ("availability-zone", json!(availability_zone(server.location))),
            ("hostname", json!(server.name)),
            ("instance-id", json!(server.id)),
            ("local-ipv4", json!("")),
            ("network-config", network_config(server)),
            ("public-ipv4", json!(server.ipv4.map(|ip| ip.to_string()).unwrap_or_default())),
            ("public-keys", json!(keys)),
            ("region", json!(catalogue::zone(server.location))),
            ("vendor_data", json!(vendor_data(&server.name))),
        ])
    }

    /// A YAML list, an interface an item; newer cloud-inits ask for it and wait in vain without.
    fn private_networks(&self, server: &Server) -> String {
        let attached = server.networks.iter().filter(|net| net.attached);
        let networks = attached.enumerate().filter_map(|(at, net)| {
            let network = self.networks.get(&net.network)?;
            let fields = mapping(&[
                ("ip", json!(net.ip)),
                ("alias_ips", json!([])),
                ("interface_num", json!(at + 1)),
                ("mac_address", json!(net.mac)),
                ("network_id", json!(net.network)),
                ("network_name", json!(super::query::Named::name(network))),
                ("network", json!(network.range.to_string())),
                ("subnet", json!(network.subnet_of(net.ip))),
                ("gateway", json!(network.gateway())),
            ]);
            Some(format!("- {}", fields.trim_end().replace('\n', "\n  ") + "\n"))
        });
        let networks: String = networks.collect();
        if networks.is_empty() { "[]\n".to_owned() } else { networks }
    }
}

/// A YAML mapping, a key a line. A value is written as JSON, which YAML reads too, but for plain words and addresses: a
/// script that takes lines apart expects those without quotes.
fn mapping(fields: &[(&str, Value)]) -> String {
    let line = |(name, value): &(&str, Value)| match value {
        Value::String(text) if is_plain(text) => format!("{name}: {text}\n"),
        value => format!("{name}: {value}\n"),
    };
    fields.iter().map(line).collect()
}

/// Whether YAML reads a text without quotes as that text: it begins with a letter, or it is an address.
fn is_plain(text: &str) -> bool {
    let reads_otherwise = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let is_word = text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && !reads_otherwise.contains(&text.to_ascii_lowercase().as_str());
    let is_range = text.split_once('/').is_some_and(|(ip, _)| ip.parse::<std::net::Ipv4Addr>().is_ok());
    is_word || is_range || text.parse::<std::net::Ipv4Addr>().is_ok()
}

/// The data centre, as the metadata server still calls it though the API no longer does.
fn availability_zone(location: &str) -> String {
    let number = match location {
        "fsn1" => 14,
        "nbg1" => 3,
        "hel1" => 2,
        _ => 1,
    };
    format!("{location}-dc{number}")
}

/// cloud-init's network configuration, version 1: the public interface alone.
fn network_config(server: &Server) -> Value {
    let mut subnets = Vec::new();
    if server.ipv4.is_some() {
        subnets.push(json!({ "dns_nameservers": RESOLVERS, "ipv4": true, "type": "dhcp" }));
    }
    if let Some(net) = server.ipv6 {
        let first = std::net::Ipv6Addr::from(u128::from(net) + 1);
        subnets.push(json!({
            "address": format!("{first}/64"), "dns_nameservers": RESOLVERS_V6, "gateway": "fe80::1", "ipv6": true,
            "type": "static",
        }));
    }
    let [.., a, b, c] = server.id.to_be_bytes();
    let interface = json!({
        "mac_address": format!("96:00:00:{a:02x}:{b:02x}:{c:02x}"), "name": "eth0", "subnets": subnets, "type": "physical",
    });
    json!({ "config": if server.is_public() { vec![interface] } else { Vec::new() }, "version": 1 })
}

/// What Hetzner adds to every first boot: the full name is the server's, so a document's `hostname` is taken as it is.
fn vendor_data(name: &str) -> String {
    let boundary = "===============5184703028565742311==";
    format!(
        "Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n--{boundary}\n\
         Content-Type: text/cloud-config; charset=\"us-ascii\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\
         Content-Disposition: attachment; filename=\"cloud-config\"\n\n\
         #cloud-config\nfqdn: {name}\nmanage_etc_hosts: true\n\n--{boundary}--\n"
    )
}

fn nothing() -> Response<Bytes> {
    text_reply(404, "text/plain", "not found\n")
}

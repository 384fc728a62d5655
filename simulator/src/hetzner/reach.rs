//! Whether a server's machine reaches the Internet: by its public addresses and past its firewalls, or through a network.

use super::Hetzner;
use super::firewall::Rule;
use super::query::Named;
use crate::config::HetznerConfig;

/// Packages and the control server are fetched from and spoken to by HTTPS.
const NEEDED_PORT: u16 = 443;

impl Hetzner {
    /// Says why a machine cannot reach Tailscale's hosts, if it cannot.
    ///
    /// One public address of either kind is enough: the control server has had IPv6 since 2021-08 (tailscale/tailscale
    /// #2610), and what cannot be reached by one kind is tried by the other. Names are always resolved: Hetzner's
    /// firewalls let the traffic of its own resolvers through whatever the rules say ("Cloud Firewalls FAQ").
    pub(crate) fn way_out(&self, config: &HetznerConfig, id: u64) -> Result<(), String> {
        let Some(server) = self.servers.get(&id) else { return Err("its server is gone".to_owned()) };
        if !server.is_public() {
            let attached = server.networks.iter().filter(|net| net.attached);
            let mut networks = attached.filter_map(|net| self.networks.get(&net.network));
            let leads_out = networks.any(|network| config.nat_networks.contains(network.name()));
            let why = "it has no public address, and no network leads it to the Internet";
            return if leads_out { Ok(()) } else { Err(why.to_owned()) };
        }
        // What firewalls say adds up; one rule for the way out turns what no rule lets through from allowed to dropped.
        let firewalls = server.firewalls.iter().filter(|firewall| firewall.applied);
        let rules = firewalls.filter_map(|firewall| self.firewalls.get(&firewall.firewall)).flat_map(|f| &f.rules);
        let rules: Vec<&Rule> = rules.filter(|rule| rule.outbound).collect();
        let lets_out = |everybody: &str| rules.iter().any(|rule| rule.lets_out(NEEDED_PORT, everybody));
        let passes = rules.is_empty()
            || server.ipv4.is_some() && lets_out("0.0.0.0/0")
            || server.ipv6.is_some() && lets_out("::/0");
        if passes { Ok(()) } else { Err(format!("its firewall lets no TCP out to port {NEEDED_PORT}")) }
    }
}

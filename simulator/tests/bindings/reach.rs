//! Which machines reach the Internet, and so the tailnet.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use simulator::Config;

use super::client::{Client, out, private};

#[test]
fn without_a_public_address_only_a_nat_leads_out() {
    for (nat, joins) in [(None, false), (Some("n"), true), (Some("another"), false)] {
        let mut config = Config::default();
        // A start that takes no time still comes after what it needs.
        config.hetzner.start_seconds = (0.0, 0.0);
        config.hetzner.nat_networks = nat.map(str::to_owned).into_iter().collect::<BTreeSet<_>>();
        let mut client = Client::new(config);
        let net = client.network("n", "us-east");
        let created = client.ordered("a", &private(net));
        assert_eq!(created["server"]["public_net"]["ipv4"], Value::Null);
        assert_eq!(client.world.primary_ips().count(), 0);
        client.pass(60);
        assert_eq!(client.server(&created)["status"], "running", "it boots all the same");
        assert_eq!(client.tried_to_join().is_ok(), joins, "{nat:?}");
        if !joins {
            let why = client.tried_to_join().unwrap_err();
            assert!(why.contains("no public address"), "{why}");
        }
    }
}

#[test]
fn a_firewall_that_lets_no_https_out_keeps_a_machine_from_joining() {
    let anybody = "0.0.0.0/0";
    let inbound = json!({ "direction": "in", "protocol": "tcp", "port": "22", "source_ips": [anybody] });
    let only_v6 = json!({ "enable_ipv4": false });
    for (walls, net, joins) in [
        (json!([[]]), json!({}), true),
        (json!([[inbound]]), json!({}), true),
        (json!([[out("tcp", "443", anybody)]]), json!({}), true),
        (json!([[out("tcp", "1-1024", anybody)]]), json!({}), true),
        (json!([[out("tcp", "any", anybody)]]), json!({}), true),
        (json!([[out("tcp", "80", anybody)]]), json!({}), false),
        (json!([[out("udp", "443", anybody)]]), json!({}), false),
        (json!([[out("tcp", "443", "203.0.113.0/24")]]), json!({}), false),
        (json!([[out("tcp", "443", "::/0")]]), json!({}), true),
        (json!([[out("tcp", "443", anybody)]]), only_v6.clone(), false),
        (json!([[out("tcp", "443", "::/0")]]), only_v6, true),
        (json!([[], [out("udp", "53", anybody)]]), json!({}), false),
        (json!([[out("tcp", "443", anybody)], [out("udp", "53", anybody)]]), json!({}), true),
    ] {
        let mut client = Client::usual();
        let ids = walls.as_array().unwrap().iter().enumerate();
        let firewalls: Vec<Value> =
            ids.map(|(n, rules)| json!({ "firewall": client.firewall(&format!("f{n}"), rules) })).collect();
        client.ordered("a", &json!({ "firewalls": firewalls, "public_net": net }));
        client.pass(60);
        assert_eq!(client.tried_to_join().is_ok(), joins, "{walls} {net}");
        if !joins {
            let why = client.tried_to_join().unwrap_err();
            assert!(why.contains("firewall"), "{why}");
        }
    }
}

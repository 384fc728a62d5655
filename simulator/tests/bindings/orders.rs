//! Orders that name them, and the addresses that a server has or has not.

use serde_json::{Value, json};
use simulator::{ActionOutcome, Config};

use super::client::{Client, private};

#[test]
fn a_server_is_bound_to_what_its_order_names() {
    let mut client = Client::usual();
    let (net, wall, group) =
        (client.network("n", "us-east"), client.firewall("f", &json!([])), client.placement_group("g"));
    let order = json!({ "networks": [net], "firewalls": [{ "firewall": wall }], "placement_group": group });
    let created = client.ordered("a", &order);
    let id = created["server"]["id"].as_u64().unwrap();
    let follow = created["next_actions"].as_array().unwrap();
    let commands: Vec<&Value> = follow.iter().map(|action| &action["command"]).collect();
    assert_eq!(commands, ["start_server", "attach_to_network", "apply_firewall"]);
    assert_eq!(follow[1]["resources"], json!([{ "id": id, "type": "server" }, { "id": net, "type": "network" }]));
    assert_eq!(follow[2]["resources"], json!([{ "id": id, "type": "server" }, { "id": wall, "type": "firewall" }]));
    assert!(
        follow.iter().all(|action| action["parent_id"] == created["action"]["id"] && action["status"] == "running")
    );

    // At first: the group holds it, the rest is to come.
    let server = &created["server"];
    assert_eq!((&server["status"], &server["private_net"]), (&json!("initializing"), &json!([])));
    assert_eq!(server["public_net"]["firewalls"], json!([{ "id": wall, "status": "pending" }]));
    assert_eq!(server["placement_group"]["servers"], json!([id]));
    assert_eq!(client.get(&format!("/networks/{net}"))["network"]["servers"], json!([]));

    client.pass(30);
    let server = client.server(&created);
    assert_eq!(server["status"], "running");
    let private = &server["private_net"][0];
    assert_eq!(
        (&private["network"], &private["ip"], &private["alias_ips"]),
        (&json!(net), &json!("10.0.1.1"), &json!([]))
    );
    assert!(private["mac_address"].as_str().unwrap().starts_with("86:00:"));
    assert_eq!(server["public_net"]["firewalls"], json!([{ "id": wall, "status": "applied" }]));
    let group_shown = client.get(&format!("/placement_groups/{group}"))["placement_group"].clone();
    assert_eq!(server["placement_group"], group_shown);
    assert_eq!(client.get(&format!("/networks/{net}"))["network"]["servers"], json!([id]));
    assert_eq!(client.tried_to_join(), Ok(()));

    // The same, as tests and the control surface see it.
    let seen = client.world.servers().next().unwrap();
    assert_eq!((seen.networks[0].network, seen.networks[0].attached), (net, true));
    assert_eq!((seen.firewalls[0].firewall, seen.firewalls[0].applied), (wall, true));
    assert_eq!((seen.placement_group, seen.ipv4.is_some(), seen.ipv6.is_some()), (Some(group), true, true));
    let bound = [
        client.world.networks().next().unwrap(),
        client.world.firewalls().next().unwrap(),
        client.world.placement_groups().next().unwrap(),
    ];
    assert_eq!(bound.each_ref().map(|it| (it.id, it.name)), [(net, "n"), (wall, "f"), (group, "g")]);
    assert!(bound.iter().all(|it| it.servers == [id]));
    let world = client.world.snapshot();
    assert_eq!(world["servers"][0]["networks"][0]["ip"], "10.0.1.1");
    assert_eq!(world["servers"][0]["firewalls"], json!([{ "firewall": wall, "applied": true }]));
    assert_eq!(world["servers"][0]["placement_group"], group);
    for (room, name, bound) in [("networks", "n", net), ("firewalls", "f", wall), ("placement_groups", "g", group)] {
        assert_eq!(world[room], json!([{ "id": bound, "name": name, "servers": [id] }]));
    }
}

#[test]
fn what_is_in_use_is_kept_and_a_deleted_server_leaves_its_places() {
    let mut client = Client::usual();
    let (net, wall, group) =
        (client.network("n", "us-east"), client.firewall("f", &json!([])), client.placement_group("g"));
    let order = json!({ "networks": [net], "firewalls": [{ "firewall": wall }], "placement_group": group });
    let created = client.ordered("a", &order);
    client.pass(30);
    for path in [format!("/firewalls/{wall}"), format!("/placement_groups/{group}")] {
        let (status, answer) = client.delete(&path);
        assert_eq!((status, &answer["error"]["code"]), (422, &json!("resource_in_use")), "{path}");
    }
    // A network goes, and its servers stay without it.
    let other = client.network("other", "us-east");
    let second = client.ordered("b", &json!({ "networks": [other] }));
    client.pass(30);
    assert_eq!(client.delete(&format!("/networks/{other}")).0, 204);
    assert_eq!(client.server(&second)["private_net"], json!([]));

    assert_eq!(client.delete(&format!("/servers/{}", created["server"]["id"])).0, 200);
    assert_eq!(client.get(&format!("/networks/{net}"))["network"]["servers"], json!([]));
    assert_eq!(client.get(&format!("/firewalls/{wall}"))["firewall"]["applied_to"], json!([]));
    for path in [format!("/networks/{net}"), format!("/firewalls/{wall}"), format!("/placement_groups/{group}")] {
        assert_eq!(client.delete(&path).0, 204, "{path}");
    }
}

#[test]
fn orders_are_refused_for_what_they_bind_to() {
    let mut client = Client::usual();
    let (here, there) = (client.network("here", "us-east"), client.network("there", "eu-central"));
    let overlapping = client.network("overlapping", "us-east");
    let empty = client.world.plant_network(&json!({ "name": "empty", "ip_range": "10.9.0.0/16" })).unwrap();
    let subnets = json!([{ "type": "cloud", "network_zone": "us-east", "ip_range": "10.8.0.0/30" }]);
    let tiny = json!({ "name": "tiny", "ip_range": "10.8.0.0/24", "subnets": subnets });
    let tiny = client.world.plant_network(&tiny).unwrap();
    let wall = client.firewall("f", &json!([]));
    let full = client.placement_group("full");
    // Of the four addresses of a /30, one is the network's, one its broadcast and one, here, the gateway's.
    client.ordered("in-tiny", &json!({ "networks": [tiny] }));
    for n in 0..10 {
        client.ordered(&format!("s{n}"), &json!({ "placement_group": full }));
    }
    let ever = client.world.snapshot()["servers_ever"].clone();
    let nothing = json!({ "enable_ipv4": false, "enable_ipv6": false });
    for (order, status, code, text) in [
        (json!({ "networks": [1] }), 404, "not_found", "network not found"),
        (json!({ "networks": [wall] }), 404, "not_found", "network not found"),
        (json!({ "networks": 1 }), 422, "invalid_input", "networks"),
        (json!({ "firewalls": [{ "firewall": 1 }] }), 404, "not_found", "firewall not found"),
        (json!({ "firewalls": [wall] }), 422, "invalid_input", "firewalls"),
        (json!({ "placement_group": 1 }), 404, "not_found", "placement group not found"),
        (json!({ "networks": [there] }), 422, "invalid_input", "different network zone"),
        (json!({ "networks": [empty] }), 422, "invalid_input", "no free IP available"),
        (json!({ "networks": [tiny] }), 422, "invalid_input", "no free IP available"),
        (json!({ "networks": [here, here] }), 422, "server_already_attached", ""),
        (json!({ "networks": [here, overlapping] }), 422, "networks_overlap", ""),
        (json!({ "firewalls": [{ "firewall": wall }, { "firewall": wall }] }), 422, "firewall_already_applied", ""),
        (json!({ "placement_group": full }), 422, "placement_group_member_limit_reached", "already 10 servers"),
        (json!({ "public_net": nothing }), 422, "invalid_input", "public_net"),
        (
            json!({ "public_net": nothing, "networks": [here], "firewalls": [{ "firewall": wall }] }),
            422,
            "private_net_only_server",
            "",
        ),
    ] {
        let (got, answer) = client.order("refused", &order);
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{order}");
        assert!(answer["error"].to_string().contains(text), "{answer}");
        assert_eq!(client.world.snapshot()["servers_ever"], ever);
    }
    // One that goes makes room.
    let gone = client.get("/servers?name=s3")["servers"][0]["id"].clone();
    assert_eq!(client.delete(&format!("/servers/{gone}")).0, 200);
    client.ordered("eleventh", &json!({ "placement_group": full }));
}

#[test]
fn addresses_of_the_project_are_used_if_they_fit() {
    let mut config = Config::default();
    config.hetzner.primary_ips_auto_delete = false;
    let mut client = Client::new(config);
    let spare = client.ordered("spare", &json!({}));
    client.pass(30);
    client.delete(&format!("/servers/{}", spare["server"]["id"]));
    let id = |family: &str| spare["server"]["public_net"][family]["id"].clone();
    let (v4, v6) = (id("ipv4"), id("ipv6"));
    for (net, location, status, code) in [
        (json!({ "ipv4": 1 }), "ash", 404, "not_found"),
        (json!({ "ipv6": 1 }), "ash", 404, "not_found"),
        (json!({ "ipv4": v6 }), "ash", 412, "primary_ip_version_mismatch"),
        (json!({ "ipv6": v4 }), "ash", 412, "primary_ip_version_mismatch"),
        (json!({ "ipv4": v4 }), "hil", 422, "primary_ip_datacenter_mismatch"),
    ] {
        let (got, answer) = client.order("a", &json!({ "public_net": net, "location": location }));
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{net}");
    }
    let taken = client.ordered("a", &json!({ "public_net": { "ipv4": v4, "ipv6": v6 } }));
    for family in ["ipv4", "ipv6"] {
        assert_eq!(taken["server"]["public_net"][family], spare["server"]["public_net"][family]);
    }
    assert_eq!(client.world.primary_ips().count(), 2, "none was made");
    let (status, answer) = client.order("b", &json!({ "public_net": { "ipv6": v6 } }));
    assert_eq!((status, &answer["error"]["code"]), (422, &json!("primary_ip_assigned")));
}

#[test]
fn an_address_that_is_switched_off_is_not_made() {
    for (net, v4, v6) in [
        (json!({ "enable_ipv4": false }), false, true),
        (json!({ "enable_ipv6": false }), true, false),
        (json!({ "enable_ipv4": false, "ipv4": 1 }), false, true),
        (json!({}), true, true),
    ] {
        let mut config = Config::default();
        config.hetzner.primary_ips_auto_delete = false;
        config.hetzner.primary_ip_limit = usize::from(v4) + usize::from(v6);
        let mut client = Client::new(config);
        let created = client.ordered("a", &json!({ "public_net": net }));
        let shown = &created["server"]["public_net"];
        assert_eq!((shown["ipv4"].is_object(), shown["ipv6"].is_object()), (v4, v6), "{net}");
        assert_eq!((shown["ipv4"].is_null(), shown["ipv6"].is_null()), (!v4, !v6), "{net}");
        client.pass(30);
        assert_eq!(client.tried_to_join(), Ok(()), "either kind leads out");
        client.delete(&format!("/servers/{}", created["server"]["id"]));
        assert_eq!(client.world.primary_ips().count(), usize::from(v4) + usize::from(v6), "{net}");
    }
}

#[test]
fn what_binds_a_server_can_fail_and_can_hang() {
    let failure = ActionOutcome::Error { code: "action_failed".to_owned(), message: "Action failed".to_owned() };
    for (outcome, status) in [(failure, "error"), (ActionOutcome::Never, "running")] {
        let mut config = Config::default();
        config.hetzner.attach_action = outcome;
        config.hetzner.nat_networks = ["n".to_owned()].into();
        let mut client = Client::new(config);
        let net = client.network("n", "us-east");
        let created = client.ordered("a", &private(net));
        client.pass(60);
        let mut action = |n: usize| {
            let path = format!("/actions/{}", created["next_actions"][n]["id"]);
            client.get(&path)["action"].clone()
        };
        let (start, attach) = (action(0), action(1));
        assert_eq!(attach["status"], status);
        assert_eq!(start["error"]["message"], "no public or private network interfaces found, cannot start server");
        assert_eq!(client.server(&created)["private_net"], json!([]));
        assert!(client.tried_to_join().is_err());
    }
}

#[test]
fn a_create_that_fails_takes_all_that_follows_with_it() {
    let mut config = Config::default();
    config.hetzner.create_action =
        ActionOutcome::Error { code: "action_failed".to_owned(), message: "Action failed".to_owned() };
    let mut client = Client::new(config);
    let net = client.network("n", "us-east");
    let created = client.ordered("a", &json!({ "networks": [net] }));
    client.pass(60);
    for next in created["next_actions"].as_array().unwrap() {
        assert_eq!(client.get(&format!("/actions/{}", next["id"]))["action"]["status"], "error", "{next}");
    }
    assert_eq!(client.server(&created)["private_net"], json!([]));
}

#[test]
fn a_server_without_any_interface_is_made_only_if_it_is_not_started() {
    let mut client = Client::usual();
    let nothing = json!({ "enable_ipv4": false, "enable_ipv6": false });
    let created = client.ordered("a", &json!({ "public_net": nothing, "start_after_create": false }));
    client.pass(30);
    let path = format!("/servers/{}/actions/poweron", created["server"]["id"]);
    let (_, pressed) = client.ask("POST", &path, &Value::Null);
    client.pass(10);
    let action = client.get(&format!("/actions/{}", pressed["action"]["id"]))["action"].clone();
    assert_eq!((&action["status"], &action["error"]["code"]), (&json!("error"), &json!("invalid_input")));
    assert_eq!(client.server(&created)["status"], "off");
}

/// Worlds that bind nothing must be what they were: the random worlds of other tests are known by their seeds.
#[test]
fn what_is_not_used_changes_nothing_by_chance() {
    let history = |with_bindings: bool| {
        let mut client = Client::usual();
        if with_bindings {
            client.network("n", "us-east");
            client.placement_group("g");
        }
        client.ordered("a", &json!({}));
        client.pass(60);
        client.world.journal().to_vec()
    };
    assert_eq!(history(false), history(true));
    let mut client = Client::usual();
    let server = client.ordered("a", &json!({}))["server"].clone();
    assert_eq!((&server["private_net"], &server["placement_group"]), (&json!([]), &Value::Null));
    assert_eq!(server["public_net"]["firewalls"], json!([]));
    assert_eq!(server["public_net"]["ipv6"]["ip"], "2001:db8:7d0:2::/64");
}

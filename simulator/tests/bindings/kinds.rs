//! Networks, firewalls and placement groups by themselves.

use serde_json::{Value, json};

use super::client::{Client, out, private};

const ROOMS: [(&str, &str); 3] =
    [("networks", "network"), ("firewalls", "firewall"), ("placement_groups", "placement_group")];

fn body(room: &str, name: &str) -> Value {
    match room {
        "networks" => json!({ "name": name, "ip_range": "10.0.0.0/16", "labels": { "n": name } }),
        "firewalls" => json!({ "name": name, "labels": { "n": name } }),
        _ => json!({ "name": name, "type": "spread", "labels": { "n": name } }),
    }
}

#[test]
fn each_kind_is_made_listed_read_and_deleted() {
    for (room, one) in ROOMS {
        let mut client = Client::usual();
        let names = |answer: Value| -> Vec<String> {
            let items = answer[room].as_array().unwrap().iter();
            items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
        };
        let mut ids = Vec::new();
        for name in ["b", "a", "c"] {
            let (status, made) = client.ask("POST", &format!("/{room}"), &body(room, name));
            assert_eq!((status, &made[one]["name"]), (201, &json!(name)));
            assert_eq!(client.get(&format!("/{room}/{}", made[one]["id"]))[one], made[one]);
            ids.push(made[one]["id"].as_u64().unwrap());
        }
        for (query, found) in [
            ("", &["b", "a", "c"][..]),
            ("?name=a", &["a"]),
            ("?name=A", &[]),
            ("?label_selector=n%20in%20(a,c)", &["a", "c"]),
            ("?sort=name:desc", &["c", "b", "a"]),
            ("?per_page=2&page=2", &["c"]),
        ] {
            assert_eq!(names(client.get(&format!("/{room}{query}"))), found, "{room}{query}");
        }
        for (method, path, body, status, code) in [
            ("POST", format!("/{room}"), body(room, "a"), 409, "uniqueness_error"),
            ("POST", format!("/{room}"), body(room, ""), 422, "invalid_input"),
            ("POST", format!("/{room}"), body(room, &"x".repeat(129)), 422, "invalid_input"),
            ("POST", format!("/{room}"), json!([]), 400, "json_error"),
            ("GET", format!("/{room}?label_selector=%3D"), Value::Null, 422, "invalid_input"),
            ("GET", format!("/{room}/1"), Value::Null, 404, "not_found"),
            ("DELETE", format!("/{room}/1"), Value::Null, 404, "not_found"),
            ("PATCH", format!("/{room}/{}", ids[0]), Value::Null, 405, "method_not_allowed"),
        ] {
            let (got, answer) = client.ask(method, &path, &body);
            assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{method} {path} {body}");
        }
        assert_eq!(client.delete(&format!("/{room}/{}", ids[1])).0, 204);
        assert_eq!(names(client.get(&format!("/{room}"))), ["b", "c"]);
        assert_eq!(client.ask("POST", &format!("/{room}"), &body(room, "a")).0, 201, "the name is free again");

        client.token = client.world.config().hetzner.read_only_token.clone();
        assert_eq!(client.ask("POST", &format!("/{room}"), &body(room, "d")).0, 403);
        assert_eq!(client.delete(&format!("/{room}/{}", ids[0])).0, 403);
        assert_eq!(names(client.get(&format!("/{room}"))).len(), 3);
        client.token = "wrong".to_owned();
        assert_eq!(client.ask("GET", &format!("/{room}"), &Value::Null).0, 401);
    }
}

#[test]
fn networks_are_checked() {
    let net = |fields: Value| {
        let mut body = json!({ "name": "n", "ip_range": "10.0.0.0/16" });
        for (field, value) in fields.as_object().unwrap() {
            body[field] = value.clone();
        }
        body
    };
    let subnet = |range: &str| json!({ "type": "cloud", "network_zone": "eu-central", "ip_range": range });
    let route = |to: &str, gateway: &str| net(json!({ "routes": [{ "destination": to, "gateway": gateway }] }));
    for (body, good) in [
        (net(json!({})), true),
        (net(json!({ "ip_range": "192.168.1.0/24" })), true),
        (net(json!({ "ip_range": "10.0.0.0/25" })), false),
        (net(json!({ "ip_range": "10.0.0.1/16" })), false),
        (net(json!({ "ip_range": "8.8.0.0/16" })), false),
        (net(json!({ "ip_range": null })), false),
        (net(json!({ "subnets": [subnet("10.0.1.0/24"), subnet("10.0.2.0/30")] })), true),
        (net(json!({ "subnets": [subnet("10.0.1.0/24"), subnet("10.0.1.128/25")] })), false),
        (net(json!({ "subnets": [subnet("10.1.0.0/24")] })), false),
        (net(json!({ "subnets": [subnet("10.0.0.0/31")] })), false),
        (net(json!({ "subnets": [{ "type": "server", "network_zone": "us-east" }] })), true),
        (net(json!({ "subnets": [{ "type": "cloud", "network_zone": "mars" }] })), false),
        (net(json!({ "subnets": [{ "type": "vswitch", "network_zone": "eu-central", "vswitch_id": 1 }] })), false),
        (net(json!({ "subnets": [{ "type": "other", "network_zone": "eu-central" }] })), false),
        (net(json!({ "subnets": {} })), false),
        (net(json!({ "labels": { "a": "b c" } })), false),
        (route("0.0.0.0/0", "10.0.0.2"), true),
        (route("192.168.0.0/16", "10.0.0.2"), true),
        (route("8.8.8.0/24", "10.0.0.2"), false),
        (route("0.0.0.0/0", "10.0.0.1"), false),
        (route("0.0.0.0/0", "10.1.0.2"), false),
    ] {
        let (status, answer) = Client::usual().ask("POST", "/networks", &body);
        let code = if good { Value::Null } else { json!("invalid_input") };
        assert_eq!((status, &answer["error"]["code"]), (if good { 201 } else { 422 }, &code), "{body}: {answer}");
    }
}

#[test]
fn a_subnet_without_a_range_gets_the_first_that_is_free() {
    let subnet = |range: Value| json!({ "type": "cloud", "network_zone": "eu-central", "ip_range": range });
    let subnets = [subnet(json!("10.0.0.0/24")), subnet(Value::Null), subnet(Value::Null)];
    let body = json!({ "name": "n", "ip_range": "10.0.0.0/16", "subnets": subnets });
    let (_, made) = Client::usual().ask("POST", "/networks", &body);
    let subnets = made["network"]["subnets"].as_array().unwrap();
    let ranges: Vec<&Value> = subnets.iter().map(|subnet| &subnet["ip_range"]).collect();
    assert_eq!(ranges, ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]);
    assert!(subnets.iter().all(|subnet| subnet["gateway"] == "10.0.0.1"), "{made}");
}

#[test]
fn the_rules_of_firewalls_are_checked() {
    let inbound = |change: &dyn Fn(&mut Value)| {
        let mut rule = json!({ "direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["::/0"] });
        change(&mut rule);
        rule
    };
    for (rule, good) in [
        (inbound(&|_| ()), true),
        (inbound(&|r| r["port"] = json!("1024-5000")), true),
        (inbound(&|r| r["port"] = json!("any")), true),
        (inbound(&|r| r["port"] = json!("5000-1024")), false),
        (inbound(&|r| r["port"] = json!("0")), false),
        (inbound(&|r| r["port"] = json!("65536")), false),
        (inbound(&|r| r["port"] = Value::Null), false),
        (inbound(&|r| r["protocol"] = json!("icmp")), false),
        (inbound(&|r| (r["protocol"], r["port"]) = (json!("icmp"), Value::Null)), true),
        (inbound(&|r| r["protocol"] = json!("sctp")), false),
        (inbound(&|r| r["direction"] = json!("out")), false),
        (inbound(&|r| r["direction"] = json!("up")), false),
        (inbound(&|r| r["source_ips"] = json!([])), false),
        (inbound(&|r| r["source_ips"] = json!(["10.0.0.1"])), false),
        (inbound(&|r| r["source_ips"] = json!(vec!["10.0.0.1/32"; 101])), false),
        (inbound(&|r| r["destination_ips"] = json!(["::/0"])), false),
        (inbound(&|r| r["description"] = json!("x".repeat(256))), false),
        (out("udp", "53", "0.0.0.0/0"), true),
    ] {
        let (status, answer) = Client::usual().ask("POST", "/firewalls", &json!({ "name": "f", "rules": [rule] }));
        assert_eq!(status, if good { 201 } else { 422 }, "{rule}: {answer}");
        if good {
            let shown = &answer["firewall"]["rules"][0];
            assert!(shown.as_object().unwrap().len() == 6 && shown["protocol"] == rule["protocol"], "{shown}");
            assert_eq!(answer["actions"][0]["command"], "set_firewall_rules");
        }
    }
    let rules = vec![out("tcp", "443", "::/0"); 51];
    assert_eq!(Client::usual().ask("POST", "/firewalls", &json!({ "name": "f", "rules": rules })).0, 422);
}

#[test]
fn a_firewall_can_be_applied_as_it_is_made() {
    let mut client = Client::usual();
    let net = client.network("n", "us-east");
    let public = client.ordered("a", &json!({}))["server"]["id"].clone();
    let hidden = client.ordered("b", &private(net))["server"]["id"].clone();
    let to = |ids: &[&Value]| {
        let targets: Vec<Value> = ids.iter().map(|id| json!({ "type": "server", "server": { "id": id } })).collect();
        json!({ "name": "f", "apply_to": targets })
    };
    let selector =
        json!({ "name": "f", "apply_to": [{ "type": "label_selector", "label_selector": { "selector": "a" } }] });
    for (body, code) in [
        (to(&[&json!(1)]), "firewall_resource_not_found"),
        (to(&[&hidden]), "private_net_only_server"),
        (to(&[&public, &public]), "server_already_added"),
        (selector, "unsupported_error"),
    ] {
        let (status, answer) = client.ask("POST", "/firewalls", &body);
        assert_eq!((status, &answer["error"]["code"]), (422, &json!(code)), "{body}");
    }
    let (status, made) = client.ask("POST", "/firewalls", &to(&[&public]));
    assert_eq!((status, &made["actions"][0]["command"]), (201, &json!("apply_firewall")));
    assert_eq!(made["firewall"]["applied_to"], json!([{ "type": "server", "server": { "id": public } }]));
    let shown =
        |client: &mut Client| client.get(&format!("/servers/{public}"))["server"]["public_net"]["firewalls"].clone();
    assert_eq!(shown(&mut client)[0]["status"], "pending");
    client.pass(5);
    assert_eq!(shown(&mut client)[0]["status"], "applied");
}

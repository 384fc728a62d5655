//! Every answer of the simulator, held against the published descriptions of both APIs.
//!
//! The descriptions are not committed (no licence is stated). They are looked for in `PROVISION_VM_SPECS`, else in
//! `shared/specs` beside the repository; without them the tests say so and pass, except in CI, where they fail unless
//! `PROVISION_VM_NO_SPECS` says that they cannot be there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the place of the descriptions comes from the environment")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use simulator::{ActionOutcome, Config, PlantedDevice, World};

#[path = "contract/tour.rs"]
mod tour;

use tour::{Tour, description};

fn order(name: &str) -> Value {
    json!({ "name": name, "server_type": "cpx11", "image": "ubuntu-22.04", "location": "ash", "ssh_keys": [4711], "labels": { "a": "b" } })
}

#[test]
fn hetzners_answers_conform() {
    let Some(spec) = description("hetzner-cloud.openapi.json") else { return };
    for show_deprecated in [false, true] {
        let mut config = Config::default();
        config.hetzner.show_deprecated = show_deprecated;
        let token = config.hetzner.token.clone();
        let read_only = config.hetzner.read_only_token.clone();
        let mut tour = Tour::new(config, spec.clone(), "/v1", token);

        let (status, created) = tour.call("POST", "/servers", Some(&order("a")));
        assert_eq!(status, 201);
        let id = created["server"]["id"].as_u64().unwrap();
        let action = created["action"]["id"].as_u64().unwrap();
        let server = format!("/servers/{id}");
        tour.call("GET", &server, None);
        tour.pass(60);
        for path in [
            "/servers".to_owned(),
            "/servers?label_selector=a%3Db&per_page=1&page=1&sort=id:desc&status=running".to_owned(),
            server.clone(),
            format!("{server}/actions"),
            format!("/actions?id={action}"),
            format!("/actions/{action}"),
            format!("/servers/actions?id={action}"),
            format!("/servers/actions/{action}"),
            "/server_types".to_owned(),
            "/server_types/22".to_owned(),
            "/locations".to_owned(),
            "/locations/4".to_owned(),
            "/images".to_owned(),
            "/images/161547269".to_owned(),
            "/ssh_keys".to_owned(),
            "/ssh_keys/4711".to_owned(),
            "/primary_ips".to_owned(),
            format!("/primary_ips/{}", created["server"]["public_net"]["ipv4"]["id"]),
            "/pricing".to_owned(),
        ] {
            assert_eq!(tour.call("GET", &path, None).0, 200, "{path}");
        }
        let labels = json!({ "labels": { "state": "ready" } });
        assert_eq!(tour.call("PUT", &server, Some(&labels)).0, 200);
        for command in ["poweroff", "poweron", "reboot", "reset", "shutdown"] {
            assert_eq!(tour.call("POST", &format!("{server}/actions/{command}"), None).0, 201, "{command}");
            tour.pass(10);
        }
        let (_, key) = tour.call("POST", "/ssh_keys", Some(&json!({ "name": "k", "public_key": "ssh-ed25519 AAAA" })));
        assert_eq!(tour.call("DELETE", &format!("/ssh_keys/{}", key["ssh_key"]["id"]), None).0, 204);

        for (expected, method, path, body) in [
            (409, "POST", "/servers", Some(order("a"))),
            (422, "POST", "/servers", Some(order("no_host_name"))),
            (422, "POST", "/servers", Some(json!({ "name": "b" }))),
            (404, "GET", "/servers/1", None),
            (404, "DELETE", "/servers/1", None),
            (404, "GET", "/actions/1", None),
            (410, "GET", "/datacenters", None),
            (422, "GET", "/servers?label_selector=%3D", None),
        ] {
            assert_eq!(tour.call(method, path, body.as_ref()).0, expected, "{method} {path}");
        }
        assert_eq!(tour.call_as("GET", "/servers", None, "wrong").0, 401);
        assert_eq!(tour.call_as("DELETE", &server, None, &read_only).0, 403);
        assert_eq!(tour.call("DELETE", &server, None).0, 200);
        assert!(tour.seen.len() >= 33, "{:?}", tour.seen);
    }
}

#[test]
fn hetzners_answers_about_what_servers_are_bound_to_conform() {
    let Some(spec) = description("hetzner-cloud.openapi.json") else { return };
    let config = Config::default();
    let (token, read_only) = (config.hetzner.token.clone(), config.hetzner.read_only_token.clone());
    let mut tour = Tour::new(config, spec, "/v1", token);
    let subnets = json!([{ "type": "cloud", "network_zone": "us-east", "ip_range": "10.0.1.0/24" }]);
    let routes = json!([{ "destination": "0.0.0.0/0", "gateway": "10.0.1.2" }]);
    let labels = json!({ "a": "b" });
    let rules = json!([
        { "direction": "in", "protocol": "icmp", "source_ips": ["0.0.0.0/0", "::/0"], "description": "ping" },
        { "direction": "out", "protocol": "tcp", "port": "443", "destination_ips": ["0.0.0.0/0"] },
    ]);
    let net = json!({ "name": "n", "ip_range": "10.0.0.0/16", "subnets": subnets, "routes": routes, "labels": labels });
    let wall = json!({ "name": "f", "rules": rules, "labels": labels });
    let group = json!({ "name": "g", "type": "spread", "labels": labels });
    let kinds =
        [("networks", "network", net), ("firewalls", "firewall", wall), ("placement_groups", "placement_group", group)];
    let mut ids = Vec::new();
    for (room, one, body) in &kinds {
        let (status, made) = tour.call("POST", &format!("/{room}"), Some(body));
        assert_eq!(status, 201, "{made}");
        ids.push(made[one]["id"].clone());
        assert_eq!(tour.call("POST", &format!("/{room}"), Some(body)).0, 409);
        assert_eq!(
            tour.call("POST", &format!("/{room}"), Some(&json!({ "name": "x" , "ip_range": "x", "rules": [1] }))).0,
            422
        );
        assert_eq!(tour.call_as("POST", &format!("/{room}"), Some(body), &read_only).0, 403);
    }
    let mut bound = order("a");
    (bound["networks"], bound["firewalls"], bound["placement_group"]) =
        (json!([ids[0]]), json!([{ "firewall": ids[1] }]), ids[2].clone());
    let (status, created) = tour.call("POST", "/servers", Some(&bound));
    assert_eq!((status, created["next_actions"].as_array().unwrap().len()), (201, 3), "{created}");
    let apply = json!([{ "type": "server", "server": { "id": created["server"]["id"] } }]);
    assert_eq!(tour.call("POST", "/firewalls", Some(&json!({ "name": "second", "apply_to": apply }))).0, 201);
    let mut hidden = order("b");
    (hidden["networks"], hidden["public_net"]) =
        (json!([ids[0]]), json!({ "enable_ipv4": false, "enable_ipv6": false }));
    assert_eq!(tour.call("POST", "/servers", Some(&hidden)).0, 201);
    tour.pass(60);
    for server in tour.call("GET", "/servers", None).1["servers"].as_array().unwrap() {
        assert_eq!(server["private_net"][0]["network"], ids[0]);
    }
    for (field, nobody) in
        [("networks", json!([1])), ("firewalls", json!([{ "firewall": 1 }])), ("placement_group", json!(1))]
    {
        let mut refused = order("c");
        refused[field] = nobody;
        assert_eq!(tour.call("POST", "/servers", Some(&refused)).0, 404, "{field}");
    }
    let server = format!("/servers/{}", created["server"]["id"]);
    tour.call("GET", &format!("{server}/actions"), None);
    for ((room, _, _), id) in kinds.iter().zip(&ids) {
        for path in
            [format!("/{room}"), format!("/{room}?name=x&label_selector=a%3Db&sort=id:desc"), format!("/{room}/{id}")]
        {
            assert_eq!(tour.call("GET", &path, None).0, 200, "{path}");
        }
        assert_eq!(tour.call("GET", &format!("/{room}/1"), None).0, 404);
        let in_use = if *room == "networks" { 204 } else { 422 };
        assert_eq!(tour.call("DELETE", &format!("/{room}/{id}"), None).0, in_use);
    }
    assert_eq!(tour.call("DELETE", &server, None).0, 200);
    for ((room, _, _), id) in kinds.iter().zip(&ids).skip(1) {
        assert_eq!(tour.call("DELETE", &format!("/{room}/{id}"), None).0, 204);
    }
    assert!(tour.seen.len() >= 30, "{:?}", tour.seen);
}

#[test]
fn hetzners_failing_actions_and_limits_conform() {
    let Some(spec) = description("hetzner-cloud.openapi.json") else { return };
    let mut config = Config::default();
    config.hetzner.create_action =
        ActionOutcome::Error { code: "action_failed".to_owned(), message: "Action failed".to_owned() };
    config.hetzner.server_limit = 1;
    config.hetzner.locked_while_creating = true;
    config.hetzner.rate_remaining = Some(9.0);
    let token = config.hetzner.token.clone();
    let mut tour = Tour::new(config, spec, "/v1", token);
    let (_, created) = tour.call("POST", "/servers", Some(&order("a")));
    assert_eq!(tour.call("DELETE", &format!("/servers/{}", created["server"]["id"]), None).0, 423);
    assert_eq!(tour.call("POST", "/servers", Some(&order("b"))).0, 403);
    tour.pass(20);
    let (_, action) = tour.call("GET", &format!("/actions/{}", created["action"]["id"]), None);
    assert_eq!(action["action"]["status"], "error");
    for _ in 0..100 {
        if tour.call("GET", "/locations", None).0 == 429 {
            return;
        }
    }
    panic!("the bucket never ran dry");
}

/// The fields that an answer must and must not have, by the fact sheet's tables A2 and A3.
const KEY_FIELDS: [&str; 7] = ["id", "keyType", "expirySeconds", "created", "expires", "capabilities", "description"];
const DEVICE_FIELDS: [&str; 20] = [
    "id",
    "nodeId",
    "name",
    "hostname",
    "user",
    "addresses",
    "clientVersion",
    "updateAvailable",
    "os",
    "created",
    "connectedToControl",
    "keyExpiryDisabled",
    "expires",
    "authorized",
    "isExternal",
    "machineKey",
    "nodeKey",
    "blocksIncomingConnections",
    "tailnetLockKey",
    "tailnetLockError",
];
const ALL_FIELDS: [&str; 5] = ["enabledRoutes", "advertisedRoutes", "clientConnectivity", "sshEnabled", "distro"];

#[track_caller]
fn assert_fields(value: &Value, present: &[&str], absent: &[&str]) {
    for name in present {
        assert!(value.get(name).is_some(), "{name} is missing in {value}");
    }
    for name in absent {
        assert!(value.get(name).is_none(), "{name} should be left out of {value}");
    }
}

#[test]
fn tailscales_answers_conform() {
    let Some(spec) = description("tailscale.openapi.json") else { return };
    let config = Config::default();
    let secret = config.tailscale.clients[0].secret.clone();
    let mut tour = Tour::new(config, spec, "/api/v2", String::new());

    // Not described: the token, with what the fact sheet says of it (A1).
    let form = Bytes::from(format!("grant_type=client_credentials&client_id=x&client_secret={secret}"));
    let request = Request::post("https://api.example/api/v2/oauth/token").body(form).unwrap();
    let answer = tour.world.exchange(tour.now, request).outcome.unwrap();
    assert!(answer.headers().contains_key("x-tailscale-request-id"));
    let token: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_fields(&token, &["access_token", "token_type", "expires_in", "scope", "tags"], &["error"]);
    assert_eq!((&token["token_type"], &token["expires_in"]), (&json!("Bearer"), &json!(3600)));
    tour.bearer = token["access_token"].as_str().unwrap().to_owned();

    let create = json!({ "reusable": false, "ephemeral": true, "preauthorized": true, "tags": ["tag:agent"] });
    let body =
        json!({ "capabilities": { "devices": { "create": create } }, "expirySeconds": 600, "description": "a key" });
    let (status, key) = tour.call("POST", "/tailnet/-/keys", Some(&body));
    assert_eq!(status, 200);
    assert_fields(&key, &KEY_FIELDS, &["revoked", "invalid", "userId"]);
    assert!(key["key"].as_str().unwrap().starts_with(&format!("tskey-auth-{}-", key["id"].as_str().unwrap())));
    let path = format!("/tailnet/-/keys/{}", key["id"].as_str().unwrap());
    let (_, read) = tour.call("GET", &path, None);
    assert_fields(&read, &KEY_FIELDS, &["key"]);
    let (_, list) = tour.call("GET", "/tailnet/-/keys?all=true", None);
    assert_eq!(list["keys"].as_array().unwrap().len(), 1);
    assert_eq!(tour.call("GET", "/tailnet/-/keys", None).1["keys"], json!([]));
    tour.call("DELETE", &path, None);
    let (_, revoked) = tour.call("GET", &path, None);
    assert_eq!((&revoked["invalid"], revoked["revoked"].is_string()), (&json!(true), true));

    let ours =
        PlantedDevice { hostname: "a".into(), tags: vec!["tag:agent".into()], ephemeral: true, ..Default::default() };
    let away = PlantedDevice { hostname: "A".into(), connected: false, ..Default::default() };
    let node = tour.world.plant_device(ours).0;
    tour.world.plant_device(away);
    tour.pass(5);
    let (_, list) = tour.call("GET", "/tailnet/-/devices", None);
    assert_eq!(list["devices"].as_array().unwrap().len(), 2);
    let (_, filtered) = tour.call("GET", "/tailnet/-/devices?hostname=a&tags=tag:agent&fields=all", None);
    let [device] = filtered["devices"].as_array().unwrap().as_slice() else { panic!("one device: {filtered}") };
    assert_fields(device, &[&DEVICE_FIELDS[..], &ALL_FIELDS[..], &["isEphemeral", "tags"]].concat(), &["lastSeen"]);
    let (_, other) = tour.call("GET", "/tailnet/-/devices?hostname=A", None);
    let other = &other["devices"][0];
    let absent = [&ALL_FIELDS[..], &["isEphemeral", "tags", "multipleConnections"]].concat();
    assert_fields(other, &[&DEVICE_FIELDS[..], &["lastSeen"]].concat(), &absent);
    assert!(other["name"].as_str().unwrap().starts_with("a-1."), "the suffix is in the name only: {other}");
    tour.call("GET", &format!("/device/{node}?fields=all"), None);
    tour.call("DELETE", &format!("/device/{node}"), None);
    assert_eq!(tour.call("GET", &format!("/device/{node}"), None).0, 404);
}

/// What Tailscale says when it refuses: exact texts, and never the shape of RFC 6749 (A1, A2, A4). These statuses are
/// not in the description.
#[test]
fn tailscales_refusals_are_its_own() {
    let config = Config::default();
    let secret = config.tailscale.clients[0].secret.clone();
    let mut world = World::new(config);
    let mut send = |method: &str, path: &str, token: &str, kind: &str, body: String| {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://api.example/api/v2{path}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", kind)
            .body(Bytes::from(body))
            .unwrap();
        let answer = world.exchange(Duration::ZERO, request).outcome.unwrap();
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        (answer.status().as_u16(), body)
    };
    let form = "application/x-www-form-urlencoded";
    let (_, token) = send("POST", "/oauth/token", "", form, format!("client_secret={secret}"));
    let token = token["access_token"].as_str().unwrap().to_owned();
    let key = |change: &dyn Fn(&mut Value)| {
        let mut body = json!({ "capabilities": { "devices": { "create": { "tags": ["tag:agent"] } } } });
        change(&mut body);
        body.to_string()
    };
    let keys = "/tailnet/-/keys";
    let json = "application/json";
    for (status, message, answer) in [
        (401, "API token invalid", send("POST", "/oauth/token", "", form, "client_secret=wrong".into())),
        (
            403,
            "OAuth client cannot grant scopes \"devices\"",
            send("POST", "/oauth/token", "", form, format!("client_secret={secret}&scope=devices")),
        ),
        (401, "API token invalid", send("GET", keys, "wrong", json, String::new())),
        (400, "unexpected end of JSON input", send("POST", keys, &token, json, String::new())),
        (400, "exactly one capability scope must be populated", send("POST", keys, &token, form, key(&|_| ()))),
        (400, "exactly one capability scope must be populated", send("POST", keys, &token, json, "{}".into())),
        (
            400,
            "requested tags [tag:a tag:b] are invalid or not permitted",
            send(
                "POST",
                keys,
                &token,
                json,
                key(&|b| b["capabilities"]["devices"]["create"]["tags"] = json!(["tag:a", "tag:b"])),
            ),
        ),
        (
            400,
            "tailnet-owned auth key must have tags set",
            send("POST", keys, &token, json, key(&|b| b["capabilities"]["devices"]["create"] = json!({}))),
        ),
        (
            400,
            "keys: description had invalid characters",
            send("POST", keys, &token, json, key(&|b| b["description"] = json!("a_b"))),
        ),
        (
            400,
            "expirySeconds must be less than or equal to 7776000",
            send("POST", keys, &token, json, key(&|b| b["expirySeconds"] = json!(7_776_001))),
        ),
        (400, "invalid key ID", send("DELETE", "/tailnet/-/keys/x!", &token, json, String::new())),
        (404, "tailnet \"other\" not found", send("GET", "/tailnet/other/devices", &token, json, String::new())),
        (
            404,
            "no manageable device matching this ID found",
            send("DELETE", "/device/n1CNTRL", &token, json, String::new()),
        ),
    ] {
        assert_eq!(answer, (status, json!({ "message": message })));
    }
    assert_eq!(send("GET", "/nowhere", &token, json, String::new()).0, 404);
    assert_eq!(send("PATCH", "/tailnet/-/devices", &token, json, String::new()).0, 405);
}

//! Every answer of the simulator, held against the published descriptions of both APIs.
//!
//! The descriptions are not committed (no licence is stated). They are looked for in `PROVISION_VM_SPECS`, else in
//! `shared/specs` beside the repository; without them the tests say so and pass, except in CI, where they fail unless
//! `PROVISION_VM_NO_SPECS` says that they cannot be there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the place of the descriptions comes from the environment")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use simulator::{ActionOutcome, Config, PlantedDevice, World};

/// A description, or the reason why there is none.
fn description(name: &str) -> Option<Value> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/specs");
    let folder = std::env::var_os("PROVISION_VM_SPECS").map_or(beside, PathBuf::from);
    if let Ok(text) = std::fs::read(folder.join(name)) {
        return Some(serde_json::from_slice(&text).unwrap());
    }
    let excused = std::env::var_os("PROVISION_VM_NO_SPECS").is_some();
    assert!(std::env::var_os("CI").is_none() || excused, "{name} is missing; set PROVISION_VM_SPECS");
    println!("skipped: {name} is not there; set PROVISION_VM_SPECS to the folder that holds it");
    None
}

/// A world, and a judge who sees every answer.
struct Tour {
    world: World,
    now: Duration,
    spec: Value,
    base: &'static str,
    bearer: String,
    seen: BTreeSet<String>,
}

impl Tour {
    fn new(config: Config, spec: Value, base: &'static str, bearer: String) -> Self {
        Self { world: World::new(config), now: Duration::ZERO, spec, base, bearer, seen: BTreeSet::new() }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.world.advance(self.now);
    }

    fn send(&mut self, method: &str, path: &str, body: Option<&Value>, bearer: &str) -> Response<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://api.example{}{path}", self.base))
            .header("authorization", format!("Bearer {bearer}"))
            .header("content-type", "application/json")
            .body(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default())
            .unwrap();
        self.world.exchange(self.now, request).outcome.unwrap()
    }

    /// One request; its answer must be what the description says for this path, method and status.
    #[track_caller]
    fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let bearer = self.bearer.clone();
        self.call_as(method, path, body, &bearer)
    }

    #[track_caller]
    fn call_as(&mut self, method: &str, path: &str, body: Option<&Value>, bearer: &str) -> (u16, Value) {
        let answer = self.send(method, path, body, bearer);
        let status = answer.status().as_u16();
        let text = answer.body();
        let value: Value = if text.is_empty() { Value::Null } else { serde_json::from_slice(text).unwrap() };
        self.judge(method, path, status, &value);
        (status, value)
    }

    #[track_caller]
    fn judge(&mut self, method: &str, path: &str, status: u16, value: &Value) {
        let path = path.split('?').next().unwrap();
        let (template, operation) = find_operation(&self.spec, method, path);
        let responses = &operation["responses"];
        let class = format!("{}xx", status / 100);
        let response =
            [status.to_string(), class].into_iter().map(|key| &responses[key]).find(|found| !found.is_null());
        let response = response.unwrap_or_else(|| panic!("{method} {template} knows no status {status}"));
        let response = resolve(&self.spec, response);
        let schema = &response["content"]["application/json"]["schema"];
        self.seen.insert(format!("{method} {template} {status}"));
        if schema.is_null() {
            return;
        }
        let mut schema = schema.clone();
        forgive_deprecated(&mut schema);
        let mut components = self.spec["components"].clone();
        forgive_deprecated(&mut components);
        schema["components"] = components;
        let validator = jsonschema::validator_for(&schema).unwrap();
        let complaints: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(complaints.is_empty(), "{method} {template} {status}:\n{}", complaints.join("\n"));
    }
}

fn find_operation<'a>(spec: &'a Value, method: &str, path: &str) -> (&'a str, &'a Value) {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let wanted: Vec<&str> = template.split('/').collect();
        wanted.len() == parts.len() && wanted.iter().zip(&parts).all(|(w, p)| w == p || w.starts_with('{'))
    };
    let mut found: Vec<(&str, &Value)> = spec["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(template, item)| fits(template) && item.get(method.to_lowercase()).is_some())
        .map(|(template, item)| (template.as_str(), &item[method.to_lowercase()]))
        .collect();
    // The template with the fewest variables is the one that is meant.
    found.sort_by_key(|(template, _)| template.matches('{').count());
    *found.first().unwrap_or_else(|| panic!("no operation for {method} {path}"))
}

fn resolve<'a>(spec: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => spec.pointer(pointer).unwrap(),
        None => value,
    }
}

/// The field `deprecated` disappeared on 2026-11-02, though the description still requires it.
fn forgive_deprecated(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(required)) = object.get_mut("required") {
                required.retain(|name| name != "deprecated");
            }
            object.values_mut().for_each(forgive_deprecated);
        }
        Value::Array(items) => items.iter_mut().for_each(forgive_deprecated),
        _ => {}
    }
}

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

//! What the tailnet answers about tokens and keys; what becomes of devices is in `devices.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;

mod devices;

const HOUR: Duration = Duration::from_secs(3600);
const DEVICES: &str = "/tailnet/-/devices";
const KEYS: &str = "/tailnet/-/keys";

/// A tailnet, its time, and the last answer's headers.
struct Net {
    cx: Context,
    net: Tailscale,
}

/// Status and body. A body that is no JSON is its text.
type Answer = (u16, Value);

impl Net {
    fn new(change: impl FnOnce(&mut TailscaleConfig)) -> Self {
        let mut config = TailscaleConfig::default();
        change(&mut config);
        Self { cx: Context::new(7, 1_795_428_000), net: Tailscale::new(config) }
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.net.handle(&mut self.cx, &request.body(body.into()).unwrap());
        let id = response.headers()["x-tailscale-request-id"].to_str().unwrap();
        assert!(id.starts_with("REQ-"), "{id}");
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn form(&mut self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let kind = ("content-type", "application/x-www-form-urlencoded");
        self.send("POST", &format!("/api/v2{path}"), &[&[kind], headers].concat(), body)
    }

    fn token(&mut self) -> String {
        let secret = self.net.config.clients[0].secret.clone();
        let (status, body) = self.form("/oauth/token", &[("client_secret", &secret)], &[]);
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    /// A request with a token of its own.
    fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {}", self.token());
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, &format!("/api/v2{path}"), &headers, body)
    }

    /// The id and the text of a new key.
    fn key(&mut self, create: &Value) -> (String, String) {
        let mut create = create.clone();
        create["tags"] = json!(["tag:agent"]);
        let body = json!({ "capabilities": { "devices": { "create": create } } });
        let (status, key) = self.call("POST", KEYS, Some(body));
        assert_eq!(status, 200, "{key}");
        (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned())
    }

    fn join(&mut self, auth_key: &str, hostname: &str) -> Result<NodeId, String> {
        let join = Join { auth_key: auth_key.into(), hostname: hostname.into(), public_ip: None, server: 0 };
        self.net.join(&mut self.cx, join)
    }

    /// A device that joined with a key of its own.
    fn joined(&mut self, hostname: &str) -> NodeId {
        let (_, key) = self.key(&json!({ "preauthorized": true, "ephemeral": true }));
        self.join(&key, hostname).unwrap()
    }

    fn device(&mut self, node: &NodeId) -> Value {
        self.call("GET", &format!("/device/{}", node.0), None).1
    }

    fn listed(&mut self, query: &str) -> Vec<String> {
        let (status, body) = self.call("GET", &format!("{DEVICES}?{query}"), None);
        assert_eq!(status, 200);
        let mut names: Vec<String> =
            body["devices"].as_array().unwrap().iter().map(|device| text(&device["hostname"])).collect();
        names.sort();
        names
    }

    fn pass(&mut self, time: Duration) {
        self.cx.now += time;
        while let Some(at) = self.net.next_event().filter(|at| *at <= self.cx.now) {
            let now = std::mem::replace(&mut self.cx.now, at);
            self.net.tick(&mut self.cx);
            self.cx.now = now;
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn refused(status: u16, message: &str) -> Answer {
    (status, json!({ "message": message }))
}

#[test]
fn a1_a_client_gets_a_token_by_form_or_by_basic() {
    let mut net = Net::new(|_| {});
    let secret = net.net.config.clients[0].secret.clone();
    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let (right, wrong) = (basic("any id", &secret), basic("any id", "wrong"));
    let by_form = ("client_secret", secret.as_str());
    for (fields, authorization, expected) in [
        (vec![by_form], None, Ok("auth_keys devices:core")),
        (
            vec![("client_id", "dummy"), by_form, ("grant_type", "client_credentials")],
            None,
            Ok("auth_keys devices:core"),
        ),
        (vec![], Some(right.as_str()), Ok("auth_keys devices:core")),
        (vec![by_form, ("scope", "auth_keys")], None, Ok("auth_keys")),
        (vec![by_form, ("scope", "devices:core:read auth_keys")], None, Ok("devices:core:read auth_keys")),
        // Narrowing by tags does not work at the real service either.
        (vec![by_form, ("tags", "tag:other")], None, Ok("auth_keys devices:core")),
        (
            vec![by_form, ("scope", "devices all auth_keys")],
            None,
            Err((403, r#"OAuth client cannot grant scopes "devices all""#)),
        ),
        (vec![("client_secret", "wrong")], None, Err((401, "API token invalid"))),
        (vec![], Some(wrong.as_str()), Err((401, "API token invalid"))),
        (vec![], None, Err((401, "API token invalid"))),
    ] {
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
        let (status, body) = net.form("/oauth/token", &fields, &headers);
        match expected {
            Ok(scope) => {
                assert_eq!((status, text(&body["scope"]).as_str()), (200, scope), "{fields:?}");
                assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3600)));
                assert_eq!(body["tags"], "tag:agent");
                assert!(text(&body["access_token"]).starts_with("tskey-api-"));
            }
            Err((status_expected, message)) => assert_eq!((status, body), refused(status_expected, message)),
        }
    }
    assert_eq!(net.send("GET", "/api/v2/oauth/token", &[], ""), (405, json!("")));
    let mut net = Net::new(|config| config.young_client_seconds = 5.0);
    assert_eq!(net.form("/oauth/token", &[by_form], &[]).0, 404);
    net.pass(Duration::from_secs(5));
    assert_eq!(net.form("/oauth/token", &[by_form], &[]).0, 200);
}

#[test]
fn a1_an_identity_token_is_checked_claim_by_claim_and_refused_without_a_word() {
    let mut net = Net::new(|config| config.federated_subject = "repo:example/*:environment:*".into());
    let id = net.net.config.federated_id.clone();
    let issuer = format!("Bearer {}", net.net.config.issuer_token);
    let url = format!("/_sim/oidc/token?audience=api.tailscale.com/{id}");
    assert_eq!(net.send("GET", &url, &[("authorization", "Bearer wrong")], "").0, 401);
    assert_eq!(net.send("GET", "/_sim/oidc/other", &[("authorization", &issuer)], "").0, 404);
    let (status, body) = net.send("GET", &url, &[("authorization", &issuer)], "");
    assert_eq!(status, 200);
    let jwt = text(&body["value"]);
    let exchange = |net: &mut Net, id: &str, jwt: &str| {
        net.form("/oauth/token-exchange", &[("client_id", id), ("jwt", jwt), ("grant_type", "authorization_code")], &[])
    };
    let (status, body) = exchange(&mut net, &id, &jwt);
    assert_eq!((status, &body["expires_in"], &body["tags"]), (200, &json!(3600), &json!("tag:agent")));

    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let forged = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims.clone();
        change(&mut claims);
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    };
    assert_eq!(exchange(&mut net, &id, &forged(&|_| {})).0, 200, "what is forged below differs in one thing alone");
    for (name, client, jwt) in [
        ("client", "another", jwt.clone()),
        ("iss", &id, forged(&|claims| claims["iss"] = json!("https://other.example"))),
        ("aud", &id, forged(&|claims| claims["aud"] = json!("api.tailscale.com/another"))),
        ("sub", &id, forged(&|claims| claims["sub"] = json!("repo:stranger/app:environment:x"))),
        ("exp", &id, forged(&|claims| claims["exp"] = json!(1_795_428_000))),
        ("no exp", &id, forged(&|claims| claims["exp"] = Value::Null)),
        ("two parts", &id, jwt.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", &id, format!("{jwt}.x")),
        ("no base64", &id, "a.b.c".to_owned()),
    ] {
        let (status, body) = exchange(&mut net, client, &jwt);
        let message = text(&body["message"]);
        assert!(status == 401 && message.starts_with("Unauthorized. Visit "), "{name}: {status} {body}");
    }
    net.pass(Duration::from_secs(300));
    assert_eq!(exchange(&mut net, &id, &jwt).0, 401, "it has expired");
}

#[test]
fn a2_orders_of_keys_are_checked() {
    let change = |config: &mut TailscaleConfig| {
        config.clients[0].tags = vec!["tag:a".into(), "tag:b".into()];
        config.tag_owners.insert("tag:owned".into(), ["tag:b".to_owned()].into());
    };
    let with = |tags: Value, more: Value| {
        let mut body = json!({ "capabilities": { "devices": { "create": { "tags": tags } } } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let both = json!(["tag:b", "tag:a"]);
    let not_understood = "exactly one capability scope must be populated";
    let no_tags = "tailnet-owned auth key must have tags set";
    let too_long = "expirySeconds must be less than or equal to 7776000";
    let odd = "keys: description had invalid characters";
    let tags = |tags: &str| format!("requested tags [{tags}] are invalid or not permitted");
    for (body, expected) in [
        (with(both.clone(), json!({})), Ok(7_776_000)),
        (with(both.clone(), json!({ "expirySeconds": 0, "description": "" })), Ok(7_776_000)),
        (with(both.clone(), json!({ "expirySeconds": 7_776_000, "keyType": "auth" })), Ok(7_776_000)),
        (with(both.clone(), json!({ "expirySeconds": 660, "description": "job 1-a" })), Ok(660)),
        (with(json!(["tag:owned"]), json!({ "expirySeconds": null, "description": null })), Ok(7_776_000)),
        (with(both.clone(), json!({ "description": "x".repeat(50) })), Ok(7_776_000)),
        (with(both.clone(), json!({ "expirySeconds": 7_776_001 })), Err((400, too_long.to_owned()))),
        (with(both.clone(), json!({ "description": "a_b" })), Err((400, odd.to_owned()))),
        (with(both.clone(), json!({ "description": "x".repeat(51) })), Err((400, odd.to_owned()))),
        (with(json!(["tag:a"]), json!({})), Err((400, tags("tag:a")))),
        (with(json!(["tag:a", "tag:b", "tag:c"]), json!({})), Err((400, tags("tag:a tag:b tag:c")))),
        (with(json!(["tag:owned", "tag:a"]), json!({})), Err((400, tags("tag:owned tag:a")))),
        (with(json!(["a", "b"]), json!({})), Err((400, tags("a b")))),
        (with(json!([]), json!({})), Err((400, no_tags.to_owned()))),
        (json!({ "capabilities": { "devices": {} } }).to_string(), Err((400, no_tags.to_owned()))),
        (json!({ "capabilities": {} }).to_string(), Err((400, not_understood.to_owned()))),
        (with(both.clone(), json!({ "expirySeconds": "60" })), Err((400, not_understood.to_owned()))),
        ("client_secret=x".to_owned(), Err((400, not_understood.to_owned()))),
        (String::new(), Err((400, "unexpected end of JSON input".to_owned()))),
        (with(both.clone(), json!({ "keyType": "client", "scopes": ["all"] })), Err((403, NOT_ALLOWED.to_owned()))),
    ] {
        let mut net = Net::new(change);
        let bearer = format!("Bearer {}", net.token());
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json; charset=utf-8")];
        let (status, answer) = net.send("POST", "/api/v2/tailnet/-/keys", &headers, body.clone());
        match expected {
            Ok(life) => assert_eq!((status, &answer["expirySeconds"]), (200, &json!(life)), "{body}: {answer}"),
            Err((code, message)) => assert_eq!((status, answer), refused(code, &message), "{body}"),
        }
    }
    let mut net = Net::new(change);
    let bearer = format!("Bearer {}", net.token());
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        let answer = net.send("POST", "/api/v2/tailnet/-/keys", &headers, with(both.clone(), json!({})));
        assert_eq!(answer, refused(400, not_understood));
    }
    let plan = "feature not available on current billing plan";
    let mut net = Net::new(|config| config.plan_refusal = Some((402, plan.into())));
    assert_eq!(net.call("POST", KEYS, Some(json!({ "capabilities": { "devices": {} } }))), refused(402, plan));
}

#[test]
fn a2_a_key_shows_its_text_once_and_can_be_read_listed_and_revoked() {
    let mut net = Net::new(|_| {});
    let create = json!({ "reusable": false, "ephemeral": true, "preauthorized": true, "tags": ["tag:agent"] });
    let body =
        json!({ "description": "a key", "expirySeconds": 60, "capabilities": { "devices": { "create": create } } });
    let (_, made) = net.call("POST", KEYS, Some(body));
    let id = text(&made["id"]);
    assert!(text(&made["key"]).starts_with(&format!("tskey-auth-{id}-")));
    for absent in ["userId", "invalid", "revoked", "updated"] {
        assert!(made.get(absent).is_none(), "{absent}");
    }
    assert_eq!((&made["created"], &made["expires"]), (&json!("2026-11-23T10:00:00Z"), &json!("2026-11-23T10:01:00Z")));
    let path = format!("{KEYS}/{id}");
    let (_, read) = net.call("GET", &path, None);
    assert!(read.get("key").is_none());
    assert_eq!(read["capabilities"]["devices"]["create"], create);
    assert_eq!(net.call("GET", KEYS, None).1, json!({ "keys": [] }), "credentials, of which none is readable");
    assert_eq!(net.call("GET", &format!("{KEYS}?all=true"), None).1, json!({ "keys": [read] }));
    let update = refused(400, "keys of type \"auth\" can not be updated");
    assert_eq!(net.call("PUT", &path, Some(json!({}))), update);
    assert_eq!(net.call("DELETE", &format!("{KEYS}/x.y"), None), refused(400, "invalid key ID"));
    assert_eq!(net.call("DELETE", &format!("{KEYS}/kNobody"), None).0, 404);
    assert_eq!(net.call("DELETE", &path, None).0, 200);
    let (status, read) = net.call("GET", &path, None);
    assert_eq!((status, &read["invalid"]), (200, &json!(true)), "it is revoked, not gone");
    assert!(read.get("revoked").is_some());
    assert_eq!(net.call("DELETE", &path, None).0, 200);
    assert_eq!(net.call("GET", &format!("{KEYS}?all=true"), None).1, json!({ "keys": [] }), "only active keys");
    assert_eq!(net.join(&text(&made["key"]), "a"), Err("invalid key: API key does not exist".into()));
    assert!(!net.net.snapshot(&net.cx).to_string().contains("tskey-"), "the true state holds no secrets");
}

#[test]
fn a2_what_becomes_of_a_key_that_is_no_longer_good() {
    type Change = fn(&mut TailscaleConfig);
    let cases: [(&str, Change, u16, u16, usize); 4] = [
        ("usual", |_| {}, 200, 200, 0),
        ("hidden", |config| config.hide_invalid_keys = true, 404, 404, 0),
        ("gone for revoking", |config| config.spent_key_is_gone = true, 200, 404, 0),
        ("listed", |config| config.list_invalid_keys = true, 200, 200, 1),
    ];
    for (name, change, read, revoked, listed) in cases {
        let mut net = Net::new(change);
        let (id, key) = net.key(&json!({ "preauthorized": true }));
        net.join(&key, "a").unwrap();
        assert_eq!(net.join(&key, "a"), Err(format!("invalid key: API key {id} not valid")), "{name}");
        let (status, body) = net.call("GET", &format!("{KEYS}/{id}"), None);
        assert_eq!(status, read, "{name}");
        assert!(status == 404 || body["invalid"] == true, "{name}: {body}");
        let (_, list) = net.call("GET", &format!("{KEYS}?all=true"), None);
        assert_eq!(list["keys"].as_array().unwrap().len(), listed, "{name}");
        assert_eq!(net.call("DELETE", &format!("{KEYS}/{id}"), None).0, revoked, "{name}");
        assert_eq!(net.listed("").len(), 0, "not visible at once");
        net.pass(Duration::from_secs(1));
        assert_eq!(net.listed(""), ["a"], "{name}: a device outlives its key");
    }
}

#[test]
fn a4_scopes_tokens_and_routes_are_checked() {
    let not_allowed = refused(403, NOT_ALLOWED);
    for (scopes, method, path, allowed) in [
        (vec!["auth_keys"], "GET", DEVICES, false),
        (vec!["devices:core:read"], "GET", DEVICES, true),
        (vec!["devices:core"], "GET", DEVICES, true),
        (vec!["devices:core:read"], "DELETE", "/device/n1", false),
        (vec!["devices:core"], "DELETE", "/device/n1", true),
        (vec!["auth_keys:read"], "GET", KEYS, true),
        (vec!["auth_keys:read"], "POST", KEYS, false),
        (vec!["auth_keys:read"], "DELETE", "/tailnet/-/keys/k1", false),
        (vec!["all"], "DELETE", "/tailnet/-/keys/k1", true),
        (vec!["all:read"], "GET", KEYS, true),
        (vec!["all:read"], "POST", KEYS, false),
    ] {
        let words: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let mut net = Net::new(|config| config.clients[0].scopes = words);
        let answer = net.call(method, path, None);
        assert_eq!(answer != not_allowed, allowed, "{scopes:?} {method} {path}: {answer:?}");
    }
    let mut net = Net::new(|_| {});
    let token = net.token();
    let secret = net.net.config.clients[0].secret.clone();
    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let invalid = refused(401, "API token invalid");
    for (authorization, fits) in [
        (format!("Bearer {token}"), true),
        (basic(&token, ""), true),
        (basic(&token, "x"), false),
        (basic("", &token), false),
        (format!("Bearer {secret}"), false),
        ("Bearer tskey-api-forged".to_owned(), false),
    ] {
        let answer = net.send("GET", &format!("/api/v2{DEVICES}"), &[("authorization", &authorization)], "");
        assert_eq!(answer != invalid, fits, "{authorization}: {answer:?}");
    }
    assert_eq!(net.send("GET", &format!("/api/v2{DEVICES}"), &[], ""), invalid);
    for (method, path, expected) in [
        ("POST", DEVICES, (405, json!(""))),
        ("PATCH", "/device/n1", (405, json!(""))),
        ("GET", "/device/n1/tags", (405, json!(""))),
        ("GET", "/nowhere", (404, json!("404 page not found\n"))),
        ("POST", "/device/n1/nothing", (404, json!("404 page not found\n"))),
        ("GET", "/tailnet/other.example/devices", refused(404, "tailnet \"other.example\" not found")),
        ("GET", "/tailnet/Tsimulator1CNTRL/devices", (200, json!({ "devices": [] }))),
    ] {
        assert_eq!(net.call(method, path, None), expected, "{method} {path}");
    }
    net.pass(HOUR);
    let answer = net.send("GET", &format!("/api/v2{DEVICES}"), &[("authorization", &format!("Bearer {token}"))], "");
    assert_eq!(answer, invalid, "an hour is all it has");
    assert_eq!(net.net.snapshot(&net.cx)["tokens"], 0);
}

//! Auth keys (A2).

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LETTERS, Tailscale, token::Token};
use crate::context::Context;
use crate::reply::{json_reply, query_of, tailscale_error};

const LONGEST_LIFE: i64 = 7_776_000;

/// An auth key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: String,
    pub secret: String,
    description: String,
    pub capabilities: Capabilities,
    created: Duration,
    life: Duration,
    revoked: Option<Duration>,
    pub used: bool,
}

/// What a key lets its bearer do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Capabilities {
    pub reusable: bool,
    pub ephemeral: bool,
    pub preauthorized: bool,
    pub tags: Vec<String>,
}

impl Key {
    fn expires(&self) -> Duration {
        self.created + self.life
    }

    /// Whether a machine could still join with it.
    pub(super) fn is_usable(&self, now: Duration) -> bool {
        self.revoked.is_none() && now < self.expires() && (self.capabilities.reusable || !self.used)
    }

    /// As the API writes it; the text of the key only in the answer that makes it.
    fn json(&self, cx: &Context, with_secret: bool) -> Value {
        let mut json = json!({
            "id": self.id, "keyType": "auth", "expirySeconds": self.life.as_secs(),
            "created": cx.timestamp_at(self.created), "expires": cx.timestamp_at(self.expires()),
            "capabilities": { "devices": { "create": self.capabilities } }, "description": self.description,
        });
        if with_secret {
            json["key"] = json!(self.secret);
        }
        if let Some(at) = self.revoked {
            json["revoked"] = json!(cx.timestamp_at(at));
        }
        if !self.is_usable(cx.now) {
            json["invalid"] = json!(true);
        }
        json
    }

    pub(super) fn truth(&self, cx: &Context) -> Value {
        json!({
            "id": self.id, "description": self.description, "usable": self.is_usable(cx.now), "used": self.used,
            "revoked": self.revoked.is_some(), "reusable": self.capabilities.reusable,
            "ephemeral": self.capabilities.ephemeral, "tags": self.capabilities.tags,
            "expires": cx.timestamp_at(self.expires()), "life_seconds": self.life.as_secs(),
        })
    }
}

impl Tailscale {
    pub(super) fn create_key(&mut self, cx: &mut Context, token: &Token, request: &Request<Bytes>) -> Response<Bytes> {
        if request.body().is_empty() {
            return tailscale_error(400, "unexpected end of JSON input");
        }
        let is_json = request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let devices = &body["capabilities"]["devices"];
        let kind = body["keyType"].as_str().unwrap_or("auth");
        if !is_json || !devices.is_object() || kind != "auth" {
            return tailscale_error(400, "exactly one capability scope must be populated");
        }
        let Ok(capabilities) = serde_json::from_value::<Option<Capabilities>>(devices["create"].clone()) else {
            return tailscale_error(400, "exactly one capability scope must be populated");
        };
        let capabilities = capabilities.unwrap_or_default();
        let life = body["expirySeconds"].as_i64().unwrap_or_default();
        let description = body["description"].as_str().unwrap_or_default();
        if let Some(refusal) = self.objection(token, &capabilities, life, description) {
            return refusal;
        }
        let life = if life == 0 { LONGEST_LIFE } else { life };
        let id = format!("k{}CNTRL", cx.text(10, LETTERS));
        let secret = format!("tskey-auth-{id}-{}", cx.text(32, LETTERS));
        let key = Key {
            id: id.clone(),
            secret,
            description: description.to_owned(),
            capabilities,
            created: cx.now,
            life: Duration::from_secs(life.unsigned_abs()),
            revoked: None,
            used: false,
        };
        let answer = json_reply(200, &key.json(cx, true));
        self.keys.insert(id, key);
        answer
    }

    fn objection(&self, token: &Token, wanted: &Capabilities, life: i64, description: &str) -> Option<Response<Bytes>> {
        if wanted.tags.is_empty() {
            return Some(tailscale_error(400, "tailnet-owned auth key must have tags set"));
        }
        if !self.may_give(token, &wanted.tags) {
            let tags = wanted.tags.join(" ");
            return Some(tailscale_error(400, &format!("requested tags [{tags}] are invalid or not permitted")));
        }
        if !(0..=LONGEST_LIFE).contains(&life) {
            let message = format!("expirySeconds must be less than or equal to {LONGEST_LIFE}");
            return Some(tailscale_error(400, &message));
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == ' ' || letter == '-';
        if description.len() > 50 || !description.chars().all(plain) {
            return Some(tailscale_error(400, "keys: description had invalid characters"));
        }
        None
    }

    /// The rule that most people stumble over: all of the credential's tags, or tags that one of them owns.
    pub(super) fn may_give(&self, token: &Token, wanted: &[String]) -> bool {
        let whole = wanted.len() == token.tags.len() && wanted.iter().all(|tag| token.tags.contains(tag));
        let owned = |tag: &String| {
            self.config.tag_owners.get(tag).is_some_and(|owners| token.tags.iter().any(|held| owners.contains(held)))
        };
        wanted.iter().all(|tag| tag.starts_with("tag:")) && (whole || wanted.iter().all(owned))
    }

    pub(super) fn list_keys(&self, cx: &Context, request: &Request<Bytes>) -> Response<Bytes> {
        // Without `all`, a token of an OAuth client sees the clients and no auth keys.
        let all = query_of(request).iter().any(|(name, value)| name == "all" && value == "true");
        let shown = |key: &&Key| all && (key.is_usable(cx.now) || !self.config.hide_invalid_keys);
        let keys: Vec<Value> = self.keys.values().filter(shown).map(|key| key.json(cx, false)).collect();
        json_reply(200, &json!({ "keys": keys }))
    }

    pub(super) fn get_key(&self, cx: &Context, id: &str) -> Response<Bytes> {
        let shown = |key: &&Key| key.is_usable(cx.now) || !self.config.hide_invalid_keys;
        match self.keys.get(id).filter(shown) {
            Some(key) => json_reply(200, &key.json(cx, false)),
            None => tailscale_error(404, "key not found"),
        }
    }

    pub(super) fn revoke_key(&mut self, cx: &Context, id: &str) -> Response<Bytes> {
        if !id.starts_with('k') || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return tailscale_error(400, "invalid key ID");
        }
        let hide = self.config.hide_invalid_keys;
        match self.keys.get_mut(id).filter(|key| key.is_usable(cx.now) || !hide) {
            Some(key) => {
                key.revoked.get_or_insert(cx.now);
                json_reply(200, &Value::Null)
            }
            None => tailscale_error(404, "key not found"),
        }
    }
}

//! Auth keys (A2).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LETTERS, Tailscale, token::Token};
use crate::context::Context;
use crate::history::{KeyView, SecretKind, What};
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

/// An order for a key. Everything may be left out, or be null.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    key_type: Option<String>,
    capabilities: Option<OrderedCapabilities>,
    expiry_seconds: Option<i64>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct OrderedCapabilities {
    devices: Option<OrderedDevices>,
}

#[derive(Deserialize)]
struct OrderedDevices {
    create: Option<Capabilities>,
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

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.is_some()
    }

    pub(super) fn id(&self) -> &str {
        &self.id
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

    /// What is true of it, typed.
    pub(super) fn view(&self, now: Duration) -> KeyView<'_> {
        KeyView { id: &self.id, description: &self.description, usable: self.is_usable(now), used: self.used }
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

/// A key that is made by hand.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedKey {
    /// Whether more than one machine may join with it.
    pub reusable: bool,
    /// Whether those machines' devices go when they have been away for long.
    pub ephemeral: bool,
    /// Their tags.
    pub tags: Vec<String>,
}

impl Tailscale {
    pub(crate) fn plant_key(&mut self, cx: &mut Context, planted: PlantedKey) -> String {
        let PlantedKey { reusable, ephemeral, tags } = planted;
        let capabilities = Capabilities { reusable, ephemeral, preauthorized: true, tags };
        let id = self.add_key(cx, String::new(), capabilities, LONGEST_LIFE);
        self.keys[&id].secret.clone()
    }

    fn add_key(&mut self, cx: &mut Context, description: String, capabilities: Capabilities, life: i64) -> String {
        let id = format!("k{}CNTRL", cx.text(10, LETTERS));
        let secret = format!("tskey-auth-{id}-{}", cx.text(32, LETTERS));
        cx.note(What::SecretIssued { kind: SecretKind::AuthKey, text: secret.clone() });
        cx.note(What::KeyMade {
            id: id.clone(),
            description: description.clone(),
            reusable: capabilities.reusable,
            preauthorized: capabilities.preauthorized,
            tags: capabilities.tags.clone(),
        });
        let key = Key {
            id: id.clone(),
            secret,
            description,
            capabilities,
            created: cx.now,
            life: Duration::from_secs(life.unsigned_abs()),
            revoked: None,
            used: false,
        };
        self.keys.insert(id.clone(), key);
        id
    }

    pub(super) fn create_key(&mut self, cx: &mut Context, token: &Token, request: &Request<Bytes>) -> Response<Bytes> {
        if request.body().is_empty() {
            return tailscale_error(400, "unexpected end of JSON input");
        }
        let is_json = request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        // Whatever is not understood has this one text.
        let not_understood = || tailscale_error(400, "exactly one capability scope must be populated");
        let Ok(order) = serde_json::from_slice::<Order>(request.body()) else { return not_understood() };
        if !is_json {
            return not_understood();
        }
        if order.key_type.as_deref().is_some_and(|kind| kind != "auth") {
            // Credentials are made with scopes that no token here has.
            return tailscale_error(403, super::NOT_ALLOWED);
        }
        let Some(devices) = order.capabilities.and_then(|capabilities| capabilities.devices) else {
            return not_understood();
        };
        if let Some((status, message)) = &self.config.plan_refusal {
            return tailscale_error(*status, message);
        }
        let capabilities = devices.create.unwrap_or_default();
        let life = order.expiry_seconds.unwrap_or_default();
        let description = order.description.unwrap_or_default();
        if let Some(refusal) = self.objection(token, &capabilities, life, &description) {
            return refusal;
        }
        let life = if life == 0 { LONGEST_LIFE } else { life };
        let id = self.add_key(cx, description, capabilities, life);
        json_reply(200, &self.keys[&id].json(cx, true))
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
        let set = |tags: &[String]| tags.iter().cloned().collect::<BTreeSet<_>>();
        let whole = set(wanted) == set(&token.tags);
        let owned = |tag: &String| {
            self.config.tag_owners.get(tag).is_some_and(|owners| token.tags.iter().any(|held| owners.contains(held)))
        };
        wanted.iter().all(|tag| is_tag(tag)) && (whole || wanted.iter().all(owned))
    }

    pub(super) fn list_keys(&self, cx: &Context, request: &Request<Bytes>) -> Response<Bytes> {
        // One of active keys. Without `all`, a token of an OAuth client sees the clients and no auth keys.
        let all = query_of(request).iter().any(|(name, value)| name == "all" && value == "true");
        let shown = |key: &&Key| all && (key.is_usable(cx.now) || self.config.list_invalid_keys);
        let keys: Vec<Value> = self.keys.values().filter(shown).map(|key| key.json(cx, false)).collect();
        json_reply(200, &json!({ "keys": keys }))
    }

    pub(super) fn get_key(&self, cx: &Context, id: &str) -> Response<Bytes> {
        if !is_id(id) {
            return tailscale_error(400, "invalid key ID");
        }
        let shown = |key: &&Key| key.is_usable(cx.now) || !self.config.hide_invalid_keys;
        match self.keys.get(id).filter(shown) {
            Some(key) => json_reply(200, &key.json(cx, false)),
            None => tailscale_error(404, "key not found"),
        }
    }

    pub(super) fn revoke_key(&mut self, cx: &mut Context, id: &str) -> Response<Bytes> {
        if !is_id(id) {
            return tailscale_error(400, "invalid key ID");
        }
        let (hide, spent_is_gone) = (self.config.hide_invalid_keys, self.config.spent_key_is_gone);
        let gone =
            |key: &Key| !key.is_usable(cx.now) && (hide || (spent_is_gone && key.used && !key.capabilities.reusable));
        match self.keys.get_mut(id).filter(|key| !gone(key)) {
            Some(key) => {
                // The record stays; devices that joined with it do, too.
                if key.revoked.is_none() {
                    key.revoked = Some(cx.now);
                    cx.note(What::KeyRevoked { id: key.id.clone() });
                }
                json_reply(200, &Value::Null)
            }
            None => tailscale_error(404, "key not found"),
        }
    }
}

fn is_id(id: &str) -> bool {
    id.starts_with('k') && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `tag:`, a letter, and then letters, digits and hyphens.
fn is_tag(tag: &str) -> bool {
    tag.strip_prefix("tag:").is_some_and(|name| {
        name.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

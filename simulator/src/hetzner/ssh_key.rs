//! SSH keys, and the requests about them.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Value, json};

use super::Hetzner;
use super::query::{Query, paged, parse, value};
use super::routes::not_found;
use super::selector::Labels;
use crate::context::Context;
use crate::reply::{hetzner_error, json_reply, no_content};

/// An SSH key of the project.
#[derive(Clone, Debug)]
pub(super) struct SshKey {
    pub id: u64,
    pub name: String,
    pub public_key: String,
    pub labels: Labels,
    pub created: Duration,
}

impl SshKey {
    fn json(&self, cx: &Context) -> Value {
        // The real one is the MD5 of the key; any text of that form serves those who only show it.
        let print: Vec<String> = (0..16_u64).map(|part| format!("{:02x}", (self.id * 31 + part * 17) % 256)).collect();
        json!({
            "id": self.id, "name": self.name, "fingerprint": print.join(":"), "public_key": self.public_key,
            "labels": self.labels, "created": cx.timestamp_at(self.created),
        })
    }
}

impl Hetzner {
    pub(super) fn ssh_keys(
        &mut self,
        cx: &Context,
        method: &Method,
        rest: &[&str],
        query: &Query,
        body: &[u8],
    ) -> Response<Bytes> {
        match (method.as_str(), rest) {
            ("GET", []) => {
                let name = value(query, "name");
                let keys = self.ssh_keys.values().filter(|key| name.is_none_or(|name| key.name == name));
                paged("ssh_keys", keys.map(|key| key.json(cx)).collect(), query)
            }
            ("POST", []) => self.create_ssh_key(cx, body),
            ("GET", [id]) => match parse(id).and_then(|id| self.ssh_keys.get(&id)) {
                Some(key) => json_reply(200, &json!({ "ssh_key": key.json(cx) })),
                None => not_found("ssh key"),
            },
            ("DELETE", [id]) => match parse(id).and_then(|id| self.ssh_keys.remove(&id)) {
                Some(_) => no_content(),
                None => not_found("ssh key"),
            },
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }

    fn create_ssh_key(&mut self, cx: &Context, body: &[u8]) -> Response<Bytes> {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return hetzner_error(400, "json_error", "could not parse the request body as JSON", Value::Null);
        };
        let (Some(name), Some(public_key)) = (body["name"].as_str(), body["public_key"].as_str()) else {
            return hetzner_error(422, "invalid_input", "invalid input in field 'name'", json!({}));
        };
        for (field, taken) in [
            ("name", self.ssh_keys.values().any(|key| key.name == name)),
            ("public_key", self.ssh_keys.values().any(|key| key.public_key == public_key)),
        ] {
            if taken {
                let details = json!({ "fields": [{ "name": field }] });
                return hetzner_error(409, "uniqueness_error", "SSH key not unique", details);
            }
        }
        let id = self.next_key;
        self.next_key += 1;
        let labels = serde_json::from_value(body["labels"].clone()).unwrap_or_default();
        let key = SshKey { id, name: name.to_owned(), public_key: public_key.to_owned(), labels, created: cx.now };
        let answer = json_reply(201, &json!({ "ssh_key": key.json(cx) }));
        self.ssh_keys.insert(id, key);
        answer
    }
}

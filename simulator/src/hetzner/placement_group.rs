//! Placement groups, and the requests about them.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use serde_json::{Value, json};

use super::input::{Checked, in_use, invalid, read_body, read_labels, read_name};
use super::query::{Query, named, paged, parse, values, wanted};
use super::routes::not_found;
use super::selector::Labels;
use super::{Hetzner, Server};
use crate::context::Context;
use crate::reply::{hetzner_error, json_reply, no_content};

/// How many servers a group of the type `spread` holds (Hetzner's documentation, "Placement Groups", overview).
pub(super) const MOST_SERVERS: usize = 10;

/// A placement group of the project, of the only type that there is.
#[derive(Clone, Debug)]
pub(super) struct PlacementGroup {
    id: u64,
    name: String,
    labels: Labels,
    created: Duration,
}

named!(PlacementGroup);

impl Hetzner {
    pub(super) fn placement_groups(
        &mut self,
        cx: &Context,
        method: &Method,
        rest: &[&str],
        query: &Query,
        body: &[u8],
    ) -> Response<Bytes> {
        match (method.as_str(), rest) {
            ("GET", []) => match wanted(self.placement_groups.values(), query) {
                Ok(mut found) => {
                    let types = values(query, "type");
                    found.retain(|_| types.is_empty() || types.contains(&"spread"));
                    let found = found.into_iter().map(|group| self.placement_group_json(cx, group));
                    paged("placement_groups", found.collect(), query)
                }
                Err(refusal) => *refusal,
            },
            ("POST", []) => match self.create_placement_group(cx, body) {
                Ok(id) => {
                    let group = self.placement_group_json(cx, &self.placement_groups[&id]);
                    json_reply(201, &json!({ "placement_group": group, "action": null }))
                }
                Err(refusal) => *refusal,
            },
            ("GET", [id]) => match parse(id).and_then(|id| self.placement_groups.get(&id)) {
                Some(group) => json_reply(200, &json!({ "placement_group": self.placement_group_json(cx, group) })),
                None => not_found("placement group"),
            },
            ("DELETE", [id]) => match parse(id).filter(|id| self.placement_groups.contains_key(id)) {
                None => not_found("placement group"),
                // That its servers must go first, only third parties say (cdk-x, providers/hetzner/placement-group); the
                // code is that of firewalls.
                Some(id) if !self.servers_in_group(id).is_empty() => in_use("placement group", id),
                Some(id) => {
                    self.placement_groups.remove(&id);
                    no_content()
                }
            },
            _ => hetzner_error(405, "method_not_allowed", "method not allowed", Value::Null),
        }
    }

    pub(crate) fn create_placement_group(&mut self, cx: &Context, body: &[u8]) -> Checked<u64> {
        let body = read_body(body)?;
        let name = read_name(body.get("name"), "placement group", &self.placement_groups)?;
        if body.get("type").and_then(Value::as_str) != Some("spread") {
            return Err(invalid("type", "must be one of: spread").into());
        }
        let labels = read_labels(body.get("labels"))?;
        let id = self.next_binding;
        self.next_binding += 1;
        self.placement_groups.insert(id, PlacementGroup { id, name, labels, created: cx.now });
        Ok(id)
    }

    pub(super) fn placement_group_json(&self, cx: &Context, group: &PlacementGroup) -> Value {
        json!({
            "id": group.id, "name": group.name, "labels": group.labels, "type": "spread",
            "created": cx.timestamp_at(group.created), "servers": self.servers_in_group(group.id),
        })
    }

    pub(super) fn servers_in_group(&self, id: u64) -> Vec<u64> {
        let is_in = |server: &&Server| server.placement_group == Some(id);
        self.servers.values().filter(is_in).map(|server| server.id).collect()
    }
}

//! Actions, and the requests that read them (`facts/hetzner.md` 2).

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::Hetzner;
use super::query::{Query, paged, parse, values};
use super::routes::not_found;
use crate::context::Context;
use crate::reply::{hetzner_error, json_reply, object};

/// `GET /actions` answers for no more ids than this.
const MOST_ACTION_IDS: usize = 25;

/// One action.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub id: u64,
    pub command: &'static str,
    /// What it works on, with the kind of each: its server, if it has one, stands first.
    pub resources: Vec<(u64, &'static str)>,
    /// The create that it follows. On the wire, though in no document.
    pub parent: Option<u64>,
    pub started: Duration,
    pub state: ActionState,
}

/// How it stands.
#[derive(Clone, Debug)]
pub(crate) enum ActionState {
    Running,
    Success(Duration),
    Error(Duration, String, String),
}

impl Action {
    /// The server that it works on.
    pub(crate) fn server(&self) -> Option<u64> {
        self.one("server")
    }

    /// The thing of this kind that it works on.
    pub(crate) fn one(&self, kind: &str) -> Option<u64> {
        self.resources.iter().find(|(_, its)| *its == kind).map(|(id, _)| *id)
    }

    /// As the API writes it.
    pub(crate) fn json(&self, cx: &Context) -> Value {
        let (status, progress, finished, error) = match &self.state {
            ActionState::Running => ("running", 0, None, Value::Null),
            ActionState::Success(at) => ("success", 100, Some(*at), Value::Null),
            ActionState::Error(at, code, message) => {
                ("error", 100, Some(*at), json!({ "code": code, "message": message }))
            }
        };
        let resources: Vec<Value> = self.resources.iter().map(|(id, kind)| json!({ "id": id, "type": kind })).collect();
        let mut json = json!({
            "id": self.id, "command": self.command, "status": status, "progress": progress,
            "started": cx.timestamp_at(self.started), "finished": finished.map(|at| cx.timestamp_at(at)),
            "resources": resources, "error": error,
        });
        if let Some(parent) = self.parent {
            json["parent_id"] = json!(parent);
        }
        json
    }
}

impl Hetzner {
    pub(super) fn get_action(&self, cx: &Context, id: &str) -> Response<Bytes> {
        match parse(id).and_then(|id| self.actions.get(&id)) {
            Some(action) => json_reply(200, &json!({ "action": action.json(cx) })),
            None => not_found("action"),
        }
    }

    pub(super) fn get_actions(&self, cx: &Context, query: &Query) -> Response<Bytes> {
        let ids = values(query, "id");
        if ids.is_empty() {
            let details = json!({ "fields": [{ "name": "id", "messages": ["Missing data for required field."] }] });
            return hetzner_error(422, "invalid_input", "invalid input in field 'id'", details);
        }
        // Unknown ids are simply not there, and so are those beyond the cap.
        let found = ids.into_iter().take(MOST_ACTION_IDS).filter_map(parse).filter_map(|id| self.actions.get(&id));
        let actions: Vec<Value> = found.map(|action| action.json(cx)).collect();
        json_reply(200, &object([("actions", Value::Array(actions))]))
    }

    pub(super) fn list_actions(&self, cx: &Context, query: &Query, server: Option<u64>) -> Response<Bytes> {
        let (ids, statuses) = (values(query, "id"), values(query, "status"));
        let fits = |action: &&Action| {
            let json = action.json(cx);
            server.is_none_or(|server| action.server() == Some(server))
                && (ids.is_empty() || ids.iter().any(|id| parse(id) == Some(action.id)))
                && (statuses.is_empty() || statuses.iter().any(|status| json["status"] == *status))
        };
        paged("actions", self.actions.values().filter(fits).map(|action| action.json(cx)).collect(), query)
    }
}

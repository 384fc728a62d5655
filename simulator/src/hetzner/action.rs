//! Actions (`facts/hetzner.md` 2).

use std::time::Duration;

use serde_json::{Value, json};

use crate::context::Context;

/// One action.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub id: u64,
    pub command: &'static str,
    pub server: u64,
    /// Shown beside the server where a create uses one.
    pub image: Option<u64>,
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
    /// As the API writes it.
    pub(crate) fn json(&self, cx: &Context) -> Value {
        let (status, progress, finished, error) = match &self.state {
            ActionState::Running => ("running", 0, None, Value::Null),
            ActionState::Success(at) => ("success", 100, Some(*at), Value::Null),
            ActionState::Error(at, code, message) => {
                ("error", 100, Some(*at), json!({ "code": code, "message": message }))
            }
        };
        let mut resources = vec![json!({ "id": self.server, "type": "server" })];
        resources.extend(self.image.map(|id| json!({ "id": id, "type": "image" })));
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

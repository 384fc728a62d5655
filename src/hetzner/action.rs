//! Actions: what Hetzner is still doing (`facts/hetzner.md` 2).

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use super::server::is_id;
use super::{Hetzner, HetznerError, ServerId, decode, found};
use crate::transport::{Document, Repeat, Within, clean};

/// More ids in one request might be left out of the answer without a word.
pub(super) const IDS_PER_REQUEST: usize = 25;

/// The id of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub u64);

/// One action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its id.
    pub id: ActionId,
    /// What it does, such as `create_server`. Free text.
    pub command: String,
    /// How it stands.
    pub status: ActionStatus,
}

/// How an action stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionStatus {
    /// Still at work. Unknown states count as this, whatever the progress says (fault M04).
    Running,
    /// Done.
    Success,
    /// Failed, with Hetzner's code and text. What it worked on still exists.
    Error {
        /// Hetzner's code; may be empty.
        code: String,
        /// Hetzner's text, cleaned; may be empty.
        message: String,
    },
}

/// What changes a server's power. To press one again changes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerSwitch {
    /// Gives it power.
    On,
    /// Asks the machine to shut down, which it may ignore.
    Shutdown,
    /// Cuts the power.
    Off,
}

impl PowerSwitch {
    fn path(self) -> &'static str {
        match self {
            Self::On => "poweron",
            Self::Shutdown => "shutdown",
            Self::Off => "poweroff",
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireAction {
    id: u64,
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<WireActionError>,
}

#[derive(Deserialize, Default)]
struct WireActionError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl TryFrom<WireAction> for Action {
    type Error = HetznerError;

    fn try_from(wire: WireAction) -> Result<Self, HetznerError> {
        if !is_id(wire.id) {
            return Err(HetznerError::unreadable("action", "the id is out of range"));
        }
        let status = match wire.status.as_deref() {
            Some("success") => ActionStatus::Success,
            Some("error") => {
                let error = wire.error.unwrap_or_default();
                ActionStatus::Error {
                    code: clean(&error.code.unwrap_or_default()),
                    message: clean(&error.message.unwrap_or_default()),
                }
            }
            _ => ActionStatus::Running,
        };
        Ok(Self { id: ActionId(wire.id), command: clean(&wire.command.unwrap_or_default()), status })
    }
}

#[derive(Deserialize)]
struct Actions {
    actions: Vec<WireAction>,
}

#[derive(Deserialize)]
struct Begun {
    action: WireAction,
}

impl Hetzner {
    /// How these actions stand. Actions that Hetzner does not know any more are left out.
    pub async fn get_actions(&self, ids: &[ActionId], within: Within) -> Result<Vec<Action>, HetznerError> {
        let mut all = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(IDS_PER_REQUEST) {
            let texts: Vec<String> = chunk.iter().map(|id| id.0.to_string()).collect();
            let query: Vec<(&str, &str)> = texts.iter().map(|id| ("id", id.as_str())).collect();
            let draft = self.draft(Method::GET, "/actions", &query);
            let Actions { actions } = self.fetch("get actions", draft, within).await?;
            for action in actions {
                all.push(action.try_into()?);
            }
        }
        Ok(all)
    }

    /// One action, with all that Hetzner says of it; nothing if Hetzner does not know it.
    pub async fn find_action(&self, id: ActionId, within: Within) -> Result<Option<(Action, Document)>, HetznerError> {
        let draft = self.draft(Method::GET, &format!("/actions/{}", id.0), &[]);
        let read = |answer: &http::Response<Bytes>| {
            let Begun { action } = decode(answer)?;
            Ok((Action::try_from(action)?, Document::of(answer)))
        };
        match found(self.send("get action", Repeat::Safe, draft, within, read).await)? {
            Some(found) if found.0.id != id => {
                Err(HetznerError::unreadable("get action", "the answer is about another action"))
            }
            found => Ok(found),
        }
    }

    /// Presses a power switch. The action's success says that it was pressed; how the server stands is for a read to tell.
    pub async fn press(&self, server: ServerId, switch: PowerSwitch, within: Within) -> Result<Action, HetznerError> {
        let draft = self.draft(Method::POST, &format!("/servers/{server}/actions/{}", switch.path()), &[]);
        let Begun { action } = self.fetch(switch.path(), draft, within).await?;
        action.try_into()
    }

    /// All actions of a server that Hetzner remembers, for when the create's own answer was lost.
    pub async fn list_server_actions(&self, server: ServerId, within: Within) -> Result<Vec<Action>, HetznerError> {
        let draft = self.draft(Method::GET, &format!("/servers/{server}/actions"), &[("per_page", "50")]);
        let Actions { actions } = self.fetch("list server actions", draft, within).await?;
        actions.into_iter().map(Action::try_from).collect()
    }
}

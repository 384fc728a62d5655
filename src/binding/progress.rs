//! Events and minted secrets, handed to JavaScript in order and without waiting for it.

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

use super::output::{Price, milliseconds, number};
use crate::provision::{Detail, Event, Observer};
use crate::secret::Secret;

/// One thing that happened, for `onProgress` and the log.
#[napi(object)]
pub struct ProgressEvent {
    /// Of many jobs: the place in the list of the one that it is about.
    pub index: Option<u32>,
    /// Where the call stands; `index.d.ts` has the list.
    pub step: String,
    /// Who speaks.
    #[napi(ts_type = "'ProvisionVM' | 'Hetzner' | 'Tailscale' | 'CloudInit'")]
    pub scope: String,
    /// `warn` for what a person should look at.
    #[napi(ts_type = "'info' | 'warn'")]
    pub level: String,
    /// One line, without any secret.
    pub message: String,
    /// What the line says, as data.
    pub detail: EventDetail,
    /// The attempt that it is about, once there is one: the label `attempt` of its server.
    pub attempt: Option<String>,
    /// Milliseconds since the call began.
    pub elapsed_ms: f64,
    /// The server's name.
    pub server_name: Option<String>,
    /// The server's id, as soon as it is known.
    pub server_id: Option<f64>,
    /// The server's address, as soon as it is known.
    pub server_ip: Option<String>,
    /// The address in the tailnet, as soon as it is known.
    pub tailscale_ip: Option<String>,
}

impl From<Event> for ProgressEvent {
    fn from(event: Event) -> Self {
        Self {
            index: None,
            step: event.step.as_str().to_owned(),
            scope: event.scope.as_str().to_owned(),
            level: if event.is_warning { "warn" } else { "info" }.to_owned(),
            message: event.message,
            detail: event.detail.into(),
            attempt: event.attempt,
            elapsed_ms: milliseconds(event.elapsed),
            server_name: event.known.server_name,
            server_id: event.known.server_id.map(number),
            server_ip: event.known.server_ip.map(|ip| ip.to_string()),
            tailscale_ip: event.known.tailscale_ip.map(|ip| ip.to_string()),
        }
    }
}

/// What an event says, as data. Which fields there are, its kind decides; `index.d.ts` has them by kind.
#[napi(object)]
#[derive(Default)]
pub struct EventDetail {
    /// `note`, `step`, `candidate`, `server`, `waiting`, `enrolled`, `undo`, `removed` or `left`.
    pub kind: String,
    /// The server type that was considered.
    pub server_type: Option<String>,
    /// Where.
    pub location: Option<String>,
    /// Why it was not taken.
    pub refused: Option<String>,
    /// What it costs.
    pub price: Option<Price>,
    /// What stands in the way, or why something is undone or left.
    pub why: Option<String>,
    /// The device's older, decimal id.
    pub device_id: Option<String>,
    /// The device's preferred id.
    pub node_id: Option<String>,
    /// `server`, `device`, `auth_key` or `primary_ip`.
    pub resource: Option<String>,
    /// The id of what is gone or left.
    pub id: Option<String>,
    /// The name of what is left.
    pub name: Option<String>,
}

impl From<Detail> for EventDetail {
    fn from(detail: Detail) -> Self {
        let of = |kind: &str| Self { kind: kind.to_owned(), ..Self::default() };
        match detail {
            Detail::Note => of("note"),
            Detail::Step => of("step"),
            Detail::Candidate { tried, price } => Self {
                server_type: Some(tried.server_type),
                location: Some(tried.location),
                refused: tried.refused,
                price: price.map(Into::into),
                ..of("candidate")
            },
            Detail::Server => of("server"),
            Detail::Waiting(why) => Self { why: Some(why.to_owned()), ..of("waiting") },
            Detail::Enrolled { device_id, node_id } => {
                Self { device_id: Some(device_id), node_id: Some(node_id), ..of("enrolled") }
            }
            Detail::Undo(why) => Self { why: Some(why), ..of("undo") },
            Detail::Removed(kind, id) => {
                Self { resource: Some(kind.as_str().to_owned()), id: Some(id), ..of("removed") }
            }
            Detail::Left(left) => Self {
                resource: Some(left.kind.as_str().to_owned()),
                why: Some(left.reason()),
                id: left.id,
                name: left.name,
                ..of("left")
            },
        }
    }
}

/// A callback that neither holds the process nor reports to the callee. `null` is its last call: what came before it
/// has arrived.
pub(super) type Callback<T> = ThreadsafeFunction<Option<T>, (), Option<T>, Status, false, true>;

/// Hands everything to two callbacks, where there is somebody who listens.
pub(super) struct Listener {
    pub on_event: Option<Callback<ProgressEvent>>,
    pub on_secret: Option<Callback<String>>,
}

impl Listener {
    /// Tells what happened, if anybody wants to hear it.
    pub(super) fn hears(&self, event: impl FnOnce() -> ProgressEvent) {
        if let Some(on_event) = &self.on_event {
            on_event.call(Some(event()), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// Ends when both callbacks have had everything. Calls are queued, so a promise could settle before them.
    pub(super) async fn flush(&self) {
        // A process that is ending has nobody left to call; there is nothing to be done about it.
        if let Some(on_secret) = &self.on_secret {
            let _ = on_secret.call_async(None).await;
        }
        if let Some(on_event) = &self.on_event {
            let _ = on_event.call_async(None).await;
        }
    }
}

impl Observer for Listener {
    fn event(&self, event: Event) {
        self.hears(|| event.into());
    }

    fn secret(&self, secret: &Secret) {
        if let Some(on_secret) = &self.on_secret {
            on_secret.call(Some(secret.expose().to_owned()), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

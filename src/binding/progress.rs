//! Events and minted secrets, handed to JavaScript in order and without waiting for it.

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

use super::output::{milliseconds, number};
use crate::provision::{Event, Observer};
use crate::secret::Secret;

/// One thing that happened, for `onProgress` and the log.
#[napi(object)]
pub struct ProgressEvent {
    /// Where the job stands: `validate`, `lookup`, `follow`, `auth_key`, `first_boot`, `server`, `wait`, `verify`,
    /// `ready` or `undo`.
    pub step: String,
    /// Who speaks.
    #[napi(ts_type = "'ProvisionVM' | 'Hetzner' | 'Tailscale' | 'CloudInit'")]
    pub scope: String,
    /// `warn` for what a person should look at.
    #[napi(ts_type = "'info' | 'warn'")]
    pub level: String,
    /// One line, without any secret.
    pub message: String,
    /// Milliseconds since the call began.
    pub elapsed_ms: f64,
    /// The server's name.
    pub server_name: Option<String>,
    /// The server's id, as soon as it is known.
    pub server_id: Option<f64>,
    /// The server's public address, as soon as it is known.
    pub server_ip: Option<String>,
    /// The address in the tailnet, as soon as it is known.
    pub tailscale_ip: Option<String>,
}

impl From<Event> for ProgressEvent {
    fn from(event: Event) -> Self {
        Self {
            step: event.step.as_str().to_owned(),
            scope: event.scope.as_str().to_owned(),
            level: if event.is_warning { "warn" } else { "info" }.to_owned(),
            message: event.message,
            elapsed_ms: milliseconds(event.elapsed),
            server_name: event.known.server_name,
            server_id: event.known.server_id.map(number),
            server_ip: event.known.server_ip.map(|ip| ip.to_string()),
            tailscale_ip: event.known.tailscale_ip.map(|ip| ip.to_string()),
        }
    }
}

/// A callback that neither holds the process nor reports to the callee. `null` is its last call: what came before it
/// has arrived.
pub(super) type Callback<T> = ThreadsafeFunction<Option<T>, (), Option<T>, Status, false, true>;

/// Hands everything to two callbacks.
pub(super) struct Listener {
    pub on_event: Callback<ProgressEvent>,
    pub on_secret: Callback<String>,
}

impl Listener {
    /// Ends when both callbacks have had everything. Calls are queued, so a promise could settle before them.
    pub(super) async fn flush(&self) {
        // A process that is ending has nobody left to call; there is nothing to be done about it.
        let _ = self.on_secret.call_async(None).await;
        let _ = self.on_event.call_async(None).await;
    }
}

impl Observer for Listener {
    fn event(&self, event: Event) {
        self.on_event.call(Some(event.into()), ThreadsafeFunctionCallMode::NonBlocking);
    }

    fn secret(&self, secret: &Secret) {
        self.on_secret.call(Some(secret.expose().to_owned()), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

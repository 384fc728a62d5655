//! Events and minted secrets, handed to JavaScript in order and without waiting for it.

use std::sync::{Arc, OnceLock};

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde_json::{Value, json};

use super::input::Trace;
use super::output::{Price, milliseconds, number};
use crate::provision::{Attribute, Detail, Event, Observer, Span, TraceContext, Tracer};
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
    /// Nothing that happened, but a span that ended, as JSON text.
    pub span: Option<String>,
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
            span: None,
        }
    }
}

impl From<Span> for ProgressEvent {
    fn from(span: Span) -> Self {
        Self {
            index: None,
            step: String::new(),
            scope: String::new(),
            level: String::new(),
            message: String::new(),
            detail: EventDetail::default(),
            attempt: None,
            elapsed_ms: 0.0,
            server_name: None,
            server_id: None,
            server_ip: None,
            tailscale_ip: None,
            span: Some(otlp(&span)),
        }
    }
}

/// A span as OTLP writes it in JSON: what collectors take, and what JavaScript hands on.
fn otlp(span: &Span) -> String {
    let value = |value: &Attribute| match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        // In OTLP's JSON 64 bits are text.
        Attribute::Number(number) => json!({ "intValue": number.to_string() }),
    };
    let attributes: Vec<Value> =
        span.attributes.iter().map(|(key, it)| json!({ "key": key, "value": value(it) })).collect();
    // SPAN_KIND_CLIENT and SPAN_KIND_INTERNAL; STATUS_CODE_ERROR and STATUS_CODE_UNSET.
    let kind = if span.is_client { 3 } else { 1 };
    let status = span.error.as_ref().map_or_else(|| json!({}), |why| json!({ "code": 2, "message": why }));
    json!({
        "traceId": span.trace, "spanId": span.id, "parentSpanId": span.parent.as_deref().unwrap_or_default(),
        "name": span.name, "kind": kind, "attributes": attributes, "status": status,
        "startTimeUnixNano": span.began.as_nanos().to_string(), "endTimeUnixNano": span.ended.as_nanos().to_string(),
    })
    .to_string()
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
    on_event: Option<Callback<ProgressEvent>>,
    on_secret: Option<Callback<String>>,
    /// Set once it is known that spans are asked for.
    tracer: OnceLock<Arc<Tracer>>,
}

impl Listener {
    pub(super) fn new(on_event: Option<Callback<ProgressEvent>>, on_secret: Option<Callback<String>>) -> Arc<Self> {
        Arc::new(Self { on_event, on_secret, tracer: OnceLock::new() })
    }

    /// From here on the call is traced, as a part of somebody's span if that is named.
    pub(super) fn trace(self: &Arc<Self>, Trace { name, within, job }: Trace) {
        let tracer = self.new_tracer(name, within);
        for (name, id) in job {
            tracer.note(name, id.as_str());
        }
        // It is set but once.
        let _ = self.tracer.set(tracer);
    }

    /// The spans of a part of the call, which hear the same ears.
    pub(super) fn part(self: &Arc<Self>, name: &str) -> Option<Arc<Tracer>> {
        let context = self.tracer.get()?.context().clone();
        Some(self.new_tracer(name.to_owned(), Some(context)))
    }

    fn new_tracer(self: &Arc<Self>, name: String, within: Option<TraceContext>) -> Arc<Tracer> {
        // The tracer is the listener's own, and must not keep it alive.
        let ears = Arc::downgrade(self);
        let hear = move |span: Span| {
            if let Some(listener) = ears.upgrade() {
                listener.hears(|| span.into());
            }
        };
        Arc::new(Tracer::begin(name, within, Box::new(hear)))
    }

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

    fn tracer(&self) -> Option<Arc<Tracer>> {
        self.tracer.get().cloned()
    }
}

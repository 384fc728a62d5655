//! The forms in which the faults of class G come: what can befall any request, whatever it asks for.

use provision_vm::provision::Code;
use serde_json::{Value, json};
use simulator::{Api, FaultKind};

use crate::wire::Mishap;

/// What a fault says about the request that it befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It was surely not sent; the next one may be.
    Unsent,
    /// It was sent and not applied, but the sender cannot know that.
    Unapplied,
    /// It was applied, but the sender cannot know that.
    Applied,
    /// Refused for now: surely not applied.
    Refused,
    /// Another try would meet the same.
    Final,
    /// An answer that has to be understood.
    Harmless,
}

impl Nature {
    /// Whether one such fault must be survived.
    pub fn is_passing(self) -> bool {
        self != Self::Final
    }
}

/// One form of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The row that it belongs to.
    pub row: &'static str,
    pub name: &'static str,
    pub nature: Nature,
    /// The code of a call that cannot do without the answer.
    pub code: Code,
    /// What happens; nothing where the API does not know such an answer.
    pub mishap: fn(Api) -> Option<Mishap>,
}

/// Every form of class G that can befall any request.
pub const FORMS: &[Form] = &[
    form("G01", "connection refused", Nature::Unsent, Code::Unreachable, |_| fault(FaultKind::Refuse)),
    form("G02", "name not resolved", Nature::Unsent, Code::Unreachable, |_| fault(FaultKind::Dns)),
    form("G03", "handshake cut", Nature::Unsent, Code::Unreachable, |_| fault(FaultKind::TlsCut)),
    form("G04", "certificate refused", Nature::Final, Code::Tls, |_| fault(FaultKind::TlsInvalid)),
    form("G05", "no connection in time", Nature::Unsent, Code::Unreachable, |_| fault(FaultKind::ConnectTimeout)),
    form("G06", "silence, not applied", Nature::Unapplied, Code::Upstream, |_| fault(FaultKind::HangBeforeApply)),
    form("G06", "silence, applied", Nature::Applied, Code::Upstream, |_| fault(FaultKind::HangAfterApply)),
    form("G07", "an answer that takes 90 s", Nature::Applied, Code::Upstream, |_| {
        fault(FaultKind::Slow { ms: 90_000 })
    }),
    form("G07", "an answer that takes 4 s", Nature::Harmless, Code::Upstream, |_| fault(FaultKind::Slow { ms: 4_000 })),
    form("G08", "reset, not applied", Nature::Unapplied, Code::Upstream, |_| fault(FaultKind::ResetBeforeApply)),
    form("G08", "reset, applied", Nature::Applied, Code::Upstream, |_| fault(FaultKind::ResetAfterApply)),
    form("G08", "reset, applied 3 s later", Nature::Applied, Code::Upstream, |_| {
        fault(FaultKind::ResetThenApply { after_ms: 3_000 })
    }),
    form("G08", "reset in the middle of the body", Nature::Applied, Code::Upstream, |_| fault(FaultKind::Truncate)),
    form("G09", "400 json_error", Nature::Final, Code::Protocol, |api| refusal(api, 400, "json_error")),
    form("G10", "401 of Hetzner", Nature::Final, Code::AuthHetzner, |api| {
        (api == Api::Hetzner).then(|| refusal(api, 401, "unauthorized")).flatten()
    }),
    form("G11", "401 of Tailscale", Nature::Final, Code::AuthTailscale, |api| {
        (api != Api::Hetzner).then(|| refusal(api, 401, "")).flatten()
    }),
    form("G12", "403 forbidden", Nature::Final, Code::Forbidden, |api| refusal(api, 403, "forbidden")),
    form("G13", "403 maintenance", Nature::Refused, Code::Upstream, |api| at_hetzner(api, 403, "maintenance")),
    form("G16", "409 conflict", Nature::Refused, Code::Upstream, |api| at_hetzner(api, 409, "conflict")),
    form("G17", "410 deprecated_api_endpoint", Nature::Final, Code::ApiRemoved, |api| {
        at_hetzner(api, 410, "deprecated_api_endpoint")
    }),
    form("G18", "422", Nature::Final, Code::Protocol, |api| refusal(api, 422, "invalid_input")),
    form("G19", "423 locked", Nature::Refused, Code::Upstream, |api| at_hetzner(api, 423, "locked")),
    form("G20", "429, reset in an hour", Nature::Refused, Code::RateLimited, |_| {
        fault(FaultKind::RateLimited { with_headers: true })
    }),
    form("G21", "429 without headers", Nature::Refused, Code::RateLimited, |_| {
        fault(FaultKind::RateLimited { with_headers: false })
    }),
    form("G22", "429 as a page of HTML", Nature::Refused, Code::RateLimited, |_| page(429, false)),
    form("G23", "429, Retry-After: 2", Nature::Refused, Code::RateLimited, |api| retry_after(api, "2")),
    form("G23", "429, Retry-After: -5", Nature::Refused, Code::RateLimited, |api| retry_after(api, "-5")),
    form("G23", "429, Retry-After: soon", Nature::Refused, Code::RateLimited, |api| retry_after(api, "soon")),
    form("G23", "429, Retry-After: 1000000000", Nature::Refused, Code::RateLimited, |api| {
        retry_after(api, "1000000000")
    }),
    form("G23", "429, Retry-After: a date far ahead", Nature::Refused, Code::RateLimited, |api| {
        retry_after(api, "Wed, 23 Nov 2033 10:00:00 GMT")
    }),
    form("G24", "500, not applied", Nature::Unapplied, Code::Upstream, |api| refusal(api, 500, "server_error")),
    form("G24", "502 of a proxy, applied", Nature::Applied, Code::Upstream, |_| page(502, true)),
    form("G24", "503, not applied", Nature::Unapplied, Code::Upstream, |api| refusal(api, 503, "unavailable")),
    form("G24", "504 of a proxy, not applied", Nature::Unapplied, Code::Upstream, |_| page(504, false)),
    form("G24", "520, empty, applied", Nature::Applied, Code::Upstream, |_| answer(520, None, Some(""), true)),
    form("G25", "200, JSON cut short", Nature::Applied, Code::Protocol, |_| {
        Some(Mishap::Bytes(|body| body[..body.len() / 2].to_vec()))
    }),
    form("G26", "200, a page of HTML", Nature::Applied, Code::Protocol, |_| fault(FaultKind::Html)),
    form("G27", "200, empty", Nature::Applied, Code::Protocol, |_| fault(FaultKind::Empty)),
    form("G27", "200, null", Nature::Applied, Code::Protocol, |_| Some(Mishap::Twist(|body| *body = Value::Null))),
    form("G27", "200, another root", Nature::Applied, Code::Protocol, |_| {
        Some(Mishap::Twist(|body| *body = json!([7])))
    }),
    form("G28", "64 MiB", Nature::Final, Code::Protocol, |_| fault(FaultKind::Oversize)),
    form("G28", "nested 100,000 deep", Nature::Applied, Code::Protocol, |_| {
        Some(Mishap::Bytes(|_| vec![b'['; 100_000]))
    }),
    form("G28", "no UTF-8", Nature::Applied, Code::Protocol, |_| {
        Some(Mishap::Bytes(|body| body.iter().map(|byte| if *byte == b'"' { 0xff } else { *byte }).collect()))
    }),
    form("G29", "302 to elsewhere", Nature::Final, Code::Protocol, |_| {
        let headers = vec![("location".to_owned(), "https://elsewhere.example/".to_owned())];
        let (status, json, text, content_type) = (302, None, Some(String::new()), None);
        fault(FaultKind::Answer { status, json, text, content_type, headers, apply: false })
    }),
    form("G30", "unknown fields and states", Nature::Harmless, Code::Protocol, |_| Some(Mishap::Twist(embellish))),
];

const fn form(
    row: &'static str,
    name: &'static str,
    nature: Nature,
    code: Code,
    mishap: fn(Api) -> Option<Mishap>,
) -> Form {
    Form { row, name, nature, code, mishap }
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all forms")]
fn fault(kind: FaultKind) -> Option<Mishap> {
    Some(Mishap::Fault(kind))
}

pub fn answer(status: u16, json: Option<Value>, text: Option<&str>, apply: bool) -> Option<Mishap> {
    let (text, content_type, headers) = (text.map(str::to_owned), None, Vec::new());
    fault(FaultKind::Answer { status, json, text, content_type, headers, apply })
}

/// A refusal in the API's own shape; Tailscale knows no codes.
pub fn refusal(api: Api, status: u16, code: &str) -> Option<Mishap> {
    answer(status, Some(refusal_body(api, code)), None, false)
}

fn refusal_body(api: Api, code: &str) -> Value {
    if api == Api::Hetzner {
        json!({ "error": { "code": code, "message": "no", "details": null } })
    } else {
        json!({ "message": "no" })
    }
}

fn at_hetzner(api: Api, status: u16, code: &str) -> Option<Mishap> {
    (api == Api::Hetzner).then(|| refusal(api, status, code)).flatten()
}

fn page(status: u16, apply: bool) -> Option<Mishap> {
    answer(status, None, Some("<html><body>This is no API</body></html>"), apply)
}

fn retry_after(api: Api, value: &str) -> Option<Mishap> {
    let json = Some(refusal_body(api, "rate_limit_exceeded"));
    let headers = vec![("retry-after".to_owned(), value.to_owned())];
    let (status, text, content_type, apply) = (429, None, None, false);
    fault(FaultKind::Answer { status, json, text, content_type, headers, apply })
}

/// What a later version of an API may add.
fn embellish(body: &mut Value) {
    match body {
        Value::Object(fields) => {
            // Labels are the customer's, not the API's.
            fields.iter_mut().filter(|(name, _)| *name != "labels").for_each(|(_, value)| embellish(value));
            fields.insert("a_new_field".to_owned(), json!({ "deeply": [1, null, { "new": true }] }));
        }
        Value::Array(items) => items.iter_mut().for_each(embellish),
        Value::String(text) if text == "initializing" => "orbiting".clone_into(text),
        _ => {}
    }
}

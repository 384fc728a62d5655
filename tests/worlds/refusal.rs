//! Refusals in the APIs' own form. Unlike a page of something in between they are definite: what is refused was not done.
//!
//! Hetzner's are those of its error table, Tailscale's its texts. Two are never drawn: a 404 for a single thing that may
//! stand, and a `uniqueness_error` for a name that may be free. The clouds say both by themselves where they are true; a
//! cloud that lies about what exists leaves nobody a way to know what it has to remove.

use http::{Method, Request};
use serde_json::{Value, json};
use simulator::FaultKind;

/// Status, code and text.
type Refusal = (u16, &'static str, &'static str);

/// What Hetzner may say to any request.
const ANYWHERE: [Refusal; 5] = [
    (401, "unauthorized", "the token you have provided is invalid"),
    (403, "forbidden", "insufficient permissions for this request"),
    (403, "maintenance", "cannot perform operation due to maintenance"),
    (409, "conflict", "the resource has changed during the request, please retry"),
    (429, "rate_limit_exceeded", "limit of 3600 requests per hour reached"),
];
const LOCKED: Refusal = (423, "locked", "cannot perform operation because server is locked");
const PROTECTED: Refusal = (423, "protected", "server deletion is protected");
const INVALID: Refusal = (422, "invalid_input", "invalid input in field");
/// An order names what may be gone: an image, a key.
const ORDER: [Refusal; 6] = [
    LOCKED,
    INVALID,
    (403, "resource_limit_exceeded", "server limit exceeded"),
    (404, "not_found", "image not found"),
    (412, "resource_unavailable", "error during placement"),
    (422, "placement_error", "error during placement"),
];
/// Hetzner forgets actions.
const ACTIONS: [Refusal; 1] = [(404, "not_found", "action not found")];
const BROKEN: [Refusal; 4] = [
    (500, "server_error", "an internal server error occurred"),
    (502, "bad_gateway", "bad gateway"),
    (503, "unavailable", "service unavailable"),
    (504, "timeout", "timeout"),
];

const TEXTS: [(u16, &str); 5] = [
    (400, "exactly one capability scope must be populated"),
    (401, "API token invalid"),
    (403, "calling actor does not have enough permissions to perform this function"),
    (429, "rate limit exceeded"),
    (404, "tailnet \"-\" not found"),
];

/// A refusal of this very request. `may_be_gone` says that what it asks for may have been deleted before: only what stands
/// is protected.
pub fn refusal(rng: &mut fastrand::Rng, request: &Request<bytes::Bytes>, may_be_gone: bool) -> FaultKind {
    let (status, json) = if is_hetzners(request) {
        let (status, code, message) = hetzner(rng, request, may_be_gone);
        (status, hetzner_error(rng, code, message))
    } else {
        let names_one = ["/device/", "/keys/"].iter().any(|part| request.uri().path().contains(part));
        let texts = if names_one { &TEXTS[..4] } else { &TEXTS[..] };
        let (status, message) = texts[rng.usize(0..texts.len())];
        (status, json!({ "message": message }))
    };
    answer(rng, status, json, false)
}

/// The API itself is broken. It says so, but not whether it did before what was asked.
pub fn breakdown(rng: &mut fastrand::Rng, request: &Request<bytes::Bytes>) -> FaultKind {
    let (status, code, message) = BROKEN[rng.usize(0..BROKEN.len())];
    let json = if is_hetzners(request) { hetzner_error(rng, code, message) } else { json!({ "message": message }) };
    let apply = rng.bool();
    let mut broken = answer(rng, status, json, apply);
    // It shows the request that broke it, where somebody might look for a request's id.
    if let (FaultKind::Answer { headers, .. }, Some(credential)) = (&mut broken, credential_of(request)) {
        headers
            .extend(["x-correlation-id", "x-tailscale-request-id"].map(|name| (name.to_owned(), credential.clone())));
    }
    broken
}

fn credential_of(request: &Request<bytes::Bytes>) -> Option<String> {
    request.headers().get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

fn is_hetzners(request: &Request<bytes::Bytes>) -> bool {
    request.uri().path().starts_with("/v1")
}

fn hetzner(rng: &mut fastrand::Rng, request: &Request<bytes::Bytes>, may_be_gone: bool) -> Refusal {
    let path = request.uri().path();
    let further: &[Refusal] = match *request.method() {
        Method::POST if path == "/v1/servers" => &ORDER,
        Method::POST | Method::PUT => &[LOCKED, INVALID],
        Method::DELETE if may_be_gone => &[LOCKED],
        Method::DELETE => &[LOCKED, PROTECTED],
        _ if path.contains("/actions") => &ACTIONS,
        _ => &[INVALID],
    };
    // What is particular to a request is as likely as all else together.
    if rng.bool() { further[rng.usize(0..further.len())] } else { ANYWHERE[rng.usize(0..ANYWHERE.len())] }
}

fn hetzner_error(rng: &mut fastrand::Rng, code: &str, message: &str) -> Value {
    let mut error = json!({ "code": code, "message": message });
    // All three occur.
    match rng.u8(0..3) {
        0 => error["details"] = Value::Null,
        1 => error["details"] = json!({}),
        _ => {}
    }
    json!({ "error": error })
}

fn answer(rng: &mut fastrand::Rng, status: u16, json: Value, apply: bool) -> FaultKind {
    let headers = crate::weather::wish_to_wait(rng);
    FaultKind::Answer { status, json: Some(json), text: None, content_type: None, headers, apply }
}

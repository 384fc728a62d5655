//! Answers as both APIs write them.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

/// A JSON answer.
pub(crate) fn json_reply(status: u16, body: &Value) -> Response<Bytes> {
    text_reply(status, "application/json", crate::memo::fill(body.to_string()))
}

/// An object of values that are moved into it. (`json!` copies what it is given.)
pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// 204. It names no type: hcloud-go takes what is called JSON for JSON, even where there is nothing.
pub(crate) fn no_content() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Any other answer.
pub(crate) fn text_reply(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// Hetzner's error document (`facts/hetzner.md` 4).
#[expect(clippy::needless_pass_by_value, reason = "details are written where they are passed")]
pub(crate) fn hetzner_error(status: u16, code: &str, message: &str, details: Value) -> Response<Bytes> {
    json_reply(status, &json!({ "error": { "code": code, "message": message, "details": details } }))
}

/// Tailscale's error document: a text and nothing else (`facts/tailscale-and-first-boot.md` A4).
pub(crate) fn tailscale_error(status: u16, message: &str) -> Response<Bytes> {
    json_reply(status, &json!({ "message": message }))
}

/// The query of a request, decoded, in order.
pub(crate) fn query_of(request: &http::Request<Bytes>) -> Vec<(String, String)> {
    let query = request.uri().query().unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// The bearer token of a request.
pub(crate) fn bearer_of(request: &http::Request<Bytes>) -> Option<&str> {
    request.headers().get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

//! Hetzner's refusals, in its own words, and what may be done about each (`facts/hetzner.md` 4).

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::secret::Secret;
use crate::transport::{Fate, Judge, Opinion, TransportError, clean, id_in, retry};

/// A request to Hetzner that brought nothing usable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HetznerError {
    /// No answer came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Hetzner refused.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// A list whose pages lead back, or on and on. Another look will hardly end sooner (fault G31).
    #[error("Hetzner's answer cannot be read: {0}: the list's pages do not end")]
    Endless(&'static str),
    /// An answer that claims success but cannot be read.
    #[error("Hetzner's answer cannot be read: {what}")]
    Unreadable {
        /// What did not fit, and where.
        what: String,
        /// Hetzner's correlation id.
        request_id: Option<String>,
    },
}

/// A refusal in Hetzner's own words. Unknown codes stay readable text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Hetzner answered {status} {code}: {message}{}", self.detail())]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Hetzner's error code, or empty if the answer was no error document.
    pub code: String,
    /// Hetzner's text, cleaned.
    pub message: String,
    /// The request fields that it names (`invalid_input`, `uniqueness_error`).
    pub fields: Vec<String>,
    /// The limits that it names (`resource_limit_exceeded`).
    pub limits: Vec<String>,
    /// Where a removed function was announced (`deprecated_api_endpoint`).
    pub announcement: Option<String>,
    /// The wait that it asks for, if usable.
    pub retry_after: Option<Duration>,
    /// Hetzner's correlation id.
    pub request_id: Option<String>,
}

impl Refusal {
    fn detail(&self) -> String {
        let names: Vec<&str> =
            self.fields.iter().chain(&self.limits).chain(&self.announcement).map(String::as_str).collect();
        if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
    }
}

#[derive(Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    error: WireError,
}

#[derive(Deserialize, Default)]
struct WireError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    /// `null`, `{}` and absence all occur, so it is read apart and may fail.
    #[serde(default)]
    details: Option<serde_json::Value>,
}

impl HetznerError {
    /// Reads a refusal. A body that is no error document (a proxy's HTML page) leaves the status to speak.
    ///
    /// Should the answer echo our token, in whatever spelling JSON has for it, it is taken out.
    pub(super) fn refusal(answer: &http::Response<Bytes>, token: &Secret, cloud_unix: i64) -> Self {
        let Envelope { error } = serde_json::from_slice(answer.body()).unwrap_or_default();
        let tidy = |text: &str| clean(&text.replace(token.expose(), "***"));
        let names = |list: &str| -> Vec<String> {
            let entries = error.details.as_ref().and_then(|details| details.get(list)).and_then(|list| list.as_array());
            let name = |entry: &serde_json::Value| entry.get("name").and_then(|name| name.as_str()).map(tidy);
            entries.into_iter().flatten().filter_map(name).take(20).collect()
        };
        let announcement = error.details.as_ref().and_then(|details| details.get("announcement"));
        Self::Refused(Box::new(Refusal {
            status: answer.status().as_u16(),
            fields: names("fields"),
            limits: names("limits"),
            announcement: announcement.and_then(|text| text.as_str()).map(tidy),
            code: tidy(error.code.as_deref().unwrap_or_default()),
            message: error.message.as_deref().map_or_else(|| "no error document".to_owned(), tidy),
            retry_after: retry::retry_after(answer.headers(), cloud_unix),
            request_id: correlation_id(answer.headers()),
        }))
    }

    pub(super) fn unreadable(operation: &str, what: &str) -> Self {
        Self::Unreadable { what: format!("{operation}: {what}"), request_id: None }
    }

    fn refusal_of(&self, fits: impl FnOnce(&Refusal) -> bool) -> bool {
        matches!(self, Self::Refused(refusal) if fits(refusal))
    }

    fn is(&self, codes: &[&str]) -> bool {
        self.refusal_of(|refusal| codes.contains(&refusal.code.as_str()))
    }

    /// The answer was no error document of Hetzner's: a proxy's page, or nothing at all. It proves nothing, above all
    /// not that something is absent or was not applied.
    fn is_unsigned(&self) -> bool {
        self.refusal_of(|refusal| refusal.code.is_empty())
    }

    fn has_status(&self, range: std::ops::RangeInclusive<u16>) -> bool {
        self.refusal_of(|refusal| range.contains(&refusal.status))
    }

    /// The thing is not there. For a delete that is success.
    pub fn is_not_found(&self) -> bool {
        self.is(&["not_found"])
    }

    /// A server of that name exists.
    pub fn is_name_taken(&self) -> bool {
        self.is(&["uniqueness_error"])
    }

    /// The token is missing, wrong, or may only read.
    pub fn is_unauthorized(&self) -> bool {
        self.has_status(401..=401) && !self.is_unsigned()
    }

    /// The request itself is what is refused: not who asks, nor how often.
    pub(super) fn is_of_the_request(&self) -> bool {
        self.has_status(400..=499)
            && !self.is_unsigned()
            && !self.is_unauthorized()
            && !self.is_forbidden()
            && !self.is_rate_limited()
    }

    /// The project's quota is used up.
    pub fn is_over_quota(&self) -> bool {
        self.is(&["resource_limit_exceeded"])
    }

    /// Out of stock for this type and location; another candidate may do (412 and 422 alike, `facts/hetzner.md` 4).
    pub fn is_out_of_capacity(&self) -> bool {
        self.is(&["resource_unavailable", "placement_error"])
    }

    /// This type is not sold in this location, or no more. The exact answer is not documented, so the text decides; but of a
    /// breakdown no text proves that nothing was made.
    pub fn is_not_offered(&self) -> bool {
        const GONE: [&str; 5] = ["unsupported location", "deprecated", "unavailable", "no longer", "not available"];
        let is_final = self.opinion() == Opinion::Stop;
        self.refusal_of(|Refusal { code, message, fields, .. }| {
            let message = message.to_lowercase();
            let about_type = message.contains("server type") || fields.iter().any(|field| field == "server_type");
            is_final
                && (code == "invalid_server_type" || (about_type && GONE.iter().any(|word| message.contains(word))))
        })
    }

    /// Another action holds the server.
    pub fn is_locked(&self) -> bool {
        self.is(&["locked"])
    }

    /// An operator protected it against deletion.
    pub fn is_protected(&self) -> bool {
        self.is(&["protected"])
    }

    /// The API function does not exist any more.
    pub fn is_removed(&self) -> bool {
        self.is(&["deprecated_api_endpoint"])
            || (!self.is_unsigned() && (self.has_status(405..=405) || self.has_status(410..=410)))
    }

    /// Too many requests were made.
    pub fn is_rate_limited(&self) -> bool {
        self.is(&["rate_limit_exceeded"]) || self.has_status(429..=429)
    }

    /// A field of the request was refused.
    pub fn is_invalid_input(&self) -> bool {
        self.is(&["invalid_input"])
    }

    /// The refusal points at this field of the request.
    pub fn names(&self, field: &str) -> bool {
        self.refusal_of(|refusal| {
            refusal.fields.iter().any(|named| named.starts_with(field)) || refusal.message.contains(field)
        })
    }

    /// The token may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.is(&["forbidden"])
    }

    /// The request may have been applied although no usable answer came.
    pub fn may_have_applied(&self) -> bool {
        match self {
            Self::Transport(error) => error.fate() == Fate::PerhapsApplied,
            Self::Refused(_) => self.opinion() == Opinion::LookFirst,
            Self::Unreadable { .. } | Self::Endless(_) => true,
        }
    }

    /// Hetzner's correlation id, if an answer came.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Transport(_) | Self::Endless(_) => None,
            Self::Refused(refusal) => refusal.request_id.as_deref(),
            Self::Unreadable { request_id, .. } => request_id.as_deref(),
        }
    }
}

impl Judge for HetznerError {
    fn opinion(&self) -> Opinion {
        match self {
            Self::Transport(error) => error.opinion(),
            Self::Unreadable { .. } => Opinion::LookFirst,
            Self::Refused(refusal) if self.is_rate_limited() || self.is(&["maintenance"]) => {
                Opinion::Slow(refusal.retry_after)
            }
            Self::Refused(_) if self.is(&["conflict"]) || self.is_locked() => Opinion::Retry,
            // Every 5xx may hide an applied create, and so may the catch-all `service_error` (faults P22, P26) and a page
            // that somebody between us wrote.
            Self::Refused(_) if self.is(&["service_error"]) || self.has_status(500..=599) || self.is_unsigned() => {
                Opinion::LookFirst
            }
            Self::Refused(_) | Self::Endless(_) => Opinion::Stop,
        }
    }
}

/// Hetzner's id of one exchange, worth quoting to its support.
pub(super) fn correlation_id(headers: &http::HeaderMap) -> Option<String> {
    id_in(headers, "x-correlation-id")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &'static str) -> HetznerError {
        let mut answer = http::Response::new(Bytes::from_static(body.as_bytes()));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert("x-correlation-id", http::HeaderValue::from_static("abc123"));
        HetznerError::refusal(&answer, &Secret::new("a-secret-token"), 0)
    }

    #[test]
    fn opinions_follow_the_error_table() {
        use Opinion::{LookFirst, Retry, Slow, Stop};
        for (status, body, opinion) in [
            (400, r#"{"error":{"code":"json_error","message":"x"}}"#, Stop),
            (401, r#"{"error":{"code":"unauthorized","message":"x"}}"#, Stop),
            (403, r#"{"error":{"code":"forbidden","message":"x","details":null}}"#, Stop),
            (403, r#"{"error":{"code":"maintenance","message":"x"}}"#, Slow(None)),
            (403, r#"{"error":{"code":"resource_limit_exceeded","message":"x"}}"#, Stop),
            (404, r#"{"error":{"code":"not_found","message":"x"}}"#, Stop),
            (409, r#"{"error":{"code":"conflict","message":"x"}}"#, Retry),
            (409, r#"{"error":{"code":"uniqueness_error","message":"x"}}"#, Stop),
            (412, r#"{"error":{"code":"resource_unavailable","message":"x"}}"#, Stop),
            (422, r#"{"error":{"code":"service_error","message":"x"}}"#, LookFirst),
            (423, r#"{"error":{"code":"locked","message":"x"}}"#, Retry),
            (423, r#"{"error":{"code":"protected","message":"x"}}"#, Stop),
            (429, r#"{"error":{"code":"rate_limit_exceeded","message":"x"}}"#, Slow(None)),
            (429, "<html>slow down</html>", Slow(None)),
            (500, "", LookFirst),
            (502, "<html>", LookFirst),
            (503, r#"{"error":{"code":"unavailable","message":"x"}}"#, LookFirst),
            (504, "null", LookFirst),
            (404, "<html>no such page</html>", LookFirst),
            (408, "", LookFirst),
        ] {
            assert_eq!(refusal(status, body).opinion(), opinion, "{status} {body}");
        }
    }

    #[test]
    fn a_page_of_html_is_no_proof_of_absence() {
        assert!(refusal(404, r#"{"error":{"code":"not_found","message":"server not found"}}"#).is_not_found());
        assert!(!refusal(404, "<html>404</html>").is_not_found());
        assert!(refusal(404, "<html>404</html>").may_have_applied());
    }

    #[test]
    fn y05_a_token_that_is_echoed_is_taken_out() {
        let error =
            refusal(400, r#"{"error":{"code":"json_error","message":"bad a-secret-token, tskey-auth-k1-abc"}}"#);
        assert!(!format!("{error} {error:?}").contains("a-secret-token"));
        assert!(!format!("{error} {error:?}").contains("k1-abc"));
        let error = refusal(400, r#"{"error":{"code":"json_error","message":"bad a-secret-\u0074oken"}}"#);
        assert!(!format!("{error} {error:?}").contains("a-secret-token"), "spelled with an escape");
    }

    #[test]
    fn refusals_name_fields_and_limits_and_keep_the_correlation_id() {
        let error = refusal(
            403,
            r#"{"error":{"code":"resource_limit_exceeded","message":"dedicated core limit exceeded","details":{"limits":[{"name":"primary_ip_limit"}]}}}"#,
        );
        assert!(error.is_over_quota());
        assert_eq!(error.request_id(), Some("abc123"));
        assert!(error.to_string().ends_with("dedicated core limit exceeded (primary_ip_limit)"), "{error}");
        let error = refusal(
            422,
            r#"{"error":{"code":"invalid_input","message":"unsupported location for server type","details":{}}}"#,
        );
        assert!(error.is_not_offered() && error.is_invalid_input());
        assert!(!refusal(412, "{}").is_out_of_capacity(), "without a code it is somebody else's answer");
    }
}

//! Tailscale's refusals, and what may be done about each (`facts/tailscale-and-first-boot.md` A1, A2, A4).

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::transport::{Fate, Judge, Opinion, TransportError, clean, id_in, retry};

/// A request to Tailscale that brought nothing usable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TailscaleError {
    /// No answer came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Tailscale refused. It has no error codes, only texts.
    #[error("Tailscale answered {status}: {}", if message.is_empty() { "no error document" } else { message })]
    Refused {
        /// HTTP status.
        status: u16,
        /// Tailscale's text, cleaned; empty if the answer was no error document.
        message: String,
        /// The wait that it asks for, if usable.
        retry_after: Option<Duration>,
        /// Tailscale's request id.
        request_id: Option<String>,
    },
    /// The credential was refused. The answer's text is not kept (fault T02).
    #[error("{who} refused the credential with status {status}")]
    Credential {
        /// Who refused: Tailscale, or the issuer of the identity token.
        who: &'static str,
        /// HTTP status.
        status: u16,
        /// Tailscale's request id.
        request_id: Option<String>,
    },
    /// No access token was to be had, so the request itself was never sent.
    #[error("no access token: {0}")]
    NoToken(Box<TailscaleError>),
    /// An answer that claims success but cannot be read.
    #[error("Tailscale's answer cannot be read: {what}")]
    Unreadable {
        /// What did not fit.
        what: &'static str,
        /// Tailscale's request id.
        request_id: Option<String>,
    },
}

#[derive(Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    message: Option<String>,
}

impl TailscaleError {
    /// Reads a refusal. Unknown routes and proxies answer with something else than JSON.
    pub(super) fn refusal(answer: &http::Response<Bytes>, cloud_unix: i64) -> Self {
        let Envelope { message } = serde_json::from_slice(answer.body()).unwrap_or_default();
        Self::Refused {
            status: answer.status().as_u16(),
            message: message.as_deref().map(clean).unwrap_or_default(),
            retry_after: retry::retry_after(answer.headers(), cloud_unix),
            request_id: request_id(answer.headers()),
        }
    }

    /// What went wrong at the token, if that is what went wrong.
    pub fn root(&self) -> &Self {
        if let Self::NoToken(why) = self { why.root() } else { self }
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Credential { status, .. } => Some(*status),
            Self::NoToken(why) => why.status(),
            Self::Transport(_) | Self::Unreadable { .. } => None,
        }
    }

    /// The thing is not there, in Tailscale's own words. For a delete that is success.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, message, .. } if !message.is_empty())
    }

    /// The answer was no error document of Tailscale's: a proxy's page, or nothing at all. It proves nothing.
    pub(super) fn is_unsigned(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.is_empty())
    }

    /// The access token is not (or no more) accepted, in Tailscale's own words.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. }) && !self.is_unsigned()
    }

    /// The credential lacks a scope, or the plan a feature.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status: 403, .. }) && !self.is_unsigned()
    }

    /// The request itself is what is refused: not who asks, nor how often.
    pub fn is_of_the_request(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 404 | 410 | 422, .. }) && !self.is_unsigned()
    }

    /// The tags of a key are not this credential's to give. The API uses one text for all its causes.
    pub fn is_tag_refused(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 403, message, .. }
            if message.contains("invalid or not permitted") || message.contains("must have tags"))
    }

    /// Too many requests were made.
    pub fn is_rate_limited(&self) -> bool {
        self.status() == Some(429)
    }

    /// The request may have been applied although no usable answer came.
    pub fn may_have_applied(&self) -> bool {
        match self {
            Self::Transport(error) => error.fate() == Fate::PerhapsApplied,
            Self::Unreadable { .. } => true,
            Self::NoToken(_) => false,
            Self::Refused { .. } | Self::Credential { .. } => self.opinion() == Opinion::LookFirst,
        }
    }

    /// Tailscale's request id, if an answer came.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Transport(_) => None,
            Self::NoToken(why) => why.request_id(),
            Self::Refused { request_id, .. }
            | Self::Credential { request_id, .. }
            | Self::Unreadable { request_id, .. } => request_id.as_deref(),
        }
    }
}

impl Judge for TailscaleError {
    fn opinion(&self) -> Opinion {
        match self {
            Self::Transport(error) => error.opinion(),
            Self::NoToken(why) => match why.opinion() {
                Opinion::LookFirst => Opinion::Retry,
                opinion => opinion,
            },
            Self::Refused { retry_after, .. } if self.is_rate_limited() => Opinion::Slow(*retry_after),
            Self::Unreadable { .. } | Self::Refused { status: 500..=599, .. } => Opinion::LookFirst,
            Self::Refused { .. } if self.is_unsigned() => Opinion::LookFirst,
            Self::Refused { .. } | Self::Credential { .. } => Opinion::Stop,
        }
    }
}

/// Tailscale's id of one exchange, worth quoting to its support.
pub(super) fn request_id(headers: &http::HeaderMap) -> Option<String> {
    id_in(headers, "x-tailscale-request-id")
}

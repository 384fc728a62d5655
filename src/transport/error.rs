//! Why there was no answer, and what that says about the request.

/// What may have become of a request that got no answer: the most important bit in the program, since it decides
/// whether a create may be sent again or must be looked up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The request did not reach the server. Sending it again cannot do anything twice.
    NotSent,
    /// The request may have been applied, now or later.
    PerhapsApplied,
}

/// An exchange that brought no usable answer. Holds no URL, header or body.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens there. `UNREACHABLE`.
    #[error("{host} refused the connection")]
    Refused {
        /// Host and port that were asked.
        host: String,
    },
    /// The name does not resolve. `UNREACHABLE`.
    #[error("the name of {host} could not be resolved")]
    Dns {
        /// Host and port that were asked.
        host: String,
    },
    /// No connection, for another reason (network down, handshake cut, proxy trouble), or none that takes the request.
    /// `UNREACHABLE`.
    #[error("no connection to {host}: {why}")]
    Connect {
        /// Host and port that were asked.
        host: String,
        /// The reason, from the socket or the TLS library.
        why: String,
    },
    /// No connection in time. `UNREACHABLE`.
    #[error("no connection to {host} in time")]
    ConnectTimeout {
        /// Host and port that were asked.
        host: String,
    },
    /// The certificate was not accepted. Never tried again, and there is no switch to turn the check off. `TLS`.
    #[error("the certificate of {host} was not accepted: {why}")]
    Certificate {
        /// Host and port that were asked.
        host: String,
        /// The TLS library's reason.
        why: String,
    },
    /// No cipher, curve or version is common to both sides. Tried again all the same, since what balances load may say so while it
    /// changes. `TLS`.
    #[error("{host} speaks no TLS that is spoken here: {why}")]
    Handshake {
        /// Host and port that were asked.
        host: String,
        /// The TLS library's reason.
        why: String,
    },
    /// The connection broke after the request, or a part of it, was sent. `UPSTREAM`.
    #[error("the connection to {host} broke before the answer was complete: {why}")]
    Broken {
        /// Host and port that were asked.
        host: String,
        /// The reason, from the socket or the HTTP library.
        why: String,
    },
    /// The answer was not complete in time. `UPSTREAM`.
    #[error("no complete answer from {host} in time")]
    Timeout {
        /// Host and port that were asked.
        host: String,
    },
    /// The deadline passed before the request could be sent. `DEADLINE`.
    #[error("no time was left to ask {host}")]
    OutOfTime {
        /// Host and port that would have been asked.
        host: String,
    },
    /// So little of the token's requests is left that this one found no place before the deadline. `RATE_LIMITED`.
    #[error("the request budget of {host} had no place for another request in time")]
    OverBudget {
        /// Host and port that would have been asked.
        host: String,
    },
    /// The answer is larger than we are willing to hold. `PROTOCOL`.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// Host and port that were asked.
        host: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A redirect. Not followed, since it would carry the token elsewhere (fault G29). `PROTOCOL`.
    #[error("{host} answered with a redirect, which is never followed")]
    Redirect {
        /// Host and port that were asked.
        host: String,
    },
}

impl TransportError {
    /// What this says about the request.
    pub fn fate(&self) -> Fate {
        match self {
            Self::Refused { .. }
            | Self::Dns { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Certificate { .. }
            | Self::Handshake { .. }
            | Self::OverBudget { .. }
            | Self::OutOfTime { .. } => Fate::NotSent,
            Self::Broken { .. } | Self::Timeout { .. } | Self::TooLarge { .. } | Self::Redirect { .. } => {
                Fate::PerhapsApplied
            }
        }
    }

    /// The kind of failure in a word, for those who count.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Dns { .. } => "dns",
            Self::Connect { .. } => "connect",
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::Certificate { .. } => "certificate",
            Self::Handshake { .. } => "handshake",
            Self::Broken { .. } => "broken",
            Self::Timeout { .. } => "timeout",
            Self::OutOfTime { .. } => "out_of_time",
            Self::OverBudget { .. } => "over_budget",
            Self::TooLarge { .. } => "too_large",
            Self::Redirect { .. } => "redirect",
        }
    }

    /// Whether the same request may fare better a moment later.
    pub fn is_passing(&self) -> bool {
        !matches!(
            self,
            Self::Certificate { .. } | Self::TooLarge { .. } | Self::Redirect { .. } | Self::OutOfTime { .. }
        )
    }
}

//! The second seam, a tiny one: one attempt at a TCP connection, for who wants to know whether a machine can be reached.
//!
//! Nothing is sent over the connection and nothing is read from it, so it can do nothing in the world. It goes to an address of the
//! tailnet, which no proxy leads to: whoever asks has to be in it.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Clock, timeout_at};

/// A way to open one TCP connection, which is closed at once.
///
/// Implementations do not try again, and may be dropped mid-way.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a port of this address.
    fn dial(&self, ip: Ipv4Addr, port: u16) -> BoxFuture<'_, Result<(), DialError>>;
}

/// Why there was no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The machine is there, and nothing listens on that port.
    #[error("the connection is refused")]
    Refused,
    /// No way leads there from here.
    #[error("there is no route to it")]
    NoRoute,
    /// Nobody answered in time.
    #[error("there is no answer")]
    NoAnswer,
    /// Another reason, such as a rule of this machine's.
    #[error("no connection can be opened: {0}")]
    Failed(String),
}

impl DialError {
    /// The kind of reason, in words.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refused => "the connection is refused",
            Self::NoRoute => "there is no route to it",
            Self::NoAnswer => "there is no answer",
            Self::Failed(_) => "no connection can be opened",
        }
    }
}

/// Connects, or finds no answer within `limit`.
pub async fn dial_within(
    dial: &dyn Dial,
    ip: Ipv4Addr,
    port: u16,
    clock: &Clock,
    limit: Duration,
) -> Result<(), DialError> {
    timeout_at(clock.now() + limit, dial.dial(ip, port)).await.unwrap_or(Err(DialError::NoAnswer))
}

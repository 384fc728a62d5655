//! One HTTP exchange, as a trait, and what surrounds every exchange: deadline, retry, time, chance.
//!
//! This is the only room through which anything leaves the process. In production [`Live`] stands behind the trait
//! (hyper and rustls, the one thing that opens a socket); in tests the simulator does, without sockets, under
//! tokio's paused clock. Nothing here knows what a server or a device is.
//!
//! A request travels through [`Chain::call`] in this order, and the order is the design:
//!
//! 1. *budget*: it waits for its turn, if the token has few requests left ([`RateBudget`]);
//! 2. *attempt limit*: what is left until the deadline, never more than the request class allows;
//! 3. *exchange*: the trait below;
//! 4. *observation*: the cloud's clock and the budget are read from the answer;
//! 5. *decoding*: the room's own function reads the answer **inside** the loop, so that a body cut short is tried again;
//! 6. *retry*: the room's opinion on the failure ([`Judge`]) meets the strategy here ([`retry`]), as long as the process
//!    has retries left ([`RetryBudget`]).
//!
//! What many calls of a process wait for, one of them looks for, for all ([`Looks`]).
//!
//! Beside it there is one more way out, [`Dial`]: a TCP connection that is opened and closed, to see whether a machine can be
//! reached.

mod account;
mod budget;
mod chain;
mod clock;
mod connect;
mod dial;
mod document;
mod error;
mod fetched;
mod live;
mod look;
pub mod metrics;
mod rate;
pub mod request;
pub mod retry;
mod tls;
mod trace;
mod upstream_text;

use bytes::Bytes;
/// A future in a box, as what is asked through others is handed over.
pub use futures_util::future::BoxFuture;

pub use budget::RetryBudget;
pub use chain::{Call, Chain, Kept, Within};
pub use clock::{Chance, Clock, Instant, now, sleep, sleep_until, timeout_at};
pub use connect::{Network, Proxy};
pub use dial::{Dial, DialError, dial_within};
pub use document::Document;
pub use error::{Fate, TransportError};
pub use fetched::{Fetch, Fetched};
pub use live::Live;
pub use look::Looks;
pub use rate::{Admission, Left, Pass, RateBudget, Urgency};
pub use request::{BaseUrl, BaseUrlError};
pub use retry::{Judge, Opinion, Pace, Patience, Repeat};
pub use trace::{Attribute, FindTracer, Mishap, Span, TraceContext, Tracer};
pub use upstream_text::{clean, id_in};

/// Answers above this size are refused before they are held in memory (fault G28). A tailnet of 5,000 devices with
/// every field is about 9 MB (`facts/tailscale-and-first-boot.md`, A3), with the default fields well under half.
pub const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// A way to make one HTTP exchange: one request out, one whole answer in, or a reason why not.
///
/// Implementations do not retry, do not follow redirects, do not interpret the answer, and refuse bodies above
/// [`BODY_LIMIT`]. They may be dropped mid-way (a deadline, a cancellation); the request then counts as perhaps applied.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` (with an absolute URI) and reads the answer to its end.
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>>;
}

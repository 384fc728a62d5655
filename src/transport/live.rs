//! The real exchange: hyper, over the connections that [`super::connect`] opens, and the real dial.
//!
//! Choices, with their reasons (figures: `facts/napi.md` 6):
//!
//! * **hyper with its own pool**, and no larger client on top: what such a one adds (cookies, redirects, bodies of many kinds) has no
//!   place here, and takes a tenth of what is shipped.
//! * **HTTP/2 where TLS offers it** (ALPN), else HTTP/1.1, as on plain `http:`. All calls of a process then share one connection to
//!   each host. So a connection that died without a word must be noticed: while answers are due it is asked for a sign of life.
//! * **No layer below repeats a request** that may have reached its server. One repetition below us stays: hyper-util sends a request on
//!   another connection that hyper handed back. That is one that still waited in its queue when the connection ended, of which no byte was
//!   written. What else is safe to be sent again is said by [`unanswered`], and done by the chain, which counts and paces it.
//! * **Redirects are not followed**, they would carry the token elsewhere.
//! * No compression: our bodies are small, and it would cost size.
//! * A dial uses no proxy: they do not lead into the tailnet.

use std::collections::HashMap;
use std::error::Error;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::chain::host_of;
use super::clock::now;
use super::connect::{Connector, Network, reason, sources};
use super::{BODY_LIMIT, Dial, DialError, Instant, Transport, TransportError, clean, timeout_at};

const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// A connection on which answers are due and nothing comes for this long is asked for a sign of life...
const SILENCE_LIMIT: Duration = Duration::from_secs(4);
/// ... and given up after this one. Together they have to be well below the shortest limit of an attempt, 15 s, so that what was
/// under way on it, of all jobs, has time for another try; and long enough to live through a route that changes.
const SIGN_OF_LIFE_LIMIT: Duration = Duration::from_secs(6);
/// Connections to one host that are kept for later, where they are not shared. After a burst of a thousand calls the others would lie
/// about, at 28 KiB each.
const MOST_IDLE: usize = 4;
/// How long requests wait for the first one to a host to open the connection that they will share.
const HEAD_START: Duration = Duration::from_secs(2);
/// How we name ourselves to the APIs.
pub(super) const OUR_NAME: &str = concat!("provision-vm/", env!("CARGO_PKG_VERSION"));

/// The real exchange. Holds a pool of connections; cheap to build, best shared.
#[derive(Debug)]
pub struct Live {
    client: Client<Connector, Full<Bytes>>,
    doors: Mutex<HashMap<String, Arc<Door>>>,
}

impl Live {
    /// A client for this network, with what had to be left out (certificate files that could not be used).
    ///
    /// # Errors
    ///
    /// [`TransportError::Connect`] if the TLS library refuses its own configuration, which no setting can cause.
    pub fn new(network: &Network) -> Result<(Self, Vec<String>), TransportError> {
        let (connector, warnings) = Connector::new(network)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(MOST_IDLE)
            // hyper's windows (2 MiB for an answer, 5 MiB for all) stay as they are: our largest answer passes in eight round trips. Windows
            // that adapt begin at 64 KiB, and send a ping with every growth.
            .http2_keep_alive_interval(SILENCE_LIMIT)
            .http2_keep_alive_timeout(SIGN_OF_LIFE_LIMIT)
            .build(connector);
        Ok((Self { client, doors: Mutex::default() }, warnings))
    }

    /// The door to a host, if a connection to it may turn out to be one that is shared.
    fn door(&self, request: &http::Request<Bytes>, host: &str) -> Option<Arc<Door>> {
        let is_tls = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        is_tls.then(|| doors.entry(host.to_owned()).or_default().clone())
    }
}

/// Where requests to a host wait while the first of them opens a connection.
///
/// Whether a connection can be shared is known only once it is there. Without this, a hundred calls that begin at the same moment
/// make a hundred handshakes, of which hyper keeps one.
#[derive(Debug, Default)]
struct Door {
    first: tokio::sync::Mutex<()>,
    /// When the host last answered. Until [`IDLE_LIMIT`] the connection is kept.
    answered: Mutex<Option<Instant>>,
}

impl Door {
    /// Waits until there is a connection, or for a head start of the request that opens one. That one gets the guard.
    async fn pass(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if self.is_open() {
            return None;
        }
        let first = timeout_at(now() + HEAD_START, self.first.lock()).await;
        first.filter(|_| !self.is_open())
    }

    fn is_open(&self) -> bool {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.is_some_and(|answered| now() < answered + IDLE_LIMIT)
    }

    fn note(&self, answered: bool) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = answered.then(now);
    }
}

impl Transport for Live {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let host = host_of(request.uri());
            let door = self.door(&request, &host);
            let mut request = request.map(Full::new);
            request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
            let first = match &door {
                Some(door) => door.pass().await,
                None => None,
            };
            let answer = self.client.request(request).await;
            if let Some(door) = &door {
                door.note(answer.is_ok());
            }
            drop(first);
            let (head, mut body) = answer.map_err(|error| unanswered(&host, &error))?.into_parts();
            let too_large = || TransportError::TooLarge { host: host.clone(), limit: BODY_LIMIT };
            if body.size_hint().lower() > BODY_LIMIT as u64 {
                return Err(too_large());
            }
            let mut whole = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken(&host, &error))?;
                // Trailers say nothing that we ask for.
                let Some(chunk) = frame.data_ref() else { continue };
                if whole.len() + chunk.len() > BODY_LIMIT {
                    return Err(too_large());
                }
                whole.extend_from_slice(chunk);
            }
            Ok(http::Response::from_parts(head, whole.freeze()))
        })
    }
}

impl Dial for Live {
    fn dial(&self, ip: Ipv4Addr, port: u16) -> BoxFuture<'_, Result<(), DialError>> {
        Box::pin(async move {
            match tokio::net::TcpStream::connect((ip, port)).await {
                // It is dropped, and thereby closed.
                Ok(_) => Ok(()),
                Err(error) => Err(match error.kind() {
                    ErrorKind::ConnectionRefused => DialError::Refused,
                    ErrorKind::TimedOut => DialError::NoAnswer,
                    ErrorKind::HostUnreachable
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::NetworkDown
                    | ErrorKind::AddrNotAvailable => DialError::NoRoute,
                    _ => DialError::Failed(clean(&error.to_string())),
                }),
            }
        })
    }
}

/// Sorts what ended before there was an answer.
///
/// Of the ways in which HTTP/2 loses a request only one proves that it was not applied: the server refuses the stream, which it may do only
/// before it has done anything for it (RFC 9113, 8.7). A GOAWAY proves it for streams above the number in it, but a server announces
/// its end with the highest of all numbers and answers what it has, and h2 hands the same error also to a request that it has just sent
/// (`poll_ready` behind `send_request` in hyper's `proto/h2/client.rs` asks for the connection's error, not for the stream's). So that,
/// other resets and a connection that dies with its streams are [`TransportError::Broken`]: a create is looked up, a read is repeated.
fn unanswered(host: &str, error: &legacy::Error) -> TransportError {
    // That there is no connection is said by what opens them, in our words.
    if let Some(unconnected) = sources(error).find_map(|source| source.downcast_ref::<TransportError>()) {
        return unconnected.clone();
    }
    let why = error.source().unwrap_or(error);
    let is_refused = sources(error)
        .filter_map(|source| source.downcast_ref::<h2::Error>())
        .any(|error| error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM));
    if is_refused || error.is_connect() {
        return TransportError::Connect { host: host.to_owned(), why: reason(why) };
    }
    broken(host, why)
}

/// A request of which something may have been sent.
fn broken(host: &str, error: &(dyn Error + 'static)) -> TransportError {
    let host = host.to_owned();
    let is_late = sources(error).any(|source| {
        source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
            || source.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::TimedOut)
    });
    if is_late { TransportError::Timeout { host } } else { TransportError::Broken { host, why: reason(error) } }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_dial_opens_a_connection_and_closes_it_at_once() {
        let (live, _) = Live::new(&Network::default()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(live.dial(Ipv4Addr::LOCALHOST, port).await, Ok(()));
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "nothing is sent");
        drop(listener);
        assert_eq!(live.dial(Ipv4Addr::LOCALHOST, port).await, Err(DialError::Refused));
    }
}

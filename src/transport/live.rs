//! The real exchange: reqwest over rustls, and the real dial. The one file that opens a socket or reads a certificate file.
//!
//! Choices, with their reasons (figures: `facts/napi.md` 6):
//!
//! * rustls with **ring**: no build tools beyond a C compiler, and the first handshake costs 4 ms of processor time
//!   where aws-lc costs 55 ms. OpenSSL would share symbols with the one inside Node.
//! * Roots from **webpki-roots**, compiled in, as Node does: it works in images without CA files and builds a client in
//!   microseconds. Files named by `NODE_EXTRA_CA_CERTS` and `SSL_CERT_FILE` are added, so that a company's own CA works;
//!   a file that cannot be read is a warning, as in Node.
//! * **HTTP/2 where TLS offers it** (ALPN), else HTTP/1.1, as on plain `http:`. All calls of a process then share one connection to
//!   each host. So a connection that died without a word must be noticed: while answers are due it is asked for a sign of life.
//! * **No layer below repeats a request** that may have reached its server, see [`no_repetition`].
//! * No compression: our bodies are small, and it would cost size.
//! * Proxies come from the caller's environment as data (JavaScript's view of it), never from `std::env`. A dial uses none: they
//!   do not lead into the tailnet.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::chain::host_of;
use super::clock::now;
use super::request::with_plain_host;
use super::{BODY_LIMIT, Dial, DialError, Instant, Transport, TransportError, clean, timeout_at};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// In the order of our preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
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

/// How to reach the network from where we run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// Proxy for `https:` addresses (`HTTPS_PROXY`, else `ALL_PROXY`).
    pub https_proxy: Option<Proxy>,
    /// Proxy for `http:` addresses (`HTTP_PROXY`, else `ALL_PROXY`).
    pub http_proxy: Option<Proxy>,
    /// Hosts that are reached directly, in the usual comma-separated form (`NO_PROXY`).
    pub no_proxy: Option<String>,
    /// PEM files with further certificate authorities.
    pub extra_ca_files: Vec<PathBuf>,
}

/// The address of a proxy. May hold a password, so it is not printed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proxy(String);

impl Proxy {
    /// An address such as `http://proxy.example:3128`; without a scheme `http:` is meant. `None` if it is no address.
    pub fn parse(text: &str) -> Option<Self> {
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let text = with_plain_host(&text)?;
        reqwest::Proxy::all(&text).is_ok().then_some(Self(text))
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy(***)")
    }
}

/// The real exchange. Holds a pool of connections; cheap to build, best shared.
#[derive(Debug)]
pub struct Live {
    client: reqwest::Client,
    doors: Mutex<HashMap<String, Arc<Door>>>,
}

impl Live {
    /// A client for this network, with what had to be left out (certificate files that could not be used).
    ///
    /// # Errors
    ///
    /// [`TransportError::Connect`] if the TLS library refuses its own configuration, which no setting can cause.
    pub fn new(network: &Network) -> Result<(Self, Vec<String>), TransportError> {
        let broken = |why: String| TransportError::Connect { host: "any host".to_owned(), why };
        let (roots, warnings) = roots(network);
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| broken(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // reqwest takes a configuration that it did not make as it is, and then goes by what was agreed on.
        tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .retry(no_repetition())
            // Its windows (2 MiB for an answer, 5 MiB for all) stay as they are: our largest answer passes in eight round trips. Windows
            // that adapt begin at 64 KiB, and send a ping with every growth.
            .http2_keep_alive_interval(SILENCE_LIMIT)
            .http2_keep_alive_timeout(SIGN_OF_LIFE_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_LIMIT)
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(MOST_IDLE)
            .user_agent(concat!("provision-vm/", env!("CARGO_PKG_VERSION")))
            // Switches reqwest's own look at the environment off; the proxies below are the caller's.
            .no_proxy();
        for (proxy, kind) in [(&network.https_proxy, "https"), (&network.http_proxy, "http")] {
            let Some(Proxy(address)) = proxy else { continue };
            let proxy = if kind == "https" { reqwest::Proxy::https(address) } else { reqwest::Proxy::http(address) };
            // Plain `http:` is for loopback only, and what is sent there must not leave the machine.
            let except = format!("{},{LOOPBACK}", network.no_proxy.as_deref().unwrap_or_default());
            let except = reqwest::NoProxy::from_string(&except);
            builder =
                builder.proxy(proxy.map_err(|_| broken(format!("the {kind} proxy is no address")))?.no_proxy(except));
        }
        let client = builder.build().map_err(|error| broken(reason(&error)))?;
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

/// Switches off what reqwest repeats by itself.
///
/// By default it sends a request again whose stream the server refused, and one that failed with a graceful GOAWAY. The second is no proof:
/// a server announces its end with the highest of all stream numbers and answers what it has, and h2 hands the same error also to a
/// request that it has just sent (`poll_ready` behind `send_request` in hyper's `proto/h2/client.rs` asks for the connection's error, not for the
/// stream's). A create would be made twice. What is safe to be sent again is said by [`unanswered`], and done by the chain, which counts
/// and paces it.
///
/// One repetition below us stays: hyper-util sends a request on another connection that hyper handed back. That is one that still waited in
/// its queue when the connection ended, of which no byte was written.
fn no_repetition() -> reqwest::retry::Builder {
    reqwest::retry::never()
}

impl Transport for Live {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let host = host_of(&request);
            let door = self.door(&request, &host);
            let request = reqwest::Request::try_from(request.map(reqwest::Body::from))
                .map_err(|error| TransportError::Connect { host: host.clone(), why: reason(&error) })?;
            let first = match &door {
                Some(door) => door.pass().await,
                None => None,
            };
            let answer = self.client.execute(request).await;
            if let Some(door) = &door {
                door.note(answer.is_ok());
            }
            drop(first);
            let mut answer = answer.map_err(|error| unanswered(&host, &error))?;
            let too_large = || TransportError::TooLarge { host: host.clone(), limit: BODY_LIMIT };
            if answer.content_length().is_some_and(|length| length > BODY_LIMIT as u64) {
                return Err(too_large());
            }
            let mut body = BytesMut::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| classify(&host, &error))? {
                if body.len() + chunk.len() > BODY_LIMIT {
                    return Err(too_large());
                }
                body.extend_from_slice(&chunk);
            }
            let mut response = http::Response::new(body.freeze());
            *response.status_mut() = answer.status();
            *response.headers_mut() = std::mem::take(answer.headers_mut());
            Ok(response)
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

fn roots(network: &Network) -> (rustls::RootCertStore, Vec<String>) {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut warnings = Vec::new();
    for file in &network.extra_ca_files {
        match CertificateDer::pem_file_iter(file).map(|certificates| certificates.flatten().collect::<Vec<_>>()) {
            Ok(certificates) if !certificates.is_empty() => {
                let (added, _) = roots.add_parsable_certificates(certificates);
                if added == 0 {
                    warnings.push(format!("no usable certificate in {}", clean(&file.display().to_string())));
                }
            }
            _ => warnings.push(format!("no certificates could be read from {}", clean(&file.display().to_string()))),
        }
    }
    (roots, warnings)
}

/// Sorts what ended before there was an answer.
///
/// Of the ways in which HTTP/2 loses a request only one proves that it was not applied: the server refuses the stream, which it may do only
/// before it has done anything for it (RFC 9113, 8.7). A GOAWAY proves it for streams above the number in it, but the error does not
/// say on which side a stream was, and comes to others as well, see [`no_repetition`]. So that, other resets and a connection that dies
/// with its streams are [`TransportError::Broken`]: a create is looked up, a read is repeated.
fn unanswered(host: &str, error: &reqwest::Error) -> TransportError {
    let refused = sources(error)
        .filter_map(|source| source.downcast_ref::<h2::Error>())
        .any(|error| error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM));
    if refused {
        return TransportError::Connect { host: host.to_owned(), why: reason(error) };
    }
    classify(host, error)
}

/// Sorts reqwest's failures by what they say about the request. Its own predicates are too coarse: a refused
/// connection, a bad certificate and a name that does not resolve are all "connect".
fn classify(host: &str, error: &reqwest::Error) -> TransportError {
    let host = host.to_owned();
    let why = reason(error);
    if error.is_connect() {
        if let Some(certificate) = certificate_error(error) {
            return TransportError::Certificate { host, why: clean(&certificate.to_string()) };
        }
        if error.is_timeout() {
            return TransportError::ConnectTimeout { host };
        }
        if is_io(error, ErrorKind::ConnectionRefused) {
            return TransportError::Refused { host };
        }
        if why.contains("dns error") {
            return TransportError::Dns { host };
        }
        return TransportError::Connect { host, why };
    }
    if error.is_timeout() { TransportError::Timeout { host } } else { TransportError::Broken { host, why } }
}

fn sources<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        // An io::Error hides its inner error from `source`.
        error
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref())
            .map(|inner| inner as _)
            .or_else(|| error.source())
    })
}

fn certificate_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    sources(error).find_map(|source| source.downcast_ref::<rustls::Error>()).filter(|tls| {
        matches!(
            tls,
            rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::UnsupportedNameType
        )
    })
}

fn is_io(error: &reqwest::Error, kind: ErrorKind) -> bool {
    sources(error).any(|source| source.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == kind))
}

/// The innermost two levels of a failure: the top ones only say that a request failed, and name its URL.
fn reason(error: &reqwest::Error) -> String {
    let levels: Vec<String> = sources(error).skip(1).map(|source| clean(&source.to_string())).collect();
    let mut last: Vec<&String> = levels.iter().rev().take(2).collect();
    last.reverse();
    last.dedup();
    last.into_iter().map(String::as_str).collect::<Vec<_>>().join(": ")
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

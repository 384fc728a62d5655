//! The real exchange: reqwest over rustls, and the real dial. The one file that opens a socket or reads a certificate file.
//!
//! Choices, with their reasons (figures: `facts/napi.md` 6):
//!
//! * rustls with **ring**: no build tools beyond a C compiler, and the first handshake costs 4 ms of processor time
//!   where aws-lc costs 55 ms. OpenSSL would share symbols with the one inside Node.
//! * Roots from **webpki-roots**, compiled in, as Node does: it works in images without CA files and builds a client in
//!   microseconds. Files named by `NODE_EXTRA_CA_CERTS` and `SSL_CERT_FILE` are added, so that a company's own CA works;
//!   a file that cannot be read is a warning, as in Node.
//! * HTTP/1.1 only, no compression: our bodies are small, and each would cost size.
//! * Proxies come from the caller's environment as data (JavaScript's view of it), never from `std::env`. A dial uses none: they
//!   do not lead into the tailnet.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::chain::host_of;
use super::request::with_plain_host;
use super::{BODY_LIMIT, Dial, DialError, Transport, TransportError, clean};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";
const IDLE_LIMIT: Duration = Duration::from_secs(30);

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
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| broken(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_LIMIT)
            .pool_idle_timeout(IDLE_LIMIT)
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
        Ok((Self { client }, warnings))
    }
}

impl Transport for Live {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let host = host_of(&request);
            let request = reqwest::Request::try_from(request.map(reqwest::Body::from))
                .map_err(|error| TransportError::Connect { host: host.clone(), why: reason(&error) })?;
            let mut answer = self.client.execute(request).await.map_err(|error| classify(&host, &error))?;
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

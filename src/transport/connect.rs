//! Opens connections: to the host itself or through a proxy, and TLS on top. The one file that decides where a byte goes.
//!
//! * Proxies come from the caller's environment as data (JavaScript's view of it), never from `std::env`. They are asked for a tunnel
//!   (`CONNECT`), so none sees a token. Plain `http:` is for loopback alone ([`super::BaseUrl`]) and never leaves the machine.
//! * Everything until the request can be sent has one limit, [`CONNECT_LIMIT`]: name, connection, proxy and handshake.

use std::error::Error;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use tower_service::Service;

use super::chain::host_of;
use super::clock::now;
use super::live::OUR_NAME;
use super::request::with_plain_host;
use super::{TransportError, clean, timeout_at, tls};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A connection that says nothing for so long is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(15);
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";
/// What we speak, in the order of our preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

type BoxError = Box<dyn Error + Send + Sync>;
/// What leads to a host: TCP to it, or to a proxy that may itself be spoken to by TLS.
type Tunnelled = MaybeHttpsStream<<HttpConnector as Service<Uri>>::Response>;

/// How to reach the network from where we run.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    /// The proxy that leads to `https:` addresses (`HTTPS_PROXY`, else `ALL_PROXY`).
    pub proxy: Option<Proxy>,
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
        let proxy = Self(with_plain_host(&text)?);
        let leads_somewhere = proxy.matcher("").intercept(&Uri::from_static("https://host.example")).is_some();
        let scheme = proxy.0.split("://").next().unwrap_or_default().to_ascii_lowercase();
        (leads_somewhere && matches!(scheme.as_str(), "http" | "https")).then_some(proxy)
    }

    fn matcher(&self, except: &str) -> Matcher {
        Matcher::builder().https(self.0.as_str()).no(format!("{except},{LOOPBACK}")).build()
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proxy(***)")
    }
}

/// Opens the connections of a [`Live`](super::Live).
#[derive(Clone)]
pub(super) struct Connector {
    tls: HttpsConnector<Way>,
    proxies: Arc<Matcher>,
}

impl Connector {
    /// A connector for this network, with what had to be left out.
    pub(super) fn new(network: &Network) -> Result<(Self, Vec<String>), TransportError> {
        let (mut config, warnings) = tls::config(&network.extra_ca_files)?;
        let to_proxy = Arc::new(config.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Of several addresses each gets its share of this, so that a dead one does not use all of it up.
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        // HTTP/2 asks for signs of life itself; this is for what is idle, and for HTTP/1.1.
        tcp.set_keepalive(Some(PROBE));
        tcp.set_keepalive_interval(Some(PROBE));
        tcp.set_keepalive_retries(Some(3));
        let except = network.no_proxy.as_deref().unwrap_or_default();
        let proxies = network.proxy.as_ref().map_or_else(|| Matcher::builder().build(), |proxy| proxy.matcher(except));
        let proxies = Arc::new(proxies);
        let way = Way { to_proxy: HttpsConnector::from((tcp.clone(), to_proxy)), tcp, proxies: proxies.clone() };
        Ok((Self { tls: HttpsConnector::from((way, config)), proxies }, warnings))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Tunnelled>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Self::Response, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut host = host_of(&to);
        if let Some(proxy) = self.proxies.intercept(&to) {
            host = format!("{host} (by the proxy {})", host_of(proxy.uri()));
        }
        let opening = self.tls.call(to);
        Box::pin(async move {
            match timeout_at(now() + CONNECT_LIMIT, opening).await {
                None => Err(TransportError::ConnectTimeout { host }),
                Some(opened) => opened.map_err(|error| unconnected(host, error.as_ref())),
            }
        })
    }
}

/// The way to a host, below TLS with that host: straight, or a tunnel through a proxy, to which TLS may lead as well.
#[derive(Clone)]
struct Way {
    tcp: HttpConnector,
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Way {
    type Response = Tunnelled;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&to) else {
            let opening = self.tcp.call(to);
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(opening.await?)) });
        };
        // Some proxies let nobody through who does not say what he is.
        let name = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(OUR_NAME))]);
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone()).with_headers(name);
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let opening = tunnel.call(to);
        Box::pin(async move { Ok(opening.await?) })
    }
}

/// Sorts the reasons why there is no connection, in which nothing was sent.
fn unconnected(host: String, error: &(dyn Error + 'static)) -> TransportError {
    if let Some(certificate) = certificate_error(error) {
        return TransportError::Certificate { host, why: clean(&certificate.to_string()) };
    }
    if let Some(tls) = tls_error(error).filter(|tls| has_nothing_in_common(tls)) {
        return TransportError::Handshake { host, why: clean(&tls.to_string()) };
    }
    let is =
        |kind| sources(error).any(|source| source.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == kind));
    if is(ErrorKind::TimedOut) {
        return TransportError::ConnectTimeout { host };
    }
    if is(ErrorKind::ConnectionRefused) {
        return TransportError::Refused { host };
    }
    // The connector's word for it, of a type that it keeps to itself.
    if sources(error).any(|source| source.to_string() == "dns error") {
        return TransportError::Dns { host };
    }
    TransportError::Connect { host, why: reason(error) }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    sources(error).find_map(|source| source.downcast_ref::<rustls::Error>())
}

/// The other side speaks no cipher, curve, signature or version of ours (`tls.rs`), or says so.
fn has_nothing_in_common(tls: &rustls::Error) -> bool {
    use rustls::AlertDescription::{HandshakeFailure, InsufficientSecurity, ProtocolVersion};
    matches!(
        tls,
        rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(HandshakeFailure | InsufficientSecurity | ProtocolVersion)
    )
}

fn certificate_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    tls_error(error).filter(|tls| {
        matches!(
            tls,
            rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::UnsupportedNameType
        )
    })
}

/// A failure and what is behind it, from the outside inwards.
pub(super) fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An io::Error hides its inner error from `source`.
        error
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref())
            .map(|inner| inner as &(dyn Error + 'static))
            .or_else(|| error.source())
    })
}

/// The innermost two levels of a failure: the outer ones only say that a request failed.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let levels: Vec<String> = sources(error).map(|source| clean(&source.to_string())).collect();
    let mut last: Vec<&String> = levels.iter().rev().take(2).collect();
    last.reverse();
    last.dedup();
    last.into_iter().map(String::as_str).collect::<Vec<_>>().join(": ")
}

//! The loopback door: the same world behind a socket, with time that passes.
//!
//! `control.rs` is the door for those who arrange a world. The metadata server listens at an address of its own, as
//! machines expect it.
//!
//! A [`Cut`] becomes what it stands for on the wire: a reset, silence, or an answer that ends too early. Loopback has no
//! names and no certificates, so the kinds of not getting through all become a connection that is reset at once.

mod control;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{Config, Cut, Delivery, World};

/// Requests above this size are no API requests.
const LARGEST_REQUEST: usize = 1024 * 1024;

/// Where and how a world is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the APIs are.
    pub address: SocketAddr,
    /// Where the metadata server is, if there is one.
    pub metadata: Option<SocketAddr>,
    /// How much faster time passes in the world.
    pub time_scale: f64,
    /// Whether it ends when standard input closes.
    pub exit_with_parent: bool,
}

/// Serves one world until it is told to end: by a signal, or by the end of standard input if that is wanted.
///
/// # Errors
///
/// If an address is taken.
pub async fn serve(options: &Options, config: Config) -> Result<(), String> {
    let (listener, address) = listen(options.address).await?;
    let (metadata, metadata_address) = match options.metadata {
        Some(wanted) => listen(wanted).await.map(|(listener, address)| (Some(listener), Some(address)))?,
        None => (None, None),
    };
    println!("{}", greeting(address, metadata_address, &config));
    let door = Arc::new(Door::new(config, options.time_scale));
    let end = async {
        if options.exit_with_parent {
            tokio::select! { () = end_of_stdin() => {}, () = signal() => {} }
        } else {
            signal().await;
        }
    };
    tokio::select! {
        () = end => Ok(()),
        () = accept(listener, Arc::clone(&door), Visitor::Client) => Ok(()),
        () = accept_some(metadata, door) => Ok(()),
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((listener, address))
}

/// Who knocks: this is told by the address.
#[derive(Clone, Copy)]
enum Visitor {
    /// A client of the APIs, or whoever arranges the world.
    Client,
    /// A machine that asks about itself.
    Machine,
}

/// Without a listener, nobody ever comes.
async fn accept_some(listener: Option<TcpListener>, door: Arc<Door>) {
    match listener {
        Some(listener) => accept(listener, door, Visitor::Machine).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "a connection is a task; what breaks in it ends it alone")]
async fn accept(listener: TcpListener, door: Arc<Door>, visitor: Visitor) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let door = Arc::clone(&door);
        tokio::task::spawn(async move { door.talk(stream, visitor).await });
    }
}

/// What a client needs to know, as one line of JSON.
fn greeting(address: SocketAddr, metadata: Option<SocketAddr>, config: &Config) -> Value {
    let client = config.tailscale.clients.first();
    json!({
        "url": format!("http://{address}"),
        "hetzner": format!("http://{address}/v1"),
        "tailscale": format!("http://{address}/api/v2"),
        "hetznerToken": config.hetzner.token,
        "sshKeyId": "4711",
        "tailscaleClientId": client.map(|client| client.id.as_str()),
        "tailscaleClientSecret": client.map(|client| client.secret.as_str()),
        "oidcUrl": format!("http://{address}/_sim/oidc/token"),
        "oidcToken": config.tailscale.issuer_token,
        "federatedClientId": config.tailscale.federated_id,
        "metadata": metadata.map(|address| format!("http://{address}/hetzner/v1")),
    })
}

/// The world, and its time.
struct Door {
    world: Mutex<World>,
    began: tokio::time::Instant,
    scale: f64,
    jumped: Mutex<Duration>,
}

impl Door {
    #[expect(clippy::disallowed_methods, reason = "the loopback door is where real time enters the world")]
    fn new(config: Config, scale: f64) -> Self {
        let began = tokio::time::Instant::now();
        Self { world: Mutex::new(World::new(config)), began, scale, jumped: Mutex::new(Duration::ZERO) }
    }

    fn now(&self) -> Duration {
        let jumped = *self.jumped.lock().unwrap_or_else(PoisonError::into_inner);
        self.began.elapsed().mul_f64(self.scale) + jumped
    }

    /// The world as it is now.
    fn world(&self) -> MutexGuard<'_, World> {
        let now = self.now();
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance(now);
        world
    }

    async fn talk(self: Arc<Self>, stream: TcpStream, visitor: Visitor) {
        let socket = Arc::new(Mutex::new(Ending::Orderly));
        let ending = Arc::clone(&socket);
        let service = service_fn(move |request: Request<Incoming>| {
            let (door, ending) = (Arc::clone(&self), Arc::clone(&ending));
            async move { door.answer(request, visitor, &ending).await }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // What breaks here broke on purpose, or because the client left.
        if let Ok(parts) = connection.without_shutdown().await
            && *socket.lock().unwrap_or_else(PoisonError::into_inner) == Ending::Reset
        {
            reset(&parts.io.into_inner());
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        visitor: Visitor,
        ending: &Mutex<Ending>,
    ) -> Result<Response<Scripted>, Broken> {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, LARGEST_REQUEST).collect().await else { return Err(Broken) };
        let request = Request::from_parts(parts, body.to_bytes());
        let path = request.uri().path();
        if matches!(visitor, Visitor::Machine) {
            return Ok(self.world().metadata(request.method(), path).map(Scripted::whole));
        }
        if path.starts_with("/_sim/") && !path.starts_with("/_sim/oidc") {
            return Ok(self.control(&request).map(Scripted::whole));
        }
        let Delivery { after, outcome } = self.world().exchange(self.now(), request);
        tokio::time::sleep(after.div_f64(self.scale)).await;
        match outcome {
            Ok(response) => Ok(response.map(Scripted::whole)),
            Err(Cut::Truncated(response)) => Ok(response.map(Scripted::cut_short)),
            Err(Cut::Hang) => std::future::pending().await,
            Err(_) => {
                *ending.lock().unwrap_or_else(PoisonError::into_inner) = Ending::Reset;
                Err(Broken)
            }
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Orderly,
    Reset,
}

/// Closes with a reset instead of a farewell.
fn reset(stream: &TcpStream) {
    // Best effort: without it the client sees a close, which is as good as a reset before an answer.
    let _ = stream.set_zero_linger();
}

/// Ends a connection without an answer.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Broken {}

/// A body that may end before its announced end.
struct Scripted {
    data: Option<Bytes>,
    announced: u64,
    cut: bool,
}

impl Scripted {
    fn whole(data: Bytes) -> Self {
        Self { announced: data.len() as u64, data: Some(data), cut: false }
    }

    fn cut_short(data: Bytes) -> Self {
        Self { announced: data.len() as u64 * 2 + 1, data: Some(data), cut: true }
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.data.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None if self.cut => Poll::Ready(Some(Err(Broken))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}

async fn end_of_stdin() {
    let ended = tokio::task::spawn_blocking(|| {
        let mut sink = std::io::sink();
        std::io::copy(&mut std::io::stdin(), &mut sink)
    });
    // However the reading ends, there is nobody at the other end any more.
    let _ = ended.await;
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}

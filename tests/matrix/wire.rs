//! The caller's end of the wire: it counts the requests of one call, and lets the planned mishap befall the planned one.
//!
//! What the simulator can do wrong, it does; this only arms it for exactly one request. What an answer says that the
//! simulator would never say is changed on the way (a twist).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use provision_vm::transport::{BODY_LIMIT, Transport, TransportError};
use serde_json::Value;
use simulator::{Api, Entry, Fault, FaultKind};
use tokio::time::Instant;

use crate::support::Cloud;

/// What befalls one request.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// Scripted in the simulator.
    Fault(FaultKind),
    /// The answer is the world's own, changed on the way.
    Twist(fn(&mut Value)),
    /// The answer is the world's own, with other bytes.
    Bytes(fn(&[u8]) -> Vec<u8>),
    /// Our own transport panics: before the request is sent, or with the answer in its hands.
    Panic { applied: bool },
}

/// Which requests of a call a mishap befalls.
#[derive(Clone, Debug)]
pub enum Aim {
    /// The one with this number.
    At(usize),
    /// The one with this number, and from there on every one of the same operation.
    From(usize),
    /// Every request of this operation.
    Every(String),
}

/// What goes wrong in a call.
pub type Plan = Vec<(Aim, Mishap)>;

/// One request of the call.
#[derive(Clone, Debug)]
pub struct Sent {
    /// `hetzner GET /servers/*`
    pub operation: String,
    /// Milliseconds since the call began.
    pub at: u64,
    /// When its answer was there, or it broke off, or nobody waited any more.
    pub ended: u64,
    /// Whether the planned mishap befell it.
    pub struck: bool,
    /// Its line of the world's journal.
    pub entry: usize,
}

/// One call's way to the world.
#[derive(Clone)]
pub struct Wire(Arc<Inner>);

struct Inner {
    cloud: Cloud,
    plan: Plan,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log: Vec<Sent>,
    /// The operation that each lasting mishap has settled on.
    lasting: Vec<Option<String>>,
}

impl Wire {
    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
    pub fn new(cloud: &Cloud, plan: Plan) -> Self {
        let state = State { log: Vec::new(), lasting: vec![None; plan.len()] };
        Self(Arc::new(Inner { cloud: cloud.clone(), plan, began: Instant::now(), state: Mutex::new(state) }))
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Sent> {
        self.state().log.clone()
    }

    pub fn elapsed(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request down and says what befalls it.
    fn admit(&self, request: &http::Request<Bytes>) -> (usize, Option<Mishap>) {
        let (api, path) = split(request.uri().path());
        let operation = operation(api, request.method().as_str(), path);
        // The world's line of this request comes next: nothing can happen between here and the exchange.
        let entry = self.0.cloud.world().journal().len();
        let at = self.elapsed();
        let mut state = self.state();
        let index = state.log.len();
        let mut mishap = None;
        for (number, (aim, planned)) in self.0.plan.iter().enumerate() {
            let hit = match aim {
                Aim::At(wanted) => *wanted == index,
                Aim::From(wanted) if *wanted == index => {
                    state.lasting[number] = Some(operation.clone());
                    true
                }
                Aim::From(_) => state.lasting[number].as_ref() == Some(&operation),
                Aim::Every(wanted) => *wanted == operation,
            };
            if hit {
                mishap = Some(planned.clone());
            }
        }
        if let Some(Mishap::Fault(kind)) = &mishap {
            let (method, path) = (Some(request.method().to_string()), Some(path.to_owned()));
            self.0.cloud.world().inject(Fault { api, method, path, skip: 0, times: 1, kind: kind.clone() });
        }
        state.log.push(Sent { operation, at, ended: at, struck: mishap.is_some(), entry });
        (index, mishap)
    }

    /// Whether a request met in the world what was planned for it, and no other did.
    pub fn misfires(&self) -> Vec<String> {
        let world = self.0.cloud.world();
        let journal = world.journal();
        let differs = |sent: &&Sent| {
            let entry = journal.get(sent.entry);
            // A request that panics before it is sent has no line.
            let is_panic = self.0.plan.iter().any(|(_, mishap)| matches!(mishap, Mishap::Panic { .. }));
            let is_fault = sent.struck && self.0.plan.iter().all(|(_, mishap)| matches!(mishap, Mishap::Fault(_)));
            !is_panic && !entry.is_some_and(|entry| fits(entry, sent) && (!is_fault || entry.fault.is_some()))
        };
        let log = self.log();
        let wrong: Vec<&Sent> = log.iter().filter(differs).collect();
        wrong.iter().map(|sent| format!("{sent:?} is not {:?} in the journal", journal.get(sent.entry))).collect()
    }
}

fn fits(entry: &Entry, sent: &Sent) -> bool {
    let Some((method, uri)) = entry.what.split_once(' ') else { return false };
    let (api, path) = split(uri.split('?').next().unwrap_or_default());
    operation(api, method, path) == sent.operation
}

impl Transport for Wire {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let (index, mishap) = self.admit(&request);
            let _ended = Ended(self, index);
            match mishap {
                Some(Mishap::Panic { applied: false }) => panic(),
                Some(Mishap::Panic { applied: true }) => {
                    let _ = self.0.cloud.exchange(request).await;
                    panic()
                }
                Some(Mishap::Twist(change)) => {
                    let answer = self.0.cloud.exchange(request).await?;
                    Ok(answer.map(|body| match serde_json::from_slice(&body) {
                        Ok(mut json) => {
                            change(&mut json);
                            Bytes::from(json.to_string())
                        }
                        Err(_) => body,
                    }))
                }
                Some(Mishap::Bytes(change)) => {
                    let answer = self.0.cloud.exchange(request).await?;
                    Ok(answer.map(|body| Bytes::from(change(&body))))
                }
                Some(Mishap::Fault(_)) | None => {
                    let answer = self.0.cloud.exchange(request).await?;
                    if answer.body().len() > BODY_LIMIT {
                        return Err(TransportError::TooLarge { host, limit: BODY_LIMIT });
                    }
                    Ok(answer)
                }
            }
        })
    }
}

/// Without the panic hook, whose text would only hide the failures.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("a planned panic"))
}

/// Notes when an exchange is over, however it ends.
struct Ended<'a>(&'a Wire, usize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let now = self.0.elapsed();
        self.0.state().log[self.1].ended = now;
    }
}

fn split(path: &str) -> (Api, &str) {
    if let Some(rest) = path.strip_prefix("/v1") {
        (Api::Hetzner, rest)
    } else if let Some(rest) = path.strip_prefix("/api/v2") {
        (Api::Tailscale, rest)
    } else {
        (Api::Oidc, path.strip_prefix("/_sim/oidc").unwrap_or(path))
    }
}

/// A request without its ids: two of the same operation differ in nothing that a fault could care about.
fn operation(api: Api, method: &str, path: &str) -> String {
    let api = match api {
        Api::Hetzner => "hetzner",
        Api::Tailscale => "tailscale",
        Api::Oidc | Api::Any => "oidc",
    };
    let mut plain = Vec::new();
    for part in path.split('/') {
        let is_id = matches!(plain.last(), Some(&"keys" | &"device")) || part.bytes().any(|byte| byte.is_ascii_digit());
        plain.push(if is_id { "*" } else { part });
    }
    format!("{api} {method} {}", plain.join("/"))
}

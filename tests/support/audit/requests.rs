//! The rules for what is sent: I04, I06, I07, I08, I09.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use simulator::{Applied, Cut, Delivery, Fate};

use super::secrets::Kind;
use super::{Audit, log};

/// How many requests of one call may be on their way at the same time.
const IN_FLIGHT: u32 = 2;
/// How long a call may do nothing at all: the longest single wait is 30 s.
const LONGEST_WAIT: Duration = Duration::from_secs(31);

const HETZNER: &str = "api.hetzner.cloud";
const TAILSCALE: &str = "api.tailscale.com";
/// Where the tests' issuer of identity tokens stands.
pub const ISSUER: &str = "issuer.example";

/// Faults that leave no doubt: the request was not carried out, or its answer is what it would have been.
const CLEAR: [&str; 3] = ["slow", "stale_read", "rate_limited"];

/// One request on its way.
#[derive(Debug)]
pub struct Sent {
    process: u32,
    call: Option<usize>,
    kind: What,
    /// The calls whose jobs it looks up.
    looked_up: Vec<usize>,
    /// The server that it reads.
    reads: Option<u64>,
    /// The server that it deletes.
    deletes: Option<u64>,
    fate: Fate,
    /// In which step its sender was; a reaper has but one, and so has who cleans up.
    step: String,
}

/// What a process was last shown of a server.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub at: Duration,
}

#[derive(serde::Deserialize)]
struct Answer {
    server: ShownServer,
}

#[derive(serde::Deserialize)]
struct List {
    servers: Vec<ShownServer>,
}

/// The label that names a server's job.
const JOB: &str = "provisioning_job_id";

impl ShownServer {
    fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }
}

#[derive(serde::Deserialize)]
struct ShownServer {
    id: u64,
    name: String,
    labels: BTreeMap<String, String>,
}

/// What a request asks for, as far as the rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    OrderServer,
    OrderKey,
    /// The list of servers: by label, or else by name.
    ListServers {
        by_label: bool,
    },
    ListKeys,
    Other,
}

/// What the run of a world was made of.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Faults by kind and by the step of the call that met them.
    pub faults: BTreeMap<(&'static str, String), u32>,
    /// Requests to Hetzner and to Tailscale of each call that succeeded on its own.
    pub requests: Vec<(u32, u32)>,
    /// The same of calls that failed.
    pub requests_of_failures: Vec<(u32, u32)>,
    /// How many things failed calls named as left.
    pub named: u32,
    /// How many texts were searched for secrets.
    pub searched: u64,
    /// How many clean-ups reported, and what they found: servers, and keys that no server named.
    pub cleanups: u32,
    pub cleaned: u32,
    /// What came of late orders after a clean-up after their run.
    pub landed_late: u32,
}

impl Audit {
    /// A request leaves a process.
    pub fn sent(&mut self, process: u32, request: &http::Request<Bytes>) -> Sent {
        let uri = request.uri();
        let (host, path) = (uri.host().unwrap_or_default(), uri.path());
        let query = uri.query().unwrap_or_default();
        (process, self.now, request.method().as_str(), path, query).hash(&mut self.trace);
        self.check_secrets(request);
        if ![HETZNER, TAILSCALE, ISSUER].contains(&host) {
            self.violated("I07", format!("a request to {host}"));
        }
        self.check_pace(process, host, request);
        let kind = match (request.method(), path.trim_end_matches('/')) {
            (&Method::POST, "/v1/servers") => What::OrderServer,
            (&Method::GET, "/v1/servers") => What::ListServers { by_label: query.contains("label_selector=") },
            (&Method::POST, path) if path.starts_with("/api/v2/tailnet/") && path.ends_with("/keys") => What::OrderKey,
            (&Method::GET, path) if path.starts_with("/api/v2/tailnet/") && path.ends_with("/keys") => What::ListKeys,
            _ => What::Other,
        };
        let call = self.call_for(process, kind, query, request.body());
        match (kind, call) {
            (What::OrderServer, Some(call)) => self.check_order(call, request.body()),
            (What::OrderKey, Some(call)) => self.check_key_order(call, request.body()),
            (What::OrderServer | What::OrderKey, None) => self.violated("I04", "an order that belongs to no call"),
            _ => {}
        }
        let step = if self.reaps(process).is_some() {
            "reap".to_owned()
        } else if self.cleans_up(process).is_some() {
            "cleanup".to_owned()
        } else {
            log::step().unwrap_or_default()
        };
        let looked_up = match kind {
            What::ListServers { by_label: true } => self.calls_in(process, query),
            _ => Vec::new(),
        };
        let server = path.strip_prefix("/v1/servers/").and_then(|id| id.parse().ok());
        let reads = server.filter(|_| request.method() == Method::GET);
        let deletes = server.filter(|_| request.method() == Method::DELETE);
        if let Some(id) = deletes {
            self.check_delete(process, id);
        }
        if let Some(id) = server.filter(|_| request.method() == Method::PUT) {
            self.check_write(process, id);
        }
        if let Some((id, _)) = path.strip_prefix("/v1/servers/").and_then(|rest| rest.split_once("/actions/")) {
            self.check_power(process, id);
        }
        Sent { process, call, kind, looked_up, reads, deletes, fate: Fate::default(), step }
    }

    /// What became of the request in the world, whether its sender will hear of it or not. `weather` is the fault that it
    /// met there, in a word.
    pub fn met(&mut self, sent: &mut Sent, fate: Fate, weather: Option<&'static str>, delivery: &Delivery) {
        sent.fate = fate;
        if let Some(id) = sent.deletes.filter(|_| fate.applied == Applied::Later)
            && let Some(server) = self.servers.get(&id)
        {
            self.late.insert((sent.process, id), server.clone());
        }
        (fate, delivery.after, status(&delivery.outcome)).hash(&mut self.trace);
        if let Some(fault) = weather.or(fate.fault) {
            *self.counts.faults.entry((fault, std::mem::take(&mut sent.step))).or_default() += 1;
        }
    }

    /// The answer is there, or nobody waits for it any more.
    pub fn landed(&mut self, sent: &Sent, outcome: Option<&Result<http::Response<Bytes>, Cut>>) {
        let now = self.now;
        if let Some(process) = self.processes.get_mut(&sent.process) {
            process.in_flight = process.in_flight.saturating_sub(1);
            process.active_at = now;
        }
        let answer = outcome.and_then(|outcome| outcome.as_ref().ok());
        let good = answer.filter(|answer| answer.status().is_success());
        // The list of keys is the same for every call. Where listing is not permitted, an unheard key dies by its short
        // life (fault K03).
        if sent.kind == What::ListKeys && answer.is_some_and(|answer| good.is_some() || answer.status() == 403) {
            let of_process = self.calls.iter_mut().filter(|call| call.process == sent.process);
            of_process.for_each(|call| call.keys.unclear = false);
        }
        let running = self.processes.get(&sent.process).map_or(1, |process| process.running);
        if let (Some(id), Some(answer)) = (sent.reads, good)
            && let Ok(answer) = serde_json::from_slice::<Answer>(answer.body())
        {
            self.has_shown(sent.process, running, ShownServer { id, ..answer.server });
            let reads = self.reads.entry((sent.process, id)).or_default();
            *reads = (*reads + 1).min(running);
        }
        if let (What::ListServers { .. }, Some(answer)) = (sent.kind, good)
            && let Ok(list) = serde_json::from_slice::<List>(answer.body())
        {
            for call in &sent.looked_up {
                let call = &mut self.calls[*call];
                call.absent = Some(!list.servers.iter().any(|server| server.label(JOB) == call.job));
            }
            list.servers.into_iter().for_each(|server| self.has_shown(sent.process, running, server));
        }
        let is_clear = match outcome {
            // Whoever says this has not listened.
            Some(Ok(answer)) if answer.status() == http::StatusCode::TOO_MANY_REQUESTS => true,
            // A lock says that there is a server, so it may be the one that was ordered (fault P24).
            Some(Ok(answer)) if sent.kind == What::OrderServer && answer.status() == http::StatusCode::LOCKED => false,
            // A refusal in the API's own form is one; what a page says proves nothing, whatever its status.
            Some(Ok(answer)) if answer.status().is_client_error() && answer.body().starts_with(b"{") => true,
            Some(Ok(answer)) if !answer.status().is_server_error() => {
                sent.fate.fault.is_none_or(|fault| CLEAR.contains(&fault))
            }
            Some(Err(Cut::Refused | Cut::Dns | Cut::ConnectTimeout | Cut::TlsInvalid | Cut::TlsCut)) => true,
            _ => false,
        };
        if let Some(id) = sent.reads {
            let is_denied = is_clear && answer.is_some_and(|answer| answer.status() == http::StatusCode::NOT_FOUND);
            let absent = self.absent.entry((sent.process, id)).or_default();
            *absent = if is_denied { *absent + 1 } else { 0 };
        }
        if let Some(id) = sent.deletes.filter(|_| is_clear && good.is_some()) {
            self.accepted.insert((sent.process, id));
        }
        if let Some(id) = sent.deletes.filter(|_| good.is_some() || !is_clear) {
            self.asked.insert((sent.process, id));
        }
        let Some(call) = sent.call.map(|call| &mut self.calls[call]) else { return };
        let orders = match sent.kind {
            What::OrderServer => &mut call.servers,
            What::OrderKey => &mut call.keys,
            What::ListServers { by_label } => {
                if good.is_some() {
                    call.servers.unclear &= by_label;
                }
                return;
            }
            What::ListKeys | What::Other => return,
        };
        orders.unclear |= !is_clear;
        // A spoiled refusal may be taken for one or not.
        let is_spoiled = sent.fate.fault == Some("garble");
        orders.ever_unclear |= !is_clear || is_spoiled || sent.fate.applied == Applied::Later;
    }

    fn call_for(&self, process: u32, kind: What, query: &str, body: &[u8]) -> Option<usize> {
        let text = || std::str::from_utf8(body).unwrap_or_default();
        match kind {
            What::OrderServer => self.call_of(process, field(text(), "name")?),
            What::OrderKey => self.call_of(process, field(text(), "description")?.split(' ').nth(1)?),
            What::ListServers { by_label: false } => {
                self.call_of(process, query.split('&').find_map(|pair| pair.strip_prefix("name="))?)
            }
            _ => {
                let is_it = |call: &super::Call| {
                    call.process == process
                        && call.settled.is_none()
                        && (kind == What::Other || kind == What::ListKeys || query.contains(&call.job))
                };
                self.calls.iter().rposition(is_it)
            }
        }
    }

    /// The calls under way whose jobs a selector names.
    fn calls_in(&self, process: u32, query: &str) -> Vec<usize> {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let selectors: Vec<String> =
            pairs.filter(|(name, _)| name == "label_selector").map(|pair| pair.1.into()).collect();
        let is_value = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let words: Vec<&str> = selectors.iter().flat_map(|text| text.split(|letter| !is_value(letter))).collect();
        let is_it = |call: &super::Call| {
            call.process == process && call.settled.is_none() && words.contains(&call.job.as_str())
        };
        (0..self.calls.len()).filter(|call| is_it(&self.calls[*call])).collect()
    }

    /// I07, I08, and the part of I09 that says how long a wait may be.
    fn check_pace(&mut self, process: u32, host: &str, request: &http::Request<Bytes>) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&process) else { return };
        if host == HETZNER {
            process.sent.0 += 1;
        } else {
            process.sent.1 += 1;
        }
        process.in_flight += 1;
        let (running, in_flight) = (process.running, process.in_flight);
        let waited = now.saturating_sub(process.active_at);
        process.active_at = now;
        if running == 0 {
            self.violated("I07", format!("a request after settlement: {} {}", request.method(), request.uri().path()));
        } else if in_flight > IN_FLIGHT * running {
            self.violated("I08", format!("{in_flight} requests of {running} calls at the same time"));
        } else if in_flight == 1 && waited > LONGEST_WAIT {
            self.violated("I09", format!("nothing was done for {waited:?}"));
        }
    }

    /// I04 and I09 for the order of a server.
    fn check_order(&mut self, call: usize, body: &Bytes) {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let Some(attempt) = field(text, "attempt") else {
            return self.violated("I18", "a server is ordered without an attempt's label");
        };
        self.minted(call, attempt);
        let given = self.calls[call].given_key.clone();
        let orders = &mut self.calls[call].servers;
        orders.any = true;
        let unclear = std::mem::take(&mut orders.unclear);
        let in_hand = match given {
            Some(key) => memory_has(body, key.as_bytes()),
            None => self.keys.iter().any(|(id, key)| {
                key.attempt.as_deref() == Some(attempt)
                    && !key.revoked
                    && key.capable
                    && memory_has(body, format!("tskey-auth-{id}-").as_bytes())
            }),
        };
        if unclear {
            self.violated(
                "I09",
                "a server is ordered again without a look-up, though the last order may have been heard",
            );
        }
        if let Some(token) = bearer(text)
            && !self.secrets.has(Kind::ReportToken, token)
        {
            self.violated("I06", "a machine is given a token for boot reports that no log was told to mask");
        }
        if !in_hand {
            self.violated("I04", "a server is ordered without a usable key of this attempt in it");
        }
    }

    /// I04 and I09 for the order of a key.
    fn check_key_order(&mut self, call: usize, body: &Bytes) {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let attempt = field(text, "description").and_then(|text| text.split(' ').next_back()).unwrap_or_default();
        self.minted(call, attempt);
        let record = &mut self.calls[call];
        record.keys.any = true;
        // Another attempt's keys have another description; what is left of the one before was named when that was undone.
        let is_again = record.keys.attempt.replace(attempt.to_owned()).is_some_and(|last| last == attempt);
        let unclear = std::mem::take(&mut record.keys.unclear) && is_again;
        let absent = record.absent == Some(true);
        if unclear {
            self.violated("I09", "a key is ordered again without a look, though the last order may have been heard");
        }
        if !absent {
            self.violated("I04", "a key is ordered before a look-up said that nothing is there");
        }
    }

    /// I03: between two deletes a server may have become another's, so a read comes before each.
    fn check_delete(&mut self, process: u32, id: u64) {
        match self.reads.get_mut(&(process, id)).filter(|reads| **reads > 0) {
            Some(reads) => *reads -= 1,
            None => self.violated("I03", format!("server {id} is to be deleted without a read since the last time")),
        }
    }

    /// A process is shown a server.
    fn has_shown(&mut self, process: u32, running: u32, server: ShownServer) {
        let key = (process, server.id);
        self.shown.insert(key, Shown { name: server.name, labels: server.labels, at: self.now });
        let views = self.views.entry(key).or_default();
        *views = (*views + 1).min(running);
    }

    /// I02: a write replaces all labels, so a read comes before each.
    fn check_write(&mut self, process: u32, id: u64) {
        match self.views.get_mut(&(process, id)).filter(|views| **views > 0) {
            Some(views) => *views -= 1,
            None => self.violated("I02", format!("server {id} is to be written without a read since the last time")),
        }
        if let Some(shown) = self.shown.get(&(process, id)) {
            self.basis.insert((process, id), shown.clone());
        }
    }

    /// I02: nobody's server is switched but the attempt's own, or one that is anybody's to finish.
    fn check_power(&mut self, process: u32, id: &str) {
        let server = id.parse().ok().and_then(|id: u64| self.servers.get(&id));
        if server.is_none_or(|server| !server.meddled && !server.is_shared && !self.owns(process, server)) {
            self.violated("I02", format!("server {id} is switched and is not this process's"));
        }
    }

    /// An attempt shows for the first time, or again.
    pub(super) fn minted(&mut self, call: usize, attempt: &str) {
        let owner = *self.attempts.entry(attempt.to_owned()).or_insert(call);
        if owner != call {
            self.violated("I03", format!("attempt {attempt} is used by two calls"));
        }
        if !self.calls[call].attempts.contains(attempt) {
            self.calls[call].attempts.insert(attempt.to_owned());
        }
    }

    /// I06: a secret leaves only for its own host, in the place that is made for it.
    fn check_secrets(&mut self, request: &http::Request<Bytes>) {
        use Kind::{
            AccessToken, AuthKey, GivenKey, HetznerToken, IdentityToken, IssuerToken, OAuthSecret, ReportToken,
        };
        let (uri, host) = (request.uri(), request.uri().host().unwrap_or_default());
        let (header, body): (&[Kind], &[Kind]) = match (host, uri.path()) {
            (HETZNER, "/v1/servers") => (&[HetznerToken], &[AuthKey, GivenKey, ReportToken]),
            (HETZNER, _) => (&[HetznerToken], &[]),
            (TAILSCALE, "/api/v2/oauth/token") => (&[OAuthSecret], &[OAuthSecret]),
            (TAILSCALE, "/api/v2/oauth/token-exchange") => (&[], &[IdentityToken]),
            (TAILSCALE, _) => (&[AccessToken], &[]),
            (ISSUER, _) => (&[IssuerToken], &[]),
            _ => (&[], &[]),
        };
        self.search("a path", uri.path().as_bytes(), &[]);
        self.search("a query", uri.query().unwrap_or_default().as_bytes(), &[]);
        self.search("a body", request.body(), body);
        for (name, value) in request.headers() {
            let allowed = if name == http::header::AUTHORIZATION { header } else { &[] };
            self.search("a header", value.as_bytes(), allowed);
        }
    }
}

fn status(outcome: &Result<http::Response<Bytes>, Cut>) -> (u16, &'static str) {
    match outcome {
        Ok(answer) => (answer.status().as_u16(), ""),
        Err(cut) => (0, cut.name()),
    }
}

/// The token for boot reports in a first-boot document, which is JSON within JSON.
fn bearer(order: &str) -> Option<&str> {
    let (_, rest) = order.split_once("Authorization: Bearer ")?;
    rest.split(['\\', '"']).next()
}

/// The text of a field in JSON as it is written on the wire. What stands in a text is escaped, so it is not found.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let from = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
    json[from..].split('"').next()
}

fn memory_has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

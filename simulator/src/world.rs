//! The world: time passes, requests come in, things happen.

use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::agenda::{Agenda, Happening};
use crate::config::{BootOutcome, Config};
use crate::context::Context;
use crate::fault::{Api, Cut, Fault, FaultKind, Faults};
use crate::garble::garble;
use crate::hetzner::{Hetzner, PlantedServer};
use crate::history::{Actor, Applied, Change, DeviceView, Fate, KeyView, PrimaryIpView, ServerView};
use crate::machine::{self, JoinPlan};
use crate::reply::{hetzner_error, json_reply, tailscale_error, text_reply};
use crate::tailscale::{Join, NodeId, PlantedDevice, PlantedKey, Tailscale};

/// Somewhat more than anybody should hold; the client under test stops at 16 MiB. One for all uses.
static OVERSIZE: LazyLock<Bytes> = LazyLock::new(|| vec![b' '; 17 * 1024 * 1024].into());

/// One world. A pure state machine: no clock, no threads, no sockets.
#[derive(Debug)]
pub struct World {
    config: Config,
    cx: Context,
    agenda: Agenda,
    hetzner: Hetzner,
    tailscale: Tailscale,
    faults: Faults,
    /// The fault that the next request meets, whatever it is.
    ambush: Option<FaultKind>,
    fate: Fate,
    journal: Vec<Entry>,
}

/// What becomes of one exchange, as its sender sees it.
#[derive(Debug)]
pub struct Delivery {
    /// How long it takes until the outcome is there.
    pub after: Duration,
    /// The answer, or how it broke off.
    pub outcome: Result<Response<Bytes>, Cut>,
}

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Milliseconds since the world began.
    pub at_ms: u64,
    /// `hetzner`, `tailscale`, `oidc` or `world`.
    pub who: &'static str,
    /// The request line, or what happened.
    pub what: String,
    /// The status, the cut, or nothing.
    pub outcome: String,
    /// The fault that the request met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl World {
    /// A world at its beginning.
    pub fn new(config: Config) -> Self {
        let cx = Context::new(config.seed, config.epoch);
        let hetzner = Hetzner::new(&config.hetzner);
        let tailscale = Tailscale::new(config.tailscale.clone());
        Self {
            config,
            cx,
            agenda: Agenda::default(),
            hetzner,
            tailscale,
            faults: Faults::default(),
            ambush: None,
            fate: Fate::default(),
            journal: Vec::new(),
        }
    }

    /// How the world behaves from now on.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes how the world behaves from now on.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.tailscale.configure(self.config.tailscale.clone());
    }

    /// Arms a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&mut self) {
        self.faults.disarm();
    }

    /// Lets the next request, whatever it is, meet this fault before any that is armed.
    pub fn ambush(&mut self, kind: FaultKind) {
        self.ambush = Some(kind);
    }

    /// What happened since the last call, and who caused it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.cx.take_changes()
    }

    /// What became of the last exchange.
    pub fn last_fate(&self) -> Fate {
        self.fate
    }

    /// The world's wall clock in unix seconds.
    pub fn unix(&self) -> i64 {
        self.cx.unix()
    }

    /// The servers, as they truly are.
    pub fn servers(&self) -> impl Iterator<Item = ServerView<'_>> {
        self.hetzner.servers()
    }

    /// The devices, as they truly are.
    pub fn devices(&self) -> impl Iterator<Item = DeviceView<'_>> {
        self.tailscale.devices(&self.cx)
    }

    /// The auth keys, as they truly are.
    pub fn keys(&self) -> impl Iterator<Item = KeyView<'_>> {
        self.tailscale.keys(self.cx.now)
    }

    /// The primary IPs, as they truly are.
    pub fn primary_ips(&self) -> impl Iterator<Item = PrimaryIpView> {
        self.hetzner.primary_ip_views()
    }

    /// The history so far.
    pub fn journal(&self) -> &[Entry] {
        &self.journal
    }

    /// When the next thing happens by itself.
    pub fn next_event(&self) -> Option<Duration> {
        [self.agenda.next(), self.tailscale.next_event()].into_iter().flatten().min()
    }

    /// Lets everything happen that is due by `now`, in order. Time never goes back.
    pub fn advance(&mut self, now: Duration) {
        while let Some(next) = self.next_event().filter(|next| *next <= now) {
            self.cx.now = self.cx.now.max(next);
            self.tailscale.tick(&mut self.cx);
            while let Some((_, happening)) = self.agenda.take_due(self.cx.now) {
                self.happen(happening);
            }
        }
        self.cx.now = self.cx.now.max(now);
    }

    /// One exchange that arrives at `now` (time since the world began), from caller 0.
    pub fn exchange(&mut self, now: Duration, request: Request<Bytes>) -> Delivery {
        self.exchange_as(0, now, request)
    }

    /// One exchange of a numbered caller, to whom the history ascribes what it causes.
    pub fn exchange_as(&mut self, caller: u32, now: Duration, request: Request<Bytes>) -> Delivery {
        self.advance(now);
        self.fate = Fate::default();
        let Some((api, path)) = route(&request) else {
            return Delivery {
                after: self.latency(),
                outcome: Ok(text_reply(404, "text/plain", "404 page not found\n")),
            };
        };
        let line = format!("{} {}", request.method(), request.uri().path_and_query().map_or("/", |p| p.as_str()));
        let fault = match self.ambush.take() {
            Some(kind) => {
                self.faults.fired += 1;
                Some(kind)
            }
            None => self.faults.meet(api, request.method().as_str(), &path),
        };
        let name = fault.as_ref().map(|fault| format!("{fault:?}"));
        self.fate = Fate {
            fault: fault.as_ref().map(FaultKind::name),
            applied: fault.as_ref().map_or(Applied::Now, FaultKind::applied),
        };
        self.cx.by = Actor::Caller(caller);
        let after = self.latency() + slowness(fault.as_ref());
        let outcome = self.carry_out(api, request, fault);
        self.cx.by = Actor::World;
        let said = match &outcome {
            Ok(response) => response.status().as_u16().to_string(),
            Err(cut) => cut.name().to_owned(),
        };
        self.note(api_name(api), line, said, name);
        Delivery { after, outcome }
    }

    fn latency(&mut self) -> Duration {
        let (least, most) = self.config.latency_ms;
        Duration::from_millis(self.cx.rng.u64(least..=most.max(least)))
    }

    fn carry_out(
        &mut self,
        api: Api,
        request: Request<Bytes>,
        fault: Option<FaultKind>,
    ) -> Result<Response<Bytes>, Cut> {
        let Some(fault) = fault else { return Ok(self.apply(api, &request)) };
        match fault {
            FaultKind::Refuse => Err(Cut::Refused),
            FaultKind::Dns => Err(Cut::Dns),
            FaultKind::ConnectTimeout => Err(Cut::ConnectTimeout),
            FaultKind::TlsInvalid => Err(Cut::TlsInvalid),
            FaultKind::TlsCut => Err(Cut::TlsCut),
            FaultKind::ResetBeforeApply => Err(Cut::Reset),
            FaultKind::HangBeforeApply => Err(Cut::Hang),
            FaultKind::ResetAfterApply => {
                self.apply(api, &request);
                Err(Cut::Reset)
            }
            FaultKind::HangAfterApply => {
                self.apply(api, &request);
                Err(Cut::Hang)
            }
            FaultKind::ResetThenApply { after_ms } => {
                let at = self.cx.now + Duration::from_millis(after_ms);
                self.agenda.put(at, Happening::LateRequest(self.cx.by, Box::new(request)));
                Err(Cut::Reset)
            }
            FaultKind::Answer { status, json, text, content_type, headers, apply } => {
                if apply {
                    self.apply(api, &request);
                }
                Ok(self.scripted(status, json, text, content_type, headers))
            }
            FaultKind::RateLimited { with_headers } => Ok(self.rate_limited(api, with_headers)),
            FaultKind::Truncate => Err(Cut::Truncated(Box::new(halve(self.apply(api, &request))))),
            FaultKind::Empty => Ok(self.apply(api, &request).map(|_| Bytes::new())),
            FaultKind::Html => {
                let status = self.apply(api, &request).status().as_u16();
                Ok(text_reply(status, "text/html", "<html><body>Welcome to our hotel network</body></html>"))
            }
            FaultKind::Oversize => {
                let status = self.apply(api, &request).status().as_u16();
                Ok(text_reply(status, "application/json", OVERSIZE.clone()))
            }
            FaultKind::Slow { .. } => Ok(self.apply(api, &request)),
            FaultKind::Garble { seed } => Ok(self.apply(api, &request).map(|body| garble(&body, seed))),
            FaultKind::StaleRead { seconds } => {
                let now = self.config.hetzner.clone();
                let lag = |seconds_now: f64| seconds_now.max(seconds);
                self.config.hetzner.stale_created_seconds = lag(now.stale_created_seconds);
                self.config.hetzner.stale_deleted_seconds = lag(now.stale_deleted_seconds);
                self.config.hetzner.stale_labels_seconds = lag(now.stale_labels_seconds);
                let response = self.apply(api, &request);
                self.config.hetzner = now;
                Ok(response)
            }
        }
    }

    fn apply(&mut self, api: Api, request: &Request<Bytes>) -> Response<Bytes> {
        let mut response = match api {
            Api::Hetzner => self.hetzner.handle(&mut self.cx, &mut self.agenda, &self.config.hetzner, request),
            Api::Tailscale | Api::Oidc | Api::Any => self.tailscale.handle(&mut self.cx, request),
        };
        self.stamp(&mut response);
        self.follow_up();
        response
    }

    /// Servers that were removed take their machine's device off the net.
    fn follow_up(&mut self) {
        for node in self.hetzner.take_unplugged() {
            self.tailscale.set_connected(&mut self.cx, &NodeId(node), false);
        }
    }

    fn stamp(&self, response: &mut Response<Bytes>) {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(self.cx.unix().unsigned_abs());
        if let Ok(date) = HeaderValue::try_from(http_date(now)) {
            response.headers_mut().insert(http::header::DATE, date);
        }
    }

    fn scripted(
        &mut self,
        status: u16,
        json: Option<Value>,
        text: Option<String>,
        content_type: Option<String>,
        headers: Vec<(String, String)>,
    ) -> Response<Bytes> {
        let mut response = match json {
            Some(json) => json_reply(status, &json),
            None => text_reply(status, "text/html", text.unwrap_or_default()),
        };
        self.stamp(&mut response);
        let content_type = content_type.map(|value| ("content-type".to_owned(), value));
        for (name, value) in headers.into_iter().chain(content_type) {
            if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn rate_limited(&mut self, api: Api, with_headers: bool) -> Response<Bytes> {
        let mut response = match api {
            Api::Hetzner => {
                let limit = self.config.hetzner.rate_limit;
                let message = format!("limit of {limit} requests per hour reached");
                hetzner_error(429, "rate_limit_exceeded", &message, Value::Null)
            }
            _ => tailscale_error(429, "rate limit exceeded"),
        };
        if with_headers {
            for (name, value) in
                [("ratelimit-limit", 3600), ("ratelimit-remaining", 0), ("ratelimit-reset", self.cx.unix() + 3600)]
            {
                response.headers_mut().insert(name, HeaderValue::from(value));
            }
        }
        self.stamp(&mut response);
        response
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::LateRequest(by, request) => {
                let Some((api, _)) = route(&request) else { return };
                let line = format!("{} {} (late)", request.method(), request.uri().path());
                self.cx.by = by;
                let status = self.apply(api, &request).status().as_u16();
                self.cx.by = Actor::World;
                self.note(api_name(api), line, status.to_string(), None);
            }
            Happening::ActionEnds(id) => {
                let said = self.hetzner.end_action(&mut self.cx, &mut self.agenda, &self.config.hetzner, id);
                self.note("world", format!("action {id} ends"), said, None);
            }
            Happening::MachineStarts(server) => {
                let (least, most) = self.config.machine.kernel_seconds;
                if self.config.machine.boot != BootOutcome::NeverBoots && self.hetzner.is_on(server) {
                    let up = self.cx.now + between(&mut self.cx, least, most);
                    self.agenda.put(up, Happening::MachineUp(server));
                }
            }
            Happening::MachineUp(server) => self.machine_up(server),
            Happening::MachineJoins(server) => self.machine_joins(server),
            Happening::MachineAsks(id, wait) => {
                let Some(server) = self.hetzner.running_server(id) else { return };
                let Some(plan) = server.plan.take() else { return };
                let queued = Happening::QueuedJoin(id, Box::new(plan), server.ipv4);
                self.agenda.put(self.cx.now + wait, queued);
            }
            Happening::QueuedJoin(server, plan, ip) => self.join(server, *plan, ip),
            Happening::MachineOff(server) => {
                self.hetzner.power_off(server);
                self.follow_up();
                self.note("world", format!("machine {server} goes off"), String::new(), None);
            }
        }
    }

    fn machine_up(&mut self, id: u64) {
        let Some(server) = self.hetzner.running_server(id) else { return };
        if let Some(node) = server.node.clone() {
            // Not its first boot: tailscaled comes back with the state it has.
            self.tailscale.set_connected(&mut self.cx, &NodeId(node), true);
            return self.note("world", format!("machine {id} is up again"), String::new(), None);
        }
        if server.first_boot_done {
            return;
        }
        server.first_boot_done = true;
        let plan = machine::first_boot(server.user_data.as_deref(), &server.name).join;
        let said = match plan {
            Err(why) => format!("will not join: {why}"),
            Ok(_) if self.config.machine.boot == BootOutcome::NeverJoins => "will not join: told not to".to_owned(),
            Ok(_) if self.config.machine.fails_chance > 0.0 && self.cx.rng.f64() < self.config.machine.fails_chance => {
                "will not join: bad luck".to_owned()
            }
            Ok(plan) => {
                let (least, most) = self.config.machine.install_seconds;
                let install = if plan.installs { between(&mut self.cx, least, most) } else { Duration::ZERO };
                let join = Duration::from_secs_f64(self.config.machine.join_seconds);
                let joins = self.cx.now + install + join;
                if self.config.machine.queued_joins {
                    self.agenda.put(self.cx.now + install, Happening::MachineAsks(id, join));
                } else {
                    self.agenda.put(joins, Happening::MachineJoins(id));
                }
                if let Some(seconds) = self.config.machine.joins_again_after_seconds {
                    let again = joins + Duration::from_secs_f64(seconds);
                    self.agenda.put(again, Happening::QueuedJoin(id, Box::new(plan.clone()), server.ipv4));
                }
                server.plan = Some(plan);
                "reads its first-boot document".to_owned()
            }
        };
        self.note("world", format!("machine {id} is up"), said, None);
    }

    fn machine_joins(&mut self, id: u64) {
        let Some(server) = self.hetzner.running_server(id) else { return };
        let (Some(plan), ip) = (server.plan.take(), server.ipv4) else { return };
        self.join(id, plan, ip);
    }

    fn join(&mut self, id: u64, plan: JoinPlan, ip: Ipv4Addr) {
        let JoinPlan { auth_key, hostname, .. } = plan;
        let join = Join { auth_key, hostname, public_ip: Some(ip.into()), server: id };
        let said = match self.tailscale.join(&mut self.cx, join) {
            Ok(node) => {
                let said = format!("as {}", node.0);
                match self.hetzner.running_server(id) {
                    // A machine that joins twice is its first device for those who ask.
                    Some(server) => {
                        server.node.get_or_insert(node.0);
                    }
                    None => self.tailscale.set_connected(&mut self.cx, &node, false),
                }
                said
            }
            Err(why) => format!("refused: {why}"),
        };
        self.note("world", format!("machine {id} joins"), said, None);
    }

    /// Puts a server into the world that nobody asked for through the API.
    pub fn plant_server(&mut self, server: PlantedServer) -> u64 {
        self.cx.by = Actor::Operator;
        let id = self.hetzner.plant(&mut self.cx, server);
        self.cx.by = Actor::World;
        self.note("world", format!("server {id} is planted"), String::new(), None);
        id
    }

    /// Changes a server as an operator at the console would: its labels, or its protection.
    pub fn touch_server(
        &mut self,
        id: u64,
        labels: Option<std::collections::BTreeMap<String, String>>,
        protect: Option<bool>,
    ) {
        self.cx.by = Actor::Operator;
        self.hetzner.touch(&mut self.cx, id, labels, protect);
        self.cx.by = Actor::World;
    }

    /// Removes a server as an operator at the console would.
    pub fn remove_server(&mut self, id: u64) {
        self.cx.by = Actor::Operator;
        self.hetzner.remove(&mut self.cx, &self.config.hetzner, id);
        self.cx.by = Actor::World;
        self.follow_up();
        self.note("world", format!("server {id} is removed by somebody"), String::new(), None);
    }

    /// Puts a device into the tailnet that no server of ours made.
    pub fn plant_device(&mut self, device: PlantedDevice) -> NodeId {
        self.cx.by = Actor::Operator;
        let node = self.tailscale.plant_device(&mut self.cx, device);
        self.cx.by = Actor::World;
        node
    }

    /// Makes a pre-authorised auth key as somebody at the console would; returns its text.
    pub fn plant_key(&mut self, key: PlantedKey) -> String {
        self.cx.by = Actor::Operator;
        let text = self.tailscale.plant_key(&mut self.cx, key);
        self.cx.by = Actor::World;
        text
    }

    /// Takes a device off the tailnet as somebody at the console would.
    pub fn remove_device(&mut self, node: &NodeId) {
        self.cx.by = Actor::Operator;
        self.tailscale.remove_device(&mut self.cx, node);
        self.cx.by = Actor::World;
    }

    /// What is true now. Holds no secret but the tokens of nobody.
    pub fn snapshot(&self) -> Value {
        let tailscale = self.tailscale.snapshot(&self.cx);
        json!({
            "now": self.cx.timestamp(),
            "elapsed_ms": millis(self.cx.now),
            "servers": self.hetzner.snapshot_servers(),
            "primary_ips": self.hetzner.snapshot_primary_ips(),
            "servers_ever": self.hetzner.servers_ever(),
            "keys": tailscale["keys"],
            "devices": tailscale["devices"],
            "requests": {
                "hetzner": self.count("hetzner"),
                "tailscale": self.count("tailscale"),
                "oidc": self.count("oidc"),
            },
            "faults_fired": self.faults.fired,
        })
    }

    fn count(&self, who: &str) -> usize {
        self.journal.iter().filter(|entry| entry.who == who).count()
    }

    fn note(&mut self, who: &'static str, what: String, outcome: String, fault: Option<String>) {
        self.journal.push(Entry { at_ms: millis(self.cx.now), who, what, outcome, fault });
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// A length between the two, by chance.
pub(crate) fn between(cx: &mut Context, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64((least + (most - least) * cx.rng.f64()).max(0.0))
}

/// Which API a request is for, and its path below that API's base.
fn route(request: &Request<Bytes>) -> Option<(Api, String)> {
    let path = request.uri().path();
    if let Some(rest) = path.strip_prefix("/v1") {
        return Some((Api::Hetzner, rest.to_owned()));
    }
    if let Some(rest) = path.strip_prefix("/api/v2") {
        return Some((Api::Tailscale, rest.to_owned()));
    }
    path.strip_prefix("/_sim/oidc").map(|rest| (Api::Oidc, rest.to_owned()))
}

fn api_name(api: Api) -> &'static str {
    match api {
        Api::Hetzner => "hetzner",
        Api::Tailscale => "tailscale",
        Api::Oidc => "oidc",
        Api::Any => "world",
    }
}

fn slowness(fault: Option<&FaultKind>) -> Duration {
    match fault {
        Some(FaultKind::Slow { ms }) => Duration::from_millis(*ms),
        Some(FaultKind::ConnectTimeout) => Duration::from_secs(5),
        _ => Duration::ZERO,
    }
}

fn halve(response: Response<Bytes>) -> Response<Bytes> {
    response.map(|body| body.slice(..body.len() / 2))
}

fn http_date(moment: std::time::SystemTime) -> String {
    httpdate::fmt_http_date(moment)
}

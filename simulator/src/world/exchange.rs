//! One exchange: a request meets a fault or none, is applied or not, and its sender sees an answer or a cut.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use serde_json::Value;

use super::World;
use crate::agenda::Happening;
use crate::fault::{Api, Cut, FaultKind};
use crate::garble::{garble, misshape};
use crate::history::{Actor, Applied, Fate};
use crate::reply::{hetzner_error, json_reply, tailscale_error, text_reply};

/// Somewhat more than anybody should hold; the client under test stops at 16 MiB. One for all uses.
static OVERSIZE: LazyLock<Bytes> = LazyLock::new(|| vec![b' '; 17 * 1024 * 1024].into());

/// What becomes of one exchange, as its sender sees it.
#[derive(Debug)]
pub struct Delivery {
    /// How long it takes until the outcome is there.
    pub after: Duration,
    /// The answer, or how it broke off.
    pub outcome: Result<Response<Bytes>, Cut>,
}

impl World {
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

    /// A request that its sender took for lost is carried out after all.
    pub(super) fn arrive_late(&mut self, by: Actor, request: &Request<Bytes>) {
        let Some((api, _)) = route(request) else { return };
        let line = format!("{} {} (late)", request.method(), request.uri().path());
        self.cx.by = by;
        let status = self.apply(api, request).status().as_u16();
        self.cx.by = Actor::World;
        self.note(api_name(api), line, status.to_string(), None);
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
            FaultKind::Misshape { seed } => Ok(self.apply(api, &request).map(|body| misshape(&body, seed))),
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

//! Faults by swarm testing: each world has some kinds of fault, at some rate, for some time, at some requests.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use simulator::FaultKind;

use crate::plan::chance;
use crate::refusal;
use crate::support::page;

/// The share of worlds in which deleting never works.
const NOTHING_GOES: f64 = 0.05;

/// Which faults a world has.
#[derive(Clone, Debug)]
pub struct Climate {
    kinds: Vec<Kind>,
    rate: f64,
    until: Duration,
    only: Only,
    /// If there are any, every single DELETE meets one of these for as long as calls run, and is never carried out.
    deletes: Vec<Kind>,
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Only {
    All,
    Hetzner,
    Tailscale,
    Orders,
    Deletes,
    Reads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Refuse,
    Dns,
    ConnectTimeout,
    TlsInvalid,
    TlsCut,
    ResetBefore,
    ResetAfter,
    ResetThen,
    HangBefore,
    HangAfter,
    ServerError,
    Page,
    Refusal,
    Breakdown,
    Limited,
    Truncate,
    Empty,
    Html,
    Oversize,
    Slow,
    Garble,
    Stale,
}

const KINDS: [Kind; 22] = [
    Kind::Refuse,
    Kind::Dns,
    Kind::ConnectTimeout,
    Kind::TlsInvalid,
    Kind::TlsCut,
    Kind::ResetBefore,
    Kind::ResetAfter,
    Kind::ResetThen,
    Kind::HangBefore,
    Kind::HangAfter,
    Kind::ServerError,
    Kind::Page,
    Kind::Refusal,
    Kind::Breakdown,
    Kind::Limited,
    Kind::Truncate,
    Kind::Empty,
    Kind::Html,
    Kind::Oversize,
    Kind::Slow,
    Kind::Garble,
    Kind::Stale,
];

/// Those after which a request is not carried out, or need not be.
const NEVER_APPLIED: [Kind; 12] = [
    Kind::Refuse,
    Kind::Dns,
    Kind::ConnectTimeout,
    Kind::TlsInvalid,
    Kind::TlsCut,
    Kind::ResetBefore,
    Kind::HangBefore,
    Kind::ServerError,
    Kind::Page,
    Kind::Refusal,
    Kind::Breakdown,
    Kind::Limited,
];

/// A fault, with its name.
type Fault = (&'static str, FaultKind);

impl Climate {
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        let share = [0.0, 0.1, 0.3, 0.6][rng.usize(0..4)];
        let kinds = KINDS.into_iter().filter(|_| chance(rng, share)).collect();
        let rate = [0.01, 0.05, 0.15, 0.5][rng.usize(0..4)];
        let only = [Only::All, Only::All, Only::Hetzner, Only::Tailscale, Only::Orders, Only::Deletes, Only::Reads];
        let until = Duration::from_secs([30, 100, 400, 2_000][rng.usize(0..4)]);
        let only = only[rng.usize(0..only.len())];
        let deletes = if chance(rng, NOTHING_GOES) {
            (0..rng.usize(1..=3)).map(|_| NEVER_APPLIED[rng.usize(0..NEVER_APPLIED.len())]).collect()
        } else {
            Vec::new()
        };
        Self { kinds, rate, until, only, deletes, seed: rng.u64(..) }
    }

    /// Whether nothing ever goes wrong on the way.
    pub fn is_fair(&self) -> bool {
        self.kinds.is_empty() && self.deletes.is_empty()
    }

    /// Whether no call ever manages to delete anything.
    pub fn deletes_never(&self) -> bool {
        !self.deletes.is_empty()
    }

    /// The fault that each request meets at this time, with its name.
    pub fn weather(&self) -> impl FnMut(&http::Request<Bytes>, Duration) -> Option<Fault> + Send + use<> {
        let Self { kinds, rate, until, only, deletes, seed } = self.clone();
        let mut rng = fastrand::Rng::with_seed(seed);
        // What somebody has asked to delete.
        let mut asked = BTreeSet::new();
        move |request, now| {
            if let Some(kind) = rng.choice(&deletes).filter(|_| Only::Deletes.fits(request)) {
                return Some((kind.name(), never_applied(kind.fault(&mut rng, request, false))));
            }
            let may_be_gone = Only::Deletes.fits(request) && !asked.insert(request.uri().path().to_owned());
            if now >= until || !only.fits(request) || !chance(&mut rng, rate) {
                return None;
            }
            let kind = rng.choice(&kinds).copied()?;
            // Large to read, and the same every time.
            let is_drawn = kind.fits(request) && (kind != Kind::Oversize || rng.u8(0..8) == 0);
            is_drawn.then(|| (kind.name(), kind.fault(&mut rng, request, may_be_gone)))
        }
    }
}

/// The names of all faults.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().map(Kind::name)
}

/// Whether a fault can befall a call in this step at all.
pub fn can_befall(kind: &str, step: &str) -> bool {
    // There nothing is read at Hetzner.
    kind != Kind::Stale.name() || !["auth_key", "verify"].contains(&step)
}

impl Only {
    fn fits(self, request: &http::Request<Bytes>) -> bool {
        let at_hetzner = request.uri().path().starts_with("/v1");
        let method = request.method();
        match self {
            Self::All => true,
            Self::Hetzner => at_hetzner,
            Self::Tailscale => !at_hetzner,
            Self::Orders => method == http::Method::POST,
            Self::Deletes => method == http::Method::DELETE,
            Self::Reads => method == http::Method::GET,
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Dns => "dns",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsInvalid => "tls_invalid",
            Self::TlsCut => "tls_cut",
            Self::ResetBefore => "reset_before_apply",
            Self::ResetAfter => "reset_after_apply",
            Self::ResetThen => "reset_then_apply",
            Self::HangBefore => "hang_before_apply",
            Self::HangAfter => "hang_after_apply",
            Self::ServerError => "page_5xx",
            Self::Page => "page_3xx_4xx",
            Self::Refusal => "api_refusal",
            Self::Breakdown => "api_5xx",
            Self::Limited => "rate_limited",
            Self::Truncate => "truncate",
            Self::Empty => "empty",
            Self::Html => "html",
            Self::Oversize => "oversize",
            Self::Slow => "slow",
            Self::Garble => "garble",
            Self::Stale => "stale_read",
        }
    }

    /// Whether it means anything for this request: only what Hetzner reads out can be stale.
    fn fits(self, request: &http::Request<Bytes>) -> bool {
        self != Self::Stale || (Only::Hetzner.fits(request) && Only::Reads.fits(request))
    }

    fn fault(self, rng: &mut fastrand::Rng, request: &http::Request<Bytes>, may_be_gone: bool) -> FaultKind {
        match self {
            Self::Refuse => FaultKind::Refuse,
            Self::Dns => FaultKind::Dns,
            Self::ConnectTimeout => FaultKind::ConnectTimeout,
            Self::TlsInvalid => FaultKind::TlsInvalid,
            Self::TlsCut => FaultKind::TlsCut,
            Self::ResetBefore => FaultKind::ResetBeforeApply,
            Self::ResetAfter => FaultKind::ResetAfterApply,
            Self::ResetThen => {
                let most = [1_000, 10_000, 19_000, 60_000, 600_000][rng.usize(0..5)];
                FaultKind::ResetThenApply { after_ms: rng.u64(100..=most) }
            }
            Self::HangBefore => FaultKind::HangBeforeApply,
            Self::HangAfter => FaultKind::HangAfterApply,
            Self::ServerError => answer(rng, &[500, 502, 503, 504, 520]),
            Self::Refusal => refusal::refusal(rng, request, may_be_gone),
            Self::Breakdown => refusal::breakdown(rng, request),
            Self::Page => answer(rng, &[301, 400, 401, 403, 404, 405, 409, 410, 412, 422, 423]),
            Self::Limited => FaultKind::RateLimited { with_headers: rng.bool() },
            Self::Truncate => FaultKind::Truncate,
            Self::Empty => FaultKind::Empty,
            // Whoever says that something is deleted need not have done it.
            Self::Html if Only::Deletes.fits(request) && rng.bool() => page(200, "<html>welcome</html>", rng.bool()),
            Self::Html => FaultKind::Html,
            Self::Oversize => FaultKind::Oversize,
            Self::Slow => {
                let most = [3_000, 35_000][rng.usize(0..2)];
                FaultKind::Slow { ms: rng.u64(500..=most) }
            }
            // What is read decides what exists. A cloud that lies about that, so that nothing shows it, leaves nobody a way
            // to know what it has to remove; what an order's answer says can be looked up.
            Self::Garble if Only::Reads.fits(request) => FaultKind::Misshape { seed: rng.u64(..) },
            Self::Garble => FaultKind::Garble { seed: rng.u64(..) },
            Self::Stale => FaultKind::StaleRead { seconds: rng.f64() * 5.0 },
        }
    }
}

fn never_applied(fault: FaultKind) -> FaultKind {
    match fault {
        FaultKind::Answer { status, json, text, content_type, headers, .. } => {
            FaultKind::Answer { status, json, text, content_type, headers, apply: false }
        }
        fault => fault,
    }
}

fn answer(rng: &mut fastrand::Rng, statuses: &[u16]) -> FaultKind {
    let status = statuses[rng.usize(0..statuses.len())];
    let headers = wish_to_wait(rng);
    // A page that something in between wrote: it proves nothing, so the request may have been applied or not.
    let text = Some(["<html>bad gateway</html>", ""][rng.usize(0..2)].to_owned());
    FaultKind::Answer { status, json: None, text, content_type: None, headers, apply: rng.bool() }
}

/// Sometimes an answer says when to come again, and not always in a way that makes sense.
pub fn wish_to_wait(rng: &mut fastrand::Rng) -> Vec<(String, String)> {
    let waits = ["2", "-1", "soon", "1000000000", "Mon, 23 Nov 2026 10:00:07 GMT"];
    if rng.u8(0..4) != 0 {
        return Vec::new();
    }
    vec![("retry-after".to_owned(), waits[rng.usize(0..waits.len())].to_owned())]
}

//! Faults by swarm testing: each world has some kinds of fault, at some rate, for some time, at some requests.

use std::time::Duration;

use bytes::Bytes;
use simulator::FaultKind;

use crate::plan::chance;

/// Which faults a world has.
#[derive(Debug)]
pub struct Climate {
    kinds: Vec<Kind>,
    rate: f64,
    pub until: Duration,
    only: Only,
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
    Refusal,
    Limited,
    Truncate,
    Empty,
    Html,
    Oversize,
    Slow,
    Garble,
    Stale,
}

const KINDS: [Kind; 20] = [
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
    Kind::Refusal,
    Kind::Limited,
    Kind::Truncate,
    Kind::Empty,
    Kind::Html,
    Kind::Oversize,
    Kind::Slow,
    Kind::Garble,
    Kind::Stale,
];

impl Climate {
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        let share = [0.0, 0.1, 0.3, 0.6][rng.usize(0..4)];
        let kinds = KINDS.into_iter().filter(|_| chance(rng, share)).collect();
        let rate = [0.01, 0.05, 0.15, 0.5][rng.usize(0..4)];
        let only = [Only::All, Only::All, Only::Hetzner, Only::Tailscale, Only::Orders, Only::Deletes, Only::Reads];
        let until = Duration::from_secs([30, 100, 400, 2_000][rng.usize(0..4)]);
        Self { kinds, rate, until, only: only[rng.usize(0..only.len())], seed: rng.u64(..) }
    }

    /// Whether nothing ever goes wrong on the way.
    pub fn is_fair(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The fault that each request meets, with its name.
    pub fn weather(&self) -> impl FnMut(&http::Request<Bytes>) -> Option<(&'static str, FaultKind)> + Send + use<> {
        let (kinds, rate, only) = (self.kinds.clone(), self.rate, self.only);
        let mut rng = fastrand::Rng::with_seed(self.seed);
        move |request| {
            if !only.fits(request) || !chance(&mut rng, rate) {
                return None;
            }
            let kind = rng.choice(&kinds).copied()?;
            // Large to read, and the same every time.
            let is_drawn = kind.fits(request) && (kind != Kind::Oversize || rng.u8(0..8) == 0);
            is_drawn.then(|| (kind.name(), kind.fault(&mut rng)))
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
            Self::Refusal => "page_3xx_4xx",
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

    fn fault(self, rng: &mut fastrand::Rng) -> FaultKind {
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
            Self::Refusal => answer(rng, &[301, 400, 401, 403, 404, 405, 409, 410, 412, 422, 423]),
            Self::Limited => FaultKind::RateLimited { with_headers: rng.bool() },
            Self::Truncate => FaultKind::Truncate,
            Self::Empty => FaultKind::Empty,
            Self::Html => FaultKind::Html,
            Self::Oversize => FaultKind::Oversize,
            Self::Slow => {
                let most = [3_000, 35_000][rng.usize(0..2)];
                FaultKind::Slow { ms: rng.u64(500..=most) }
            }
            Self::Garble => FaultKind::Garble { seed: rng.u64(..) },
            Self::Stale => FaultKind::StaleRead { seconds: rng.f64() * 5.0 },
        }
    }
}

fn answer(rng: &mut fastrand::Rng, statuses: &[u16]) -> FaultKind {
    let status = statuses[rng.usize(0..statuses.len())];
    let waits = ["2", "-1", "soon", "1000000000", "Mon, 23 Nov 2026 10:00:07 GMT"];
    let headers = if rng.u8(0..4) == 0 {
        vec![("retry-after".to_owned(), waits[rng.usize(0..waits.len())].to_owned())]
    } else {
        Vec::new()
    };
    // A page that something in between wrote: it proves nothing, so the request may have been applied or not.
    let text = Some(["<html>bad gateway</html>", ""][rng.usize(0..2)].to_owned());
    FaultKind::Answer { status, json: None, text, content_type: None, headers, apply: rng.bool() }
}

//! Scripted faults: what goes wrong on the way, at which request.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::history::Applied;

/// One fault, armed until it has fired as often as it should.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which API it waits for.
    #[serde(default)]
    pub api: Api,
    /// Which method; any if absent.
    #[serde(default)]
    pub method: Option<String>,
    /// Which path below the API's base; `*` stands for one part, and a path that ends in `/**` for all below it. Any if
    /// absent.
    #[serde(default)]
    pub path: Option<String>,
    /// How many matching requests pass first.
    #[serde(default)]
    pub skip: u32,
    /// How often it fires.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens.
    pub kind: FaultKind,
}

impl Fault {
    /// Refuses what could never strike: in a test that would be a fault that is survived.
    ///
    /// # Errors
    ///
    /// The field, and what was expected.
    pub fn check(self) -> Result<Self, String> {
        const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        if self.times == 0 {
            return Err("times: expected 1 or more".to_owned());
        }
        let is_known = |method: &str| METHODS.iter().any(|known| known.eq_ignore_ascii_case(method));
        if self.method.as_deref().is_some_and(|method| !is_known(method)) {
            return Err(format!("method: expected one of {}", METHODS.join(", ")));
        }
        match self.path.as_deref() {
            Some(path) if !path.starts_with('/') => Err("path: expected one that begins with /".to_owned()),
            Some(path) if path.contains('?') || path.len() > 1 && path.ends_with('/') => {
                Err("path: expected one without a query, and without / at its end".to_owned())
            }
            Some(path)
                if ["/v1", "/api/v2"].iter().any(|base| path == *base || path.starts_with(&format!("{base}/"))) =>
            {
                Err("path: expected what stands below the API's base, such as /servers".to_owned())
            }
            _ => Ok(self),
        }
    }
}

fn once() -> u32 {
    1
}

/// One of the outside systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Any of them.
    #[default]
    Any,
    /// Hetzner Cloud.
    Hetzner,
    /// Tailscale.
    Tailscale,
    /// The issuer of identity tokens.
    Oidc,
}

/// What happens to the exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The connection is refused. Not applied.
    Refuse,
    /// The name does not resolve. Not applied.
    Dns,
    /// No connection in time. Not applied.
    ConnectTimeout,
    /// The certificate is not acceptable. Not applied.
    TlsInvalid,
    /// The handshake is cut. Not applied.
    TlsCut,
    /// The request is sent and the connection cut; it is not applied.
    ResetBeforeApply,
    /// The request is applied and the connection cut.
    ResetAfterApply,
    /// The connection is cut, and the request applied this many milliseconds later.
    ResetThenApply {
        /// Milliseconds.
        after_ms: u64,
    },
    /// No answer ever comes; it is not applied.
    HangBeforeApply,
    /// No answer ever comes; it is applied.
    HangAfterApply,
    /// Another answer comes.
    Answer {
        /// HTTP status.
        status: u16,
        /// A JSON body.
        #[serde(default)]
        json: Option<Value>,
        /// A body of any other kind.
        #[serde(default)]
        text: Option<String>,
        /// Its content type; by the kind of body if absent.
        #[serde(default)]
        content_type: Option<String>,
        /// Further headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// Whether the request is applied all the same.
        #[serde(default)]
        apply: bool,
    },
    /// 429 by the rules of the API; `with_headers` adds `RateLimit-*` with a reset an hour ahead.
    RateLimited {
        /// Whether the headers are there.
        #[serde(default)]
        with_headers: bool,
    },
    /// The request is applied, and its answer ends half-way.
    Truncate,
    /// The request is applied, and its answer has no body.
    Empty,
    /// The request is applied, and its answer is a page of HTML with its own status.
    Html,
    /// The request is applied, and its answer is larger than anybody should hold.
    Oversize,
    /// The answer takes this long.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// The request is applied, and its answer's JSON is spoiled by chance; its status stays.
    Garble {
        /// The seed of that chance.
        seed: u64,
    },
    /// The same, but so that it shows: each spoiled value is of a wrong type, and nothing is missing.
    Misshape {
        /// The seed of that chance.
        seed: u64,
    },
    /// The answer shows the project as reads showed it this long ago: no newer servers or labels, and what was deleted.
    StaleRead {
        /// Seconds.
        seconds: f64,
    },
}

impl FaultKind {
    /// The kind in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Dns => "dns",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsInvalid => "tls_invalid",
            Self::TlsCut => "tls_cut",
            Self::ResetBeforeApply => "reset_before_apply",
            Self::ResetAfterApply => "reset_after_apply",
            Self::ResetThenApply { .. } => "reset_then_apply",
            Self::HangBeforeApply => "hang_before_apply",
            Self::HangAfterApply => "hang_after_apply",
            Self::Answer { .. } => "answer",
            Self::RateLimited { .. } => "rate_limited",
            Self::Truncate => "truncate",
            Self::Empty => "empty",
            Self::Html => "html",
            Self::Oversize => "oversize",
            Self::Slow { .. } => "slow",
            Self::Garble { .. } => "garble",
            Self::Misshape { .. } => "misshape",
            Self::StaleRead { .. } => "stale_read",
        }
    }

    /// What it makes of the request.
    pub(crate) fn applied(&self) -> Applied {
        match self {
            Self::Refuse
            | Self::Dns
            | Self::ConnectTimeout
            | Self::TlsInvalid
            | Self::TlsCut
            | Self::ResetBeforeApply
            | Self::HangBeforeApply
            | Self::RateLimited { .. }
            | Self::Answer { apply: false, .. } => Applied::No,
            Self::ResetThenApply { .. } => Applied::Later,
            _ => Applied::Now,
        }
    }
}

/// How an exchange broke off, as its sender sees it.
#[derive(Clone, Debug)]
pub enum Cut {
    /// The connection was refused.
    Refused,
    /// The name did not resolve.
    Dns,
    /// No connection in time.
    ConnectTimeout,
    /// The certificate was not acceptable.
    TlsInvalid,
    /// The handshake was cut.
    TlsCut,
    /// The connection was cut after the request was sent.
    Reset,
    /// Nothing ever comes.
    Hang,
    /// The answer's body ends before its end.
    Truncated(Box<http::Response<Bytes>>),
}

impl Cut {
    /// The cut in a word, for the journal.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Dns => "dns",
            Self::ConnectTimeout => "connect timeout",
            Self::TlsInvalid => "certificate refused",
            Self::TlsCut => "handshake cut",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Truncated(_) => "truncated",
        }
    }
}

/// The faults that wait.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<Fault>,
    pub(crate) fired: u32,
}

impl Faults {
    pub(crate) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(crate) fn disarm(&mut self) {
        self.armed.clear();
    }

    /// The fault that this request meets. The first that fits counts it.
    pub(crate) fn meet(&mut self, api: Api, method: &str, path: &str) -> Option<FaultKind> {
        let fault = self.armed.iter_mut().find(|fault| fault.times > 0 && fault.fits(api, method, path))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        self.fired += 1;
        Some(fault.kind.clone())
    }
}

impl Fault {
    fn fits(&self, api: Api, method: &str, path: &str) -> bool {
        (self.api == Api::Any || self.api == api)
            && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_deref().is_none_or(|pattern| path_fits(pattern, path))
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    if let Some(start) = pattern.strip_suffix("/**") {
        return path.starts_with(start) && path[start.len()..].starts_with('/');
    }
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::path_fits;

    #[test]
    fn patterns() {
        for (pattern, path, fits) in [
            ("/servers", "/servers", true),
            ("/servers", "/servers/1", false),
            ("/servers/*", "/servers/1", true),
            ("/servers/*", "/servers/1/actions", false),
            ("/servers/**", "/servers/1/actions", true),
            ("/servers/**", "/servers", false),
            ("/tailnet/*/keys", "/tailnet/-/keys", true),
        ] {
            assert_eq!(path_fits(pattern, path), fits, "{pattern} {path}");
        }
    }
}

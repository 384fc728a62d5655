//! Results and faults as plain data, in the order of the contract (design 2.1, 2.2).

use std::time::Duration;

use napi_derive::napi;

use crate::provision::{self, Fate, Leftover as Left, Progress, ProvisionError, Provisioned, State, Underway};

/// How a call ended: with a value or with a fault.
#[napi(object)]
pub struct Settled {
    /// The machine, or how far it has come.
    #[napi(ts_type = "ProvisionVMResult")]
    pub value: Option<ProvisionVmResult>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// A machine in the tailnet, or on its way there.
#[napi(object, js_name = "ProvisionVMResult")]
pub struct ProvisionVmResult {
    /// `ready` if it is in the tailnet. Else its server is being made or boots.
    #[napi(ts_type = "'ready' | 'creating' | 'booting'")]
    pub state: String,
    /// Hetzner's id of the server.
    pub server_id: f64,
    /// Its address: the public IPv4 address, or where `publicNet` leaves it out the public IPv6 or the private one.
    pub server_ip: Option<String>,
    /// Its IPv4 address in the tailnet.
    pub tailscale_ip: Option<String>,
    /// Its name, at Hetzner and in the tailnet.
    pub server_name: String,
    /// Whether it was made from the snapshot of `HETZNER_SNAPSHOT_ID`.
    pub used_snapshot: bool,
    /// Hetzner's name of the location.
    pub location: String,
    /// Hetzner's name of the server type.
    pub server_type: String,
    /// Tailscale's older, decimal id of the device.
    pub device_id: Option<String>,
    /// Tailscale's preferred id of the device.
    pub node_id: Option<String>,
    /// Milliseconds that the machine has left to join, if it has not yet. After that the next call makes it anew.
    pub time_left_ms: Option<f64>,
    /// Whether it was there before, or made by another call for the same job.
    pub reused: bool,
    /// Each server type that was tried, and why it was refused.
    pub attempts: Vec<CandidateAttempt>,
    /// How long each step took.
    pub timings: Vec<Timing>,
    /// How many requests were made.
    pub requests: Requests,
    /// What the server costs, where Hetzner said so.
    pub price: Option<Price>,
    /// What a person should know although all went well.
    pub warnings: Vec<String>,
}

/// A server type that was tried.
#[napi(object)]
pub struct CandidateAttempt {
    /// Hetzner's name of the server type.
    pub server_type: String,
    /// Hetzner's name of the location.
    pub location: String,
    /// Why it was refused; absent if it was taken.
    pub refused: Option<String>,
}

/// How long one step took.
#[napi(object)]
pub struct Timing {
    /// The step.
    pub step: String,
    /// Milliseconds.
    pub ms: f64,
}

/// How many requests were made, repetitions included.
#[napi(object)]
pub struct Requests {
    /// To Hetzner.
    pub hetzner: u32,
    /// To Tailscale, and to the issuer of identity tokens.
    pub tailscale: u32,
}

/// A price without tax, as decimal text, in the currency of the Hetzner project.
#[napi(object)]
pub struct Price {
    /// For one hour.
    pub hourly: String,
    /// At most for one month.
    pub monthly: String,
}

/// What went wrong, as data. `index.js` makes a `ProvisionError` of it.
#[napi(object)]
pub struct Fault {
    /// One of the closed list of codes.
    pub code: String,
    /// The step that failed.
    pub step: String,
    /// One line.
    pub message: String,
    /// The argument or setting at fault.
    pub field: Option<String>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// How long to wait before it, in milliseconds, where known.
    pub retry_after_ms: Option<f64>,
    /// Each server type that was tried, and why it was refused.
    pub attempts: Vec<CandidateAttempt>,
    /// The ids under which the clouds' support finds the failed request.
    pub request_ids: Vec<String>,
    /// What is still there, or may be. Empty only if the absence was confirmed.
    pub leftovers: Vec<Leftover>,
    /// How many requests were made.
    pub requests: Requests,
    /// What a person should do.
    pub hint: String,
    /// The messages of the causes, outermost first.
    pub causes: Vec<String>,
    /// The machine that did not join, if it was told where to report: what it said belongs in the hint.
    pub unheard: Option<Unheard>,
}

/// A machine that did not join, whose own reports may say why.
#[napi(object)]
pub struct Unheard {
    /// The job.
    pub job_id: String,
    /// Its server's name.
    pub server_name: String,
    /// The attempt that made it.
    pub attempt: String,
}

/// Something of a failed call that is still there, or may be.
#[napi(object)]
pub struct Leftover {
    /// What it is. A server is named with what hangs on it: its addresses, and its machine.
    #[napi(ts_type = "'server' | 'device' | 'auth_key' | 'primary_ip'")]
    pub kind: String,
    /// Its id, where known.
    pub id: Option<String>,
    /// Its name, where known.
    pub name: Option<String>,
    /// Why it was left.
    pub why: String,
}

/// How a pass of the reaper ended: with a value or with a fault.
#[napi(object)]
pub struct Reaping {
    /// What was found, and what became of it.
    pub value: Option<ReapReport>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// What a pass of the reaper found, and what became of it.
#[napi(object)]
pub struct ReapReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The server of each dead attempt.
    pub servers: Vec<Reaped>,
    /// How many attempts are under way and may still live. They are left alone.
    pub alive: u32,
    /// How many requests were made.
    pub requests: Requests,
}

/// The server of a dead attempt.
#[napi(object)]
pub struct Reaped {
    /// Hetzner's id of the server.
    pub server_id: f64,
    /// Its name.
    pub server_name: String,
    /// The job that it was made for.
    pub job_id: String,
    /// The agent that it was made for.
    pub agent_id: String,
    /// Milliseconds since its attempt counted as dead.
    pub dead_for_ms: f64,
    /// What became of it, or would in a pass that is no dry run. A machine whose device verifies is marked ready: the
    /// next call for its job returns it.
    #[napi(ts_type = "'would_remove' | 'would_mark_ready' | 'removed' | 'marked_ready' | 'left'")]
    pub outcome: String,
    /// Why it was left.
    pub why: Option<String>,
    /// What is, or may be, still there of it.
    pub leftovers: Vec<Leftover>,
}

impl From<Result<provision::ReapReport, Box<ProvisionError>>> for Reaping {
    fn from(outcome: Result<provision::ReapReport, Box<ProvisionError>>) -> Self {
        match outcome {
            Ok(report) => Self { value: Some(report.into()), fault: None },
            Err(error) => Self { value: None, fault: Some((*error).into()) },
        }
    }
}

impl From<provision::ReapReport> for ReapReport {
    fn from(report: provision::ReapReport) -> Self {
        Self {
            dry_run: report.dry_run,
            servers: report.servers.into_iter().map(Into::into).collect(),
            alive: report.alive,
            requests: report.requests.into(),
        }
    }
}

impl From<provision::Reaped> for Reaped {
    fn from(server: provision::Reaped) -> Self {
        let (outcome, why) = match server.fate {
            Fate::WouldRemove => ("would_remove", None),
            Fate::WouldMarkReady => ("would_mark_ready", None),
            Fate::Removed => ("removed", None),
            Fate::MarkedReady => ("marked_ready", None),
            Fate::Left(why) => ("left", Some(why)),
        };
        Self {
            server_id: number(server.server_id),
            server_name: server.server_name,
            job_id: server.job_id,
            agent_id: server.agent_id,
            dead_for_ms: milliseconds(server.dead_for),
            outcome: outcome.to_owned(),
            why,
            leftovers: server.leftovers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Result<Progress, Box<ProvisionError>>> for Settled {
    fn from(outcome: Result<Progress, Box<ProvisionError>>) -> Self {
        match outcome {
            Ok(Progress::Ready(done)) => Self { value: Some((*done).into()), fault: None },
            Ok(Progress::Underway(underway)) => Self { value: Some((*underway).into()), fault: None },
            Err(error) => Self { value: None, fault: Some((*error).into()) },
        }
    }
}

impl From<Provisioned> for ProvisionVmResult {
    fn from(done: Provisioned) -> Self {
        Self {
            state: State::Ready.as_str().to_owned(),
            server_id: number(done.server.id.0),
            server_ip: Some(done.server_ip.to_string()),
            tailscale_ip: Some(done.tailscale_ip.to_string()),
            server_name: done.server.name,
            used_snapshot: done.used_snapshot,
            location: done.server.location,
            server_type: done.server.server_type,
            device_id: Some(done.device_id),
            node_id: Some(done.node_id),
            time_left_ms: None,
            reused: done.reused,
            attempts: done.attempts.into_iter().map(Into::into).collect(),
            timings: done.timings.into_iter().map(Into::into).collect(),
            requests: done.requests.into(),
            price: done.price.map(Into::into),
            warnings: done.warnings,
        }
    }
}

impl From<Underway> for ProvisionVmResult {
    fn from(underway: Underway) -> Self {
        Self {
            state: underway.state.as_str().to_owned(),
            server_id: number(underway.server.id.0),
            server_ip: underway.server.addresses.main().map(|ip| ip.to_string()),
            tailscale_ip: None,
            server_name: underway.server.name,
            used_snapshot: underway.used_snapshot,
            location: underway.server.location,
            server_type: underway.server.server_type,
            device_id: None,
            node_id: None,
            time_left_ms: underway.time_left.map(milliseconds),
            reused: underway.reused,
            attempts: underway.attempts.into_iter().map(Into::into).collect(),
            timings: underway.timings.into_iter().map(Into::into).collect(),
            requests: underway.requests.into(),
            price: underway.price.map(Into::into),
            warnings: underway.warnings,
        }
    }
}

impl From<(u32, u32)> for Requests {
    fn from((hetzner, tailscale): (u32, u32)) -> Self {
        Self { hetzner, tailscale }
    }
}

impl From<provision::Price> for Price {
    fn from(price: provision::Price) -> Self {
        Self { hourly: price.hourly, monthly: price.monthly }
    }
}

impl From<ProvisionError> for Fault {
    fn from(error: ProvisionError) -> Self {
        let code = error.cause.code();
        Self {
            code: code.as_str().to_owned(),
            step: error.step.as_str().to_owned(),
            message: error.to_string(),
            field: error.cause.field().map(str::to_owned),
            retryable: error.is_retryable(),
            retry_after_ms: error.retry_after().map(milliseconds),
            request_ids: error.cause.request_ids(),
            requests: error.requests.into(),
            hint: error.hint(),
            causes: error.causes(),
            unheard: error.unheard.map(Into::into),
            attempts: error.attempts.into_iter().map(Into::into).collect(),
            leftovers: error.leftovers.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<provision::Unheard> for Unheard {
    fn from(machine: provision::Unheard) -> Self {
        Self { job_id: machine.job_id, server_name: machine.server_name, attempt: machine.attempt }
    }
}

impl From<provision::CandidateAttempt> for CandidateAttempt {
    fn from(attempt: provision::CandidateAttempt) -> Self {
        Self { server_type: attempt.server_type, location: attempt.location, refused: attempt.refused }
    }
}

impl From<provision::Timing> for Timing {
    fn from(timing: provision::Timing) -> Self {
        Self { step: timing.step.as_str().to_owned(), ms: milliseconds(timing.length) }
    }
}

impl From<Left> for Leftover {
    fn from(left: Left) -> Self {
        Self { kind: left.kind.as_str().to_owned(), why: left.reason(), id: left.id, name: left.name }
    }
}

/// Whole milliseconds, as JavaScript counts.
pub(super) fn milliseconds(length: Duration) -> f64 {
    (length.as_secs_f64() * 1000.0).round()
}

/// An id as JavaScript counts: ids end below 2^53, so nothing is lost.
#[expect(clippy::cast_precision_loss, reason = "ids above 2^53 are refused when they are read")]
pub(super) fn number(id: u64) -> f64 {
    id as f64
}

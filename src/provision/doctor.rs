//! What would stop a provisioning, found before one is begun: settings, permissions, what an order names, and what dead attempts left.
//!
//! Nearly all of it is read. Two things only a change proves. That Hetzner's token may write: it is asked to change the labels of a
//! server that is not there. That the credential may make auth keys with our tags: one is made, with the undo that a job's has, and
//! revoked. It lives a minute and nobody is told its text.

mod hetzner;
mod tailscale;

use std::sync::Arc;

use futures_util::future::join;
use tokio_util::sync::CancellationToken;

use super::code::Code;
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Step};
use super::job::Job;
use super::run::Run;
use super::settings::Settings;
use super::{Failure, Provisioner, failure, region, unless_panic};
use crate::hetzner::Project;
use crate::transport::{Patience, Urgency, Within};

/// Who asks has somebody in front of a screen.
const TRIES: u32 = 2;

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The region that is asked about; all that are known if it is none.
    pub region: Option<String>,
    /// Why the settings cannot be read as a whole. What each cloud needs of them may be readable all the same.
    pub complaints: Vec<Cause>,
    /// What of the settings can be read.
    pub knows: Readable,
}

/// What can be read of settings, each apart from the others.
#[expect(clippy::struct_excessive_bools, reason = "each may fail by itself")]
#[derive(Clone, Copy, Debug)]
pub struct Readable {
    /// What Hetzner needs.
    pub hetzner: bool,
    /// Which SSH keys an order names.
    pub keys: bool,
    /// What it is made from.
    pub image: bool,
    /// What Tailscale needs.
    pub tailscale: bool,
    /// With which auth key a machine joins, if one is given.
    pub auth_key: bool,
}

impl Readable {
    /// All of it.
    pub const ALL: Self = Self { hetzner: true, keys: true, image: true, tailscale: true, auth_key: true };
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// All that was looked at.
    pub checks: Vec<Check>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

impl Diagnosis {
    /// Whether nothing would stop a call.
    pub fn is_healthy(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Failed)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub what: String,
    /// With which code a call would fail for it.
    pub code: Option<Code>,
    /// How to mend it.
    pub hint: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It does not stop a call, and should be known.
    Warning,
    /// It would stop a call.
    Failed,
    /// Something before it failed that it needs.
    Skipped,
}

impl Verdict {
    /// The verdict as JavaScript sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, what: impl Into<String>) -> Self {
        Self { name, verdict, what: what.into(), code: None, hint: None }
    }

    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, what)
    }

    fn warning(name: &'static str, what: impl Into<String>, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..Self::new(name, Verdict::Warning, what) }
    }

    fn skipped(name: &'static str, why: &str) -> Self {
        Self::new(name, Verdict::Skipped, why)
    }

    /// What would stop a call; the hint of its code unless there is a better one.
    fn failed(name: &'static str, cause: &Cause, hint: Option<&str>) -> Self {
        let hint = hint.map_or_else(|| cause.code().hint(), str::to_owned);
        let found = Self::new(name, Verdict::Failed, cause.chain());
        Self { code: Some(cause.code()), hint: Some(hint), ..found }
    }

    /// What an order would be refused for.
    fn missing(name: &'static str, what: String, hint: &str) -> Self {
        Self { code: Some(Code::Config), hint: Some(hint.to_owned()), ..Self::new(name, Verdict::Failed, what) }
    }
}

impl Provisioner {
    /// Looks at everything that a provisioning needs. What is wrong is in the answer.
    ///
    /// # Errors
    ///
    /// If `cancel` or the timeout ends it. It then names the auth key, if that could not be revoked.
    pub async fn diagnose(
        &self,
        patient: &Patient,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<Diagnosis, Box<ProvisionError>> {
        let (nobody, place) = (Job::nobody(""), region::place(patient.region.as_deref().unwrap_or_default()));
        let run = Run::new(&nobody, settings, place, self.clouds(settings, &observer), cancel, observer);
        self.heed(&run);
        let doctor = Doctor { run: &run, patient, project: self.shared.project(settings) };
        unless_panic(doctor.examine()).await.map_err(|(cause, left)| Box::new(failure(&run, cause, left)))
    }
}

struct Doctor<'a> {
    run: &'a Run<'a>,
    patient: &'a Patient,
    project: Arc<Project>,
}

impl Doctor<'_> {
    async fn examine(&self) -> Result<Diagnosis, Failure> {
        self.run.enter(Step::Read);
        let settings = match self.patient.complaints.as_slice() {
            [] => match self.run.notes().warnings.as_slice() {
                [] => Check::ok("settings", "All settings are there and can be read"),
                warnings => Check::warning(
                    "settings",
                    warnings.join("; "),
                    "Correct the setting, or take it away; until then it is not heeded.",
                ),
            },
            [first, rest @ ..] => {
                let mut found = Check::failed("settings", first, None);
                for cause in rest {
                    found.what = format!("{}; {}", found.what, cause.chain());
                }
                found
            }
        };
        // A key is made in there, which is no matter for a guard: it has an undo of its own.
        let (hetzner, tailscale) = join(self.run.guard(self.hetzner()), self.tailscale()).await;
        let (tailscale, left) = tailscale;
        match (hetzner, self.run.ended()) {
            (Err(cause), _) | (_, Some(cause)) => Err((cause, left)),
            (Ok(hetzner), None) => Ok(Diagnosis {
                checks: [vec![settings], hetzner, tailscale].concat(),
                requests: (self.run.hetzner.sent(), self.run.tailscale.sent()),
            }),
        }
    }

    fn within(&self) -> Within {
        Within { deadline: self.run.deadline(), patience: Patience::Tries(TRIES), urgency: Urgency::Order }
    }
}

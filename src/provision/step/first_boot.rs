//! The first-boot document: made here, delivered with the order of the server. Leaves nothing behind.

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::{Attempt, Job, LONGEST_ATTEMPT};
use super::super::run::Run;
use super::super::settings::{Extras, Settings};
use crate::cloud_init::{self, Bearer, CloudInitError, FirstBoot, Mode, Report};
use crate::secret::Secret;

/// As long as any moment that a token can end at.
const LATEST: i64 = 99_999_999_999;

/// What goes into the document of one attempt.
///
/// Its text is made for each order, when that is sent: many jobs may wait for their turn to order, and a text has 12 KiB.
pub(in super::super) struct Document {
    auth_key: Secret,
    report: Option<Report>,
}

impl Document {
    /// With this attempt's key, and with its token for boot reports if anybody wants to hear them.
    pub(in super::super) fn new(run: &Run<'_>, attempt: &Attempt, auth_key: Secret) -> Result<Self, Cause> {
        run.enter(Step::FirstBoot);
        let report = report(run.job, run.settings, &attempt.id, attempt.expires)?;
        if let Some(report) = &report {
            run.tell_secret(&report.token);
        }
        let document = Self { auth_key, report };
        // What cannot be written, such as a key with strange characters, is no matter of the order's.
        document.text(run)?;
        run.say(Scope::ProvisionVm, "Cloud-init config generated");
        Ok(document)
    }

    /// The `#cloud-config` document.
    pub(in super::super) fn text(&self, run: &Run<'_>) -> Result<Secret, Cause> {
        Ok(cloud_init::render(&first_boot(run.job, run.settings, &self.auth_key, self.report.as_ref()))?)
    }
}

/// Whether the document will fit. Before there is a key, and before there is an attempt.
pub(in super::super) fn check(job: &Job, settings: &Settings) -> Result<(), Cause> {
    let report = report(job, settings, &"0".repeat(LONGEST_ATTEMPT), LATEST)?;
    let no_key = Secret::new("");
    cloud_init::check(&first_boot(job, settings, &no_key, report.as_ref())).map_err(|error| match error {
        // Ours alone always fits.
        CloudInitError::TooLarge { .. } => {
            Cause::Input { field: "options.userData".to_owned(), why: error.to_string() }
        }
        error => error.into(),
    })
}

/// Where this attempt's machine reports. Its token lives as long as the attempt, which has some minutes beyond its deadline.
fn report(job: &Job, settings: &Settings, attempt: &str, expires: i64) -> Result<Option<Report>, CloudInitError> {
    let bearer = Bearer { job: &job.id, server: &job.name, attempt, expires };
    settings.report.as_ref().map(|reporting| reporting.for_machine(&bearer)).transpose()
}

fn first_boot<'a>(
    job: &'a Job,
    settings: &'a Settings,
    auth_key: &'a Secret,
    report: Option<&'a Report>,
) -> FirstBoot<'a> {
    let Extras { package, additions, .. } = &settings.extras;
    let mode = if settings.source.is_snapshot() { Mode::EnrollOnly } else { Mode::Install(package) };
    FirstBoot { auth_key, hostname: &job.name, mode, report, additions }
}

//! The first-boot document: made here, delivered with the order of the server. Leaves nothing behind.

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::Job;
use super::super::run::Run;
use super::super::settings::{Extras, Settings};
use crate::cloud_init::{self, CloudInitError, FirstBoot, Mode};
use crate::secret::Secret;

/// The document with this attempt's key.
pub(in super::super) fn render(run: &Run<'_>, auth_key: &Secret) -> Result<Secret, Cause> {
    run.enter(Step::FirstBoot);
    let document = cloud_init::render(&first_boot(run.job, run.settings, auth_key))?;
    run.say(Scope::ProvisionVm, "Cloud-init config generated");
    Ok(document)
}

/// Whether the document will fit. Before there is a key.
pub(in super::super) fn check(job: &Job, settings: &Settings) -> Result<(), Cause> {
    cloud_init::check(&first_boot(job, settings, &Secret::new(""))).map_err(|error| match error {
        // Ours alone always fits.
        CloudInitError::TooLarge { .. } => {
            Cause::Input { field: "options.userData".to_owned(), why: error.to_string() }
        }
        error => error.into(),
    })
}

fn first_boot<'a>(job: &'a Job, settings: &'a Settings, auth_key: &'a Secret) -> FirstBoot<'a> {
    let Extras { package, additions, .. } = &settings.extras;
    let mode = if settings.source.is_snapshot() { Mode::EnrollOnly } else { Mode::Install(package) };
    FirstBoot { auth_key, hostname: &job.name, mode, report: None, additions }
}

//! The first-boot document: made here, delivered with the order of the server. Leaves nothing behind.

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::Job;
use super::super::run::Run;
use super::super::settings::Settings;
use crate::cloud_init::{self, CloudInitError, FirstBoot, Mode};
use crate::secret::Secret;

/// The document with this attempt's key.
pub(in super::super) fn render(run: &Run<'_>, auth_key: &Secret) -> Result<Secret, Cause> {
    run.enter(Step::FirstBoot);
    let (hostname, additions) = (&*run.job.name, &run.settings.extras.additions);
    let document = cloud_init::render(&FirstBoot { auth_key, hostname, mode: mode(run.settings), additions })?;
    run.say(Scope::ProvisionVm, "Cloud-init config generated");
    Ok(document)
}

/// Whether the document will fit. Before there is a key.
pub(in super::super) fn check(job: &Job, settings: &Settings) -> Result<(), Cause> {
    let additions = &settings.extras.additions;
    cloud_init::check(&job.name, mode(settings), additions).map_err(|error| match error {
        // Ours alone always fits.
        CloudInitError::TooLarge { .. } => {
            Cause::Input { field: "options.userData".to_owned(), why: error.to_string() }
        }
        error => error.into(),
    })
}

fn mode(settings: &Settings) -> Mode {
    if settings.source.is_snapshot() { Mode::EnrollOnly } else { Mode::Install }
}

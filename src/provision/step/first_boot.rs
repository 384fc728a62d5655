//! The first-boot document: made here, delivered with the order of the server. Leaves nothing behind.

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::run::Run;
use crate::cloud_init::{self, FirstBoot, Mode};
use crate::secret::Secret;

/// The document with this attempt's key.
pub(in super::super) fn render(run: &Run<'_>, auth_key: &Secret) -> Result<Secret, Cause> {
    run.enter(Step::FirstBoot);
    let mode = if run.settings.source.is_snapshot() { Mode::EnrollOnly } else { Mode::Install };
    let document = cloud_init::render(&FirstBoot { auth_key, hostname: &run.job.name, mode })?;
    run.say(Scope::ProvisionVm, "Cloud-init config generated");
    Ok(document)
}

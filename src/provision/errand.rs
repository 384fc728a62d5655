//! What one call beside a job carries along: it looks after servers of several jobs, or of one that it knows by its id alone, each
//! in the name of its own job, and all within one deadline.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::event::Observer;
use super::job::Job;
use super::run::{Clouds, Run};
use super::settings::Settings;
use super::{Provisioner, region};
use crate::transport::Instant;

/// A pass of the reaper, a removal that somebody asked for, or a clean-up.
pub(super) struct Errand<'a> {
    pub settings: &'a Settings,
    pub clouds: Clouds,
    /// When it has to be done, what undoes apart.
    pub deadline: Instant,
    pub cancel: CancellationToken,
    pub observer: Arc<dyn Observer>,
}

impl Provisioner {
    /// An errand that begins now; the settings' timeout is the limit of all of it.
    pub(super) fn errand<'a>(
        &self,
        settings: &'a Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Errand<'a> {
        let clouds = self.clouds(settings, &observer);
        let deadline = clouds.clock.now() + settings.timeout;
        Errand { settings, clouds, deadline, cancel, observer }
    }
}

impl Errand<'_> {
    /// The part of it that is about one job, in this location.
    pub(super) fn run<'a>(&'a self, job: &'a Job, location: &str) -> Run<'a> {
        let place = region::place(location);
        let run = Run::new(job, self.settings, place, self.clouds.clone(), self.cancel.clone(), self.observer.clone());
        run.set_deadline(self.deadline);
        run
    }
}

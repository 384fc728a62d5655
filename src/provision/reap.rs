//! The reaper: finds what dead attempts left, and finishes or removes it (design 6, "Deleting").
//!
//! An attempt that its process could not undo (killed, machine lost, function frozen) left a server in state `creating`
//! whose label says when it must be dead. A server that is ready or whose attempt may still live is never touched, and one
//! whose device stands in the tailnet is marked ready or reported, never deleted.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Provisioner;
use super::adopt;
use super::enrollment::Enrollment;
use super::errand::Errand;
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Scope, Step};
use super::job::{self, Claim, Job};
use super::leftover::{Kind, Leftover};
use super::run::{Doing, Run};
use super::settings::Settings;
use super::step::removal::Guard;
use crate::hetzner::Server;

/// How to reap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReapOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// How long an attempt must have been dead.
    pub grace: Duration,
}

impl Default for ReapOptions {
    fn default() -> Self {
        Self { dry_run: true, grace: Duration::from_secs(300) }
    }
}

/// What was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReapReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The server of each dead attempt.
    pub servers: Vec<Reaped>,
    /// How many attempts are under way and may still live.
    pub alive: u32,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

/// The server of a dead attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Its id.
    pub server_id: u64,
    /// Its name.
    pub server_name: String,
    /// The job that it was made for.
    pub job_id: String,
    /// The agent that it was made for.
    pub agent_id: String,
    /// How long its attempt has been dead.
    pub dead_for: Duration,
    /// What became of it.
    pub fate: Fate,
    /// What is, or may be, still there of it.
    pub leftovers: Vec<Leftover>,
}

/// What became of a dead attempt's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It would be removed.
    WouldRemove,
    /// It would be marked ready: its device verifies.
    WouldMarkReady,
    /// It is gone, and a read confirmed it.
    Removed,
    /// It was marked ready: its device verifies, and the next call for the job returns it.
    MarkedReady,
    /// It was left alone or could not be removed, and why.
    Left(String),
}

impl Provisioner {
    /// Finds the servers of dead attempts by their labels, and finishes or removes them with what hangs on them. The
    /// default is a dry run.
    ///
    /// Of the settings it needs those of the two clouds and the timeout, which is the limit of the whole pass. Any number of
    /// reapers may run at the same time, and beside calls.
    ///
    /// # Errors
    ///
    /// If the servers cannot be listed, or `cancel` or the timeout comes before that. Trouble with a single server is in the
    /// report.
    pub async fn reap(
        &self,
        options: ReapOptions,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<ReapReport, Box<ProvisionError>> {
        let pass = Pass { options, errand: self.errand(settings, cancel, observer) };
        // No job yet; the list is made on behalf of none.
        let nobody = Job::nobody("");
        let run = pass.errand.run(&nobody, "");
        self.heed(&run);
        pass.look_after_all(&run).await.map_err(|cause| Box::new(super::failure(&run, cause, Vec::new())))
    }
}

/// One pass of the reaper.
struct Pass<'a> {
    options: ReapOptions,
    errand: Errand<'a>,
}

impl Pass<'_> {
    async fn look_after_all(&self, run: &Run<'_>) -> Result<ReapReport, Cause> {
        run.enter(Step::Lookup);
        let selector = job::unfinished_selector();
        let list = async || {
            let servers = run.hetzner.find_servers_by_label(&selector, run.within()).await;
            servers.doing("the servers could not be listed")
        };
        let mut servers = run.guard(list()).await?;
        if !run.clock.is_settled() {
            // Who is dead is a matter of the cloud's clock, and one answer alone may be wrong about that.
            servers = run.guard(list()).await?;
        }
        let now = run.clock.cloud_unix();
        let grace = i64::try_from(self.options.grace.as_secs()).unwrap_or(i64::MAX);
        let claims = servers.into_iter().filter_map(|server| Claim::read(&server).map(|claim| (server, claim)));
        let (dead, alive): (Vec<_>, Vec<_>) = claims
            .filter(|(_, claim)| !claim.ready)
            .partition(|(_, claim)| run.is_dead(claim) && claim.is_dead(now.saturating_sub(grace)));
        let message = format!("{} unfinished servers of dead attempts, {} that may live", dead.len(), alive.len());
        run.say(Scope::ProvisionVm, message);
        let look_again_at = run.clock.now() + adopt::PATIENCE_WITH_DEAD;
        let mut looks = Vec::with_capacity(dead.len());
        for (server, claim) in &dead {
            looks.push(self.look(server, claim).await);
        }
        let mut servers = Vec::with_capacity(dead.len());
        for ((server, claim), look) in dead.into_iter().zip(looks) {
            let dead_for = claim.expires.map_or(0, |expires| u64::try_from(now.saturating_sub(expires)).unwrap_or(0));
            let look = match look {
                // One bad look is no reason to delete a machine, so all get a second one after a while.
                Ok(Enrollment::NotYet(_) | Enrollment::Ambiguous(_)) if !self.options.dry_run => {
                    match run.pause(look_again_at.saturating_duration_since(run.clock.now())).await {
                        Ok(()) => self.look(&server, &claim).await,
                        Err(cause) => Err(cause),
                    }
                }
                look => look,
            };
            let (fate, leftovers) = self.look_after(&server, &claim, look).await;
            servers.push(Reaped {
                server_id: server.id.0,
                server_name: server.name,
                job_id: claim.job,
                agent_id: claim.agent,
                dead_for: Duration::from_secs(dead_for),
                fate,
                leftovers,
            });
        }
        let requests = (run.hetzner.sent(), run.tailscale.sent());
        let alive = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        Ok(ReapReport { dry_run: self.options.dry_run, servers, alive, requests })
    }

    /// Whether the machine of a dead attempt has joined after all.
    async fn look(&self, server: &Server, claim: &Claim) -> Result<Enrollment, Cause> {
        let job = job_of(server, claim)?;
        adopt::look(&self.errand.run(&job, &server.location), server).await
    }

    async fn look_after(
        &self,
        server: &Server,
        claim: &Claim,
        look: Result<Enrollment, Cause>,
    ) -> (Fate, Vec<Leftover>) {
        let job = match job_of(server, claim) {
            Ok(job) => job,
            Err(cause) => return self.left(server, cause.chain()),
        };
        let run = self.errand.run(&job, &server.location);
        match look {
            Err(cause) => self.left(server, cause.chain()),
            Ok(Enrollment::Ambiguous(devices)) => self.left(server, Cause::EnrollAmbiguous(devices.len()).chain()),
            Ok(Enrollment::NotYet(obstacle)) if obstacle.is_of_a_device() => {
                self.left(server, obstacle.as_str().to_owned())
            }
            Ok(Enrollment::Verified(_)) if self.options.dry_run => (Fate::WouldMarkReady, Vec::new()),
            Ok(Enrollment::NotYet(_)) if self.options.dry_run => (Fate::WouldRemove, Vec::new()),
            Ok(Enrollment::Verified(enrolled)) => match adopt::finish(&run, server, claim, &enrolled).await {
                Ok(_) => (Fate::MarkedReady, Vec::new()),
                Err(cause) => self.left(server, cause.chain()),
            },
            Ok(Enrollment::NotYet(_)) => {
                let leftovers = adopt::clear(&run, server, claim, Guard::DeadAndAlone).await;
                let server = leftovers.iter().find(|left| left.kind == Kind::Server);
                (server.map_or(Fate::Removed, |left| Fate::Left(left.reason())), leftovers)
            }
        }
    }

    fn left(&self, server: &Server, why: String) -> (Fate, Vec<Leftover>) {
        let leftover = Leftover::exists(Kind::Server, why.clone()).id(&server.id).name(&server.name);
        (Fate::Left(why), if self.options.dry_run { Vec::new() } else { vec![leftover] })
    }
}

/// The job that a server was made for, if its name says the same as its labels.
fn job_of(server: &Server, claim: &Claim) -> Result<Job, Cause> {
    let job = Job::new(&claim.job, &claim.agent)?;
    if job.name == server.name { Ok(job) } else { Err(Cause::ForeignServer { id: server.id.0 }) }
}

//! What a run of a workflow left, removed by whoever comes after it: its process was cancelled, killed or lost with its machine,
//! and could not undo its attempt itself (design 6, "Deleting", 7).
//!
//! Only what carries an attempt of that very run is touched, and never a server that is ready. Of such a server an unused key may
//! still be about, since it is revoked last; that goes. A device whose server is gone already carries nothing that proves whose
//! it is, and several projects may share a tailnet; so it is named, and stays.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::adopt;
use super::enrollment::Enrollment;
use super::errand::Errand;
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Scope, Step};
use super::job::{self, Claim, Job, WorkflowRun};
use super::leftover::{Kind, Leftover};
use super::run::{Doing, Run};
use super::settings::Settings;
use super::step::auth_key::is_usable_after_revocation;
use super::step::removal::{Guard, READS};
use super::{Failure, Provisioner, Removed, failure, unless_panic};
use crate::hetzner::Server;
use crate::tailscale::{AuthKey, Device};
use crate::transport::{Patience, Urgency, Within};

/// The time for finding and revoking keys.
const KEYS_LIMIT: Duration = Duration::from_secs(30);
/// How long a read may show labels that are not there any more.
const LABELS_LAG: Duration = Duration::from_secs(6);
/// The time for a look at the devices.
const DEVICES_LIMIT: Duration = Duration::from_secs(10);

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBy {
    /// The job.
    pub job_id: String,
    /// The agent, if it is known: with the job it gives the name of a device that may have been left alone.
    pub agent_id: Option<String>,
    /// The runs that are over.
    pub runs: Vec<WorkflowRun>,
}

impl LeftBy {
    fn made(&self, attempt: &str) -> bool {
        self.runs.iter().any(|run| run.made(attempt))
    }
}

/// What was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanedUp {
    /// Each unfinished server of the runs.
    pub servers: Vec<Removed>,
    /// The ids of the keys that no server named and that are revoked now.
    pub keys: Vec<String>,
    /// What is still there, or may be. Empty only if its absence was confirmed.
    pub leftovers: Vec<Leftover>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

impl Provisioner {
    /// Removes what runs of a workflow left of a job: unfinished servers of their attempts, with key and device, and keys for
    /// which no server was ordered yet. Whoever calls it says that these runs are over. A repetition finds nothing.
    ///
    /// # Errors
    ///
    /// If the servers cannot be looked up, or `cancel` or the timeout comes before that. Trouble with a removal is in the
    /// answer's leftovers.
    pub async fn clean_up(
        &self,
        what: &LeftBy,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<CleanedUp, Box<ProvisionError>> {
        let cleanup = Cleanup { what, errand: self.errand(settings, cancel, observer) };
        let nobody = Job::nobody("");
        let run = cleanup.errand.run(&nobody, "");
        self.heed(&run);
        unless_panic(cleanup.clean(&run)).await.map_err(|(cause, left)| Box::new(failure(&run, cause, left)))
    }
}

struct Cleanup<'a> {
    what: &'a LeftBy,
    errand: Errand<'a>,
}

impl Cleanup<'_> {
    async fn clean(&self, run: &Run<'_>) -> Result<CleanedUp, Failure> {
        let (mut servers, mut leftovers) = (Vec::new(), Vec::new());
        let found = match self.find(run).await {
            Ok(found) => found,
            Err(cause) if self.errand.cancel.is_cancelled() => return Err((cause, leftovers)),
            // One cloud that cannot be seen is no reason to leave a key alive in the other.
            Err(cause) => {
                self.revoke_keys(run, &mut leftovers).await;
                return Err((cause, leftovers));
            }
        };
        for (server, claim, job) in found {
            if self.is_handed_over(&job, &server).await {
                continue;
            }
            let left = self.remove(&job, &server, &claim).await;
            servers.push(Removed::new(server, Some(job.id), &left));
            leftovers.extend(left);
        }
        let keys = self.revoke_keys(run, &mut leftovers).await;
        if servers.is_empty() {
            match self.find_devices(run).await {
                Ok(devices) => leftovers.extend(devices),
                Err(cause) => return Err((cause, leftovers)),
            }
        }
        if servers.is_empty() && keys.is_empty() && leftovers.is_empty() {
            run.say(Scope::ProvisionVm, "Nothing of this run was left");
        }
        Ok(CleanedUp { servers, keys, leftovers, requests: (run.hetzner.sent(), run.tailscale.sent()) })
    }

    /// The unfinished servers that the runs made, once one shows or their absence is to be believed.
    async fn find(&self, run: &Run<'_>) -> Result<Vec<(Server, Claim, Job)>, Cause> {
        run.enter(Step::Lookup);
        // An order that was under way when the process died takes as long to show as any other.
        for pause in READS {
            run.pause(pause).await?;
            let listed = self.list(run).await?;
            let found: Vec<_> = listed.into_iter().filter_map(|server| self.is_left(server)).collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    async fn list(&self, run: &Run<'_>) -> Result<Vec<Server>, Cause> {
        let selector = job::selector(&self.what.job_id);
        // Nobody comes after a clean-up but the reaper, so an outage is waited for.
        let within = Within { deadline: run.deadline(), patience: Patience::UntilDeadline, urgency: Urgency::Undo };
        let listing = async {
            let listed = run.hetzner.find_servers_by_label(&selector, within).await;
            listed.doing("the servers could not be looked up")
        };
        run.guard(listing).await
    }

    /// The devices of the job's name, if no server stands for it: what the runs removed their server from, and died before they
    /// came to its device.
    async fn find_devices(&self, run: &Run<'_>) -> Result<Vec<Leftover>, Cause> {
        let Some(agent) = &self.what.agent_id else { return Ok(Vec::new()) };
        let name = Job::new(&self.what.job_id, agent)?.name;
        if !self.list(run).await?.is_empty() {
            return Ok(Vec::new());
        }
        let within =
            Within { deadline: run.clock.now() + DEVICES_LIMIT, patience: Patience::USUAL, urgency: Urgency::Undo };
        let devices = match run.tailscale.find_devices(&name, within).await {
            Ok(devices) => devices,
            Err(error) => {
                let why = format!("the devices could not be read ({error})");
                return Ok(vec![Leftover::unconfirmed(Kind::Device, why).name(&name)]);
            }
        };
        let ours = devices.into_iter().filter(|device| device.tags.iter().any(|tag| tag == job::TAG));
        let why = "its server is gone; if it is ephemeral, it goes by itself within the hour";
        let named = |device: Device| Leftover::unconfirmed(Kind::Device, why).id(&device.node_id).name(&name);
        Ok(ours.map(named).collect())
    }

    /// Whether a server was left by the runs, with what proves it: its labels, and its name, which follows from them.
    fn is_left(&self, server: Server) -> Option<(Server, Claim, Job)> {
        let claim = Claim::read(&server)?;
        let job = Job::new(&claim.job, &claim.agent).ok()?;
        let is_ours = job.id == self.what.job_id && job.name == server.name && self.what.made(&claim.attempt);
        (is_ours && !claim.ready).then_some((server, claim, job))
    }

    /// Whether a server that a list showed unfinished is ready by now. Its machine may have joined, and then the run may have
    /// marked it just before it died: a read may not show that for some seconds (fault G32), so there is another one after
    /// them.
    async fn is_handed_over(&self, job: &Job, server: &Server) -> bool {
        let run = self.errand.run(job, &server.location);
        // Without an answer it is as if it had joined.
        let has_joined = !matches!(adopt::look(&run, server).await, Ok(Enrollment::NotYet(_)));
        if !has_joined || run.pause(LABELS_LAG).await.is_err() {
            return false;
        }
        let within = Within { deadline: run.deadline(), patience: Patience::UntilDeadline, urgency: Urgency::Undo };
        // What cannot be read now is read once more before the delete.
        let shown = run.hetzner.find_server(server.id, within).await.ok().flatten();
        shown.and_then(|server| Claim::read(&server)).is_some_and(|claim| claim.ready)
    }

    async fn remove(&self, job: &Job, server: &Server, claim: &Claim) -> Vec<Leftover> {
        let run = self.errand.run(job, &server.location);
        run.enter(Step::Remove);
        run.know_server(server);
        adopt::clear(&run, server, claim, Guard::Own).await
    }

    /// Revokes every key of the runs that is still good: there may have been no server yet to name it, or it was spared with its
    /// server. Returns the ids.
    async fn revoke_keys(&self, run: &Run<'_>, leftovers: &mut Vec<Leftover>) -> Vec<String> {
        let within =
            Within { deadline: run.clock.now() + KEYS_LIMIT, patience: Patience::USUAL, urgency: Urgency::Undo };
        let prefix = job::key_prefix(&self.what.job_id);
        let is_of_runs = |text: &str| text.strip_prefix(&prefix).is_some_and(|attempt| self.what.made(attempt));
        let keys = match run.tailscale.find_keys(is_of_runs, within).await {
            Ok(keys) => keys,
            Err(error) => {
                let why = format!("the auth keys could not be listed ({error})");
                leftovers.push(Leftover::unconfirmed(Kind::AuthKey, why).name(prefix.trim_end()));
                return Vec::new();
            }
        };
        let mut revoked = Vec::new();
        for AuthKey { id, description, .. } in keys {
            let is_it = |left: &Leftover| left.kind == Kind::AuthKey && left.id.as_deref() == Some(id.0.as_str());
            leftovers.retain(|left| !is_it(left));
            match is_usable_after_revocation(run, &id, within).await {
                Ok(true) => {
                    let left = Leftover::exists(Kind::AuthKey, "Tailscale still shows it as usable");
                    leftovers.push(left.id(&id).name(&description));
                }
                Ok(false) => {
                    run.removed(Scope::Tailscale, format!("Auth key revoked: id={id}"), Kind::AuthKey, &id);
                    revoked.push(id.0);
                }
                Err(error) => {
                    let left = Leftover::unconfirmed(Kind::AuthKey, error.to_string());
                    leftovers.push(left.id(&id).name(&description));
                }
            }
        }
        revoked
    }
}

//! The end of a job: its server, its key, its device and what hangs on them, on somebody's word.
//!
//! This is the explicit command that alone may delete a server that is ready (design 6, rule 2). It still proves, before each
//! delete, that what it removes is the very thing it was told about. In this order: the server, so that its machine cannot
//! ask any more; the key, so that nothing that asks is let in; then the devices, of which no further one can come.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::adopt;
use super::errand::Errand;
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Scope, Step};
use super::job::{self, Claim, Job};
use super::leftover::{Kind, Leftover};
use super::run::{Doing, Run};
use super::settings::Settings;
use super::step::removal::{Guard, READS};
use super::{Failure, Provisioner, drop_in, failure, unless_panic};
use crate::hetzner::{Server, ServerId};

/// The time for a server that goes alone; what a saga removes has as much.
const REMOVAL: Duration = Duration::from_secs(60);

/// What is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All servers of a job.
    Job(String),
    /// The server of this id. With `force` also if it is not provably this package's; then it goes alone, without key and
    /// device.
    Server {
        /// Its id.
        id: u64,
        /// Whether its labels are of no account.
        force: bool,
    },
    /// The server of this name.
    Name(String),
}

/// What was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprovisioned {
    /// Each server that was found. Empty if there is none, which is success.
    pub servers: Vec<Removed>,
    /// What is still there, or may be. Empty only if its absence was confirmed.
    pub leftovers: Vec<Leftover>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

/// A server that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its id.
    pub server_id: u64,
    /// Its name.
    pub server_name: String,
    /// The job that it was made for, if its labels say so.
    pub job_id: Option<String>,
    /// Why it was left; nothing if it is gone.
    pub left: Option<String>,
}

impl Removed {
    /// What became of it, by what its removal has left.
    pub(super) fn new(server: Server, job_id: Option<String>, left: &[Leftover]) -> Self {
        let of_server = left.iter().find(|left| left.kind == Kind::Server);
        Self { server_id: server.id.0, server_name: server.name, job_id, left: of_server.map(Leftover::reason) }
    }
}

impl Provisioner {
    /// Removes what is named, with all that hangs on it, and confirms that it is gone. What is not there is no error, so a
    /// repetition is safe. Its undo budget is its own: neither `cancel` nor the timeout shortens a removal that has begun.
    ///
    /// # Errors
    ///
    /// If nothing can be looked up, or something of that name or label is not provably this package's. Trouble with a
    /// removal is in the answer's leftovers.
    pub async fn deprovision(
        &self,
        which: &Which,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<Deprovisioned, Box<ProvisionError>> {
        let end = End(self.errand(settings, cancel, observer));
        let nobody = Job::nobody("");
        let run = end.0.run(&nobody, "");
        self.heed(&run);
        unless_panic(end.bring(&run, which)).await.map_err(|(cause, left)| Box::new(failure(&run, cause, left)))
    }
}

struct End<'a>(Errand<'a>);

impl End<'_> {
    async fn bring(&self, run: &Run<'_>, which: &Which) -> Result<Deprovisioned, Failure> {
        let alone = |cause| (cause, Vec::new());
        let found = find(run, which).await.map_err(alone)?;
        let force = matches!(which, Which::Server { force: true, .. });
        // All are proven before any goes: what is half ours is a person's to look at.
        let mut proven = Vec::new();
        for server in found {
            match prove(&server, which) {
                Ok((job, claim)) => proven.push((server, Some((job, claim)))),
                Err(_) if force => proven.push((server, None)),
                Err(cause) => return Err(alone(cause)),
            }
        }
        let (mut servers, mut leftovers) = (Vec::new(), Vec::new());
        for (server, owner) in proven {
            let left = match &owner {
                Some((job, claim)) => self.remove(job, &server, claim).boxed().await,
                None => self.remove_alone(&server).boxed().await,
            };
            servers.push(Removed::new(server, owner.map(|(job, _)| job.id), &left));
            leftovers.extend(left);
        }
        if servers.is_empty() {
            run.say(Scope::ProvisionVm, "Nothing was found, so nothing was removed");
        }
        Ok(Deprovisioned { servers, leftovers, requests: (run.hetzner.sent(), run.tailscale.sent()) })
    }

    /// Removes a server that is nobody's, without anything else. Nothing shortens it once it has begun.
    async fn remove_alone(&self, server: &Server) -> Vec<Leftover> {
        let nobody = Job::nobody("");
        let mut run = self.0.run(&nobody, "");
        run.cancel = CancellationToken::new();
        run.set_deadline(run.clock.now() + REMOVAL);
        drop_in::remove_server(&run, server.id).await.err().map_or_else(Vec::new, |(_, left)| left)
    }

    async fn remove(&self, job: &Job, server: &Server, claim: &Claim) -> Vec<Leftover> {
        let run = self.0.run(job, &server.location);
        run.enter(Step::Remove);
        run.know_server(server);
        run.say(Scope::ProvisionVm, format!("Removing {} (id {}) of job {}", server.name, server.id, job.id));
        adopt::clear(&run, server, claim, Guard::Told).await
    }
}

/// Looks until something shows, or an absence is to be believed: reads lag behind by up to 5 s (fault G32).
async fn find(run: &Run<'_>, which: &Which) -> Result<Vec<Server>, Cause> {
    run.enter(Step::Lookup);
    for pause in READS {
        run.pause(pause).await?;
        let found = find_once(run, which).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

async fn find_once(run: &Run<'_>, which: &Which) -> Result<Vec<Server>, Cause> {
    let doing = "the servers could not be looked up";
    run.guard(async {
        let found = match which {
            Which::Job(id) => {
                let found = run.hetzner.find_servers_by_label(&job::selector(id), run.within()).await;
                found.map(|found| found.into_iter().filter(|server| job::is_labelled(server, id)).collect())
            }
            Which::Server { id, .. } => {
                run.hetzner.find_server(ServerId(*id), run.within()).await.map(|server| server.into_iter().collect())
            }
            Which::Name(name) => {
                run.hetzner.find_server_by_name(name, run.within()).await.map(|server| server.into_iter().collect())
            }
        };
        found.doing(doing)
    })
    .await
}

/// Whose a server is: its labels have to name a job and an agent whose name it carries.
fn prove(server: &Server, which: &Which) -> Result<(Job, Claim), Cause> {
    let foreign = || match which {
        Which::Job(_) => Cause::ForeignServer { id: server.id.0 },
        Which::Server { .. } | Which::Name(_) => {
            Cause::NameConflict { name: server.name.clone(), id: Some(server.id.0) }
        }
    };
    let claim = Claim::read(server).ok_or_else(foreign)?;
    let job = Job::new(&claim.job, &claim.agent).map_err(|_| foreign())?;
    if job.name == server.name { Ok((job, claim)) } else { Err(foreign()) }
}

//! Where a job stands: one short look, for callers that may not wait. Nothing is changed, and nothing but the clouds is asked.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join;
use tokio_util::sync::CancellationToken;

use super::enrollment::{Enrollment, Expected, judge};
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Step};
use super::job::{self, Claim, Job};
use super::run::{Doing, Run};
use super::settings::Settings;
use super::{Provisioner, failure, region, unless_panic};
use crate::hetzner::Server;
use crate::tailscale::Device;
use crate::transport::{Patience, Urgency, Within};

/// How a usual first boot takes its time, from the order to the device.
const USUAL_BOOT: Duration = Duration::from_secs(60);
/// A read may be made once more.
const TRIES: u32 = 2;

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no server of it: never begun, undone, or removed.
    Absent,
    /// Its server is being made.
    Creating,
    /// Its server runs, and no device of it is in the tailnet yet.
    Booting,
    /// A device of its name and tag is there, which may be its machine, and the server is not marked ready yet.
    Enrolled,
    /// It is done.
    Ready,
    /// Its attempt is past its end, or past its deadline with nobody waiting: the next call for the job finishes or removes it.
    Expired,
}

impl State {
    /// The state as JavaScript sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Creating => "creating",
            Self::Booting => "booting",
            Self::Enrolled => "enrolled",
            Self::Ready => "ready",
            Self::Expired => "expired",
        }
    }
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How far it has come.
    pub state: State,
    /// The same in hundredths: of a usual time while its machine boots, so it is no promise.
    pub percent: u8,
    /// The step that its attempt is at, if one is.
    pub step: Option<Step>,
    /// The server.
    pub server: Option<Server>,
    /// The agent that it is for.
    pub agent: Option<String>,
    /// The device's address in the tailnet, if the job is ready, its server runs, and that device verifies just now.
    pub tailscale_ip: Option<Ipv4Addr>,
    /// Its preferred id.
    pub node_id: Option<String>,
    /// How long until the next call makes it anew, if it is not finished.
    pub expires_in: Option<Duration>,
    /// What stands in the way of the device, in words.
    pub obstacle: Option<&'static str>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

impl Provisioner {
    /// Looks where a job stands: at most two requests to each cloud, but for repetitions of what failed.
    ///
    /// # Errors
    ///
    /// If a cloud cannot be read, or the job's server is not this package's.
    pub async fn status(
        &self,
        job_id: &str,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<Status, Box<ProvisionError>> {
        let nobody = Job::nobody("");
        let clouds = self.clouds(settings, &observer);
        let run = Run::new(&nobody, settings, region::place(""), clouds, cancel, observer);
        self.heed(&run);
        let looking = async { run.guard(look(&run, job_id)).await.map_err(|cause| (cause, Vec::new())) };
        unless_panic(looking).await.map_err(|(cause, left)| Box::new(failure(&run, cause, left)))
    }
}

async fn look(run: &Run<'_>, job_id: &str) -> Result<Status, Cause> {
    run.enter(Step::Read);
    let within = Within { deadline: run.deadline(), patience: Patience::Tries(TRIES), urgency: Urgency::Order };
    let selector = job::selector(job_id);
    let servers =
        async { run.hetzner.find_servers_by_label(&selector, within).await.doing("the job could not be looked up") };
    // The token takes as long as the list of servers; both are needed in nearly every case.
    let token = async {
        let had = run.tailscale.access_token(within).await.doing("the devices could not be read");
        had.map(drop)
    };
    let (servers, ()) = try_join(servers, token).await?;
    let labelled = servers.into_iter().filter(|server| job::is_labelled(server, job_id));
    let Some(server) = labelled.min_by_key(|server| server.id) else {
        return Ok(told(run, State::Absent, None, None, None));
    };
    let claim = Claim::read(&server).ok_or(Cause::ForeignServer { id: server.id.0 })?;
    let devices = run.tailscale.find_devices(&server.name, within).await.doing("the devices could not be read")?;
    Ok(read(run, server, &claim, devices))
}

/// What a server, its labels and the devices of its name say together.
fn read(run: &Run<'_>, server: Server, claim: &Claim, mut devices: Vec<Device>) -> Status {
    if let Some(node) = claim.node_id.as_ref().filter(|_| claim.ready) {
        devices.retain(|device| device.node_id.0 == *node);
    }
    let expected = Expected { hostname: &server.name, attempt_started: claim.started, known: &[] };
    let (enrolled, obstacle) = match judge(&devices, &expected) {
        Enrollment::Verified(enrolled) => (Some(enrolled), None),
        Enrollment::NotYet(obstacle) => (None, Some(obstacle.as_str())),
        Enrollment::Ambiguous(_) => (None, Some("more than one device claims to be its machine")),
    };
    let state = if claim.ready {
        State::Ready
    } else if is_over(claim, run.clock.shown_unix()) {
        State::Expired
    } else if enrolled.is_some() {
        State::Enrolled
    } else if server.status == "running" {
        State::Booting
    } else {
        State::Creating
    };
    let mut status = told(run, state, Some(server), Some(claim), obstacle);
    // Before that, nothing but its name and tag says that a device is the machine; a call proves more.
    // And Tailscale takes some time to see that a machine is off.
    let is_on = status.server.as_ref().is_some_and(|server| server.status == "running");
    if let Some(enrolled) = enrolled.filter(|_| claim.ready && claim.node_id.is_some() && is_on) {
        (status.tailscale_ip, status.node_id) = (Some(enrolled.ip), Some(enrolled.node_id));
    }
    status
}

/// Whether the next call finishes the attempt or makes it anew: it is past its end, or past its deadline with nobody waiting.
pub(super) fn is_over(claim: &Claim, now: i64) -> bool {
    over_at(claim).is_some_and(|end| end < now)
}

/// When it is, in the cloud's unix time.
pub(super) fn over_at(claim: &Claim) -> Option<i64> {
    if claim.is_resumable { claim.deadline() } else { claim.expires }.filter(|_| !claim.ready)
}

fn told(
    run: &Run<'_>,
    state: State,
    server: Option<Server>,
    claim: Option<&Claim>,
    obstacle: Option<&'static str>,
) -> Status {
    let now = run.clock.shown_unix();
    let age = claim.map_or(Duration::ZERO, |claim| seconds(claim.started, now));
    let (step, percent) = match state {
        State::Absent | State::Expired => (None, 0),
        State::Creating => (Some(Step::Server), 10 + share(age, 20)),
        State::Booting => (Some(Step::Wait), 30 + share(age, 55)),
        State::Enrolled => (Some(Step::Ready), 95),
        State::Ready => (None, 100),
    };
    let expires = claim.and_then(over_at);
    Status {
        state,
        percent,
        step,
        agent: claim.map(|claim| claim.agent.clone()),
        server,
        tailscale_ip: None,
        node_id: None,
        expires_in: expires.map(|expires| seconds(now, expires)),
        obstacle: obstacle.filter(|_| state != State::Absent),
        requests: (run.hetzner.sent(), run.tailscale.sent()),
    }
}

/// From one unix second to another; none if it lies before.
pub(super) fn seconds(from: i64, to: i64) -> Duration {
    Duration::from_secs(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

/// How much of `most` a usual boot of this age has done.
fn share(age: Duration, most: u8) -> u8 {
    let done = u64::from(most) * age.as_secs() / USUAL_BOOT.as_secs();
    u8::try_from(done).unwrap_or(most).min(most)
}

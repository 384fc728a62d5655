//! The job: from three strings to a machine in the tailnet, or to nothing at all.
//!
//! This room decides; it knows no HTTP and no JSON, and never reads a clock but through `transport`. The clouds hold
//! all state: the server's name is the lock, its labels say whose it is and how it stands, the key's description whose
//! the key is. So any number of processes can call for the same job at the same time.
//!
//! [`Provisioner::provision`] is the whole story; the steps it names are in `step/`, each with its undo.

mod adopt;
mod allowance;
mod boot_report;
mod boots;
mod candidate;
mod cleanup;
mod code;
mod deprovision;
mod doctor;
mod drop_in;
mod enrollment;
mod errand;
mod error;
mod event;
mod evidence;
mod flight;
mod job;
mod leftover;
mod list;
mod many;
mod plan;
mod presence;
mod reap;
mod region;
mod resume;
mod run;
mod saga;
pub mod settings;
mod shared;
mod status;
mod step;
mod turn;

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
pub use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use boot_report::{BootReport, advise};
pub use candidate::{CandidateAttempt, USUAL as USUAL_SERVER_TYPES};
pub use cleanup::{CleanedUp, LeftBy};
pub use code::Code;
pub use deprovision::{Deprovisioned, Removed, Which};
pub use doctor::{Check, Diagnosis, Patient, Readable, Verdict};
pub use drop_in::{Answer, Operation, Polling, render_first_boot};
pub use error::{Cause, ProvisionError};
pub use event::{Detail, Event, Known, Observer, Scope, Silent, Step};
pub use evidence::{Evidence, KeyWord, Shown, Unheard};
pub use job::{is_job_id, is_own_label};
pub use leftover::{Certainty, Hold, Kind, Leftover};
pub use list::{Vm, VmList};
pub use many::{Audience, Many, Summary, USUAL_CONCURRENCY};
pub use plan::{Intent, Plan, Planned};
pub use reap::{Fate, ReapOptions, ReapReport, Reaped};
pub use run::Timing;
pub use settings::{Settings, Source, USUAL_IMAGE, USUAL_TIMEOUT};
pub use status::{State, Status};

use allowance::Allowance;
use enrollment::Enrolled;
use event::quietly;
use flight::Flights;
use job::Job;
use resume::Begun;
use run::{Clouds, Run};
use saga::Saga;
use shared::Shared;
use step::auth_key::FreshKey;
use step::device::UndoDevice;
use step::{auth_key, device, first_boot, reach, ready, server, wait};
use turn::{nothing_left, settle};

pub use crate::cloud_init::{FailureClass, Milestone};
pub use crate::hetzner::Price;
use crate::hetzner::{Hetzner, Project, Server};
use crate::secret::Secret;
use crate::tailscale::Tailscale;
use crate::transport::{Admission, Chain, Chance, Clock, Dial, Left, Live, RateBudget, RetryBudget, Transport};
pub use crate::transport::{Attribute, Mishap, Span, TraceContext, Tracer, metrics};
use settings::Network;

/// What to provision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// The job: at most one server will ever stand for it.
    pub job_id: String,
    /// The agent that the machine is for.
    pub agent_id: String,
    /// A region of the app, or the name of a Hetzner location.
    pub region: String,
}

/// What tells one call for a job from another, beside the settings, which many may share.
struct Terms {
    /// What is left of its time.
    timeout: Duration,
    /// What it may cost, together with others.
    allowance: Option<Arc<Allowance>>,
    /// Whether it waits for its machine.
    waits: bool,
}

/// A machine in the tailnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// The server.
    pub server: Server,
    /// Its main address: the public IPv4 address, where it has one.
    pub server_ip: IpAddr,
    /// Its address in the tailnet.
    pub tailscale_ip: Ipv4Addr,
    /// The device's older, decimal id.
    pub device_id: String,
    /// The device's preferred id.
    pub node_id: String,
    /// Made by an earlier or another call.
    pub reused: bool,
    /// Made from a snapshot, by the settings of this call.
    pub used_snapshot: bool,
    /// Each candidate that was tried.
    pub attempts: Vec<CandidateAttempt>,
    /// How long each step took.
    pub timings: Vec<Timing>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
    /// What the server costs.
    pub price: Option<Price>,
    /// What a person should know although all went well.
    pub warnings: Vec<String>,
}

/// A job whose server stands, and whose machine has still to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underway {
    /// How far it has come: creating or booting.
    pub state: State,
    /// The server.
    pub server: Server,
    /// Begun by an earlier or another call.
    pub reused: bool,
    /// Made from a snapshot, by the settings of this call.
    pub used_snapshot: bool,
    /// How long its machine has to join. After that the next call makes it anew.
    pub time_left: Option<Duration>,
    /// Each candidate that was tried.
    pub attempts: Vec<CandidateAttempt>,
    /// How long each step took.
    pub timings: Vec<Timing>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
    /// What the server costs.
    pub price: Option<Price>,
    /// What a person should know although all went well.
    pub warnings: Vec<String>,
}

/// How far a call has brought a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is done.
    Ready(Box<Provisioned>),
    /// Its machine is on its way, and nobody waits for it.
    Underway(Box<Underway>),
}

/// Provisions jobs over one way to the network.
#[derive(Clone)]
pub struct Provisioner {
    transport: Arc<dyn Transport>,
    dial: Arc<dyn Dial>,
    chance: Arc<Chance>,
    budget: Arc<RetryBudget>,
    flights: Arc<Flights>,
    shared: Arc<Shared>,
    warnings: Vec<String>,
}

/// How a call ends.
pub type Outcome = Result<Provisioned, Box<ProvisionError>>;

impl Provisioner {
    /// Over the real network.
    pub fn live(network: &Network) -> Result<Self, Box<ProvisionError>> {
        let (live, warnings) = Live::new(network).map_err(|error| ProvisionError::at_the_door(error.into()))?;
        let live = Arc::new(live);
        Ok(Self { warnings, ..Self::new(live.clone(), live, Chance::from_system()) })
    }

    /// Over any transport and any dial, with all random choices from one seed.
    pub fn over(transport: Arc<dyn Transport>, dial: Arc<dyn Dial>, seed: u64) -> Self {
        Self::new(transport, dial, Chance::from_seed(seed))
    }

    fn new(transport: Arc<dyn Transport>, dial: Arc<dyn Dial>, chance: Chance) -> Self {
        let (chance, budget) = (Arc::new(chance), Arc::default());
        let (flights, shared) = (Arc::default(), Arc::default());
        Self { transport, dial, chance, budget, flights, shared, warnings: Vec::new() }
    }

    /// Provisions one VM for one job (design 2.1). On any failure what was begun is undone before this returns.
    ///
    /// `cancel` ends the work at once and starts the undo, which it cannot shorten. Once the machine is verified, and reached if
    /// that is asked for, the result wins over a late cancellation. A call for the same job with the same settings as one that is under way
    /// joins it.
    pub async fn provision(
        &self,
        params: &Params,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Outcome {
        self.provision_within(Arc::new(params.clone()), &Arc::new(settings.clone()), cancel, observer, None).await
    }

    /// The same, for one of several calls that together may cost no more than an allowance.
    async fn provision_within(
        &self,
        params: Arc<Params>,
        settings: &Arc<Settings>,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
        allowance: Option<Arc<Allowance>>,
    ) -> Outcome {
        let depart = |cancel, observer, timeout| {
            let (process, params, settings, allowance) =
                (self.clone(), params.clone(), settings.clone(), allowance.clone());
            async move {
                let terms = Terms { timeout, allowance, waits: true };
                match process.settle_alone(&params, &settings, cancel, observer, terms).await? {
                    Progress::Ready(done) => Ok(*done),
                    Progress::Underway(_) => Err(ProvisionError::at_the_door(Cause::Internal(
                        "the call did not wait for its machine".to_owned(),
                    ))),
                }
            }
            .boxed()
        };
        note_job(&*observer, &params);
        self.flights.take(&params, settings, allowance.as_ref(), cancel, observer, depart).await
    }

    async fn settle_alone(
        &self,
        params: &Params,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
        terms: Terms,
    ) -> Result<Progress, Box<ProvisionError>> {
        let job = Job::new(&params.job_id, &params.agent_id).map_err(ProvisionError::at_the_door)?;
        let place = locate(params, settings).map_err(ProvisionError::at_the_door)?;
        first_boot::check(&job, settings).map_err(ProvisionError::at_the_door)?;
        let clouds = self.admit(&job, settings, &cancel, &observer).boxed().await?;
        let mut run = Run::new(&job, settings, place, clouds, cancel, observer);
        run.waits = terms.waits;
        run.allowance = terms.allowance;
        run.limit(terms.timeout);
        run.say(
            Scope::ProvisionVm,
            format!("Provisioning {} in {} for job {}", job.name, run.locations().join(", "), job.id),
        );
        heed_place(&run, &params.region);
        self.heed(&run);
        let span = tracing::info_span!("provision", job = job.id, agent = job.agent);
        let settled = settle(&run).instrument(span).await;
        run.account(&settled);
        settled.map_err(|(cause, leftovers)| Box::new(failure(&run, cause, leftovers)))
    }

    /// Says what a person should hear about the settings.
    fn heed(&self, run: &Run<'_>) {
        for warning in self.warnings.iter().chain(&run.settings.warnings) {
            run.warn(Scope::ProvisionVm, warning.clone());
        }
    }

    /// Lets a job in, as soon as the budget of Hetzner's token has room for it. Its time begins then (design 6).
    async fn admit(
        &self,
        job: &Job,
        settings: &Settings,
        cancel: &CancellationToken,
        observer: &Arc<dyn Observer>,
    ) -> Result<Clouds, Box<ProvisionError>> {
        let (clock, project) = (Clock::default(), self.shared.project(settings));
        let on_wait = |left: Option<Left>| quietly(|| observer.event(Event::of_a_queue(job, left)));
        let admission = tokio::select! {
            biased;
            admission = project.rate().admit(&clock, on_wait) => Arc::new(admission),
            () = cancel.cancelled() => return Err(ProvisionError::at_the_door(Cause::Aborted)),
        };
        Ok(self.clouds_of(settings, observer, project, Some(admission)))
    }

    /// The ways to both clouds, with the clock that labels are written in: Hetzner's.
    fn clouds(&self, settings: &Settings, observer: &Arc<dyn Observer>) -> Clouds {
        self.clouds_of(settings, observer, self.shared.project(settings), None)
    }

    fn clouds_of(
        &self,
        settings: &Settings,
        observer: &Arc<dyn Observer>,
        project: Arc<Project>,
        admission: Option<Arc<Admission>>,
    ) -> Clouds {
        let (clock, witness) = (Arc::new(Clock::default()), Arc::new(Clock::default()));
        let chain = |clock: &Arc<Clock>, rate: &Arc<RateBudget>, common: &Arc<Clock>| {
            let (transport, chance, budget) = (self.transport.clone(), self.chance.clone(), self.budget.clone());
            let observer = observer.clone();
            Chain::new(transport, clock.clone(), chance, budget, rate.clone(), common.clone())
                .traced(Box::new(move || observer.tracer()))
        };
        let tailnet = self.shared.tailnet(settings);
        let mut to_hetzner = chain(&clock, project.rate(), project.clock());
        if let Some(admission) = admission {
            to_hetzner = to_hetzner.admitted(admission);
        }
        let to_tailscale = chain(&witness, tailnet.rate(), tailnet.clock());
        let masking = observer.clone();
        let on_secret = Arc::new(move |secret: &Secret| quietly(|| masking.secret(secret)));
        let (url, token) = (settings.hetzner_url.clone(), settings.hetzner_token.clone());
        let hetzner = Hetzner::new(to_hetzner, url, token, project);
        let (url, credentials) = (settings.tailscale_url.clone(), settings.tailscale_credentials.clone());
        let tailscale = Tailscale::new(to_tailscale, url, credentials, tailnet, on_secret);
        Clouds {
            hetzner: hetzner.into(),
            tailscale: tailscale.into(),
            chance: self.chance.clone(),
            budget: self.budget.clone(),
            dial: self.dial.clone(),
            shared: self.shared.clone(),
            clock,
            witness,
        }
    }
}

fn failure(run: &Run<'_>, cause: Cause, leftovers: Vec<Leftover>) -> ProvisionError {
    let mut notes = run.notes();
    let failed_at = notes.failed_at.unwrap_or(notes.step);
    let attempts = std::mem::take(&mut notes.candidates);
    let unheard = run.unheard(&notes).filter(|_| cause.is_of_a_silent_machine());
    let ended_at = run.clock.is_settled().then(|| run.clock.cloud_unix());
    ProvisionError {
        cause,
        step: failed_at,
        attempts,
        leftovers,
        ended_at,
        is_key_spent: notes.is_key_spent,
        unheard,
        requests: (run.hetzner.sent(), run.tailscale.sent()),
    }
}

fn locate(params: &Params, settings: &Settings) -> Result<region::Placement, Cause> {
    let place = region::place(&params.region);
    if !place.known && settings.strict_region && settings.extras.locations.is_empty() {
        let why = format!("unknown region; known: {}, and the names of Hetzner's locations", region::names());
        return Err(Cause::Input { field: "params.region".to_owned(), why });
    }
    Ok(place)
}

/// Says where a region leads that nobody knows.
fn heed_place(run: &Run<'_>, region: &str) {
    if run.place.known || !run.settings.extras.locations.is_empty() {
        return;
    }
    let message = format!("Unknown region {region:?}, using {}; known: {}", run.place.location, region::names());
    run.warn(Scope::ProvisionVm, message);
}

/// What went wrong, and what is left of it.
type Failure = (Cause, Vec<Leftover>);

/// One attempt: made, or undone.
async fn attempt(run: &Run<'_>) -> Result<Progress, Failure> {
    or_undo(run, async |saga| make(run, saga).await).await
}

/// Does what declares its undo; if it fails, what was declared is undone.
async fn or_undo<T>(run: &Run<'_>, work: impl AsyncFnOnce(&Saga) -> Result<T, Cause>) -> Result<T, Failure> {
    let saga = Saga::default();
    match attempted(work(&saga)).await {
        Ok(done) => Ok(done),
        Err(cause) => Err(undone(run, &saga, cause).boxed().await),
    }
}

/// Undoes what was declared, because of this.
async fn undone(run: &Run<'_>, saga: &Saga, cause: Cause) -> Failure {
    if saga.is_empty() {
        return (cause, Vec::new());
    }
    run.begin_undo(&cause);
    let left = saga.compensate(run).await;
    (cause, left)
}

/// Does something; a panic in it is a cause like any other.
fn attempted<T>(work: impl Future<Output = Result<T, Cause>>) -> impl Future<Output = Result<T, Cause>> {
    caught(work).map(|caught| caught.unwrap_or_else(Err))
}

/// Does what undoes itself; a panic in it becomes an error.
fn unless_panic<T>(work: impl Future<Output = Result<T, Failure>>) -> impl Future<Output = Result<T, Failure>> {
    let work = caught(work);
    async move {
        match work.await {
            Ok(outcome) => outcome,
            Err(cause) => Err(nothing_left(cause)),
        }
    }
}

/// A panic as a cause. It boxes `work` before it is awaited: a future that is given to an `async fn` has its room there twice.
fn caught<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, Cause>> {
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    work.map(|outcome| outcome.map_err(|panic| Cause::panic(panic.as_ref())))
}

/// The ten steps, from the key to the mark; without a wait, as far as the server.
async fn make(run: &Run<'_>, saga: &Saga) -> Result<Progress, Cause> {
    let (begun, server) = begin(run, saga).boxed().await?;
    if !run.waits {
        return Ok(Progress::Underway(Box::new(resume::leave(run, begun, server).boxed().await)));
    }
    // A thousand that wait need not keep all that Hetzner said of them.
    drop(server);
    let enrolled = wait::both(run, &begun.made, &begun.key, &begun.expected(run)).boxed().await?;
    conclude(run, begun, &enrolled).boxed().await.map(|done| Progress::Ready(Box::new(done)))
}

async fn begin(run: &Run<'_>, saga: &Saga) -> Result<(Begun, Server), Cause> {
    let attempt = run.begin_attempt();
    let known = device::known_before(run).await?;
    // A key in a machine's hands makes a device, so the device's undo is declared before there is a key.
    saga.declare(UndoDevice::new(&run.job.name, &attempt.id, attempt.started, known.clone()));
    let FreshKey { text, key } = auth_key::ensure(run, saga, &attempt).await?;
    let document = first_boot::Document::new(run, &attempt, text)?;
    let key_label = key.minted_id().map(|id| id.0.as_str());
    let (made, server) = server::create(run, saga, &attempt, &document, key_label).await?;
    Ok((Begun { made, key, attempt: attempt.id, started: attempt.started, known, reused: false }, server))
}

/// Says in the call's span which job it is about.
fn note_job(observer: &dyn Observer, params: &Params) {
    let Some(tracer) = observer.tracer() else { return };
    if let Ok(job) = Job::new(&params.job_id, &params.agent_id) {
        tracer.note("provision_vm.job_id", job.id.as_str());
        tracer.note("provision_vm.agent_id", job.agent.as_str());
        tracer.note("provision_vm.server_name", job.name.as_str());
    }
}

/// What is left to do when the machine has joined.
async fn conclude(run: &Run<'_>, begun: Begun, enrolled: &Enrolled) -> Result<Provisioned, Cause> {
    run.verified(enrolled);
    reach::wait(run, enrolled.ip).await?;
    hand_over(run, begun, enrolled).await
}

/// What is left to do when the machine has joined, and was reached if that is asked for.
async fn hand_over(run: &Run<'_>, begun: Begun, enrolled: &Enrolled) -> Result<Provisioned, Cause> {
    let Begun { made, key, attempt, reused, .. } = begun;
    // At the same time: the key has served, and what undoes the server revokes it again without harm.
    let mark = ready::mark(run, made.id, &attempt, enrolled, || made.undo.marking());
    let (server, ()) = join(mark, auth_key::retire(run, &key)).await;
    let server = server?;
    run.know_server(&server);
    finish(run, server, enrolled, reused, made.price)
}

fn finish(
    run: &Run<'_>,
    server: Server,
    enrolled: &Enrolled,
    reused: bool,
    price: Option<Price>,
) -> Result<Provisioned, Cause> {
    let server_ip = server::address(&server)?;
    run.end_step();
    let mut notes = run.notes();
    Ok(Provisioned {
        server_ip,
        tailscale_ip: enrolled.ip,
        device_id: enrolled.device_id.clone(),
        node_id: enrolled.node_id.clone(),
        reused,
        used_snapshot: run.settings.source.is_snapshot(),
        attempts: std::mem::take(&mut notes.candidates),
        timings: std::mem::take(&mut notes.timings),
        requests: (run.hetzner.sent(), run.tailscale.sent()),
        price,
        warnings: std::mem::take(&mut notes.warnings),
        server,
    })
}

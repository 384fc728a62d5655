//! What one call carries from step to step: its clouds, its limits, and what it has told so far.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::Progress;
use super::allowance::{Allowance, Claimed};
use super::boots::Window;
use super::candidate::CandidateAttempt;
use super::enrollment::Enrolled;
use super::error::Cause;
use super::event::{Detail, Event, Known, Observer, Scope, Step, quietly};
use super::evidence::Unheard;
use super::job::{Attempt, BEYOND_DEADLINE, Claim, Job};
use super::leftover::{Kind, Leftover};
use super::region::Placement;
use super::settings::Settings;
use super::shared::Shared;
use crate::hetzner::{Hetzner, HetznerError, Price, Server};
use crate::secret::Secret;
use crate::tailscale::{Tailscale, TailscaleError};
use crate::transport::{
    Chance, Clock, Dial, Instant, Opinion, Patience, Repeat, RetryBudget, Urgency, Within, retry, sleep, sleep_until,
    timeout_at,
};

/// The time for all undos of one attempt together. Neither the caller's signal nor the deadline shortens it.
const UNDO_BUDGET: Duration = Duration::from_secs(60);
/// What an undo has at least, if what came before it took longer than it should.
const LEAST_UNDO_BUDGET: Duration = Duration::from_secs(30);
/// How long to look at what an undo could not see.
const AFTERMATH: Duration = Duration::from_secs(10);
/// What the reply to an order is worth after the caller has given up.
const GRACE: Duration = Duration::from_secs(5);

/// How long one step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The step.
    pub step: Step,
    /// How long it took.
    pub length: Duration,
}

/// The ways to both clouds, and what all that is done with them shares.
#[derive(Clone)]
pub(super) struct Clouds {
    pub hetzner: Arc<Hetzner>,
    pub tailscale: Arc<Tailscale>,
    /// Hetzner's.
    pub clock: Arc<Clock>,
    /// Tailscale's: a second opinion on what time it is.
    pub witness: Arc<Clock>,
    pub chance: Arc<Chance>,
    pub budget: Arc<RetryBudget>,
    /// The way to the machines themselves.
    pub dial: Arc<dyn Dial>,
    pub shared: Arc<Shared>,
}

/// One call.
pub(super) struct Run<'a> {
    pub job: &'a Job,
    pub settings: &'a Settings,
    pub place: Placement,
    pub hetzner: Arc<Hetzner>,
    pub tailscale: Arc<Tailscale>,
    pub clock: Arc<Clock>,
    pub chance: Arc<Chance>,
    pub dial: Arc<dyn Dial>,
    pub cancel: CancellationToken,
    /// What it may cost, together with other calls.
    pub allowance: Option<Arc<Allowance>>,
    /// Whether it waits for a machine. An attempt of one that does not may be finished by any call for its job.
    pub waits: bool,
    /// What is set aside for the server that it is at.
    claimed: Mutex<Option<Claimed>>,
    shared: Arc<Shared>,
    witness: Arc<Clock>,
    budget: Arc<RetryBudget>,
    observer: Arc<dyn Observer>,
    began: Instant,
    notes: Mutex<Notes>,
}

/// What a call has gathered on its way.
pub(super) struct Notes {
    pub step: Step,
    /// Where the job stood when its undo began.
    pub failed_at: Option<Step>,
    /// When the call has to be done, its undo apart.
    deadline: Instant,
    undo_began: Option<Instant>,
    step_began: Instant,
    pub timings: Vec<Timing>,
    pub candidates: Vec<CandidateAttempt>,
    pub warnings: Vec<String>,
    /// The key that the settings bring was seen used up after an attempt.
    pub is_key_spent: bool,
    /// The key of the attempt that is being undone was revoked unused, so no machine of it can join any more.
    pub is_shut_out: bool,
    /// The attempt that the call is at.
    attempt: Option<String>,
    known: Known,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        job: &'a Job,
        settings: &'a Settings,
        place: Placement,
        clouds: Clouds,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let Clouds { hetzner, tailscale, clock, witness, chance, budget, dial, shared } = clouds;
        let began = clock.now();
        let notes = Notes {
            step: Step::Validate,
            failed_at: None,
            deadline: began + settings.timeout,
            undo_began: None,
            step_began: began,
            timings: Vec::new(),
            candidates: Vec::new(),
            warnings: Vec::new(),
            is_key_spent: false,
            is_shut_out: false,
            attempt: None,
            known: Known { server_name: Some(job.name.clone()).filter(|name| !name.is_empty()), ..Known::default() },
        };
        let notes = Mutex::new(notes);
        Self {
            job,
            settings,
            place,
            hetzner,
            tailscale,
            clock,
            chance,
            dial,
            cancel,
            allowance: None,
            claimed: Mutex::default(),
            waits: true,
            shared,
            witness,
            budget,
            observer,
            began,
            notes,
        }
    }

    /// The locations to try, in order.
    pub(super) fn locations(&self) -> Vec<&str> {
        match self.settings.extras.locations.as_slice() {
            [] => vec![self.place.location],
            given => given.iter().map(String::as_str).collect(),
        }
    }

    /// A new attempt, beginning now.
    pub(super) fn begin_attempt(&self) -> Attempt {
        let started = self.clock.cloud_unix();
        let expires = started.saturating_add_unsigned((self.attempt_time() + BEYOND_DEADLINE).as_secs());
        let random = self.chance.id();
        let id = self.settings.run.as_ref().map_or_else(|| random.clone(), |run| run.attempt(&random));
        self.is_at(&id);
        Attempt { id, started, expires, is_resumable: !self.waits }
    }

    /// The machine of the attempt that the call is at, if it was told where to report.
    pub(super) fn unheard(&self, notes: &Notes) -> Option<Unheard> {
        let attempt = notes.attempt.clone().filter(|_| self.settings.report.is_some())?;
        Some(Unheard { job_id: self.job.id.clone(), server_name: self.job.name.clone(), attempt })
    }

    /// From here on every event names this attempt.
    pub(super) fn is_at(&self, attempt: &str) {
        self.notes().attempt = Some(attempt.to_owned());
    }

    /// How long the machine of an attempt that begins now has to join: as long as this call waits, or, where it does not, as
    /// the settings say.
    pub(super) fn attempt_time(&self) -> Duration {
        let time_left = self.deadline().saturating_duration_since(self.clock.now());
        if self.waits { time_left } else { self.settings.lifetime }
    }

    /// When the call has to be done, its undo apart.
    pub(super) fn deadline(&self) -> Instant {
        self.notes().deadline
    }

    /// Gives the call this much time from its beginning.
    pub(super) fn limit(&self, timeout: Duration) {
        self.set_deadline(self.began + timeout);
    }

    /// Sets another end than the settings', since this is but a part of a call.
    pub(super) fn set_deadline(&self, deadline: Instant) {
        self.notes().deadline = deadline;
    }

    /// Goes on with an attempt that another call has begun, so its deadline counts, unless our own comes first. Returns our
    /// own.
    pub(super) fn keep_deadline_of(&self, claim: &Claim) -> Instant {
        let own = self.deadline();
        if let Some(left) = self.time_left(claim) {
            self.set_deadline(own.min(self.clock.now() + left));
        }
        own
    }

    /// How long the deadline of an attempt is past, as its server's label tells.
    pub(super) fn time_over(&self, claim: &Claim) -> Duration {
        let over = claim.deadline().map_or(0, |end| self.clock.cloud_unix().saturating_sub(end));
        Duration::from_secs(u64::try_from(over).unwrap_or(0))
    }

    /// How long until the deadline of an attempt, as its server's label tells.
    pub(super) fn time_left(&self, claim: &Claim) -> Option<Duration> {
        let left = claim.deadline()?.saturating_sub(self.clock.cloud_unix());
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// Whether an attempt is past its end. As long as no answer has shown the cloud's clock, nobody is, nor if the other
    /// cloud's clock denies it: a wrong clock, here or on the way, must not cost a living attempt its server.
    pub(super) fn is_dead(&self, claim: &Claim) -> bool {
        self.is_past(|now| claim.is_dead(now))
    }

    /// Whether nobody waits for the machine of an attempt any more that is anybody's to finish: its deadline is past.
    pub(super) fn is_overdue(&self, claim: &Claim) -> bool {
        claim.is_resumable && !claim.ready && self.is_past(|now| claim.deadline().is_some_and(|end| end < now))
    }

    fn is_past(&self, at: impl Fn(i64) -> bool) -> bool {
        let is_denied = self.witness.is_settled() && !at(self.witness.cloud_unix());
        self.clock.is_settled() && at(self.clock.cloud_unix()) && !is_denied
    }

    /// The limits of an ordinary request.
    pub(super) fn within(&self) -> Within {
        Within { deadline: self.deadline(), patience: Patience::USUAL, urgency: Urgency::Order }
    }

    /// Does `work` unless the caller gives up or the deadline passes first. `work` is then dropped where it stands, so
    /// nothing that makes something may go through here without its undo declared.
    ///
    /// `work` is boxed before it is awaited: a future that is given to an `async fn` has its room there twice, and a thousand jobs
    /// may wait at once.
    pub(super) fn guard<'f, T: 'f>(
        &'f self,
        work: impl Future<Output = Result<T, Cause>> + Send + 'f,
    ) -> impl Future<Output = Result<T, Cause>> + Send + 'f {
        let work = work.boxed();
        async move {
            tokio::select! {
                biased;
                cause = self.interrupted() => Err(cause),
                outcome = work => outcome,
            }
        }
    }

    /// Sends one order, once, and hears its reply out. When the caller gives up or the deadline passes, the undo begins at
    /// once, and its first act is to wait up to [`GRACE`] for a reply that is on its way, since it names what has to be
    /// undone. `order` must not try again by itself.
    pub(super) fn hear<'f, T: 'f>(
        &'f self,
        order: impl Future<Output = T> + Send + 'f,
    ) -> impl Future<Output = Heard<T>> + Send + 'f {
        let mut order = order.boxed();
        async move {
            let cause = tokio::select! {
                biased;
                cause = self.interrupted() => cause,
                reply = &mut order => return Heard::Reply(reply),
            };
            self.begin_undo(&cause);
            Heard::Interrupted(cause, timeout_at(self.clock.now() + GRACE, order).await)
        }
    }

    /// What has ended the call already, if anything: after that nothing new is ordered.
    pub(super) fn ended(&self) -> Option<Cause> {
        if self.cancel.is_cancelled() {
            return Some(Cause::Aborted);
        }
        (self.clock.now() >= self.end(self.clock.slept())).then_some(Cause::Deadline)
    }

    /// The limits of one order that is heard out. It does not wait for a place in the budget: that was done before it was
    /// declared.
    pub(super) fn within_grace(&self) -> Within {
        Within { deadline: self.deadline() + GRACE, patience: Patience::Tries(1), urgency: Urgency::Undo }
    }

    /// How long to wait before an order that was surely not applied is made again; `None` to give up.
    pub(super) fn pause_before_order(&self, opinion: Opinion, tried: u32) -> Option<Duration> {
        retry::pause(opinion, Repeat::OnlyIfNotApplied, Patience::USUAL, tried, self.chance.fraction())
            .filter(|_| matches!(opinion, Opinion::Slow(_)) || self.budget.take())
    }

    /// The limits of one look of a wait: the wait itself is the repetition.
    pub(super) fn within_a_look(&self) -> Within {
        Within { deadline: self.deadline(), patience: Patience::Tries(1), urgency: Urgency::Look }
    }

    /// The limits of a look at what an undo could not see. Like the undo it is not cut short by the deadline.
    pub(super) fn within_aftermath(&self) -> Within {
        let deadline = (self.clock.now() + AFTERMATH).min(self.deadline() + UNDO_BUDGET);
        Within { deadline, patience: Patience::Tries(1), urgency: Urgency::Undo }
    }

    /// Whether a server of this price is within what the call may cost. What it costs is then set aside for it, and nothing for the
    /// one before.
    pub(super) fn can_afford(&self, price: Option<&Price>) -> bool {
        let Some(allowance) = &self.allowance else { return true };
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        *claimed = None;
        *claimed = allowance.claim(price);
        claimed.is_some()
    }

    /// What was set aside is spent if a server stands for it, or may.
    pub(super) fn account(&self, settled: &Result<Progress, (Cause, Vec<Leftover>)>) {
        let stands = match settled {
            Ok(Progress::Ready(done)) => !done.reused,
            Ok(Progress::Underway(underway)) => !underway.reused,
            Err((_, left)) => left.iter().any(|left| left.kind == Kind::Server),
        };
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(claimed) = claimed.filter(|_| stands) {
            claimed.spend();
        }
    }

    /// When its machine is likely to join.
    pub(super) fn boot_window(&self) -> Window {
        self.shared.boots.window(self.settings.source.is_snapshot())
    }

    /// Its machine has joined so long after its order was answered.
    pub(super) fn has_booted_in(&self, took: Duration) {
        self.shared.boots.learn(self.settings.source.is_snapshot(), took);
    }

    /// Waits, unless the call is ended first.
    pub(super) async fn pause(&self, length: Duration) -> Result<(), Cause> {
        self.guard(async {
            sleep(length).await;
            Ok(())
        })
        .await
    }

    /// Waits for whatever ends the call from outside.
    pub(super) fn interrupted(&self) -> BoxFuture<'_, Cause> {
        // In a box, since every step waits for it beside its own work: so its code is there once.
        Box::pin(async {
            loop {
                let sleeps = self.clock.sleeps();
                let end = self.end(self.clock.slept());
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return Cause::Aborted,
                    () = sleep_until(end) => return Cause::Deadline,
                    () = sleeps => {}
                }
            }
        })
    }

    /// The deadline, which does not wait for a machine that sleeps.
    fn end(&self, slept: Duration) -> Instant {
        self.deadline().checked_sub(slept).unwrap_or(self.began)
    }

    /// Notes that a step begins, and how long the one before took.
    pub(super) fn enter(&self, step: Step) {
        self.proceed(step, None);
    }

    /// `why` the step before failed, if this one undoes it.
    fn proceed(&self, step: Step, why: Option<String>) {
        // Entering a step again goes on with it.
        if self.notes().step == step {
            return;
        }
        self.end_step();
        self.notes().step = step;
        tracing::debug!(step = step.as_str(), "step");
        if let Some(tracer) = self.observer.tracer() {
            match why {
                None => tracer.enter(step.as_str()),
                Some(why) => tracer.undo(step.as_str(), why),
            }
        }
        if let Some(title) = step.title() {
            self.tell(Scope::ProvisionVm, title, Detail::Step);
        }
    }

    /// Notes how long the step took that ends now.
    pub(super) fn end_step(&self) {
        let now = self.clock.now();
        let mut notes = self.notes();
        let timing = Timing { step: notes.step, length: now.duration_since(notes.step_began) };
        notes.timings.push(timing);
        notes.step_began = now;
    }

    /// Notes where the job failed, and that its undo begins; its time counts from now.
    pub(super) fn begin_undo(&self, cause: &Cause) {
        {
            let mut notes = self.notes();
            if notes.undo_began.is_some() {
                return;
            }
            notes.undo_began = Some(self.clock.now());
            notes.is_shut_out = false;
            notes.failed_at = Some(notes.step);
        }
        self.proceed(Step::Undo, Some(cause.to_string()));
        let detail = Detail::Undo(cause.to_string());
        self.tell(Scope::ProvisionVm, format!("Undoing what was begun: {cause}"), detail);
    }

    /// When the undo that has begun, or begins now, has to be done.
    pub(super) fn undo_end(&self) -> Instant {
        let now = self.clock.now();
        let began = self.notes().undo_began.unwrap_or(now);
        (began.min(self.deadline()) + UNDO_BUDGET).max(now + LEAST_UNDO_BUDGET).min(began + UNDO_BUDGET)
    }

    /// Notes that the undo is done and the job goes on.
    pub(super) fn end_undo(&self) {
        let mut notes = self.notes();
        notes.undo_began = None;
        notes.failed_at = None;
    }

    pub(super) fn say(&self, scope: Scope, message: impl Into<String>) {
        self.tell(scope, message, Detail::Note);
    }

    /// Says something that is told as data as well.
    pub(super) fn tell(&self, scope: Scope, message: impl Into<String>, detail: Detail) {
        self.emit(scope, false, message.into(), detail);
    }

    /// Says that something is gone.
    pub(super) fn removed(&self, scope: Scope, message: String, kind: Kind, id: &impl ToString) {
        self.tell(scope, message, Detail::Removed(kind, id.to_string()));
    }

    pub(super) fn warn(&self, scope: Scope, message: impl Into<String>) {
        self.warn_of(scope, message.into(), Detail::Note);
    }

    /// Warns of something that is told as data as well.
    pub(super) fn warn_of(&self, scope: Scope, message: String, detail: Detail) {
        self.notes().warnings.push(message.clone());
        self.emit(scope, true, message, detail);
    }

    fn emit(&self, scope: Scope, is_warning: bool, message: String, detail: Detail) {
        tracing::info!(target: "provision_vm::progress", scope = scope.as_str(), is_warning, "{message}");
        let (step, known, attempt) = {
            let notes = self.notes();
            (notes.step, notes.known.clone(), notes.attempt.clone())
        };
        let elapsed = self.clock.now().duration_since(self.began);
        let event = Event { step, scope, is_warning, message, detail, attempt, elapsed, known };
        quietly(|| self.observer.event(event));
    }

    /// From here on every event names this server.
    pub(super) fn know_server(&self, server: &Server) {
        let mut notes = self.notes();
        notes.known.server_id = Some(server.id.0);
        notes.known.server_ip = server.addresses.main();
    }

    /// The device is the machine: from here on every event names its address.
    pub(super) fn verified(&self, enrolled: &Enrolled) {
        self.enter(Step::Verify);
        self.notes().known.tailscale_ip = Some(enrolled.ip);
        let Enrolled { device_id, node_id, ip } = enrolled.clone();
        let message = format!("Tailscale enrollment verified: ip={ip}");
        self.tell(Scope::ProvisionVm, message, Detail::Enrolled { device_id, node_id });
    }

    /// A secret was handed out; a log should mask it.
    pub(super) fn tell_secret(&self, secret: &Secret) {
        quietly(|| self.observer.secret(secret));
    }

    pub(super) fn tried(&self, attempt: CandidateAttempt) {
        let mut notes = self.notes();
        // Mostly it stays the only one.
        notes.candidates.reserve_exact(1);
        notes.candidates.push(attempt);
    }

    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of an order.
pub(super) enum Heard<T> {
    /// The reply.
    Reply(T),
    /// The call was ended meanwhile; with the reply, if it still came.
    Interrupted(Cause, Option<T>),
}

/// Gives a cloud's error its place in the job: what was being done.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Cause>;
}

impl<T> Doing<T> for Result<T, HetznerError> {
    fn doing(self, doing: &'static str) -> Result<T, Cause> {
        self.map_err(|source| Cause::Hetzner { doing, source })
    }
}

impl<T> Doing<T> for Result<T, TailscaleError> {
    fn doing(self, doing: &'static str) -> Result<T, Cause> {
        self.map_err(|source| Cause::Tailscale { doing, source })
    }
}

//! What a token may ask for: one budget for all calls of a process that use it.
//!
//! Hetzner gives a project a bucket of requests that is refilled all the time, and says in every answer how much is left
//! (`RateLimit-Limit`, `RateLimit-Remaining`; `facts/hetzner.md` 5). `RateLimit-Reset` names the moment when the bucket is
//! *full*, so it is never read. An API that says nothing of the kind, such as Tailscale's, is not held back until it
//! answers 429.
//!
//! Two doors stand here. **Jobs** are let in, in the order in which they came, when the bucket can pay for all that they will
//! ask for ([`RateBudget::admit`]); that is where a thousand jobs wait that find a bucket for a hundred, and their time does
//! not run yet. **Requests** of those who are in pass at once as long as there is plenty. Below the reserve they are spaced out,
//! the wider the less is left and the less pressing they are ([`Urgency`]), so that the reserve stays for compensation, which always
//! passes. What others draw from the same bucket shows in how it sinks; each process keeps to its part of the refill.

mod shared;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Clock, Instant, timeout_at};
use shared::Observation;

/// The part of the bucket below which requests are spaced out: 2 in 100, and at least ten.
const RESERVE: f64 = 0.02;
const LEAST_RESERVE: f64 = 10.0;
/// What a job asks Hetzner for, as long as none has ended here: its order, its mark, and its part of what is asked for many at once.
const JOB_COST: u32 = 3;
/// The same where the jobs are spread over processes, of which each looks for itself.
const JOB_COST_OF_FEW: u32 = 6;
/// And at most, however much the first ones have asked for.
const MOST_JOB_COST: u32 = 12;
/// So many jobs have to have ended before they tell what one costs.
const ENOUGH_JOBS: u64 = 3;
/// As long as hardly an answer has come, nobody knows who else draws from the bucket. One job for so many requests that are left may
/// be under way then, and at most so many.
const LEFT_PER_JOB: f64 = 100.0;
const SLOW_START: u32 = 8;
/// How long an answer tells what is left.
const STALE: Duration = Duration::from_secs(60);
/// How long jobs wait for the first answer before the next one tries.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// After a refusal for too many requests nothing goes out for so long, doubled with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// How long at most until a job, or a request, looks again at what has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LEAST_WAIT: Duration = Duration::from_millis(1);
const LOOK_SOON: Duration = Duration::from_secs(1);

/// With more jobs than this under way and hardly anything left, looks for many of them are spaced this much more widely: a second
/// each is what flows in, and ten of them make one look for ten jobs.
const FEW_JOBS: u32 = 4;
const MOST_EASE: u32 = 40;

/// How pressing a request is. The less of the bucket is left, the more pressing it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Looks whether something has come to be; a later look will do.
    Look,
    /// Makes something, or has to be known before something is made.
    Order,
    /// Brings to an end what has been made. It waits only after a refusal: what has joined must not be lost for want of a mark.
    Finish,
    /// Removes what must not stay. It never waits.
    Undo,
}

impl Urgency {
    /// What it may take of the refill, however little is left. Looks and orders leave the larger part, so that the reserve comes back.
    fn trickle(self) -> f64 {
        match self {
            Self::Look => 0.125,
            Self::Order => 0.25,
            Self::Finish | Self::Undo => 1.0,
        }
    }

    fn lane(self) -> usize {
        match self {
            Self::Look => 0,
            Self::Order => 1,
            Self::Finish | Self::Undo => 2,
        }
    }
}

/// So many requests that make or change something, and what has to be known for them, are on their way at the same time. At a tenth of a
/// second each they empty a full bucket in ten seconds; more would take memory, and connections where these are not shared. Where an
/// order takes twenty seconds, a thousand take ten minutes.
const MOST_AT_ONCE: usize = 32;

/// The budget of one token.
#[derive(Debug)]
pub struct RateBudget {
    state: Mutex<State>,
    /// Something has changed that a waiting job may have waited for.
    changed: Notify,
    /// Who waits for his turn, in the order in which he came: one queue for jobs, one for each urgency.
    door: tokio::sync::Mutex<()>,
    lanes: [tokio::sync::Mutex<()>; 3],
    places: Arc<Semaphore>,
}

impl Default for RateBudget {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::default(),
            door: tokio::sync::Mutex::default(),
            lanes: Default::default(),
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    bucket: Option<Bucket>,
    in_flight: u32,
    /// Whether any request has ended, well or badly.
    has_ended: bool,
    /// Requests that were answered.
    answered: u64,
    /// Requests that have ended and may have reached the API, answered or not.
    drawn: u64,
    /// What answers of the last while have told.
    observations: VecDeque<Observation>,
    /// Jobs that were let in and have not ended, by how much they have asked for.
    jobs_by_spent: [u32; MOST_JOB_COST as usize + 1],
    /// Jobs that have ended, and what jobs have asked for so far.
    jobs_ended: u64,
    job_requests: u64,
    /// Since a refusal for too many requests: when the next one may try, and how long to wait after another refusal.
    refused: Option<(Instant, Duration)>,
    refused_at: Option<Instant>,
    /// When the last request of each lane passed that was spaced out.
    last_spaced: [Option<Instant>; 3],
}

/// What is left, as far as answers have shown it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    limit: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// Requests a second that flow in.
    fn refill(&self) -> f64 {
        self.limit / 3600.0
    }

    fn reserve(&self) -> f64 {
        (self.limit * RESERVE).max(LEAST_RESERVE)
    }

    fn left_at(&self, now: Instant) -> f64 {
        let refilled = now.saturating_duration_since(self.at).as_secs_f64() * self.refill();
        (self.left + refilled).min(self.limit)
    }

    fn settle(&mut self, now: Instant) {
        self.left = self.left_at(now);
        self.at = now;
    }

    /// How long until so much has flowed in.
    fn time_for(&self, requests: f64) -> Duration {
        Duration::try_from_secs_f64(requests.max(0.0) / self.refill()).unwrap_or(Duration::from_secs(3600))
    }
}

/// What is left of a budget, for whoever tells people about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Requests that are left.
    pub requests: u32,
    /// Requests an hour.
    pub limit: u32,
}

impl RateBudget {
    /// Lets a job in, in the order in which they came. `on_wait` is called once if it has to wait.
    pub async fn admit(self: &Arc<Self>, clock: &Clock, on_wait: impl FnOnce(Option<Left>)) -> Admission {
        let mut on_wait = Some(on_wait);
        let mut say = |left| {
            if let Some(on_wait) = on_wait.take() {
                on_wait(left);
            }
        };
        let _turn = if let Ok(turn) = self.door.try_lock() {
            turn
        } else {
            say(self.left(clock.now()));
            self.door.lock().await
        };
        let began = clock.now();
        loop {
            let changed = self.changed.notified();
            let again = {
                let now = clock.now();
                let mut state = self.lock();
                match state.room_for_job(now, began) {
                    Ok(()) => {
                        state.jobs_by_spent[0] += 1;
                        return Admission { budget: self.clone(), spent: AtomicUsize::new(0) };
                    }
                    Err(again) => again,
                }
            };
            say(self.left(clock.now()));
            timeout_at(again, changed).await;
        }
    }

    /// Waits until a request may go out; nothing if the deadline comes first. Requests of one urgency pass in the order in which
    /// they came.
    pub async fn pass(&self, urgency: Urgency, clock: &Clock, deadline: Instant) -> Option<Pass> {
        timeout_at(deadline, self.wait_for_pass(urgency, clock)).await
    }

    async fn wait_for_pass(&self, urgency: Urgency, clock: &Clock) -> Pass {
        let turn = if urgency == Urgency::Undo { None } else { Some(self.lanes[urgency.lane()].lock().await) };
        // One that waits for its turn takes no place from the more pressing ones.
        let place = match urgency {
            // Looks serve many, and so are few; what brings to an end waits for nobody who begins.
            Urgency::Look | Urgency::Finish | Urgency::Undo => None,
            // It is never closed.
            Urgency::Order => self.places.clone().acquire_owned().await.ok(),
        };
        loop {
            let changed = self.changed.notified();
            let again = match self.lock().room_for(urgency, clock.now()) {
                Ok(()) => break,
                Err(again) => again,
            };
            timeout_at(again, changed).await;
        }
        drop(turn);
        Pass { _place: place }
    }

    /// A request goes out.
    pub fn sends(self: &Arc<Self>, now: Instant) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        drop(state);
        InFlight { budget: self.clone(), since: now, is_drawn: true }
    }

    /// What is left, if any answer has told.
    pub fn left(&self, now: Instant) -> Option<Left> {
        let bucket = self.lock().bucket?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of requests")]
        let whole = |requests: f64| requests.max(0.0) as u32;
        Some(Left { requests: whole(bucket.left_at(now)), limit: whole(bucket.limit) })
    }

    /// By how much more widely to space looks that serve many at once, since little is left: 1 with plenty, and where what is left
    /// pays twice for all who are under way, nobody else draws from it and no job waits to be let in.
    pub fn ease(&self, now: Instant) -> u32 {
        let nobody_waits = self.door.try_lock().is_ok();
        let state = self.lock();
        let Some(bucket) = state.bucket else { return 1 };
        let (left, share) = (bucket.left_at(now) / bucket.reserve(), state.share(now).unwrap_or(1.0));
        let is_enough =
            bucket.left_at(now) > bucket.reserve() + 2.0 * f64::from(state.promised(now).max(2 * state.jobs()));
        match (left, share) {
            (_, share) if is_enough && share > 0.9 && nobody_waits => 1,
            // Who is alone has nobody to wait for.
            (left, _) if left < 2.0 && state.jobs() > FEW_JOBS => MOST_EASE,
            (left, share) if left < 4.0 || share < 0.1 => 8,
            (_, share) if share < 0.5 => 3,
            _ => 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Jobs that were let in and have not ended.
    fn jobs(&self) -> u32 {
        self.jobs_by_spent.iter().sum()
    }

    /// What they are still expected to ask for, by what a job is known to ask for by now.
    fn promised(&self, now: Instant) -> u32 {
        let cost = self.job_cost(now);
        (0..cost).zip(self.jobs_by_spent).map(|(spent, jobs)| (cost - spent) * jobs).sum()
    }

    /// What a job asks for, as those that have ended have shown.
    fn job_cost(&self, now: Instant) -> u32 {
        if self.jobs_ended < ENOUGH_JOBS {
            let is_shared = self.share(now).is_some_and(|share| share < 0.9);
            return if is_shared { JOB_COST_OF_FEW } else { JOB_COST };
        }
        // Those that are under way have asked for a part of theirs.
        let jobs = self.jobs_ended + u64::from(self.jobs()) / 2;
        u32::try_from(self.job_requests.div_ceil(jobs)).unwrap_or(MOST_JOB_COST).clamp(JOB_COST, MOST_JOB_COST)
    }

    /// Whether one more job fits; else when to look again.
    fn room_for_job(&self, now: Instant, since: Instant) -> Result<(), Instant> {
        // One job may always be under way, unless an answer of this minute has said that nothing is left for it.
        if self.jobs() == 0
            && self.bucket.is_none_or(|bucket| now >= bucket.at + STALE || bucket.left >= bucket.reserve())
        {
            return Ok(());
        }
        let Some(bucket) = self.bucket else {
            // The first one finds out how much there is; who says nothing about it does not limit.
            let is_open = self.has_ended || now >= since + FIRST_ANSWER;
            return if is_open { Ok(()) } else { Err(since + FIRST_ANSWER) };
        };
        let Some(share) = self.share(now) else {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few jobs")]
            let most = (bucket.left_at(now) / LEFT_PER_JOB).ceil() as u32;
            return if self.jobs() < most.clamp(1, SLOW_START) { Ok(()) } else { Err(now + LOOK_AGAIN) };
        };
        let room = (bucket.left_at(now) - bucket.reserve() / 2.0) * share - f64::from(self.promised(now));
        let lacks = f64::from(self.job_cost(now)) - room;
        if lacks <= 0.0 { Ok(()) } else { Err(now + bucket.time_for(lacks / share).clamp(LEAST_WAIT, LOOK_AGAIN)) }
    }

    /// Whether a request may go out now, which then counts as sent; else when to ask again.
    fn room_for(&mut self, urgency: Urgency, now: Instant) -> Result<(), Instant> {
        if urgency != Urgency::Undo {
            self.is_due(urgency, now)?;
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.settle(now);
            bucket.left = (bucket.left - 1.0).max(0.0);
        }
        Ok(())
    }

    fn is_due(&mut self, urgency: Urgency, now: Instant) -> Result<(), Instant> {
        if let Some((next, pause)) = &mut self.refused {
            if now < *next {
                return Err(*next);
            }
            // It tries for all: what it is answered opens the way again, or closes it for longer.
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            *next = now + *pause;
            return Ok(());
        }
        let Some(bucket) = self.bucket else { return Ok(()) };
        let (left, reserve) = (bucket.left_at(now), bucket.reserve());
        if left >= reserve || urgency == Urgency::Finish {
            return Ok(());
        }
        // At the reserve as fast as our part of it flows in, and ever more slowly the less is left.
        let part = (left / reserve).max(urgency.trickle()) * self.share(now).unwrap_or(1.0);
        let last_spaced = &mut self.last_spaced[urgency.lane()];
        let next = last_spaced.map_or(now, |last| last + bucket.time_for(1.0 / part));
        if next > now {
            // What is answered meanwhile may bring it closer.
            return Err(next.min(now + LOOK_SOON));
        }
        *last_spaced = Some(now);
        Ok(())
    }

    fn ended(&mut self, is_drawn: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.has_ended = true;
        self.drawn += u64::from(is_drawn);
    }

    fn answered(&mut self, status: http::StatusCode, headers: &http::HeaderMap, since: Instant, now: Instant) {
        self.answered += 1;
        if status == http::StatusCode::TOO_MANY_REQUESTS {
            let pause = self.refused.map_or(FIRST_PAUSE, |(_, pause)| pause);
            let next = self.refused.map_or(now + pause, |(next, _)| next.max(now + FIRST_PAUSE));
            self.refused = Some((next, pause));
            self.refused_at = Some(now);
        } else if self.refused_at.is_none_or(|refused| since >= refused) {
            // One that went out before the refusal says nothing of now.
            self.refused = None;
        }
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok().map(f64::from);
        let (limit, left) = (number("ratelimit-limit"), number("ratelimit-remaining"));
        let Some((limit, left)) = limit.filter(|limit| *limit >= 1.0).zip(left) else { return };
        self.observe(Observation { at: now, limit, left, drawn: self.drawn, in_flight: self.in_flight });
        // Those on their way may not be counted in it yet.
        self.bucket = Some(Bucket { limit, left: (left - f64::from(self.in_flight)).max(0.0), at: now });
    }
}

/// Leave to send one request, and its place among those on their way.
#[derive(Debug)]
pub struct Pass {
    _place: Option<OwnedSemaphorePermit>,
}

/// A request on its way.
pub struct InFlight {
    budget: Arc<RateBudget>,
    since: Instant,
    /// Whether the bucket may have counted it.
    is_drawn: bool,
}

impl InFlight {
    /// It never left this machine.
    pub fn was_not_sent(mut self) {
        self.is_drawn = false;
    }

    /// It was answered: what the answer tells of the budget.
    pub fn answered<T>(self, answer: &http::Response<T>, now: Instant) {
        // This one is not on its way any more when what is left is counted.
        let (budget, since) = (self.budget.clone(), self.since);
        drop(self);
        budget.lock().answered(answer.status(), answer.headers(), since, now);
        budget.changed.notify_waiters();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.budget.lock().ended(self.is_drawn);
        self.budget.changed.notify_waiters();
    }
}

/// A job that was let in. Dropping it makes room for the next.
#[derive(Debug)]
pub struct Admission {
    budget: Arc<RateBudget>,
    spent: AtomicUsize,
}

impl Admission {
    /// One of the requests goes out that it was expected to make.
    pub fn spends(&self) {
        let mut state = self.budget.lock();
        state.job_requests += 1;
        let spent = self.spent.fetch_add(1, Ordering::Relaxed);
        if let Some([before, after]) = state.jobs_by_spent.get_mut(spent..).and_then(<[u32]>::first_chunk_mut) {
            *before -= 1;
            *after += 1;
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        let spent = self.spent.load(Ordering::Relaxed).min(MOST_JOB_COST as usize);
        state.jobs_by_spent[spent] -= 1;
        state.jobs_ended += 1;
        drop(state);
        self.budget.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;

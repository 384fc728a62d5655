//! Time and chance: the only readers of either.
//!
//! Waiting and deadlines use tokio's monotonic clock, which tests pause and move. The wall clock of this machine is
//! not used where the cloud's own can be had: every Hetzner answer carries a `Date`, and labels that other processes
//! will compare (`attempt_started`, `expires`) are written in that time (faults Z01, Z02).

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A moment of the monotonic clock.
pub type Instant = tokio::time::Instant;

/// Two readings of the cloud's clock agree if they differ by no more than this, in seconds.
const AGREEMENT: u64 = 120;

/// What time it is, here and in the cloud.
///
/// One answer with an absurd date must not make living attempts look dead. So a date counts if it agrees with what is known
/// already, be it from this machine's clock, or with the date of the answer before.
///
/// While this machine sleeps its monotonic clock stands still, on some systems, and the cloud's goes on. So what the cloud's
/// is ahead from one answer to the next counts as time that has passed unseen (fault Z03).
#[derive(Debug)]
pub struct Clock {
    readings: Mutex<Readings>,
    has_slept: Notify,
    /// When it was set up.
    began: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { readings: Mutex::default(), has_slept: Notify::new(), began: now() }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Readings {
    /// The last one that counts.
    settled: Option<Observed>,
    /// One that nothing has confirmed yet.
    lone: Option<Observed>,
    /// How long this machine has slept since the first.
    slept: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Observed {
    at: Instant,
    unix: i64,
}

impl Clock {
    /// Now, for deadlines and waits.
    pub fn now(&self) -> Instant {
        now()
    }

    /// Unix seconds by the cloud's clock, as far as answers have shown it; else by this machine's.
    pub fn cloud_unix(&self) -> i64 {
        self.readings().settled.map_or_else(wall_unix, |settled| settled.unix_at(self.now()))
    }

    /// The same, but a single answer is believed: for what is told and not acted upon.
    pub fn shown_unix(&self) -> i64 {
        let readings = *self.readings();
        readings.settled.or(readings.lone).map_or_else(wall_unix, |shown| shown.unix_at(self.now()))
    }

    /// By how many seconds the cloud's clock is ahead of this machine's, if an answer has told. Negative if it is behind.
    pub fn ahead(&self) -> Option<i64> {
        let readings = *self.readings();
        let shown = readings.settled.or(readings.lone)?;
        Some(shown.unix_at(self.now()).saturating_sub(wall_unix()))
    }

    /// Whether answers have shown the cloud's clock.
    pub fn is_settled(&self) -> bool {
        self.readings().settled.is_some()
    }

    /// How long this machine has slept since the first answer, as far as answers have shown it.
    pub fn slept(&self) -> Duration {
        self.readings().slept
    }

    /// Waits until [`Clock::slept`] says more than at the time of this call.
    pub fn sleeps(&self) -> impl Future<Output = ()> + Send {
        self.has_slept.notified()
    }

    /// Learns the cloud's clock from the `Date` of an answer that has just come in.
    pub fn observe(&self, headers: &http::HeaderMap) {
        self.observe_at(headers, self.now());
    }

    /// The same for an answer that came in at this moment. Who shows one answer to two clocks says one moment to both: they tell by it
    /// that it is the same answer, and no second one that confirms it.
    pub fn observe_at(&self, headers: &http::HeaderMap, at: Instant) {
        let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        let Some(moment) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else { return };
        let Ok(since_epoch) = moment.duration_since(std::time::UNIX_EPOCH) else { return };
        let observed = Observed { at, unix: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX) };
        self.learn(observed, false);
    }

    /// Learns what another clock of the same cloud was shown, by answers that were for others as well. What it was shown before this
    /// one began is no matter of ours: whatever time passed unseen since is not part of the call.
    pub fn learn_from(&self, other: &Self) {
        let Readings { settled, lone, .. } = *other.readings();
        let is_news = |known: Option<Observed>, told: &Observed| {
            told.at >= self.began && known.is_none_or(|known| known.at < told.at)
        };
        let known = *self.readings();
        if let Some(observed) = settled.filter(|told| is_news(known.settled, told)) {
            self.learn(observed, true);
        } else if let Some(observed) = lone.filter(|told| is_news(known.settled, told) && is_news(known.lone, told)) {
            self.learn(observed, false);
        }
    }

    fn learn(&self, observed: Observed, is_sure: bool) {
        let mut readings = self.readings();
        let known = readings.settled.map_or_else(wall_unix, |settled| settled.unix_at(observed.at));
        let confirmed = readings.lone.is_some_and(|lone| observed.agrees_with(lone.unix_at(observed.at)));
        if is_sure || confirmed || observed.agrees_with(known) {
            let unseen = u64::try_from(observed.unix.saturating_sub(known)).unwrap_or(0);
            if readings.settled.is_some() && unseen > AGREEMENT {
                readings.slept += Duration::from_secs(unseen);
                self.has_slept.notify_waiters();
            }
            (readings.settled, readings.lone) = (Some(observed), None);
        } else {
            readings.lone = Some(observed);
        }
    }

    fn readings(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed {
    fn unix_at(self, now: Instant) -> i64 {
        self.unix.saturating_add_unsigned(now.saturating_duration_since(self.at).as_secs())
    }

    fn agrees_with(self, unix: i64) -> bool {
        self.unix.abs_diff(unix) <= AGREEMENT
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one reader of the wall clock, used until an answer shows the cloud's"
)]
fn wall_unix() -> i64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The time since 1970 by this machine's clock: for what people read beside other logs, and never to decide by.
#[expect(clippy::disallowed_methods, reason = "for spans, which are compared with those of other programs")]
pub(super) fn unix_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Now, for deadlines and waits, for who has no clock of a cloud's.
#[expect(clippy::disallowed_methods, reason = "the one reader of the monotonic clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits for a length of time.
pub async fn sleep(length: Duration) {
    tokio::time::sleep(length).await;
}

/// Waits for a moment.
pub async fn sleep_until(moment: Instant) {
    tokio::time::sleep_until(moment).await;
}

/// Runs `work` until `moment`; `None` if it was not done by then.
pub async fn timeout_at<T>(moment: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(moment, work).await.ok()
}

/// Random choices: attempt ids and jitter. Seeded by the operating system, or by a test.
#[derive(Debug)]
pub struct Chance(Mutex<fastrand::Rng>);

impl Chance {
    /// Seeded by the operating system.
    pub fn from_system() -> Self {
        // Without the system's entropy the generator still seeds itself from time and thread; attempt ids then stay
        // distinct in practice, and no secret depends on them.
        Self(Mutex::new(getrandom::u64().map_or_else(|_| fastrand::Rng::new(), fastrand::Rng::with_seed)))
    }

    /// One seed, one series of choices.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// A random id of 16 hexadecimal digits.
    pub fn id(&self) -> String {
        format!("{:016x}", self.0.lock().unwrap_or_else(PoisonError::into_inner).u64(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(date: &'static str) -> http::HeaderMap {
        http::HeaderMap::from_iter([(http::header::DATE, http::HeaderValue::from_static(date))])
    }

    #[tokio::test(start_paused = true)]
    async fn z01_the_clouds_date_wins_over_this_machines_once_two_answers_agree() {
        let clock = Clock::default();
        // Neither is near this machine's clock, on whatever day the test runs.
        clock.observe(&dated("Fri, 23 Nov 2001 10:00:00 GMT"));
        assert!(!clock.is_settled());
        tokio::time::advance(Duration::from_secs(2)).await;
        clock.observe(&dated("Fri, 23 Nov 2001 10:00:02 GMT"));
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.cloud_unix(), 1_006_509_692);
        clock.observe(&dated("yesterday"));
        assert_eq!(clock.cloud_unix(), 1_006_509_692, "an unreadable date teaches nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn z02_one_absurd_date_does_not_move_the_clock() {
        let clock = Clock::default();
        for _ in 0..2 {
            clock.observe(&dated("Fri, 23 Nov 2001 10:00:00 GMT"));
        }
        for absurd in ["Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"] {
            clock.observe(&dated(absurd));
            assert_eq!(clock.cloud_unix(), 1_006_509_600, "{absurd}");
            clock.observe(&dated("Fri, 23 Nov 2001 10:00:00 GMT"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn z02_one_answer_that_is_shown_to_two_clocks_does_not_confirm_itself() {
        let (own, common) = (Clock::default(), Clock::default());
        let absurd = dated("Fri, 23 Nov 2001 10:00:00 GMT");
        let at = own.now();
        own.observe_at(&absurd, at);
        common.observe_at(&absurd, at);
        tokio::time::advance(Duration::from_millis(3)).await;
        own.learn_from(&common);
        assert!(!own.is_settled());
        // What another call was answered is a second answer.
        common.observe_at(&absurd, common.now());
        own.learn_from(&common);
        assert!(own.is_settled() && common.is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn z03_what_passed_before_a_call_began_is_not_time_that_it_slept() {
        let common = Clock::default();
        for _ in 0..2 {
            common.observe(&dated("Fri, 23 Nov 2001 10:00:00 GMT"));
        }
        tokio::time::advance(Duration::from_millis(3)).await;
        let own = Clock::default();
        own.learn_from(&common);
        assert!(!own.is_settled());
        for _ in 0..2 {
            own.observe(&dated("Fri, 23 Nov 2001 12:00:00 GMT"));
        }
        assert!(own.is_settled() && own.slept().is_zero());
    }
}

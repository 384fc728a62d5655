//! The strategy of trying again, as pure functions.
//!
//! Who knows the API gives an opinion on a failure ([`Judge`]); how often and how long to wait is decided here.
//! A create is never sent twice on a guess: only a failure that proves "not applied" lets it be repeated.

use std::time::Duration;

use super::{Fate, TransportError};

/// A room's opinion on one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// Trying again is pointless.
    Stop,
    /// Not applied; try again.
    Retry,
    /// Not applied, because too much was asked; try again, slowly. The server's own wish, if it gave a usable one.
    Slow(Option<Duration>),
    /// It may have been applied: a read may be repeated, a create has to be looked up first.
    LookFirst,
}

/// A failure on which its room has an opinion.
pub trait Judge {
    /// What may be done about it.
    fn opinion(&self) -> Opinion;
}

impl Judge for TransportError {
    fn opinion(&self) -> Opinion {
        match (self.is_passing(), self.fate()) {
            (false, _) => Opinion::Stop,
            (true, Fate::NotSent) => Opinion::Retry,
            (true, Fate::PerhapsApplied) => Opinion::LookFirst,
        }
    }
}

/// What a repetition of the request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing new: reads, deletes, writes of a whole value.
    Safe,
    /// A second thing: creates. Repeated only when the first was surely not applied.
    OnlyIfNotApplied,
}

/// How long to keep trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// At most this many tries.
    Tries(u32),
    /// Until the deadline: for compensation, which has nothing better to do with its budget.
    UntilDeadline,
}

impl Patience {
    /// The usual number of tries of one operation (`facts/faults.md` 2.0).
    pub const USUAL: Self = Self::Tries(4);
}

const FIRST: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(15);
const SLOW_FIRST: Duration = Duration::from_secs(1);
const SLOW_CAP: Duration = Duration::from_secs(30);
/// How long a look waits at most after a refusal that names no time.
const SLOW_LOOK_CAP: Duration = Duration::from_secs(12);
/// Twice as often it is tried when too much was asked.
const SLOW_TRIES: u32 = 2;

/// How long to wait before try number `tried + 1`, or `None` to give up.
///
/// Full jitter on a doubling delay (0.5 s to 15 s). When too much was asked, at least one second, and what the token's budget adds; for
/// who waits until his deadline, doubling to 30 s: Hetzner refills one request a second (`facts/hetzner.md` 5), and `RateLimit-Reset` names the moment when the bucket
/// is *full*, so it is never used as a wait. `fraction` is a random number in `0.0..1.0`.
pub fn pause(opinion: Opinion, repeat: Repeat, patience: Patience, tried: u32, fraction: f64) -> Option<Duration> {
    if let Patience::Tries(most) = patience {
        // What waits for its turn in the budget is worth more tries (fault G33). A single one stays a single one.
        let is_slow = matches!(opinion, Opinion::Slow(_)) && most > 1;
        if tried >= if is_slow { most.saturating_mul(SLOW_TRIES) } else { most } {
            return None;
        }
    }
    let doubled = |first: Duration, cap: Duration| {
        first.saturating_mul(1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX)).min(cap)
    };
    match opinion {
        Opinion::Stop => None,
        Opinion::LookFirst if repeat == Repeat::OnlyIfNotApplied => None,
        Opinion::Retry | Opinion::LookFirst => Some(doubled(FIRST, CAP).mul_f64(fraction)),
        Opinion::Slow(wish) => {
            // A wait of its own only for who goes on until his deadline; the others wait for their turn in the token's budget.
            let is_own = patience == Patience::UntilDeadline;
            let own = if is_own { doubled(SLOW_FIRST, SLOW_CAP) } else { SLOW_FIRST };
            let own = own.mul_f64(0.5 + fraction / 2.0).max(SLOW_FIRST);
            Some(wish.filter(|wish| *wish <= SLOW_CAP).map_or(own, |wish| wish.max(SLOW_FIRST)))
        }
    }
}

/// The rhythm of a wait that looks again and again: the usual one while looks succeed, slower and slower while they fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    failures: u32,
    least: Duration,
}

impl Pace {
    /// How long to wait before the next look.
    pub fn next(&self, usual: Duration) -> Duration {
        usual.max(self.least)
    }

    /// Notes a look that succeeded.
    pub fn went_well(&mut self) {
        *self = Self::default();
    }

    /// Notes a look that failed for a passing reason.
    pub fn went_badly(&mut self, opinion: Opinion, fraction: f64) {
        self.failures += 1;
        let pause = pause(opinion, Repeat::Safe, Patience::UntilDeadline, self.failures, fraction).unwrap_or(CAP);
        // After a refusal the token's budget adds a wait of its own.
        self.least = if opinion == Opinion::Slow(None) { pause.min(SLOW_LOOK_CAP) } else { pause };
    }
}

/// Reads `Retry-After`: seconds or a date, bounded; anything else is ignored (fault G23).
pub fn retry_after(headers: &http::HeaderMap, cloud_unix: i64) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if let Ok(seconds) = text.parse::<u64>() {
        seconds
    } else {
        let moment = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        moment.as_secs().checked_sub(u64::try_from(cloud_unix).ok()?)?
    };
    (seconds > 0).then(|| Duration::from_secs(seconds)).filter(|wish| *wish <= SLOW_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proven_failure_lets_a_create_be_repeated() {
        use Opinion::{LookFirst, Retry, Slow, Stop};
        use Repeat::{OnlyIfNotApplied, Safe};
        for (opinion, repeat, again) in [
            (Stop, Safe, false),
            (Stop, OnlyIfNotApplied, false),
            (Retry, Safe, true),
            (Retry, OnlyIfNotApplied, true),
            (Slow(None), OnlyIfNotApplied, true),
            (LookFirst, Safe, true),
            (LookFirst, OnlyIfNotApplied, false),
        ] {
            let pause = pause(opinion, repeat, Patience::USUAL, 1, 0.5);
            assert_eq!(pause.is_some(), again, "{opinion:?} {repeat:?}");
        }
    }

    #[test]
    fn pauses_double_and_are_capped() {
        let at = |opinion, tried| pause(opinion, Repeat::Safe, Patience::UntilDeadline, tried, 0.999_999).unwrap();
        assert!(at(Opinion::Retry, 1) < FIRST && at(Opinion::Retry, 40) < CAP);
        assert!(at(Opinion::Slow(None), 1) >= SLOW_FIRST && at(Opinion::Slow(None), 40) <= SLOW_CAP);
        assert_eq!(pause(Opinion::Retry, Repeat::Safe, Patience::Tries(4), 4, 0.5), None);
        // Who asked for too much waits for half of the doubled time at least.
        for (fraction, seconds) in [(0.0, 2.0), (0.5, 3.0), (1.0, 4.0)] {
            let pause = pause(Opinion::Slow(None), Repeat::Safe, Patience::UntilDeadline, 3, fraction).unwrap();
            assert!((pause.as_secs_f64() - seconds).abs() < 1e-6, "{fraction}: {pause:?}");
        }
    }

    #[test]
    fn a_wait_slows_down_while_its_looks_fail() {
        let usual = Duration::from_secs(1);
        let mut pace = Pace::default();
        assert_eq!(pace.next(usual), usual);
        for _ in 0..6 {
            pace.went_badly(Opinion::Retry, 0.9);
        }
        assert!(pace.next(usual) > Duration::from_secs(10) && pace.next(usual) <= CAP);
        pace.went_badly(Opinion::Slow(Some(Duration::from_secs(20))), 0.9);
        assert_eq!(pace.next(usual), Duration::from_secs(20), "a wish is heeded");
        pace.went_well();
        assert_eq!(pace.next(usual), usual);
    }

    #[test]
    fn g23_retry_after_is_used_only_if_it_makes_sense() {
        let now = 1_795_428_000;
        for (text, wait) in [
            ("3", Some(3)),
            ("0", None),
            ("-5", None),
            ("soon", None),
            ("1000000000", None),
            ("Mon, 23 Nov 2026 10:00:07 GMT", Some(7)),
            ("Mon, 23 Nov 2026 09:00:00 GMT", None),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{text}");
        }
    }
}

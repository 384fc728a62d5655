//! What is fetched once for all calls of a process, and kept for a while.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::{Clock, Instant};

/// How often who waited for a fetch that failed tries again himself: another one's patience may have been shorter.
const TRIES: u32 = 3;

/// A value that many want. One fetches it, and whoever comes meanwhile waits for what comes of it, be it a value or a failure.
pub struct Fetched<T, E> {
    state: Mutex<State<T, E>>,
    /// How many fetches have failed so far.
    failures: AtomicU64,
}

struct State<T, E> {
    kept: Option<(T, Instant)>,
    /// The last failure.
    failed: Option<E>,
}

/// One fetch: the value, and until when it is good.
pub type Fetch<'a, T, E> = BoxFuture<'a, Result<(T, Instant), E>>;

impl<T, E> Default for Fetched<T, E> {
    fn default() -> Self {
        Self { state: Mutex::new(State { kept: None, failed: None }), failures: AtomicU64::new(0) }
    }
}

impl<T: Clone + PartialEq + Send, E: Clone + Send> Fetched<T, E> {
    /// The value in hand if it is still good, else one that `fetch` brings.
    pub async fn get<'a>(&self, clock: &Clock, fetch: &(dyn Fn() -> Fetch<'a, T, E> + Send + Sync)) -> Result<T, E> {
        let mut waited = 0;
        loop {
            let failed_before = self.failures.load(Ordering::Relaxed);
            let mut state = self.state.lock().await;
            if let Some((value, _)) = state.kept.as_ref().filter(|(_, good_until)| *good_until > clock.now()) {
                return Ok(value.clone());
            }
            let has_failed = self.failures.load(Ordering::Relaxed) > failed_before;
            match state.failed.as_ref().filter(|_| has_failed) {
                Some(_) if waited < TRIES => waited += 1,
                Some(error) => return Err(error.clone()),
                None => match fetch().await {
                    Ok((value, good_until)) => {
                        *state = State { kept: Some((value.clone(), good_until)), failed: None };
                        return Ok(value);
                    }
                    Err(error) => {
                        state.failed = Some(error.clone());
                        self.failures.fetch_add(1, Ordering::Relaxed);
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Drops the value, if it is still this one.
    pub async fn forget(&self, value: &T) {
        let mut state = self.state.lock().await;
        if state.kept.as_ref().is_some_and(|(kept, _)| kept == value) {
            state.kept = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::transport::sleep;

    /// Gets a value that is good for a minute; the first so many fetches fail.
    async fn get(fetched: &Fetched<u32, String>, made: &AtomicU32, failing: u32) -> Result<u32, String> {
        let clock = Clock::default();
        let fetch = || -> Fetch<'_, u32, String> {
            Box::pin(async {
                let number = made.fetch_add(1, Ordering::Relaxed) + 1;
                sleep(Duration::from_millis(100)).await;
                if number <= failing {
                    return Err(format!("fetch {number}"));
                }
                Ok((number, Clock::default().now() + Duration::from_secs(60)))
            })
        };
        fetched.get(&clock, &fetch).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_fetches_for_all_until_it_is_too_old_or_refused() {
        let (fetched, made) = (Fetched::default(), AtomicU32::new(0));
        let (fetched, made) = (&fetched, &made);
        let all = futures_util::future::join_all((0..100).map(|_| get(fetched, made, 0))).await;
        assert!(all.iter().all(|value| *value == Ok(1)));
        sleep(Duration::from_secs(61)).await;
        assert_eq!(get(fetched, made, 0).await, Ok(2));
        fetched.forget(&1).await;
        assert_eq!(get(fetched, made, 0).await, Ok(2), "another one is not forgotten");
        fetched.forget(&2).await;
        assert_eq!(get(fetched, made, 0).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_multiplied_by_who_waits_for_it() {
        let (fetched, made) = (Fetched::default(), AtomicU32::new(0));
        let (fetched, made) = (&fetched, &made);
        let all = futures_util::future::join_all((0..100).map(|_| get(fetched, made, u32::MAX))).await;
        assert!(all.iter().all(Result::is_err));
        assert!(made.load(Ordering::Relaxed) <= 10, "{} fetches", made.load(Ordering::Relaxed));
        made.store(0, Ordering::Relaxed);
        let all = futures_util::future::join_all((0..100).map(|_| get(fetched, made, 1))).await;
        assert_eq!(all.iter().filter(|value| value.is_err()).count(), 1, "the others have one more try");
    }
}

//! What a process may spend on trying again, so that an outage is not multiplied by all who meet it.
//!
//! Every repetition takes from one purse, every success puts a little back. With the purse empty a failure is final at
//! once. Compensation does not ask: it has a limit in time, and nothing better to do with it.

use std::sync::{Mutex, PoisonError};

/// How many repetitions a process may make while nothing succeeds at all.
const FULL: f64 = 100.0;
/// What a request that succeeds puts back.
const FOR_A_SUCCESS: f64 = 0.2;
/// What a request puts back that succeeds when it is repeated: the repetition was worth its price.
const FOR_A_REPEATED_SUCCESS: f64 = 1.0;

/// The purse of one process.
#[derive(Debug)]
pub struct RetryBudget(Mutex<f64>);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Mutex::new(FULL))
    }
}

impl RetryBudget {
    /// Takes the price of one repetition out; `false` if there is not enough left.
    pub fn take(&self) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_enough = *left >= 1.0;
        if is_enough {
            *left -= 1.0;
        }
        is_enough
    }

    /// Notes a request that succeeded at this try.
    pub fn succeeded(&self, tried: u32) {
        let reward = if tried > 1 { FOR_A_REPEATED_SUCCESS } else { FOR_A_SUCCESS };
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *left = (*left + reward).min(FULL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_empties_the_purse_and_successes_fill_it() {
        let budget = RetryBudget::default();
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 100);
        budget.succeeded(2);
        assert!(budget.take() && !budget.take());
        (0..5).for_each(|_| budget.succeeded(1));
        assert!(budget.take() && !budget.take());
        (0..10_000).for_each(|_| budget.succeeded(2));
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 100, "it never holds more than at the beginning");
    }
}

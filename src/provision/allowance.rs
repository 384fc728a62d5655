//! What many calls may cost together: a cap that holds at every moment, with what is under way counted in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hetzner::Price;

/// So much may the servers of some calls cost an hour, all together, in the currency of the project.
#[derive(Debug)]
pub(super) struct Allowance {
    most: f64,
    claimed: Mutex<f64>,
}

impl Allowance {
    pub(super) fn new(most: f64) -> Arc<Self> {
        Arc::new(Self { most, claimed: Mutex::default() })
    }

    /// Sets the price of a server aside, if there is room for it. A price that is not known has none.
    pub(super) fn claim(self: &Arc<Self>, price: Option<&Price>) -> Option<Claimed> {
        let hourly = price.and_then(hourly)?;
        let mut claimed = self.lock();
        // Prices are decimal fractions, and their sum is off by less than this.
        if *claimed + hourly > self.most + 1e-9 {
            return None;
        }
        *claimed += hourly;
        Some(Claimed { allowance: Arc::clone(self), hourly })
    }

    fn lock(&self) -> MutexGuard<'_, f64> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A price that is set aside. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Claimed {
    allowance: Arc<Allowance>,
    hourly: f64,
}

impl Claimed {
    /// It is spent: its server stands.
    pub(super) fn spend(mut self) {
        self.hourly = 0.0;
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        *self.allowance.lock() -= self.hourly;
    }
}

/// What a server costs an hour, as a number.
pub(super) fn hourly(price: &Price) -> Option<f64> {
    price.hourly.trim().parse().ok().filter(|hourly: &f64| hourly.is_finite() && *hourly >= 0.0)
}

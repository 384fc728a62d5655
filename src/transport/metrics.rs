//! How many requests the process has made, and what came of them. Counting costs a lock that nobody holds for long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Hosts beyond these are counted together: a process speaks to two or three.
const MOST_HOSTS: usize = 64;

static REQUESTS: Mutex<BTreeMap<Kind, Tally>> = Mutex::new(BTreeMap::new());
static RETRIES: AtomicU64 = AtomicU64::new(0);

/// Requests that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The host, with its port if that is not the usual one.
    pub host: String,
    /// The method.
    pub method: String,
    /// The status of the answer, or why there was none.
    pub outcome: String,
}

/// How many there were, and how long they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// How long.
    pub time: Duration,
}

impl Tally {
    /// One more, that took so long.
    pub fn add(&mut self, took: Duration) {
        self.count += 1;
        self.time = self.time.saturating_add(took);
    }
}

/// All requests so far.
pub fn requests() -> Vec<(Kind, Tally)> {
    let requests = REQUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    requests.iter().map(|(kind, tally)| (kind.clone(), *tally)).collect()
}

/// How many of them repeated another one that had failed.
pub fn retries() -> u64 {
    RETRIES.load(Ordering::Relaxed)
}

pub(super) fn requested(host: &str, method: &http::Method, outcome: Result<u16, &'static str>, took: Duration) {
    let mut requests = REQUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_full = !requests.keys().any(|kind| kind.host == host) && count_hosts(&requests) >= MOST_HOSTS;
    let outcome = outcome.map_or_else(str::to_owned, |status| status.to_string());
    let host = if is_full { "others" } else { host }.to_owned();
    requests.entry(Kind { host, method: method.as_str().to_owned(), outcome }).or_default().add(took);
}

/// They are in order.
fn count_hosts(requests: &BTreeMap<Kind, Tally>) -> usize {
    let mut hosts: Vec<&str> = requests.keys().map(|kind| kind.host.as_str()).collect();
    hosts.dedup();
    hosts.len()
}

pub(super) fn retried() {
    RETRIES.fetch_add(1, Ordering::Relaxed);
}

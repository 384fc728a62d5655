//! Time, chance and ids of one world.
//!
//! Everything that happens in the world gets its time and its random choices from here, so that one seed gives one
//! history. Nothing in this crate reads a real clock; the two doors (`World::exchange` and the loopback server) say
//! what time it is.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::history::{Actor, Change, What};

/// Time, chance and ids of one world, handed to every rule that needs them.
#[derive(Debug)]
pub struct Context {
    /// Time since the world began.
    pub now: Duration,
    /// Unix seconds at which the world began.
    pub epoch: i64,
    /// The only source of chance.
    pub rng: fastrand::Rng,
    /// Who causes what happens at this moment.
    pub(crate) by: Actor,
    changes: Vec<Change>,
}

impl Context {
    /// A context at the beginning of the world.
    pub fn new(seed: u64, epoch: i64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { now: Duration::ZERO, epoch, rng, by: Actor::World, changes: Vec::new() }
    }

    /// Writes down what happens.
    pub(crate) fn note(&mut self, what: What) {
        self.note_of(self.by, what);
    }

    /// Writes down what happens, and who else caused it.
    pub(crate) fn note_of(&mut self, by: Actor, what: What) {
        self.changes.push(Change { at: self.now, by, what });
    }

    /// What has been written down since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The world's wall clock in unix seconds.
    pub fn unix(&self) -> i64 {
        self.unix_at(self.now)
    }

    /// Unix seconds of a moment of this world.
    pub fn unix_at(&self, at: Duration) -> i64 {
        self.epoch + i64::try_from(at.as_secs()).unwrap_or(i64::MAX - self.epoch)
    }

    /// The world's wall clock as both APIs write it: `2026-11-23T10:00:00Z`.
    pub fn timestamp(&self) -> String {
        self.timestamp_at(self.now)
    }

    /// A moment of this world as both APIs write it.
    pub fn timestamp_at(&self, at: Duration) -> String {
        OffsetDateTime::from_unix_timestamp(self.unix_at(at))
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok())
            .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
    }

    /// `length` characters of `alphabet`, drawn from the seed.
    pub fn text(&mut self, length: usize, alphabet: &str) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| self.rng.choice(&letters).copied().unwrap_or('x')).collect()
    }
}

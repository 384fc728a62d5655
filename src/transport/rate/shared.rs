//! Who else draws from the same bucket: what it lost beyond what we took.

use std::time::Duration;

use super::{Instant, State};

/// How far back to look.
const WINDOW: Duration = Duration::from_secs(20);
/// How many answers it takes to tell.
const ENOUGH: u64 = 6;
/// However busy others are, a process takes part.
const LEAST_SHARE: f64 = 0.02;

/// What one answer told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub at: Instant,
    pub limit: f64,
    pub left: f64,
    /// How many of our requests had been drawn from it by then, as far as they had ended.
    pub drawn: u64,
    /// How many more were on their way, of which nobody knows whether they are counted in what is left.
    pub in_flight: u32,
}

impl State {
    pub(super) fn observe(&mut self, observation: Observation) {
        let is_old = |old: &Observation| observation.at.saturating_duration_since(old.at) > WINDOW;
        // The last one that is too old is where the window begins.
        while self.observations.len() > 1 && self.observations.get(1).is_some_and(is_old) {
            self.observations.pop_front();
        }
        self.observations.push_back(observation);
    }

    /// The part of what is drawn from the bucket that is ours; nothing if that cannot be told yet.
    pub(super) fn share(&self, now: Instant) -> Option<f64> {
        let (first, last) = (self.observations.front()?, self.observations.back()?);
        let ours = last.drawn - first.drawn;
        if self.answered < ENOUGH {
            return None;
        }
        // After a long silence nothing is known of the others; what is known is that we took nothing.
        if ours == 0 || now.saturating_duration_since(last.at) > 3 * WINDOW {
            return Some(1.0);
        }
        let elapsed = last.at.saturating_duration_since(first.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "requests of seconds")]
        let ours = ours as f64;
        let expected = (first.left + elapsed * last.limit / 3600.0).min(last.limit) - ours;
        // What was on its way is no others': in the midst of a burst of ours, others cannot be told. So at a steady pace they seem to
        // draw less by what we have on our way at one moment.
        let others = (expected - last.left - f64::from(last.in_flight)).max(0.0);
        let blur = 0.05 * ours + 2.0;
        if others <= blur { Some(1.0) } else { Some((ours / (ours + others)).max(LEAST_SHARE)) }
    }
}

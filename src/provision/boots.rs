//! How long machines take from their order to the tailnet, as far as this process has seen: the first ones teach when
//! to look for the later ones.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many boots are remembered.
const MOST: usize = 32;
/// So many have to be known before they count.
const ENOUGH: usize = 3;
/// Between two looks while a machine is likely to join.
const TIGHT: Duration = Duration::from_millis(400);
/// Between two looks before that.
const EARLY: Duration = Duration::from_secs(2);
/// So many tight looks there are at most; a wider window makes them less tight.
const MOST_TIGHT: u32 = 36;

/// What a process has seen of boots.
#[derive(Default)]
pub(super) struct Boots {
    images: Mutex<VecDeque<Duration>>,
    snapshots: Mutex<VecDeque<Duration>>,
}

/// When a machine is likely to join, counted from when its order was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    from: Duration,
    to: Duration,
    /// Whether boots have shown it; else one may well come early.
    is_seen: bool,
}

impl Window {
    /// Of a stock image, on which Tailscale has to be installed: half a minute on a good day.
    const OF_IMAGE: Self = Self { from: Duration::from_secs(16), to: Duration::from_secs(30), is_seen: false };
    /// Of a snapshot that has it.
    const OF_SNAPSHOT: Self = Self { from: Duration::from_secs(8), to: Duration::from_secs(22), is_seen: false };

    /// How long to wait before the next look: seldom before the window, tightly within it, and ever more slowly after it. The whole
    /// wait of ten minutes stays under a hundred looks.
    pub(super) fn pace(self, waited: Duration) -> Duration {
        let left = self.from.saturating_sub(waited);
        if !left.is_zero() {
            let early = if waited < EARLY * 2 { EARLY } else { EARLY * 2 };
            return if self.is_seen { (left / 2).max(EARLY) } else { early }.min(left);
        }
        let tight = TIGHT.max(self.to.saturating_sub(self.from) / MOST_TIGHT);
        let Some(late) = waited.checked_sub(self.to) else { return tight };
        let eased = match late.as_secs() {
            0..15 => Duration::from_millis(1200),
            15..70 => Duration::from_millis(3500),
            _ => Duration::from_secs(20),
        };
        eased.max(tight)
    }
}

impl Boots {
    /// A machine has joined so long after its order was answered.
    pub(super) fn learn(&self, is_snapshot: bool, took: Duration) {
        let mut known = self.of(is_snapshot).lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back(took);
    }

    /// When the next one is likely to.
    pub(super) fn window(&self, is_snapshot: bool) -> Window {
        let known = self.of(is_snapshot).lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < ENOUGH {
            return usual(is_snapshot);
        }
        // One that took very long, or was seen late, is no rule for the others.
        let mut sorted: Vec<Duration> = known.iter().copied().collect();
        sorted.sort_unstable();
        let beyond = sorted.len() / 10;
        let (least, most) = (sorted[beyond], sorted[sorted.len() - 1 - beyond]);
        let from = least.mul_f64(0.85).saturating_sub(Duration::from_secs(1));
        Window { from, to: most.mul_f64(1.15) + Duration::from_secs(2), is_seen: true }
    }

    fn of(&self, is_snapshot: bool) -> &Mutex<VecDeque<Duration>> {
        if is_snapshot { &self.snapshots } else { &self.images }
    }
}

fn usual(is_snapshot: bool) -> Window {
    if is_snapshot { Window::OF_SNAPSHOT } else { Window::OF_IMAGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(window: Window, until: Duration) -> Vec<Duration> {
        let next = |waited: &Duration| Some(*waited + window.pace(*waited));
        std::iter::successors(Some(window.pace(Duration::ZERO)), next).take_while(|at| *at <= until).collect()
    }

    #[test]
    fn a_whole_wait_stays_under_a_hundred_looks_and_a_good_day_under_thirty() {
        for window in [Window::OF_IMAGE, Window::OF_SNAPSHOT] {
            assert!(looks(window, Duration::from_secs(600)).len() < 100);
        }
        assert!(looks(Window::OF_IMAGE, Duration::from_secs(25)).len() < 34);
    }

    #[test]
    fn the_first_boots_teach_when_the_next_is_likely() {
        let boots = Boots::default();
        for seconds in [60, 62] {
            boots.learn(false, Duration::from_secs(seconds));
            assert_eq!(boots.window(false), Window::OF_IMAGE, "two are no rule");
        }
        boots.learn(false, Duration::from_secs(64));
        let window = boots.window(false);
        assert_eq!(boots.window(true), Window::OF_SNAPSHOT, "of snapshots nothing is known");
        let at = looks(window, Duration::from_secs(80));
        let within = |from: u64, to: u64| at.iter().filter(|at| (from..to).contains(&at.as_secs())).count();
        assert!(within(0, 50) < 8 && within(55, 70) > 15, "{at:?}");
        for _ in 0..MOST {
            boots.learn(false, Duration::from_secs(20));
        }
        assert!(boots.window(false).to < Duration::from_secs(30), "what is long past is forgotten");
    }
}

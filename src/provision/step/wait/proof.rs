//! What tells the machine of this attempt from another one that claims its name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;

use super::super::super::enrollment::{Enrolled, Enrollment, Expected, Obstacle, judge};
use super::super::super::evidence::KeyWord;
use super::super::super::job::TAG;
use super::super::super::presence::{self, Place};
use super::super::super::run::Run;
use super::super::auth_key::Key;
use super::super::server::Made;
use crate::hetzner::Addresses;
use crate::tailscale::{Device, TailscaleError};
use crate::transport::{Instant, Within};

/// How long to wait for a device that connects from the new server while another one fits.
const DOUBT: Duration = Duration::from_secs(10);
/// How old, in seconds, such a device has to be for whoever looks only once. Clocks may differ.
const OLD: i64 = 60;

/// How to look.
#[derive(Clone, Copy)]
pub(super) enum Sight {
    /// At this moment or before, together with all who wait.
    Shared(Instant),
    /// Now, by requests of its own.
    Own(Within),
}

impl Sight {
    fn within(self, run: &Run<'_>) -> Within {
        match self {
            Self::Shared(_) => run.within_a_look(),
            Self::Own(within) => within,
        }
    }
}

/// What tells the machine of this attempt from another one that claims its name.
pub(super) struct Proof<'a> {
    key: &'a Key,
    addresses: Addresses,
    key_word: Mutex<KeyWord>,
    /// Since when the only device that fits connects from elsewhere.
    doubted_since: Mutex<Option<Instant>>,
    /// Another one that may be the machine was seen beside it.
    has_had_rival: AtomicBool,
}

impl<'a> Proof<'a> {
    pub(super) fn new(key: &'a Key, made: &Made) -> Self {
        Self {
            key,
            addresses: made.addresses,
            key_word: Mutex::default(),
            doubted_since: Mutex::default(),
            has_had_rival: AtomicBool::new(false),
        }
    }

    /// Looks at the devices, and again at the one that verifies: has this attempt's key let it in, and does it connect from
    /// this attempt's server?
    pub(super) async fn look(
        &self,
        run: &Run<'_>,
        expected: &Expected<'_>,
        sight: Sight,
    ) -> Result<Enrollment, TailscaleError> {
        let devices = match sight {
            Sight::Shared(due) => run.tailscale.watch_devices(expected.hostname, TAG, due).await?,
            Sight::Own(within) => run.tailscale.find_devices(expected.hostname, within).boxed().await?,
        };
        match judge(&devices, expected) {
            // A thousand that wait need no room for what comes at the end.
            Enrollment::Verified(enrolled) => {
                self.hold_against(run, expected, &devices, enrolled, sight.within(run)).boxed().await
            }
            seen => Ok(seen),
        }
    }

    /// Looks at the one that verifies: is it this attempt's?
    async fn hold_against(
        &self,
        run: &Run<'_>,
        expected: &Expected<'_>,
        devices: &[Device],
        enrolled: Enrolled,
        within: Within,
    ) -> Result<Enrollment, TailscaleError> {
        let another = || Ok(Enrollment::NotYet(Obstacle::Another));
        // As long as the key is unused, whatever stands there is another machine.
        let is_open = matches!(self.key_word(), KeyWord::Unasked | KeyWord::Awaited);
        if is_open && self.ask_key(run, within).await? == KeyWord::Awaited {
            return another();
        }
        let told = devices.iter().find(|device| device.node_id.0 == enrolled.node_id);
        let place = match told.filter(|device| !device.endpoints.is_empty()) {
            Some(device) => Some(Place::of(device, self.addresses)),
            None => presence::place(run, &enrolled, self.addresses, within).await?,
        };
        let Some(place) = place else { return Ok(Enrollment::NotYet(Obstacle::Absent)) };
        // One that does not verify yet may be the machine as well.
        let has_rival = devices.iter().filter(|device| expected.may_be(device)).count() > 1;
        let has_had_rival = self.has_had_rival.fetch_or(has_rival, Ordering::Relaxed) || has_rival;
        let is_believed = match place {
            Place::Here => true,
            Place::Unknown | Place::Elsewhere => {
                let created = devices.iter().find(|device| device.node_id.0 == enrolled.node_id);
                let is_old = is_old_enough(run, created.and_then(|device| device.created));
                !has_had_rival && self.key_word() == KeyWord::Used && (is_old || self.has_doubted_enough(run))
            }
        };
        if is_believed { Ok(Enrollment::Verified(enrolled)) } else { another() }
    }

    /// Where a device connects from is its own word. So the only one that can have joined with the key is believed in the
    /// end, if no better one comes for a while and none has ever stood beside it.
    fn has_doubted_enough(&self, run: &Run<'_>) -> bool {
        let now = run.clock.now();
        let mut doubted_since = self.doubted_since.lock().unwrap_or_else(PoisonError::into_inner);
        now.duration_since(*doubted_since.get_or_insert(now)) >= DOUBT
    }

    pub(super) fn key_word(&self) -> KeyWord {
        *self.key_word.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn ask_key(&self, run: &Run<'_>, within: Within) -> Result<KeyWord, TailscaleError> {
        let say = |word| *self.key_word.lock().unwrap_or_else(PoisonError::into_inner) = word;
        say(KeyWord::Awaited);
        let word = match self.key.is_used(run, within).await? {
            Some(true) => KeyWord::Used,
            Some(false) => KeyWord::Awaited,
            None => KeyWord::Mute,
        };
        say(word);
        Ok(word)
    }
}

/// Who looks only once cannot wait for a better one, but knows how long none has come.
fn is_old_enough(run: &Run<'_>, created: Option<i64>) -> bool {
    let since = created.map(|created| run.clock.cloud_unix().saturating_sub(created));
    !run.waits && since.is_some_and(|since| since > OLD)
}

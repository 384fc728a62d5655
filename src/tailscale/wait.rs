//! What all calls of a process share that use one credential: the access token, and the looks that serve many of them at once.
//!
//! While few wait, each is asked for by itself: one filtered request, a kilobyte each. When many do, one list serves them all.
//! No list names the key that a device joined with, so keys are looked at in the same two ways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;

use super::auth_key::WireKey;
use super::device::WireDevice;
use super::list::Listed;
use super::token::Token;
use super::{AuthKey, Device, KeyId, NodeId, TAILNET, Tailscale, TailscaleError, is_id};
use crate::transport::{BoxFuture, Clock, Fetched, Instant, Looks, Pass, RateBudget, TransportError, Within};

/// So many are asked for by themselves.
const FEW: usize = 2;
/// And so many where the list is known to be long.
const FEW_IN_A_CROWD: usize = 8;
/// A list of so many devices is long: about a megabyte.
const CROWD: usize = 1000;
/// So many looks of one kind may follow each other at once, for who is alone.
const BURST: usize = 4;
/// Between looks that serve a few, and between lists. No limit of Tailscale's is published; its own clients ask once a second.
const SPACING: Duration = Duration::from_millis(250);
const LIST_SPACING: Duration = Duration::from_secs(2);
/// The same where the list is not known to be long, and for those who have still to begin.
const SHORT_LIST_SPACING: Duration = Duration::from_millis(750);
const BEFORE_SPACING: Duration = Duration::from_millis(500);
/// With more than so many who wait, lists are made as if they were long: each of them has work for all that it shows.
const MANY: usize = 200;

/// What a look at host names is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seek {
    /// What stands there before anything is made. There is no key of it yet, and nobody asks where it connects from.
    Before,
    /// The machine of an attempt.
    Machine,
}

/// What all calls of a process share that use one credential.
pub struct Tailnet {
    rate: Arc<RateBudget>,
    clock: Arc<Clock>,
    pub(super) token: Fetched<Token, TailscaleError>,
    /// By host name: what stands there before anything is made. It must not wait behind those who wait for their machines.
    before: Looks<String, BTreeMap<String, Vec<Device>>, TailscaleError>,
    /// By host name.
    devices: Looks<String, BTreeMap<String, Vec<Device>>, TailscaleError>,
    /// By id: devices with all that they say of themselves.
    described: Looks<NodeId, BTreeMap<NodeId, Device>, TailscaleError>,
    keys: Looks<KeyId, BTreeMap<KeyId, AuthKey>, TailscaleError>,
    /// The keys that were made here and not revoked yet.
    minted: Mutex<BTreeSet<KeyId>>,
    /// Those of them that a list has shown. So a list that leaves one of them out says that it was used, or has ended.
    listed_keys: Mutex<BTreeSet<KeyId>>,
    /// How many devices the last list had.
    listed: Mutex<usize>,
}

impl Default for Tailnet {
    fn default() -> Self {
        Self {
            rate: Arc::default(),
            clock: Arc::default(),
            token: Fetched::default(),
            before: Looks::new(usize::MAX, BURST),
            devices: Looks::new(usize::MAX, BURST),
            described: Looks::new(usize::MAX, BURST),
            keys: Looks::new(usize::MAX, BURST),
            minted: Mutex::default(),
            listed_keys: Mutex::default(),
            listed: Mutex::default(),
        }
    }
}

impl Tailnet {
    /// What its credential may ask for. Tailscale says nothing of it but 429.
    pub fn rate(&self) -> &Arc<RateBudget> {
        &self.rate
    }

    /// The clock that all answers to its credential set.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    pub(super) fn minted(&self, id: &KeyId) {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }

    pub(super) fn revoked(&self, id: &KeyId) {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.listed_keys.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Notes which of the keys that were made here a list shows as usable.
    fn has_shown(&self, listed: &[AuthKey]) {
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = listed.iter().filter(|key| minted.contains(&key.id) && !key.invalid).map(|key| key.id.clone());
        self.listed_keys.lock().unwrap_or_else(PoisonError::into_inner).extend(shown);
    }

    /// Whether a list tells of this key by leaving it out: a list has shown it before.
    fn is_told_of(&self, id: &KeyId) -> bool {
        self.listed_keys.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Whether so many are asked for by themselves.
    fn are_few(&self, waiting: usize) -> bool {
        match *self.listed.lock().unwrap_or_else(PoisonError::into_inner) {
            // No answer holds the list.
            usize::MAX => true,
            listed if listed > CROWD => waiting <= FEW_IN_A_CROWD,
            _ => waiting <= FEW,
        }
    }

    /// Whether the last list is known to have been short.
    fn is_short(&self) -> bool {
        (1..=CROWD).contains(&*self.listed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the last list is known to have been long.
    fn is_long(&self) -> bool {
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) > CROWD
    }

    fn has_listed(&self, devices: usize) {
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = devices;
    }

    /// Whether keys that were made here have not been shown by any list yet.
    fn has_unlisted_keys(&self) -> bool {
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.listed_keys.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < minted.len()
    }

    /// Between looks for so many.
    fn spacing_of(&self, sought: Seek, waiting: usize) -> Duration {
        if self.are_few(waiting) {
            return SPACING;
        }
        match sought {
            _ if self.is_long() => LIST_SPACING,
            Seek::Before => BEFORE_SPACING,
            Seek::Machine if waiting > MANY => LIST_SPACING,
            Seek::Machine => SHORT_LIST_SPACING,
        }
    }

    /// Between looks at what lists have shown, of which more will come while many wait. Not for the looks of [`Tailnet::devices`]: it asks
    /// them how many wait.
    fn spacing(&self) -> impl Fn(usize) -> Duration + Send + Sync {
        |waiting| self.spacing_of(Seek::Machine, waiting.max(self.devices.waiting()))
    }
}

impl Tailscale {
    /// The devices that give themselves this host name now, by a look that may serve others as well. Of many at once only those
    /// with this tag are seen.
    pub async fn look_for_devices(
        self: &Arc<Self>,
        hostname: &str,
        tag: &'static str,
        within: Within,
    ) -> Result<Vec<Device>, TailscaleError> {
        let ask = || -> BoxFuture<'_, _> {
            Box::pin(self.ask_for_devices(Seek::Before, hostname, tag, self.chain.clock().now()))
        };
        self.chain.ask("find devices", "Tailscale", within, &ask).await
    }

    /// The same, for who looks again and again: by a look that begins at this moment or before.
    pub fn watch_devices<'a>(
        self: &'a Arc<Self>,
        hostname: &'a str,
        tag: &'static str,
        due: Instant,
    ) -> impl Future<Output = Result<Vec<Device>, TailscaleError>> + 'a {
        self.ask_for_devices(Seek::Machine, hostname, tag, due)
    }

    async fn ask_for_devices(
        self: &Arc<Self>,
        sought: Seek,
        hostname: &str,
        tag: &'static str,
        due: Instant,
    ) -> Result<Vec<Device>, TailscaleError> {
        let tailscale = Arc::clone(self);
        let look = |hostnames: Vec<String>| async move {
            let (within, mut found) = (tailscale.chain.within_a_look(), BTreeMap::new());
            let hostnames: BTreeSet<String> = hostnames.into_iter().collect();
            if tailscale.tailnet.are_few(hostnames.len()) {
                return tailscale.find_each(hostnames, within).await;
            }
            // Where they connect from is asked of every machine that joins; a list that tells it is twice as long.
            let fields = if sought == Seek::Machine && tailscale.tailnet.is_short() { "all" } else { "default" };
            let listed = match tailscale.list_tagged(fields, tag, within).await {
                Err(TailscaleError::Transport(TransportError::TooLarge { .. })) => {
                    // Whatever it costs, it has to be asked for singly from now on.
                    tailscale.tailnet.has_listed(usize::MAX);
                    return tailscale.find_each(hostnames, within).await;
                }
                listed => listed?,
            };
            // So that later lists, which leave out what was used, tell of all that are waited for.
            if sought == Seek::Machine && tailscale.tailnet.has_unlisted_keys() {
                let keys = tailscale.list_keys(within).await?;
                tailscale.tailnet.has_shown(&keys);
            }
            for device in listed {
                let hostname = device.hostname.to_ascii_lowercase();
                if hostnames.contains(&hostname) {
                    found.entry(hostname).or_insert_with(Vec::new).push(device);
                }
            }
            Ok(found)
        };
        let looks = match sought {
            Seek::Before => &self.tailnet.before,
            Seek::Machine => &self.tailnet.devices,
        };
        let spacing = |waiting| self.tailnet.spacing_of(sought, waiting);
        let seen = looks.ask(hostname.to_ascii_lowercase(), due, &spacing, self.chain.clock(), look).await?;
        self.chain.catch_up();
        Ok(seen.get(&hostname.to_ascii_lowercase()).cloned().unwrap_or_default())
    }

    /// The device of this id with all that it says of itself, if it exists, by a look now that may serve others as well.
    pub async fn look_at_device(
        self: &Arc<Self>,
        id: &NodeId,
        tag: &'static str,
    ) -> Result<Option<Device>, TailscaleError> {
        let tailscale = Arc::clone(self);
        let look = |ids: Vec<NodeId>| async move {
            let (within, mut found) = (tailscale.chain.within_a_look(), BTreeMap::new());
            let ids: BTreeSet<NodeId> = ids.into_iter().collect();
            if tailscale.tailnet.are_few(ids.len()) {
                for id in ids {
                    if let Some(device) = tailscale.find_device(&id, within).await? {
                        found.insert(id, device);
                    }
                }
                return Ok(found);
            }
            let listed = tailscale.list_tagged("all", tag, within).await?.into_iter();
            found.extend(
                listed.filter(|device| ids.contains(&device.node_id)).map(|device| (device.node_id.clone(), device)),
            );
            Ok(found)
        };
        let looks = &self.tailnet.described;
        let clock = self.chain.clock();
        let seen = looks.ask(id.clone(), clock.now(), &self.tailnet.spacing(), clock, look).await?;
        self.chain.catch_up();
        Ok(seen.get(id).cloned())
    }

    /// The key of this id, if Tailscale still shows it as usable or says more of it, by a look now that may serve others as well.
    ///
    /// The list shows usable keys, if it shows keys of this credential at all, and may show a new one late. So that a key is missing counts
    /// only if it was shown before; else it is asked for by itself.
    pub async fn look_at_key(self: &Arc<Self>, id: &KeyId) -> Result<Option<AuthKey>, TailscaleError> {
        let tailscale = Arc::clone(self);
        let look = |ids: Vec<KeyId>| async move {
            let (within, mut found) = (tailscale.chain.within_a_look(), BTreeMap::new());
            let mut ids: BTreeSet<KeyId> = ids.into_iter().collect();
            // While many wait, more will ask for theirs.
            if !tailscale.tailnet.are_few(ids.len().max(tailscale.tailnet.devices.waiting())) {
                let listed = tailscale.list_keys(within).await?;
                tailscale.tailnet.has_shown(&listed);
                found.extend(listed.into_iter().filter(|key| ids.contains(&key.id)).map(|key| (key.id.clone(), key)));
                ids.retain(|id| !tailscale.tailnet.is_told_of(id) && !found.contains_key(id));
            }
            for id in ids {
                if let Some(key) = tailscale.find_key(&id, within).await? {
                    found.insert(id, key);
                }
            }
            Ok(found)
        };
        let looks = &self.tailnet.keys;
        let clock = self.chain.clock();
        let seen = looks.ask(id.clone(), clock.now(), &self.tailnet.spacing(), clock, look).await?;
        self.chain.catch_up();
        Ok(seen.get(id).cloned())
    }

    /// The devices of each of these host names, one after the other.
    async fn find_each(
        &self,
        hostnames: BTreeSet<String>,
        within: Within,
    ) -> Result<BTreeMap<String, Vec<Device>>, TailscaleError> {
        let mut found = BTreeMap::new();
        for hostname in hostnames {
            let devices = self.find_devices(&hostname, within).await?;
            found.insert(hostname, devices);
        }
        Ok(found)
    }

    /// Waits until an order, once it is declared, can go out at once.
    pub async fn may_order(&self, deadline: Instant) -> Option<Pass> {
        self.chain.may_order(deadline).await
    }

    /// The devices that carry a tag.
    async fn list_tagged(
        &self,
        fields: &'static str,
        tag: &str,
        within: Within,
    ) -> Result<Vec<Device>, TailscaleError> {
        let path = format!("{TAILNET}/devices");
        let draft = || self.draft(Method::GET, &path, &[("fields", fields), ("tags", tag)]);
        let Listed(devices) = self.fetch::<Listed<WireDevice>>("list devices", draft, within).await?;
        self.tailnet.has_listed(devices.len());
        let mut listed = BTreeSet::new();
        Ok(devices
            .into_iter()
            .map(Device::from)
            .filter(|device| is_id(&device.node_id.0) && listed.insert(device.node_id.clone()))
            .collect())
    }

    pub(super) async fn list_keys(&self, within: Within) -> Result<Vec<AuthKey>, TailscaleError> {
        let draft = || self.draft(Method::GET, &format!("{TAILNET}/keys"), &[("all", "true")]);
        let Listed(keys) = self.fetch::<Listed<WireKey>>("list auth keys", draft, within).await?;
        Ok(keys.into_iter().map(|key| key.into_parts().0).filter(|key| is_id(&key.id.0)).collect())
    }
}

impl std::fmt::Debug for Tailnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tailnet").field("rate", &self.rate).finish_non_exhaustive()
    }
}

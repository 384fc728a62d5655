//! What the calls of a process share: for each token its budget and its looks, and what is known of boot times.

use std::sync::{Arc, Mutex, PoisonError};

use super::boots::Boots;
use super::settings::Settings;
use crate::hetzner::Project;
use crate::secret::Secret;
use crate::tailscale::{Credentials, Tailnet};
use crate::transport::BaseUrl;

/// So many tokens are remembered, the last ones used. One that is forgotten while calls use it is still shared by these.
const MOST: usize = 16;

/// What is shared.
#[derive(Default)]
pub(super) struct Shared {
    projects: Recent<(BaseUrl, Secret), Project>,
    tailnets: Recent<(BaseUrl, Credentials), Tailnet>,
    pub boots: Boots,
}

impl Shared {
    /// What calls share that use Hetzner's token of these settings.
    pub(super) fn project(&self, settings: &Settings) -> Arc<Project> {
        self.projects.get(&(settings.hetzner_url.clone(), settings.hetzner_token.clone()))
    }

    /// What calls share that use Tailscale's credentials of these settings.
    pub(super) fn tailnet(&self, settings: &Settings) -> Arc<Tailnet> {
        self.tailnets.get(&(settings.tailscale_url.clone(), settings.tailscale_credentials.clone()))
    }
}

/// Things by their keys, the last used last.
struct Recent<K, V>(Mutex<Vec<(K, Arc<V>)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + PartialEq, V: Default> Recent<K, V> {
    fn get(&self, key: &K) -> Arc<V> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(known, _)| known == key).map(|at| kept.remove(at).1);
        let value = found.unwrap_or_default();
        kept.push((key.clone(), value.clone()));
        if kept.len() > MOST {
            kept.remove(0);
        }
        value
    }
}

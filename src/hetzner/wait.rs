//! What all calls of a process share that use one token: its budget of requests, and the looks that serve many of them at once.

use std::sync::Arc;
use std::time::Duration;

use super::action::IDS_PER_REQUEST;
use super::{Action, ActionId, Hetzner, HetznerError, Server, ServerType, label};
use crate::transport::{BoxFuture, Clock, Fetch, Fetched, Instant, Looks, Pass, RateBudget, Urgency, Within};

/// One answer has room for so many servers, and a job has one.
const JOBS_PER_REQUEST: usize = 50;
/// So many looks of one kind may follow each other at once, for who is alone.
const BURST: usize = 4;
/// What comes after them keeps this distance; jobs that come within it share a look.
const SPACING: Duration = Duration::from_millis(250);
/// How long a catalogue of server types is good. What is out of stock by then, the order itself tells.
const TYPES_GOOD_FOR: Duration = Duration::from_secs(60);

/// What all calls of a process share that use one token.
pub struct Project {
    rate: Arc<RateBudget>,
    clock: Arc<Clock>,
    /// By the ids of a job's actions. Each job counts as two ids; a request may grow a little beyond.
    actions: Looks<Vec<ActionId>, Vec<Action>, HetznerError>,
    /// By the value of a label: what a job has to know now.
    servers: Looks<String, Vec<Server>, HetznerError>,
    /// The same for what brings a job to its end, which must not wait behind orders.
    ending: Looks<String, Vec<Server>, HetznerError>,
    /// By the value of a label: to see that servers stay.
    watched: Looks<String, Vec<Server>, HetznerError>,
    types: Fetched<Arc<Vec<ServerType>>, HetznerError>,
}

impl Default for Project {
    fn default() -> Self {
        Self {
            rate: Arc::default(),
            clock: Arc::default(),
            actions: Looks::new(IDS_PER_REQUEST / ACTIONS_OF_A_JOB, BURST),
            servers: Looks::new(JOBS_PER_REQUEST, BURST),
            ending: Looks::new(JOBS_PER_REQUEST, BURST),
            watched: Looks::new(JOBS_PER_REQUEST, BURST),
            types: Fetched::default(),
        }
    }
}

/// A create has one follow-up as a rule.
const ACTIONS_OF_A_JOB: usize = 2;

impl Project {
    /// What its token may ask for.
    pub fn rate(&self) -> &Arc<RateBudget> {
        &self.rate
    }

    /// The clock that all answers to its token set.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }
}

impl Hetzner {
    /// How these actions stand, by a look that begins at this moment or before and may serve others as well. Actions that Hetzner does
    /// not know any more are left out.
    pub async fn look_at_actions(
        self: &Arc<Self>,
        ids: &[ActionId],
        due: Instant,
    ) -> Result<Vec<Action>, HetznerError> {
        let hetzner = Arc::clone(self);
        let look = |questions: Vec<Vec<ActionId>>| async move {
            let mut ids = questions.concat();
            ids.sort_unstable();
            ids.dedup();
            hetzner.get_actions(&ids, hetzner.chain.within_a_look()).await
        };
        let seen = self.project.actions.ask(ids.to_vec(), due, &self.spacing(), self.chain.clock(), look).await?;
        self.chain.catch_up();
        Ok(seen.iter().filter(|action| ids.contains(&action.id)).cloned().collect())
    }

    /// The servers that carry this label now, by a request that may serve others as well. The value must be valid.
    pub async fn look_for_servers(
        self: &Arc<Self>,
        key: &'static str,
        value: &str,
        within: Within,
    ) -> Result<Vec<Server>, HetznerError> {
        let looks = if within.urgency == Urgency::Order { &self.project.servers } else { &self.project.ending };
        let ask = || -> BoxFuture<'_, _> {
            Box::pin(self.ask_for_servers(looks, key, value, self.chain.clock().now(), within.urgency))
        };
        self.chain.ask("find servers", "Hetzner", within, &ask).await
    }

    /// The same, for who looks again and again whether they stay: by a look that begins at this moment or before.
    pub fn watch_servers<'a>(
        self: &'a Arc<Self>,
        key: &'static str,
        value: &'a str,
        due: Instant,
    ) -> impl Future<Output = Result<Vec<Server>, HetznerError>> + 'a {
        self.ask_for_servers(&self.project.watched, key, value, due, Urgency::Look)
    }

    async fn ask_for_servers(
        self: &Arc<Self>,
        looks: &Looks<String, Vec<Server>, HetznerError>,
        key: &'static str,
        value: &str,
        due: Instant,
        urgency: Urgency,
    ) -> Result<Vec<Server>, HetznerError> {
        let hetzner = Arc::clone(self);
        let look = |values: Vec<String>| async move {
            let mut found = Vec::new();
            for values in values.chunks(JOBS_PER_REQUEST) {
                let within = Within { urgency, ..hetzner.chain.within_a_look() };
                found.append(&mut hetzner.find_servers_by_label(&label::selector_of(key, values), within).await?);
            }
            Ok(found)
        };
        let seen = looks.ask(value.to_owned(), due, &self.spacing(), self.chain.clock(), look).await?;
        self.chain.catch_up();
        // Looking again costs nothing and guards against a filter that was lost on the way.
        let is_it = |server: &&Server| server.labels.get(key).is_some_and(|label| label == value);
        Ok(seen.iter().filter(is_it).cloned().collect())
    }

    /// The catalogue of server types, of this minute.
    pub async fn server_types(&self, within: Within) -> Result<Arc<Vec<ServerType>>, HetznerError> {
        let fetch = || -> Fetch<'_, _, _> {
            Box::pin(async {
                let types = self.list_server_types(within).await?;
                Ok((Arc::new(types), self.chain.clock().now() + TYPES_GOOD_FOR))
            })
        };
        let types = self.project.types.get(self.chain.clock(), &fetch).await;
        self.chain.catch_up();
        types
    }

    /// Waits until the budget has a place for an order, so that the order itself, once it is declared, goes out at once.
    pub async fn may_order(&self, deadline: Instant) -> Option<Pass> {
        self.chain.may_order(deadline).await
    }

    fn spacing(&self) -> impl Fn(usize) -> Duration + Send + Sync {
        |_| SPACING * self.chain.rate().ease(self.chain.clock().now())
    }
}

impl std::fmt::Debug for Project {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Project").field("rate", &self.rate).finish_non_exhaustive()
    }
}

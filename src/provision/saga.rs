//! Undo, declared before the action and run in reverse.
//!
//! A step declares what it is about to make, and how that is found and removed again, before its first byte is sent;
//! the saga runs what was declared. Flow of a failed attempt:
//!
//! 1. every declared undo runs, last declared first, within a budget of its own that neither the caller's signal nor
//!    the deadline shortens;
//! 2. an undo that panics or fails does not stop the others;
//! 3. each returns what it could not remove. An empty list means that the absence was confirmed by a read.
//!
//! Undos are idempotent and take names, not answers: an answer may have been lost.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::event::{Detail, Scope};
use super::leftover::{Kind, Leftover};
use super::run::Run;
use crate::hetzner::Addresses;
use crate::transport::{Instant, Patience, Urgency, Within, timeout_at};

/// What is kept back for each undo that has still to run, so that one that hangs does not starve the rest.
const RESERVE: Duration = Duration::from_secs(8);

/// The reversal of one step.
pub(super) trait Undo: Send + Sync {
    /// Removes what the step made, or may have made, and returns what is left.
    fn undo<'a>(&'a self, scene: &'a Scene<'a>) -> BoxFuture<'a, Vec<Leftover>>;

    /// What has to be assumed left if the undo itself breaks down. Nothing, if the step never acted.
    fn may_leave(&self, why: &str) -> Vec<Leftover>;
}

/// Where undos run.
pub(super) struct Scene<'a> {
    pub run: &'a Run<'a>,
    /// When this undo has to be done.
    pub deadline: Instant,
    facts: &'a Mutex<Facts>,
}

/// What one undo finds out that another needs to know.
#[derive(Clone, Copy, Debug)]
struct Facts {
    machine: Machine,
    key_used: Option<bool>,
    /// The key is the customer's, and lets in one machine only.
    is_given_once: bool,
    /// Reads have shown that the server is gone, whoever removed it.
    is_server_gone: bool,
}

/// What has become of the machine of this attempt. Its devices may go only if this call deleted it (design 6, rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// No server was made, so nothing can have joined.
    NeverMade,
    /// This call deleted its server, and a read confirmed it.
    Deleted {
        /// Where it connected from.
        addresses: Addresses,
    },
    /// The server is still there, or somebody else removed it.
    NotDeletedByUs {
        /// Where it connects from; none if the server is not known.
        addresses: Addresses,
    },
}

impl Scene<'_> {
    /// The limits of a request of an undo: it has nothing better to do with its time than to try again.
    pub(super) fn within(&self) -> Within {
        Within { deadline: self.deadline, patience: Patience::UntilDeadline, urgency: Urgency::Undo }
    }

    pub(super) fn machine(&self) -> Machine {
        self.facts().machine
    }

    pub(super) fn set_machine(&self, machine: Machine) {
        self.facts().machine = machine;
    }

    /// Whether reads have shown that the server is gone, whoever removed it.
    pub(super) fn is_server_gone(&self) -> bool {
        self.facts().is_server_gone || matches!(self.machine(), Machine::Deleted { .. })
    }

    pub(super) fn set_server_gone(&self) {
        self.facts().is_server_gone = true;
    }

    /// Whether a machine joined with the key; nothing, if that cannot be told, or may still happen.
    pub(super) fn key_used(&self) -> Option<bool> {
        self.facts().key_used
    }

    pub(super) fn set_key_used(&self, used: Option<bool>) {
        self.facts().key_used = used;
    }

    /// The key is the customer's, and lets in one machine only.
    pub(super) fn set_given_once(&self) {
        self.facts().is_given_once = true;
    }

    /// A machine of ours has joined.
    pub(super) fn has_joined(&self) {
        if self.facts().is_given_once {
            self.spend_given_key();
        }
    }

    /// The customer's key is of no more use.
    pub(super) fn spend_given_key(&self) {
        let was_spent = std::mem::replace(&mut self.run.notes().is_key_spent, true);
        if !was_spent {
            let message =
                "TAILSCALE_AUTH_KEY can let in no other machine, as far as is known: the next call needs a new key";
            self.run.warn(Scope::Tailscale, message);
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The undos of one attempt, in the order of their declaration.
#[derive(Default)]
pub(super) struct Saga {
    declared: Mutex<Vec<Arc<dyn Undo>>>,
}

impl Saga {
    /// Declares an undo and returns it, so that the step can tell it what becomes known.
    pub(super) fn declare<U: Undo + 'static>(&self, undo: U) -> Arc<U> {
        let undo = Arc::new(undo);
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).push(undo.clone());
        undo
    }

    /// Whether anything was declared at all.
    pub(super) fn is_empty(&self) -> bool {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Runs every undo in reverse and returns what is left.
    pub(super) async fn compensate(&self, run: &Run<'_>) -> Vec<Leftover> {
        let mut undos = std::mem::take(&mut *self.declared.lock().unwrap_or_else(PoisonError::into_inner));
        let end = run.undo_end();
        let facts = Mutex::new(Facts {
            machine: Machine::NeverMade,
            key_used: None,
            is_given_once: false,
            is_server_gone: false,
        });
        let mut leftovers = Vec::new();
        while let Some(undo) = undos.pop() {
            let waiting = u32::try_from(undos.len()).unwrap_or(u32::MAX);
            let deadline = end.checked_sub(RESERVE.saturating_mul(waiting)).unwrap_or(end);
            let scene = Scene { run, deadline, facts: &facts };
            let work = AssertUnwindSafe(undo.undo(&scene)).catch_unwind();
            // An undo keeps its own deadline; this is the backstop for one that does not.
            let left = match timeout_at(deadline + Duration::from_secs(1), work).await {
                Some(Ok(left)) => left,
                Some(Err(_)) => undo.may_leave("its undo broke down"),
                None => undo.may_leave("the time for the undo ran out"),
            };
            let now = run.clock.now();
            leftovers.extend(left.into_iter().map(|left| (now, left)));
        }
        let now = run.clock.now();
        let told = |(since, left): (Instant, Leftover)| {
            // While other undos ran, a machine may have used a key up.
            if left.kind == Kind::AuthKey { left.after(now.duration_since(since)) } else { left }
        };
        let leftovers: Vec<Leftover> = leftovers.into_iter().map(told).collect();
        for left in &leftovers {
            run.warn_of(Scope::ProvisionVm, format!("Left behind: {left}"), Detail::Left(left.clone()));
        }
        tracing::debug!(left = leftovers.len(), "undone");
        leftovers
    }
}

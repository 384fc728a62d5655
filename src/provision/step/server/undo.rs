//! The undo of an order: the server goes by its id, or by its name while an order may still be carried out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::super::super::job::{Attempt, Claim, Job, attempt_of};
use super::super::super::leftover::{Hold, Kind, Leftover};
use super::super::super::saga::{Machine, Scene, Undo};
use super::super::removal::{Guard, Removal, Target, find_primary_ips, remove_primary_ips, remove_server};
use crate::hetzner::{Addresses, PrimaryIpId, Server, ServerId};
use crate::transport::{Judge, Opinion, sleep, sleep_until};

/// How long an order that got no answer may still be carried out (fault P06).
const SETTLE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Reads may lag behind writes by up to 5 s (fault G32).
const READS_LAG: Duration = Duration::from_secs(6);

/// Removes the server of this attempt: by its id, or by its name while an order may still be carried out.
pub(in super::super::super) struct UndoServer {
    name: String,
    attempt: String,
    /// When the attempt counts as dead.
    expires: Option<i64>,
    guard: Guard,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    /// Orders that may still be carried out.
    floating: u32,
    server: Option<Ordered>,
    /// It may have been marked ready.
    is_marked: bool,
}

/// What is known of a server that stands for an order.
#[derive(Clone)]
struct Ordered {
    id: ServerId,
    addresses: Addresses,
    primary_ips: Vec<PrimaryIpId>,
    /// The order's own answer told of it. Only then are its addresses provably those that were made with it (design 6).
    is_answer: bool,
}

impl Ordered {
    /// As the order's own answer tells of it.
    fn answered(server: &Server) -> Self {
        Self { is_answer: true, ..Self::shown(server) }
    }

    /// As a read shows it.
    fn shown(server: &Server) -> Self {
        Self { id: server.id, addresses: server.addresses, primary_ips: server.primary_ips.clone(), is_answer: false }
    }
}

impl UndoServer {
    pub(super) fn new(job: &Job, attempt: &Attempt) -> Self {
        Self {
            name: job.name.clone(),
            attempt: attempt.id.clone(),
            expires: Some(attempt.expires),
            guard: if attempt.is_resumable { Guard::Resumable } else { Guard::Own },
            state: Mutex::default(),
        }
    }

    /// The undo of a server that another call's attempt made. Its addresses may be the customer's, so they are left alone, and
    /// named if they stay.
    pub(in super::super::super) fn of_other(server: &Server, claim: &Claim, guard: Guard) -> Self {
        Self {
            name: server.name.clone(),
            attempt: claim.attempt.clone(),
            expires: claim.expires.filter(|_| guard == Guard::Resumable),
            guard,
            state: Mutex::new(State { server: Some(Ordered::shown(server)), ..State::default() }),
        }
    }

    /// The undo of an order in a caller's own words. It makes no job's server, so nobody follows it, and nobody reaps it.
    pub(in super::super::super) fn of_order(name: &str, attempt: &str) -> Self {
        Self {
            name: name.to_owned(),
            attempt: attempt.to_owned(),
            expires: None,
            guard: Guard::Ordered,
            state: Mutex::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn ordered(&self) {
        self.change(|state| state.floating += 1);
    }

    pub(super) fn not_applied(&self) {
        self.change(|state| state.floating = state.floating.saturating_sub(1));
    }

    /// The order's answer tells of the server.
    pub(super) fn made(&self, server: &Server) {
        self.came_of_order(Ordered::answered(server));
    }

    /// A look-up shows the server of an order that got no answer.
    pub(super) fn found(&self, server: &Server) {
        self.came_of_order(Ordered::shown(server));
    }

    fn came_of_order(&self, ordered: Ordered) {
        self.change(|state| {
            state.floating = state.floating.saturating_sub(1);
            state.server = Some(ordered);
        });
    }

    /// The server is about to be marked ready, whatever answer that gets.
    pub(in super::super::super) fn marking(&self) {
        self.change(|state| state.is_marked = true);
    }

    fn may_appear(&self, why: impl Into<String>) -> Leftover {
        Leftover::may_appear(Kind::Server, why).name(&self.name)
    }

    async fn remove(&self, scene: &Scene<'_>, ordered: &Ordered) -> Vec<Leftover> {
        let Self { attempt, expires, guard, .. } = self;
        let target = Target { id: ordered.id, attempt, expires: *expires, guard: *guard };
        let (shown, is_deleted) = match remove_server(scene.run, target, scene.within()).await {
            Removal::Left(leftover) => return vec![leftover.name(&self.name)],
            Removal::Deleted { primary_ips } => {
                scene.set_machine(Machine::Deleted { addresses: ordered.addresses });
                (primary_ips, true)
            }
            Removal::WasGone => {
                scene.set_server_gone();
                (ordered.primary_ips.clone(), false)
            }
        };
        // An address is provably one that came with the server only if the order's answer names it and a read has shown it
        // there. What only a read has shown may have been given to it by somebody, an answer may be wrong, and an order in a caller's
        // own words may bring an address of the caller's.
        let is_own =
            |id: &PrimaryIpId| self.is_of_job() && is_deleted && ordered.is_answer && ordered.primary_ips.contains(id);
        let (own, others): (Vec<_>, Vec<_>) = shown.into_iter().partition(is_own);
        let mut left = remove_primary_ips(scene.run, &own, scene.within()).await;
        left.extend(find_primary_ips(scene.run, &others, ordered.id, scene.within()).await);
        left
    }

    /// Removes the server that an order's answer told of. If there is none of that id, or another's, the answer may have
    /// been wrong about the id.
    async fn remove_ordered(&self, scene: &Scene<'_>, ordered: &Ordered) -> Vec<Leftover> {
        let mut left = self.remove(scene, ordered).await;
        if !ordered.is_answer || matches!(scene.machine(), Machine::Deleted { .. }) {
            return left;
        }
        match scene.run.hetzner.find_server_by_name(&self.name, scene.within()).await {
            Ok(Some(server)) if server.id != ordered.id && self.is_of_attempt(&server) => {
                scene.set_machine(Machine::NotDeletedByUs { addresses: server.addresses });
                self.remove(scene, &Ordered::shown(&server)).await
            }
            Err(error) if left.iter().all(|left| left.kind != Kind::Server) => {
                let why =
                    format!("it is not there under its id, and whether it has another one is not known ({error})");
                left.push(Leftover::unconfirmed(Kind::Server, why).name(&self.name));
                left
            }
            _ => left,
        }
    }

    /// Whether this is the server that the attempt has made, as far as its name and labels tell.
    pub(in super::super) fn owns(&self, server: &Server) -> bool {
        server.name == self.name && self.is_of_attempt(server)
    }

    /// Whether it is a job's server, that has a claim on it.
    pub(super) fn is_of_job(&self) -> bool {
        self.guard != Guard::Ordered
    }

    /// Whether a server stands for an order of this attempt at a job.
    pub(super) fn is_of_order(&self, job: &Job, server: &Server) -> bool {
        self.owns(server) && (!self.is_of_job() || Claim::read(server).is_some_and(|claim| job.owns(&claim)))
    }

    fn is_of_attempt(&self, server: &Server) -> bool {
        if self.is_of_job() {
            Claim::read(server).is_some_and(|claim| claim.attempt == self.attempt)
        } else {
            attempt_of(server) == Some(&self.attempt)
        }
    }

    /// Looks for a server that an unanswered order may still make, and removes it.
    async fn settle(&self, scene: &Scene<'_>, mut floating: u32, mut seen: Vec<ServerId>) -> Vec<Leftover> {
        let run = scene.run;
        let end = scene.deadline.min(run.clock.now() + SETTLE);
        let mut left = Vec::new();
        while floating > 0 {
            // The last look is at the very end.
            let is_last = run.clock.now() >= end;
            match run.hetzner.find_server_by_name(&self.name, scene.within()).await {
                // A list may still show what was removed a moment ago; that is no second server.
                Ok(Some(server)) if self.is_of_attempt(&server) && !seen.contains(&server.id) => {
                    seen.push(server.id);
                    scene.set_machine(Machine::NotDeletedByUs { addresses: server.addresses });
                    left.extend(self.remove(scene, &Ordered::shown(&server)).await);
                    floating -= 1;
                }
                Err(error) if error.opinion() == Opinion::Stop => {
                    left.push(self.may_appear(format!("an order got no answer ({error})")));
                    return left;
                }
                _ if is_last => break,
                _ => sleep_until(end.min(run.clock.now() + LOOK_AGAIN)).await,
            }
        }
        if floating > 0 {
            left.push(self.may_appear("an order got no answer"));
        }
        left
    }
}

impl Undo for UndoServer {
    fn undo<'a>(&'a self, scene: &'a Scene<'a>) -> BoxFuture<'a, Vec<Leftover>> {
        Box::pin(async move {
            let State { floating, server, is_marked } = self.state();
            let mut left = Vec::new();
            if is_marked {
                // Others may have seen the mark and returned the server. Only a read that cannot lag behind it any more
                // shows whether it was written.
                sleep(READS_LAG).await;
            }
            if floating > 0 || server.is_some() {
                // Until a read proves its deletion, there may be a machine, and a device of it.
                let addresses = server.as_ref().map(|ordered| ordered.addresses).unwrap_or_default();
                scene.set_machine(Machine::NotDeletedByUs { addresses });
            }
            let seen = server.iter().map(|ordered| ordered.id).collect();
            if let Some(ordered) = server {
                left.extend(self.remove_ordered(scene, &ordered).await);
            }
            left.extend(self.settle(scene, floating, seen).await);
            left
        })
    }

    fn may_leave(&self, why: &str) -> Vec<Leftover> {
        let State { floating, server, .. } = self.state();
        let hold = self.expires.map_or(Hold::None, Hold::Until);
        let made = server
            .map(|Ordered { id, .. }| Leftover::unconfirmed(Kind::Server, why).id(&id).name(&self.name).hold(hold));
        made.into_iter().chain((floating > 0).then(|| self.may_appear(why))).collect()
    }
}

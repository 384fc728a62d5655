//! Many jobs in one call: so many at a time, within caps, and none of them can harm another.
//!
//! Each job is a call of its own, with its own undo. What they share they share with all calls of the process: the clients,
//! the looks and the budgets (`shared.rs`).

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use super::allowance::{Allowance, hourly};
use super::error::{Cause, ProvisionError};
use super::event::Observer;
use super::leftover::{Kind, Leftover};
use super::settings::Settings;
use super::{Outcome, Params, Provisioner};
use crate::transport::now;

/// How many jobs are under way at the same time, unless somebody says otherwise.
pub const USUAL_CONCURRENCY: usize = 100;

/// How to treat many jobs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Many {
    /// How many may be under way at the same time; at least one is.
    pub concurrency: usize,
    /// How many servers the call may make.
    pub most_servers: Option<usize>,
    /// How much the servers that the call makes may cost an hour, all together, in the currency of the project.
    pub most_hourly: Option<f64>,
}

impl Default for Many {
    fn default() -> Self {
        Self { concurrency: USUAL_CONCURRENCY, most_servers: None, most_hourly: None }
    }
}

/// What came of many jobs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Jobs that have a machine in the tailnet.
    pub ready: usize,
    /// Those of them that had it before, or got it from another call.
    pub reused: usize,
    /// Jobs that failed.
    pub failed: usize,
    /// What the servers that were made cost an hour, as far as Hetzner said.
    pub hourly: f64,
    /// And a month.
    pub monthly: f64,
    /// Requests to Hetzner and to Tailscale. Those that served several jobs count once.
    pub requests: (u64, u64),
    /// What failed jobs left, or may have left.
    pub leftovers: Vec<Leftover>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Who hears of the jobs of one call, each told apart by its place in the list.
pub trait Audience: Send + Sync {
    /// Who listens to this job.
    fn observer(&self, job: usize) -> Arc<dyn Observer>;

    /// This job is done.
    fn settled(&self, job: usize, outcome: Outcome);
}

impl Provisioner {
    /// Provisions many jobs. Each settles by itself; `audience` hears of it at once. A job that cannot be read is given as the
    /// cause, and fails for itself.
    ///
    /// `cancel` ends all that are under way, each with its undo, and begins no other.
    pub async fn provision_many(
        &self,
        jobs: Vec<Result<Params, Cause>>,
        settings: &Settings,
        many: Many,
        cancel: CancellationToken,
        audience: &dyn Audience,
    ) -> Summary {
        let (settings, allowance) = (Arc::new(settings.clone()), many.most_hourly.map(Allowance::new));
        let (began, mut summary, mut made) = (now(), Summary::default(), 0);
        let (mut waiting, mut under_way) = (jobs.into_iter().enumerate(), FuturesUnordered::new());
        let mut next = waiting.next();
        loop {
            while let Some((at, job)) = next.take() {
                // One that is under way may find that its job has a server already, or fail and leave none.
                let is_full = many.most_servers.is_some_and(|most| made + under_way.len() >= most);
                let is_over = is_full && under_way.is_empty();
                if under_way.len() >= many.concurrency.max(1) || (is_full && !is_over) {
                    next = Some((at, job));
                    break;
                }
                let refused = if cancel.is_cancelled() {
                    Err(Cause::Aborted)
                } else if is_over {
                    Err(Cause::OverCap("maxServers".to_owned()))
                } else {
                    job
                };
                match refused {
                    Err(cause) => {
                        summary.failed += 1;
                        audience.settled(at, Err(ProvisionError::at_the_door(cause)));
                    }
                    Ok(params) => {
                        let params = Arc::new(params);
                        let (cancel, observer, allowance) = (cancel.clone(), audience.observer(at), allowance.clone());
                        let settings = &settings;
                        let call = async move {
                            let work = self.provision_within(params, settings, cancel, observer, allowance);
                            let outcome = AssertUnwindSafe(work.boxed()).catch_unwind().await;
                            let broken = |panic: Box<dyn Any + Send>| Cause::panic(panic.as_ref());
                            (at, outcome.unwrap_or_else(|panic| Err(ProvisionError::at_the_door(broken(panic)))))
                        };
                        under_way.push(call.boxed());
                    }
                }
                next = waiting.next();
            }
            let Some((at, outcome)) = under_way.next().await else { break };
            made += usize::from(summary.add(&outcome));
            audience.settled(at, outcome);
        }
        summary.elapsed = now().saturating_duration_since(began);
        summary
    }
}

impl Summary {
    /// Adds what came of one job; whether its call has made a server that stands, or may.
    fn add(&mut self, outcome: &Outcome) -> bool {
        let (hetzner, tailscale) = match outcome {
            Ok(done) => done.requests,
            Err(error) => error.requests,
        };
        self.requests.0 += u64::from(hetzner);
        self.requests.1 += u64::from(tailscale);
        match outcome {
            Ok(done) => {
                self.ready += 1;
                self.reused += usize::from(done.reused);
                if done.reused {
                    return false;
                }
                if let Some(price) = &done.price {
                    self.hourly += hourly(price).unwrap_or_default();
                    self.monthly += price.monthly.trim().parse().unwrap_or(0.0);
                }
                true
            }
            Err(error) => {
                self.failed += 1;
                self.leftovers.extend(error.leftovers.iter().cloned());
                error.leftovers.iter().any(|left| left.kind == Kind::Server)
            }
        }
    }
}

//! What a call would do now, and what that would cost, without doing any of it.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::adopt::{self, Standing};
use super::candidate::{CandidateAttempt, choose};
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Scope, Step};
use super::job::{Job, TAG};
use super::run::{Doing, Run};
use super::settings::{IdOrName, Settings};
use super::step::first_boot;
use super::{Params, Provisioner, failure, heed_place, locate, nothing_left, unless_panic};
use crate::hetzner::{Price, Server};

/// What a call would do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What, in a word.
    pub intent: Intent,
    /// The name of the server and of its device.
    pub server_name: String,
    /// The server that stands for the job.
    pub server_id: Option<u64>,
    /// What a server would be made from.
    pub image: IdOrName,
    /// Whether that is a snapshot.
    pub uses_snapshot: bool,
    /// The locations, in the order in which they would be tried.
    pub locations: Vec<String>,
    /// The types in each, in the order in which they would be tried.
    pub candidates: Vec<Planned>,
    /// The tags of the device.
    pub tags: Vec<String>,
    /// Whether the device vanishes some time after the machine is off.
    pub ephemeral: bool,
    /// What a person should know before.
    pub warnings: Vec<String>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

/// What a call would do with its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Order a server.
    Create,
    /// Hand over the one that stands ready.
    Return,
    /// Finish one that an earlier call began.
    Finish,
    /// Wait for another call that is making it.
    Follow,
    /// Remove what a dead attempt left, and order anew.
    Replace,
}

impl Intent {
    /// The intent as JavaScript sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Return => "return",
            Self::Finish => "finish",
            Self::Follow => "follow",
            Self::Replace => "replace",
        }
    }
}

/// A type that would be tried, or would not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Which, where, and why it would be left out.
    pub candidate: CandidateAttempt,
    /// What it costs there.
    pub price: Option<Price>,
    /// Whether Hetzner says that it is in stock.
    pub is_in_stock: bool,
}

impl Plan {
    /// What the first candidate costs that can be ordered.
    pub fn price(&self) -> Option<&Price> {
        self.candidates.iter().find(|planned| planned.candidate.refused.is_none())?.price.as_ref()
    }
}

impl Provisioner {
    /// Looks what [`Provisioner::provision`] would do for a job now. Sends nothing but reads to Hetzner, and nothing to Tailscale.
    ///
    /// # Errors
    ///
    /// Those with which the call would fail for what shows already: wrong input, a foreign server of the same name, another agent's
    /// job. That nothing can be ordered is no error: the candidates say so.
    pub async fn plan(
        &self,
        params: &Params,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<Plan, Box<ProvisionError>> {
        let job = Job::new(&params.job_id, &params.agent_id).map_err(ProvisionError::at_the_door)?;
        let place = locate(params, settings).map_err(ProvisionError::at_the_door)?;
        first_boot::check(&job, settings).map_err(ProvisionError::at_the_door)?;
        let run = Run::new(&job, settings, place, self.clouds(settings, &observer), cancel, observer);
        heed_place(&run, &params.region);
        self.heed(&run);
        let planning = async { run.guard(draw_up(&run)).await.map_err(nothing_left) };
        unless_panic(planning).await.map_err(|(cause, left)| Box::new(failure(&run, cause, left)))
    }
}

async fn draw_up(run: &Run<'_>) -> Result<Plan, Cause> {
    let (intent, server_id) = match look_up(run).await? {
        Standing::Absent => (Intent::Create, None),
        Standing::Ready(Server { id, .. }) => (Intent::Return, Some(id.0)),
        Standing::Underway(Server { id, .. }) => (Intent::Follow, Some(id.0)),
        Standing::Begun(Server { id, .. }, _) => (Intent::Finish, Some(id.0)),
        Standing::Dead(Server { id, .. }, _) => (Intent::Replace, Some(id.0)),
    };
    run.enter(Step::Read);
    let types = run.hetzner.server_types(run.within()).await.doing("the server types could not be read")?;
    let (settings, now) = (run.settings, run.clock.shown_unix());
    let considered = run.locations().into_iter().flat_map(|place| choose(&settings.server_types, &types, place, now));
    let candidates = considered.map(|considered| match considered {
        Ok(candidate) => Planned {
            candidate: CandidateAttempt {
                server_type: candidate.server_type,
                location: candidate.location,
                refused: None,
            },
            price: candidate.price,
            is_in_stock: candidate.is_in_stock,
        },
        Err(candidate) => Planned { candidate, price: None, is_in_stock: false },
    });
    let candidates: Vec<Planned> = candidates.collect();
    let orders = matches!(intent, Intent::Create | Intent::Replace);
    if orders && candidates.iter().all(|planned| planned.candidate.refused.is_some()) {
        run.warn(Scope::Hetzner, "Nothing can be ordered: each server type is left out");
    }
    Ok(Plan {
        intent,
        server_name: run.job.name.clone(),
        server_id,
        image: settings.source.image().clone(),
        uses_snapshot: settings.source.is_snapshot(),
        locations: run.locations().into_iter().map(str::to_owned).collect(),
        candidates,
        tags: std::iter::once(TAG.to_owned()).chain(settings.extras.tags.iter().cloned()).collect(),
        ephemeral: settings.ephemeral,
        warnings: std::mem::take(&mut run.notes().warnings),
        requests: (run.hetzner.sent(), run.tailscale.sent()),
    })
}

/// By the label, as calls do. And by the name, which would only show itself when it is ordered.
async fn look_up(run: &Run<'_>) -> Result<Standing, Cause> {
    match adopt::look_up(run).await? {
        Standing::Absent => {}
        standing => return Ok(standing),
    }
    let named = run.hetzner.find_server_by_name(&run.job.name, run.within()).await;
    let named = named.doing("the job could not be looked up")?;
    named.map_or(Ok(Standing::Absent), |server| adopt::classify(run, server))
}

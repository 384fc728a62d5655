//! All VMs of the project that this package made, with what they have cost by now: Hetzner's servers and their labels are the only list.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::allowance::hourly;
use super::error::{Cause, ProvisionError};
use super::event::{Observer, Scope, Step};
use super::job::{self, Claim, Job};
use super::run::{Doing, Run};
use super::settings::Settings;
use super::status::{State, is_over, over_at, seconds};
use super::{Provisioner, failure, nothing_left, region, unless_panic};
use crate::hetzner::{Price, Server, ServerType};

const HOUR: u64 = 3600;
/// Hetzner charges no month more than so many hours (its price list: 730 on average).
const HOURS_A_MONTH: u64 = 730;

/// The VMs of all jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmList {
    /// The oldest first.
    pub vms: Vec<Vm>,
    /// What a person should know who takes this for all there is.
    pub warnings: Vec<String>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

/// A job's VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// The server.
    pub server: Server,
    /// The job that it was made for.
    pub job: String,
    /// The agent that it is for.
    pub agent: String,
    /// How far it has come, by its labels and its power alone: whether its device is there is not looked up.
    pub state: State,
    /// The device that was verified when it was handed over.
    pub node_id: Option<String>,
    /// Since its attempt began.
    pub age: Duration,
    /// Until its attempt counts as over, if it is not ready.
    pub expires_in: Option<Duration>,
    /// What it costs.
    pub price: Option<Price>,
    /// What it has cost by now, as a decimal text.
    pub cost: Option<String>,
}

impl Provisioner {
    /// All servers of the project that carry this package's labels: a request for fifty of them, and one for the prices.
    ///
    /// # Errors
    ///
    /// If they cannot be listed. Without prices the list has none.
    pub async fn list(
        &self,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<VmList, Box<ProvisionError>> {
        let nobody = Job::nobody("");
        let run = Run::new(&nobody, settings, region::place(""), self.clouds(settings, &observer), cancel, observer);
        self.heed(&run);
        let listing = async { run.guard(list(&run)).await.map_err(nothing_left) };
        unless_panic(listing).await.map_err(|(cause, left)| Box::new(failure(&run, cause, left)))
    }
}

async fn list(run: &Run<'_>) -> Result<VmList, Cause> {
    run.enter(Step::Read);
    let selector = job::managed_selector();
    let servers = run.hetzner.find_servers_by_label(&selector, run.within()).await;
    let servers = servers.doing("the servers could not be listed")?;
    let types = if servers.is_empty() {
        Arc::default()
    } else {
        run.hetzner.server_types(run.within()).await.unwrap_or_else(|error| {
            run.warn(Scope::Hetzner, format!("The prices could not be read: {error}"));
            Arc::default()
        })
    };
    let now = run.clock.shown_unix();
    let mut vms = Vec::with_capacity(servers.len());
    for server in servers {
        match Claim::read(&server) {
            Some(claim) => vms.push(describe(server, claim, &types, now)),
            None => run.warn(
                Scope::Hetzner,
                format!("Server {} ({}) has this package's label, but not those of a job", server.name, server.id),
            ),
        }
    }
    vms.sort_unstable_by_key(|vm| (std::cmp::Reverse(vm.age), vm.server.id));
    Ok(VmList {
        vms,
        warnings: std::mem::take(&mut run.notes().warnings),
        requests: (run.hetzner.sent(), run.tailscale.sent()),
    })
}

fn describe(server: Server, claim: Claim, types: &[ServerType], now: i64) -> Vm {
    let offers = types.iter().find(|known| known.name == server.server_type).map(|known| &known.offers);
    let offer = offers.and_then(|offers| offers.iter().find(|offer| offer.location == server.location));
    let price = offer.and_then(|offer| offer.price.clone());
    let age = seconds(claim.started, now);
    let state = if claim.ready {
        State::Ready
    } else if is_over(&claim, now) {
        State::Expired
    } else if server.status == "running" {
        State::Booting
    } else {
        State::Creating
    };
    Vm {
        expires_in: over_at(&claim).map(|end| seconds(now, end)),
        cost: price.as_ref().and_then(|price| cost(price, age)),
        server,
        job: claim.job,
        agent: claim.agent,
        state,
        node_id: claim.node_id,
        age,
        price,
    }
}

/// Each hour that has begun, at most a month's price for each month.
fn cost(price: &Price, age: Duration) -> Option<String> {
    let (hourly, monthly) = (hourly(price)?, price.monthly.parse::<f64>().ok().filter(|monthly| monthly.is_finite())?);
    let hours = age.as_secs().div_ceil(HOUR).max(1);
    #[expect(clippy::cast_precision_loss, reason = "hours that a server has stood")]
    let (months, rest) = ((hours / HOURS_A_MONTH) as f64, (hours % HOURS_A_MONTH) as f64);
    let text = format!("{:.4}", months * monthly + (rest * hourly).min(monthly));
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_that_has_begun_is_paid_and_a_month_costs_no_more_than_its_price() {
        let price = Price { hourly: "0.006".to_owned(), monthly: "3.49".to_owned() };
        for (seconds, cost_so_far) in [
            (0, "0.006"),
            (3600, "0.006"),
            (3601, "0.012"),
            (600 * 3600, "3.49"),
            (730 * 3600, "3.49"),
            (731 * 3600, "3.496"),
            (3 * 730 * 3600, "10.47"),
        ] {
            assert_eq!(cost(&price, Duration::from_secs(seconds)).as_deref(), Some(cost_so_far), "{seconds}");
        }
        let unreadable = Price { hourly: "?".to_owned(), monthly: "3".to_owned() };
        assert_eq!(cost(&unreadable, Duration::ZERO), None);
    }
}

//! What many jobs cost, in virtual time: requests, refusals and time, for one process with many jobs and for many processes
//! that share one project. Each scene prints its figures as a line of JSON, which `bench/scale.js` reads; docs/scale.md quotes them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use provision_vm::provision::{Audience, CancellationToken, Many, Observer, Params, Provisioner, Silent, Summary};
use provision_vm::transport::{Transport, TransportError};
use simulator::Config;
use support::{Cloud, Outcome, settings};

/// What one scene came to.
struct Figures {
    jobs: usize,
    ready: usize,
    hetzner: u32,
    tailscale: u32,
    /// Answers 429.
    refused: u32,
    /// Virtual seconds.
    took: f64,
    /// What failed, if anything did.
    errors: Vec<String>,
}

/// The way into a world, which counts.
struct Counting {
    cloud: Cloud,
    hetzner: AtomicU32,
    tailscale: AtomicU32,
    refused: AtomicU32,
}

impl Transport for Counting {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        let is_hetzner = request.uri().host() == Some("api.hetzner.cloud");
        let counter = if is_hetzner { &self.hetzner } else { &self.tailscale };
        counter.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let answer = self.cloud.exchange(request).await;
            if answer.as_ref().is_ok_and(|answer| answer.status() == http::StatusCode::TOO_MANY_REQUESTS) {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            answer
        })
    }
}

/// Keeps how each job ended.
#[derive(Default)]
struct Outcomes(Mutex<Vec<Outcome>>);

impl Audience for Outcomes {
    fn observer(&self, _: usize) -> Arc<dyn Observer> {
        Arc::new(Silent)
    }

    fn settled(&self, _: usize, outcome: Outcome) {
        self.0.lock().unwrap().push(outcome);
    }
}

fn job(number: usize) -> Params {
    let agent_id = format!("{number:08x}-agent");
    Params { job_id: format!("job-{number}"), agent_id, region: "us-east".to_owned() }
}

/// A world in which a machine takes 20 to 33 s from its order to the tailnet.
fn config(left: Option<f64>) -> Config {
    let mut config = Config::default();
    config.hetzner.server_limit = 10_000;
    config.hetzner.primary_ip_limit = 20_000;
    config.hetzner.rate_remaining = left;
    config
}

/// So many processes, each with so many jobs at once.
async fn play(config: Config, processes: usize, jobs: usize) -> Figures {
    let cloud = Cloud::new(config);
    let counting = Arc::new(Counting {
        cloud: cloud.clone(),
        hetzner: AtomicU32::new(0),
        tailscale: AtomicU32::new(0),
        refused: AtomicU32::new(0),
    });
    let began = cloud.now();
    let (settings, outcomes) = (settings(), Outcomes::default());
    let runs = (0..processes).map(|process| {
        let (settings, outcomes, counting) = (&settings, &outcomes, counting.clone());
        let provisioner = Provisioner::over(counting, Arc::new(cloud.clone()), process as u64 + 1);
        async move {
            let jobs = (0..jobs).map(|number| Ok(job(process * 100_000 + number))).collect();
            let many = Many { concurrency: usize::MAX, ..Many::default() };
            provisioner.provision_many(jobs, settings, many, CancellationToken::new(), outcomes).await
        }
    });
    let summaries: Vec<Summary> = join_all(runs).await;
    let took = cloud.now().saturating_sub(began).as_secs_f64();
    let load = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    let (hetzner, tailscale) = (load(&counting.hetzner), load(&counting.tailscale));
    let sum = |of: fn(&Summary) -> u64| summaries.iter().map(of).sum::<u64>();
    assert_eq!(sum(|summary| summary.requests.0), u64::from(hetzner), "each request is in exactly one job's account");
    assert_eq!(sum(|summary| summary.requests.1), u64::from(tailscale));
    let errors = outcomes.0.into_inner().unwrap().into_iter().filter_map(Outcome::err);
    Figures {
        jobs: processes * jobs,
        ready: summaries.iter().map(|summary| summary.ready).sum(),
        hetzner,
        tailscale,
        refused: load(&counting.refused),
        took,
        errors: errors.map(|error| format!("{:?} {error}", error.cause.code())).collect(),
    }
}

impl Figures {
    /// A line for each figure, with what it may be at most.
    fn print(&self, scene: &str, most: [f64; 4]) {
        let figures = [f64::from(self.hetzner), f64::from(self.tailscale), f64::from(self.refused), self.took];
        let names = ["requests to Hetzner", "requests to Tailscale", "answers 429", "virtual time"];
        println!(r#"{{"what":"{scene}: jobs ready of {}","value":{},"unit":""}}"#, self.jobs, self.ready);
        for ((name, value), most) in names.iter().zip(figures).zip(most) {
            let unit = if *name == "virtual time" { "s" } else { "" };
            let most = if most.is_finite() { format!(r#","atMost":{most:.0}"#) } else { String::new() };
            println!(r#"{{"what":"{scene}: {name}","value":{value:.0},"unit":"{unit}"{most}}}"#);
        }
    }

    fn assert_all_ready(&self) {
        assert_eq!(self.ready, self.jobs, "{:?}", self.errors.first());
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// How many jobs the largest scene with a scarce bucket has. The benchmark asks for a thousand, which take a minute to play.
#[expect(clippy::disallowed_methods, reason = "an option of the test")]
fn most_scarce_jobs() -> usize {
    std::env::var("PROVISION_VM_SCARCE_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

#[tokio::test(start_paused = true)]
async fn the_cost_of_waiting_does_not_grow_with_the_jobs() {
    for jobs in [1, 2, 10, 100, 1000] {
        let figures = play(config(None), 1, jobs).await;
        let k = number(jobs);
        let [hetzner, tailscale] = [3.0 * k + 60.0, 2.0 * k + 80.0];
        figures.print(&format!("K = {jobs}, full bucket"), [hetzner, tailscale, 0.0, f64::INFINITY]);
        figures.assert_all_ready();
        assert!(f64::from(figures.hetzner) <= hetzner, "{} to Hetzner for {jobs}", figures.hetzner);
        assert!(f64::from(figures.tailscale) <= tailscale, "{} to Tailscale for {jobs}", figures.tailscale);
        assert_eq!(figures.refused, 0, "{jobs}");
    }
}

#[tokio::test(start_paused = true)]
async fn q11_with_little_left_every_job_is_done_in_the_time_that_the_refill_allows() {
    for jobs in [1, 10, 100, most_scarce_jobs()] {
        let (k, left) = (number(jobs), number(jobs) + 200.0);
        let figures = play(config(Some(left)), 1, jobs).await;
        // One request a second flows in, of the 3 K + 60 that may be asked for; and the last job has to boot.
        let allowed = ((3.0 * k + 60.0 - left).max(0.0) + 35.0) * 1.1;
        let hetzner = 3.0 * k + 60.0;
        figures.print(&format!("K = {jobs}, K + 200 left"), [hetzner, f64::INFINITY, 3.0, allowed]);
        figures.assert_all_ready();
        assert!(figures.took <= allowed, "{jobs}: {:.0} s of {allowed:.0}", figures.took);
        assert!(figures.refused <= 3, "{jobs}: {} refusals", figures.refused);
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_processes_that_share_a_project_finish_without_knowing_of_each_other() {
    for (left, jobs, scene) in [
        (None, 20, "50 processes with 20 jobs each, full bucket"),
        (Some(1200.0), 4, "50 processes with 4 jobs each, 1,200 left"),
    ] {
        let figures = play(config(left), 50, jobs).await;
        figures.print(scene, [f64::INFINITY, f64::INFINITY, 20.0, f64::INFINITY]);
        figures.assert_all_ready();
        assert!(figures.refused <= 20, "{scene}: {} refusals of {}", figures.refused, figures.hetzner);
        let refilled = (f64::from(figures.hetzner) - left.unwrap_or(3600.0)).max(0.0);
        assert!(figures.took < refilled * 1.5 + 120.0, "{scene}: {:.0} s", figures.took);
    }
}

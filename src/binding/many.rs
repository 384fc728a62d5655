//! Many jobs in one call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use serde_json::Value;

use super::cancel::Token;
use super::fields::Fields;
use super::input::{self, Input};
use super::output::{Fault, Leftover, ProvisionVmResult, Requests, Settled, milliseconds};
use super::progress::{Callback, Listener, ProgressEvent};
use super::provision::call;
use super::settings::Purpose;
use crate::provision::{
    Audience, CancellationToken, Cause, Event, Many, Observer, Outcome, Params, Progress, ProvisionError, Provisioner,
    Settings, Summary, Tracer,
};
use crate::secret::Secret;

/// More are refused: who has them is better served by several calls.
const MOST_JOBS: usize = 10_000;

/// One job that has settled.
#[napi(object)]
pub struct SettledJob {
    /// Its place in the list.
    pub index: u32,
    /// The machine.
    #[napi(ts_type = "ProvisionVMResult")]
    pub value: Option<ProvisionVmResult>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// How a call for many jobs ended: with a value or with a fault. That jobs fail is no fault of the call.
#[napi(object)]
pub struct Summarized {
    /// What came of the jobs.
    pub value: Option<ManySummary>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// What came of many jobs.
#[napi(object)]
pub struct ManySummary {
    /// Jobs that have a machine in the tailnet.
    pub ready: u32,
    /// Those of them that had it before, or got it from another call.
    pub reused: u32,
    /// Jobs that failed.
    pub failed: u32,
    /// What the servers that were made cost an hour, as far as Hetzner said, in the currency of the project and without tax.
    pub hourly_cost: f64,
    /// At most for one month.
    pub monthly_cost: f64,
    /// How many requests were made. Those that served several jobs count once.
    pub requests: Requests,
    /// What failed jobs left, or may have left.
    pub leftovers: Vec<Leftover>,
    /// Milliseconds that it took.
    pub elapsed_ms: f64,
}

/// What to provision.
struct Jobs {
    jobs: Vec<Result<Params, Cause>>,
    many: Many,
}

/// Provisions many jobs. `input` is JSON text: `{ jobs, options, env }`. Never rejects for a domain fault; the callbacks are those
/// of `provisionVm`, and one for each job that settles.
#[napi(js_name = "provisionMany")]
pub async fn provision_many(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
    #[napi(ts_arg_type = "(job: SettledJob | null) => void")] on_settled: Callback<SettledJob>,
) -> Summarized {
    let listener = Listener::new(on_event, on_secret);
    let on_settled = Arc::new(on_settled);
    let teller = on_settled.clone();
    let run = |what: Jobs,
               settings: Settings,
               process: Provisioner,
               cancel: CancellationToken,
               listener: Arc<Listener>| async move {
        let hall = Hall { listener, on_settled: teller, traced: Mutex::default() };
        Ok(process.provision_many(what.jobs, &settings, what.many, cancel, &hall).await)
    };
    let outcome = call(input, cancel.into(), listener, read, run).await;
    // The jobs were queued; what comes after them has to wait until they have arrived.
    let _ = on_settled.call_async(None).await;
    match outcome {
        Ok(summary) => Summarized { value: Some(summary.into()), fault: None },
        Err(error) => Summarized { value: None, fault: Some((*error).into()) },
    }
}

/// Hears of all jobs.
struct Hall {
    listener: Arc<Listener>,
    on_settled: Arc<Callback<SettledJob>>,
    /// The spans of the jobs that have not settled, where spans are asked for.
    traced: Mutex<BTreeMap<usize, Arc<Tracer>>>,
}

impl Audience for Hall {
    fn observer(&self, job: usize) -> Arc<dyn Observer> {
        let tracer = self.listener.part("provisionVM");
        if let Some(tracer) = &tracer {
            self.traced().insert(job, tracer.clone());
        }
        Arc::new(Seat { listener: self.listener.clone(), index: count(job), tracer })
    }

    fn settled(&self, job: usize, outcome: Outcome) {
        // The spans are told when the lock is free again.
        let tracer = self.traced().remove(&job);
        if let Some(tracer) = tracer {
            tracer.end(outcome.as_ref().err().map(|error| error.mishap()));
        }
        let outcome = outcome.map(|done| Progress::Ready(Box::new(done))).map_err(|error| {
            let error = *error;
            Box::new(ProvisionError { cause: at_its_place(error.cause, job), ..error })
        });
        let Settled { value, fault } = outcome.into();
        let settled = SettledJob { index: count(job), value, fault };
        self.on_settled.call(Some(settled), ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// Hears of one job, and says which.
struct Seat {
    listener: Arc<Listener>,
    index: u32,
    tracer: Option<Arc<Tracer>>,
}

impl Hall {
    fn traced(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Tracer>>> {
        self.traced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Seat {
    fn event(&self, event: Event) {
        self.listener.hears(|| ProgressEvent { index: Some(self.index), ..event.into() });
    }

    fn secret(&self, secret: &Secret) {
        self.listener.secret(secret);
    }

    fn tracer(&self) -> Option<Arc<Tracer>> {
        self.tracer.clone()
    }
}

/// A complaint about a job, with the job's place in the list.
fn at_its_place(cause: Cause, at: usize) -> Cause {
    match cause {
        Cause::Input { field, why } => Cause::Input { field: field.replacen("params", &format!("jobs[{at}]"), 1), why },
        other => other,
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl From<Summary> for ManySummary {
    fn from(summary: Summary) -> Self {
        let requests = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let (hetzner, tailscale) = summary.requests;
        Self {
            ready: count(summary.ready),
            reused: count(summary.reused),
            failed: count(summary.failed),
            hourly_cost: summary.hourly,
            monthly_cost: summary.monthly,
            requests: (requests(hetzner), requests(tailscale)).into(),
            leftovers: summary.leftovers.into_iter().map(Into::into).collect(),
            elapsed_ms: milliseconds(summary.elapsed),
        }
    }
}

/// Reads and checks `{ jobs, options, env }`. A job that is wrong fails for itself.
fn read(text: &str) -> Result<Input<Jobs>, Cause> {
    const OWN: [&str; 3] = ["concurrency", "maxServers", "maxHourlyCost"];
    let input = input::parse(text)?;
    let refuse = |why: String| Cause::Input { field: "jobs".to_owned(), why };
    let jobs = input.get("jobs").and_then(Value::as_array).ok_or_else(|| refuse("expected a list".to_owned()))?;
    if jobs.len() > MOST_JOBS {
        return Err(refuse(format!("must be at most {MOST_JOBS}")));
    }
    let mut known = BTreeMap::new();
    let read = |(at, job)| {
        let params = input::read_params(Some(job)).map_err(|cause| at_its_place(cause, at))?;
        match known.insert(params.job_id.clone(), at) {
            None => Ok(params),
            Some(first) => {
                known.insert(params.job_id, first);
                Err(Cause::Input {
                    field: format!("jobs[{at}].jobId"),
                    why: format!("is that of jobs[{first}] as well"),
                })
            }
        }
    };
    let jobs = jobs.iter().enumerate().map(read).collect();
    let fields = Fields::new("options", Some(input::options_of(&input)))?;
    let whole = |name, least| -> Result<Option<usize>, Cause> {
        Ok(fields.whole(name, least, MOST_JOBS as u64)?.and_then(|count| usize::try_from(count).ok()))
    };
    let usual = Many::default();
    let many = Many {
        concurrency: whole("concurrency", 1)?.unwrap_or(usual.concurrency),
        most_servers: whole("maxServers", 0)?,
        most_hourly: fields.amount("maxHourlyCost")?,
    };
    let (options, waits) = input::read_options(input.get("options"), &OWN)?;
    if !waits {
        return Err(fields.refuse("wait", "must not be false: who provisions many waits for them"));
    }
    input::complete(&input, Jobs { jobs, many }, options, Purpose::Provision)
}

//! What becomes of a job after its call: where it stands, and its end.

use napi_derive::napi;
use serde_json::Value;

use super::cancel::Token;
use super::fields::{Fields, LARGEST_ID};
use super::input::{self, Input};
use super::output::{Fault, Leftover, Requests, milliseconds, number};
use super::progress::{Callback, Listener, ProgressEvent};
use super::provision::call;
use super::settings::Purpose;
use crate::provision::{self, Cause, LeftBy, Which};

/// How a removal ended: with a value or with a fault.
#[napi(object)]
pub struct Deprovisioning {
    /// What was found, and what became of it.
    pub value: Option<DeprovisionReport>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// What was found, and what became of it.
#[napi(object)]
pub struct DeprovisionReport {
    /// Each server that was found. Empty if there is none, which is success.
    pub servers: Vec<RemovedServer>,
    /// What is still there, or may be. Empty only if its absence was confirmed.
    pub leftovers: Vec<Leftover>,
    /// How many requests were made.
    pub requests: Requests,
}

/// A server that was found.
#[napi(object)]
pub struct RemovedServer {
    /// Hetzner's id of the server.
    pub server_id: f64,
    /// Its name.
    pub server_name: String,
    /// The job that it was made for, if its labels say so.
    pub job_id: Option<String>,
    /// Whether it is gone, as a read confirmed.
    pub removed: bool,
    /// Why it was left.
    pub why: Option<String>,
}

/// How a clean-up ended: with a value or with a fault.
#[napi(object)]
pub struct CleaningUp {
    /// What was found, and what became of it.
    pub value: Option<CleanUpReport>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// What runs of a workflow left, and what became of it.
#[napi(object)]
pub struct CleanUpReport {
    /// Each unfinished server of the runs. Empty if there is none, which is success.
    pub servers: Vec<RemovedServer>,
    /// The ids of the auth keys for which there was no server yet, and that are revoked now.
    pub revoked_keys: Vec<String>,
    /// What is still there, or may be. Empty only if its absence was confirmed.
    pub leftovers: Vec<Leftover>,
    /// How many requests were made.
    pub requests: Requests,
}

/// How a look ended: with a value or with a fault.
#[napi(object)]
pub struct Looking {
    /// Where the job stands.
    #[napi(ts_type = "JobStatus")]
    pub value: Option<JobStatus>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// Where a job stands.
#[napi(object)]
pub struct JobStatus {
    /// `absent`: no server stands for it. `creating`: its server is being made. `booting`: the server runs, and no device
    /// of its name and tag is there yet. `enrolled`: one is, and the server is not marked ready yet. `ready`: it is done.
    /// `expired`: its attempt died, or nobody finished it in time; the next call for the job finishes or removes what it left.
    #[napi(ts_type = "'absent' | 'creating' | 'booting' | 'enrolled' | 'ready' | 'expired'")]
    pub state: String,
    /// 0 to 100. While a machine boots it goes by a usual time, so it is no promise.
    pub percent: u32,
    /// The step that its attempt is at, if one is: `server`, `wait` or `ready`.
    pub step: Option<String>,
    /// The agent that it is for.
    pub agent_id: Option<String>,
    /// Hetzner's id of the server.
    pub server_id: Option<f64>,
    /// Its name.
    pub server_name: Option<String>,
    /// Its address: the public IPv4 address, or where it has none the public IPv6 or the private one.
    pub server_ip: Option<String>,
    /// Hetzner's name of its type.
    pub server_type: Option<String>,
    /// Hetzner's name of its location.
    pub location: Option<String>,
    /// Hetzner's word for its power: `running`, `off` and others.
    pub server_status: Option<String>,
    /// The device's IPv4 address in the tailnet, if the job is ready, its server runs, and the device verifies just now.
    pub tailscale_ip: Option<String>,
    /// The device's preferred id.
    pub node_id: Option<String>,
    /// What stands in the way of the device, in words.
    pub obstacle: Option<String>,
    /// Milliseconds until the next call for the job makes it anew, if it is not finished by then.
    pub expires_in_ms: Option<f64>,
    /// How many requests were made.
    pub requests: Requests,
}

/// Removes a job's or a server's all. `input` is JSON text: `{ target, options, env }`. Never rejects for a domain fault; the
/// callbacks are those of `provisionVm`.
#[napi(js_name = "deprovisionVm")]
pub async fn deprovision_vm(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
) -> Deprovisioning {
    let listener = Listener::new(on_event, on_secret);
    let outcome =
        call(input, cancel.into(), listener, read_target, |what, settings, process, cancel, listener| async move {
            process.deprovision(&what, &settings, cancel, listener).await
        });
    match outcome.await {
        Ok(report) => Deprovisioning { value: Some(report.into()), fault: None },
        Err(error) => Deprovisioning { value: None, fault: Some((*error).into()) },
    }
}

/// Removes what runs of a workflow left of a job. `input` is JSON text: `{ target, options, env }`. Never rejects for a domain
/// fault; the callbacks are those of `provisionVm`.
#[napi(js_name = "cleanUpRun")]
pub async fn clean_up_run(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
) -> CleaningUp {
    let listener = Listener::new(on_event, on_secret);
    let outcome =
        call(input, cancel.into(), listener, read_run, |what, settings, process, cancel, listener| async move {
            process.clean_up(&what, &settings, cancel, listener).await
        });
    match outcome.await {
        Ok(report) => CleaningUp { value: Some(report.into()), fault: None },
        Err(error) => CleaningUp { value: None, fault: Some((*error).into()) },
    }
}

/// Looks where a job stands. `input` is JSON text: `{ target, options, env }`. Never rejects for a domain fault; the
/// callbacks are those of `provisionVm`.
#[napi(js_name = "getProvisioning")]
pub async fn get_provisioning(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
) -> Looking {
    let listener = Listener::new(on_event, on_secret);
    let outcome =
        call(input, cancel.into(), listener, read_job, |what, settings, process, cancel, listener| async move {
            process.status(&what, &settings, cancel, listener).await
        });
    match outcome.await {
        Ok(status) => Looking { value: Some(status.into()), fault: None },
        Err(error) => Looking { value: None, fault: Some((*error).into()) },
    }
}

impl From<provision::Removed> for RemovedServer {
    fn from(server: provision::Removed) -> Self {
        Self {
            server_id: number(server.server_id),
            server_name: server.server_name,
            job_id: server.job_id,
            removed: server.left.is_none(),
            why: server.left,
        }
    }
}

impl From<provision::CleanedUp> for CleanUpReport {
    fn from(done: provision::CleanedUp) -> Self {
        Self {
            servers: done.servers.into_iter().map(Into::into).collect(),
            revoked_keys: done.keys,
            leftovers: done.leftovers.into_iter().map(Into::into).collect(),
            requests: done.requests.into(),
        }
    }
}

impl From<provision::Deprovisioned> for DeprovisionReport {
    fn from(done: provision::Deprovisioned) -> Self {
        Self {
            servers: done.servers.into_iter().map(Into::into).collect(),
            leftovers: done.leftovers.into_iter().map(Into::into).collect(),
            requests: done.requests.into(),
        }
    }
}

impl From<provision::Status> for JobStatus {
    fn from(status: provision::Status) -> Self {
        let server = status.server.as_ref();
        Self {
            state: status.state.as_str().to_owned(),
            percent: status.percent.into(),
            step: status.step.map(|step| step.as_str().to_owned()),
            agent_id: status.agent,
            server_id: server.map(|server| number(server.id.0)),
            server_name: server.map(|server| server.name.clone()),
            server_ip: server.and_then(|server| server.addresses.main()).map(|ip| ip.to_string()),
            server_type: server.map(|server| server.server_type.clone()),
            location: server.map(|server| server.location.clone()),
            server_status: server.map(|server| server.status.clone()),
            tailscale_ip: status.tailscale_ip.map(|ip| ip.to_string()),
            node_id: status.node_id,
            obstacle: status.obstacle.map(str::to_owned),
            expires_in_ms: status.expires_in.map(milliseconds),
            requests: status.requests.into(),
        }
    }
}

/// Reads and checks `{ target, options, env }`: what is to go.
fn read_target(text: &str) -> Result<Input<Which>, Cause> {
    const WAYS: [&str; 3] = ["jobId", "serverId", "serverName"];
    let input = input::parse(text)?;
    let target = Fields::new("target", input.get("target"))?;
    let given = WAYS.iter().filter(|name| target.has(name)).count();
    if given != 1 {
        let why = "must name one of jobId, serverId and serverName".to_owned();
        return Err(Cause::Input { field: "target".to_owned(), why });
    }
    let options = input::options_of(&input);
    let options = Fields::new("options", Some(options))?;
    let force = options.flag("force")?.unwrap_or_default();
    let which = if let Some(id) = target.whole("serverId", 1, LARGEST_ID)? {
        Which::Server { id, force }
    } else if force {
        return Err(options.refuse("force", "needs a serverId: only an id says which server is meant"));
    } else if let Some(name) = target.text("serverName")? {
        Which::Name(name)
    } else {
        Which::Job(job_id(&target)?)
    };
    finish(&input, which, &options, &["force"], Purpose::Reap)
}

/// Reads and checks `{ target, options, env }`: which job, and which runs.
fn read_run(text: &str) -> Result<Input<LeftBy>, Cause> {
    const MOST: usize = 100;
    let input = input::parse(text)?;
    let target = Fields::new("target", input.get("target"))?;
    let given = target.set("runIds", MOST, "the id of a run", |value| value.as_str().map(str::to_owned))?;
    let ids = target.required("runIds", given)?;
    let read = |(index, id): (usize, &String)| input::read_run(&target, &format!("runIds[{index}]"), id);
    let runs = ids.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let agent_id = target.text("agentId")?;
    if agent_id.as_deref().is_some_and(|id| !provision::is_job_id(id)) {
        return Err(target.refuse("agentId", "can be no agent's id"));
    }
    let what = LeftBy { job_id: job_id(&target)?, agent_id, runs };
    let options = input::options_of(&input);
    finish(&input, what, &Fields::new("options", Some(options))?, &[], Purpose::Reap)
}

/// Reads and checks `{ target, options, env }`: which job.
fn read_job(text: &str) -> Result<Input<String>, Cause> {
    let input = input::parse(text)?;
    let job = job_id(&Fields::new("target", input.get("target"))?)?;
    let options = input::options_of(&input);
    finish(&input, job, &Fields::new("options", Some(options))?, &[], Purpose::Reap)
}

fn job_id(target: &Fields<'_>) -> Result<String, Cause> {
    let id = target.required("jobId", target.text("jobId")?)?;
    if provision::is_job_id(&id) { Ok(id) } else { Err(target.refuse("jobId", "can be no job's id")) }
}

fn finish<T>(
    input: &Value,
    what: T,
    options: &Fields<'_>,
    own: &[&'static str],
    purpose: Purpose,
) -> Result<Input<T>, Cause> {
    let common = input::Options {
        timeout: options.duration("timeoutMs", 1.0)?,
        warnings: options.unknown(&[own, &["timeoutMs"]].concat()),
        ..input::Options::default()
    };
    input::complete(input, what, common, purpose)
}

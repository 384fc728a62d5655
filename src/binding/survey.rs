//! The looks over all jobs, over one to come, and over the set-up itself: one native function for all, told apart by name. What they
//! return goes to JavaScript as JSON text (`js/survey.d.ts`).

use napi_derive::napi;
use serde::Serialize;
use serde_json::{Value, json};

use super::cancel::Token;
use super::drop_in::Answered;
use super::fields::Fields;
use super::input::{self, Input};
use super::output::milliseconds;
use super::progress::{Callback, Listener, ProgressEvent};
use super::provision::call;
use super::settings::Purpose;
use crate::provision::{self, Cause, Params, Patient, ProvisionError, Readable, metrics};

/// What this process has asked of the clouds so far, as JSON text: `{ requests, retries }`.
#[napi(js_name = "countRequests", catch_unwind)]
pub fn count_requests() -> String {
    let requests = metrics::requests().into_iter().map(|(kind, tally)| {
        json!({ "host": kind.host, "method": kind.method, "outcome": kind.outcome, "count": tally.count, "seconds": tally.time.as_secs_f64() })
    });
    json!({ "requests": requests.collect::<Vec<_>>(), "retries": metrics::retries() }).to_string()
}

/// What is asked.
enum Survey {
    List,
    Plan(Params),
    Doctor(Box<Patient>),
}

/// Looks, and changes nothing but for the doctor's auth key. `input` is JSON text: `{ survey, params, options, env }`. Never rejects for a
/// domain fault; the callbacks are those of `provisionVm`.
#[napi(js_name = "survey")]
pub async fn survey(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
) -> Answered {
    let listener = Listener::new(on_event, on_secret);
    let outcome = call(input, cancel.into(), listener, read, |what, settings, process, cancel, listener| async move {
        match what {
            Survey::List => process.list(&settings, cancel, listener).await.and_then(|list| text(&VmList::from(list))),
            Survey::Plan(params) => {
                process.plan(&params, &settings, cancel, listener).await.and_then(|plan| text(&Plan::from(plan)))
            }
            Survey::Doctor(patient) => {
                let found = process.diagnose(&patient, &settings, cancel, listener).await;
                found.and_then(|found| text(&Diagnosis::from(found)))
            }
        }
    });
    match outcome.await {
        Ok(text) => Answered { value: Some(text), fault: None },
        Err(error) => Answered { value: None, fault: Some((*error).into()) },
    }
}

fn text(what: &impl Serialize) -> Result<String, Box<ProvisionError>> {
    let broken = |_| ProvisionError::at_the_door(Cause::Internal("the answer cannot be written as JSON".to_owned()));
    serde_json::to_string(what).map_err(broken)
}

fn read(text: &str) -> Result<Input<Survey>, Cause> {
    let input = input::parse(text)?;
    match input.get("survey").and_then(Value::as_str) {
        Some("plan") => {
            let params = input::read_params(input.get("params"))?;
            let (options, _) = input::read_options(input.get("options"), &[])?;
            input::complete(&input, Survey::Plan(params), options, Purpose::Plan)
        }
        Some("doctor") => read_doctor(&input),
        _ => {
            let options = Fields::new("options", Some(input::options_of(&input)))?;
            let common = input::Options {
                timeout: options.duration("timeoutMs", 1.0)?,
                warnings: options.unknown(&["timeoutMs"]),
                ..input::Options::default()
            };
            input::complete(&input, Survey::List, common, Purpose::Hetzner)
        }
    }
}

/// Settings that cannot be read are what a doctor is asked about. So what each cloud needs of them is read apart.
fn read_doctor(input: &Value) -> Result<Input<Survey>, Cause> {
    let fields = Fields::new("params", input.get("params"))?;
    let region = input::read_region(&fields)?;
    let healthy = Patient { region, complaints: Vec::new(), knows: Readable::ALL };
    let (options, _) = input::read_options(input.get("options"), &[])?;
    let ask = |input: &Value, options, purpose| {
        input::complete(input, Survey::Doctor(Box::new(healthy.clone())), options, purpose)
    };
    let complaint = match ask(input, options, Purpose::Provision) {
        Err(cause @ Cause::Setting { .. }) => cause,
        outcome => return outcome,
    };
    let mut complaints = vec![complaint];
    let mut apart = |purpose| {
        let (mut input, mut obstacle) = (input.clone(), None);
        loop {
            let (options, _) = input::read_options(input.get("options"), &[])?;
            let cause = match ask(&input, options, purpose) {
                Err(cause @ Cause::Setting { .. }) => cause,
                // With an obstacle the rest was read for its complaints alone.
                Ok(read) => return obstacle.map_or(Ok(read), Err),
                refused => return refused,
            };
            let Cause::Setting { setting, .. } = &cause else { return Err(cause) };
            // What is missing is named together.
            if complaints.iter().all(|known| !known.to_string().contains(setting.as_str())) {
                complaints.push(cause.clone());
            }
            // Where a proxy is wanted, no request may go out beside it.
            if is_proxy(setting) && purpose != Purpose::Nothing {
                obstacle.get_or_insert_with(|| cause.clone());
            }
            if !is_of_others(setting, purpose) || !drop_setting(&mut input, setting) {
                return Err(cause);
            }
        }
    };
    let (keys, image, auth_key) = (apart(Purpose::Keys), apart(Purpose::Image), apart(Purpose::AuthKey));
    let mut knows = Readable { keys: keys.is_ok(), image: image.is_ok(), auth_key: auth_key.is_ok(), ..Readable::ALL };
    let ssh_keys = keys.as_ref().ok().map(|keys| keys.settings.ssh_keys.clone());
    let hetzner = image.or(keys).or_else(|_| apart(Purpose::Hetzner));
    let tailscale = auth_key.or_else(|_| apart(Purpose::Tailscale));
    (knows.hetzner, knows.tailscale) = (hetzner.is_ok(), tailscale.is_ok());
    let mut read = match (hetzner, tailscale) {
        (Ok(mut both), Ok(tailscale)) => {
            both.settings.tailscale_url = tailscale.settings.tailscale_url;
            both.settings.tailscale_credentials = tailscale.settings.tailscale_credentials;
            both.settings.auth_key = tailscale.settings.auth_key;
            both
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => one,
        (Err(_), Err(_)) => apart(Purpose::Nothing)?,
    };
    read.settings.ssh_keys = ssh_keys.unwrap_or_default();
    read.what = Survey::Doctor(Box::new(Patient { complaints, knows, ..healthy }));
    Ok(read)
}

/// Whether a purpose has no need of a setting, and can be served without it: what is another cloud's, and what is no cloud's own.
fn is_of_others(setting: &str, purpose: Purpose) -> bool {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| setting.starts_with(prefix));
    let (hetzner, tailscale) = (begins(&["HETZNER_"]), begins(&["TAILSCALE_", "ACTIONS_"]));
    match purpose {
        Purpose::Nothing => true,
        Purpose::Tailscale | Purpose::AuthKey => !tailscale,
        _ => !hetzner,
    }
}

fn is_proxy(setting: &str) -> bool {
    setting.to_ascii_lowercase().ends_with("_proxy")
}

/// Takes a variable out of the environment, with the one that goes with it; whether it was there.
fn drop_setting(input: &mut Value, setting: &str) -> bool {
    let Some(environment) = input.get_mut("env").and_then(Value::as_object_mut) else { return false };
    if setting.starts_with("BOOT_REPORT_") {
        environment.remove("BOOT_REPORT_URL");
        environment.remove("BOOT_REPORT_SECRET");
        return true;
    }
    environment.remove(setting).is_some()
}

#[derive(Serialize)]
struct Requests {
    hetzner: u32,
    tailscale: u32,
}

impl From<(u32, u32)> for Requests {
    fn from((hetzner, tailscale): (u32, u32)) -> Self {
        Self { hetzner, tailscale }
    }
}

#[derive(Serialize)]
struct Price {
    hourly: String,
    monthly: String,
}

impl From<provision::Price> for Price {
    fn from(price: provision::Price) -> Self {
        Self { hourly: price.hourly, monthly: price.monthly }
    }
}

#[derive(Serialize)]
struct VmList {
    vms: Vec<Vm>,
    warnings: Vec<String>,
    requests: Requests,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Vm {
    job_id: String,
    agent_id: String,
    state: &'static str,
    server_id: u64,
    server_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_ip: Option<String>,
    server_type: String,
    location: String,
    server_status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    age_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_so_far: Option<String>,
}

impl From<provision::VmList> for VmList {
    fn from(list: provision::VmList) -> Self {
        let vms = list.vms.into_iter().map(Vm::from).collect();
        Self { vms, warnings: list.warnings, requests: list.requests.into() }
    }
}

impl From<provision::Vm> for Vm {
    fn from(vm: provision::Vm) -> Self {
        Self {
            job_id: vm.job,
            agent_id: vm.agent,
            state: vm.state.as_str(),
            server_id: vm.server.id.0,
            server_ip: vm.server.addresses.main().map(|ip| ip.to_string()),
            server_name: vm.server.name,
            server_type: vm.server.server_type,
            location: vm.server.location,
            server_status: vm.server.status,
            node_id: vm.node_id,
            age_ms: milliseconds(vm.age),
            expires_in_ms: vm.expires_in.map(milliseconds),
            price: vm.price.map(Price::from),
            cost_so_far: vm.cost,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    action: &'static str,
    server_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_id: Option<u64>,
    image: String,
    uses_snapshot: bool,
    locations: Vec<String>,
    candidates: Vec<Planned>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
    tags: Vec<String>,
    ephemeral: bool,
    warnings: Vec<String>,
    requests: Requests,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned {
    server_type: String,
    location: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
    in_stock: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl From<provision::Plan> for Plan {
    fn from(plan: provision::Plan) -> Self {
        let candidate = |planned: provision::Planned| Planned {
            server_type: planned.candidate.server_type,
            location: planned.candidate.location,
            price: planned.price.map(Price::from),
            in_stock: planned.is_in_stock,
            refused: planned.candidate.refused,
        };
        Self {
            action: plan.intent.as_str(),
            price: plan.price().cloned().map(Price::from),
            server_name: plan.server_name,
            server_id: plan.server_id,
            image: plan.image.to_string(),
            uses_snapshot: plan.uses_snapshot,
            locations: plan.locations,
            candidates: plan.candidates.into_iter().map(candidate).collect(),
            tags: plan.tags,
            ephemeral: plan.ephemeral,
            warnings: plan.warnings,
            requests: plan.requests.into(),
        }
    }
}

#[derive(Serialize)]
struct Diagnosis {
    healthy: bool,
    checks: Vec<Check>,
    requests: Requests,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    verdict: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<provision::Diagnosis> for Diagnosis {
    fn from(found: provision::Diagnosis) -> Self {
        let check = |check: provision::Check| Check {
            name: check.name,
            verdict: check.verdict.as_str(),
            what: check.what,
            code: check.code.map(provision::Code::as_str),
            hint: check.hint,
        };
        Self {
            healthy: found.is_healthy(),
            checks: found.checks.into_iter().map(check).collect(),
            requests: found.requests.into(),
        }
    }
}

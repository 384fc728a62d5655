//! The functions of the app's old modules: one native function for all of them, told apart by name.
//!
//! What they answer goes to JavaScript as JSON text, for much of it is the clouds' own documents.

use std::time::Duration;

use napi_derive::napi;
use serde_json::{Value, json};

use super::cancel::Token;
use super::extras;
use super::fields::{Fields, LARGEST_ID, unsupported};
use super::input::{self, Input};
use super::output::Fault;
use super::progress::{Callback, Listener, ProgressEvent};
use super::provision::call;
use super::settings::Purpose;
use crate::provision::settings::{Document, NodeId};
use crate::provision::{self, Answer, Cause, Operation, Polling, ProvisionError, USUAL_TIMEOUT};
use crate::secret::Secret;

/// How a call ended: with a value, with none, or with a fault.
#[napi(object)]
pub struct Answered {
    /// JSON text.
    pub value: Option<String>,
    /// What went wrong.
    pub fault: Option<Fault>,
}

/// Hetzner's limit for user data, in bytes.
const LARGEST_USER_DATA: usize = 32 * 1024;
/// Answers are read up to this length, so a longer name would not be known again.
const LONGEST_NAME: usize = 200;
/// An action of a stock image takes seconds, one of a snapshot minutes.
const ACTION: Polling = Polling { looks: 150, interval: Duration::from_secs(2) };
/// A first boot takes half a minute on a good day.
const DEVICE: Polling = Polling { looks: 60, interval: Duration::from_secs(5) };
/// Time for a server to be ordered, to boot and to join.
const KEY_SECONDS: u64 = 3600;

/// Carries out one operation. `input` is JSON text: `{ operation, args, options, env }`. Never rejects for a domain fault;
/// the callbacks are those of `provisionVm`.
#[napi(js_name = "perform")]
pub async fn perform(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
) -> Answered {
    let listener = Listener::new(on_event, on_secret);
    let outcome = call(input, cancel.into(), listener, read, |what, settings, process, cancel, listener| async move {
        process.perform(&what, &settings, cancel, listener).await
    });
    outcome.await.into()
}

/// The first-boot document. `input` is JSON text: `{ params, options, isSnapshot }`.
#[napi(js_name = "renderFirstBoot", catch_unwind)]
pub fn render_first_boot(input: String) -> Answered {
    let rendered = read_first_boot(&input);
    drop(input);
    let document = rendered.map(|text| Answer::Document(Document::new(json!(text.expose()).to_string())));
    document.map_err(ProvisionError::at_the_door).into()
}

impl From<Result<Answer, Box<ProvisionError>>> for Answered {
    fn from(outcome: Result<Answer, Box<ProvisionError>>) -> Self {
        let value = match outcome {
            Err(error) => return Self { value: None, fault: Some((*error).into()) },
            Ok(Answer::Nothing) => None,
            Ok(Answer::Document(document)) => Some(document.text().to_owned()),
            Ok(Answer::AccessToken(token)) => Some(json!(token.expose()).to_string()),
            Ok(Answer::AuthKey { key, id }) => Some(json!({ "key": key.expose(), "id": id }).to_string()),
            Ok(Answer::Device { ip, device_id, node_id }) => {
                let device = json!({ "tailscaleIp": ip.to_string(), "deviceId": device_id, "nodeId": node_id });
                Some(device.to_string())
            }
        };
        Self { value, fault: None }
    }
}

fn read(text: &str) -> Result<Input<Operation>, Cause> {
    let input = input::parse(text)?;
    let name = input.get("operation").and_then(Value::as_str).unwrap_or_default();
    let args = Fields::new("", input.get("args"))?;
    let options = Fields::new("options", Some(input::options_of(&input)))?;
    let id = || args.required("id", args.whole("id", 1, LARGEST_ID)?);
    let (operation, purpose, own): (_, _, &[&'static str]) = match name {
        "createServer" => (create_server(&input)?, Purpose::Hetzner, &[]),
        "waitForAction" => (
            Operation::WaitForAction(id()?, polling(&options, ACTION)?),
            Purpose::Hetzner,
            &["maxRetries", "intervalMs"],
        ),
        "deleteServer" => (Operation::DeleteServer(id()?), Purpose::Hetzner, &[]),
        "shutdownServer" => (Operation::ShutDown(id()?), Purpose::Hetzner, &[]),
        "powerOnServer" => (Operation::PowerOn(id()?), Purpose::Hetzner, &[]),
        "powerOffServer" => (Operation::PowerOff(id()?), Purpose::Hetzner, &[]),
        "getOAuthToken" => (Operation::GetAccessToken, Purpose::Tailscale, &[]),
        "createAuthKey" => {
            // At most what Tailscale takes: 90 days.
            let life = options.whole("expirySeconds", 60, 7_776_000)?.unwrap_or(KEY_SECONDS);
            let own = &["ephemeral", "expirySeconds"];
            (Operation::CreateAuthKey(Duration::from_secs(life)), Purpose::Tailscale, own)
        }
        "verifyEnrollment" => {
            let hostname = args.required("hostname", args.text("hostname")?)?;
            if !is_hostname(&hostname) {
                return Err(args.refuse("hostname", "must be a host name of letters, digits and hyphens"));
            }
            let operation = Operation::VerifyEnrollment(hostname, polling(&options, DEVICE)?);
            (operation, Purpose::Tailscale, &["maxRetries", "intervalMs"])
        }
        "listDevices" => (Operation::ListDevices, Purpose::Tailscale, &[]),
        "deleteDevice" => {
            let text = args.required("id", args.text("id")?)?;
            let id = NodeId::parse(&text).ok_or_else(|| args.refuse("id", "must be the id of a device"))?;
            (Operation::DeleteDevice(id), Purpose::Tailscale, &[])
        }
        "findDeviceByIp" => {
            let text = args.required("ip", args.text("ip")?)?;
            let ip = text.trim().parse().map_err(|_| args.refuse("ip", "must be an IP address"))?;
            (Operation::FindDevice(ip), Purpose::Tailscale, &[])
        }
        _ => return Err(Cause::Internal("the operation is unknown".to_owned())),
    };
    // Who asks for more looks than fit into the usual time wants that time.
    let polled = match operation {
        Operation::WaitForAction(_, polling) | Operation::VerifyEnrollment(_, polling) => polling.length(),
        _ => Duration::ZERO,
    };
    let common = input::Options {
        timeout: options.duration("timeoutMs", 1.0)?.or(Some(polled).filter(|length| *length > USUAL_TIMEOUT)),
        ephemeral: if own.contains(&"ephemeral") { options.flag("ephemeral")? } else { None },
        warnings: options.unknown(&[own, &["timeoutMs"]].concat()),
        ..input::Options::default()
    };
    input::complete(&input, operation, common, purpose)
}

/// The body of Hetzner's own request. Hetzner judges it; here it only has to be findable and sendable.
fn create_server(input: &Value) -> Result<Operation, Cause> {
    let config = input.get("args").and_then(|args| args.get("config"));
    let fields = Fields::new("config", config)?;
    let name = fields.required("name", fields.text("name")?)?;
    if !name.split('.').all(is_hostname) || name.len() > LONGEST_NAME {
        let why = format!("must be a host name of at most {LONGEST_NAME} letters, digits, hyphens and dots");
        return Err(fields.refuse("name", why));
    }
    if fields.text("user_data")?.is_some_and(|text| text.len() > LARGEST_USER_DATA) {
        return Err(fields.refuse("user_data", "must be at most 32768 bytes"));
    }
    if let Some(labels) = config.and_then(|config| config.get("labels")).filter(|labels| !labels.is_null()) {
        Fields::new("config.labels", Some(labels))?;
    }
    let config = config.unwrap_or(&Value::Null);
    match unsupported(config, "config") {
        Some(field) => Err(Cause::Input { field, why: "expected plain data".to_owned() }),
        None => Ok(Operation::CreateServer { name, order: Document::new(config.to_string()) }),
    }
}

fn polling(options: &Fields<'_>, usual: Polling) -> Result<Polling, Cause> {
    let looks = options.whole("maxRetries", 1, 100_000)?.and_then(|looks| u32::try_from(looks).ok());
    let interval = options.duration("intervalMs", 1.0)?;
    Ok(Polling { looks: looks.unwrap_or(usual.looks), interval: interval.unwrap_or(usual.interval) })
}

fn read_first_boot(text: &str) -> Result<Secret, Cause> {
    let input = input::parse(text)?;
    let params = Fields::new("params", input.get("params"))?;
    let key = Secret::new(params.required("tailscaleAuthKey", params.text("tailscaleAuthKey")?)?);
    let hostname = params.required("hostname", params.text("hostname")?)?;
    let is_snapshot = input.get("isSnapshot").and_then(Value::as_bool).unwrap_or_default();
    let options = Fields::new("options", Some(input::options_of(&input)))?;
    let (package, additions) = extras::first_boot(&options)?;
    provision::render_first_boot(&hostname, &key, (!is_snapshot).then_some(&package), &additions)
}

/// One label of a host name.
fn is_hostname(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

//! The exported functions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use napi_derive::napi;

use super::cancel::Cancel;
use super::input::{self, Input};
use super::output::{Reaping, Settled};
use super::progress::{Callback, Listener, ProgressEvent};
use super::{log, settings};
use crate::provision::settings::Network;
use crate::provision::{CancellationToken, Cause, Outcome, ProvisionError, Provisioner, ReapReport, Settings};

/// One client per way to the network, shared by all calls of the process: it holds the connections.
static CLIENTS: Mutex<BTreeMap<Network, Provisioner>> = Mutex::new(BTreeMap::new());

/// Provisions one VM. `input` is JSON text: `{ params, options, env }`. Never rejects for a domain fault.
///
/// Each callback is called with `null` when it has had everything.
#[napi(js_name = "provisionVm")]
pub async fn provision_vm(
    input: String,
    cancel: &Cancel,
    #[napi(ts_arg_type = "(event: ProgressEvent | null) => void")] on_event: Callback<ProgressEvent>,
    #[napi(ts_arg_type = "(secret: string | null) => void")] on_secret: Callback<String>,
) -> Settled {
    let listener = Arc::new(Listener { on_event, on_secret });
    let outcome = outlive(run(input, cancel.token(), listener.clone())).await;
    listener.flush().await;
    outcome.into()
}

/// Finds what dead attempts left, and finishes or removes it. `input` is JSON text: `{ options, env }`. Never rejects
/// for a domain fault; the callbacks are those of `provisionVm`.
#[napi(js_name = "reap")]
pub async fn reap(
    input: String,
    cancel: &Cancel,
    #[napi(ts_arg_type = "(event: ProgressEvent | null) => void")] on_event: Callback<ProgressEvent>,
    #[napi(ts_arg_type = "(secret: string | null) => void")] on_secret: Callback<String>,
) -> Reaping {
    let listener = Arc::new(Listener { on_event, on_secret });
    let outcome = outlive(run_reap(input, cancel.token(), listener.clone())).await;
    listener.flush().await;
    outcome.into()
}

/// The names of the environment variables that a call may read.
#[napi(js_name = "settingNames")]
pub fn setting_names() -> Vec<String> {
    settings::NAMES.iter().map(|name| (*name).to_owned()).collect()
}

async fn run(input: String, cancel: CancellationToken, listener: Arc<Listener>) -> Outcome {
    let read = input::read(&input).map_err(ProvisionError::at_the_door);
    // The text holds the secrets of the environment; it is not kept for the length of the job.
    drop(input);
    let (params, settings, process) = prepare(read?)?;
    process.provision(&params, &settings, cancel, listener).await
}

async fn run_reap(
    input: String,
    cancel: CancellationToken,
    listener: Arc<Listener>,
) -> Result<ReapReport, Box<ProvisionError>> {
    let read = input::read_reap(&input).map_err(ProvisionError::at_the_door);
    drop(input);
    let (options, settings, process) = prepare(read?)?;
    process.reap(options, &settings, cancel, listener).await
}

/// What a call needs: what it is about, its settings, and the client for its way to the network.
pub(super) fn prepare<T>(input: Input<T>) -> Result<(T, Settings, Provisioner), Box<ProvisionError>> {
    let Input { what, mut settings, network, log_filter } = input;
    settings.warnings.extend(log_filter.and_then(|filter| log::set_filter(&filter)));
    Ok((what, settings, client(network)?))
}

fn client(network: Network) -> Result<Provisioner, Box<ProvisionError>> {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(&network) {
        return Ok(client.clone());
    }
    let client = Provisioner::live(&network)?;
    clients.insert(network, client.clone());
    Ok(client)
}

/// Runs a call as a task of its own, so that a panic in it becomes a fault.
#[expect(clippy::disallowed_methods, reason = "the one place where tasks start")]
pub(super) async fn outlive<T: Send + 'static>(
    call: impl Future<Output = Result<T, Box<ProvisionError>>> + Send + 'static,
) -> Result<T, Box<ProvisionError>> {
    let crash = |_| ProvisionError::at_the_door(Cause::Internal("the call broke down".to_owned()));
    tokio::spawn(call).await.unwrap_or_else(|broken| Err(crash(broken)))
}

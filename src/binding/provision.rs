//! The exported functions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use napi_derive::napi;

use super::cancel::Cancel;
use super::input::{self, Input};
use super::output::Settled;
use super::progress::{Callback, Listener, ProgressEvent};
use super::{log, settings};
use crate::provision::settings::Network;
use crate::provision::{CancellationToken, Cause, Observer, ProvisionError, Provisioned, Provisioner};

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

/// The names of the environment variables that a call may read.
#[napi(js_name = "settingNames")]
pub fn setting_names() -> Vec<String> {
    settings::NAMES.iter().map(|name| (*name).to_owned()).collect()
}

async fn run(
    input: String,
    cancel: CancellationToken,
    listener: Arc<Listener>,
) -> Result<Provisioned, Box<ProvisionError>> {
    let read = input::read(&input).map_err(ProvisionError::at_the_door);
    // The text holds the secrets of the environment; it is not kept for the length of the job.
    drop(input);
    let Input { params, mut settings, network, log_filter } = read?;
    settings.warnings.extend(log_filter.and_then(|filter| log::set_filter(&filter)));
    client(network)?.provision(&params, &settings, cancel, listener as Arc<dyn Observer>).await
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
async fn outlive(
    call: impl Future<Output = Result<Provisioned, Box<ProvisionError>>> + Send + 'static,
) -> Result<Provisioned, Box<ProvisionError>> {
    let crash = |_| ProvisionError::at_the_door(Cause::Internal("the call broke down".to_owned()));
    tokio::spawn(call).await.unwrap_or_else(|broken| Err(crash(broken)))
}

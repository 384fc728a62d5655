//! The exported functions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use napi_derive::napi;

use super::cancel::Token;
use super::input::{self, Input};
use super::output::{Reaping, Settled};
use super::progress::{Callback, Listener, ProgressEvent};
use super::{log, settings};
use crate::provision::settings::Network;
use crate::provision::{CancellationToken, Cause, Progress, ProvisionError, Provisioner, Settings};

/// One client per way to the network, shared by all calls of the process: it holds the connections.
static CLIENTS: Mutex<BTreeMap<Network, Provisioner>> = Mutex::new(BTreeMap::new());

/// Provisions one VM, or begins to, as `options.wait` says. `input` is JSON text: `{ params, options, env }`. Never rejects
/// for a domain fault.
///
/// Each callback is called with `null` when it has had everything.
#[napi(js_name = "provisionVm")]
pub async fn provision_vm(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
) -> Settled {
    let listener = Listener { on_event, on_secret };
    let outcome =
        call(input, cancel.into(), listener, input::read, |what, settings, process, cancel, listener| async move {
            if what.waits {
                let done = process.provision(&what.params, &settings, cancel, listener).await?;
                return Ok(Progress::Ready(Box::new(done)));
            }
            process.begin(&what.params, &settings, cancel, listener).await
        });
    outcome.await.into()
}

/// Finds what dead attempts left, and finishes or removes it. `input` is JSON text: `{ options, env }`. Never rejects
/// for a domain fault; the callbacks are those of `provisionVm`.
#[napi(js_name = "reap")]
pub async fn reap(
    input: String,
    #[napi(ts_arg_type = "Cancel")] cancel: Token,
    #[napi(ts_arg_type = "((event: ProgressEvent | null) => void) | null")] on_event: Option<Callback<ProgressEvent>>,
    #[napi(ts_arg_type = "((secret: string | null) => void) | null")] on_secret: Option<Callback<String>>,
) -> Reaping {
    let listener = Listener { on_event, on_secret };
    let outcome = call(
        input,
        cancel.into(),
        listener,
        input::read_reap,
        |what, settings, process, cancel, listener| async move { process.reap(what, &settings, cancel, listener).await },
    );
    outcome.await.into()
}

/// The names of the environment variables that a call may read.
#[napi(js_name = "settingNames")]
pub fn setting_names() -> Vec<String> {
    settings::NAMES.iter().map(|name| (*name).to_owned()).collect()
}

/// One call: reads what it brings, does it as a task of its own, and ends when its listener has had everything.
pub(super) async fn call<
    I: Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T, Box<ProvisionError>>> + Send,
>(
    input: String,
    cancel: CancellationToken,
    listener: Listener,
    read: fn(&str) -> Result<Input<I>, Cause>,
    run: impl FnOnce(I, Settings, Provisioner, CancellationToken, Arc<Listener>) -> F + Send + 'static,
) -> Result<T, Box<ProvisionError>> {
    let listener = Arc::new(listener);
    let told = listener.clone();
    let outcome = outlive(async move {
        let read = read(&input).map_err(ProvisionError::at_the_door);
        // The text holds the secrets of the environment; it is not kept for the length of the job.
        drop(input);
        let (what, settings, process) = prepare(read?)?;
        run(what, settings, process, cancel, told).await
    });
    let outcome = outcome.await;
    listener.flush().await;
    outcome
}

/// What a call needs: what it is about, its settings, and the client for its way to the network.
fn prepare<T>(input: Input<T>) -> Result<(T, Settings, Provisioner), Box<ProvisionError>> {
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
async fn outlive<T: Send + 'static>(
    call: impl Future<Output = Result<T, Box<ProvisionError>>> + Send + 'static,
) -> Result<T, Box<ProvisionError>> {
    let crash = |_| ProvisionError::at_the_door(Cause::Internal("the call broke down".to_owned()));
    tokio::spawn(call).await.unwrap_or_else(|broken| Err(crash(broken)))
}

//! The exported functions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use napi_derive::napi;

use super::cancel::Token;
use super::input::{self, Input};
use super::output::{Reaping, Settled};
use super::progress::{Callback, Listener, ProgressEvent};
use super::{log, settings};
use crate::provision::settings::{BoxFuture, Network};
use crate::provision::{CancellationToken, Cause, Observer, Progress, ProvisionError, Provisioner, Settings};

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
    let listener = Listener::new(on_event, on_secret);
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
    let listener = Listener::new(on_event, on_secret);
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
    F: Future<Output = Result<T, Box<ProvisionError>>> + Send + 'static,
>(
    input: String,
    cancel: CancellationToken,
    listener: Arc<Listener>,
    read: fn(&str) -> Result<Input<I>, Cause>,
    run: impl FnOnce(I, Settings, Provisioner, CancellationToken, Arc<Listener>) -> F + Send + 'static,
) -> Result<T, Box<ProvisionError>> {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let read: Reader = Box::new(move |text| {
        let Input { what, settings, network, log_filter } = read(text)?;
        let what: Work = Box::new(move |settings, process, cancel, listener| {
            let run = run(what, settings, process, cancel, listener);
            Box::pin(async move {
                let done = run.await?;
                *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                Ok(())
            })
        });
        Ok(Input { what, settings, network, log_filter })
    });
    carry_out(input, cancel, &listener, read).await?;
    let done = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
    done.ok_or_else(broken_down)
}

/// Reads what a call brings, and makes of what it is about what is to be done. The same type for all calls, so what surrounds them is
/// compiled once.
type Reader = Box<dyn FnOnce(&str) -> Result<Input<Work>, Cause> + Send>;

type Work = Box<
    dyn FnOnce(
            Settings,
            Provisioner,
            CancellationToken,
            Arc<Listener>,
        ) -> BoxFuture<'static, Result<(), Box<ProvisionError>>>
        + Send,
>;

/// Runs a call as a task of its own, so that a panic in it becomes a fault, and waits until its listener has had everything.
#[expect(clippy::disallowed_methods, reason = "the one place where tasks start")]
async fn carry_out(
    input: String,
    cancel: CancellationToken,
    listener: &Arc<Listener>,
    read: Reader,
) -> Result<(), Box<ProvisionError>> {
    let outcome =
        tokio::spawn(work(input, cancel, listener.clone(), read)).await.unwrap_or_else(|_| Err(broken_down()));
    if let Some(tracer) = listener.tracer() {
        tracer.end(outcome.as_ref().err().map(|error| error.mishap()));
    }
    listener.flush().await;
    outcome
}

async fn work(
    input: String,
    cancel: CancellationToken,
    listener: Arc<Listener>,
    read: Reader,
) -> Result<(), Box<ProvisionError>> {
    if let Some(trace) = input::read_trace(&input) {
        listener.trace(trace);
    }
    let read = read(&input).map_err(ProvisionError::at_the_door);
    // The text holds the secrets of the environment; it is not kept for the length of the job.
    drop(input);
    let Input { what, mut settings, network, log_filter } = read?;
    let process = prepare(&mut settings, network, log_filter.as_deref())?;
    what(settings, process, cancel, listener).await
}

/// What a call needs beside its settings: the client for its way to the network.
fn prepare(
    settings: &mut Settings,
    network: Network,
    log_filter: Option<&str>,
) -> Result<Provisioner, Box<ProvisionError>> {
    settings.warnings.extend(log_filter.and_then(log::set_filter));
    client(network)
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

fn broken_down() -> Box<ProvisionError> {
    ProvisionError::at_the_door(Cause::Internal("the call broke down".to_owned()))
}

//! The runtime that carries calls out: tokio's, with one worker thread, begun by the first call.
//!
//! napi's own starts a thread for every core when the module is loaded, also in a process that only checks an argument; and one that
//! is handed to it serves until the last environment is gone, whereupon it starts its own after all. So it is told how to begin and to
//! end one instead.
//!
//! One worker, because calls wait: with 1,000 of them in flight one and two take the same processor time and memory, and what is
//! longest, reading a list of 5,000 devices, holds the others up by a tenth of a second.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use napi::bindgen_prelude::{AsyncRuntime, AsyncRuntimeRejection, AsyncRuntimeTask, register_async_runtime};
use napi::bindgen_prelude::{Error, Result, retain_current_module_for_unload_safety};
use tokio::runtime::{Builder, Handle, Runtime};

/// Names are looked up by functions that block, of few hosts.
const BLOCKING_THREADS: usize = 4;
/// How long the end of the last environment waits for threads. One that looks a name up may need longer; it goes on alone.
const JOIN_LIMIT: Duration = Duration::from_millis(100);

#[napi_derive::module_init]
fn register() {
    register_async_runtime(Begun(Mutex::new(None)));
}

/// The runtime, from the first call on, until the last environment is gone. Then the next call begins another.
struct Begun(Mutex<Option<Runtime>>);

// SAFETY: after `shutdown` nothing may run in an image that is no longer loaded. A thread that is not joined in time, or a waker
// that is kept elsewhere, would. So the image is pinned for the rest of the process before there is a runtime, as napi does it for
// its own.
#[expect(unsafe_code, reason = "a promise that napi wants in writing")]
unsafe impl AsyncRuntime for Begun {
    fn spawn(&self, task: AsyncRuntimeTask) -> std::result::Result<(), AsyncRuntimeRejection<AsyncRuntimeTask>> {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.is_none() {
            retain_current_module_for_unload_safety();
            match begin() {
                Ok(runtime) => *begun = Some(runtime),
                Err(error) => return Err(AsyncRuntimeRejection::new(task, Error::from_reason(error.to_string()))),
            }
        }
        if let Some(runtime) = &*begun {
            runtime.spawn(task);
        }
        Ok(())
    }

    fn block_on(&self, _future: Pin<&mut dyn Future<Output = ()>>) -> Result<()> {
        Err(Error::from_reason("nothing here blocks"))
    }

    fn shutdown(&self) -> Result<()> {
        let runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match runtime {
            Some(runtime) if Handle::try_current().is_err() => runtime.shutdown_timeout(JOIN_LIMIT),
            // Within a runtime nothing may wait for one.
            Some(runtime) => runtime.shutdown_background(),
            None => {}
        }
        Ok(())
    }
}

fn begin() -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).max_blocking_threads(BLOCKING_THREADS).thread_name("provision-vm").enable_all().build()
}

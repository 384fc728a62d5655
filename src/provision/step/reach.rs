//! Whether the machine can be reached: a TCP connection over the tailnet, for callers that are in it (design 6).
//!
//! That its device is connected says that the machine speaks to Tailscale, not that a policy lets anybody in, nor that its
//! service has started. A refused connection proves the way and no service, which may still be starting; so it is waited for
//! like one that has no answer.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::error::Cause;
use super::super::event::{Detail, Scope, Step};
use super::super::run::Run;
use crate::transport::{DialError, dial_within};

/// How long one attempt may take. One that the deadline finds under way is heard out.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Connects until it works, if that is asked for. Who does not wait tries once.
pub(in super::super) async fn wait(run: &Run<'_>, ip: Ipv4Addr) -> Result<(), Cause> {
    let Some(port) = run.settings.reach else { return Ok(()) };
    run.enter(Step::Reach);
    let (began, mut told) = (run.clock.now(), None);
    while let Err(why) = attempt(run, ip, port).await? {
        if told != Some(why.as_str()) {
            told = Some(why.as_str());
            let message = format!("Waiting: {ip}:{port} cannot be reached yet, {why}");
            run.tell(Scope::ProvisionVm, message, Detail::Waiting(why.as_str()));
        }
        let pace = pace(run.clock.now().duration_since(began));
        match if run.waits { run.pause(pace).await } else { Err(Cause::Deadline) } {
            Ok(()) => {}
            // Its service may have started since the last attempt (as M08 has it for the device).
            Err(Cause::Deadline) if run.waits && attempt(run, ip, port).await?.is_ok() => break,
            Err(Cause::Deadline) => return Err(Cause::NotReachable { ip, port, why }),
            Err(cause) => return Err(cause),
        }
    }
    run.say(Scope::ProvisionVm, format!("The machine was reached over the tailnet: {ip}:{port}"));
    Ok(())
}

/// Whether it can be reached now, or need not be.
pub(in super::super) async fn once(run: &Run<'_>, ip: Ipv4Addr) -> Result<bool, Cause> {
    match wait(run, ip).await {
        Ok(()) => Ok(true),
        Err(Cause::NotReachable { .. }) => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// One connection, which the caller's signal ends at once.
async fn attempt(run: &Run<'_>, ip: Ipv4Addr, port: u16) -> Result<Result<(), DialError>, Cause> {
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => Err(Cause::Aborted),
        outcome = dial_within(&*run.dial, ip, port, &run.clock, ATTEMPT) => Ok(outcome),
    }
}

/// Services mostly start within seconds of the join; the late ones are not hurried by asking.
fn pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        0..30 => Duration::from_secs(1),
        30..120 => Duration::from_secs(3),
        _ => Duration::from_secs(10),
    }
}

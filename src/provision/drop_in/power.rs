//! Power. An action's success says that a switch was pressed, no more; so the server itself is read until it stands as asked.

use std::time::Duration;

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::run::{Doing, Run};
use super::{Polling, not_found, wait};
use crate::hetzner::{HetznerError, PowerSwitch, Server, ServerId};
use crate::transport::{Instant, Judge, Opinion, Pace, sleep};

/// How long a machine may take to heed its power button.
const SHUTDOWN: Duration = Duration::from_secs(60);
/// How long a switch may take to show.
const SWITCHED: Duration = Duration::from_secs(60);
/// How long to wait for another action that holds the server.
const LOCKED: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const ACTION: Polling = Polling { looks: 60, interval: Duration::from_secs(1) };

const READING: &str = "the server could not be read";

/// Asks a machine to shut down; if it does not within a minute, its power is cut. Nothing but that minute leads to the
/// cut: trouble in between is an error.
pub(super) async fn shut_down(run: &Run<'_>, id: ServerId) -> Result<(), Cause> {
    run.enter(Step::Power);
    if read(run, id).await?.status == "off" {
        return Ok(());
    }
    warn_of_absence(run);
    press(run, id, PowerSwitch::Shutdown).await?;
    if is_by(run, id, "off", run.clock.now() + SHUTDOWN).await? {
        run.say(Scope::Hetzner, format!("Server is off: id={id}"));
        return Ok(());
    }
    run.warn(Scope::Hetzner, format!("Server {id} did not shut down within a minute; its power is cut"));
    cut(run, id).await
}

/// Switches a server on or off at once.
pub(super) async fn switch(run: &Run<'_>, id: ServerId, switch: PowerSwitch) -> Result<(), Cause> {
    run.enter(Step::Power);
    if switch != PowerSwitch::On {
        warn_of_absence(run);
        return cut(run, id).await;
    }
    press(run, id, switch).await?;
    reach(run, id, "running").await
}

async fn cut(run: &Run<'_>, id: ServerId) -> Result<(), Cause> {
    press(run, id, PowerSwitch::Off).await?;
    reach(run, id, "off").await
}

/// Tailscale removes an ephemeral device half an hour after it was last seen, or later, and its machine cannot join again.
fn warn_of_absence(run: &Run<'_>) {
    run.warn(
        Scope::Tailscale,
        "If the device of this server is ephemeral, it leaves the tailnet for good about half an hour after the machine went off; provision with ephemeral: false what is to be stopped and started",
    );
}

/// Presses a switch and waits until its action has ended.
async fn press(run: &Run<'_>, id: ServerId, switch: PowerSwitch) -> Result<(), Cause> {
    let end = run.clock.now() + LOCKED;
    let pressed = run.guard(async {
        loop {
            match run.hetzner.press(id, switch, run.within()).await {
                Err(error) if error.is_locked() && run.clock.now() < end => sleep(LOOK_AGAIN).await,
                Err(error) if error.is_not_found() => return Err(not_found("server", id)),
                outcome => return outcome.doing("the server's power could not be switched"),
            }
        }
    });
    let action = pressed.await?;
    let waited = wait::for_action(run, action.id, ACTION).await;
    run.enter(Step::Power);
    match waited {
        // An action that Hetzner has forgotten tells nothing; the server does.
        Err(Cause::NotFound(_)) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Waits until a server stands as asked.
async fn reach(run: &Run<'_>, id: ServerId, status: &str) -> Result<(), Cause> {
    if !is_by(run, id, status, run.clock.now() + SWITCHED).await? {
        return Err(Cause::ActionTimeout(format!("server {id} is not {status} a minute after it was switched")));
    }
    run.say(Scope::Hetzner, format!("Server is {status}: id={id}"));
    Ok(())
}

/// Whether a server stands as asked by then. Looks that fail for a passing reason are made again.
async fn is_by(run: &Run<'_>, id: ServerId, status: &str, end: Instant) -> Result<bool, Cause> {
    run.guard(async {
        let mut pace = Pace::default();
        loop {
            let trouble: Option<HetznerError> = match run.hetzner.find_server(id, run.within_a_look()).await {
                Ok(Some(server)) if server.status == status => return Ok(true),
                Ok(Some(_)) => None,
                Ok(None) => return Err(not_found("server", id)),
                Err(error) if error.opinion() == Opinion::Stop => return Err(error).doing(READING),
                Err(error) => Some(error),
            };
            match &trouble {
                Some(error) => pace.went_badly(error.opinion(), run.chance.fraction()),
                None => pace.went_well(),
            }
            if run.clock.now() >= end {
                // What could not be seen is no verdict on the machine.
                return trouble.map_or(Ok(false), |error| Err(error).doing(READING));
            }
            sleep(pace.next(LOOK_AGAIN)).await;
        }
    })
    .await
}

async fn read(run: &Run<'_>, id: ServerId) -> Result<Server, Cause> {
    let found = run.guard(async { run.hetzner.find_server(id, run.within()).await.doing(READING) }).await?;
    found.ok_or_else(|| not_found("server", id))
}

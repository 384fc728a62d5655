//! Deletes by an id. What is not there counts as deleted; what was there is read until it is gone.

use std::time::Duration;

use super::super::Failure;
use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::leftover::{Kind, Leftover};
use super::super::run::{Doing, Run};
use crate::hetzner::{HetznerError, ServerId};
use crate::tailscale::NodeId;
use crate::transport::sleep;

/// How long to wait for another action that holds the server.
const LOCKED: Duration = Duration::from_secs(60);
/// How long what was deleted may still show.
const STILL_SHOWN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Deletes a server.
pub(in super::super) async fn server(run: &Run<'_>, id: ServerId) -> Result<(), Failure> {
    run.enter(Step::Remove);
    let left = |cause: Cause| {
        let leftover = Leftover::unconfirmed(Kind::Server, cause.chain());
        (cause, vec![leftover.id(&id)])
    };
    let end = run.clock.now() + LOCKED;
    let mut is_protected = false;
    let deleted = run.guard(async {
        loop {
            match run.hetzner.delete_server(id, run.within()).await {
                Err(error) if error.is_locked() && run.clock.now() < end => sleep(LOOK_AGAIN).await,
                outcome => {
                    is_protected = outcome.as_ref().is_err_and(HetznerError::is_protected);
                    return outcome.doing("the server could not be deleted");
                }
            }
        }
    });
    let deleted = deleted.await;
    if is_protected && let Err(cause) = deleted {
        return Err((cause, vec![Leftover::exists(Kind::Server, "it is protected against deletion").id(&id)]));
    }
    if deleted.map_err(left)? {
        let gone = run.guard(async {
            let until = run.clock.now() + STILL_SHOWN;
            while run.hetzner.find_server(id, run.within()).await.doing("no read confirms the deletion")?.is_some() {
                if run.clock.now() >= until {
                    return Err(Cause::ActionTimeout(format!("Hetzner still shows server {id} after its deletion")));
                }
                sleep(LOOK_AGAIN).await;
            }
            Ok(())
        });
        gone.await.map_err(left)?;
    }
    run.removed(Scope::Hetzner, format!("Server deleted: id={id}"), Kind::Server, &id);
    Ok(())
}

/// Deletes a device.
pub(super) async fn device(run: &Run<'_>, id: &NodeId) -> Result<(), Failure> {
    run.enter(Step::Remove);
    let left = |cause: Cause| {
        let leftover = Leftover::unconfirmed(Kind::Device, cause.chain());
        (cause, vec![leftover.id(id)])
    };
    let deleted = run.guard(async {
        run.tailscale.delete_device(id, run.within()).await.doing("the device could not be deleted")?;
        let until = run.clock.now() + STILL_SHOWN;
        while run.tailscale.find_device(id, run.within()).await.doing("no read confirms the deletion")?.is_some() {
            if run.clock.now() >= until {
                return Err(Cause::ActionTimeout(format!("Tailscale still shows device {id} after its deletion")));
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    });
    deleted.await.map_err(left)?;
    run.removed(Scope::Tailscale, format!("Device removed: id={id}"), Kind::Device, &id);
    Ok(())
}

//! What is asked of Tailscale alone.

use std::net::IpAddr;
use std::time::Duration;

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::run::{Doing, Run};
use super::super::saga::Saga;
use super::super::step::auth_key::{self, FreshKey};
use super::Answer;
use crate::transport::Document;

const READING: &str = "the devices could not be read";

/// Mints an auth key for one machine. If its answer is lost, whatever that order made is revoked, and another one placed.
pub(super) async fn create_key(run: &Run<'_>, saga: &Saga, life: Duration) -> Result<Answer, Cause> {
    run.enter(Step::AuthKey);
    let attempt = run.begin_attempt();
    let FreshKey { text, key } = auth_key::mint(run, saga, &attempt, life).await?;
    run.say(Scope::Tailscale, "Tailscale auth key generated");
    if key.has_unseen_twin() {
        let message =
            "An order of an auth key got no answer: an unused key, whose text nobody has, may exist until it ends";
        run.warn(Scope::Tailscale, message);
    }
    let id = key.id.map(|id| id.0).unwrap_or_default();
    Ok(Answer::AuthKey { key: text, id })
}

pub(super) async fn list_devices(run: &Run<'_>) -> Result<Document, Cause> {
    run.enter(Step::Read);
    run.guard(async { run.tailscale.list_devices(run.within()).await.doing(READING) }).await
}

/// The device that has this address, if any.
pub(super) async fn find_device(run: &Run<'_>, ip: IpAddr) -> Result<Option<Document>, Cause> {
    run.enter(Step::Read);
    run.guard(async {
        let found = run.tailscale.find_devices_at(ip, run.within()).await.doing(READING)?;
        let Some(device) = found.first() else { return Ok(None) };
        run.tailscale.describe_device(&device.node_id, run.within()).await.doing(READING)
    })
    .await
}

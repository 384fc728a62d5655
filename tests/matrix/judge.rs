//! What must hold whatever went wrong: the oracle over the world's truth.

use std::collections::BTreeSet;

use provision_vm::provision::{Certainty, Kind, Leftover, ProvisionError, Provisioned};
use serde_json::Value;

use crate::scenario::{Call, Stage};
use crate::support::Truth;

/// Compensation has this long, and the process a second more to hand the result over.
pub const UNDO_MS: u64 = 61_000;
/// The worst that a call of ten minutes may cost, undo included.
pub const MOST_REQUESTS: [(&str, usize); 2] = [("hetzner", 140), ("tailscale", 260)];

/// Everything that must hold of a call and of the world that it leaves.
pub fn inspect(stage: &Stage, call: &Call) -> Vec<String> {
    let mut wrong = call.misfires.clone();
    let limit = u64::try_from(stage.settings.timeout.as_millis()).unwrap() + UNDO_MS;
    if call.length > limit {
        wrong.push(format!("settled after {} ms, the limit is {limit} ms", call.length));
    }
    for (api, most) in MOST_REQUESTS {
        let sent = call.log.iter().filter(|sent| sent.operation.starts_with(api)).count();
        if sent > most {
            wrong.push(format!("{sent} requests to {api}, {most} are allowed"));
        }
    }
    if let Some(panic) = &call.escaped {
        wrong.push(format!("a panic came through to the caller: {panic}"));
    }
    match &call.outcome {
        Some(Ok(done)) => wrong.extend(one_ready(&stage.before, &call.after, done).err()),
        Some(Err(error)) => wrong.extend(leftovers_exact(stage, &call.after, error)),
        None => {}
    }
    if let Some(Err(error)) = &call.other {
        wrong.push(format!("the other call failed: {error} {:?}", error.causes()));
    }
    wrong
}

/// One server, ready, whose machine is the device of the result; and no key that could let another one in.
pub fn one_ready(before: &Truth, truth: &Truth, done: &Provisioned) -> Result<(), String> {
    let servers = truth.servers();
    let [server] = servers.as_slice() else {
        return Err(format!("{} servers after success: {}", servers.len(), truth.0));
    };
    if server["id"] != done.server.id.0 || server["labels"]["state"] != "ready" {
        return Err(format!("the server is not the result's, or not ready: {server}"));
    }
    let devices = truth.devices();
    let device = devices.iter().find(|device| device["node_id"] == done.node_id.as_str());
    let Some(device) = device else { return Err(format!("the device of the result is not there: {}", truth.0)) };
    if server["node"] != device["node_id"] || device["ip"] != done.tailscale_ip.to_string() {
        return Err(format!("the device is not that server's machine: {server} {device}"));
    }
    let was_there = ids(&before.0["keys"], "id", |_| true);
    let loose = &ids(&truth.0["keys"], "id", |key| key["usable"] == true) - &was_there;
    let is_told = done.warnings.iter().any(|text| text.contains("may exist") || text.contains("could not be revoked"));
    if !loose.is_empty() && !is_told {
        return Err(format!("usable keys are left and not named: {loose:?}"));
    }
    Ok(())
}

/// What is there now and was not before is named, and nothing else is.
pub fn leftovers_exact(stage: &Stage, truth: &Truth, error: &ProvisionError) -> Vec<String> {
    let (before, now) = (&stage.before.0, &truth.0);
    let any = |_: &Value| true;
    let usable = |key: &Value| key["usable"] == true;
    let made = |list: &str, id: &str, counts: &dyn Fn(&Value) -> bool| -> BTreeSet<String> {
        &ids(&now[list], id, counts) - &ids(&before[list], id, any)
    };
    let others = stage.scenario.has_other();
    let mut wrong = Vec::new();
    for (kind, list, id, there) in [
        (Kind::Server, "servers", "id", made("servers", "id", &any)),
        (Kind::Device, "devices", "node_id", made("devices", "node_id", &any)),
        (Kind::AuthKey, "keys", "id", made("keys", "id", &usable)),
        (Kind::PrimaryIp, "primary_ips", "id", made("primary_ips", "id", &any)),
    ] {
        let named: Vec<&Leftover> = error.leftovers.iter().filter(|left| left.kind == kind).collect();
        // The other call's things are not ours to name.
        for id in there.iter().filter(|_| !others) {
            let is_named = named.iter().any(|left| left.id.as_ref().is_none_or(|named| named == id));
            // An address that is a named server's goes with it.
            let with_server = kind == Kind::PrimaryIp && error.leftovers.iter().any(|left| left.kind == Kind::Server);
            if !is_named && !with_server {
                wrong.push(format!("{} {id} is left and not named: {:?}", kind.as_str(), error.leftovers));
            }
        }
        let exists = ids(&now[list], id, any);
        for left in named.iter().filter(|left| left.certainty == Certainty::Exists) {
            if left.id.as_ref().is_none_or(|id| !exists.contains(id)) {
                wrong.push(format!("{left:?} is named and not there"));
            }
        }
    }
    wrong
}

fn ids(list: &Value, id: &str, counts: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let text = |item: &Value| item[id].as_str().map_or_else(|| item[id].to_string(), str::to_owned);
    list.as_array().unwrap().iter().filter(|item| counts(item)).map(text).collect()
}

//! What must hold whatever went wrong: the oracle over the world's truth.

use std::collections::BTreeSet;

use provision_vm::provision::{Certainty, Kind, Leftover, ProvisionError, Provisioned};
use serde_json::Value;

use crate::scenario::{Call, Stage};
use crate::support::Truth;

/// Compensation has this long, and the process a second more to hand the result over.
pub const UNDO_MS: u64 = 61_000;
/// The worst that a call of ten minutes may cost, undo included.
pub const MOST_REQUESTS: [(&str, usize); 2] = [("hetzner", 140), ("tailscale", 210)];

/// Everything that must hold of a call and of the world that it leaves.
pub fn inspect(stage: &Stage, call: &Call) -> Vec<String> {
    let mut wrong = call.misfires.clone();
    wrong.extend(spared(&stage.before, &call.after));
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
        Some(Err(error)) => wrong.extend(leftovers_exact(stage, call, &call.after, error)),
        None => {}
    }
    if let Some(Err(error)) = &call.other {
        wrong.push(format!("the other call failed: {error} {:?}", error.causes()));
    }
    wrong
}

/// What stood before the call and was not its to remove: whatever is ready, and every device but a removed server's.
pub fn spared(before: &Truth, after: &Truth) -> Vec<String> {
    let stands =
        |list: &str, name: &str, id: &Value| after.0[list].as_array().unwrap().iter().any(|item| item[name] == *id);
    let (servers, mut wrong) = (before.servers(), Vec::new());
    for server in &servers {
        if server["labels"]["state"] == "ready" && !stands("servers", "id", &server["id"]) {
            wrong.push(format!("a server that was ready before is gone: {server}"));
        }
    }
    for device in before.devices() {
        let node = &device["node_id"];
        let machine_of = servers.iter().find(|server| server["node"] == *node);
        let went_along = machine_of.is_some_and(|server| !stands("servers", "id", &server["id"]));
        if !went_along && !stands("devices", "node_id", node) {
            wrong.push(format!("a device that was there before is gone: {device}"));
        }
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

/// What is there now and was not before is named, and nothing else is; and each entry is as sure as it says.
pub fn leftovers_exact(stage: &Stage, call: &Call, truth: &Truth, error: &ProvisionError) -> Vec<String> {
    let mut wrong = Vec::new();
    for kind in [Kind::Server, Kind::Device, Kind::AuthKey, Kind::PrimaryIp] {
        let mut there = made(stage, truth, kind);
        // The other call's things are not ours to name.
        if stage.scenario.has_other() {
            there.clear();
        }
        let named: Vec<&Leftover> = error.leftovers.iter().filter(|left| left.kind == kind).collect();
        let (with_id, without): (Vec<&Leftover>, Vec<&Leftover>) = named.iter().partition(|left| left.id.is_some());
        there.retain(|id| with_id.iter().all(|left| left.id.as_ref() != Some(id)));
        // One that has no id covers one thing.
        let uncovered: Vec<&String> = there.iter().skip(without.len()).collect();
        // An address that is a named server's goes with it.
        let goes_along = kind == Kind::PrimaryIp && error.leftovers.iter().any(|left| left.kind == Kind::Server);
        if !uncovered.is_empty() && !goes_along {
            wrong.push(format!("{} {uncovered:?} left and not named: {:?}", kind.as_str(), error.leftovers));
        }
        for left in named {
            if let Some(why) = unjustified(call, truth, left, there.len()) {
                wrong.push(format!("{why}: {left:?}"));
            }
        }
    }
    wrong
}

/// What the call made of a kind and is still there; of keys, those that could let a machine in.
fn made(stage: &Stage, truth: &Truth, kind: Kind) -> BTreeSet<String> {
    let (list, id) = place(kind);
    let counts = |item: &Value| kind != Kind::AuthKey || item["usable"] == true;
    &ids(&truth.0[list], id, counts) - &ids(&stage.before.0[list], id, |_| true)
}

/// Where the truth tells of a kind, and under which name it has an id.
fn place(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Server => ("servers", "id"),
        Kind::Device => ("devices", "node_id"),
        Kind::AuthKey => ("keys", "id"),
        Kind::PrimaryIp => ("primary_ips", "id"),
    }
}

/// Why an entry says more, or less, than can be known. `unnamed` is how many things of its kind are there that no id names.
fn unjustified(call: &Call, truth: &Truth, left: &Leftover, unnamed: usize) -> Option<&'static str> {
    let struck = |operations: &[&str]| {
        call.log.iter().any(|sent| sent.struck && operations.iter().any(|part| sent.operation.contains(part)))
    };
    let (list, id) = place(left.kind);
    let is_there = left.id.as_ref().is_some_and(|named| ids(&truth.0[list], id, |_| true).contains(named));
    let token = "/oauth/token";
    match (left.certainty, left.kind) {
        (_, Kind::PrimaryIp) if left.id.is_none() => Some("an address is named without its id"),
        (Certainty::Exists, _) => (!is_there).then_some("it is named and not there"),
        // It was there, and then something went wrong with the requests that could have shown that it is gone.
        (Certainty::Unconfirmed, kind) => {
            let looks = match kind {
                // An undo that breaks down over the addresses takes what it knew of the server along.
                Kind::Server => ["/servers/*", "/primary_ips/*"],
                Kind::PrimaryIp => ["/primary_ips/*", "/servers/*"],
                Kind::Device => ["/device", token],
                Kind::AuthKey => ["/keys/*", token],
            };
            let is_known = left.id.is_some() && (is_there || struck(&looks));
            (!is_known).then_some("nothing kept the call from seeing that it is gone")
        }
        (Certainty::MayAppear, Kind::Server) => {
            (unnamed == 0 && !struck(&["POST /servers"])).then_some("every order of a server was answered")
        }
        (Certainty::MayAppear, Kind::AuthKey) => {
            (unnamed == 0 && !struck(&["POST /tailnet/-/keys"])).then_some("every order of a key was answered")
        }
        (Certainty::MayAppear, _) => {
            let is_used = |key: &Value| key["used"] == true;
            let joined = truth.0["keys"].as_array().unwrap().iter().any(is_used);
            (unnamed == 0 && !joined && !struck(&["/devices", token])).then_some("no machine can have joined unseen")
        }
    }
}

fn ids(list: &Value, id: &str, counts: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let text = |item: &Value| item[id].as_str().map_or_else(|| item[id].to_string(), str::to_owned);
    list.as_array().unwrap().iter().filter(|item| counts(item)).map(text).collect()
}

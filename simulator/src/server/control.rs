//! The control door: what is true, what goes wrong, and what nobody could ask the APIs for. `--help` lists it.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Door;
use crate::reply::json_reply;
use crate::{
    Config, Fault, FirstBoot, NotJoined, PlantedDevice, PlantedKey, PlantedServer, Unreached, World, first_boot,
};

impl Door {
    pub(super) fn control(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let body = request.body();
        let path = request.uri().path().trim_start_matches("/_sim/");
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method().as_str(), parts.as_slice()) {
            ("GET", ["health"]) => json_reply(200, &json!({ "ok": true })),
            ("GET", ["world"]) => json_reply(200, &self.world().snapshot()),
            ("GET", ["journal"]) => json_reply(200, &json!({ "journal": self.world().journal() })),
            ("GET", ["config"]) => done(serde_json::to_value(self.world().config()).map_err(|e| e.to_string())),
            ("PATCH", ["config"]) => done(self.patch(body)),
            ("POST", ["faults"]) => done(read::<Fault>(body).and_then(Fault::check).map(|fault| {
                self.world().inject(fault);
                json!({})
            })),
            ("DELETE", ["faults"]) => {
                self.world().clear_faults();
                json_reply(200, &json!({}))
            }
            ("POST", ["advance"]) => done(read::<Value>(body).and_then(|body| {
                let seconds = body["seconds"].as_f64().filter(|seconds| (0.0..=1e9).contains(seconds));
                let seconds = seconds.ok_or("seconds: expected a number from 0 to 1000000000")?;
                *self.jumped.lock().unwrap_or_else(PoisonError::into_inner) += Duration::from_secs_f64(seconds);
                Ok(self.world().snapshot())
            })),
            ("POST", ["servers"]) => {
                let server = read::<PlantedServer>(body).and_then(PlantedServer::check);
                done(server.map(|server| json!({ "id": self.world().plant_server(server) })))
            }
            ("POST", ["devices"]) => {
                done(read::<PlantedDevice>(body).map(|device| json!({ "nodeId": self.world().plant_device(device) })))
            }
            ("POST", ["keys"]) => {
                done(read::<PlantedKey>(body).map(|key| json!({ "key": self.world().plant_key(key) })))
            }
            ("PATCH", ["servers", id]) => done(read::<Value>(body).map(|change| {
                let labels = serde_json::from_value(change["labels"].clone()).ok();
                self.world().touch_server(id.parse().unwrap_or_default(), labels, change["protected"].as_bool());
                json!({})
            })),
            ("GET", ["reach", ip, port]) => done(self.reach(ip, port)),
            ("DELETE", ["servers", id]) => self.of_server(id, World::remove_server),
            ("POST", ["reset"]) => {
                let config = self.world().config().clone();
                let now = self.now();
                let mut world = World::new(Config { seed: config.seed, epoch: config.epoch, ..Config::default() });
                world.advance(now);
                *self.world() = world;
                json_reply(200, &json!({}))
            }
            _ => self.machines(request.method().as_str(), &parts, body),
        }
    }

    /// What concerns machines that a program outside plays, and what machines make of a document.
    fn machines(&self, method: &str, parts: &[&str], body: &[u8]) -> Response<Bytes> {
        let id = |id: &str| id.parse::<u64>().unwrap_or_default();
        match (method, parts) {
            ("PUT", ["metadata"]) => done(read::<Asking>(body).map(|asking| {
                self.world().ask_metadata_as(asking.server);
                json!({})
            })),
            ("GET", ["servers", server, "user-data"]) => {
                let world = self.world();
                if world.servers().any(|known| known.id == id(server)) {
                    json_reply(200, &json!({ "userData": world.user_data(id(server)) }))
                } else {
                    missing(&format!("there is no server {server}"))
                }
            }
            ("POST", ["servers", server, "join"]) => match read::<Joining>(body) {
                Ok(join) => match self.world().join(id(server), &join.auth_key, &join.hostname) {
                    Ok(joined) => json_reply(200, &json!({ "nodeId": joined.node, "ip": joined.ip })),
                    Err(NotJoined::NoMachine) => missing(&format!("no server {server} is running")),
                    Err(NotJoined::Refused(why)) => done(Err(why)),
                },
                Err(complaint) => done(Err(complaint)),
            },
            ("POST", ["servers", server, "off"]) => self.of_server(server, World::power_off),
            ("POST", ["first-boot"]) => done(read::<Document>(body).map(|document| document.first_boot())),
            _ => missing("no such control; see --help"),
        }
    }

    /// Does something to a server. To one that is gone it is done already.
    fn of_server(&self, id: &str, what: impl FnOnce(&mut World, u64)) -> Response<Bytes> {
        let id = id.parse().map_err(|_| format!("expected the id of a server, got {id}"));
        done(id.map(|id| {
            what(&mut self.world(), id);
            json!({})
        }))
    }

    fn reach(&self, ip: &str, port: &str) -> Result<Value, String> {
        let (ip, port) = (ip.parse().map_err(|_| "no IPv4 address")?, port.parse().map_err(|_| "no port")?);
        let outcome = self.world().reach(self.now(), ip, port);
        Ok(json!({ "outcome": outcome.err().map_or("open", Unreached::name) }))
    }

    fn patch(&self, body: &[u8]) -> Result<Value, String> {
        let mut world = self.world();
        let mut config = serde_json::to_value(world.config()).map_err(|error| error.to_string())?;
        merge(&mut config, read::<Value>(body)?);
        let config: Config = serde_json::from_value(config).map_err(|error| error.to_string())?;
        let shown = serde_json::to_value(&config).map_err(|error| error.to_string())?;
        world.configure(|old| *old = config);
        Ok(shown)
    }
}

/// Which server's machine asks the metadata server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    server: u64,
}

/// What `tailscale up` is given.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Joining {
    auth_key: String,
    #[serde(default)]
    hostname: String,
}

/// A first-boot document, and the name of the server that would get it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    user_data: Option<String>,
    name: String,
}

impl Document {
    /// What a machine makes of it. The key stays out of it.
    fn first_boot(&self) -> Value {
        let FirstBoot { join, log } = first_boot(self.user_data.as_deref(), &self.name);
        match join {
            Ok(plan) => json!({ "joins": true, "hostname": plan.hostname, "installs": plan.installs, "log": log }),
            Err(why) => json!({ "joins": false, "why": why, "log": log }),
        }
    }
}

fn done(outcome: Result<Value, String>) -> Response<Bytes> {
    match outcome {
        Ok(value) => json_reply(200, &value),
        Err(complaint) => json_reply(400, &json!({ "error": complaint })),
    }
}

fn missing(what: &str) -> Response<Bytes> {
    json_reply(404, &json!({ "error": what }))
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

//! The world behind the seam, and what tests ask it afterwards.
//!
//! [`Cloud`] is a world with its callers; whatever they do is audited (`audit/`), and a test panics at the end of its
//! world if an invariant was broken. `truth.rs` is what a test asks itself.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

pub mod audit;
mod changed;
mod cloud;
mod dial;
mod truth;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use provision_vm::hetzner::IdOrName;
use provision_vm::provision::settings::{Extras, Reporting};
use provision_vm::provision::{Code, Event, Observer, Params, Settings, Source, USUAL_SERVER_TYPES, USUAL_TIMEOUT};
use provision_vm::secret::Secret;
use provision_vm::tailscale::Credentials;
use provision_vm::transport::BaseUrl;
use simulator::{Api, Config, Fault, FaultKind, PlantedDevice};

pub use changed::{Changed, change_json};
pub use cloud::{Cloud, Process, Weather};
pub use truth::Truth;

pub use provision_vm::provision::Outcome;

/// How a call failed.
#[track_caller]
pub fn code(outcome: &Outcome) -> Code {
    outcome.as_ref().err().unwrap_or_else(|| panic!("the call succeeded")).cause.code()
}

/// Keeps everything that it is told.
#[derive(Default)]
pub struct Notebook {
    pub events: Mutex<Vec<Event>>,
    pub secrets: Mutex<Vec<String>>,
}

impl Observer for Notebook {
    fn event(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn secret(&self, secret: &Secret) {
        self.secrets.lock().unwrap().push(secret.expose().to_owned());
    }
}

impl Notebook {
    pub fn messages(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(|event| event.message.clone()).collect()
    }
}

/// Does something to the world when a call says a certain thing.
pub struct Meddler<F>(pub &'static str, pub F);

impl<F: Fn() + Send + Sync> Observer for Meddler<F> {
    fn event(&self, event: Event) {
        if event.message.starts_with(self.0) {
            self.1();
        }
    }

    fn secret(&self, _: &Secret) {}
}

/// A fault at the next so many requests of this kind.
pub fn fault(api: Api, method: &str, path: &str, times: u32, kind: FaultKind) -> Fault {
    Fault { api, method: Some(method.to_owned()), path: Some(path.to_owned()), skip: 0, times, kind }
}

/// An answer in the API's own form.
pub fn answer(status: u16, json: serde_json::Value, apply: bool) -> FaultKind {
    let (json, text, content_type, headers) = (Some(json), None, None, Vec::new());
    FaultKind::Answer { status, json, text, content_type, headers, apply }
}

/// A page that something between us and the API wrote.
pub fn page(status: u16, text: &str, apply: bool) -> FaultKind {
    let (json, text, content_type, headers) = (None, Some(text.to_owned()), None, Vec::new());
    FaultKind::Answer { status, json, text, content_type, headers, apply }
}

/// A tagged device that calls itself as the job's server does.
pub fn namesake(hostname: &str) -> PlantedDevice {
    PlantedDevice { hostname: hostname.to_owned(), tags: vec!["tag:agent".to_owned()], ..PlantedDevice::default() }
}

pub fn params() -> Params {
    Params { job_id: "job-1".to_owned(), agent_id: "550e8400-e29b".to_owned(), region: "us-east".to_owned() }
}

pub fn settings() -> Settings {
    let config = Config::default();
    let client = &config.tailscale.clients[0];
    Settings {
        hetzner_url: BaseUrl::parse("https://api.hetzner.cloud/v1").unwrap(),
        hetzner_token: Secret::new(config.hetzner.token.clone()),
        ssh_keys: vec![IdOrName::Id(4711)],
        tailscale_url: BaseUrl::parse("https://api.tailscale.com/api/v2").unwrap(),
        tailscale_credentials: Credentials::OAuth {
            client_id: client.id.clone(),
            client_secret: Secret::new(client.secret.clone()),
        },
        auth_key: None,
        allow_reusable_auth_key: false,
        source: Source::Image(IdOrName::Name("ubuntu-22.04".to_owned())),
        server_types: USUAL_SERVER_TYPES.iter().map(|name| (*name).to_owned()).collect(),
        ephemeral: true,
        extras: Extras::default(),
        strict_region: false,
        timeout: USUAL_TIMEOUT,
        lifetime: USUAL_TIMEOUT,
        reach: None,
        report: None,
        run: None,
        warnings: Vec::new(),
    }
}

/// Where the machines of some calls report.
pub fn reporting() -> Reporting {
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    Reporting { url: "https://app.example/boot?source=vm".to_owned(), secret }
}

pub fn with_timeout(seconds: u64) -> Settings {
    let time = Duration::from_secs(seconds);
    Settings { timeout: time, lifetime: time, ..settings() }
}

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

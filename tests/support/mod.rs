//! The world behind the seam, and what tests ask it afterwards.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use provision_vm::hetzner::IdOrName;
use provision_vm::provision::{
    CancellationToken, Event, Observer, Params, Provisioner, Settings, Source, USUAL_SERVER_TYPES, USUAL_TIMEOUT,
};
use provision_vm::secret::Secret;
use provision_vm::tailscale::Credentials;
use provision_vm::transport::{BaseUrl, Transport, TransportError};
use serde_json::Value;
use simulator::{Api, Config, Cut, Delivery, Fault, FaultKind, World};
use tokio::time::{Instant, sleep};

pub use provision_vm::provision::Outcome;

/// The simulator as a transport: no sockets, and time is tokio's paused clock.
#[derive(Clone)]
pub struct Cloud {
    world: Arc<Mutex<World>>,
    began: Instant,
}

impl Cloud {
    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
    pub fn new(config: Config) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(config))), began: Instant::now() }
    }

    pub fn usual() -> Self {
        Self::new(Config::default())
    }

    /// The world as it is now.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap();
        world.advance(self.began.elapsed());
        world
    }

    pub fn fault(&self, api: Api, method: &str, path: &str, kind: FaultKind) {
        let (method, path) = (Some(method.to_owned()), Some(path.to_owned()));
        self.world().inject(Fault { api, method, path, skip: 0, times: 1, kind });
    }

    pub fn truth(&self) -> Truth {
        Truth(self.world().snapshot())
    }

    /// A process of its own: it shares nothing with another but the clouds.
    pub fn process(&self, seed: u64) -> Provisioner {
        Provisioner::over(Arc::new(self.clone()), seed)
    }

    pub async fn provision(&self, settings: &Settings) -> Outcome {
        self.process(7).provision(&params(), settings, CancellationToken::new(), Arc::new(Notebook::default())).await
    }
}

impl Transport for Cloud {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let Delivery { after, outcome } = self.world().exchange(self.began.elapsed(), request);
            sleep(after).await;
            match outcome {
                Ok(response) => Ok(response),
                Err(Cut::Refused) => Err(TransportError::Refused { host }),
                Err(Cut::Dns) => Err(TransportError::Dns { host }),
                Err(Cut::ConnectTimeout) => Err(TransportError::ConnectTimeout { host }),
                Err(Cut::TlsInvalid) => Err(TransportError::Certificate { host, why: "expired".to_owned() }),
                Err(Cut::TlsCut) => Err(TransportError::Connect { host, why: "handshake cut".to_owned() }),
                Err(Cut::Reset) => Err(TransportError::Broken { host, why: "reset".to_owned() }),
                Err(Cut::Truncated(_)) => Err(TransportError::Broken { host, why: "body cut short".to_owned() }),
                Err(Cut::Hang) => std::future::pending().await,
            }
        })
    }
}

/// What is true in the world.
pub struct Truth(pub Value);

impl Truth {
    pub fn servers(&self) -> Vec<Value> {
        self.0["servers"].as_array().unwrap().clone()
    }

    pub fn devices(&self) -> Vec<Value> {
        self.0["devices"].as_array().unwrap().clone()
    }

    pub fn usable_keys(&self) -> usize {
        self.0["keys"].as_array().unwrap().iter().filter(|key| key["usable"] == true).count()
    }

    pub fn servers_ever(&self) -> u64 {
        self.0["servers_ever"].as_u64().unwrap()
    }

    pub fn requests(&self, api: &str) -> u64 {
        self.0["requests"][api].as_u64().unwrap()
    }

    pub fn faults_fired(&self) -> u64 {
        self.0["faults_fired"].as_u64().unwrap()
    }

    /// No server, no device, no address, no usable key.
    #[track_caller]
    pub fn assert_empty(&self) {
        assert!(self.servers().is_empty(), "servers are left: {}", self.0);
        assert!(self.devices().is_empty(), "devices are left: {}", self.0);
        assert!(self.0["primary_ips"].as_array().unwrap().is_empty(), "addresses are left: {}", self.0);
        assert_eq!(self.usable_keys(), 0, "usable keys are left: {}", self.0);
    }

    /// Exactly one server, ready, with its connected device, and no usable key.
    #[track_caller]
    pub fn assert_one_ready(&self, outcome: &Outcome) {
        let done = outcome.as_ref().unwrap_or_else(|error| panic!("{error}: {:?} {}", error.causes(), self.0));
        let [server] = self.servers().try_into().unwrap_or_else(|_| panic!("not one server: {}", self.0));
        assert_eq!(server["id"], done.server.id.0);
        assert_eq!(server["labels"]["state"], "ready");
        let device = self.devices().into_iter().find(|device| device["node_id"] == done.node_id.as_str()).unwrap();
        assert_eq!(server["node"], device["node_id"], "the device is not that server's machine");
        assert_eq!(device["ip"], done.tailscale_ip.to_string());
        assert_eq!(self.usable_keys(), 0, "usable keys are left: {}", self.0);
    }
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
        strict_region: false,
        timeout: USUAL_TIMEOUT,
        warnings: Vec::new(),
    }
}

pub fn with_timeout(seconds: u64) -> Settings {
    Settings { timeout: Duration::from_secs(seconds), ..settings() }
}

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

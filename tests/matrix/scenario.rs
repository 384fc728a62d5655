//! The calls that faults befall: each is a story that goes well, or fails in a known way, when nothing interferes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use provision_vm::hetzner::IdOrName;
use provision_vm::provision::{CancellationToken, Code, Event, Settings, Source, Step, USUAL_TIMEOUT};
use provision_vm::secret::Secret;
use provision_vm::tailscale::Credentials;
use provision_vm::transport::{BaseUrl, Transport as _};
use serde_json::{Value, json};
use simulator::{BootOutcome, Config};
use tokio::time::sleep;

use crate::support::{Cloud, Notebook, Outcome, Truth, params, settings, with_timeout};
use crate::wire::{Plan, Sent, Wire};

/// The deadline of a call that may take its time.
pub const DEADLINE: Duration = USUAL_TIMEOUT;
/// The deadline of a call that is meant to fail.
const SHORT: Duration = Duration::from_secs(40);
/// A dead attempt is past its end by then, whatever its deadline was.
pub const LONG_DEAD: Duration = Duration::from_secs(600 + 60 + 300 + 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    Succeeds,
    NeverJoins,
    Aborted,
    Follows,
    TakesOver,
    TakesJoined,
    Returned,
    Snapshot,
    GivenKey,
    Federated,
}

impl Scenario {
    pub const ALL: [Self; 10] = [
        Self::Succeeds,
        Self::NeverJoins,
        Self::Aborted,
        Self::Follows,
        Self::TakesOver,
        Self::TakesJoined,
        Self::Returned,
        Self::Snapshot,
        Self::GivenKey,
        Self::Federated,
    ];

    /// The story in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Succeeds => "a job that succeeds",
            Self::NeverJoins => "a job whose machine never joins, with its undo",
            Self::Aborted => "a call that is aborted when its machine has just joined, with its undo",
            Self::Follows => "a call that follows another one of the same job",
            Self::TakesOver => "a call that removes what a dead attempt left, and begins anew",
            Self::TakesJoined => "a call that finishes what a dead attempt left, since its machine joined",
            Self::Returned => "a call for a job that is done",
            Self::Snapshot => "a job from a snapshot",
            Self::GivenKey => "a job with the customer's TAILSCALE_AUTH_KEY",
            Self::Federated => "a job with workload identity instead of an OAuth client",
        }
    }

    /// How it ends when nothing interferes; `None` is success.
    pub fn natural_end(self) -> Option<Code> {
        match self {
            Self::NeverJoins => Some(Code::EnrollTimeout),
            Self::Aborted => Some(Code::Aborted),
            _ => None,
        }
    }

    pub fn deadline(self) -> Duration {
        if self == Self::NeverJoins { SHORT } else { DEADLINE }
    }

    /// Whether another call of the same job is at work beside it.
    pub fn has_other(self) -> bool {
        self == Self::Follows
    }

    fn config(self) -> Config {
        let mut config = steady();
        if matches!(self, Self::NeverJoins | Self::TakesOver) {
            config.machine.boot = BootOutcome::NeverJoins;
        }
        config
    }
}

/// A world whose times do not vary, so that a delay is the fault's and nothing else's. A machine joins after some 25 s.
pub fn steady() -> Config {
    let mut config = Config { latency_ms: (60, 60), ..Config::default() };
    config.hetzner.create_seconds = (5.0, 5.0);
    config.hetzner.start_seconds = (3.0, 3.0);
    config.machine.kernel_seconds = (7.0, 7.0);
    config.machine.install_seconds = (8.0, 8.0);
    config
}

/// A world in which a story is set up.
pub struct Stage {
    pub scenario: Scenario,
    pub cloud: Cloud,
    pub settings: Settings,
    pub before: Truth,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.cloud.finish();
    }
}

/// How a call ends from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It does not.
    None,
    /// The caller gives up after this time.
    Cancel(Duration),
    /// The process dies after this time: the call is dropped where it stands.
    Death(Duration),
}

/// A call that is over.
pub struct Call {
    /// `None` if its process died.
    pub outcome: Option<Outcome>,
    /// What a panic that got through to the caller said.
    pub escaped: Option<String>,
    pub log: Vec<Sent>,
    pub events: Vec<Event>,
    /// Milliseconds from its beginning to its end.
    pub length: u64,
    /// The world at that moment.
    pub after: Truth,
    /// Requests that did not meet what was planned for them.
    pub misfires: Vec<String>,
    /// What became of the other call, which nothing interferes with.
    pub other: Option<Outcome>,
}

impl Call {
    pub fn code(&self) -> Option<Code> {
        self.error().map(|error| error.cause.code())
    }

    pub fn error(&self) -> Option<&provision_vm::provision::ProvisionError> {
        self.outcome.as_ref().and_then(|outcome| outcome.as_ref().err()).map(|error| &**error)
    }

    /// When the undo began.
    pub fn undo_began(&self) -> Option<u64> {
        let event = self.events.iter().find(|event| event.step == Step::Undo);
        event.map(|event| u64::try_from(event.elapsed.as_millis()).unwrap())
    }

    pub fn struck(&self) -> usize {
        self.log.iter().filter(|sent| sent.struck).count()
    }
}

impl Stage {
    pub async fn set(scenario: Scenario) -> Self {
        Self::set_with(scenario, scenario.config()).await
    }

    pub async fn set_with(scenario: Scenario, config: Config) -> Self {
        let cloud = Cloud::new(config);
        let mut settings = Settings { timeout: scenario.deadline(), ..settings() };
        match scenario {
            Scenario::TakesOver | Scenario::TakesJoined => {
                let settings = with_timeout(DEADLINE.as_secs());
                let died = tokio::time::timeout(Duration::from_secs(10), cloud.provision(&settings)).await;
                assert!(died.is_err(), "the first attempt was over before it could die");
                sleep(LONG_DEAD).await;
                cloud.world().configure(|config| config.machine.boot = BootOutcome::Joins);
            }
            Scenario::Returned => {
                cloud.provision(&settings).await.unwrap();
            }
            Scenario::Snapshot => settings.source = Source::Snapshot(IdOrName::Id(301_000_001)),
            Scenario::GivenKey => settings.auth_key = Some(make_key(&cloud).await),
            Scenario::Federated => {
                let config = Config::default().tailscale;
                settings.tailscale_credentials = Credentials::Federated {
                    client_id: config.federated_id,
                    issuer: BaseUrl::parse_with_query("https://issuer.example/_sim/oidc/token?api-version=2.0")
                        .unwrap(),
                    issuer_token: Secret::new(config.issuer_token),
                };
            }
            Scenario::Succeeds | Scenario::NeverJoins | Scenario::Aborted | Scenario::Follows => {}
        }
        let before = cloud.truth();
        Self { scenario, cloud, settings, before }
    }

    /// The story's call, with what goes wrong in it.
    pub async fn call(&self, plan: Plan, ending: Ending) -> Call {
        let ending = match (self.scenario, ending) {
            (Scenario::Aborted, Ending::None) => Ending::Cancel(ABORT_AT),
            (_, ending) => ending,
        };
        if self.scenario != Scenario::Follows {
            return self.one_call(plan, ending, 7, None).await;
        }
        let other = self.cloud.process(1);
        let (params, settings) = (params(), Settings { timeout: DEADLINE, ..settings() });
        let other = other.provision(&params, &settings, CancellationToken::new(), Arc::new(Notebook::default()));
        let ours = async {
            sleep(Duration::from_secs(3)).await;
            self.one_call(plan, ending, 7, None).await
        };
        let (mut call, other) = tokio::join!(ours, other);
        call.other = Some(other);
        call
    }

    /// The same job once more, by a process of its own, in a world in which machines join.
    pub async fn again(&self, plan: Plan) -> Call {
        let mut settings = Settings { timeout: DEADLINE, ..self.settings.clone() };
        if self.scenario == Scenario::GivenKey {
            // The first one may be spent.
            settings.auth_key = Some(make_key(&self.cloud).await);
        }
        self.one_call(plan, Ending::None, 1007, Some(settings)).await
    }

    /// The invariants that were broken (`support/audit`), in this world's whole life.
    ///
    /// What an answer was on the wire the audit does not know, nor that our machine slept; what depends on these the judge holds.
    pub fn broken(&self) -> Vec<String> {
        let violations = self.cloud.finish();
        let counts = violations.iter().filter(|violation| !["I09", "I13", "I14"].contains(&violation.invariant));
        counts.map(|violation| format!("{}: {}", violation.invariant, violation.what)).collect()
    }

    async fn one_call(&self, plan: Plan, ending: Ending, seed: u64, settings: Option<Settings>) -> Call {
        let mut wire = None;
        let process = self.cloud.process_through(seed, |cloud| {
            let way = Wire::new(&cloud, plan);
            wire = Some(way.clone());
            Arc::new(way)
        });
        let wire = wire.unwrap();
        let notes = Arc::new(Notebook::default());
        let cancel = CancellationToken::new();
        let (params, settings) = (params(), settings.as_ref().unwrap_or(&self.settings));
        let call = process.provision(&params, settings, cancel.clone(), notes.clone());
        let call = AssertUnwindSafe(call).catch_unwind();
        let caught = match ending {
            Ending::None => Some(call.await),
            Ending::Cancel(at) => {
                let giving_up = async {
                    sleep(at).await;
                    cancel.cancel();
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    outcome = call => Some(outcome),
                    () = giving_up => None,
                }
            }
            Ending::Death(at) => tokio::time::timeout(at, call).await.ok(),
        };
        let length = wire.elapsed();
        let (outcome, escaped) = match caught {
            Some(Ok(outcome)) => (Some(outcome), None),
            Some(Err(panic)) => {
                (None, Some(panic.downcast_ref::<&str>().map_or_else(String::new, ToString::to_string)))
            }
            None => (None, None),
        };
        let events = notes.events.lock().unwrap().clone();
        let (log, misfires, after) = (wire.log(), wire.misfires(), self.cloud.truth());
        Call { outcome, escaped, log, events, length, after, misfires, other: None }
    }
}

/// The machine has joined by then, and the call does not know it yet.
const ABORT_AT: Duration = Duration::from_millis(25_050);

/// The name that the job's server has in every world.
pub async fn server_name() -> String {
    let cloud = Cloud::new(steady());
    cloud.provision(&settings()).await.unwrap().server.name
}

/// A single-use key as somebody would make it at the console.
async fn make_key(cloud: &Cloud) -> Secret {
    let secret = &Config::default().tailscale.clients[0].secret;
    let form = "application/x-www-form-urlencoded";
    let token = post(cloud, "/oauth/token", None, form, format!("client_secret={secret}")).await;
    let create = json!({ "reusable": false, "preauthorized": true, "tags": ["tag:agent"] });
    let body = json!({ "capabilities": { "devices": { "create": create } }, "expirySeconds": 86_400 }).to_string();
    let made = post(cloud, "/tailnet/-/keys", token["access_token"].as_str(), "application/json", body).await;
    Secret::new(made["key"].as_str().unwrap())
}

async fn post(cloud: &Cloud, path: &str, token: Option<&str>, kind: &str, body: String) -> Value {
    let request = http::Request::post(format!("https://api.tailscale.com/api/v2{path}")).header("content-type", kind);
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    };
    let answer = cloud.exchange(request.body(body.into()).unwrap()).await.unwrap();
    serde_json::from_slice(answer.body()).unwrap()
}

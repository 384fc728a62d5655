//! The simulator behind the seam: no sockets, and time is tokio's paused clock. Every exchange is audited.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use provision_vm::provision::{
    CancellationToken, CleanedUp, LeftBy, Observer, Params, Progress, ProvisionError, Provisioner, ReapOptions,
    ReapReport, Settings,
};
use provision_vm::transport::{BODY_LIMIT, Dial, Transport, TransportError};
use simulator::{Api, BootOutcome, Config, Cut, Delivery, FaultKind, World};
use tokio::time::{Instant, sleep};

use super::audit::{Audit, Listener, Sent, Violation, log};
use super::{Notebook, Outcome, Truth, params};

/// Says which fault the next request meets, and calls it by a name.
pub type Weather = Box<dyn FnMut(&http::Request<Bytes>) -> Option<(&'static str, FaultKind)> + Send>;

/// One world, as its callers and its operators reach it.
#[derive(Clone)]
pub struct Cloud {
    pub(super) shared: Arc<Shared>,
    /// The number under which requests are sent; 0 is nobody's, and not audited.
    pub(super) actor: u32,
}

pub struct Shared {
    world: Mutex<World>,
    audit: Mutex<Audit>,
    weather: Mutex<Option<Weather>>,
    began: Instant,
    processes: AtomicU32,
    finished: AtomicBool,
}

impl Cloud {
    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test")]
    pub fn new(config: Config) -> Self {
        let audit = Audit::new(&config);
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(config)),
            audit: Mutex::new(audit),
            weather: Mutex::default(),
            began: Instant::now(),
            processes: AtomicU32::new(0),
            finished: AtomicBool::new(false),
        });
        log::watch(&shared);
        Self { shared, actor: 0 }
    }

    pub fn usual() -> Self {
        Self::new(Config::default())
    }

    /// A world whose machines never join.
    pub fn that_never_joins() -> Self {
        let mut config = Config::default();
        config.machine.boot = BootOutcome::NeverJoins;
        Self::new(config)
    }

    /// A world in which an attempt has died without its machine having joined, and is past its end.
    pub async fn with_a_dead_attempt(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.machine.boot = BootOutcome::NeverJoins;
        change(&mut config);
        let cloud = Self::new(config);
        let settings = super::with_timeout(120);
        assert!(tokio::time::timeout(Duration::from_secs(40), cloud.provision(&settings)).await.is_err());
        sleep(Duration::from_secs(900)).await;
        cloud
    }

    /// Waits until something is true in the world; it has to become true within an hour.
    #[track_caller]
    pub fn until(&self, is_so: impl Fn(&Truth) -> bool) -> impl Future<Output = ()> {
        let (end, place) = (self.now() + Duration::from_secs(3600), std::panic::Location::caller());
        async move {
            while !is_so(&self.truth()) {
                assert!(self.now() < end, "what is waited for at {place} never came to be");
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// The world as it is now.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.shared.world.lock().unwrap();
        world.advance(self.shared.now());
        world
    }

    pub fn audit(&self) -> MutexGuard<'_, Audit> {
        self.shared.audit.lock().unwrap()
    }

    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    pub fn fault(&self, api: Api, method: &str, path: &str, kind: FaultKind) {
        self.world().inject(super::fault(api, method, path, 1, kind));
    }

    /// From now on every request asks this which fault it meets.
    pub fn set_weather(&self, weather: Option<Weather>) {
        *self.shared.weather.lock().unwrap() = weather;
    }

    pub fn truth(&self) -> Truth {
        Truth(self.world().snapshot())
    }

    /// A process of its own: it shares nothing with another but the clouds.
    pub fn process(&self, seed: u64) -> Process {
        self.process_through(seed, |cloud| Arc::new(cloud))
    }

    /// For single operations, which do what they are told: what they remove is not held against them.
    pub fn told(&self, seed: u64) -> Provisioner {
        let cloud = Arc::new(Self { shared: self.shared.clone(), actor: 0 });
        Provisioner::over(cloud.clone(), cloud, seed)
    }

    /// The same, with something of its own between it and the clouds.
    pub fn process_through(&self, seed: u64, way: impl FnOnce(Self) -> Arc<dyn Transport>) -> Process {
        self.process_between(seed, way, |cloud| Arc::new(cloud))
    }

    /// The same, and something of its own between it and the machines.
    pub fn process_between(
        &self,
        seed: u64,
        way: impl FnOnce(Self) -> Arc<dyn Transport>,
        dial: impl FnOnce(Self) -> Arc<dyn Dial>,
    ) -> Process {
        let actor = self.shared.processes.fetch_add(1, Ordering::Relaxed) + 1;
        let cloud = Self { shared: self.shared.clone(), actor };
        // No two processes make the same choices, even if a test gives them one seed.
        let seed = seed + (u64::from(actor - 1) << 32);
        Process { provisioner: Provisioner::over(way(cloud.clone()), dial(cloud.clone()), seed), cloud }
    }

    pub async fn provision(&self, settings: &Settings) -> Outcome {
        self.process(7).provision(&params(), settings, CancellationToken::new(), Arc::new(Notebook::default())).await
    }

    /// Lets a while pass in which whatever still floats must come down, and returns all violations so far.
    pub fn finish(&self) -> Vec<Violation> {
        self.shared.end();
        self.shared.finished.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.audit().violations)
    }
}

impl Shared {
    pub(super) fn audit(&self) -> MutexGuard<'_, Audit> {
        self.audit.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn end(&self) {
        let mut audit = self.audit();
        let mut world = self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        world.advance(audit.now + Duration::from_secs(1200));
        audit.hear(&mut world);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() || self.finished.load(Ordering::Relaxed) {
            return;
        }
        self.end();
        let violations = std::mem::take(&mut self.audit().violations);
        assert!(violations.is_empty(), "the audit found: {violations:#?}");
    }
}

/// A provisioner whose calls are audited.
pub struct Process {
    provisioner: Provisioner,
    cloud: Cloud,
}

impl Deref for Process {
    type Target = Provisioner;

    fn deref(&self) -> &Provisioner {
        &self.provisioner
    }
}

impl Process {
    /// As [`Provisioner::provision`]; beginning, cancellation, death and outcome are put on record.
    pub async fn provision(
        &self,
        params: &Params,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Outcome {
        let call = self.cloud.shared.audit().begin(self.cloud.actor, params, settings, true, self.cloud.now());
        let listener = self.listener(call, observer);
        let work = self.provisioner.provision(params, settings, cancel.clone(), listener);
        let settled = |audit: &mut Audit, outcome: &Outcome, world: &World| audit.settled(call, outcome, world);
        self.watch(call, &cancel, work, settled).await
    }

    /// As [`Provisioner::begin`], on record.
    pub async fn begin(
        &self,
        params: &Params,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<Progress, Box<ProvisionError>> {
        let call = self.cloud.shared.audit().begin(self.cloud.actor, params, settings, false, self.cloud.now());
        let listener = self.listener(call, observer);
        let work = Box::pin(self.provisioner.begin(params, settings, cancel.clone(), listener));
        let settled = |audit: &mut Audit, outcome: &Result<Progress, Box<ProvisionError>>, world: &World| match outcome
        {
            Ok(Progress::Ready(done)) => audit.settled(call, &Ok((**done).clone()), world),
            Ok(Progress::Underway(underway)) => audit.left_underway(call, underway, world),
            Err(error) => audit.settled(call, &Err(error.clone()), world),
        };
        self.watch(call, &cancel, work, settled).await
    }

    fn listener(&self, call: usize, observer: Arc<dyn Observer>) -> Arc<Listener> {
        Arc::new(Listener { inner: observer, shared: Arc::downgrade(&self.cloud.shared), call })
    }

    /// Does the work of a call, and puts its cancellation, death and outcome on record.
    async fn watch<T>(
        &self,
        call: usize,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
        settled: impl FnOnce(&mut Audit, &T, &World),
    ) -> T {
        let shared = &self.cloud.shared;
        let mut life = Life { shared, call, over: false };
        let noting = async {
            cancel.cancelled().await;
            shared.audit().cancelled(call, shared.now());
            std::future::pending().await
        };
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            outcome = noting => outcome,
        };
        life.over = true;
        let mut audit = shared.audit();
        audit.advance_to(shared.now());
        let mut world = self.cloud.world();
        audit.hear(&mut world);
        settled(&mut audit, &outcome, &world);
        outcome
    }
}

impl Process {
    /// As [`Provisioner::reap`], on record.
    pub async fn reap(
        &self,
        options: ReapOptions,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<ReapReport, Box<ProvisionError>> {
        let (shared, process) = (&self.cloud.shared, self.cloud.actor);
        shared.audit().begin_reap(process, options, shared.now());
        let _end = Reap { shared, process };
        let outcome = self.provisioner.reap(options, settings, cancel, observer).await;
        let mut audit = shared.audit();
        audit.advance_to(shared.now());
        if let Ok(report) = &outcome {
            audit.reaped(report);
        }
        drop(audit);
        outcome
    }
}

impl Process {
    /// As [`Provisioner::clean_up`], on record.
    pub async fn clean_up(
        &self,
        what: &LeftBy,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<CleanedUp, Box<ProvisionError>> {
        let (shared, process) = (&self.cloud.shared, self.cloud.actor);
        shared.audit().begin_cleanup(process, what, shared.now());
        let _end = Cleanup { shared, process };
        let outcome = self.provisioner.clean_up(what, settings, cancel, observer).await;
        let mut audit = shared.audit();
        audit.advance_to(shared.now());
        let mut world = self.cloud.world();
        audit.hear(&mut world);
        if let Ok(report) = &outcome {
            audit.cleaned_up(process, report, &world);
        }
        drop((audit, world));
        outcome
    }
}

/// A clean-up, however it ends.
struct Cleanup<'a> {
    shared: &'a Shared,
    process: u32,
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        self.shared.audit().end_cleanup(self.process);
    }
}

/// A pass of the reaper, however it ends.
struct Reap<'a> {
    shared: &'a Shared,
    process: u32,
}

impl Drop for Reap<'_> {
    fn drop(&mut self) {
        self.shared.audit().end_reap(self.process);
    }
}

/// A call that is dropped has died: nobody undoes anything.
struct Life<'a> {
    shared: &'a Shared,
    call: usize,
    over: bool,
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.shared.audit().died(self.call);
        }
    }
}

impl Transport for Cloud {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let (mut flight, Delivery { after, outcome }) = self.send(request);
            sleep(after).await;
            if !matches!(outcome, Err(Cut::Hang)) {
                flight.lands(&outcome);
            }
            match outcome {
                // As the real transport, which stops reading there.
                Ok(response) if response.body().len() > BODY_LIMIT => {
                    Err(TransportError::TooLarge { host, limit: BODY_LIMIT })
                }
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

impl Cloud {
    fn send(&self, request: http::Request<Bytes>) -> (Flight<'_>, Delivery) {
        let now = self.shared.now();
        let mut audit = self.audit();
        let mut world = self.shared.world.lock().unwrap();
        audit.advance_to(now);
        let mut sent = (self.actor != 0).then(|| audit.sent(self.actor, &request));
        let mut met = None;
        if let Some(weather) = self.shared.weather.lock().unwrap().as_mut().filter(|_| self.actor != 0)
            && let Some((name, kind)) = weather(&request)
        {
            met = Some(name);
            world.ambush(kind);
        }
        let delivery = world.exchange_as(self.actor, now, request);
        if let Some(sent) = &mut sent {
            audit.met(sent, world.last_fate(), met, &delivery);
        }
        audit.hear(&mut world);
        (Flight { shared: &self.shared, sent }, delivery)
    }
}

/// A request on its way. One that is dropped has not been answered.
struct Flight<'a> {
    shared: &'a Shared,
    sent: Option<Sent>,
}

impl Flight<'_> {
    fn lands(&mut self, outcome: &Result<http::Response<Bytes>, Cut>) {
        if let Some(sent) = self.sent.take() {
            let mut audit = self.shared.audit();
            audit.advance_to(self.shared.now());
            audit.landed(&sent, Some(outcome));
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            let mut audit = self.shared.audit();
            // The clock may be gone with its runtime.
            if tokio::runtime::Handle::try_current().is_ok() {
                audit.advance_to(self.shared.now());
            }
            audit.landed(&sent, None);
        }
    }
}

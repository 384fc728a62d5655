//! The two waits, at the same time: Hetzner's actions, and the device. 8 s and 25 s become 25 s.
//!
//! A look that fails for a passing reason is no reason to give up; only the deadline ends the wait then. The next look is
//! the repetition, so a single one is not repeated, and looks that fail come ever more slowly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use tokio::sync::oneshot;

use super::super::enrollment::{Enrolled, Enrollment, Expected, Obstacle, judge};
use super::super::error::Cause;
use super::super::event::{Detail, Scope, Step};
use super::super::evidence::{Evidence, KeyWord, Shown};
use super::super::presence::{self, Place};
use super::super::run::{Doing, Run};
use super::auth_key::Key;
use super::server::{Made, UndoServer};
use crate::hetzner::{ActionId, ActionStatus, Addresses, HetznerError, PowerSwitch, ServerId};
use crate::tailscale::TailscaleError;
use crate::transport::{Instant, Judge, Opinion, Pace, Patience, Within, sleep};

/// When the deadline comes, one last look may take this long (fault M08).
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How often to see how the server itself stands (faults G15, M05).
const SERVER_LOOK: Duration = Duration::from_secs(30);

/// How many readings in a row may leave an action out before it counts as forgotten.
const READINGS: u32 = 3;

/// How long to wait for a device that connects from the new server while another one fits.
const DOUBT: Duration = Duration::from_secs(10);

/// How old, in seconds, such a device has to be for whoever looks only once. Clocks may differ.
const OLD: i64 = 60;

const DEVICES: &str = "the devices could not be read";

/// How far the waits have come, for when the deadline ends them.
struct Progress {
    actions_done: bool,
    obstacle: Obstacle,
    /// Why the last look at the server failed, if it did.
    blind_to_server: Option<Cause>,
    /// Why the last look at the devices failed, if it did.
    blind_to_devices: Option<TailscaleError>,
}

/// Waits until every action succeeded and the device is verified.
pub(in super::super) async fn both(
    run: &Run<'_>,
    made: &Made,
    key: &Key,
    expected: &Expected<'_>,
) -> Result<Enrolled, Cause> {
    run.enter(Step::Wait);
    let progress = Mutex::new(Progress {
        actions_done: false,
        obstacle: Obstacle::Absent,
        blind_to_server: None,
        blind_to_devices: None,
    });
    let proof = Proof::new(key, made);
    let (done, actions_done) = oneshot::channel();
    let joined = async {
        let enrolled = device(run, &proof, expected, &progress).await?;
        // The other side ends only with a failure, which wins below.
        let _ = actions_done.await;
        Ok(enrolled)
    };
    let waits = async {
        tokio::select! {
            biased;
            outcome = joined => outcome,
            cause = machine(run, made, &progress, done) => Err(cause),
        }
    };
    let outcome = run.guard(waits.boxed()).await;
    if !matches!(outcome, Err(Cause::Deadline)) {
        return outcome;
    }
    // What could not be seen until the end is no verdict on the machine.
    let Progress { actions_done, obstacle, blind_to_server, blind_to_devices } =
        progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    if actions_done {
        return last_look(run, made.server.id, &proof, expected, obstacle, blind_to_devices).await;
    }
    let unfinished = || Cause::ActionTimeout("Hetzner did not finish making the server before the deadline".to_owned());
    Err(blind_to_server.unwrap_or_else(unfinished))
}

/// How one look at a machine ended that nobody waits for.
pub(in super::super) enum Seen {
    /// Every action succeeded, and the device is verified.
    Joined(Enrolled),
    /// It is on its way.
    NotYet,
    /// It will never join.
    Failed(Cause),
    /// What could not be seen is no verdict on the machine.
    Blind(Cause),
}

/// Looks once at what [`both`] waits for.
pub(in super::super) async fn once(run: &Run<'_>, made: &Made, key: &Key, expected: &Expected<'_>) -> Seen {
    run.enter(Step::Wait);
    let mut actions = Actions { pending: made.actions.clone(), unshown: 0 };
    let mut server = Machine { id: made.server.id, undo: &made.undo, missing: 0, is_powered_on: false };
    let proof = Proof::new(key, made);
    let look = run.guard(async {
        if !actions.pending.is_empty()
            && let Err(trouble) = actions.look(run).await
        {
            return Ok(trouble.into());
        }
        if !actions.pending.is_empty() {
            return Ok(Seen::NotYet);
        }
        match server.look(run, true).await {
            Ok(None) => {}
            // It was off, and has been given power.
            Ok(Some(_)) => return Ok(Seen::NotYet),
            Err(trouble) => return Ok(trouble.into()),
        }
        Ok(match proof.look(run, expected, run.within()).await.doing(DEVICES) {
            Ok(Enrollment::Verified(enrolled)) => Seen::Joined(enrolled),
            // One look is no verdict on several that claim to be it.
            Ok(Enrollment::NotYet(_) | Enrollment::Ambiguous(_)) => Seen::NotYet,
            Err(cause) => Seen::Blind(cause),
        })
    });
    look.await.unwrap_or_else(Seen::Blind)
}

impl From<Trouble> for Seen {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            // An answer of the API's, such as a token that is refused, says nothing about the machine.
            Trouble::Passing(_, cause) | Trouble::Final(cause @ Cause::Hetzner { .. }) => Self::Blind(cause),
            Trouble::Final(cause) => Self::Failed(cause),
        }
    }
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hetzner's side: says when all actions have succeeded, goes on to see that the server stays, and ends only with what
/// is wrong.
async fn machine(run: &Run<'_>, made: &Made, progress: &Mutex<Progress>, done: oneshot::Sender<()>) -> Cause {
    let mut actions = Actions { pending: made.actions.clone(), unshown: 0 };
    let mut server = Machine { id: made.server.id, undo: &made.undo, missing: 0, is_powered_on: false };
    let (began, mut pace, mut done) = (run.clock.now(), Pace::default(), Some(done));
    let mut looked = began;
    loop {
        if actions.pending.is_empty()
            && let Some(done) = done.take()
        {
            lock(progress).actions_done = true;
            // Nobody listens any more only if the wait is over.
            let _ = done.send(());
            run.say(Scope::ProvisionVm, "Hetzner server is ready");
        }
        let now = run.clock.now();
        let usual = if actions.pending.is_empty() { SERVER_LOOK } else { action_pace(now.duration_since(began)) };
        sleep(pace.next(usual)).await;
        let look = async {
            if !actions.pending.is_empty() {
                actions.look(run).await?;
            }
            if run.clock.now() >= looked + SERVER_LOOK {
                looked = run.clock.now();
                actions.pending.extend(server.look(run, actions.pending.is_empty()).await?);
            }
            Ok(())
        };
        match look.await {
            Ok(()) => {
                pace.went_well();
                lock(progress).blind_to_server = None;
            }
            Err(Trouble::Passing(opinion, cause)) => {
                pace.went_badly(opinion, run.chance.fraction());
                lock(progress).blind_to_server = Some(cause);
            }
            Err(Trouble::Final(cause)) => return cause,
        }
    }
}

/// What a look can meet.
enum Trouble {
    /// The look failed; the next may not.
    Passing(Opinion, Cause),
    /// There is no point in waiting on.
    Final(Cause),
}

impl Trouble {
    fn of(error: HetznerError, doing: &'static str) -> Self {
        let (opinion, cause) = (error.opinion(), Cause::Hetzner { doing, source: error });
        if opinion == Opinion::Stop { Self::Final(cause) } else { Self::Passing(opinion, cause) }
    }
}

/// The actions that still have to end.
struct Actions {
    pending: Vec<ActionId>,
    /// How many readings in a row left one of them out.
    unshown: u32,
}

impl Actions {
    async fn look(&mut self, run: &Run<'_>) -> Result<(), Trouble> {
        let shown = match run.hetzner.get_actions(&self.pending, run.within_a_look()).await {
            Ok(shown) => shown,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(Trouble::of(error, "the server's actions could not be read")),
        };
        for action in &shown {
            if let ActionStatus::Error { code, message } = &action.status {
                let reason = format!("{code}: {message}");
                return Err(Trouble::Final(Cause::ActionFailed { command: action.command.clone(), reason }));
            }
        }
        // Hetzner forgets old actions, and may show new ones late: what it does not show for several readings cannot be
        // waited for (fault G14). Then the server and the device have to tell.
        self.unshown = if shown.len() < self.pending.len() { self.unshown + 1 } else { 0 };
        let unshown = self.unshown;
        let status_of = |id: &ActionId| shown.iter().find(|action| action.id == *id).map(|action| &action.status);
        self.pending.retain(|id| status_of(id).map_or(unshown < READINGS, |status| *status == ActionStatus::Running));
        Ok(())
    }
}

/// The server itself.
struct Machine<'a> {
    id: ServerId,
    /// What knows whose it is.
    undo: &'a UndoServer,
    /// How many looks in a row did not find it.
    missing: u32,
    is_powered_on: bool,
}

impl Machine<'_> {
    /// Sees whether the server is there, and on once its actions are done (`is_settled`). One that is off is given power
    /// once (fault M05); the action that does it is returned.
    async fn look(&mut self, run: &Run<'_>, is_settled: bool) -> Result<Option<ActionId>, Trouble> {
        let doing = "the new server could not be read";
        let found = run.hetzner.find_server(self.id, run.within_a_look()).await;
        let Some(server) = found.map_err(|error| Trouble::of(error, doing))? else {
            self.missing += 1;
            // Twice, since a read may lag behind a create.
            if self.missing == 2 {
                let why = format!("server {} was deleted by somebody else", self.id);
                return Err(Trouble::Final(Cause::Superseded(why)));
            }
            return Ok(None);
        };
        self.missing = 0;
        if server.status != "off" || !is_settled {
            return Ok(None);
        }
        if self.is_powered_on {
            let reason = "the server is off although it was powered on".to_owned();
            return Err(Trouble::Final(Cause::ActionFailed { command: "start_server".to_owned(), reason }));
        }
        // The order's answer may have named another one's id, and labels may be changed.
        if !self.undo.owns(&server) {
            let why = format!("server {} is off, and by its name and labels not this attempt's", self.id);
            return Err(Trouble::Final(Cause::Superseded(why)));
        }
        run.say(Scope::Hetzner, format!("The server is off, powering it on: id={}", self.id));
        let action = run.hetzner.press(self.id, PowerSwitch::On, run.within_a_look()).await;
        let action = action.map_err(|error| Trouble::of(error, "the new server could not be powered on"))?;
        self.is_powered_on = true;
        Ok(Some(action.id))
    }
}

/// What tells the machine of this attempt from another one that claims its name.
struct Proof<'a> {
    key: &'a Key,
    addresses: Addresses,
    key_word: Mutex<KeyWord>,
    /// Since when the only device that fits connects from elsewhere.
    doubted_since: Mutex<Option<Instant>>,
    /// Another one that may be the machine was seen beside it.
    has_had_rival: AtomicBool,
}

impl<'a> Proof<'a> {
    fn new(key: &'a Key, made: &Made) -> Self {
        Self {
            key,
            addresses: made.server.addresses,
            key_word: Mutex::default(),
            doubted_since: Mutex::default(),
            has_had_rival: AtomicBool::new(false),
        }
    }

    /// Looks at the devices, and again at the one that verifies: has this attempt's key let it in, and does it connect from
    /// this attempt's server?
    async fn look(&self, run: &Run<'_>, expected: &Expected<'_>, within: Within) -> Result<Enrollment, TailscaleError> {
        let another = Ok(Enrollment::NotYet(Obstacle::Another));
        // As long as the key is unused, whatever stands there is another machine, and need not be looked at.
        if self.key_word() == KeyWord::Awaited && self.ask_key(run, within).await? == KeyWord::Awaited {
            return another;
        }
        let devices = run.tailscale.find_devices(expected.hostname, within).await?;
        let seen = judge(&devices, expected);
        let Enrollment::Verified(enrolled) = &seen else { return Ok(seen) };
        if self.key_word() == KeyWord::Unasked && self.ask_key(run, within).await? == KeyWord::Awaited {
            return another;
        }
        let Some(place) = presence::place(run, enrolled, self.addresses, within).await? else {
            return Ok(Enrollment::NotYet(Obstacle::Absent));
        };
        // One that does not verify yet may be the machine as well.
        let has_rival = devices.iter().filter(|device| expected.may_be(device)).count() > 1;
        let has_had_rival = self.has_had_rival.fetch_or(has_rival, Ordering::Relaxed) || has_rival;
        let is_believed = match place {
            Place::Here => true,
            Place::Unknown | Place::Elsewhere => {
                let created = devices.iter().find(|device| device.node_id.0 == enrolled.node_id);
                let is_old = is_old_enough(run, created.and_then(|device| device.created));
                !has_had_rival && self.key_word() == KeyWord::Used && (is_old || self.has_doubted_enough(run))
            }
        };
        if is_believed { Ok(seen) } else { another }
    }

    /// Where a device connects from is its own word. So the only one that can have joined with the key is believed in the
    /// end, if no better one comes for a while and none has ever stood beside it.
    fn has_doubted_enough(&self, run: &Run<'_>) -> bool {
        let now = run.clock.now();
        let mut doubted_since = self.doubted_since.lock().unwrap_or_else(PoisonError::into_inner);
        now.duration_since(*doubted_since.get_or_insert(now)) >= DOUBT
    }

    fn key_word(&self) -> KeyWord {
        *self.key_word.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_key(&self, run: &Run<'_>, within: Within) -> Result<KeyWord, TailscaleError> {
        let say = |word| *self.key_word.lock().unwrap_or_else(PoisonError::into_inner) = word;
        say(KeyWord::Awaited);
        let word = match self.key.is_used(run, within).await? {
            Some(true) => KeyWord::Used,
            Some(false) => KeyWord::Awaited,
            None => KeyWord::Mute,
        };
        say(word);
        Ok(word)
    }
}

/// Who looks only once cannot wait for a better one, but knows how long none has come.
fn is_old_enough(run: &Run<'_>, created: Option<i64>) -> bool {
    let since = created.map(|created| run.clock.cloud_unix().saturating_sub(created));
    !run.waits && since.is_some_and(|since| since > OLD)
}

/// Tailscale's side: waits for a device that verifies.
async fn device(
    run: &Run<'_>,
    proof: &Proof<'_>,
    expected: &Expected<'_>,
    progress: &Mutex<Progress>,
) -> Result<Enrolled, Cause> {
    let (began, mut pace) = (run.clock.now(), Pace::default());
    loop {
        sleep(pace.next(device_pace(run.clock.now().duration_since(began)))).await;
        let seen = match proof.look(run, expected, run.within_a_look()).await {
            Ok(seen) => seen,
            Err(error) if error.opinion() == Opinion::Stop => return Err(error).doing(DEVICES),
            Err(error) => {
                pace.went_badly(error.opinion(), run.chance.fraction());
                lock(progress).blind_to_devices = Some(error);
                continue;
            }
        };
        pace.went_well();
        lock(progress).blind_to_devices = None;
        match seen {
            Enrollment::Verified(enrolled) => return Ok(enrolled),
            Enrollment::Ambiguous(devices) => return Err(Cause::EnrollAmbiguous(devices.len())),
            Enrollment::NotYet(obstacle) => {
                let mut progress = lock(progress);
                if progress.obstacle != obstacle {
                    tracing::debug!(?obstacle, "not verified yet");
                    if obstacle != Obstacle::Absent {
                        let why = obstacle.as_str();
                        run.tell(Scope::Tailscale, format!("Waiting: {why}"), Detail::Waiting(why));
                    }
                    progress.obstacle = obstacle;
                }
            }
        }
    }
}

/// The device may have come since the look before. Without an answer now, that look is what counts, or why it failed.
async fn last_look(
    run: &Run<'_>,
    server: ServerId,
    proof: &Proof<'_>,
    expected: &Expected<'_>,
    before: Obstacle,
    blind: Option<TailscaleError>,
) -> Result<Enrolled, Cause> {
    let within = Within { deadline: run.clock.now() + LAST_LOOK, patience: Patience::UntilDeadline };
    let obstacle = match proof.look(run, expected, within).await {
        Ok(Enrollment::Verified(enrolled)) => return Ok(enrolled),
        Ok(Enrollment::Ambiguous(devices)) => return Err(Cause::EnrollAmbiguous(devices.len())),
        Ok(Enrollment::NotYet(obstacle)) => obstacle,
        Err(_) => match blind {
            Some(error) => return Err(error).doing(DEVICES),
            None => before,
        },
    };
    let fails = if obstacle.may_pass() { Cause::EnrollTimeout } else { Cause::EnrollRejected };
    Err(fails(gather(run, server, proof, obstacle, within.deadline).await))
}

/// What both clouds show of a machine that did not join. It is for a person to read, so what cannot be seen at once, or in what
/// is left of the last look, is left out.
async fn gather(run: &Run<'_>, id: ServerId, proof: &Proof<'_>, obstacle: Obstacle, deadline: Instant) -> Evidence {
    let within = Within { deadline, patience: Patience::Tries(1) };
    let server = async {
        match run.hetzner.find_server(id, within).await {
            Ok(Some(server)) => Shown::As(server.status),
            Ok(None) => Shown::Gone,
            Err(_) => Shown::Unseen,
        }
    };
    let key = async {
        match proof.key_word() {
            // What was said before the last look may have changed.
            KeyWord::Unasked | KeyWord::Awaited => proof.ask_key(run, within).await.unwrap_or_default(),
            word => word,
        }
    };
    let looks = std::pin::pin!(join(server, key));
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => Evidence::of(obstacle),
        (server, key) = looks => Evidence { obstacle, server, key },
    }
}

/// Actions mostly end within ten seconds (`facts/hetzner.md` 8); slow ones are not hurried by asking.
fn action_pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        0..10 => Duration::from_millis(1500),
        10..60 => Duration::from_secs(4),
        _ => Duration::from_secs(15),
    }
}

/// No machine boots and joins within eight seconds; then most do within half a minute. The late ones are waited for at a
/// pace that keeps the whole wait under a hundred requests.
fn device_pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        8..40 => Duration::from_secs(1),
        0..8 => Duration::from_secs(2),
        40..100 => Duration::from_secs(3),
        _ => Duration::from_secs(15),
    }
}

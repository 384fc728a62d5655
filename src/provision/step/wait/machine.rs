//! Hetzner's side of the wait: the actions, and the server itself.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::super::super::error::Cause;
use super::super::super::event::Scope;
use super::super::super::job::JOB;
use super::super::super::run::Run;
use super::super::server::{Made, UndoServer};
use super::{Progress, lock};
use crate::hetzner::{ActionId, ActionStatus, HetznerError, PowerSwitch, Server, ServerId};
use crate::transport::{Instant, Judge, Opinion, Pace};

/// How often to see how the server itself stands (faults G15, M05).
const SERVER_LOOK: Duration = Duration::from_secs(30);
/// How often to look at actions that are all that is still missing.
const HURRY: Duration = Duration::from_millis(1500);
/// How many readings in a row may leave an action out before it counts as forgotten.
const READINGS: u32 = 3;

/// Says when all actions have succeeded, goes on to see that the server stays, and ends only with what is wrong. `joined` says
/// that the device is there, so that nothing but the actions is missing.
pub(super) async fn machine(
    run: &Run<'_>,
    made: &Made,
    progress: &Mutex<Progress>,
    done: oneshot::Sender<()>,
    joined: &Notify,
) -> Cause {
    let (began, mut paces, mut done) = (run.clock.now(), [Pace::default(); 2], Some(done));
    let mut actions = Actions::new(made);
    let mut server = Machine::new(made);
    let (mut actions_due, mut server_due) = (began + action_pace(Duration::ZERO), began + SERVER_LOOK);
    let (mut actions_began, mut is_hurried) = (began, false);
    loop {
        if actions.pending.is_empty()
            && let Some(done) = done.take()
        {
            lock(progress).actions_done = true;
            // Nobody listens any more only if the wait is over.
            let _ = done.send(());
            run.say(Scope::ProvisionVm, "Hetzner server is ready");
        }
        let is_for_actions = !actions.pending.is_empty() && actions_due <= server_due;
        let look = async {
            if is_for_actions {
                return actions.look(run, actions_due).await;
            }
            let pressed = server.look(run, actions.pending.is_empty(), server_due).await?;
            if pressed.is_some() {
                (actions_began, actions_due) = (run.clock.now(), run.clock.now() + HURRY);
            }
            actions.pending.extend(pressed);
            Ok(())
        };
        let outcome = tokio::select! {
            biased;
            outcome = look => outcome,
            () = joined.notified(), if !is_hurried => {
                (is_hurried, actions_began, actions_due) = (true, run.clock.now(), run.clock.now());
                continue;
            }
        };
        let pace = &mut paces[usize::from(is_for_actions)];
        match outcome {
            Ok(()) => {
                pace.went_well();
                // That the server is there says nothing of actions that cannot be seen.
                if is_for_actions || actions.pending.is_empty() {
                    lock(progress).blind_to_server = None;
                }
            }
            Err(Trouble::Passing(opinion, cause)) => {
                pace.went_badly(opinion, run.chance.fraction());
                lock(progress).blind_to_server = Some(cause);
            }
            Err(Trouble::Final(cause)) => return cause,
        }
        let now = run.clock.now();
        if is_for_actions {
            let waited = now.duration_since(actions_began);
            let usual = if is_hurried { hurried_pace(waited) } else { action_pace(waited) };
            actions_due = now + pace.next(usual);
        } else {
            server_due = now + pace.next(SERVER_LOOK);
        }
    }
}

/// The actions are all that is missing; slow ones are not hurried by asking.
fn hurried_pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        0..10 => HURRY,
        10..60 => Duration::from_secs(4),
        _ => Duration::from_secs(15),
    }
}

/// Actions mostly end within ten seconds (`facts/hetzner.md` 8), and the device within half a minute: so nobody waits for
/// an action that is seen late, unless it fails.
fn action_pace(waited: Duration) -> Duration {
    match waited.as_secs() {
        0 => HURRY,
        1..6 => Duration::from_secs(4),
        6..18 => Duration::from_secs(7),
        _ => Duration::from_secs(15),
    }
}

/// What a look can meet.
pub(super) enum Trouble {
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
pub(super) struct Actions {
    pub(super) pending: Vec<ActionId>,
    /// How many readings in a row left one of them out.
    unshown: u32,
}

impl Actions {
    pub(super) fn new(made: &Made) -> Self {
        Self { pending: made.actions.clone(), unshown: 0 }
    }

    /// Looks at them at this moment, or before, if somebody else does.
    pub(super) async fn look(&mut self, run: &Run<'_>, due: Instant) -> Result<(), Trouble> {
        let shown = match run.hetzner.look_at_actions(&self.pending, due).await {
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
pub(super) struct Machine<'a> {
    id: ServerId,
    /// What knows whose it is.
    undo: &'a UndoServer,
    /// How many looks in a row did not find it.
    missing: u32,
    is_powered_on: bool,
}

impl<'a> Machine<'a> {
    pub(super) fn new(made: &'a Made) -> Self {
        Self { id: made.id, undo: &made.undo, missing: 0, is_powered_on: false }
    }

    /// Sees whether the server is there, and on once its actions are done (`is_settled`). One that is off is given power
    /// once (fault M05); the action that does it is returned.
    pub(super) async fn look(
        &mut self,
        run: &Run<'_>,
        is_settled: bool,
        due: Instant,
    ) -> Result<Option<ActionId>, Trouble> {
        let found = self.find(run, due).await;
        let Some(server) = found.map_err(|error| Trouble::of(error, "the new server could not be read"))? else {
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

    /// By its job's label, so that one request serves many. One whose label was changed is looked at by itself.
    async fn find(&self, run: &Run<'_>, due: Instant) -> Result<Option<Server>, HetznerError> {
        let labelled = run.hetzner.watch_servers(JOB, &run.job.id, due).await?;
        match labelled.into_iter().find(|server| server.id == self.id) {
            Some(server) => Ok(Some(server)),
            None => run.hetzner.find_server(self.id, run.within_a_look()).await,
        }
    }
}

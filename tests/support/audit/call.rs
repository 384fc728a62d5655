//! What is known of one call, and of the process that makes it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use provision_vm::provision::settings::WorkflowRun;
use provision_vm::provision::{Kind, Leftover, Params, Settings, Step};

/// One call.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a record of what was seen, each of its own")]
pub struct Call {
    pub process: u32,
    /// How many callers share its flight.
    pub passengers: u32,
    pub job: String,
    pub agent: String,
    /// The workflow's run that it belongs to.
    pub run: Option<WorkflowRun>,
    /// The server's name, once the call has told it.
    pub name: Option<String>,
    pub began: Duration,
    pub timeout: Duration,
    /// How long the machine of an attempt has to join that it begins without waiting.
    pub lifetime: Duration,
    /// Whether it waits for its machine.
    pub waits: bool,
    /// The port on which it wants its machine to be reached, and the address where it was.
    pub reach: Option<u16>,
    pub reached: Option<Ipv4Addr>,
    /// By how much the last of those began later who waited for its departure: any of them may have begun the flight.
    pub spread: Duration,
    /// The key that the settings bring.
    pub given_key: Option<String>,
    /// The tags that its machine is to have.
    pub tags: Vec<String>,
    /// The attempts that it minted.
    pub attempts: BTreeSet<String>,
    pub cancelled_at: Option<Duration>,
    /// It was given up while it undid an attempt that had yielded to another.
    pub cancelled_in_undo: bool,
    pub step: Step,
    pub undo_at: Option<Duration>,
    /// The cause that the undo named when it began.
    pub undo_cause: Option<String>,
    /// It has ever begun to remove what a dead attempt left.
    pub took_over: bool,
    /// That is what it is at, or the last that it was at.
    pub is_clearing: bool,
    /// What the last look-up by label said: whether nothing was there.
    pub absent: Option<bool>,
    /// It waits for the budget of requests.
    pub is_queued: bool,
    pub servers: Orders,
    pub keys: Orders,
    pub settled: Option<Settled>,
}

/// The orders of one kind of thing.
#[derive(Debug, Default)]
pub struct Orders {
    /// An order was sent.
    pub any: bool,
    /// An order got no clear answer, and nothing was looked up since.
    pub unclear: bool,
    /// An order ever got no clear answer.
    pub ever_unclear: bool,
    /// The attempt of the last order.
    pub attempt: Option<String>,
}

/// How a call ended.
#[derive(Debug)]
pub enum Settled {
    /// Its future was dropped.
    Died,
    /// With a machine, and these warnings.
    Well { warnings: Vec<String> },
    /// With a server whose machine is on its way, and these warnings.
    Underway { warnings: Vec<String> },
    /// With an error.
    Badly { leftovers: Vec<Leftover> },
}

impl Call {
    pub fn new(process: u32, params: &Params, settings: &Settings, began: Duration) -> Self {
        Self {
            process,
            passengers: 1,
            job: params.job_id.clone(),
            agent: params.agent_id.clone(),
            run: settings.run.clone(),
            name: None,
            began,
            timeout: settings.timeout,
            lifetime: settings.lifetime,
            waits: true,
            reach: settings.reach,
            reached: None,
            spread: Duration::ZERO,
            given_key: settings.auth_key.as_ref().map(|key| key.expose().to_owned()),
            tags: std::iter::once("tag:agent".to_owned()).chain(settings.extras.tags.iter().cloned()).collect(),
            attempts: BTreeSet::new(),
            cancelled_at: None,
            cancelled_in_undo: false,
            step: Step::Validate,
            undo_at: None,
            undo_cause: None,
            took_over: false,
            is_clearing: false,
            absent: None,
            is_queued: false,
            servers: Orders::default(),
            keys: Orders::default(),
            settled: None,
        }
    }

    /// Whether it is about this job of this agent.
    pub fn is_for(&self, params: &Params) -> bool {
        (&self.job, &self.agent) == (&params.job_id, &params.agent_id)
    }

    /// Whether it failed without naming anything of this kind.
    pub fn has_denied(&self, kind: Kind) -> bool {
        matches!(&self.settled, Some(Settled::Badly { leftovers }) if leftovers.iter().all(|left| left.kind != kind))
    }
}

/// One process, which may have several calls.
#[derive(Debug, Default)]
pub struct Process {
    pub running: u32,
    pub in_flight: u32,
    /// When it last sent or heard anything.
    pub active_at: Duration,
    /// Requests to Hetzner and to Tailscale since it last was idle.
    pub sent: (u32, u32),
    /// It is a reaper, that may change something or not.
    pub reaps: Option<Reaps>,
}

impl Process {
    pub fn begin(&mut self, now: Duration) {
        if self.running == 0 {
            self.sent = (0, 0);
        }
        self.running += 1;
        self.active_at = now;
    }
}

/// What a reaper may do.
#[derive(Clone, Copy, Debug)]
pub struct Reaps {
    pub dry_run: bool,
    pub grace: i64,
}

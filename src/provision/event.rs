//! What a job tells while it runs.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use super::candidate::CandidateAttempt;
use super::job::Job;
use super::leftover::{Kind, Leftover};
use crate::hetzner::Price;
use crate::secret::Secret;
use crate::transport::{Left, Tracer};

/// Where a job, or another call, stands. The order is that of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Input and settings are checked; nothing is sent.
    Validate,
    /// The job is looked up by its label.
    Lookup,
    /// Another attempt of the same job is followed.
    Follow,
    /// The auth key is made.
    AuthKey,
    /// The first-boot document is made.
    FirstBoot,
    /// The server is ordered.
    Server,
    /// The actions and the device are waited for, at the same time.
    Wait,
    /// The device is verified.
    Verify,
    /// The machine is connected to, over the tailnet. Only where that is asked for.
    Reach,
    /// The server is marked ready and the key revoked.
    Ready,
    /// What was begun is undone.
    Undo,
    /// Something is read on a caller's behalf.
    Read,
    /// A server is switched on or off.
    Power,
    /// Something is removed on a caller's behalf.
    Remove,
}

impl Step {
    /// The step as JavaScript sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Lookup => "lookup",
            Self::Follow => "follow",
            Self::AuthKey => "auth_key",
            Self::FirstBoot => "first_boot",
            Self::Server => "server",
            Self::Wait => "wait",
            Self::Verify => "verify",
            Self::Reach => "reach",
            Self::Ready => "ready",
            Self::Undo => "undo",
            Self::Read => "read",
            Self::Power => "power",
            Self::Remove => "remove",
        }
    }

    /// What is said when a step of a job begins; nothing where the next line comes at once.
    pub(super) fn title(self) -> Option<&'static str> {
        match self {
            Self::Lookup => Some("Looking the job up"),
            Self::AuthKey => Some("Making an auth key"),
            Self::Server => Some("Ordering a server"),
            Self::Wait => Some("Waiting for the server, and for its machine to join"),
            Self::Reach => Some("Connecting to the machine over the tailnet"),
            Self::Ready => Some("Marking the server ready"),
            _ => None,
        }
    }
}

/// Who speaks: the prefix that operators know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The job itself.
    ProvisionVm,
    /// What is done at Hetzner.
    Hetzner,
    /// What is done at Tailscale.
    Tailscale,
    /// The first-boot document.
    CloudInit,
}

impl Scope {
    /// The prefix without its brackets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProvisionVm => "ProvisionVM",
            Self::Hetzner => "Hetzner",
            Self::Tailscale => "Tailscale",
            Self::CloudInit => "CloudInit",
        }
    }
}

/// What has become known so far, so that a caller can note it before the job is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The server's name.
    pub server_name: Option<String>,
    /// The server's id.
    pub server_id: Option<u64>,
    /// The server's main address.
    pub server_ip: Option<IpAddr>,
    /// The address in the tailnet.
    pub tailscale_ip: Option<Ipv4Addr>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where the job stands.
    pub step: Step,
    /// Who speaks.
    pub scope: Scope,
    /// Something that a person should look at.
    pub is_warning: bool,
    /// One line, without any secret.
    pub message: String,
    /// What the line says, as data.
    pub detail: Detail,
    /// The attempt that it is about, once there is one: the label of its server.
    pub attempt: Option<String>,
    /// Since the call began.
    pub elapsed: Duration,
    /// What is known by now.
    pub known: Known,
}

/// What an event says, as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// No more than its line.
    #[default]
    Note,
    /// A step begins.
    Step,
    /// A server type in a location was considered.
    Candidate {
        /// Which, and why it was not taken.
        tried: CandidateAttempt,
        /// What it costs, where Hetzner says.
        price: Option<Price>,
    },
    /// The server exists.
    Server,
    /// The machine is not there yet, or cannot be reached yet, and what stands in the way.
    Waiting(&'static str),
    /// The machine is in the tailnet.
    Enrolled {
        /// The device's older, decimal id.
        device_id: String,
        /// The device's preferred id.
        node_id: String,
    },
    /// What was begun is being undone, and why.
    Undo(String),
    /// Something is gone, and a read confirmed it.
    Removed(Kind, String),
    /// Something stays.
    Left(Leftover),
}

impl Event {
    /// A job waits to be let in, since little is left of the requests that Hetzner allows its project.
    pub(super) fn of_a_queue(job: &Job, left: Option<Left>) -> Self {
        let left = left.map(|left| format!(" ({} of {} an hour are left)", left.requests, left.limit));
        let message = format!("Waiting for room in the project's request budget{}", left.unwrap_or_default());
        Self {
            step: Step::Validate,
            scope: Scope::Hetzner,
            is_warning: false,
            message,
            detail: Detail::Waiting("the project's request budget has no room for another job yet"),
            attempt: None,
            elapsed: Duration::ZERO,
            known: Known { server_name: Some(job.name.clone()), ..Known::default() },
        }
    }
}

/// Who listens to a job. Must not block and cannot stop the job.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);

    /// A secret was minted; a log should mask it from now on. Comes before anything else could print it.
    fn secret(&self, secret: &Secret);

    /// What hears of spans, if anybody asked for them.
    fn tracer(&self) -> Option<Arc<Tracer>> {
        None
    }
}

/// Tells a listener something. One that breaks down must not take the job with it, nor the other listeners.
pub(super) fn quietly(tell: impl FnOnce()) {
    let _ = std::panic::catch_unwind(AssertUnwindSafe(tell));
}

/// A listener that does not listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}

    fn secret(&self, _: &Secret) {}
}

//! Why a job failed, in a form that can be acted upon.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::candidate::CandidateAttempt;
use super::code::Code;
use super::enrollment::Obstacle;
use super::event::Step;
use super::evidence::{Evidence, Unheard};
use super::leftover::{Hold, Leftover};
use crate::cloud_init::CloudInitError;
use crate::hetzner::{HetznerError, Server};
use crate::tailscale::TailscaleError;
use crate::transport::{DialError, Judge, Mishap, Opinion, TransportError, clean};

/// What went wrong, at the level of the job.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// An argument is not acceptable.
    #[error("{field}: {why}")]
    Input {
        /// Its path, such as `params.jobId`.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting is missing or not acceptable.
    #[error("{setting}: {why}")]
    Setting {
        /// The setting's name, such as `HETZNER_API_TOKEN`.
        setting: String,
        /// What is wrong with it.
        why: String,
    },
    /// Hetzner could not do what a step needs.
    #[error("{doing}")]
    Hetzner {
        /// What was being done, as the message of this level.
        doing: &'static str,
        /// Why it could not be done.
        #[source]
        source: HetznerError,
    },
    /// Hetzner refused the order itself.
    #[error("Hetzner refused the order for {server_type} in {location}")]
    Order {
        /// The type that was ordered.
        server_type: String,
        /// Where.
        location: String,
        /// Why.
        #[source]
        source: HetznerError,
    },
    /// Tailscale could not do what a step needs.
    #[error("{doing}")]
    Tailscale {
        /// What was being done, as the message of this level.
        doing: &'static str,
        /// Why it could not be done.
        #[source]
        source: TailscaleError,
    },
    /// No first-boot document could be made.
    #[error("the first-boot document could not be made")]
    CloudInit(#[from] CloudInitError),
    /// The network client could not be set up.
    #[error("the network client could not be set up")]
    Network(#[from] TransportError),
    /// The auth key that Tailscale made is not what was ordered. It was revoked; no server was bought.
    #[error("the auth key is not usable: {0}")]
    UnusableKey(&'static str),
    /// None of the candidates is to be had.
    #[error("no server type is to be had in {location}: {tried}")]
    NoCandidate {
        /// Where.
        location: String,
        /// Each type that was considered, with the reason against it.
        tried: String,
        /// Whether one of them is merely out of stock.
        out_of_stock: bool,
    },
    /// The call that provisions many jobs has used up a cap of its own.
    #[error("{0} of this call is used up")]
    OverCap(String),
    /// The server came without something we need.
    #[error("the new server is not usable: {0}")]
    UnusableServer(String),
    /// A server of that name exists and is not ours.
    #[error("the server name {name} is taken by a server that is not this job's{}", id.map(|id| format!(" (id {id})")).unwrap_or_default())]
    NameConflict {
        /// The name.
        name: String,
        /// The server's id, if Hetzner shows it.
        id: Option<u64>,
    },
    /// The job has a server, but not one that this package made.
    #[error("server {id} carries this job's label but was not made by provision-vm")]
    ForeignServer {
        /// The server's id.
        id: u64,
    },
    /// The job belongs to another agent.
    #[error("job {job} belongs to agent {}, not {ours}", clean(theirs))]
    JobMismatch {
        /// The job.
        job: String,
        /// The agent of the call.
        ours: String,
        /// The agent of the existing server.
        theirs: String,
    },
    /// An action of the create failed.
    #[error("the action {command} failed: {reason}")]
    ActionFailed {
        /// The action.
        command: String,
        /// Hetzner's code and text.
        reason: String,
    },
    /// Hetzner refused an order in the caller's own words.
    #[error("Hetzner refused the order")]
    OwnOrder {
        /// Why.
        #[source]
        source: HetznerError,
    },
    /// What the caller names by its id is not there.
    #[error("{0} does not exist")]
    NotFound(String),
    /// What Hetzner began did not end in time.
    #[error("{0}")]
    ActionTimeout(String),
    /// The machine did not join before the deadline.
    #[error("the machine did not join the tailnet before the deadline ({})", .0.obstacle.as_str())]
    EnrollTimeout(Evidence),
    /// The call's own time was up, and the machine that another call began has some left.
    #[error("the deadline passed, and the machine has not joined the tailnet yet ({})", .0.obstacle.as_str())]
    NotYetJoined(Evidence),
    /// The job was done before, but its machine is not in the tailnet now.
    #[error("server {name} of this job is ready, but its device cannot be verified ({})", obstacle.as_str())]
    Dormant {
        /// The server's name.
        name: String,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// What a dead attempt left could not be removed.
    #[error("what a dead attempt of this job left behind could not be removed")]
    Remains,
    /// A device was there, and never became acceptable.
    #[error("the device is not acceptable: {}", .0.obstacle.as_str())]
    EnrollRejected(Evidence),
    /// More than one device looks like ours.
    #[error("{0} devices claim to be this machine")]
    EnrollAmbiguous(usize),
    /// The machine is in the tailnet, and no connection to it came about from where we run.
    #[error("{ip}:{port} cannot be reached over the tailnet: {why}")]
    NotReachable {
        /// Its address in the tailnet.
        ip: Ipv4Addr,
        /// The port.
        port: u16,
        /// What became of the last attempt.
        why: DialError,
    },
    /// The caller gave up.
    #[error("the call was aborted")]
    Aborted,
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// The deadline passed while another attempt of the job was still at work.
    #[error("another attempt of this job still holds server {id}{}", describe_end(*dead_in))]
    StillFollowing {
        /// The server.
        id: u64,
        /// When a call may remove it and begin anew; never, if somebody removed the label that says so.
        dead_in: Option<Duration>,
    },
    /// The server went away, or another attempt won.
    #[error("{0}")]
    Superseded(String),
    /// Another attempt of this job holds the name. Not an error of the call: it looks again and follows.
    #[error("another attempt of this job was faster")]
    Taken(Box<Server>),
    /// A fault of ours.
    #[error("an internal fault: {0}")]
    Internal(String),
}

impl Cause {
    /// A fault of ours that ended a call by a panic.
    pub(super) fn panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Internal(text.map_or_else(|| "a panic without words".to_owned(), |text| clean(&text)))
    }

    /// The whole story in one line: this level and all below it.
    pub(super) fn chain(&self) -> String {
        let levels = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        levels.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// The code that JavaScript sees.
    pub fn code(&self) -> Code {
        match self {
            Self::Input { .. }
            | Self::CloudInit(CloudInitError::Hostname(_) | CloudInitError::Report | CloudInitError::TooLarge { .. }) => {
                Code::InvalidInput
            }
            Self::NoCandidate { out_of_stock: true, .. } => Code::Capacity,
            Self::OverCap(_) => Code::CapReached,
            Self::Setting { .. } | Self::NoCandidate { .. } | Self::CloudInit(CloudInitError::AuthKey) => Code::Config,
            Self::CloudInit(CloudInitError::Unwritable) | Self::Internal(_) => Code::Internal,
            Self::Hetzner { source, .. } => hetzner_code(source),
            Self::Order { source, .. } => order_code(source),
            Self::OwnOrder { source } => own_order_code(source),
            Self::NotFound(_) => Code::NotFound,
            Self::Tailscale { source, .. } => tailscale_code(source),
            Self::Network(error) => transport_code(error),
            Self::UnusableKey(_) | Self::UnusableServer(_) => Code::Protocol,
            Self::NameConflict { .. } | Self::ForeignServer { .. } => Code::NameConflict,
            Self::JobMismatch { .. } => Code::JobMismatch,
            Self::ActionFailed { .. } => Code::ActionFailed,
            Self::ActionTimeout(_) => Code::ActionTimeout,
            Self::EnrollTimeout(_) => Code::EnrollTimeout,
            Self::Dormant { obstacle, .. } if obstacle.may_pass() => Code::EnrollTimeout,
            Self::Remains => Code::Upstream,
            Self::Dormant { .. } | Self::EnrollRejected(_) => Code::EnrollRejected,
            Self::EnrollAmbiguous(_) => Code::EnrollAmbiguous,
            Self::NotReachable { .. } => Code::NotReachable,
            Self::Aborted => Code::Aborted,
            Self::Deadline | Self::NotYetJoined(_) | Self::StillFollowing { .. } => Code::Deadline,
            Self::Superseded(_) | Self::Taken(_) => Code::Superseded,
        }
    }

    /// The argument or setting at fault.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Input { field, .. } => Some(field),
            Self::Setting { setting, .. } => Some(setting),
            Self::Order { source, .. } if matches!(self.code(), Code::Config | Code::InvalidInput) => {
                ORDERED.iter().find(|(name, _)| source.names(name)).map(|(_, field)| *field)
            }
            _ => None,
        }
    }

    /// What both clouds show of the machine that did not join.
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::EnrollTimeout(evidence) | Self::NotYetJoined(evidence) | Self::EnrollRejected(evidence) => {
                Some(evidence)
            }
            _ => None,
        }
    }

    /// Whether a machine was made that did not join, so that its own words may help.
    pub(super) fn is_of_a_silent_machine(&self) -> bool {
        self.evidence().is_some()
    }

    /// The ids under which the clouds' support finds the failed request.
    pub fn request_ids(&self) -> Vec<String> {
        let id = match self {
            Self::Hetzner { source, .. } | Self::Order { source, .. } | Self::OwnOrder { source } => {
                source.request_id()
            }
            Self::Tailscale { source, .. } => source.request_id(),
            _ => None,
        };
        id.map(str::to_owned).into_iter().collect()
    }

    /// How long a caller should wait before it tries again, if that is known.
    fn retry_after(&self) -> Option<Duration> {
        let opinion = match self {
            Self::Hetzner { source, .. } | Self::Order { source, .. } | Self::OwnOrder { source } => source.opinion(),
            Self::Tailscale { source, .. } => source.opinion(),
            Self::StillFollowing { dead_in, .. } => return dead_in.map(|dead_in| dead_in + Duration::from_secs(1)),
            _ => return None,
        };
        match opinion {
            // A bucket that gives one request a second is worth leaving alone for a minute.
            Opinion::Slow(wish) => Some(wish.unwrap_or(Duration::from_secs(60))),
            _ => None,
        }
    }
}

fn describe_end(dead_in: Option<Duration>) -> String {
    match dead_in {
        Some(dead_in) => format!("; it counts as dead in {} s", dead_in.as_secs()),
        None => ", and no label says when it counts as dead: look at it".to_owned(),
    }
}

fn hetzner_code(error: &HetznerError) -> Code {
    match error {
        HetznerError::Transport(error) => transport_code(error),
        HetznerError::Unreadable { .. } | HetznerError::Endless(_) => Code::Protocol,
        HetznerError::Refused(_) if error.is_unauthorized() => Code::AuthHetzner,
        HetznerError::Refused(_) if error.is_forbidden() => Code::Forbidden,
        HetznerError::Refused(_) if error.is_over_quota() => Code::Quota,
        HetznerError::Refused(_) if error.is_removed() => Code::ApiRemoved,
        HetznerError::Refused(_) if error.is_rate_limited() => Code::RateLimited,
        HetznerError::Refused(_) => match error.opinion() {
            Opinion::Stop => Code::Protocol,
            _ => Code::Upstream,
        },
    }
}

/// What Hetzner calls the fields of an order, and where the caller has them from.
const ORDERED: [(&str, &str); 6] = [
    ("ssh_keys", "HETZNER_SSH_KEY_ID"),
    ("networks", "options.networks"),
    ("firewalls", "options.firewalls"),
    ("placement_group", "options.placementGroup"),
    ("public_net", "options.publicNet"),
    ("labels", "options.labels"),
];

/// A refused order mostly points at what the settings ask for: an image, a key, a type that does not exist.
fn order_code(error: &HetznerError) -> Code {
    const FROM_SETTINGS: [&str; 4] = ["image", "ssh_keys", "server_type", "location"];
    match error {
        HetznerError::Refused(_) if error.is_not_found() => Code::Config,
        HetznerError::Refused(_) if error.is_invalid_input() => {
            if FROM_SETTINGS.iter().any(|name| error.names(name)) {
                Code::Config
            } else {
                Code::InvalidInput
            }
        }
        _ => hetzner_code(error),
    }
}

/// Whatever is wrong with an order in the caller's own words is wrong with the call.
fn own_order_code(error: &HetznerError) -> Code {
    match error {
        HetznerError::Refused(_) if error.is_out_of_capacity() => Code::Capacity,
        HetznerError::Refused(_) if error.is_not_found() || error.is_invalid_input() || error.is_not_offered() => {
            Code::InvalidInput
        }
        _ => hetzner_code(error),
    }
}

fn tailscale_code(error: &TailscaleError) -> Code {
    let error = error.root();
    match error {
        TailscaleError::Transport(error) => transport_code(error),
        TailscaleError::Unreadable { .. } => Code::Protocol,
        TailscaleError::Credential { .. } | TailscaleError::NoToken(_) => Code::AuthTailscale,
        TailscaleError::Refused { .. } if error.is_unauthorized() => Code::AuthTailscale,
        TailscaleError::Refused { .. } if error.is_forbidden() || error.is_tag_refused() => Code::Forbidden,
        TailscaleError::Refused { .. } if error.is_rate_limited() => Code::RateLimited,
        TailscaleError::Refused { .. } => match error.opinion() {
            Opinion::Stop => Code::Protocol,
            _ => Code::Upstream,
        },
    }
}

fn transport_code(error: &TransportError) -> Code {
    match error {
        TransportError::Refused { .. }
        | TransportError::Dns { .. }
        | TransportError::Connect { .. }
        | TransportError::ConnectTimeout { .. } => Code::Unreachable,
        TransportError::Certificate { .. } | TransportError::Handshake { .. } => Code::Tls,
        TransportError::Broken { .. } | TransportError::Timeout { .. } => Code::Upstream,
        TransportError::OverBudget { .. } => Code::RateLimited,
        TransportError::OutOfTime { .. } => Code::Deadline,
        TransportError::TooLarge { .. } | TransportError::Redirect { .. } => Code::Protocol,
    }
}

/// A job that failed, after its undo.
#[derive(Clone, Debug)]
pub struct ProvisionError {
    /// What went wrong first; never a failure of the undo.
    pub cause: Cause,
    /// Where.
    pub step: Step,
    /// Each candidate that was tried.
    pub attempts: Vec<CandidateAttempt>,
    /// What the undo could not remove. Empty only if the absence was confirmed.
    pub leftovers: Vec<Leftover>,
    /// The cloud's unix time at the end of the call, if the cloud has shown it.
    pub ended_at: Option<i64>,
    /// The key that the settings bring can let in no other machine.
    pub is_key_spent: bool,
    /// The machine that did not join, and was told where to say why.
    pub unheard: Option<Unheard>,
    /// Requests made to Hetzner and to Tailscale.
    pub requests: (u32, u32),
}

impl ProvisionError {
    /// What spans say of it.
    pub fn mishap(&self) -> Mishap {
        Mishap { code: self.cause.code().as_str(), message: self.story(), left: self.leftovers.len() }
    }

    /// A failure before anything was begun.
    pub fn at_the_door(cause: Cause) -> Box<Self> {
        Box::new(Self {
            cause,
            step: Step::Validate,
            attempts: Vec::new(),
            leftovers: Vec::new(),
            ended_at: None,
            is_key_spent: false,
            unheard: None,
            requests: (0, 0),
        })
    }

    /// What a person should do: what the code's page says, and what was seen of the machine.
    pub fn hint(&self) -> String {
        let page = self.cause.code().hint();
        match self.cause.evidence().and_then(Evidence::sentence) {
            Some(sentence) => format!("{page} {sentence}"),
            None => page,
        }
    }

    /// Whether the unchanged call may succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        let is_stuck = match &self.cause {
            Cause::StillFollowing { dead_in, .. } => dead_in.is_none(),
            // A machine that is merely out of touch may come back; a device that is gone does not.
            Cause::Dormant { obstacle, .. } => *obstacle != Obstacle::Disconnected,
            _ => false,
        };
        let is_stuck = is_stuck || self.is_key_spent || self.leftovers.iter().any(|left| left.hold == Hold::Person);
        self.cause.code().is_retryable() && !is_stuck
    }

    /// How long a caller should wait before it tries again, if that is known. A server that was left is followed by the
    /// next call until its attempt counts as dead, so an earlier call would only wait for that moment.
    pub fn retry_after(&self) -> Option<Duration> {
        let until = |left: &Leftover| match left.hold {
            Hold::Until(moment) => u64::try_from(moment.saturating_add(1).saturating_sub(self.ended_at?)).ok(),
            Hold::None | Hold::Person => None,
        };
        let held = self.leftovers.iter().filter_map(until).map(Duration::from_secs).max();
        if self.is_retryable() { self.cause.retry_after().max(held) } else { None }
    }

    /// What was tried, and all that is below it, in one line.
    pub fn story(&self) -> String {
        self.cause.chain()
    }

    /// The texts of the causes below the first, outermost first.
    pub fn causes(&self) -> Vec<String> {
        let first = std::error::Error::source(&self.cause);
        std::iter::successors(first, |error| error.source()).map(ToString::to_string).collect()
    }
}

impl std::fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for ProvisionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.cause)
    }
}

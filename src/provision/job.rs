//! Who a job is: its name and its labels, and how to read them back (design 2.1 step 2, design 6).

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::Cause;
use crate::hetzner::{Labels, Server, is_label_value};

/// The tag that every device of ours carries.
pub const TAG: &str = "tag:agent";

/// Contract: the app looks servers up by these two.
pub const JOB: &str = "provisioning_job_id";
const AGENT: &str = "agent_id";
/// Ours.
const MANAGED_BY: (&str, &str) = ("managed_by", "provision-vm");
const ATTEMPT: &str = "attempt";
const ATTEMPT_STARTED: &str = "attempt_started";
const AUTH_KEY: &str = "auth_key";
const EXPIRES: &str = "expires";
const NODE: &str = "node_id";
/// On a server whose attempt may be finished, or undone, by any call for its job: its own did not wait for it.
const RESUMABLE: (&str, &str) = ("resumable", "yes");
const STATE: (&str, &str, &str) = ("state", "creating", "ready");

/// From an attempt's deadline until it counts as dead: a minute for its undo, and five for clocks that differ. Until then nobody
/// may take it for dead (fault Q06).
pub const BEYOND_DEADLINE: Duration = Duration::from_secs(60 + 300);

/// Whether a label is ours to write: what it says decides about a server's life.
pub fn is_own_label(key: &str) -> bool {
    let own = [JOB, AGENT, MANAGED_BY.0, ATTEMPT, ATTEMPT_STARTED, AUTH_KEY, EXPIRES, NODE, STATE.0, RESUMABLE.0];
    own.contains(&key)
}

/// A job of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The job's id: a label value.
    pub id: String,
    /// The agent's id: a label value.
    pub agent: String,
    /// The server's name, which only the two ids decide. Hetzner keeps names unique, so it is the lock.
    pub name: String,
}

impl Job {
    /// Checks both ids and derives the name.
    pub fn new(job_id: &str, agent_id: &str) -> Result<Self, Cause> {
        for (field, id) in [("params.jobId", job_id), ("params.agentId", agent_id)] {
            if !is_label_value(id) {
                let why = "must be 1 to 63 characters (letters, digits, '-', '_', '.'), alphanumeric at both ends";
                return Err(Cause::Input { field: field.to_owned(), why: why.to_owned() });
            }
        }
        Ok(Self { id: job_id.to_owned(), agent: agent_id.to_owned(), name: server_name(job_id, agent_id) })
    }

    /// Nobody's job: for calls that are about no job, but perhaps about something of this name.
    pub fn nobody(name: &str) -> Self {
        Self { id: String::new(), agent: String::new(), name: name.to_owned() }
    }

    /// The labels of a server that this attempt is about to make. Ours win.
    pub fn labels(&self, attempt: &Attempt, auth_key: Option<&str>, of_caller: &Labels) -> Labels {
        let mut labels = of_caller.clone();
        labels.extend([
            (JOB.to_owned(), self.id.clone()),
            (AGENT.to_owned(), self.agent.clone()),
            (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
            (ATTEMPT.to_owned(), attempt.id.clone()),
            (ATTEMPT_STARTED.to_owned(), attempt.started.to_string()),
            (EXPIRES.to_owned(), attempt.expires.to_string()),
            (STATE.0.to_owned(), STATE.1.to_owned()),
        ]);
        if let Some(key) = auth_key.filter(|key| is_label_value(key)) {
            labels.insert(AUTH_KEY.to_owned(), key.to_owned());
        }
        if attempt.is_resumable {
            labels.insert(RESUMABLE.0.to_owned(), RESUMABLE.1.to_owned());
        }
        labels
    }

    /// What an auth key of this attempt is described as: short hashes, since Tailscale allows 50 characters of letters,
    /// digits, blanks and hyphens.
    pub fn key_description(&self, attempt: &str) -> String {
        format!("{}{attempt}", key_prefix(&self.id))
    }

    /// Whether a server is this job's.
    pub fn owns(&self, claim: &Claim) -> bool {
        claim.job == self.id && claim.agent == self.agent
    }
}

/// What the descriptions of all keys of a job begin with; the attempt follows.
pub fn key_prefix(job: &str) -> String {
    format!("provision-vm {} ", short_hash(job))
}

/// Whether a text can be the id of a job: it becomes the value of a label.
pub fn is_job_id(text: &str) -> bool {
    is_label_value(text)
}

/// The selector that finds every server of this job.
pub fn selector(job: &str) -> String {
    crate::hetzner::selector(JOB, job)
}

/// Whether a server carries this job's label. Who asked for the label looks again: the filter may have been lost on the way.
pub fn is_labelled(server: &Server, job: &str) -> bool {
    server.labels.get(JOB).is_some_and(|label| label == job)
}

/// The selector that finds every server, of whatever job, whose attempt has not finished.
pub fn unfinished_selector() -> String {
    let terms = [(MANAGED_BY.0, MANAGED_BY.1), (STATE.0, STATE.1)];
    terms.map(|(key, value)| crate::hetzner::selector(key, value)).join(",")
}

/// The selector that finds every server that this package made, of whatever job.
pub fn managed_selector() -> String {
    crate::hetzner::selector(MANAGED_BY.0, MANAGED_BY.1)
}

/// One attempt at a job. Its id is on the server, and only who minted it may undo that server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// A random id, after that of the workflow's run if it belongs to one.
    pub id: String,
    /// The cloud's unix time at its start.
    pub started: i64,
    /// The cloud's unix time after which it counts as dead.
    pub expires: i64,
    /// Whether any call for the job may finish it, since its own does not wait.
    pub is_resumable: bool,
}

/// The run of a workflow that a call belongs to. It is in the id of each attempt of that run, so that whoever comes after the run
/// finds what it left (design 6, "Deleting", 1 and 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowRun {
    /// What the ids of its attempts begin with.
    prefix: String,
}

impl WorkflowRun {
    /// Of this id, which is a label value, such as `12345678901-1` (a run and its attempt). A longer one is hashed: an attempt's
    /// id goes into the description of its key, which has room for 24 characters of it.
    pub fn new(id: &str) -> Option<Self> {
        let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let prefix = if id.len() <= LONGEST_RUN && is_plain { id.to_owned() } else { short_hash(id) };
        is_label_value(id).then_some(Self { prefix })
    }

    /// The id of an attempt of this run, made of a random id: two calls of one run are two attempts.
    pub fn attempt(&self, random: &str) -> String {
        format!("{}-{}", self.prefix, random.get(..RANDOM_DIGITS).unwrap_or(random))
    }

    /// Whether an attempt is one of this run.
    pub fn made(&self, attempt: &str) -> bool {
        let random = attempt.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('-'));
        random.is_some_and(|id| id.len() == RANDOM_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// How much of an attempt's id is random, if the rest is its run.
const RANDOM_DIGITS: usize = 8;
/// The longest part of an attempt's id that its run makes.
const LONGEST_RUN: usize = 15;
/// The longest id of an attempt.
pub const LONGEST_ATTEMPT: usize = LONGEST_RUN + 1 + RANDOM_DIGITS;

/// The label of a server that is ordered in a caller's own words: whose order made it is all that it says.
pub fn order_labels(attempt: &str) -> Labels {
    Labels::from([(ATTEMPT.to_owned(), attempt.to_owned())])
}

/// The attempt that made a server, whatever else its labels say.
pub fn attempt_of(server: &Server) -> Option<&str> {
    server.labels.get(ATTEMPT).map(String::as_str)
}

/// What a server's labels say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: String,
    /// The agent.
    pub agent: String,
    /// The attempt that made it.
    pub attempt: String,
    /// When that attempt began, in the cloud's unix time.
    pub started: i64,
    /// When an unfinished attempt counts as dead. Without a readable label it never does.
    pub expires: Option<i64>,
    /// The id of the auth key that was minted for it.
    pub auth_key: Option<String>,
    /// The device that was verified when it was handed over.
    pub node_id: Option<String>,
    /// Whether it was handed over.
    pub ready: bool,
    /// Whether any call for the job may finish or undo it.
    pub is_resumable: bool,
}

impl Claim {
    /// When the machine's time is up, in the cloud's unix time: some time before the attempt counts as dead.
    pub fn deadline(&self) -> Option<i64> {
        self.expires.map(|expires| expires.saturating_sub_unsigned(BEYOND_DEADLINE.as_secs()))
    }

    /// Reads a server's labels; nothing if the server is not managed by us.
    pub fn read(server: &Server) -> Option<Self> {
        let label = |key: &str| server.labels.get(key).map(String::as_str);
        if label(MANAGED_BY.0) != Some(MANAGED_BY.1) {
            return None;
        }
        let state = label(STATE.0)?;
        Some(Self {
            job: label(JOB)?.to_owned(),
            agent: label(AGENT)?.to_owned(),
            attempt: label(ATTEMPT)?.to_owned(),
            started: label(ATTEMPT_STARTED)?.parse().ok()?,
            expires: label(EXPIRES).and_then(|text| text.parse().ok()),
            auth_key: label(AUTH_KEY).map(str::to_owned),
            node_id: label(NODE).map(str::to_owned),
            // A state that a later version may write is not ours to undo: only `creating` is unfinished.
            ready: state != STATE.1,
            is_resumable: label(RESUMABLE.0) == Some(RESUMABLE.1),
        })
    }

    /// Whether the attempt is past its end.
    pub fn is_dead(&self, now: i64) -> bool {
        !self.ready && self.expires.is_some_and(|expires| expires < now)
    }
}

/// A server's labels with the state `ready` and the device that was verified. All others stay, those that people added too; a ready server does not
/// expire, and nothing of it is left to finish.
pub fn ready_labels(server: &Server, node_id: &str) -> Labels {
    let mut labels = server.labels.clone();
    labels.remove(EXPIRES);
    labels.remove(RESUMABLE.0);
    labels.insert(STATE.0.to_owned(), STATE.2.to_owned());
    if is_label_value(node_id) {
        labels.insert(NODE.to_owned(), node_id.to_owned());
    }
    labels
}

/// `agent-<the first eight of the agent's id>-<hash of the job's id>`: a DNS label whatever the ids hold.
fn server_name(job_id: &str, agent_id: &str) -> String {
    let plain = |letter: char| {
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_alphanumeric() { letter } else { '-' }
    };
    let agent: String = agent_id.chars().take(8).map(plain).collect();
    match agent.trim_matches('-') {
        "" => format!("agent-{}", short_hash(job_id)),
        agent => format!("agent-{agent}-{}", short_hash(job_id)),
    }
}

/// Twelve hexadecimal digits: two of a million jobs share them with a chance of one in 500.
fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let number = digest.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:012x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hetzner::ServerId;

    fn server(labels: Labels) -> Server {
        Server {
            id: ServerId(1),
            name: "agent-a".into(),
            status: "running".into(),
            labels,
            addresses: crate::hetzner::Addresses::default(),
            primary_ips: vec![],
            location: "ash".into(),
            server_type: "cpx11".into(),
        }
    }

    #[test]
    fn d03_names_come_from_the_ids_alone_and_are_dns_labels() {
        for (job, agent, prefix) in [
            ("job-1", "550e8400-e29b-41d4", "agent-550e8400-"),
            ("job-1", "Abc_Def.G", "agent-abc-def-"),
            ("job-1", "A", "agent-a-"),
        ] {
            let name = Job::new(job, agent).unwrap().name;
            assert!(name.starts_with(prefix), "{name}");
            assert_eq!(name, Job::new(job, agent).unwrap().name);
            assert!(name.len() <= 63 && !name.contains("--") && !name.ends_with('-'), "{name}");
        }
        assert_ne!(Job::new("job-1", "a").unwrap().name, Job::new("job-2", "a").unwrap().name);
    }

    #[test]
    fn an_attempt_tells_the_run_that_it_belongs_to_and_no_other() {
        let longest = "1".repeat(63);
        for id in ["1", "123-1", "12345678901-123", "123456789012345678-1", "a_b.c", longest.as_str()] {
            let run = WorkflowRun::new(id).unwrap();
            let attempt = run.attempt("0123456789abcdef");
            assert!(run.made(&attempt) && is_label_value(&attempt), "{id}: {attempt}");
            assert!(attempt.len() <= LONGEST_ATTEMPT, "{attempt}");
            let description = Job::new("job-1", "a").unwrap().key_description(&attempt);
            let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == ' ' || letter == '-';
            assert!(description.len() <= 50 && description.chars().all(is_allowed), "{description}");
        }
        let run = WorkflowRun::new("123-1").unwrap();
        let others = [
            "123-1",
            "123-1-",
            "123-1-0123456",
            "123-11-01234567",
            "123-1-1-01234567",
            "0123-1-01234567",
            "123-1-0123456g",
        ];
        for other in others {
            assert!(!run.made(other), "{other}");
        }
        assert_eq!([WorkflowRun::new(""), WorkflowRun::new("a b"), WorkflowRun::new("1-")], [None, None, None]);
    }

    #[test]
    fn d12_ids_that_are_no_label_values_are_refused_with_their_path() {
        let long = "x".repeat(64);
        for (job, agent, field) in [
            ("", "a", "params.jobId"),
            ("a b", "a", "params.jobId"),
            (long.as_str(), "a", "params.jobId"),
            ("a", "$(id)", "params.agentId"),
            ("a", "-a", "params.agentId"),
        ] {
            assert_eq!(Job::new(job, agent).unwrap_err().field(), Some(field));
        }
    }

    #[test]
    fn labels_read_back_as_they_were_written() {
        let job = Job::new("job-1", "agent-1").unwrap();
        let attempt = Attempt { id: "00ff00ff00ff00ff".into(), started: 1000, expires: 2000, is_resumable: false };
        let of_caller =
            Labels::from([("team".to_owned(), "blue".to_owned()), ("state".to_owned(), "ready".to_owned())]);
        let labels = job.labels(&attempt, Some("k1CNTRL"), &of_caller);
        assert_eq!((labels["team"].as_str(), labels["state"].as_str()), ("blue", "creating"));
        assert!(labels.iter().all(|(key, value)| is_label_value(key) && is_label_value(value)), "{labels:?}");
        let made = server(labels);
        let claim = Claim::read(&made).unwrap();
        assert!(job.owns(&claim) && !claim.ready && claim.attempt == attempt.id);
        assert!(!claim.is_dead(2000) && claim.is_dead(2001));
        let ready = Claim::read(&server(ready_labels(&made, "n1CNTRL"))).unwrap();
        assert!(ready.ready && !ready.is_dead(i64::MAX));
        assert_eq!(Claim::read(&server(Labels::new())), None);
        assert!(job.key_description(&attempt.id).len() <= 50);
    }
}

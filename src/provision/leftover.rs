//! What a failed call names because it is, or may be, still there (design 2.2).

use std::time::Duration;

/// For how long what a read has shown is said to be there, if it may go by itself.
const FRESH: Duration = Duration::from_secs(1);

/// Something of this call that is still there, or may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// What it is.
    pub kind: Kind,
    /// Its id, where known.
    pub id: Option<String>,
    /// Its name, host name or description, where known.
    pub name: Option<String>,
    /// How sure that is.
    pub certainty: Certainty,
    /// What it means for the next call of the same job.
    pub hold: Hold,
    /// Why it was left.
    pub why: String,
}

/// What can be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A server, with the addresses that go with it.
    Server,
    /// A device of the tailnet.
    Device,
    /// An auth key with which a machine could still join.
    AuthKey,
    /// An address that outlived its server.
    PrimaryIp,
}

/// How sure it is that something is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// A read showed it, and it could not or must not be removed.
    Exists,
    /// It was there once, and no read could confirm that it is gone, or whose it is.
    Unconfirmed,
    /// It was never seen, but something that got no answer may still make it.
    MayAppear,
}

/// What a leftover means for the next call of the same job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Nothing.
    None,
    /// The next call follows it until this moment of the cloud's unix time, and replaces it after.
    Until(i64),
    /// The job is stuck until a person looks at it.
    Person,
}

impl Leftover {
    /// Something that a read showed.
    pub(super) fn exists(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, id: None, name: None, certainty: Certainty::Exists, hold: Hold::None, why: why.into() }
    }

    /// Something whose absence could not be confirmed.
    pub(super) fn unconfirmed(kind: Kind, why: impl Into<String>) -> Self {
        Self { certainty: Certainty::Unconfirmed, ..Self::exists(kind, why) }
    }

    /// Something that may still come to be.
    pub(super) fn may_appear(kind: Kind, why: impl Into<String>) -> Self {
        Self { certainty: Certainty::MayAppear, ..Self::exists(kind, why) }
    }

    /// The same as it is told so long after the read, if it may go by itself.
    pub(super) fn after(self, age: Duration) -> Self {
        if age > FRESH { self.grown_old() } else { self }
    }

    /// The same, a while later.
    pub(super) fn grown_old(self) -> Self {
        let certainty = if self.certainty == Certainty::Exists { Certainty::Unconfirmed } else { self.certainty };
        Self { certainty, ..self }
    }

    pub(super) fn id(self, id: &impl ToString) -> Self {
        Self { id: Some(id.to_string()), ..self }
    }

    pub(super) fn name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    pub(super) fn hold(self, hold: Hold) -> Self {
        Self { hold, ..self }
    }
}

impl Kind {
    /// The kind as JavaScript sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Device => "device",
            Self::AuthKey => "auth_key",
            Self::PrimaryIp => "primary_ip",
        }
    }
}

impl std::fmt::Display for Leftover {
    /// One line for a person: `server 131072002 (agent-a-1): may appear: an order got no answer`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.as_str())?;
        match (&self.id, &self.name) {
            (Some(id), Some(name)) => write!(f, " {id} ({name})")?,
            (Some(one), None) | (None, Some(one)) => write!(f, " {one}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.reason())
    }
}

impl Leftover {
    /// Why it was left, with how sure that is.
    pub fn reason(&self) -> String {
        match self.certainty {
            Certainty::Exists => self.why.clone(),
            Certainty::Unconfirmed => format!("may still be there: {}", self.why),
            Certainty::MayAppear => format!("may appear: {}", self.why),
        }
    }
}

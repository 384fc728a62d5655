//! What a machine can report of its first boot: the words between `join.sh` and whoever reads them.

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The join script has begun.
    Started,
    /// The clock is right.
    Clock,
    /// Tailscale is installed.
    Package,
    /// It is in the tailnet.
    Joined,
    /// It never will be, and why.
    Failed(FailureClass),
}

/// Why it cannot join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// The clock could not be set.
    Clock,
    /// The signing key or the archive is not to be had.
    Download,
    /// What was fetched is not what the document names by its fingerprint or checksum.
    Signature,
    /// apt could not install the package.
    Package,
    /// tailscaled does not start.
    Daemon,
    /// Tailscale refused the key.
    KeyRefused,
    /// `tailscale up` came to no end in time.
    UpTimeout,
    /// `tailscale up` failed in another way.
    Up,
    /// The file with the key was not there.
    NoKey,
    /// The device waits for approval.
    Approval,
}

impl FailureClass {
    /// All classes with the words for them.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::Clock, "clock"),
        (Self::Download, "download"),
        (Self::Signature, "signature"),
        (Self::Package, "package"),
        (Self::Daemon, "daemon"),
        (Self::KeyRefused, "key-refused"),
        (Self::UpTimeout, "up-timeout"),
        (Self::Up, "up"),
        (Self::NoKey, "no-key"),
        (Self::Approval, "approval"),
    ];
}

impl Milestone {
    /// From the words of a report; nothing if they are none, or say a class of what did not fail.
    pub fn parse(event: &str, class: Option<&str>) -> Option<Self> {
        match (event, class) {
            ("started", None) => Some(Self::Started),
            ("clock", None) => Some(Self::Clock),
            ("package", None) => Some(Self::Package),
            ("joined", None) => Some(Self::Joined),
            ("failed", Some(class)) => {
                FailureClass::ALL.into_iter().find(|(_, word)| *word == class).map(|(class, _)| Self::Failed(class))
            }
            _ => None,
        }
    }
}

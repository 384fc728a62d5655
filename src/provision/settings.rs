//! What a call needs to know, checked and typed. Where it is read from is the binding's matter.

use std::time::Duration;

// Who fills the settings needs these types, and need not know the rooms below for them.
pub use super::job::WorkflowRun;
pub use crate::cloud_init::{Additions, Command, File, Owner, Package, Reporting, SIGNING_KEY, User};
pub use crate::cloud_init::{
    is_checksum, is_fingerprint, is_package, is_path, is_permissions, is_report_secret, is_report_url, is_ssh_key,
    is_user, is_version,
};
pub use crate::hetzner::{Attachments, DEFAULT_URL as HETZNER_URL, FirewallRef, IdOrName, Labels, PublicNet};
pub use crate::hetzner::{is_label_key, is_label_value};
use crate::secret::Secret;
pub use crate::tailscale::{Credentials, DEFAULT_URL as TAILSCALE_URL, NodeId};
pub use crate::transport::{BaseUrl, BaseUrlError, BoxFuture, Document, Network, Proxy, clean};

/// The deadline of a call that names none (`PROVISION_TIMEOUT_SECONDS`).
pub const USUAL_TIMEOUT: Duration = Duration::from_secs(600);
/// The image of a server that is not made from a snapshot.
pub const USUAL_IMAGE: &str = "ubuntu-22.04";

/// Everything but the job itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `HETZNER_API_URL`.
    pub hetzner_url: BaseUrl,
    /// `HETZNER_API_TOKEN`. Empty for a call that does not speak to Hetzner.
    pub hetzner_token: Secret,
    /// `HETZNER_SSH_KEY_ID`: at least one.
    pub ssh_keys: Vec<IdOrName>,
    /// `TAILSCALE_API_URL`.
    pub tailscale_url: BaseUrl,
    /// `TAILSCALE_OAUTH_CLIENT_ID` and `TAILSCALE_OAUTH_CLIENT_SECRET`, or workload identity. Empty for a call that does not
    /// speak to Tailscale.
    pub tailscale_credentials: Credentials,
    /// `TAILSCALE_AUTH_KEY`: a key made by hand, for migration.
    pub auth_key: Option<Secret>,
    /// Lets a reusable `TAILSCALE_AUTH_KEY` through.
    pub allow_reusable_auth_key: bool,
    /// What the server is made from.
    pub source: Source,
    /// The types to try, in order.
    pub server_types: Vec<String>,
    /// Whether the device vanishes some time after the machine is off.
    pub ephemeral: bool,
    /// What is wanted beyond the usual.
    pub extras: Extras,
    /// Whether an unknown region is an error.
    pub strict_region: bool,
    /// The time for everything but the undo.
    pub timeout: Duration,
    /// How long a machine has to join that nobody waits for, from the call that begins it.
    pub lifetime: Duration,
    /// The TCP port on which the machine has to be reached over the tailnet, from where we run, before the job is done.
    pub reach: Option<u16>,
    /// `BOOT_REPORT_URL` and `BOOT_REPORT_SECRET`: where machines say how their first boot goes.
    pub report: Option<Reporting>,
    /// The run of a workflow that the call belongs to.
    pub run: Option<WorkflowRun>,
    /// What a person should hear about these settings.
    pub warnings: Vec<String>,
}

/// What a caller wants of a machine beyond the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Names of the locations to try, in this order, instead of the region's.
    pub locations: Vec<String>,
    /// Labels of the server, beside ours.
    pub labels: Labels,
    /// Tags of the device, beside `tag:agent`.
    pub tags: Vec<String>,
    /// What the server is attached to.
    pub attachments: Attachments,
    /// Where Tailscale comes from on a stock image.
    pub package: Package,
    /// What is added to its first boot.
    pub additions: Additions,
}

/// What a server is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A stock image, on which everything is still to be installed.
    Image(IdOrName),
    /// `HETZNER_SNAPSHOT_ID`: a snapshot that has Tailscale already.
    Snapshot(IdOrName),
}

impl Source {
    /// The image to order.
    pub fn image(&self) -> &IdOrName {
        match self {
            Self::Image(image) | Self::Snapshot(image) => image,
        }
    }

    /// Whether it is a snapshot.
    pub fn is_snapshot(&self) -> bool {
        matches!(self, Self::Snapshot(_))
    }
}

//! The first-boot document: what a new machine reads with cloud-init, and what makes it join the tailnet.
//!
//! Pure functions from typed values to text; nothing is pasted into anything. Facts and pitfalls:
//! `facts/tailscale-and-first-boot.md`, part B. This room knows nothing of clouds or jobs.

mod additions;
mod document;
mod error;
mod news;
mod package;
mod report;

pub use additions::{Additions, Command, File, Owner, User, is_package, is_path, is_permissions, is_ssh_key, is_user};
pub use document::{FirstBoot, LARGEST, Mode, check, render};
pub use error::CloudInitError;
pub use news::{FailureClass, Milestone};
pub use package::{Package, SIGNING_KEY, is_checksum, is_fingerprint, is_version};
pub use report::{Bearer, Report, Reporting, is_report_secret, is_report_url};

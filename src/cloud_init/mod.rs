//! The first-boot document: what a new machine reads with cloud-init, and what makes it join the tailnet.
//!
//! Pure functions from typed values to text; nothing is pasted into anything. Facts and pitfalls:
//! `facts/tailscale-and-first-boot.md`, part B. This room knows nothing of clouds or jobs.

mod document;
mod error;

pub use document::{FirstBoot, LARGEST, Mode, render};
pub use error::CloudInitError;

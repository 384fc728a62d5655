//! Creates Hetzner Cloud VMs that join a Tailscale tailnet on first boot.
//!
//! The promise: one job, at most one server; a call that fails leaves nothing behind or names exactly what it left.
//!
//! The rooms, top to bottom. An arrow may only point down, and no layer is skipped (`tests/layers.rs` holds this):
//!
//! | room | what it is for |
//! | --- | --- |
//! | `binding` | JavaScript in and out: text to settings, promises, cancellation, progress, errors as data. Decides nothing. |
//! | [`provision`] | the job: identity, candidates, steps with their undo, enrollment, adoption. No HTTP, no JSON. |
//! | [`hetzner`], [`tailscale`], [`cloud_init`] | one outside system each: its vocabulary, its requests, its errors. |
//! | [`transport`] | one HTTP exchange as a trait, and all that surrounds it: retry, deadline, time, chance. |
//! | [`secret`] | a leaf that every room may use. |

#[cfg(feature = "binding")]
#[cfg_attr(test, allow(dead_code, reason = "napi exports nothing from test builds"))]
mod binding;
#[forbid(unsafe_code)]
pub mod cloud_init;
#[forbid(unsafe_code)]
pub mod hetzner;
#[forbid(unsafe_code)]
pub mod provision;
#[forbid(unsafe_code)]
pub mod secret;
#[forbid(unsafe_code)]
pub mod tailscale;
#[forbid(unsafe_code)]
pub mod transport;

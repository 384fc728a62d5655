//! Single calls and what exists after them, in a simulated world. One program, so that what they share is built once.
//!
//! `provision.rs` has the calls that end with a machine, `failure.rs` those that do not, `adopt.rs` jobs that are called
//! for again, `undo.rs` what an undo must survive, `spared.rs` what nobody may touch, `doubt.rs` what must not be believed at
//! once, `lies.rs` answers that are wrong, `reap.rs` the reaper, `drop_in.rs` the single operations,
//! `resume.rs` jobs that nobody waits for, `options.rs` what is wanted beyond the usual, `deprovision.rs` the end of a job,
//! `cleanup.rs` what a workflow's run left, `survey.rs` looks over all jobs and the set-up, `reach.rs` machines that have to be reached, and `boot_report.rs` what can be said
//! of a machine that does not join.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[path = "calls/adopt.rs"]
mod adopt;
#[path = "calls/boot_report.rs"]
mod boot_report;
#[path = "calls/cleanup.rs"]
mod cleanup;
#[path = "calls/deprovision.rs"]
mod deprovision;
#[path = "calls/doubt.rs"]
mod doubt;
#[path = "calls/drop_in.rs"]
mod drop_in;
#[path = "calls/failure.rs"]
mod failure;
#[path = "calls/lies.rs"]
mod lies;
#[path = "calls/options.rs"]
mod options;
#[path = "calls/provision.rs"]
mod provision;
#[path = "calls/reach.rs"]
mod reach;
#[path = "calls/reap.rs"]
mod reap;
#[path = "calls/resume.rs"]
mod resume;
#[path = "calls/spared.rs"]
mod spared;
mod support;
#[path = "calls/survey.rs"]
mod survey;
#[path = "calls/undo.rs"]
mod undo;

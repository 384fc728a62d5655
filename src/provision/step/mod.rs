//! The steps that act, one file each, the action beside its undo.

pub(super) mod auth_key;
pub(super) mod device;
pub(super) mod first_boot;
pub(super) mod reach;
pub(super) mod ready;
pub(super) mod removal;
pub(super) mod server;
pub(super) mod wait;

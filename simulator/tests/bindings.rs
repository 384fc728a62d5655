//! What servers are bound to (networks, firewalls, placement groups, addresses), and what comes of it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[path = "bindings/client.rs"]
mod client;
#[path = "bindings/kinds.rs"]
mod kinds;
#[path = "bindings/orders.rs"]
mod orders;
#[path = "bindings/reach.rs"]
mod reach;

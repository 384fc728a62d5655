//! JavaScript in and out. Decides nothing.
//!
//! The border follows `facts/napi.md`: functions take and return plain data and never reject for a domain fault; they
//! settle with `{ value }` or `{ fault }`, and the hand-written `index.js` makes the API of it. Input comes as JSON text
//! and is read by hand, so that a wrong argument is answered with its path, and never thrown.

mod boot_report;
mod cancel;
mod drop_in;
mod extras;
mod fields;
mod input;
mod lifecycle;
mod log;
mod many;
mod output;
mod progress;
mod provision;
mod runtime;
mod settings;
mod survey;

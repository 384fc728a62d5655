//! Hostile input: whatever the clouds answer, whatever a caller passes in. Properties over generated input; a failure
//! prints the smallest input that fails, and where proptest keeps its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

#[path = "hostile/addresses.rs"]
mod addresses;
#[path = "hostile/decoders.rs"]
mod decoders;
#[path = "hostile/first_boot.rs"]
mod first_boot;
#[path = "hostile/job.rs"]
mod job;
#[path = "hostile/mutation.rs"]
mod mutation;
#[path = "hostile/names.rs"]
mod names;
#[path = "hostile/operation.rs"]
mod operation;
#[path = "hostile/text.rs"]
mod text;

use proptest::prelude::*;
use tokio::runtime::Runtime;

/// Where failing seeds are kept; proptest cannot find the source of an integration test by itself.
const REGRESSIONS: &str = "tests/hostile/regressions.txt";

/// The same cases every time, unless a seed is named: a change is not to fail for what another one did.
const SEED: u64 = 20_261_124;

/// So many cases, and the seeds of earlier failures first. `PROVISION_VM_HOSTILE_SEED` draws others.
fn cases(count: u32) -> ProptestConfig {
    #[expect(clippy::disallowed_methods, reason = "a switch of the suite")]
    let seed = std::env::var("PROVISION_VM_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let rng_seed = proptest::test_runner::RngSeed::Fixed(seed);
    let failure_persistence = Some(Box::new(proptest::test_runner::FileFailurePersistence::Direct(REGRESSIONS)) as _);
    ProptestConfig { cases: count, failure_persistence, rng_seed, ..ProptestConfig::default() }
}

/// One thread, paused time.
fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Characters that mean something to a terminal, a runner, a shell, YAML or a URL, among all others.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => any::<char>().prop_map(String::from),
        4 => proptest::char::range('!', '~').prop_map(String::from),
        1 => proptest::sample::select(PIECES.as_slice()).prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

const PIECES: [&str; 32] = [
    "::",
    "##[",
    "#",
    "[",
    ":",
    "::set-output name=a::b",
    "\r\n",
    "\n",
    "\t",
    "\0",
    " ",
    "\u{1b}[2J",
    "\u{85}",
    "\u{2028}",
    "\u{202e}",
    "\u{200b}",
    "\u{feff}",
    "\u{fff9}",
    "\u{e0001}",
    "\u{7f}",
    "tskey-",
    "tskey-auth-",
    "tskey-api-k1-x",
    "tsk",
    "ey-",
    "..",
    "/",
    "%2f",
    "$(id)",
    "'\"",
    "é",
    "-",
];

/// What no text for a person may hold: control and direction characters, workflow commands.
fn complaint_about(text: &str) -> Option<String> {
    let unfit = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(letter, '\u{61c}' | '\u{feff}')
    };
    if let Some(letter) = text.chars().find(|letter| unfit(*letter)) {
        return Some(format!("it holds {:?}: {text:?}", letter.escape_unicode().to_string()));
    }
    ["::", "##["].iter().find(|command| text.contains(**command)).map(|command| format!("it holds {command}: {text:?}"))
}

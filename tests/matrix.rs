//! The fault matrix: every single fault at every request, every interruption between any two events, every pair.
//!
//! All of it is generated from tables (`matrix/`), and each run is judged by what exists in the simulated world
//! afterwards. The suite writes `docs/faults.md` from its runs.
//!
//! * `PROVISION_VM_MATRIX=all`: every fault in every story, not only at the requests that a story has of its own.
//! * `PROVISION_VM_PAIRS=all`: every pair instead of a fixed part of them; in release.
//! * `PROVISION_VM_BLESS=1`: writes `docs/faults.md` anew.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[path = "matrix/concurrent.rs"]
mod concurrent;
#[path = "matrix/form.rs"]
mod form;
#[path = "matrix/happening.rs"]
mod happening;
#[path = "matrix/interruption.rs"]
mod interruption;
#[path = "matrix/judge.rs"]
mod judge;
#[path = "matrix/page.rs"]
mod page;
#[path = "matrix/pair.rs"]
mod pair;
#[path = "matrix/pool.rs"]
mod pool;
#[path = "matrix/role.rs"]
mod role;
#[path = "matrix/scenario.rs"]
mod scenario;
#[path = "matrix/single.rs"]
mod single;
#[path = "matrix/special.rs"]
mod special;
mod support;
#[path = "matrix/table.rs"]
mod table;
#[path = "matrix/wire.rs"]
mod wire;

use std::collections::BTreeSet;

use scenario::Scenario;

/// Fails with the first of what is wrong, and says how much there is.
#[track_caller]
fn assert_none(what: &str, runs: usize, wrong: &[String]) {
    const SHOWN: usize = 25;
    println!("{what}: {runs} runs, {} wrong", wrong.len());
    assert!(runs > 0, "{what}: nothing was run");
    let shown = wrong.iter().take(shown_or(SHOWN)).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{what}: {} of {runs} runs are wrong:\n{shown}", wrong.len());
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
fn shown_or(usual: usize) -> usize {
    std::env::var("PROVISION_VM_SHOW").ok().and_then(|most| most.parse().ok()).unwrap_or(usual)
}

fn lines(name: &str, wrong: &[String]) -> Option<String> {
    (!wrong.is_empty()).then(|| format!("* {name}\n    {}", wrong.join("\n    ")))
}

#[test]
fn every_story_ends_as_it_should_when_nothing_interferes() {
    let wrong: Vec<String> =
        Scenario::ALL.iter().filter_map(|it| lines(it.words(), &single::calm(*it).wrong)).collect();
    assert_none("stories", Scenario::ALL.len(), &wrong);
}

#[test]
fn every_single_fault_at_every_request_ends_as_its_row_says() {
    let all = single::all();
    let wrong: Vec<String> =
        all.iter().filter_map(|seen| lines(&format!("{} [{:?}]", seen.case.name(), seen.role), &seen.wrong)).collect();
    assert_none("single faults", all.len(), &wrong);
}

#[test]
fn one_passing_fault_costs_little_time() {
    let delays = single::delays_of_survivors();
    let median = delays[delays.len() / 2];
    let longest = single::all().iter().max_by_key(|seen| seen.longest_wait).unwrap();
    println!("{} survived, median delay {median} ms, longest wait {} ms", delays.len(), longest.longest_wait);
    assert!(median < 3_000, "the median delay is {median} ms");
    assert!(longest.longest_wait <= 30_000, "a wait of {} ms: {}", longest.longest_wait, longest.case.name());
}

#[test]
fn every_interruption_between_any_two_events_leaves_nothing_or_names_it() {
    let all = interruption::all();
    let wrong: Vec<String> = all.iter().filter_map(|seen| lines(&seen.case.name(), &seen.wrong)).collect();
    assert_none("interruptions", all.len(), &wrong);
}

#[test]
fn pairs_of_transport_faults_are_survived() {
    let all = pair::all();
    let wrong: Vec<String> = all.iter().filter_map(|seen| lines(&seen.case.name(), &seen.wrong)).collect();
    let both = all.iter().filter(|seen| seen.both).count();
    println!("{} of {} pairs; in {both} both faults befell a request", all.len(), pair::count());
    assert_none("pairs", all.len(), &wrong);
}

#[test]
fn faults_of_meaning_end_as_their_rows_say() {
    let all = happening::all();
    let name = |seen: &happening::Seen| format!("{} {}", seen.row, seen.name);
    let wrong: Vec<String> = all.iter().filter_map(|seen| lines(&name(seen), &seen.wrong)).collect();
    assert_none("faults of meaning", all.len(), &wrong);
}

#[test]
fn several_calls_at_once_end_with_one_server_for_each_job() {
    let all = concurrent::all().iter().zip(concurrent::ALL);
    let wrong: Vec<String> = all.filter_map(|(seen, it)| lines(&format!("{} {}", it.row, it.name), seen)).collect();
    assert_none("situations", concurrent::ALL.len(), &wrong);
}

#[test]
fn every_row_of_the_matrix_is_there_and_says_where_it_is_proven() {
    let classes = [("G", 33), ("P", 33), ("T", 6), ("K", 8), ("M", 25), ("Q", 11), ("X", 16), ("Z", 5)];
    let wanted: BTreeSet<String> =
        classes.iter().flat_map(|(class, last)| (1..=*last).map(move |number| format!("{class}{number:02}"))).collect();
    let rows = || table::CLASSES.iter().flat_map(|class| class.rows);
    assert_eq!(rows().map(|row| row.0.to_owned()).collect::<BTreeSet<_>>(), wanted);
    let used = form::FORMS.iter().map(|form| form.row).chain(special::SPECIALS.iter().map(|it| it.form.row));
    let used = used.chain(happening::all_stories().iter().map(|story| story.row)).collect::<Vec<_>>();
    let situations = concurrent::ALL.iter().map(|situation| situation.row);
    let used: BTreeSet<&str> = used.into_iter().chain(situations).collect();
    for row in &used {
        assert!(wanted.contains(*row), "{row} is no row of the matrix");
    }
    for (id, _, remark) in rows() {
        let has_run = used.contains(id) || !table::runs_of(id).is_empty();
        assert!(has_run || !remark.is_empty(), "{id} has no run, and nothing says where it is proven");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
fn docs_faults_md_is_what_the_runs_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");
    let written = page::write();
    if std::env::var("PROVISION_VM_BLESS").is_ok() {
        std::fs::write(path, &written).unwrap();
    }
    if single::is_everything() {
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let differs = written.lines().zip(committed.lines()).find(|(one, other)| one != other);
    assert!(
        written == committed,
        "docs/faults.md is not what the runs say ({differs:?}); PROVISION_VM_BLESS=1 cargo test --test matrix docs writes it"
    );
}

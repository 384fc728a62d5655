//! `docs/faults.md`, written from the runs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use provision_vm::provision::{Code, Kind};

use crate::form::Nature;
use crate::judge::MOST_REQUESTS;
use crate::role::Role;
use crate::scenario::Scenario;
use crate::single::{self, Seen, calm};
use crate::table::{CLASSES, Row, runs_of};
use crate::{concurrent, happening, interruption, pair};

const INTRODUCTION: &str = "\
# Faults, and what becomes of them

One job gets at most one server; a call that fails leaves nothing behind, or names exactly what it left. This page
shows what that means, fault by fault. **It is written by the test suite** (`tests/matrix.rs`) from its own runs: the
real core over the simulator, one thread and a clock of its own per run. What stands here happened; the suite fails if
it happens otherwise, or if this page says anything else.

How to read the tables:

* **once**: the fault befell one request. *survived* means that the call ended as it would have without it.
* **for good**: the fault befell that request and every later one of the same operation. A code is how the call ended
  then; *survived* beside it means that some requests can be done without (a revocation of a spent key, a look of
  many), or that the fault is found out (an order that was carried out although its answer was lost).
* **tries**: how often one operation was tried at most before the call gave it up. Waits, which look every second or
  so until the deadline, are not counted, nor is an undo, which goes on for its minute.
* **left**: what an error named as left, in any run. *nothing* means that after every run the world held nothing of
  the call's. Where a kind stands here, the undo itself was hit, or an order that got no answer may still be carried
  out, or the story began with the remains of a dead attempt. What is named was compared with what was there, in every
  run.
* **runs**: how many runs stand behind the line.

After each run the suite also checks that the fault befell the request that it was meant for, that the call was over
within its deadline and a minute, that its requests stayed within bounds, and that the same call succeeds once the
fault is gone: after `retryAfterMs`, where the error is retryable. A code that is not retryable came again while its
cause stayed (where nothing was left in between).
";

pub fn write() -> String {
    let mut page = INTRODUCTION.to_owned();
    figures(&mut page);
    stories(&mut page);
    for class in CLASSES {
        let _ = write!(page, "\n## {}\n\n{}\n\n", class.title, class.words);
        if class.rows.iter().any(|row| !runs_of(row.0).is_empty()) {
            page += "| id | fault | once | for good | tries | left | runs | |\n| --- | --- | --- | --- | --- | --- | \
             --- | --- |\n";
            class.rows.iter().filter(|row| !runs_of(row.0).is_empty()).for_each(|row| faults(&mut page, row));
        }
        meanings(&mut page, class.rows);
        elsewhere(&mut page, class.rows);
    }
    interruptions(&mut page);
    pairs(&mut page);
    page
}

/// How many runs have a name of their own.
pub fn named_runs() -> usize {
    Scenario::ALL.len()
        + single::all().len()
        + interruption::all().len()
        + happening::all().len()
        + concurrent::ALL.len()
}

fn figures(page: &mut String) {
    let delays = single::delays_of_survivors();
    let median = delays[delays.len() / 2];
    let longest = single::all().iter().map(|seen| seen.longest_wait).max().unwrap_or_default();
    let most = |api: fn(&Seen) -> usize| single::all().iter().map(api).max().unwrap_or_default();
    let calm = calm(Scenario::Succeeds);
    let calm_requests = |api: &str| calm.operations.iter().filter(|operation| operation.starts_with(api)).count();
    let reaction = interruption::all().iter().filter_map(|seen| seen.reaction).max().unwrap_or_default();
    let _ = write!(
        page,
        "\n## Figures\n\nAll times are virtual: they are the core's own waits and the simulated clouds' answers, \
             whatever machine runs the suite.\n\n\
        | | |\n| --- | --- |\n\
        | named runs | {} |\n\
        | single passing faults, each at one request of a call that then succeeded | {} |\n\
        | added delay of these, median | {}.{:03} s |\n\
        | longest wait before another try, in all runs | {}.{:03} s |\n\
        | from the caller's giving up to the undo, at most | {reaction} ms |\n\
        | requests of a call that nothing befell (a boot of 25 s) | {} to Hetzner, {} to Tailscale |\n\
        | most requests of any call (deadline 10 min, undo included) | {} to Hetzner, {} to Tailscale; {} and {} are allowed |\n",
        named_runs(),
        delays.len(),
        median / 1_000,
        median % 1_000,
        longest / 1_000,
        longest % 1_000,
        calm_requests("hetzner"),
        calm_requests("tailscale"),
        most(|seen| seen.requests.0),
        most(|seen| seen.requests.1),
        MOST_REQUESTS[0].1,
        MOST_REQUESTS[1].1,
    );
}

fn stories(page: &mut String) {
    *page += "\n## The calls\n\nThe faults befall these. A story that differs from the first one only in some \
             requests is hit at these.\n\n\
        | call | ends with | requests | runs |\n| --- | --- | --- | --- |\n";
    for scenario in Scenario::ALL {
        let calm = calm(scenario);
        let runs = single::all().iter().filter(|seen| seen.case.scenario == scenario).count();
        let _ = writeln!(page, "| {} | {} | {} | {runs} |", scenario.words(), end(calm.code), calm.operations.len());
    }
}

fn faults(page: &mut String, (id, words, remark): &Row) {
    let runs = runs_of(id);
    let ends = |lasts: bool| {
        let runs = runs.iter().filter(|seen| seen.case.lasts == lasts);
        let ends: BTreeSet<Option<Code>> =
            runs.map(|seen| seen.code.filter(|code| Some(*code) != seen.case.scenario.natural_end())).collect();
        let texts: Vec<&str> = ends.iter().map(|code| code.map_or("survived", Code::as_str)).collect();
        if texts.is_empty() { "–".to_owned() } else { texts.join(", ") }
    };
    let counts = |seen: &&&Seen| {
        let is_look =
            matches!(seen.role, Role::Poll | Role::Proof | Role::Glance | Role::LastLook | Role::Undo | Role::Removal);
        !is_look && seen.case.form.nature != Nature::Harmless
    };
    let tries = runs.iter().filter(counts).map(|seen| seen.tries).max();
    let tries = tries.map_or("–".to_owned(), |tries| tries.to_string());
    let kinds: BTreeSet<&str> = runs.iter().flat_map(|seen| seen.kinds_left.iter().copied()).collect();
    let _ = writeln!(
        page,
        "| {id} | {words} | {} | {} | {tries} | {} | {} | {remark} |",
        ends(false),
        ends(true),
        listed(kinds.into_iter()),
        runs.len()
    );
}

fn meanings(page: &mut String, rows: &[Row]) {
    let is_here = |row: &str| rows.iter().any(|(id, ..)| *id == row);
    let stories: Vec<_> = happening::all().iter().filter(|seen| is_here(seen.row)).collect();
    let situations: Vec<_> = concurrent::ALL.iter().filter(|situation| is_here(situation.row)).collect();
    if stories.is_empty() && situations.is_empty() {
        return;
    }
    let remark = |row: &str| rows.iter().find(|(id, ..)| *id == row).map_or("", |(_, _, remark)| remark);
    // A remark stands once, with the first line of its row.
    let mut told = BTreeSet::new();
    *page += "\n| id | what happens | the call ends with | left | |\n| --- | --- | --- | --- | --- |\n";
    for seen in stories {
        let left = listed(seen.left.iter().map(|kind| Kind::as_str(*kind)));
        let remark = if told.insert(seen.row) && runs_of(seen.row).is_empty() { remark(seen.row) } else { "" };
        let _ = writeln!(page, "| {} | {} | {} | {left} | {remark} |", seen.row, seen.name, end(seen.code));
    }
    for situation in situations {
        let remark = if told.insert(situation.row) { remark(situation.row) } else { "" };
        let _ = writeln!(page, "| {} | {} | {} | nothing | {remark} |", situation.row, situation.name, situation.ends);
    }
}

/// The rows that no run here can show.
fn elsewhere(page: &mut String, rows: &[Row]) {
    let has_run = |id: &str| {
        !runs_of(id).is_empty()
            || happening::all().iter().any(|seen| seen.row == id)
            || concurrent::ALL.iter().any(|situation| situation.row == id)
    };
    let others: Vec<&Row> = rows.iter().filter(|(id, ..)| !has_run(id)).collect();
    if !others.is_empty() {
        *page += "\nNot shown by a run of this suite:\n\n";
        for (id, words, remark) in others {
            let _ = writeln!(page, "* {id}, {words}. {remark}");
        }
    }
}

fn interruptions(page: &mut String) {
    *page += "\n## Interruptions\n\nOf a call that succeeds, one whose machine never joins, one that follows, two \
             that take a dead attempt over, and one for a job that is\n\
        done: just after every event (a request, an answer, something in the world) and in the middle of any two; a panic at every request, before\n\
        it is sent and with its answer in hand. After a death nothing more happens by itself, and the one call or the one `reap` that comes when\n\
        the attempt counts as dead leaves one ready server, or nothing.\n\n\
        | interruption | ends with | runs |\n| --- | --- | --- |\n";
    for kind in interruption::Kind::ALL {
        let runs: Vec<_> = interruption::all().iter().filter(|seen| seen.case.kind == kind).collect();
        let ends: BTreeSet<Option<Code>> =
            runs.iter().map(|seen| seen.code.filter(|code| Some(*code) != seen.case.scenario.natural_end())).collect();
        let what = match kind {
            interruption::Kind::DeathThenReap => "a world in order".to_owned(),
            interruption::Kind::DeathThenCall => "one ready server".to_owned(),
            _ => ends
                .iter()
                .map(|code| code.map_or("as without it, where it came too late", Code::as_str))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let _ = writeln!(page, "| {} | {what} | {} |", kind.words(), runs.len());
    }
}

fn pairs(page: &mut String) {
    let _ = write!(
        page,
        "\n## Pairs\n\nTwo transport faults of ten kinds ({}) at any two requests of a job that succeeds otherwise: \
             {} pairs. Each must end with one ready\n\
        server. `cargo test` runs every {}rd of them; `PROVISION_VM_PAIRS=all cargo test --release --test matrix` runs them all.\n",
        pair::PAIRED.join("; "),
        pair::count(),
        pair::STRIDE,
    );
}

fn end(code: Option<Code>) -> &'static str {
    code.map_or("success", Code::as_str)
}

fn listed<'a>(kinds: impl Iterator<Item = &'a str>) -> String {
    let kinds: Vec<&str> = kinds.collect();
    if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }
}

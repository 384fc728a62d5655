//! What many worlds were made of.

use std::collections::BTreeMap;

use crate::run::Report;
use crate::support::audit::Canary;
use crate::weather;

/// The steps in which a call sends requests, and the only ones of the reaper and of who cleans up after a run.
const STEPS: [&str; 10] =
    ["lookup", "follow", "auth_key", "server", "wait", "verify", "ready", "undo", "reap", "cleanup"];

#[derive(Default)]
pub struct Tally {
    pub seeds: u64,
    /// Faults by kind and by the step that met them.
    faults: BTreeMap<(&'static str, String), u64>,
    codes: BTreeMap<String, u64>,
    /// Worlds by the kinds of secrets in them, how many texts were searched for them, and where one was found.
    secrets: BTreeMap<Canary, u64>,
    searched: u64,
    found: u64,
    requests: Vec<(u32, u32)>,
    fair: Vec<(u32, u32)>,
    most_of_failures: (u32, u32),
    /// Clean-ups that reported, what they found, and what landed after them.
    cleanups: u64,
    cleaned: u64,
    landed_late: u64,
    /// Worlds in which deleting works now and then, and what stands in them that nobody named.
    deleting: u64,
    orphans: BTreeMap<&'static str, u64>,
    /// Worlds in which it never does, those of them in which leftovers were exact, and how much was left and named.
    hoarding: u64,
    exact: u64,
    named: u64,
}

impl Tally {
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        for (cell, times) in &report.counts.faults {
            *self.faults.entry(cell.clone()).or_default() += u64::from(*times);
        }
        for code in &report.codes {
            let name = match code {
                None => "(died)",
                Some(Ok(())) => "(success)",
                Some(Err(code)) => code.as_str(),
            };
            *self.codes.entry(name.to_owned()).or_default() += 1;
        }
        for kind in &report.secrets {
            *self.secrets.entry(*kind).or_default() += 1;
        }
        self.searched += report.counts.searched;
        self.found += report.violations.iter().filter(|violation| violation.invariant == "I06").count() as u64;
        if report.deletes_never {
            self.hoarding += 1;
            self.exact += u64::from(report.is_exact);
            self.named += u64::from(report.counts.named);
        } else {
            self.deleting += 1;
        }
        for orphan in &report.orphans {
            *self.orphans.entry(orphan.kind.as_str()).or_default() += 1;
        }
        self.cleanups += u64::from(report.counts.cleanups);
        self.cleaned += u64::from(report.counts.cleaned);
        self.landed_late += u64::from(report.counts.landed_late);
        self.requests.extend(&report.counts.requests);
        if report.fair {
            self.fair.extend(&report.counts.requests);
        }
        for sent in &report.counts.requests_of_failures {
            self.most_of_failures = (self.most_of_failures.0.max(sent.0), self.most_of_failures.1.max(sent.1));
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.write_faults(f)?;
        writeln!(f, "outcomes: {}", list(self.codes.iter().map(|(key, count)| (key.as_str(), *count))))?;
        for (name, requests) in [("of each successful call", &self.requests), ("of those in fair weather", &self.fair)]
        {
            let (hetzner, tailscale): (Vec<u32>, Vec<u32>) = requests.iter().copied().unzip();
            writeln!(f, "requests {name}: Hetzner {}, Tailscale {}", spread(hetzner), spread(tailscale))?;
        }
        let kinds: Vec<String> = self.secrets.iter().map(|(kind, worlds)| format!("{kind:?} {worlds}")).collect();
        let (searched, found) = (self.searched, self.found);
        writeln!(f, "secrets by kind and worlds: {}; {searched} texts searched, {found} found", kinds.join(", "))?;
        let orphans = |kind| self.orphans.get(kind).copied().unwrap_or(0);
        let [servers, devices, keys, addresses] = ["server", "device", "auth_key", "primary_ip"].map(orphans);
        writeln!(
            f,
            "worlds in which deleting ever works: {}; left by failed or dead calls, named by nobody, and still there at \
             the end: {servers} servers, {devices} devices, {keys} auth keys, {addresses} primary IPs",
            self.deleting
        )?;
        writeln!(
            f,
            "worlds in which deleting never works: {}; leftovers exact in {} of {}, and {} things named",
            self.hoarding, self.exact, self.hoarding, self.named
        )?;
        writeln!(
            f,
            "clean-ups after a run: {}; servers and keys found: {}; what landed later: {}",
            self.cleanups, self.cleaned, self.landed_late
        )?;
        write!(f, "most requests of a failed call: {} and {}", self.most_of_failures.0, self.most_of_failures.1)
    }
}

impl Tally {
    /// How often each kind of fault was met in each step in which it can be.
    fn cells(&self) -> Vec<(u64, &'static str, &'static str)> {
        let of_kind = |kind: &'static str| {
            let steps = STEPS.into_iter().filter(move |step| weather::can_befall(kind, step));
            steps.map(move |step| (self.cell(kind, step), kind, step))
        };
        weather::kinds().flat_map(of_kind).collect()
    }

    fn cell(&self, kind: &'static str, step: &str) -> u64 {
        self.faults.get(&(kind, step.to_owned())).copied().unwrap_or(0)
    }

    /// The cells that could have been met and were not.
    pub fn unmet(&self) -> Vec<String> {
        let empty = self.cells().into_iter().filter(|(count, ..)| *count == 0);
        empty.map(|(_, kind, step)| format!("{kind} at {step}")).collect()
    }

    /// How many kinds of secrets there were to be found.
    pub fn kinds_of_secrets(&self) -> usize {
        self.secrets.len()
    }

    /// A table of kinds and steps, and where the suite has not been yet.
    fn write_faults(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let elsewhere = self.faults.keys().filter(|(_, step)| !STEPS.contains(&step.as_str()));
        let elsewhere: Vec<&String> = elsewhere.map(|(_, step)| step).collect();
        assert!(elsewhere.is_empty(), "requests in steps that nobody expects: {elsewhere:?}");
        write!(f, "faults by kind and by the step that met them:\n{:<20}", "")?;
        for step in STEPS {
            write!(f, "{step:>9}")?;
        }
        writeln!(f, "{:>10}", "all")?;
        for kind in weather::kinds() {
            write!(f, "{kind:<20}")?;
            for step in STEPS {
                if weather::can_befall(kind, step) {
                    write!(f, "{:>9}", self.cell(kind, step))?;
                } else {
                    write!(f, "{:>9}", "-")?;
                }
            }
            writeln!(f, "{:>10}", STEPS.iter().map(|step| self.cell(kind, step)).sum::<u64>())?;
        }
        let (cells, empty) = (self.cells(), self.unmet());
        let (least, kind, step) = cells.iter().min().copied().unwrap_or_default();
        writeln!(f, "cells that can occur: {}, empty: {} {empty:?}", cells.len(), empty.len())?;
        writeln!(f, "the smallest cell: {least} ({kind} at {step})")
    }
}

fn list<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(key, count)| format!("{key} {count}")).collect::<Vec<_>>().join(", ")
}

fn spread(mut numbers: Vec<u32>) -> String {
    numbers.sort_unstable();
    let at = |share: usize| numbers.get(numbers.len() * share / 100).or(numbers.last()).copied().unwrap_or(0);
    format!("median {}, 99 of 100 below {}, most {}", at(50), at(99), numbers.last().copied().unwrap_or(0))
}

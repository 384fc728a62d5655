//! What many worlds were made of.

use std::collections::BTreeMap;

use crate::run::Report;

#[derive(Default)]
pub struct Tally {
    pub seeds: u64,
    faults: BTreeMap<&'static str, u64>,
    operations: BTreeMap<String, u64>,
    codes: BTreeMap<String, u64>,
    requests: Vec<(u32, u32)>,
    fair: Vec<(u32, u32)>,
    most_of_failures: (u32, u32),
}

impl Tally {
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        for ((fault, operation), times) in &report.counts.faults {
            *self.faults.entry(fault).or_default() += u64::from(*times);
            *self.operations.entry(operation.clone()).or_default() += u64::from(*times);
        }
        for code in &report.codes {
            let name = match code {
                None => "(died)",
                Some(Ok(())) => "(success)",
                Some(Err(code)) => code.as_str(),
            };
            *self.codes.entry(name.to_owned()).or_default() += 1;
        }
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
        writeln!(f, "faults by kind: {}", list(self.faults.iter().map(|(key, count)| (*key, *count))))?;
        writeln!(f, "faults by request: {}", list(self.operations.iter().map(|(key, count)| (key.as_str(), *count))))?;
        writeln!(f, "outcomes: {}", list(self.codes.iter().map(|(key, count)| (key.as_str(), *count))))?;
        for (name, requests) in [("of each successful call", &self.requests), ("of those in fair weather", &self.fair)]
        {
            let (hetzner, tailscale): (Vec<u32>, Vec<u32>) = requests.iter().copied().unzip();
            writeln!(f, "requests {name}: Hetzner {}, Tailscale {}", spread(hetzner), spread(tailscale))?;
        }
        write!(f, "most requests of a failed call: {} and {}", self.most_of_failures.0, self.most_of_failures.1)
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

//! What a machine said of its own first boot, in words that a person can act on.
//!
//! A report is a hint and never a proof: any process on the machine can read the token that it comes with. So reports decide
//! nothing; they end up in the hint of an error, and nothing of theirs is quoted there.

use crate::cloud_init::{FailureClass, Milestone};

/// One report that was proven to come with the token of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootReport {
    /// The attempt whose token it came with.
    pub attempt: String,
    /// What it says.
    pub milestone: Milestone,
    /// When, in unix milliseconds by the machine's own clock.
    pub at_ms: i64,
    /// The how manieth of its boot it is.
    pub seq: u64,
}

/// A hint with what the machine of an attempt said last. Reports of other attempts tell of other machines.
pub fn advise(hint: &str, attempt: &str, reports: &[BootReport]) -> String {
    let of_it = || reports.iter().filter(|report| report.attempt == attempt);
    let Some(last) = of_it().max_by_key(|report| report.seq) else {
        return format!(
            "{hint} No report of the machine is known: it may not have booted, may have a wrong clock, no curl or no way to \
             the receiver, or the receiver has refused or lost what it said."
        );
    };
    let began = of_it().find(|report| report.milestone == Milestone::Started).map(|report| report.at_ms);
    let since = began.filter(|_| last.milestone != Milestone::Started).and_then(|began| since(began, last.at_ms));
    let since = since.map(|seconds| format!(", {seconds} s after its boot began")).unwrap_or_default();
    let (said, words) = words(last.milestone);
    format!("{hint} The machine's last report{since}: {said}: {words}.")
}

/// Whole seconds between two moments of one boot. A clock that was put right between them makes nonsense of it.
fn since(began: i64, at: i64) -> Option<i64> {
    const LONGEST: i64 = 86_400;
    Some(at.checked_sub(began)? / 1000).filter(|seconds| at >= began && *seconds <= LONGEST)
}

/// What it said, and what to do about it.
fn words(milestone: Milestone) -> (String, &'static str) {
    let (said, words) = match milestone {
        Milestone::Started => ("started", "its boot began, and Tailscale was not there by then"),
        Milestone::Clock => ("clock", "its clock was right, and it had not joined by then"),
        Milestone::Package => ("package", "Tailscale was there, and `tailscale up` had not ended by then"),
        Milestone::Joined => {
            ("joined", "it says that it is in the tailnet, so look for a device of another name there")
        }
        Milestone::Failed(class) => {
            let word = FailureClass::ALL.into_iter().find(|(known, _)| *known == class).map_or("", |(_, word)| word);
            return (format!("failed ({word})"), remedy(class));
        }
    };
    (said.to_owned(), words)
}

/// What a person can do.
fn remedy(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Clock => "its clock could not be set; let time servers be reached (UDP port 123)",
        FailureClass::Download => {
            "Tailscale could not be downloaded; let pkgs.tailscale.com be reached (port 443, and DNS) through the firewalls and networks"
        }
        FailureClass::Signature => {
            "what it downloaded does not fit the fingerprint or checksum; see whether `tailscalePackage` names the current one, and who answers for pkgs.tailscale.com"
        }
        FailureClass::Package => {
            "apt could not install Tailscale; try the image by hand, or `tailscalePackage` with a static build"
        }
        FailureClass::Daemon => "tailscaled does not start; read its journal on a server made from the same image",
        FailureClass::KeyRefused => {
            "Tailscale refused the auth key; see whether it was revoked, used up or too old, and whether the policy has its tags"
        }
        FailureClass::UpTimeout => {
            "`tailscale up` had no answer in time; let controlplane.tailscale.com be reached (port 443)"
        }
        FailureClass::Up => {
            "`tailscale up` failed; read /root/provision-vm/status and the journal of tailscaled on a fresh server"
        }
        FailureClass::NoKey => {
            "the auth key was not on the machine; see whether something else of the first boot removes /root/provision-vm"
        }
        FailureClass::Approval => "its device waits for approval; let auth keys be pre-authorised, or approve it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(attempt: &str, milestone: Milestone, at: i64, seq: u64) -> BootReport {
        BootReport { attempt: attempt.to_owned(), milestone, at_ms: at * 1000, seq }
    }

    #[test]
    fn the_last_report_of_the_attempt_is_told_and_no_other() {
        let refused = Milestone::Failed(FailureClass::KeyRefused);
        let told = |reports: &[BootReport]| advise("Hint.", "a", reports);
        let all = [
            report("b", Milestone::Joined, 900, 9),
            report("a", refused, 1034, 3),
            report("a", Milestone::Started, 1000, 1),
            report("a", Milestone::Clock, 1003, 2),
        ];
        assert!(
            told(&all)
                .starts_with("Hint. The machine's last report, 34 s after its boot began: failed (key-refused): "),
            "{}",
            told(&all)
        );
        assert!(told(&all[..2]).starts_with("Hint. The machine's last report: failed (key-refused): "));
        assert!(told(&all[2..3]).starts_with("Hint. The machine's last report: started: "));
        assert!(told(&all[..1]).starts_with("Hint. No report of the machine is known: "));
        // The clock was put right in between.
        for at in [i64::MIN / 1000, 999, 90_000, i64::MAX / 1000] {
            let jumped = [report("a", Milestone::Started, 1000, 1), report("a", refused, at, 2)];
            assert!(told(&jumped).starts_with("Hint. The machine's last report: failed"), "{}", told(&jumped));
        }
    }

    #[test]
    fn every_class_says_what_to_do() {
        for (class, word) in FailureClass::ALL {
            let said = advise("Hint.", "a", &[report("a", Milestone::Failed(class), 0, 1)]);
            assert!(said.contains(&format!("failed ({word}): ")) && said.len() > 80, "{said}");
        }
    }
}

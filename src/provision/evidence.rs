//! What both clouds show of a machine that did not join: what an error's hint can say beyond its code.

use super::enrollment::Obstacle;
use crate::transport::clean;

/// What the last look at a machine showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What stands in the way of its device.
    pub obstacle: Obstacle,
    /// How its server stands.
    pub server: Shown,
    /// What its key says.
    pub key: KeyWord,
}

/// How Hetzner shows a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Nobody looked, or the look failed.
    #[default]
    Unseen,
    /// Not at all.
    Gone,
    /// In this state, in Hetzner's words.
    As(String),
}

/// Whether the key has said that a machine joined with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyWord {
    /// There was no reason to ask, or no answer.
    #[default]
    Unasked,
    /// It was asked, and has not said so yet.
    Awaited,
    /// It can let nobody in any more: mostly because it has.
    Used,
    /// It cannot say.
    Mute,
}

/// A machine that has not joined, whose own reports may say why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// The job.
    pub job_id: String,
    /// Its server's name.
    pub server_name: String,
    /// The attempt that made it: reports of others tell of other machines.
    pub attempt: String,
}

impl Evidence {
    /// Of a device alone.
    pub(super) fn of(obstacle: Obstacle) -> Self {
        Self { obstacle, server: Shown::default(), key: KeyWord::default() }
    }

    /// What it says, in a sentence; nothing if nothing is known.
    pub(super) fn sentence(&self) -> Option<String> {
        let server = match &self.server {
            Shown::Unseen => None,
            Shown::Gone => Some("Hetzner does not show the server any more".to_owned()),
            Shown::As(status) => Some(format!("Hetzner shows the server {}", clean(status))),
        };
        let key = match self.key {
            KeyWord::Unasked => None,
            KeyWord::Awaited => Some("the auth key was never used"),
            KeyWord::Used => Some("the auth key was used, or is revoked or expired"),
            KeyWord::Mute => Some("the auth key cannot tell whether it was used"),
        };
        let facts: Vec<String> = server.into_iter().chain(key.map(str::to_owned)).collect();
        let [first, ..] = facts.as_slice() else { return None };
        let conclusion = self.conclusion().map(|conclusion| format!(", so {conclusion}")).unwrap_or_default();
        let (initial, rest) = first.split_at_checked(1).unwrap_or_default();
        let rest = std::iter::once(rest).chain(facts.iter().skip(1).map(String::as_str)).collect::<Vec<_>>().join("; ");
        Some(format!("{}{rest}{conclusion}.", initial.to_ascii_uppercase()))
    }

    /// What follows from it.
    fn conclusion(&self) -> Option<&'static str> {
        let is_at_work = match &self.server {
            Shown::Unseen => true,
            Shown::Gone => return Some("somebody removed it"),
            Shown::As(status) => status == "running",
        };
        match (self.key, &self.obstacle) {
            (_, _) if !is_at_work => Some("its machine was not at work when the time was up"),
            (KeyWord::Awaited, _) => Some("the machine did not get as far as `tailscale up`, or Tailscale refused it"),
            (KeyWord::Used, Obstacle::Absent) => Some(
                "either a machine joined with it and its device was removed or goes by another name, or it came too late",
            ),
            (KeyWord::Used, _) => {
                Some("the machine did reach Tailscale, and what the message names is all that is amiss")
            }
            (KeyWord::Unasked | KeyWord::Mute, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_becomes_one_sentence() {
        let running = || Shown::As("running".to_owned());
        let off = || Shown::As("off".to_owned());
        for (server, key, obstacle, said) in [
            (Shown::Unseen, KeyWord::Unasked, Obstacle::Absent, None),
            (running(), KeyWord::Unasked, Obstacle::Absent, Some("Hetzner shows the server running.")),
            (
                running(),
                KeyWord::Awaited,
                Obstacle::Absent,
                Some(
                    "Hetzner shows the server running; the auth key was never used, so the machine did not get as far as \
                     `tailscale up`, or Tailscale refused it.",
                ),
            ),
            (
                Shown::Unseen,
                KeyWord::Used,
                Obstacle::Absent,
                Some(
                    "The auth key was used, or is revoked or expired, so either a machine joined with it and its device was \
                     removed or goes by another name, or it came too late.",
                ),
            ),
            (
                running(),
                KeyWord::Used,
                Obstacle::Unauthorized,
                Some(
                    "Hetzner shows the server running; the auth key was used, or is revoked or expired, so the machine did \
                     reach Tailscale, and what the message names is all that is amiss.",
                ),
            ),
            (
                off(),
                KeyWord::Awaited,
                Obstacle::Absent,
                Some(
                    "Hetzner shows the server off; the auth key was never used, so its machine was not at work when the \
                     time was up.",
                ),
            ),
            (
                running(),
                KeyWord::Mute,
                Obstacle::Disconnected,
                Some("Hetzner shows the server running; the auth key cannot tell whether it was used."),
            ),
            (
                Shown::Gone,
                KeyWord::Unasked,
                Obstacle::Absent,
                Some("Hetzner does not show the server any more, so somebody removed it."),
            ),
        ] {
            assert_eq!(Evidence { obstacle, server, key }.sentence().as_deref(), said);
        }
    }
}

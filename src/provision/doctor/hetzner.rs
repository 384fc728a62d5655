//! What an order needs at Hetzner.

use super::super::candidate::{Candidate, CandidateAttempt, choose};
use super::super::code::Code;
use super::super::error::Cause;
use super::super::job::Claim;
use super::super::region;
use super::super::run::Doing;
use super::{Check, Doctor};
use crate::hetzner::{Attachment, HetznerError, Server};

/// Below this share of the budget, in hundredths, a burst of jobs has to wait.
const FEW_REQUESTS: u32 = 10;
/// Signatures and identity tokens are good for some minutes around their time; this is well within, in seconds.
const CLOCKS_APART: u64 = 60;

const SERVER_TYPES: &str = "server-types";

impl Doctor<'_> {
    pub(super) async fn hetzner(&self) -> Result<Vec<Check>, Cause> {
        const REST: [&str; 9] = [
            "hetzner-write",
            "ssh-keys",
            "image",
            "attachments",
            "server-types",
            "project",
            "leftovers",
            "requests",
            "clock",
        ];
        let servers = if self.patient.knows.hetzner {
            self.run.hetzner.list_servers(self.within()).await.doing("the servers could not be listed")
        } else {
            let checks = ["hetzner"].into_iter().chain(REST);
            return Ok(checks.map(|name| Check::skipped(name, "the settings do not have what it needs")).collect());
        };
        let servers = match servers {
            Ok(servers) => servers,
            Err(cause) => {
                let rest = REST.map(|name| Check::skipped(name, "Hetzner cannot be asked"));
                return Ok(std::iter::once(Check::failed("hetzner", &cause, None)).chain(rest).collect());
            }
        };
        let dead = servers.iter().filter_map(Claim::read).filter(|claim| self.run.is_dead(claim)).count();
        let checks = [
            Check::ok(
                "hetzner",
                format!("The token is taken; {} in its project", count(servers.len(), "server is", "servers are")),
            ),
            self.may_write().await,
            self.ssh_keys().await,
            self.image().await,
            self.attachments().await,
            self.server_types().await,
            project(&servers),
            match dead {
                0 => Check::ok("leftovers", "No dead attempt has left a server"),
                dead => Check::warning(
                    "leftovers",
                    format!("{} there of dead attempts, and cost money", count(dead, "server is", "servers are")),
                    "Run reap: it finishes or removes them, after a dry run that says what it would do.",
                ),
            },
            self.requests(),
            self.clock(),
        ];
        Ok(checks.into())
    }

    async fn may_write(&self) -> Check {
        const NAME: &str = "hetzner-write";
        match self.run.hetzner.try_to_write(self.within()).await {
            Ok(()) => Check::ok(NAME, "The token may write"),
            Err(error) if error.is_unauthorized() || error.is_forbidden() => {
                let hint = "Make a token with the permission Read & Write: in Hetzner's console, in the project, under Security, API tokens.";
                let what = format!("The token may only read: {error}");
                Check { code: Some(Code::Forbidden), ..Check::missing(NAME, what, hint) }
            }
            Err(error) => unread(NAME, "it could not be told whether the token may write", error),
        }
    }

    async fn ssh_keys(&self) -> Check {
        const NAME: &str = "ssh-keys";
        let keys = &self.run.settings.ssh_keys;
        if !self.patient.knows.keys {
            return Check::skipped(NAME, "the settings cannot be read");
        }
        let mut missing = Vec::new();
        for key in keys {
            match self.run.hetzner.has_ssh_key(key, self.within()).await {
                Ok(true) => {}
                Ok(false) => missing.push(key.to_string()),
                Err(error) => return unread(NAME, "the SSH keys could not be read", error),
            }
        }
        if missing.is_empty() {
            return Check::ok(NAME, format!("{} there", count(keys.len(), "SSH key is", "SSH keys are")));
        }
        Check::missing(
            NAME,
            format!("The project has no SSH key {}", missing.join(", ")),
            "Add it in Hetzner's console, in the token's own project, under Security, SSH keys; or set HETZNER_SSH_KEY_ID to the id or the name of one that is there.",
        )
    }

    async fn image(&self) -> Check {
        const NAME: &str = "image";
        if !self.patient.knows.image {
            return Check::skipped(NAME, "the settings cannot be read");
        }
        let source = &self.run.settings.source;
        let (word, setting) =
            if source.is_snapshot() { ("snapshot", "HETZNER_SNAPSHOT_ID") } else { ("image", "the option image") };
        let (name, hint) = (source.image(), format!("Set {setting} to one that the project has, for x86."));
        match self.run.hetzner.find_image(source.image(), self.within()).await {
            Ok(Some(image)) if image.is_usable() => Check::ok(NAME, format!("The {word} {name} is there")),
            Ok(Some(image)) => {
                let what = format!("The {word} {name} is {}, for {}", image.status, image.architecture);
                Check::missing(NAME, what, &hint)
            }
            Ok(None) => Check::missing(NAME, format!("There is no {word} {name}"), &hint),
            Err(error) => unread(NAME, "the image could not be read", error),
        }
    }

    async fn attachments(&self) -> Check {
        const NAME: &str = "attachments";
        let wanted = &self.run.settings.extras.attachments;
        let firewalls = wanted.firewalls.iter().map(|it| (Attachment::Firewall, it.firewall, "firewall"));
        let networks = wanted.networks.iter().map(|id| (Attachment::Network, *id, "network"));
        let group = wanted.placement_group.map(|id| (Attachment::PlacementGroup, id, "placement group"));
        let wanted: Vec<_> = firewalls.chain(networks).chain(group).collect();
        let (mut missing, mut found) = (Vec::new(), Vec::new());
        for (what, id, word) in &wanted {
            match self.run.hetzner.find_attachment(*what, *id, self.within()).await {
                Ok(Some(attached)) if *what == Attachment::Network => found.push((*id, attached.zones)),
                Ok(Some(_)) => {}
                Ok(None) => missing.push(format!("{word} {id}")),
                Err(error) => return unread(NAME, "what the server is to be attached to could not be read", error),
            }
        }
        if !missing.is_empty() {
            return Check::missing(
                NAME,
                format!("The project has no {}", missing.join(", no ")),
                "Name one that the token's own project has in the options firewalls, networks and placementGroup; Hetzner's console shows the id in the address of its page.",
            );
        }
        match wanted.len() {
            0 => Check::ok(NAME, "No firewall, network or placement group is asked for"),
            _ if !found.is_empty() => self.reaches(NAME, wanted.len(), &found).await,
            all => Check::ok(NAME, format!("{} asked for and there", count(all, "is", "are"))),
        }
    }

    /// Whether networks reach the locations that are asked about: each has subnets in some network zones.
    async fn reaches(&self, name: &'static str, wanted: usize, networks: &[(u64, Vec<String>)]) -> Check {
        const HINT: &str =
            "Add a subnet in the network zone of the location, or name other locations in the option locations.";
        let zones = match self.run.hetzner.network_zones(self.within()).await {
            Ok(zones) => zones,
            Err(error) => return unread(name, "the locations could not be read", error),
        };
        if let Some((id, _)) = networks.iter().find(|(_, own)| own.is_empty()) {
            return Check::missing(name, format!("Network {id} has no subnet, so no server fits in"), HINT);
        }
        let asked = self.places();
        let places = asked.as_deref().unwrap_or(&[]).to_vec();
        let places = if places.is_empty() { region::locations() } else { places };
        let is_out =
            |place: &str, own: &[String]| zones.iter().any(|(name, zone)| name == place && !own.contains(zone));
        let barred = |place: &&str| networks.iter().any(|(_, own)| is_out(place, own));
        let out: Vec<&str> = places.iter().copied().filter(barred).collect();
        if out.is_empty() {
            return Check::ok(name, format!("{} asked for and there", count(wanted, "is", "are")));
        }
        let each = networks.iter().map(|(id, own)| format!("network {id} ({})", own.join(", ")));
        let what = format!("A server in {} cannot join {}", out.join(", "), each.collect::<Vec<_>>().join(" and "));
        // An order is refused for it, and no other location is tried then.
        let is_fatal = out.len() == places.len() || asked.is_some() && out.first() == places.first();
        if is_fatal { Check::missing(name, what, HINT) } else { Check::warning(name, what, HINT) }
    }

    /// The locations that are asked about, if any are.
    fn places(&self) -> Option<Vec<&str>> {
        let is_given = !self.run.settings.extras.locations.is_empty();
        (self.patient.region.is_some() || is_given).then(|| self.run.locations())
    }

    /// Whether something can be ordered, in the region that is asked about or in each that is known.
    async fn server_types(&self) -> Check {
        let (run, extras) = (self.run, &self.run.settings.extras);
        // What other calls know of them may be a minute old.
        let types = match run.hetzner.list_server_types(self.within()).await {
            Ok(types) => types,
            Err(error) => return unread(SERVER_TYPES, "the server types could not be read", error),
        };
        let is_given = !extras.locations.is_empty();
        if self.patient.region.is_some() && !run.place.known && !is_given {
            return self.unknown_region();
        }
        let locations: Vec<&str> = self.places().into_iter().flatten().collect();
        let locations = if locations.is_empty() { region::locations() } else { locations };
        let now = run.clock.shown_unix();
        let choices =
            locations.into_iter().map(|place| (place, choose(&run.settings.server_types, &types, place, now)));
        judge_choices(&choices.collect::<Vec<_>>())
    }

    fn unknown_region(&self) -> Check {
        let (region, place) = (self.patient.region.as_deref().unwrap_or_default(), self.run.place.location);
        let what = format!("The region {region:?} is not known: it would go to {place}");
        let hint = format!("The regions are {}, and the names of Hetzner's locations.", region::names());
        if self.run.settings.strict_region {
            return Check { code: Some(Code::InvalidInput), ..Check::missing(SERVER_TYPES, what, &hint) };
        }
        Check::warning(SERVER_TYPES, what, &hint)
    }

    fn requests(&self) -> Check {
        const NAME: &str = "requests";
        let Some(left) = self.project.rate().left(self.run.clock.now()) else {
            return Check::ok(NAME, "Hetzner does not say how many requests are left");
        };
        let what = format!("{} of {} requests are left", left.requests, left.limit);
        if left.requests.saturating_mul(100) >= left.limit.saturating_mul(FEW_REQUESTS) {
            return Check::ok(NAME, what);
        }
        Check::warning(
            NAME,
            what,
            "Others use the token's project, or many jobs ran: new ones wait until some have flowed back, one a second.",
        )
    }

    fn clock(&self) -> Check {
        const NAME: &str = "clock";
        match self.run.clock.ahead() {
            None => Check::ok(NAME, "Hetzner does not say what time it is"),
            Some(ahead) if ahead.unsigned_abs() <= CLOCKS_APART => {
                Check::ok(NAME, "This machine's clock agrees with Hetzner's")
            }
            Some(ahead) => {
                let word = if ahead > 0 { "behind" } else { "ahead of" };
                let what = format!("This machine's clock is {} s {word} Hetzner's", ahead.unsigned_abs());
                Check::warning(
                    NAME,
                    what,
                    "Set it, by NTP as a rule: signatures of webhooks and boot reports, and identity tokens, are refused by clocks that differ.",
                )
            }
        }
    }
}

/// What could not be looked at.
fn unread(name: &'static str, doing: &'static str, source: HetznerError) -> Check {
    Check::failed(name, &Cause::Hetzner { doing, source }, None)
}

/// Hetzner's tokens reach all of a project (fault Y39).
fn project(servers: &[Server]) -> Check {
    const NAME: &str = "project";
    match servers.iter().filter(|server| Claim::read(server).is_none()).count() {
        0 => Check::ok(NAME, "No servers but those of this package are in the project"),
        strangers => Check::warning(
            NAME,
            format!("{} in the project that this package did not make", count(strangers, "server is", "servers are")),
            "The token could delete them. Give the machines of agents a project, and a token, of their own.",
        ),
    }
}

/// What is sold where; and where nothing is, or nothing in stock.
fn judge_choices(choices: &[(&str, Vec<Result<Candidate, CandidateAttempt>>)]) -> Check {
    let first = choices.iter().map(|(place, considered)| (*place, considered.iter().flatten().next()));
    let unsold: Vec<&str> = first.clone().filter(|(_, offer)| offer.is_none()).map(|(place, _)| place).collect();
    let is_empty = |offer: &Candidate| !offer.is_in_stock;
    let empty: Vec<&str> =
        first.clone().filter(|(_, offer)| offer.is_some_and(is_empty)).map(|(place, _)| place).collect();
    if unsold.len() == choices.len() {
        let refused = choices.iter().flat_map(|(_, considered)| considered).filter_map(|one| one.as_ref().err());
        let why = |no: &CandidateAttempt| format!("{}: {}", no.server_type, no.refused.as_deref().unwrap_or_default());
        let what = format!("Nothing can be ordered: {}", refused.map(why).collect::<Vec<_>>().join("; "));
        return Check::missing(
            SERVER_TYPES,
            what,
            "Name a type that is sold there in the option serverTypes, or another region.",
        );
    }
    if !unsold.is_empty() {
        let what = format!("Nothing can be ordered in {}", unsold.join(", "));
        return Check::warning(
            SERVER_TYPES,
            what,
            "Jobs of that region will fail. Name a type that is sold there in the option serverTypes.",
        );
    }
    if !empty.is_empty() {
        let what = format!("Out of stock just now in {}", empty.join(", "));
        let hint = "It may be back at any time. With more types in the option serverTypes, or more places in the option locations, others are tried.";
        return Check::warning(SERVER_TYPES, what, hint);
    }
    Check::ok(SERVER_TYPES, first.filter_map(|(_, offer)| offer.map(offer_text)).collect::<Vec<_>>().join(", "))
}

fn offer_text(offer: &Candidate) -> String {
    let price = offer.price.as_ref().map(|price| format!(" at {}", price.hourly)).unwrap_or_default();
    format!("{} in {}{price}", offer.server_type, offer.location)
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

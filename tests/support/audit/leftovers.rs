//! What a failed call named, held against what stands of its making: I12 and I13, and the orphans that nobody named.

use provision_vm::provision::{Certainty, Fate, Kind, Leftover, ProvisionError, ReapReport};
use simulator::{Actor, World};

use super::Audit;
use super::call::Settled;
use super::cleanup::covers;

/// Something of a call's making that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    pub kind: Kind,
    pub id: String,
    /// Its name, host name or description.
    pub(super) name: String,
    /// The server that a device or an address came with.
    pub(super) of: Option<u64>,
}

impl Audit {
    /// I12 and I13.
    pub(super) fn check_failure(&mut self, call: usize, error: &ProvisionError, world: &World) {
        let invariant = if error.leftovers.is_empty() { "I12" } else { "I13" };
        for thing in self.unnamed(call, &error.leftovers, world) {
            self.violated(invariant, format!("{} {} is there and not named", thing.kind.as_str(), thing.id));
        }
        for left in &error.leftovers {
            if let Some(why) = self.invented(call, left, world) {
                self.violated("I13", format!("{why}: {left:?}"));
            }
        }
    }

    /// When all calls have ended: what has come of a failed call since it said what it left, and is in nobody's list.
    /// Returns what there is.
    pub fn check_orphans_of_failures(&mut self, world: &World) -> Vec<Thing> {
        let mut orphans = Vec::new();
        for (call, record) in self.calls.iter().enumerate() {
            let Some(Settled::Badly { leftovers }) = &record.settled else { continue };
            orphans.extend(self.unnamed(call, leftovers, world).into_iter().filter(|thing| !self.is_named(thing)));
        }
        for thing in &orphans {
            self.violated("I12", format!("{} {} of a failed call is in nobody's list", thing.kind.as_str(), thing.id));
        }
        orphans
    }

    /// I18, after a pass of the reaper past the end of all attempts: nothing stands of those that died, failed or were not finished, but what
    /// must not be removed without a person, and that somebody has named. Returns what stands all the same.
    pub fn check_orphans_of_the_dead(&mut self, last: Option<&ReapReport>, world: &World) -> Vec<Thing> {
        let failed = |call: &&super::Call| {
            matches!(call.settled, Some(Settled::Died | Settled::Underway { .. } | Settled::Badly { .. }))
        };
        let calls: Vec<usize> = (0..self.calls.len()).filter(|call| failed(&&self.calls[*call])).collect();
        let standing = calls.into_iter().flat_map(|call| self.standing(call, world));
        let orphans: Vec<Thing> = standing.filter(|thing| !self.is_spared(thing, last)).collect();
        for thing in &orphans {
            self.violated("I18", format!("after the reaper there is still {thing:?}"));
        }
        orphans
    }

    /// Whether the reaper had to leave this, and it is known.
    fn is_spared(&self, thing: &Thing, last: Option<&ReapReport>) -> bool {
        let server = match thing.kind {
            Kind::Server => thing.id.parse().ok(),
            Kind::Device | Kind::PrimaryIp => thing.of,
            // Keys end by themselves.
            Kind::AuthKey => return false,
        };
        let Some((id, record)) = server.and_then(|id| self.servers.get(&id).map(|record| (id, record))) else {
            return false;
        };
        if record.alive {
            // Whatever hangs on a server that stands is found with it.
            let joined = self.devices.values().any(|device| device.server == Some(id) && device.alive);
            let is_told = last.is_some_and(|report| {
                report.servers.iter().any(|reaped| reaped.server_id == id && matches!(reaped.fate, Fate::Left(_)))
            });
            return thing.kind != Kind::Server || record.meddled || record.is_ready() || (joined && is_told);
        }
        // Who dies between two requests of an undo takes his knowledge along; no label is left that could tell.
        let remover_died = match record.removed_by {
            Some(Actor::Caller(process)) => {
                let died = |call: &super::Call| call.process == process && matches!(call.settled, Some(Settled::Died));
                self.calls.iter().any(died)
            }
            _ => false,
        };
        record.meddled || remover_died || self.is_named(thing)
    }

    /// Whether anybody has named this: a failed call, a successful one that warned, a reaper, or who cleaned up.
    fn is_named(&self, thing: &Thing) -> bool {
        let lists = self.calls.iter().filter_map(|call| match &call.settled {
            Some(Settled::Badly { leftovers }) => Some(leftovers),
            _ => None,
        });
        let reaped = self.reports.iter().flat_map(|report| &report.servers).map(|server| &server.leftovers);
        let of = thing.of.map(|server| server.to_string());
        let names = |left: &Leftover| {
            (left.kind == thing.kind && left.id.as_ref() == Some(&thing.id))
                || (left.kind == Kind::Server && left.id.is_some() && left.id == of)
        };
        let warned = self.calls.iter().any(|call| match &call.settled {
            Some(Settled::Well { warnings } | Settled::Underway { warnings }) => {
                let left_behind = warnings.iter().filter(|warning| warning.starts_with("Left behind"));
                left_behind.into_iter().any(|warning| warning.contains(thing.id.as_str()))
            }
            _ => false,
        });
        let cleaned = self.cleanups.iter().filter_map(|cleanup| cleanup.report.as_ref());
        let is_covered = cleaned.flat_map(|report| &report.leftovers).any(|left| covers(left, thing));
        warned || is_covered || lists.chain(reaped).flatten().any(names)
    }

    /// What stands of a call's making and these leftovers do not cover.
    ///
    /// An entry with an id covers what has that id, and one without covers one thing of its name at most. A server is named
    /// with what hangs on it: its addresses, and its machine.
    fn unnamed(&self, call: usize, leftovers: &[Leftover], world: &World) -> Vec<Thing> {
        let mut things = self.standing(call, world);
        let take = |left: &Leftover, things: &mut Vec<Thing>| {
            let has_id = |thing: &Thing| {
                left.id.as_ref().map_or(left.name.as_deref() == Some(&thing.name), |id| thing.id == *id)
            };
            let at = things.iter().position(|thing| thing.kind == left.kind && has_id(thing));
            at.map(|at| things.remove(at).id)
        };
        // What has an id covers nothing else, so what has none comes after; and what goes with a server needs no entry.
        let mut order: Vec<&Leftover> = leftovers.iter().collect();
        order.sort_by_key(|left| left.id.is_none());
        let (of_servers, of_others): (Vec<&Leftover>, Vec<&Leftover>) =
            order.into_iter().partition(|left| left.kind == Kind::Server);
        let mut servers: Vec<u64> = Vec::new();
        for left in of_servers {
            let taken = take(left, &mut things);
            servers.extend(left.id.clone().or(taken).and_then(|id| id.parse::<u64>().ok()));
        }
        // Whoever removes a server by hand knows what hangs on it.
        let meddled = |server: u64| self.servers.get(&server).is_some_and(|server| server.meddled);
        let goes_along = |thing: &Thing| {
            let is_covered = |server| servers.contains(&server) || (thing.kind == Kind::PrimaryIp && meddled(server));
            thing.of.is_some_and(is_covered)
        };
        things.retain(|thing| !goes_along(thing));
        for left in of_others {
            take(left, &mut things);
        }
        things
    }

    /// What stands of a call's making: its servers, their machines and addresses, and the keys that are still of use.
    fn standing(&self, call: usize, world: &World) -> Vec<Thing> {
        let own = |id: &u64| self.servers.get(id).is_some_and(|server| server.maker == Some(call));
        let servers = self.servers.iter().filter(|(id, server)| own(id) && server.alive);
        let servers = servers.map(|(id, server)| Thing {
            kind: Kind::Server,
            id: id.to_string(),
            name: server.name.clone(),
            of: None,
        });
        let devices = world.devices().filter(|device| device.server.as_ref().is_some_and(own)).map(|device| Thing {
            kind: Kind::Device,
            id: device.node.to_owned(),
            name: device.hostname.to_owned(),
            of: device.server,
        });
        let addresses = self.addresses.iter().filter(|(_, server)| own(server)).map(|(address, server)| Thing {
            kind: Kind::PrimaryIp,
            id: address.to_string(),
            name: String::new(),
            of: Some(*server),
        });
        let minted = |id: &str| self.keys.get(id).is_some_and(|key| key.call == Some(call));
        let keys = world.keys().filter(|key| key.usable && minted(key.id)).map(|key| Thing {
            kind: Kind::AuthKey,
            id: key.id.to_owned(),
            name: key.description.to_owned(),
            of: None,
        });
        servers.chain(devices).chain(addresses).chain(keys).collect()
    }

    /// Whether a device is the machine of a server that stands and that another call made.
    fn is_anothers(&self, call: usize, node: &str) -> bool {
        let server = self.devices.get(node).and_then(|device| device.server).and_then(|id| self.servers.get(&id));
        server.is_some_and(|server| server.alive && server.maker.is_some_and(|maker| maker != call))
            && !self.calls[call].took_over
    }

    /// Whether the process of this call has been told clearly, and last, that a server is gone: one read after a deletion
    /// that was accepted, or as many as an absence needs to be believed.
    fn is_known_gone(&self, call: usize, id: Option<u64>) -> bool {
        let Some(key) = id.map(|id| (self.calls[call].process, id)) else { return false };
        let needed = if self.accepted.contains(&key) { 1 } else { 3 };
        self.absent.get(&key).is_some_and(|absent| *absent >= needed)
    }

    /// Why a leftover cannot be.
    fn invented(&self, call: usize, left: &Leftover, world: &World) -> Option<&'static str> {
        let record = &self.calls[call];
        // Addresses have no name by which they could be told apart.
        let is_of =
            |server: &super::ServerRecord| left.kind == Kind::PrimaryIp || left.name.as_ref() == Some(&server.name);
        let device = left.id.as_ref().and_then(|id| self.devices.get(id));
        let meddled = self.servers.values().any(|server| server.meddled && is_of(server))
            || device.is_some_and(|device| device.meddled);
        let number = left.id.as_ref().and_then(|id| id.parse::<u64>().ok());
        let (ever, is_there) = match (left.kind, &left.id) {
            (Kind::Server, Some(_)) => {
                let server = number.and_then(|id| self.servers.get(&id));
                (server.is_some(), server.is_some_and(|server| server.alive))
            }
            (Kind::AuthKey, Some(id)) => {
                (self.keys.contains_key(id), world.keys().any(|key| key.id == id.as_str() && key.usable))
            }
            (Kind::Device, Some(id)) if left.certainty == Certainty::Exists && self.is_anothers(call, id) => {
                return Some("the device is the machine of another call's server");
            }
            (Kind::Device, Some(id)) => {
                (self.devices.contains_key(id), self.devices.get(id).is_some_and(|device| device.alive))
            }
            (Kind::PrimaryIp, Some(_)) => {
                let known = number.is_some_and(|id| self.addresses.contains_key(&id));
                // Those that went are forgotten; the world's numbers tell an address from an invention.
                (number.is_some_and(|id| id > 120_000_000), known)
            }
            (Kind::Server, None) => (record.servers.any, record.servers.ever_unclear),
            (Kind::AuthKey, None) => (record.keys.any, record.keys.ever_unclear),
            (Kind::Device, None) => (record.servers.any || record.took_over, true),
            (Kind::PrimaryIp, None) => return Some("an address without its id"),
        };
        match left.certainty {
            _ if !ever => Some("what is named has never been"),
            Certainty::Exists if !is_there && !meddled => Some("what is named is not there"),
            // A key that is spent is of no use, whoever could not see it.
            Certainty::Unconfirmed
                if self.deletes_never && left.kind != Kind::AuthKey && left.id.is_some() && !is_there && !meddled =>
            {
                Some("it cannot have been removed, and is not there")
            }
            Certainty::Unconfirmed if left.kind == Kind::Server && !meddled && self.is_known_gone(call, number) => {
                Some("reads have shown that it is gone")
            }
            Certainty::MayAppear if left.id.is_none() && !is_there => Some("no order is open that could make it"),
            _ => None,
        }
    }
}

//! What happens by itself: actions end, and machines boot, join the tailnet and go off.

use std::net::IpAddr;
use std::time::Duration;

use super::{World, between};
use crate::agenda::Happening;
use crate::config::BootOutcome;
use crate::machine::{self, JoinPlan};
use crate::tailscale::{Join, NodeId};

impl World {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::LateRequest(by, request) => self.arrive_late(by, &request),
            Happening::ActionEnds(id) => {
                let said = self.hetzner.end_action(&mut self.cx, &mut self.agenda, &self.config.hetzner, id);
                self.note("world", format!("action {id} ends"), said, None);
            }
            Happening::MachineStarts(server) => {
                let (least, most) = self.config.machine.kernel_seconds;
                if self.config.machine.boot != BootOutcome::NeverBoots && self.hetzner.is_on(server) {
                    let up = self.cx.now + between(&mut self.cx, least, most);
                    self.agenda.put(up, Happening::MachineUp(server));
                }
            }
            Happening::MachineUp(server) => self.machine_up(server),
            Happening::MachineJoins(server) => self.machine_joins(server),
            Happening::MachineAsks(id, wait) => {
                let Some(server) = self.hetzner.running_server(id) else { return };
                let Some(plan) = server.plan.take() else { return };
                let queued = Happening::QueuedJoin(id, Box::new(plan), server.connects_from());
                self.agenda.put(self.cx.now + wait, queued);
            }
            Happening::QueuedJoin(server, plan, ip) => self.let_in(server, *plan, ip),
            Happening::MachineAsksAgain(id, plan) => {
                let machine = &self.config.machine;
                let wait =
                    if machine.queued_joins { Duration::from_secs_f64(machine.join_seconds) } else { Duration::ZERO };
                let asks = machine.joins_again_after_seconds.is_some();
                let Some(server) = self.hetzner.running_server(id).filter(|_| asks) else { return };
                let again = Happening::QueuedJoin(id, plan, server.connects_from());
                self.agenda.put(self.cx.now + wait, again);
            }
            Happening::MachineOff(server) => {
                self.hetzner.power_off(server);
                self.follow_up();
                self.note("world", format!("machine {server} goes off"), String::new(), None);
            }
        }
    }

    fn machine_up(&mut self, id: u64) {
        let way_out = self.hetzner.way_out(&self.config.hetzner, id);
        let Some(server) = self.hetzner.running_server(id) else { return };
        if let Some(node) = server.node.clone() {
            // Not its first boot: tailscaled comes back with the state it has.
            self.tailscale.set_connected(&mut self.cx, &NodeId(node), true);
            return self.note("world", format!("machine {id} is up again"), String::new(), None);
        }
        if server.first_boot_done {
            return;
        }
        if self.config.machine.boot == BootOutcome::Outside {
            return self.note("world", format!("machine {id} is up"), "is played from outside".to_owned(), None);
        }
        server.first_boot_done = true;
        let boot = machine::first_boot(server.user_data.as_deref(), &server.name);
        server.boot = boot.log;
        let plan = boot.join.and_then(|plan| way_out.map(|()| plan));
        let said = match plan {
            Err(why) => format!("will not join: {why}"),
            Ok(_) if self.config.machine.boot == BootOutcome::NeverJoins => "will not join: told not to".to_owned(),
            Ok(_) if self.config.machine.fails_chance > 0.0 && self.cx.rng.f64() < self.config.machine.fails_chance => {
                "will not join: bad luck".to_owned()
            }
            Ok(plan) => {
                let (least, most) = self.config.machine.install_seconds;
                let install = if plan.installs { between(&mut self.cx, least, most) } else { Duration::ZERO };
                let join = Duration::from_secs_f64(self.config.machine.join_seconds);
                let joins = self.cx.now + install + join;
                if self.config.machine.queued_joins {
                    self.agenda.put(self.cx.now + install, Happening::MachineAsks(id, join));
                } else {
                    self.agenda.put(joins, Happening::MachineJoins(id));
                }
                if let Some(seconds) = self.config.machine.joins_again_after_seconds {
                    let again = joins + Duration::from_secs_f64(seconds);
                    self.agenda.put(again, Happening::MachineAsksAgain(id, Box::new(plan.clone())));
                }
                server.plan = Some(plan);
                "reads its first-boot document".to_owned()
            }
        };
        self.note("world", format!("machine {id} is up"), said, None);
    }

    fn machine_joins(&mut self, id: u64) {
        let Some(server) = self.hetzner.running_server(id) else { return };
        let (Some(plan), ip) = (server.plan.take(), server.connects_from()) else { return };
        self.let_in(id, plan, ip);
    }

    fn let_in(&mut self, id: u64, plan: JoinPlan, public_ip: Option<IpAddr>) {
        let JoinPlan { auth_key, hostname, .. } = plan;
        let join = Join { auth_key, hostname, public_ip, server: id };
        let said = match self.tailscale.join(&mut self.cx, join) {
            Ok(node) => {
                let said = format!("as {}", node.0);
                match self.hetzner.running_server(id) {
                    // A machine that joins twice is its first device for those who ask.
                    Some(server) => {
                        server.node.get_or_insert(node.0);
                    }
                    None => self.tailscale.set_connected(&mut self.cx, &node, false),
                }
                said
            }
            Err(why) => format!("refused: {why}"),
        };
        self.note("world", format!("machine {id} joins"), said, None);
    }
}

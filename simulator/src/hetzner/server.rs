//! One server, and how the API writes it (`facts/hetzner.md` 1.3).

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::catalogue::{self, Image, Type};
use super::selector::Labels;
use crate::config::HetznerConfig;
use crate::context::Context;
use crate::history::{ServerView, What};
use crate::machine::JoinPlan;
use crate::memo::piece;

/// A server of the project.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub id: u64,
    pub name: String,
    pub status: &'static str,
    pub created: Duration,
    pub labels: Labels,
    /// The labels before the last change, and when that was.
    pub labels_before: Option<(Labels, Duration)>,
    pub kind: &'static Type,
    pub location: &'static str,
    pub image: &'static Image,
    pub user_data: Option<String>,
    pub ipv4: Ipv4Addr,
    pub has_ipv4: bool,
    pub ipv4_id: u64,
    pub ipv6_id: u64,
    pub locked: bool,
    pub protected: bool,
    /// The first-boot document was read.
    pub first_boot_done: bool,
    /// What the document makes of it, until it has joined.
    pub plan: Option<JoinPlan>,
    /// The device that its machine became.
    pub node: Option<String>,
}

impl Server {
    /// As the API writes it.
    pub(crate) fn json(&self, cx: &Context, config: &HetznerConfig) -> Value {
        let octets = self.ipv4.octets();
        let [a, b, c, d] = octets;
        let ipv4 = json!({
            "id": self.ipv4_id, "ip": self.ipv4.to_string(), "blocked": false,
            "dns_ptr": format!("static.{d}.{c}.{b}.{a}.clients.your-server.de"),
        });
        let ipv6 = json!({
            "id": self.ipv6_id, "ip": format!("2001:db8:{:x}:{:x}::/64", self.id >> 16 & 0xffff, self.id & 0xffff),
            "blocked": false, "dns_ptr": [],
        });
        let mut json = json!({
            "id": self.id, "name": self.name, "status": self.status, "created": cx.timestamp_at(self.created),
            "public_net": {
                "ipv4": null, "ipv6": null, "floating_ips": [], "firewalls": [],
            },
            "private_net": [],
            "server_type": null, "location": null, "image": null,
            "iso": null, "rescue_enabled": false, "locked": self.locked, "backup_window": null,
            "outgoing_traffic": 0, "ingoing_traffic": 0, "included_traffic": 0,
            "protection": { "delete": self.protected, "rebuild": self.protected },
            "labels": self.shown_labels(cx, config),
            "volumes": [], "load_balancers": [], "primary_disk_size": self.kind.disk, "placement_group": null,
        });
        json["public_net"]["ipv4"] = if self.has_ipv4 { ipv4 } else { Value::Null };
        json["public_net"]["ipv6"] = ipv6;
        json["server_type"] = self.kind.piece(config);
        json["location"] = piece(format!("location {}", self.location), || catalogue::location(self.location));
        json["image"] = self.image.json(cx, config.show_deprecated);
        json
    }

    /// The labels as reads show them.
    pub(crate) fn shown_labels(&self, cx: &Context, config: &HetznerConfig) -> &Labels {
        let stale = |at: Duration| at + Duration::from_secs_f64(config.stale_labels_seconds) > cx.now;
        self.labels_before.as_ref().filter(|(_, at)| stale(*at)).map_or(&self.labels, |(labels, _)| labels)
    }

    /// Writes its name and labels.
    pub(crate) fn relabel(&mut self, cx: &mut Context, name: Option<String>, labels: Option<Labels>) {
        let after = labels.unwrap_or_else(|| self.labels.clone());
        let before = std::mem::replace(&mut self.labels, after.clone());
        self.name = name.unwrap_or_else(|| self.name.clone());
        self.labels_before = Some((before.clone(), cx.now));
        cx.note(What::ServerLabelled { id: self.id, name: self.name.clone(), before, after });
    }

    /// What is true of it, typed.
    pub(crate) fn view(&self) -> ServerView<'_> {
        ServerView {
            id: self.id,
            name: &self.name,
            labels: &self.labels,
            node: self.node.as_deref(),
            ipv4: self.has_ipv4.then_some(self.ipv4),
            protected: self.protected,
        }
    }

    /// What is true of it, without its user data.
    pub(crate) fn truth(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "status": self.status, "labels": self.labels,
            "location": self.location, "server_type": self.kind.name, "image": self.image.id,
            "ipv4": self.has_ipv4.then(|| self.ipv4.to_string()), "node": self.node,
            "protected": self.protected, "first_boot_done": self.first_boot_done,
        })
    }
}

/// A server that is put into the world without a request.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlantedServer {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its type; `cpx11` if absent.
    pub server_type: Option<String>,
    /// Its location; `ash` if absent.
    pub location: Option<String>,
    /// Whether it is protected against deletion.
    pub protected: bool,
}

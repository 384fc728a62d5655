//! Servers (`facts/hetzner.md` 1 and 3).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use http::Method;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Hetzner, HetznerError, Meta, PrimaryIpId, decode, found};
use crate::transport::{Repeat, Within, clean};

/// The labels of a server. `PUT` replaces all of them.
pub type Labels = BTreeMap<String, String>;

/// JavaScript numbers, and the ids that Hetzner promises, end here.
const LARGEST_ID: u64 = (1 << 53) - 1;

/// Whether a number can be an id of Hetzner's.
pub(super) fn is_id(id: u64) -> bool {
    (1..=LARGEST_ID).contains(&id)
}

/// The id of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A server, as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// Its name, unique in the project.
    pub name: String,
    /// `initializing`, `running`, `off` and others; free text.
    pub status: String,
    /// Its labels.
    pub labels: Labels,
    /// Where it is reached, and connects from.
    pub addresses: Addresses,
    /// The primary IPs that hold its addresses.
    pub primary_ips: Vec<PrimaryIpId>,
    /// The location's name, such as `nbg1`.
    pub location: String,
    /// The type's name, such as `cpx11`.
    pub server_type: String,
}

/// The addresses of a server. Which of them it has is the order's matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Its public IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The first address of its public IPv6 network, which is the one that Hetzner's images give it.
    pub ipv6: Option<Ipv6Addr>,
    /// Its address in the first of its private networks.
    pub private: Option<Ipv4Addr>,
}

impl Addresses {
    /// The one to name if one is asked for: the public IPv4 address, else the public IPv6 address, else the private one.
    pub fn main(&self) -> Option<IpAddr> {
        let (v4, v6, private) = (self.ipv4.map(IpAddr::V4), self.ipv6.map(IpAddr::V6), self.private.map(IpAddr::V4));
        v4.or(v6).or(private)
    }

    /// Whether the server has this address. Private ones are not unique, so one counts only if there is no public one.
    pub fn include(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) if self.ipv4.or(self.private.filter(|_| self.ipv6.is_none())) == Some(ip) => true,
            // The network is the server's as a whole: a /64.
            IpAddr::V6(ip) => self.ipv6.is_some_and(|own| own.octets()[..8] == ip.octets()[..8]),
            IpAddr::V4(_) => false,
        }
    }
}

/// A number where it is an id, a text where it is a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum IdOrName {
    /// An id.
    Id(u64),
    /// A name.
    Name(String),
}

impl IdOrName {
    /// Digits are an id, all else is a name.
    pub fn parse(text: &str) -> Self {
        text.parse().ok().filter(|id| *id <= LARGEST_ID).map_or_else(|| Self::Name(text.to_owned()), Self::Id)
    }
}

impl fmt::Display for IdOrName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireServer {
    pub id: u64,
    name: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    public_net: Option<WirePublicNet>,
    #[serde(default)]
    private_net: Option<Vec<WireIp>>,
    #[serde(default)]
    location: Option<Named>,
    #[serde(default)]
    server_type: Option<Named>,
}

#[derive(Deserialize, Default)]
struct WirePublicNet {
    #[serde(default)]
    ipv4: Option<WireIp>,
    #[serde(default)]
    ipv6: Option<WireIp>,
}

#[derive(Deserialize)]
struct WireIp {
    #[serde(default)]
    id: Option<u64>,
    #[serde(default)]
    ip: Option<String>,
}

impl WireIp {
    fn parse(&self) -> Option<Ipv4Addr> {
        self.ip.as_deref()?.parse().ok()
    }

    /// Hetzner writes an IPv6 network, `2001:db8::/64`, of which the server has `2001:db8::1`.
    fn first_of_network(&self) -> Option<Ipv6Addr> {
        let network: Ipv6Addr = self.ip.as_deref()?.strip_suffix("/64")?.parse().ok()?;
        Some(Ipv6Addr::from_bits(network.to_bits() | 1))
    }
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: Option<String>,
}

impl TryFrom<WireServer> for Server {
    type Error = HetznerError;

    fn try_from(wire: WireServer) -> Result<Self, HetznerError> {
        if !is_id(wire.id) {
            return Err(HetznerError::unreadable("server", "the id is out of range"));
        }
        let net = wire.public_net.unwrap_or_default();
        let name_of =
            |named: Option<Named>| named.and_then(|named| named.name).map(|name| clean(&name)).unwrap_or_default();
        Ok(Self {
            id: ServerId(wire.id),
            name: clean(&wire.name),
            status: clean(&wire.status.unwrap_or_default()),
            labels: wire.labels.unwrap_or_default(),
            addresses: Addresses {
                ipv4: net.ipv4.as_ref().and_then(WireIp::parse),
                ipv6: net.ipv6.as_ref().and_then(WireIp::first_of_network),
                private: wire.private_net.into_iter().flatten().find_map(|net| net.parse()),
            },
            primary_ips: [net.ipv4, net.ipv6]
                .into_iter()
                .flatten()
                .filter_map(|ip| ip.id.filter(|id| is_id(*id)))
                .map(PrimaryIpId)
                .collect(),
            location: name_of(wire.location),
            server_type: name_of(wire.server_type),
        })
    }
}

#[derive(Deserialize)]
pub(super) struct One {
    pub server: WireServer,
}

#[derive(Deserialize)]
struct Many {
    servers: Vec<WireServer>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize)]
struct WireDeleted {
    #[serde(rename = "action")]
    _action: IgnoredAny,
}

impl Hetzner {
    /// The servers that carry a label, all pages.
    pub async fn find_servers_by_label(&self, selector: &str, within: Within) -> Result<Vec<Server>, HetznerError> {
        self.find_servers(&[("label_selector", selector)], within).await
    }

    /// All servers of the project, whoever made them.
    pub async fn list_servers(&self, within: Within) -> Result<Vec<Server>, HetznerError> {
        self.find_servers(&[], within).await
    }

    /// The server of this exact name.
    pub async fn find_server_by_name(&self, name: &str, within: Within) -> Result<Option<Server>, HetznerError> {
        let servers = self.find_servers(&[("name", name)], within).await?;
        // The filter is exact; looking again costs nothing and guards against one that was ignored.
        Ok(servers.into_iter().find(|server| server.name == name))
    }

    async fn find_servers(&self, query: &[(&str, &str)], within: Within) -> Result<Vec<Server>, HetznerError> {
        let items = |page: Many| (page.servers, page.meta.next_page());
        let servers = self.fetch_all("find servers", "/servers", query, within, items).await?;
        servers.into_iter().map(Server::try_from).collect()
    }

    /// The server of this id, if it exists.
    pub async fn find_server(&self, id: ServerId, within: Within) -> Result<Option<Server>, HetznerError> {
        match self.find_one::<One>("get server", &format!("/servers/{id}"), within).await? {
            Some(One { server }) if server.id != id.0 => {
                Err(HetznerError::unreadable("get server", "the answer is about another server"))
            }
            found => found.map(|One { server }| server.try_into()).transpose(),
        }
    }

    /// Replaces all labels of a server.
    pub async fn replace_labels(&self, id: ServerId, labels: &Labels, within: Within) -> Result<Server, HetznerError> {
        let body = serde_json::to_vec(&serde_json::json!({ "labels": labels }))
            .map_err(|_| HetznerError::unreadable("replace labels", "the labels cannot be written as JSON"))?;
        let draft = self.draft(Method::PUT, &format!("/servers/{id}"), &[]).body("application/json", body);
        let One { server } = self.fetch("replace labels", draft, within).await?;
        server.try_into()
    }

    /// Deletes a server, at once and for good. A server that is not there counts as deleted. The caller confirms the
    /// absence with [`Hetzner::find_server`]. Returns whether it was there. An answer that names no action is nobody's word.
    pub async fn delete_server(&self, id: ServerId, within: Within) -> Result<bool, HetznerError> {
        let draft = self.draft(Method::DELETE, &format!("/servers/{id}"), &[]);
        let read = |answer: &http::Response<Bytes>| decode::<WireDeleted>(answer).map(drop);
        Ok(found(self.send("delete server", Repeat::Safe, draft, within, read).await)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_decode_with_fields_missing_null_or_unknown() {
        for (body, main) in [
            (r#"{"id":5,"name":"a"}"#, None),
            (
                r#"{"id":5,"name":"a","public_net":{"ipv4":null,"ipv6":null},"private_net":null,"labels":null,"location":null,"new":{}}"#,
                None,
            ),
            (
                r#"{"id":5,"name":"a","status":"orbiting","public_net":{"ipv4":{"id":7,"ip":"203.0.113.10"},"ipv6":{"ip":"2001:db8::/64"}}}"#,
                Some("203.0.113.10"),
            ),
            (
                r#"{"id":5,"name":"a","public_net":{"ipv4":null,"ipv6":{"ip":"2001:db8:1::/64"}},"private_net":[{"ip":"10.0.0.2"}]}"#,
                Some("2001:db8:1::1"),
            ),
            (
                r#"{"id":5,"name":"a","private_net":[{"network":7,"ip":"10.0.0.2"},{"ip":"10.1.0.2"}]}"#,
                Some("10.0.0.2"),
            ),
        ] {
            let server = Server::try_from(serde_json::from_str::<WireServer>(body).unwrap()).unwrap();
            assert_eq!(server.addresses.main().map(|ip| ip.to_string()).as_deref(), main, "{body}");
        }
    }

    #[test]
    fn a_private_address_tells_nothing_beside_a_public_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let private = Addresses { private: Some(Ipv4Addr::new(10, 0, 0, 2)), ..Addresses::default() };
        let both = Addresses { ipv6: Some("2001:db8:1::1".parse().unwrap()), ..private };
        assert!(private.include(ip("10.0.0.2")) && !private.include(ip("10.0.0.3")));
        assert!(
            !both.include(ip("10.0.0.2")) && both.include(ip("2001:db8:1::ff")) && !both.include(ip("2001:db8:2::1"))
        );
        assert!(!Addresses::default().include(ip("10.0.0.2")) && !Addresses::default().include(ip("::1")));
    }

    #[test]
    fn p28_impossible_ids_are_refused() {
        for id in ["0", "9007199254740992", "-1", "1.5"] {
            let wire = serde_json::from_str::<WireServer>(&format!(r#"{{"id":{id},"name":"a"}}"#));
            assert!(wire.map_err(drop).and_then(|wire| Server::try_from(wire).map_err(drop)).is_err(), "{id}");
        }
    }

    #[test]
    fn an_id_is_sent_as_a_number_and_a_name_as_text() {
        let both = [IdOrName::parse("4711"), IdOrName::parse("ci-key")];
        assert_eq!(serde_json::to_string(&both).unwrap(), r#"[4711,"ci-key"]"#);
    }
}

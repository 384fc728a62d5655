//! `POST /servers` (`facts/hetzner.md` 1): the order, and what is answered.

use std::fmt;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::action::WireAction;
use super::server::{One, WireServer};
use super::{Action, Hetzner, HetznerError, IdOrName, Labels, Server, ServerId, decode};
use crate::secret::{Secret, wiped};
use crate::transport::{Document, Repeat, Within};

/// An order for a server. `location` is the only placement there is; `datacenter` is gone and never sent.
#[derive(Debug, Serialize)]
pub struct CreateServer<'a> {
    /// Unique in the project, a host name.
    pub name: &'a str,
    /// The type's name.
    pub server_type: &'a str,
    /// The location's name.
    pub location: &'a str,
    /// System image by name, snapshot by id.
    pub image: &'a IdOrName,
    /// Keys that may log in. With none, Hetzner would make up a root password.
    pub ssh_keys: &'a [IdOrName],
    /// The first-boot document, at most 32 KiB.
    #[serde(serialize_with = "exposed")]
    pub user_data: &'a Secret,
    /// Labels.
    pub labels: &'a Labels,
    /// What it is attached to.
    #[serde(flatten)]
    pub attachments: &'a Attachments,
}

/// What a server is attached to. Written only where it is not the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attachments {
    /// Ids of firewalls, applied from the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub firewalls: Vec<FirewallRef>,
    /// Ids of private networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<u64>,
    /// Id of a placement group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<u64>,
    /// Its public addresses.
    #[serde(skip_serializing_if = "PublicNet::is_usual")]
    pub public_net: PublicNet,
}

/// A firewall, as an order names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FirewallRef {
    /// Its id.
    pub firewall: u64,
}

/// Which public addresses a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PublicNet {
    /// An IPv4 address.
    pub enable_ipv4: bool,
    /// An IPv6 network.
    pub enable_ipv6: bool,
}

impl Default for PublicNet {
    fn default() -> Self {
        Self { enable_ipv4: true, enable_ipv6: true }
    }
}

impl PublicNet {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// The user data is what an order is for; nowhere else does a secret become JSON.
fn exposed<S: serde::Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// An order as it is sent. A secret as a whole, since it holds the user data: this text of it is wiped when it was sent, and not printed.
#[derive(Clone)]
pub struct Order(Bytes);

/// The part of an order that is no user data is smaller.
const REST: usize = 2048;

impl Order {
    /// An order of ours.
    pub fn new(order: &CreateServer<'_>) -> Result<Self, HetznerError> {
        // With room for what JSON escapes in an ordinary one, so that no shorter copy of it stays behind.
        let mut text = Vec::with_capacity(order.user_data.expose().len() * 5 / 4 + REST);
        serde_json::to_writer(&mut text, order).map_err(|_| unwritable())?;
        Ok(Self(wiped(text)))
    }

    /// An order in a caller's own words, with labels of ours beside the caller's.
    pub fn in_own_words(document: &Document, labels: &Labels) -> Result<Self, HetznerError> {
        let mut order: Map<String, Value> = serde_json::from_str(document.text()).map_err(|_| unwritable())?;
        let given = order.entry("labels").or_insert_with(|| json!({}));
        if given.is_null() {
            *given = json!({});
        }
        let given = given.as_object_mut().ok_or_else(unwritable)?;
        given.extend(labels.iter().map(|(key, value)| (key.clone(), json!(value))));
        Ok(Self(wiped(Value::Object(order).to_string().into_bytes())))
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Order(***)")
    }
}

fn unwritable() -> HetznerError {
    HetznerError::unreadable("create server", "the order cannot be written as JSON")
}

/// What a create answers.
#[derive(Clone, Debug)]
pub struct Created {
    /// The new server.
    pub server: Server,
    /// The create action and all that follow it.
    pub actions: Vec<Action>,
    /// Made if the order names no key that may log in.
    pub root_password: Option<Secret>,
    /// The whole answer. What [`Hetzner::describe_created`] puts together has no root password.
    pub document: Document,
}

#[derive(Deserialize)]
struct WireCreated {
    server: WireServer,
    action: WireAction,
    #[serde(default)]
    next_actions: Option<Vec<WireAction>>,
    /// A job's server has keys, so a job does not read this (fault P31).
    #[serde(default)]
    root_password: Option<String>,
}

#[derive(Deserialize)]
struct WireActions {
    actions: Vec<Value>,
}

impl Hetzner {
    /// Orders a server. Not repeated unless the first request was surely not applied; see
    /// [`HetznerError::may_have_applied`].
    pub async fn create_server(&self, order: &Order, within: Within) -> Result<Created, HetznerError> {
        let draft = self.draft(Method::POST, "/servers", &[]).body("application/json", order.0.clone());
        self.send("create server", Repeat::OnlyIfNotApplied, draft, within, |answer| {
            let wire: WireCreated = decode(answer)?;
            let next = wire.next_actions.unwrap_or_default();
            let actions = std::iter::once(wire.action).chain(next).map(Action::try_from).collect::<Result<_, _>>()?;
            let root_password = wire.root_password.filter(|password| !password.is_empty()).map(Secret::new);
            Ok(Created { server: wire.server.try_into()?, actions, root_password, document: Document::of(answer) })
        })
        .await
    }

    /// What the order of this server may have been answered, for when that answer was lost.
    pub async fn describe_created(&self, id: ServerId, within: Within) -> Result<Document, HetznerError> {
        let server = self.draft(Method::GET, &format!("/servers/{id}"), &[]);
        let server = self.send("get server", Repeat::Safe, server, within, |answer: &http::Response<Bytes>| {
            let One { server } = decode(answer)?;
            Server::try_from(server)?;
            decode::<Value>(answer)
        });
        let actions = self.draft(Method::GET, &format!("/servers/{id}/actions"), &[("per_page", "50")]);
        let actions = self.fetch::<WireActions>("list server actions", actions, within);
        let (server, WireActions { mut actions }) = (server.await?, actions.await?);
        if actions.is_empty() {
            return Err(HetznerError::unreadable("list server actions", "a new server has no action"));
        }
        let first = actions.iter().position(|action| action["command"] == "create_server").unwrap_or(0);
        let action = actions.remove(first);
        let document = json!({
            "server": server["server"], "action": action, "next_actions": actions, "root_password": null,
        });
        Ok(Document::new(document.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_order_keeps_its_words_and_gets_our_labels() {
        let ours = Labels::from([("attempt".to_owned(), "00ff".to_owned())]);
        for (given, sent) in [
            (json!({ "name": "a" }), json!({ "name": "a", "labels": { "attempt": "00ff" } })),
            (json!({ "labels": null, "x": [1, 2.5] }), json!({ "labels": { "attempt": "00ff" }, "x": [1, 2.5] })),
            (
                json!({ "labels": { "agent_id": "a" }, "ssh_keys": [1] }),
                json!({ "labels": { "agent_id": "a", "attempt": "00ff" }, "ssh_keys": [1] }),
            ),
        ] {
            let order = Order::in_own_words(&Document::new(given.to_string()), &ours).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&order.0).unwrap(), sent);
        }
        for given in ["[]", "{", r#"{"labels":5}"#] {
            assert!(Order::in_own_words(&Document::new(given), &ours).is_err(), "{given}");
        }
    }

    #[test]
    fn y01_an_order_is_not_printed() {
        let user_data = Secret::new("#cloud-config tskey-auth-k1-x");
        let order = CreateServer {
            name: "a",
            server_type: "cpx11",
            location: "ash",
            image: &IdOrName::Name("ubuntu-22.04".into()),
            ssh_keys: &[],
            user_data: &user_data,
            labels: &Labels::new(),
            attachments: &Attachments::default(),
        };
        let sent = Order::new(&order).unwrap();
        let text = std::str::from_utf8(&sent.0).unwrap();
        assert!(text.contains("tskey-auth-k1-x"));
        assert!(!format!("{order:?} {sent:?}").contains("tskey-auth"));
        for absent in ["firewalls", "networks", "placement_group", "public_net"] {
            assert!(!text.contains(absent), "{absent} is only sent where it is wanted");
        }
    }
}

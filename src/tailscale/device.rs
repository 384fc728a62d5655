//! Devices of the tailnet (`facts/tailscale-and-first-boot.md` A3).

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::list::{Item, Listed};
use super::{TAILNET, Tailscale, TailscaleError, decode, is_id};
use crate::transport::{Document, Repeat, Within, clean};

/// The preferred id of a device, `n...CNTRL`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub String);

impl NodeId {
    /// Reads either id of a device, the preferred or the decimal one; nothing if the text can be none.
    pub fn parse(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A device, as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The older, decimal id.
    pub id: String,
    /// The preferred id.
    pub node_id: NodeId,
    /// The full name in the tailnet, which may carry a suffix such as `-1`.
    pub name: String,
    /// The host name that the machine itself gave. Not unique, and never suffixed.
    pub hostname: String,
    /// Its addresses in the tailnet.
    pub addresses: Vec<IpAddr>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Unix seconds of its making; absent for devices of other tailnets.
    pub created: Option<i64>,
    /// Approved.
    pub authorized: bool,
    /// In touch with the control server right now.
    pub connected: bool,
    /// What the tailnet lock has against it.
    pub lock_error: Option<String>,
    /// Where it can be reached outside the tailnet, as it says of itself. A short list leaves it out.
    pub endpoints: Vec<IpAddr>,
}

impl Item for WireDevice {
    const LIST: &'static str = "devices";
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireDevice {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    node_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    addresses: Option<Vec<String>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    authorized: Option<bool>,
    #[serde(default)]
    connected_to_control: Option<bool>,
    #[serde(default)]
    last_seen: Option<String>,
    #[serde(default)]
    tailnet_lock_error: Option<String>,
    #[serde(default)]
    client_connectivity: Option<WireConnectivity>,
}

#[derive(Deserialize)]
struct WireConnectivity {
    #[serde(default)]
    endpoints: Option<Vec<String>>,
}

impl From<WireDevice> for Device {
    fn from(wire: WireDevice) -> Self {
        let id = wire.id.unwrap_or_default();
        Self {
            // Either id is accepted wherever one is asked for.
            node_id: NodeId(wire.node_id.unwrap_or_else(|| id.clone())),
            id: clean(&id),
            name: clean(&wire.name.unwrap_or_default()),
            hostname: wire.hostname.unwrap_or_default(),
            addresses: wire.addresses.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect(),
            tags: wire.tags.unwrap_or_default(),
            created: wire
                .created
                .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
                .map(OffsetDateTime::unix_timestamp),
            authorized: wire.authorized.unwrap_or_default(),
            // `lastSeen` is left out while a device is connected; it speaks where the younger field is missing.
            connected: wire.connected_to_control.unwrap_or(wire.last_seen.is_none()),
            endpoints: wire
                .client_connectivity
                .and_then(|connectivity| connectivity.endpoints)
                .unwrap_or_default()
                .iter()
                .filter_map(|text| text.parse::<SocketAddr>().ok())
                .map(|endpoint| endpoint.ip())
                .collect(),
            lock_error: wire.tailnet_lock_error.map(|text| clean(&text)).filter(|text| !text.is_empty()),
        }
    }
}

impl Tailscale {
    /// The devices that gave themselves this host name, whoever's they are.
    pub async fn find_devices(&self, hostname: &str, within: Within) -> Result<Vec<Device>, TailscaleError> {
        let path = format!("{TAILNET}/devices");
        let draft = || self.draft(Method::GET, &path, &[("fields", "all"), ("hostname", hostname)]);
        let Listed(devices) = self.fetch::<Listed<WireDevice>>("find devices", draft, within).await?;
        let devices = devices.into_iter().map(Device::from);
        // The filter is the server's; it is not known what an old one does with it. And a device that is listed twice is one.
        let mut listed = BTreeSet::new();
        Ok(devices
            .filter(|device| device.hostname.eq_ignore_ascii_case(hostname) && is_id(&device.node_id.0))
            .filter(|device| listed.insert(device.node_id.clone()))
            .collect())
    }

    /// All devices of the tailnet, as Tailscale describes them.
    pub async fn list_devices(&self, within: Within) -> Result<Document, TailscaleError> {
        let path = format!("{TAILNET}/devices");
        let draft = || self.draft(Method::GET, &path, &[("fields", "default")]);
        let read = |answer: &http::Response<Bytes>| decode::<Listed<WireDevice>>(answer).map(|_| Document::of(answer));
        self.send("list devices", Repeat::Safe, draft, within, read).await
    }

    /// The devices that have this address in the tailnet. It is one, or none.
    pub async fn find_devices_at(&self, ip: IpAddr, within: Within) -> Result<Vec<Device>, TailscaleError> {
        let (path, address) = (format!("{TAILNET}/devices"), ip.to_string());
        let draft = || self.draft(Method::GET, &path, &[("fields", "default"), ("addresses", &address)]);
        let Listed(devices) = self.fetch::<Listed<WireDevice>>("find devices", draft, within).await?;
        let devices = devices.into_iter().map(Device::from);
        // The filter is the server's; it is not known what an old one does with it.
        Ok(devices.filter(|device| device.addresses.contains(&ip) && is_id(&device.node_id.0)).collect())
    }

    /// The device of this id, as Tailscale describes it, if it exists and is of this tailnet.
    pub async fn describe_device(&self, id: &NodeId, within: Within) -> Result<Option<Document>, TailscaleError> {
        let draft = || self.draft(Method::GET, &format!("/device/{id}"), &[("fields", "default")]);
        let read = |answer: &http::Response<Bytes>| decode::<WireDevice>(answer).map(|_| Document::of(answer));
        match self.send("get device", Repeat::Safe, draft, within, read).await {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The device of this id, if it exists and is of this tailnet.
    pub async fn find_device(&self, id: &NodeId, within: Within) -> Result<Option<Device>, TailscaleError> {
        let draft = || self.draft(Method::GET, &format!("/device/{id}"), &[("fields", "all")]);
        match self.fetch::<WireDevice>("get device", draft, within).await {
            Ok(device) => Ok(Some(device.into())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a device. One that is not there counts as deleted. Any device of the tailnet would be deleted, so prove
    /// before that it is the right one.
    pub async fn delete_device(&self, id: &NodeId, within: Within) -> Result<(), TailscaleError> {
        let draft = || self.draft(Method::DELETE, &format!("/device/{id}"), &[]);
        match self.send("delete device", Repeat::Safe, draft, within, |_| Ok(())).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_decode_by_the_omission_rules() {
        let read = |text: &str| Device::from(serde_json::from_str::<WireDevice>(text).unwrap());
        let connected = read(
            r#"{"id":"1","nodeId":"n1CNTRL","hostname":"a","connectedToControl":true,"created":"2026-11-23T10:00:00Z"}"#,
        );
        assert!(connected.connected && connected.tags.is_empty() && !connected.authorized);
        assert_eq!(connected.created, Some(1_795_428_000));
        let shared = read(r#"{"id":"2","created":"","machineKey":"","lastSeen":"2026-11-23T10:00:00Z"}"#);
        assert_eq!((shared.created, shared.connected, shared.node_id.0.as_str()), (None, false, "2"));
    }
}

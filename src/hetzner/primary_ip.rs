//! Primary IPs: the addresses of a server, which may outlive it and then go on costing money (fault M24).

use std::fmt;

use http::Method;
use serde::Deserialize;

use super::{Hetzner, HetznerError, ServerId, found};
use crate::transport::{Repeat, Within};

/// The id of a primary IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrimaryIpId(pub u64);

impl fmt::Display for PrimaryIpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A primary IP, as far as we need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimaryIp {
    /// The server that it belongs to just now.
    pub assignee: Option<ServerId>,
}

#[derive(Deserialize)]
struct One {
    primary_ip: WirePrimaryIp,
}

#[derive(Deserialize)]
struct WirePrimaryIp {
    #[serde(default)]
    assignee_id: Option<u64>,
}

impl Hetzner {
    /// The primary IP of this id, if it exists.
    pub async fn find_primary_ip(&self, id: PrimaryIpId, within: Within) -> Result<Option<PrimaryIp>, HetznerError> {
        let found = self.find_one::<One>("get primary ip", &format!("/primary_ips/{id}"), within).await?;
        Ok(found.map(|found| PrimaryIp { assignee: found.primary_ip.assignee_id.map(ServerId) }))
    }

    /// Deletes a primary IP. One that is not there counts as deleted.
    pub async fn delete_primary_ip(&self, id: PrimaryIpId, within: Within) -> Result<(), HetznerError> {
        let draft = self.draft(Method::DELETE, &format!("/primary_ips/{id}"), &[]);
        found(self.send("delete primary ip", Repeat::Safe, draft, within, |_| Ok(())).await).map(drop)
    }
}

//! What the benchmarks stand on: a network that always has the same answer, and a tailnet of any size.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use provision_vm::transport::{Transport, TransportError};

/// Hands a token to who asks for one, and the same body to all others.
#[derive(Debug)]
pub struct Prepared {
    /// What is handed out.
    pub body: Bytes,
}

impl Transport for Prepared {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        let token = Bytes::from_static(br#"{"access_token":"bench-token","token_type":"Bearer","expires_in":3600}"#);
        let body = if request.uri().path().ends_with("/oauth/token") { token } else { self.body.clone() };
        Box::pin(async { Ok(http::Response::new(body)) })
    }
}

/// The answer of a tailnet with so many devices, as it is with the default fields.
pub fn tailnet_of(devices: usize) -> Bytes {
    let device = |number: usize| {
        let (high, low) = (number / 256 % 256, number % 256);
        serde_json::json!({
            "addresses": [format!("100.64.{high}.{low}"), format!("fd7a:115c:a1e0::{number:x}")],
            "authorized": true,
            "blocksIncomingConnections": false,
            "clientVersion": "1.80.2-t8c9f5e7a1-g2d3b1c0f4",
            "connectedToControl": number.is_multiple_of(2),
            "created": "2026-11-20T10:00:00Z",
            "expires": "2027-05-19T10:00:00Z",
            "hostname": hostname(number),
            "id": (92_960_230_385_000_000_u64 + number as u64).to_string(),
            "isEphemeral": true,
            "isExternal": false,
            "keyExpiryDisabled": true,
            "lastSeen": "2026-11-26T10:00:00Z",
            "machineKey": format!("mkey:{number:064x}"),
            "name": format!("{}.tail0123.ts.net", hostname(number)),
            "nodeId": format!("n{number:08}CNTRL"),
            "nodeKey": format!("nodekey:{number:064x}"),
            "os": "linux",
            "tags": ["tag:agent"],
            "tailnetLockError": "",
            "tailnetLockKey": format!("nlpub:{number:064x}"),
            "updateAvailable": false,
            "user": "tagged-devices",
        })
    };
    serde_json::json!({ "devices": (0..devices).map(device).collect::<Vec<_>>() }).to_string().into()
}

/// The host name of one of them.
pub fn hostname(number: usize) -> String {
    format!("agent-550e8400-{number:012x}")
}

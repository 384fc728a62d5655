//! The tailnet behind the second seam: whether a machine of the world answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use provision_vm::transport::{Dial, DialError};
use simulator::Unreached;
use tokio::time::sleep;

use super::Cloud;

/// From here to a machine and back.
const ROUND_TRIP: Duration = Duration::from_millis(40);

impl Dial for Cloud {
    fn dial(&self, ip: Ipv4Addr, port: u16) -> BoxFuture<'_, Result<(), DialError>> {
        Box::pin(async move {
            match self.knock(ip, port) {
                // Who waits for an answer gives up by himself.
                Err(Unreached::NoAnswer) => std::future::pending().await,
                Err(Unreached::Refused) => {
                    sleep(ROUND_TRIP).await;
                    Err(DialError::Refused)
                }
                Ok(()) => {
                    sleep(ROUND_TRIP).await;
                    Ok(())
                }
            }
        })
    }
}

impl Cloud {
    fn knock(&self, ip: Ipv4Addr, port: u16) -> Result<(), Unreached> {
        let now = self.now();
        let mut audit = self.audit();
        audit.advance_to(now);
        let mut world = self.world();
        let outcome = world.reach(now, ip, port);
        if self.actor != 0 {
            audit.dialled(self.actor, ip, port, outcome, &world);
        }
        audit.hear(&mut world);
        outcome
    }
}

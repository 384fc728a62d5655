//! What a machine needs to join, at Tailscale.

use std::time::Duration;

use futures_util::future::join;

use super::super::attempted;
use super::super::code::Code;
use super::super::job::TAG;
use super::super::leftover::Leftover;
use super::super::run::Doing;
use super::super::saga::Saga;
use super::super::step::auth_key;
use super::{Check, Doctor};
use crate::tailscale::NodeId;

/// The key that is made to see whether one can be made.
const KEY_LIFE: Duration = Duration::from_secs(60);
/// No host, and no device, is called that.
const NOBODY: &str = "provision-vm-doctor";
/// What the credential needs.
const SCOPES: [&str; 4] = ["auth_keys", "auth_keys:read", "devices:core", "devices:core:read"];

impl Doctor<'_> {
    /// With what is left of the key that was made.
    pub(super) async fn tailscale(&self) -> (Vec<Check>, Vec<Leftover>) {
        const REST: [&str; 3] = ["devices", "auth-key", "scopes"];
        let nothing = |first: Check, why: &str| {
            let rest = REST.map(|name| Check::skipped(name, why));
            (std::iter::once(first).chain(rest).collect(), Vec::new())
        };
        if !self.patient.knows.tailscale {
            let why = "the settings do not have what it needs";
            return nothing(Check::skipped("tailscale", why), why);
        }
        let reading =
            async { self.run.tailscale.granted_scopes(self.within()).await.doing("Tailscale gives no access token") };
        let scopes = match self.run.guard(reading).await {
            Ok(scopes) => scopes,
            Err(cause) => return nothing(Check::failed("tailscale", &cause, None), "Tailscale cannot be asked"),
        };
        let (devices, (key, left)) = join(self.devices(), self.auth_key()).await;
        let taken = Check::ok("tailscale", "The credential is taken");
        (vec![taken, devices, key, scopes_check(scopes)], left)
    }

    async fn devices(&self) -> Check {
        const NAME: &str = "devices";
        let (run, nobody) = (self.run, NodeId(NOBODY.to_owned()));
        let reading = async {
            run.tailscale.find_devices(NOBODY, self.within()).await.doing("the devices could not be read")?;
            match run.tailscale.delete_device(&nobody, self.within()).await {
                // There is no such device, in whatever words.
                Err(error) if error.is_of_the_request() => Ok(()),
                outcome => outcome.doing("devices could not be removed"),
            }
        };
        match run.guard(reading).await {
            Ok(()) => Check::ok(NAME, "Devices may be read and removed"),
            Err(cause) => {
                let is_scope = cause.code() == Code::Forbidden;
                Check::failed(NAME, &cause, is_scope.then_some("Give the credential the scope devices:core, with write access: in Tailscale's console, under Trust credentials."))
            }
        }
    }

    async fn auth_key(&self) -> (Check, Vec<Leftover>) {
        const NAME: &str = "auth-key";
        if !self.patient.knows.auth_key {
            return (Check::skipped(NAME, "the settings cannot be read"), Vec::new());
        }
        if let Some(given) = &self.run.settings.auth_key {
            return (
                match auth_key::check_given(self.run, given).await {
                    Err(cause) => Check::failed(NAME, &cause, None),
                    Ok(_) => Check::warning(
                        NAME,
                        "TAILSCALE_AUTH_KEY is used, which is not made for one machine and not revoked after use",
                        "It is meant for migration: without it every machine gets a key of its own.",
                    ),
                },
                Vec::new(),
            );
        }
        let (saga, attempt) = (Saga::default(), self.run.begin_attempt());
        let minted = attempted(auth_key::mint(self.run, &saga, &attempt, KEY_LIFE)).await;
        let left = saga.compensate(self.run).await;
        let tags = std::iter::once(TAG).chain(self.run.settings.extras.tags.iter().map(String::as_str));
        let tags = tags.collect::<Vec<_>>().join(", ");
        let check = match minted {
            Ok(_) if left.is_empty() => Check::ok(NAME, format!("A key for {tags} could be made, and is gone again")),
            Ok(_) => {
                let ids: Vec<&str> = left.iter().filter_map(|left| left.id.as_deref()).collect();
                let what = format!("A key for {tags} could be made, and not be revoked: {}", ids.join(", "));
                Check::warning(NAME, what, "It ends by itself within a minute, and nobody has its text.")
            }
            Err(cause) => {
                let is_refused = cause.code() == Code::Forbidden;
                let hint = format!(
                    "Give the credential the scope auth_keys, with write access, and these tags: {tags}. In Tailscale's console, under Trust credentials; tagOwners in the tailnet policy has to know them."
                );
                Check::failed(NAME, &cause, is_refused.then_some(&hint))
            }
        };
        (check, left)
    }
}

/// What a credential may do beyond what is needed (fault Y40).
fn scopes_check(scopes: Option<Vec<String>>) -> Check {
    const NAME: &str = "scopes";
    let Some(scopes) = scopes else { return Check::ok(NAME, "Tailscale does not say what the credential may do") };
    let more: Vec<&str> = scopes.iter().map(String::as_str).filter(|scope| !SCOPES.contains(scope)).collect();
    if more.is_empty() {
        return Check::ok(NAME, "The credential may do no more than is needed");
    }
    Check::warning(
        NAME,
        format!("The credential may do more than is needed: {}", more.join(", ")),
        "Make one with the scopes auth_keys and devices:core alone, so that who steals it can do no more.",
    )
}

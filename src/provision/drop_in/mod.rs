//! Single operations, as the app's old modules had them (design 2.3): by an id, or in the caller's own words.
//!
//! They do what they are told and prove no ownership (design 6, rule 6). What they share with a job is all the rest: the
//! client, the retry rules and their purse, the undo of what an order may have made, and the errors.

mod order;
mod power;
mod removal;
mod tailnet;
mod wait;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::{Cause, ProvisionError};
use super::event::{Observer, Step};
use super::job::Job;
use super::run::{Doing, Run};
use super::settings::Settings;
use super::{Failure, Provisioner, failure, or_undo, region, unless_panic};
pub(super) use removal::server as remove_server;

use crate::cloud_init::{self, Additions, CloudInitError, FirstBoot, Mode, Package};
use crate::hetzner::{ActionId, PowerSwitch, ServerId};
use crate::secret::Secret;
use crate::tailscale::NodeId;
use crate::transport::Document;

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Order a server, in Hetzner's own words. Its name is in the document as well.
    CreateServer {
        /// The name, which makes a lost answer findable.
        name: String,
        /// The body of `POST /servers`.
        order: Document,
    },
    /// Wait until an action has ended well.
    WaitForAction(u64, Polling),
    /// Delete a server, and see that it is gone.
    DeleteServer(u64),
    /// Ask a server to shut down, cut its power if it does not, and see that it is off.
    ShutDown(u64),
    /// Give a server power, and see that it runs.
    PowerOn(u64),
    /// Cut a server's power, and see that it is off.
    PowerOff(u64),
    /// Hand out an access token of Tailscale's.
    GetAccessToken,
    /// Mint an auth key for one machine, that is the caller's from then on. It lives so long.
    CreateAuthKey(Duration),
    /// Wait until the one device of this host name verifies.
    VerifyEnrollment(String, Polling),
    /// Read all devices of the tailnet.
    ListDevices,
    /// Delete a device, and see that it is gone.
    DeleteDevice(NodeId),
    /// Find the device that has this address in the tailnet.
    FindDevice(IpAddr),
}

/// How to look again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// How often to look; at least once.
    pub looks: u32,
    /// How long to wait between two looks.
    pub interval: Duration,
}

impl Polling {
    /// How long all looks take, with time for the answers.
    pub fn length(self) -> Duration {
        self.interval.saturating_mul(self.looks).saturating_add(Duration::from_secs(60))
    }
}

/// What an operation has to say.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is done, or nothing was found.
    Nothing,
    /// What the API answered.
    Document(Document),
    /// An access token.
    AccessToken(Secret),
    /// An auth key.
    AuthKey {
        /// Its text.
        key: Secret,
        /// Its id, with which it can be revoked.
        id: String,
    },
    /// A device that verifies.
    Device {
        /// Its address in the tailnet.
        ip: Ipv4Addr,
        /// Its older, decimal id.
        device_id: String,
        /// Its preferred id.
        node_id: String,
    },
}

impl Provisioner {
    /// Carries out one operation. Of the settings it needs those of the cloud that it speaks to, and the timeout.
    ///
    /// # Errors
    ///
    /// What an order may have made is undone first, as far as `leftovers` says. A server or device that was to be deleted
    /// and may still be there is a leftover as well.
    pub async fn perform(
        &self,
        operation: &Operation,
        settings: &Settings,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
    ) -> Result<Answer, Box<ProvisionError>> {
        let nobody = Job::nobody(operation.name());
        let clouds = self.clouds(settings, &observer);
        let run = Run::new(&nobody, settings, region::place(""), clouds, cancel, observer);
        self.heed(&run);
        let outcome = unless_panic(carry_out(&run, operation)).await;
        outcome.map_err(|(cause, left)| Box::new(failure(&run, cause, left)))
    }
}

/// The first-boot document of a machine that joins with this key, as a job's would be; without a package to install, of a
/// snapshot.
///
/// # Errors
///
/// [`Cause::Input`] for what can be no host name or no auth key, or does not fit.
pub fn render_first_boot(
    hostname: &str,
    auth_key: &Secret,
    package: Option<&Package>,
    additions: &Additions,
) -> Result<Secret, Cause> {
    let mode = package.map_or(Mode::EnrollOnly, Mode::Install);
    cloud_init::render(&FirstBoot { auth_key, hostname, mode, report: None, additions }).map_err(|error| match error {
        CloudInitError::Hostname(_) => input("params.hostname", &error),
        CloudInitError::AuthKey => input("params.tailscaleAuthKey", &error),
        CloudInitError::TooLarge { .. } => input("options.userData", &error),
        CloudInitError::Report | CloudInitError::Unwritable => error.into(),
    })
}

fn input(field: &str, why: &CloudInitError) -> Cause {
    Cause::Input { field: field.to_owned(), why: why.to_string() }
}

impl Operation {
    /// The name of what it is about, for the undo and for events.
    fn name(&self) -> &str {
        match self {
            Self::CreateServer { name, .. } | Self::VerifyEnrollment(name, _) => name,
            _ => "",
        }
    }
}

async fn carry_out(run: &Run<'_>, operation: &Operation) -> Result<Answer, Failure> {
    let alone = |cause| (cause, Vec::new());
    match operation {
        Operation::CreateServer { order, .. } => {
            or_undo(run, async |saga| order::create(run, saga, order).await.map(Answer::Document)).await
        }
        Operation::WaitForAction(id, polling) => {
            let ended = wait::for_action(run, ActionId(*id), *polling).await;
            ended.map(Answer::Document).map_err(alone)
        }
        Operation::DeleteServer(id) => removal::server(run, ServerId(*id)).await.map(|()| Answer::Nothing),
        Operation::ShutDown(id) => power::shut_down(run, ServerId(*id)).await.map(|()| Answer::Nothing).map_err(alone),
        Operation::PowerOn(id) => {
            power::switch(run, ServerId(*id), PowerSwitch::On).await.map(|()| Answer::Nothing).map_err(alone)
        }
        Operation::PowerOff(id) => {
            power::switch(run, ServerId(*id), PowerSwitch::Off).await.map(|()| Answer::Nothing).map_err(alone)
        }
        Operation::GetAccessToken => {
            run.enter(Step::Read);
            let token =
                async { run.tailscale.new_access_token(run.within()).await.doing("no access token could be had") };
            run.guard(token).await.map(Answer::AccessToken).map_err(alone)
        }
        Operation::CreateAuthKey(life) => or_undo(run, async |saga| tailnet::create_key(run, saga, *life).await).await,
        Operation::VerifyEnrollment(hostname, polling) => {
            wait::for_device(run, hostname, *polling).await.map_err(alone)
        }
        Operation::ListDevices => tailnet::list_devices(run).await.map(Answer::Document).map_err(alone),
        Operation::DeleteDevice(id) => removal::device(run, id).await.map(|()| Answer::Nothing),
        Operation::FindDevice(ip) => {
            let found = tailnet::find_device(run, *ip).await.map_err(alone)?;
            Ok(found.map_or(Answer::Nothing, Answer::Document))
        }
    }
}

fn not_found(what: &str, id: impl std::fmt::Display) -> Cause {
    Cause::NotFound(format!("{what} {id}"))
}

//! What is asked of the clouds through the rooms' own doors, and what an answer must not make them believe.

use std::sync::Arc;
use std::time::Duration;

use provision_vm::hetzner::{
    Action, ActionId, ActionStatus, CreateServer, Hetzner, HetznerError, IdOrName, Labels, Order, PowerSwitch,
    PrimaryIpId, Server, ServerId,
};
use provision_vm::provision::USUAL_SERVER_TYPES;
use provision_vm::secret::Secret;
use provision_vm::tailscale::{Capabilities, Credentials, Device, KeyId, KeyOrder, NodeId, Tailscale, TailscaleError};
use provision_vm::transport::{Chain, Chance, Clock, Patience, RetryBudget, Transport, Urgency, Within};

use super::complaint_about;
use super::mutation::shows_a_canary;
use super::support::settings;

macro_rules! operations {
    ($($name:ident,)*) => {
        /// What is asked of a cloud.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation {
            $($name),*
        }

        pub const ALL: &[Operation] = &[$(Operation::$name),*];
    };
}

operations! {
    ServersByLabel,
    ServerByName,
    Server,
    Create,
    CreateRefused,
    ReplaceLabels,
    Delete,
    Actions,
    ServerActions,
    PowerOn,
    ServerTypes,
    PrimaryIp,
    UnknownServer,
    Token,
    TokenRefused,
    CreateKey,
    Key,
    KeysDescribed,
    UnknownKey,
    RevokeKey,
    Devices,
    Device,
    UnknownDevice,
}

use Operation::*;

/// A finished job, and what is asked about it.
pub struct Known {
    pub server: Server,
    pub key: KeyId,
    pub device: NodeId,
    pub description: String,
}

/// Both clouds behind one way to the network.
pub struct Clouds {
    hetzner: Hetzner,
    tailscale: Tailscale,
    clock: Arc<Clock>,
}

impl Clouds {
    pub fn behind(transport: &Arc<impl Transport>, is_refused: bool) -> Self {
        let settings = settings();
        let clock = Arc::new(Clock::default());
        let chain = || {
            let (chance, budget) = (Arc::new(Chance::from_seed(1)), Arc::new(RetryBudget::default()));
            Chain::new(transport.clone(), clock.clone(), chance, budget, Arc::default(), Arc::default())
        };
        let credentials = match (settings.tailscale_credentials, is_refused) {
            (Credentials::OAuth { client_id, .. }, true) => {
                Credentials::OAuth { client_id, client_secret: Secret::new("tskey-client-wrong") }
            }
            (credentials, _) => credentials,
        };
        let hetzner = Hetzner::new(chain(), settings.hetzner_url, settings.hetzner_token, Arc::default());
        let tailscale = Tailscale::new(chain(), settings.tailscale_url, credentials, Arc::default(), Arc::new(|_| ()));
        Self { hetzner, tailscale, clock }
    }

    /// Asks; what comes back is checked, and told as `Ok` with all numbers, ids and servers, or as an error's text.
    pub async fn ask(&self, operation: Operation, known: &Known) -> Result<Seen, (String, String)> {
        let Self { hetzner, tailscale, clock } = self;
        let within = Within {
            deadline: clock.now() + Duration::from_secs(600),
            patience: Patience::Tries(2),
            urgency: Urgency::Order,
        };
        let name = known.server.name.as_str();
        let mut seen = Seen::default();
        let hetzner_says = |error: HetznerError| (error.to_string(), format!("{error:?}"));
        let tailscale_says = |error: TailscaleError| (error.to_string(), format!("{error:?}"));
        match operation {
            ServersByLabel => {
                seen.servers = hetzner.find_servers_by_label("state==ready", within).await.map_err(hetzner_says)?;
            }
            ServerByName => {
                seen.servers.extend(hetzner.find_server_by_name(name, within).await.map_err(hetzner_says)?);
                seen.complain(seen.servers.iter().any(|server| server.name != name), "another name");
            }
            Server | UnknownServer => {
                let id = if operation == Server { known.server.id } else { ServerId(77) };
                seen.servers.extend(hetzner.find_server(id, within).await.map_err(hetzner_says)?);
            }
            Create | CreateRefused => {
                let order = CreateServer {
                    name: if operation == Create { "agent-new" } else { name },
                    server_type: USUAL_SERVER_TYPES[0],
                    location: "ash",
                    image: &IdOrName::Name("ubuntu-22.04".to_owned()),
                    ssh_keys: &[IdOrName::Id(4711)],
                    user_data: &Secret::new("#cloud-config\n{}"),
                    labels: &Labels::new(),
                    attachments: &provision_vm::hetzner::Attachments::default(),
                };
                let order = Order::new(&order).map_err(hetzner_says)?;
                let created = hetzner.create_server(&order, within).await.map_err(hetzner_says)?;
                seen.actions(created.actions);
                seen.servers.push(created.server);
            }
            ReplaceLabels => {
                let labels = &known.server.labels;
                seen.servers.push(hetzner.replace_labels(known.server.id, labels, within).await.map_err(hetzner_says)?);
            }
            Delete => drop(hetzner.delete_server(known.server.id, within).await.map_err(hetzner_says)?),
            Actions => seen.actions(hetzner.get_actions(&[ActionId(1)], within).await.map_err(hetzner_says)?),
            ServerActions => {
                seen.actions(hetzner.list_server_actions(known.server.id, within).await.map_err(hetzner_says)?);
            }
            PowerOn => {
                let action = hetzner.press(known.server.id, PowerSwitch::On, within).await.map_err(hetzner_says)?;
                seen.actions(vec![action]);
            }
            ServerTypes => drop(hetzner.list_server_types(within).await.map_err(hetzner_says)?),
            PrimaryIp => {
                let id = known.server.primary_ips.first().copied().unwrap_or(PrimaryIpId(1));
                let _ = hetzner.find_primary_ip(id, within).await.map_err(hetzner_says)?;
            }
            CreateKey => {
                let capabilities =
                    Capabilities { preauthorized: true, tags: vec!["tag:agent".to_owned()], ..Capabilities::default() };
                let life = Duration::from_secs(600);
                let order = KeyOrder { capabilities: &capabilities, life, description: &known.description };
                let key = tailscale.create_key(&order, within).await.map_err(tailscale_says)?;
                seen.complain(shows_a_canary(&format!("{:?}", key.key)), "a key is shown");
                seen.ids.push(key.id.0);
            }
            Key => drop(tailscale.find_key(&known.key, within).await.map_err(tailscale_says)?),
            UnknownKey => {
                drop(tailscale.find_key(&KeyId("kUNKNOWN".to_owned()), within).await.map_err(tailscale_says)?);
            }
            KeysDescribed => {
                let keys =
                    tailscale.find_keys(|text| text == known.description, within).await.map_err(tailscale_says)?;
                seen.complain(
                    keys.iter().any(|key| key.description != known.description || key.invalid),
                    "another key",
                );
                seen.ids.extend(keys.into_iter().map(|key| key.id.0));
            }
            RevokeKey => tailscale.revoke_key(&known.key, within).await.map_err(tailscale_says)?,
            Devices | Token | TokenRefused => {
                let devices = tailscale.find_devices(name, within).await.map_err(tailscale_says)?;
                seen.complain(
                    devices.iter().any(|device| !device.hostname.eq_ignore_ascii_case(name)),
                    "another host name",
                );
                seen.devices(devices);
            }
            Device => drop(tailscale.find_device(&known.device, within).await.map_err(tailscale_says)?),
            UnknownDevice => {
                drop(tailscale.find_device(&NodeId("nUNKNOWN".to_owned()), within).await.map_err(tailscale_says)?);
            }
        }
        Ok(seen)
    }
}

/// What was taken out of an answer.
#[derive(Debug, Default)]
pub struct Seen {
    pub servers: Vec<Server>,
    /// Texts for people.
    texts: Vec<String>,
    /// Ids of actions and addresses.
    pub numbers: Vec<u64>,
    /// What will be put into a path.
    ids: Vec<String>,
    complaints: Vec<String>,
}

impl Seen {
    fn complain(&mut self, is_wrong: bool, complaint: &str) {
        self.complaints.extend(is_wrong.then(|| complaint.to_owned()));
    }

    fn actions(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.numbers.push(action.id.0);
            if let ActionStatus::Error { code, message } = action.status {
                self.texts.extend([code, message]);
            }
            self.texts.push(action.command);
        }
    }

    fn devices(&mut self, devices: Vec<Device>) {
        for device in devices {
            self.texts.extend([device.name].into_iter().chain(device.lock_error));
            self.ids.push(device.node_id.0);
        }
    }

    pub fn complaint(self) -> Option<String> {
        let absurd = self.servers.iter().find(|server| server.id.0 == 0 || server.id.0 >= 1 << 53);
        let unsafe_id = self.ids.iter().find(|id| {
            id.is_empty() || id.len() > 64 || !id.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
        });
        let places = self.servers.iter().flat_map(|server| [&server.status, &server.location, &server.server_type]);
        let text = self.texts.iter().chain(places).find_map(|text| complaint_about(text));
        let absurd = absurd.map(|server| format!("an absurd server: {server:?}"));
        absurd.or(unsafe_id.map(|id| format!("an unsafe id: {id:?}"))).or(text).or(self.complaints.into_iter().next())
    }
}

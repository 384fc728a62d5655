//! What an order refers to: images, SSH keys, firewalls and others; and whether the token may order at all (`facts/hetzner.md` 2 and 4).

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Hetzner, HetznerError, IdOrName, ServerId};
use crate::transport::{Within, clean};

/// The architecture of all servers that are ordered here.
const ARCHITECTURE: &str = "x86";
/// No server has it: ids are counted up, and it is the last that JavaScript can hold.
const NOBODY: ServerId = ServerId((1 << 53) - 1);

/// What a server can be made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `available`, `creating` or `unavailable`.
    pub status: String,
    /// `x86` or `arm`.
    pub architecture: String,
}

impl Image {
    /// Whether a server of ours can be made from it.
    pub fn is_usable(&self) -> bool {
        self.status == "available" && self.architecture == ARCHITECTURE
    }
}

/// What a server can be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A firewall.
    Firewall,
    /// A private network.
    Network,
    /// A placement group.
    PlacementGroup,
}

/// Something that a server can be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Of a network: the network zones of its subnets.
    pub zones: Vec<String>,
}

#[derive(Deserialize)]
struct WireImage {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
}

#[derive(Deserialize)]
struct OneImage {
    image: WireImage,
}

#[derive(Deserialize)]
struct ManyImages {
    images: Vec<WireImage>,
}

#[derive(Deserialize)]
struct WireKey {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct OneKey {
    #[serde(rename = "ssh_key")]
    _key: WireKey,
}

#[derive(Deserialize)]
struct ManyKeys {
    ssh_keys: Vec<WireKey>,
}

impl From<WireImage> for Image {
    fn from(wire: WireImage) -> Self {
        let text = |text: Option<String>, usual: &str| text.map_or_else(|| usual.to_owned(), |text| clean(&text));
        // Nothing said means nothing against it.
        Self { status: text(wire.status, "available"), architecture: text(wire.architecture, ARCHITECTURE) }
    }
}

impl Hetzner {
    /// The image of this id, or of this name for our architecture.
    pub async fn find_image(&self, image: &IdOrName, within: Within) -> Result<Option<Image>, HetznerError> {
        match image {
            IdOrName::Id(id) => {
                let found = self.find_one::<OneImage>("get image", &format!("/images/{id}"), within).await?;
                Ok(found.map(|found| found.image.into()))
            }
            IdOrName::Name(name) => {
                let query = [("name", name.as_str()), ("architecture", ARCHITECTURE)];
                let draft = self.draft(Method::GET, "/images", &query);
                let found: ManyImages = self.fetch("find images", draft, within).await?;
                Ok(found.images.into_iter().find(|image| image.name.as_ref() == Some(name)).map(Image::from))
            }
        }
    }

    /// Whether the project has this SSH key.
    pub async fn has_ssh_key(&self, key: &IdOrName, within: Within) -> Result<bool, HetznerError> {
        match key {
            IdOrName::Id(id) => {
                let found = self.find_one::<OneKey>("get SSH key", &format!("/ssh_keys/{id}"), within).await?;
                Ok(found.is_some())
            }
            IdOrName::Name(name) => {
                let draft = self.draft(Method::GET, "/ssh_keys", &[("name", name)]);
                let found: ManyKeys = self.fetch("find SSH keys", draft, within).await?;
                Ok(found.ssh_keys.iter().any(|key| key.name.as_ref() == Some(name)))
            }
        }
    }

    /// What a server is to be attached to, if the project has it.
    pub async fn find_attachment(
        &self,
        what: Attachment,
        id: u64,
        within: Within,
    ) -> Result<Option<Attached>, HetznerError> {
        let (kind, path) = match what {
            Attachment::Firewall => ("firewall", "firewalls"),
            Attachment::Network => ("network", "networks"),
            Attachment::PlacementGroup => ("placement_group", "placement_groups"),
        };
        let path = format!("/{path}/{id}");
        let Some(found) = self.find_one::<Value>("get attachment", &path, within).await? else { return Ok(None) };
        let found = found.get(kind).filter(|found| found.is_object());
        let found =
            found.ok_or_else(|| HetznerError::unreadable("get attachment", "the answer is about something else"))?;
        let zone = |subnet: &Value| subnet.get("network_zone").and_then(Value::as_str).map(clean);
        Ok(Some(Attached { zones: list(found, "subnets").iter().filter_map(zone).collect() }))
    }

    /// Each location with its network zone: a network reaches servers in the zones of its subnets alone.
    pub async fn network_zones(&self, within: Within) -> Result<Vec<(String, String)>, HetznerError> {
        // There are a handful of them.
        let draft = self.draft(Method::GET, "/locations", &[("per_page", "50")]);
        let found: Value = self.fetch("list locations", draft, within).await?;
        let text = |place: &Value, field: &str| place.get(field).and_then(Value::as_str).map(clean);
        Ok(list(&found, "locations")
            .iter()
            .filter_map(|place| Some((text(place, "name")?, text(place, "network_zone")?)))
            .collect())
    }

    /// Asks for a change that can change nothing: of the labels of a server that is not there. A token that may only read is refused
    /// before Hetzner looks for the server; any other refusal of this request says that it may write.
    ///
    /// # Errors
    ///
    /// One that [`HetznerError::is_unauthorized`] or [`HetznerError::is_forbidden`], if the token may only read.
    pub async fn try_to_write(&self, within: Within) -> Result<(), HetznerError> {
        match self.replace_labels(NOBODY, &super::Labels::new(), within).await {
            Err(error) if error.is_of_the_request() => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// A list that stands in a document; an empty one if there is none.
fn list<'a>(document: &'a Value, field: &str) -> &'a [Value] {
    document.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_which_little_is_said_counts_as_usable() {
        for (wire, is_usable) in [
            ("{}", true),
            (r#"{"name":null,"status":"available","architecture":"x86"}"#, true),
            (r#"{"status":"creating"}"#, false),
            (r#"{"architecture":"arm"}"#, false),
        ] {
            assert_eq!(Image::from(serde_json::from_str::<WireImage>(wire).unwrap()).is_usable(), is_usable, "{wire}");
        }
    }
}

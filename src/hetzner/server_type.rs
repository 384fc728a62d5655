//! Server types, and where they are sold (`facts/hetzner.md` 3.3).

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Hetzner, HetznerError, Meta};
use crate::transport::{Within, clean};

/// A server type and the places where it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerType {
    /// Its name, such as `cpx11`.
    pub name: String,
    /// `x86` or `arm`.
    pub architecture: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Where it is listed. Not listed means not sold, whatever the price list says.
    pub offers: Vec<Offer>,
}

/// One type in one location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The location's name.
    pub location: String,
    /// In stock just now, as far as Hetzner says; no promise either way.
    pub available: bool,
    /// Unix seconds after which it is not sold any more.
    pub unavailable_after: Option<i64>,
    /// What it costs there.
    pub price: Option<Price>,
}

/// What a server costs, without tax, in the currency of the project, as the decimal text that Hetzner writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// For one hour.
    pub hourly: String,
    /// At most for one month.
    pub monthly: String,
}

#[derive(Deserialize)]
struct Many {
    server_types: Vec<WireType>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Deserialize)]
struct WireType {
    name: String,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    memory: Option<f64>,
    #[serde(default)]
    locations: Option<Vec<WireLocation>>,
    #[serde(default)]
    prices: Option<Vec<WirePrice>>,
}

#[derive(Deserialize)]
struct WireLocation {
    name: String,
    /// Absent before April 2026; nothing said means nothing against it.
    #[serde(default)]
    available: Option<bool>,
    #[serde(default)]
    deprecation: Option<WireDeprecation>,
}

#[derive(Deserialize)]
struct WireDeprecation {
    #[serde(default)]
    unavailable_after: Option<String>,
}

#[derive(Deserialize)]
struct WirePrice {
    location: String,
    #[serde(default)]
    price_hourly: Option<WireAmount>,
    #[serde(default)]
    price_monthly: Option<WireAmount>,
}

#[derive(Deserialize)]
struct WireAmount {
    #[serde(default)]
    net: Option<String>,
}

impl From<WireType> for ServerType {
    fn from(wire: WireType) -> Self {
        let prices = wire.prices.unwrap_or_default();
        let offer = |place: WireLocation| {
            let price = prices.iter().find(|price| price.location == place.name).and_then(WirePrice::read);
            let after = place.deprecation.and_then(|deprecation| deprecation.unavailable_after);
            Offer {
                location: place.name,
                available: place.available.unwrap_or(true),
                unavailable_after: after
                    .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
                    .map(OffsetDateTime::unix_timestamp),
                price,
            }
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "float casts saturate; sizes are small"
        )]
        let memory_mib = (wire.memory.unwrap_or_default() * 1024.0) as u64;
        Self {
            name: clean(&wire.name),
            architecture: clean(&wire.architecture.unwrap_or_default()),
            memory_mib,
            offers: wire.locations.unwrap_or_default().into_iter().map(offer).collect(),
        }
    }
}

impl WirePrice {
    fn read(&self) -> Option<Price> {
        let net = |amount: &Option<WireAmount>| amount.as_ref()?.net.as_deref().and_then(decimal);
        Some(Price { hourly: net(&self.price_hourly)?, monthly: net(&self.price_monthly)? })
    }
}

/// Hetzner's decimal text without its trailing zeros: `0.0330000000` becomes `0.033`.
fn decimal(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !text.is_empty() && text.len() <= 40;
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    plain.then(|| trimmed.to_owned())
}

impl Hetzner {
    /// All server types, with where they are sold and for how much.
    pub async fn list_server_types(&self, within: Within) -> Result<Vec<ServerType>, HetznerError> {
        let items = |page: Many| (page.server_types.into_iter().map(ServerType::from).collect(), page.meta.next_page());
        self.fetch_all("list server types", "/server_types", &[], within, items).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_carry_stock_end_of_sale_and_price() {
        let wire = r#"{"name":"cpx11","architecture":"x86","memory":2,"locations":[
            {"id":2,"name":"nbg1","available":false,"recommended":false,"deprecation":{"announced":"2025-10-16T06:00:00Z","unavailable_after":"2025-12-31T23:59:59Z"}},
            {"id":4,"name":"ash","deprecation":null}],
            "prices":[{"location":"ash","price_hourly":{"net":"0.0330000000","gross":"0"},"price_monthly":{"net":"20.4900000000"}}]}"#;
        let server_type = ServerType::from(serde_json::from_str::<WireType>(wire).unwrap());
        assert_eq!(server_type.memory_mib, 2048);
        let [nbg1, ash] = server_type.offers.as_slice() else { panic!("two offers") };
        assert_eq!((nbg1.available, nbg1.unavailable_after), (false, Some(1_767_225_599)));
        assert_eq!((ash.available, ash.unavailable_after), (true, None));
        assert_eq!(ash.price, Some(Price { hourly: "0.033".into(), monthly: "20.49".into() }));
    }
}

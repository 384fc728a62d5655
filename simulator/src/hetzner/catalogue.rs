//! What is sold, where, and from which images: the state of autumn 2026 (`facts/hetzner.md` 6). Prices are made up but
//! of the right size.

use serde_json::{Value, json};

use crate::config::HetznerConfig;
use crate::context::Context;
use crate::memo::piece;

/// id, name, description, country, city, latitude, longitude, network zone.
type LocationRow = (u64, &'static str, &'static str, &'static str, &'static str, f64, f64, &'static str);

const LOCATIONS: [LocationRow; 6] = [
    (1, "fsn1", "Falkenstein DC Park 1", "DE", "Falkenstein", 50.476_12, 12.370_071, "eu-central"),
    (2, "nbg1", "Nuremberg DC Park 1", "DE", "Nuremberg", 49.452_102, 11.076_665, "eu-central"),
    (3, "hel1", "Helsinki DC Park 1", "FI", "Helsinki", 60.169_855, 24.938_379, "eu-central"),
    (4, "ash", "Ashburn, VA", "US", "Ashburn, VA", 39.045_821, -77.487_073, "us-east"),
    (5, "hil", "Hillsboro, OR", "US", "Hillsboro, OR", 45.542_22, -122.951_924, "us-west"),
    (6, "sin", "Singapore", "SG", "Singapore", 1.283_333, 103.833_333, "ap-southeast"),
];

const EU: &[&str] = &["fsn1", "nbg1", "hel1"];
const EU_AND_SIN: &[&str] = &["fsn1", "nbg1", "hel1", "sin"];
const US: &[&str] = &["ash", "hil"];
const NOWHERE: &[&str] = &[];
const EVERYWHERE: &[&str] = &["fsn1", "nbg1", "hel1", "ash", "hil", "sin"];

/// A server type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type {
    pub id: u64,
    pub name: &'static str,
    pub cores: u32,
    pub memory: f64,
    pub disk: u32,
    pub dedicated: bool,
    pub arm: bool,
    pub category: &'static str,
    /// Sold here.
    sold: &'static [&'static str],
    /// Listed here, but withdrawn at the end of 2025.
    withdrawn: &'static [&'static str],
    /// Listed and sold, but out of stock for most of 2026.
    scarce: bool,
    hourly: &'static str,
    monthly: &'static str,
}

const fn shared(id: u64, name: &'static str, cores: u32, memory: f64, disk: u32) -> Type {
    Type {
        id,
        name,
        cores,
        memory,
        disk,
        dedicated: false,
        arm: false,
        category: "regular_purpose",
        sold: US,
        withdrawn: EU_AND_SIN,
        scarce: false,
        hourly: "0.0330000000",
        monthly: "20.4900000000",
    }
}

const fn second(id: u64, name: &'static str, cores: u32, memory: f64, disk: u32) -> Type {
    let first = shared(id, name, cores, memory, disk);
    Type { sold: EU_AND_SIN, withdrawn: NOWHERE, hourly: "0.0104000000", monthly: "6.4900000000", ..first }
}

const fn thrifty(id: u64, name: &'static str, cores: u32, memory: f64, disk: u32, arm: bool) -> Type {
    let first = shared(id, name, cores, memory, disk);
    let category = "cost_optimized";
    Type {
        sold: EU,
        withdrawn: NOWHERE,
        scarce: true,
        arm,
        category,
        hourly: "0.0064000000",
        monthly: "3.9900000000",
        ..first
    }
}

const fn dedicated(id: u64, name: &'static str, cores: u32, memory: f64, disk: u32) -> Type {
    let first = shared(id, name, cores, memory, disk);
    let category = "general_purpose";
    Type {
        sold: EVERYWHERE,
        withdrawn: NOWHERE,
        dedicated: true,
        category,
        hourly: "0.0400000000",
        monthly: "24.4900000000",
        ..first
    }
}

const TYPES: [Type; 20] = [
    shared(22, "cpx11", 2, 2.0, 40),
    shared(23, "cpx21", 3, 4.0, 80),
    shared(24, "cpx31", 4, 8.0, 160),
    shared(25, "cpx41", 8, 16.0, 240),
    shared(26, "cpx51", 16, 32.0, 360),
    second(108, "cpx12", 1, 2.0, 40),
    second(109, "cpx22", 2, 4.0, 80),
    second(110, "cpx32", 4, 8.0, 160),
    second(111, "cpx42", 8, 16.0, 320),
    second(112, "cpx52", 12, 24.0, 480),
    second(113, "cpx62", 16, 32.0, 640),
    thrifty(114, "cx23", 2, 4.0, 40, false),
    thrifty(115, "cx33", 4, 8.0, 80, false),
    thrifty(116, "cx43", 8, 16.0, 160, false),
    thrifty(117, "cx53", 16, 32.0, 320, false),
    thrifty(45, "cax11", 2, 4.0, 40, true),
    thrifty(93, "cax21", 4, 8.0, 80, true),
    dedicated(96, "ccx13", 2, 8.0, 80),
    dedicated(97, "ccx23", 4, 16.0, 160),
    dedicated(98, "ccx33", 8, 32.0, 240),
];

/// How a type is to be had in a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sale {
    /// Not listed.
    Unlisted,
    /// Listed, and no longer sold.
    Withdrawn,
    /// Sold.
    Sold,
}

impl Type {
    pub(crate) fn find(id_or_name: &Value) -> Option<&'static Self> {
        TYPES.iter().find(|t| is(id_or_name, t.id, t.name))
    }

    pub(crate) fn sale(&self, location: &str) -> Sale {
        if self.sold.contains(&location) {
            Sale::Sold
        } else if self.withdrawn.contains(&location) {
            Sale::Withdrawn
        } else {
            Sale::Unlisted
        }
    }

    /// Listed and sold, yet not to be had.
    pub(crate) fn is_scarce(&self) -> bool {
        self.scarce
    }

    fn locations(&self) -> impl Iterator<Item = &'static LocationRow> + '_ {
        LOCATIONS.iter().filter(|row| self.sale(row.1) != Sale::Unlisted)
    }

    pub(crate) fn architecture(&self) -> &'static str {
        if self.arm { "arm" } else { "x86" }
    }

    /// As the API writes it.
    pub(crate) fn json(&self, is_out_of_stock: impl Fn(&str) -> bool, show_deprecated: bool) -> Value {
        let locations: Vec<Value> = self
            .locations()
            .map(|row| {
                let sold = self.sale(row.1) == Sale::Sold;
                let available = sold && !self.scarce && !is_out_of_stock(row.1);
                let gone = json!({ "announced": "2025-10-16T06:00:00Z", "unavailable_after": "2025-12-31T23:59:59Z" });
                json!({
                    "id": row.0, "name": row.1, "recommended": available, "available": available,
                    "deprecation": if sold { Value::Null } else { gone },
                })
            })
            .collect();
        let amount = |net: &str| json!({ "net": net, "gross": format!("{net}000000") });
        let prices: Vec<Value> = self
            .locations()
            .map(|row| {
                json!({
                    "location": row.1, "price_hourly": amount(self.hourly), "price_monthly": amount(self.monthly),
                    "included_traffic": 1_099_511_627_776_u64, "price_per_tb_traffic": amount("1.0000000000"),
                })
            })
            .collect();
        let mut json = json!({
            "id": self.id, "name": self.name, "description": self.description(), "category": self.category,
            "cores": self.cores, "memory": self.memory, "disk": self.disk, "storage_type": "local",
            "cpu_type": if self.dedicated { "dedicated" } else { "shared" }, "architecture": self.architecture(),
            "prices": prices, "locations": locations, "deprecation": null,
        });
        if show_deprecated {
            json["deprecated"] = json!(false);
        }
        json
    }

    /// The same, in an answer.
    pub(crate) fn piece(&'static self, config: &HetznerConfig) -> Value {
        let key = format!("type {} {} {:?}", self.name, config.show_deprecated, config.out_of_stock);
        piece(key, || {
            let out_of_stock = |location: &str| config.out_of_stock.contains(&format!("{}@{location}", self.name));
            self.json(out_of_stock, config.show_deprecated)
        })
    }

    fn description(&self) -> String {
        let letters = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
        format!("{} {}", letters.to_uppercase(), &self.name[letters.len()..])
    }

    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        TYPES.iter()
    }
}

/// All locations, as the API writes them.
pub(crate) fn locations() -> Vec<Value> {
    LOCATIONS.iter().map(location_json).collect()
}

/// A location by id or name.
pub(crate) fn find_location(id_or_name: &Value) -> Option<&'static str> {
    LOCATIONS.iter().find(|row| is(id_or_name, row.0, row.1)).map(|row| row.1)
}

/// A location as the API writes it.
pub(crate) fn location(name: &str) -> Value {
    LOCATIONS.iter().find(|row| row.1 == name).map_or(Value::Null, location_json)
}

/// The network zone of a location.
pub(crate) fn zone(location: &str) -> &'static str {
    LOCATIONS.iter().find(|row| row.1 == location).map_or("", |row| row.7)
}

pub(crate) fn is_zone(name: &str) -> bool {
    LOCATIONS.iter().any(|row| row.7 == name)
}

fn location_json(row: &LocationRow) -> Value {
    json!({
        "id": row.0, "name": row.1, "description": row.2, "country": row.3, "city": row.4,
        "latitude": row.5, "longitude": row.6, "network_zone": row.7,
    })
}

/// An image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub id: u64,
    /// A snapshot has none.
    pub name: Option<&'static str>,
    pub arm: bool,
}

const IMAGES: [Image; 9] = [
    Image { id: 67_794_396, name: Some("ubuntu-22.04"), arm: false },
    Image { id: 103_908_130, name: Some("ubuntu-22.04"), arm: true },
    Image { id: 161_547_269, name: Some("ubuntu-24.04"), arm: false },
    Image { id: 161_547_270, name: Some("ubuntu-24.04"), arm: true },
    Image { id: 114_690_387, name: Some("debian-12"), arm: false },
    Image { id: 114_690_389, name: Some("debian-12"), arm: true },
    Image { id: 310_557_660, name: Some("debian-13"), arm: false },
    Image { id: 310_557_661, name: Some("debian-13"), arm: true },
    Image { id: 301_000_001, name: None, arm: false },
];

impl Image {
    /// By id, or by name for an architecture.
    pub(crate) fn find(id_or_name: &Value, arm: bool) -> Option<&'static Self> {
        let by_id = |image: &&Self| is(id_or_name, image.id, "");
        let by_name = |image: &&Self| image.arm == arm && image.name.is_some() && image.name == id_or_name.as_str();
        IMAGES.iter().find(by_id).or_else(|| IMAGES.iter().find(by_name))
    }

    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        IMAGES.iter()
    }

    pub(crate) fn is_snapshot(&self) -> bool {
        self.name.is_none()
    }

    pub(crate) fn architecture(&self) -> &'static str {
        if self.arm { "arm" } else { "x86" }
    }

    /// As the API writes it.
    pub(crate) fn json(&self, cx: &Context, show_deprecated: bool) -> Value {
        let (flavor, version) = self.name.and_then(|name| name.split_once('-')).unwrap_or(("ubuntu", "22.04"));
        let mut json = json!({
            "id": self.id, "name": self.name, "status": "available",
            "type": if self.is_snapshot() { "snapshot" } else { "system" },
            "description": self.name.unwrap_or("agent with tailscale"),
            "image_size": if self.is_snapshot() { json!(2.3) } else { Value::Null }, "disk_size": 5,
            "created": cx.timestamp_at(std::time::Duration::ZERO),
            "created_from": if self.is_snapshot() { json!({ "id": 1, "name": "builder" }) } else { Value::Null },
            "bound_to": null, "os_flavor": flavor, "os_version": version, "rapid_deploy": !self.is_snapshot(),
            "protection": { "delete": false }, "deprecation": null, "deleted": null, "labels": {},
            "architecture": self.architecture(),
        });
        if show_deprecated {
            json["deprecated"] = Value::Null;
        }
        json
    }
}

/// Whether an "id or name" of a request means this thing. Ids come as numbers and as text.
pub(crate) fn is(id_or_name: &Value, id: u64, name: &str) -> bool {
    match id_or_name {
        Value::Number(number) => number.as_u64() == Some(id),
        Value::String(text) => text == name && !name.is_empty() || text.parse() == Ok(id),
        _ => false,
    }
}

//! From the app's regions to Hetzner's locations (design 2.1, step 3).

/// Region, location.
const REGIONS: [(&str, &str); 6] = [
    ("us-east", "ash"),
    ("us-west", "hil"),
    ("eu-central", "nbg1"),
    ("eu-west", "fsn1"),
    ("eu-north", "hel1"),
    ("ap-southeast", "sin"),
];

/// Where a region goes that nobody knows.
const FALLBACK: &str = "nbg1";

/// Where a server is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Hetzner's name of the location.
    pub location: &'static str,
    /// Whether the region was one we know. If not, the location is the fallback.
    pub known: bool,
}

/// The location of a region; the name of a location is taken as it is.
pub fn place(region: &str) -> Placement {
    let found = REGIONS.iter().find(|(name, location)| *name == region || *location == region);
    Placement { location: found.map_or(FALLBACK, |(_, location)| location), known: found.is_some() }
}

/// Where the regions lead.
pub fn locations() -> Vec<&'static str> {
    REGIONS.iter().map(|(_, location)| *location).collect()
}

/// All regions, for messages.
pub fn names() -> String {
    REGIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d08_every_region_and_location_is_known_and_all_else_falls_back() {
        for (region, location) in REGIONS {
            assert_eq!(place(region), Placement { location, known: true });
            assert_eq!(place(location), Placement { location, known: true });
        }
        for region in ["mars", "", "US-EAST", "nbg1 "] {
            assert_eq!(place(region), Placement { location: FALLBACK, known: false }, "{region:?}");
        }
    }
}

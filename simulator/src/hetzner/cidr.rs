//! Ranges of addresses in CIDR notation, as networks, subnets and the rules of firewalls are written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The private ranges of RFC 1918, of which networks are made.
const PRIVATE: [Range; 3] = [
    Range { base: 0x0a00_0000, bits: 8 },
    Range { base: 0xac10_0000, bits: 12 },
    Range { base: 0xc0a8_0000, bits: 16 },
];

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    base: u32,
    bits: u8,
}

impl Range {
    /// Reads `10.0.0.0/16`; addresses of single hosts within a range are refused.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let range = Self { base: address.parse::<Ipv4Addr>().ok()?.into(), bits: prefix(bits, 32)? };
        (range.base & !range.mask() == 0).then_some(range)
    }

    /// The length of the part that all its addresses share: 24 in `10.0.1.0/24`.
    pub(super) fn bits(self) -> u8 {
        self.bits
    }

    pub(super) fn is_private(self) -> bool {
        PRIVATE.iter().any(|private| private.spans(self))
    }

    /// Whether all of the other lies within.
    pub(super) fn spans(self, other: Self) -> bool {
        self.bits <= other.bits && other.base & self.mask() == self.base
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.spans(other) || other.spans(self)
    }

    pub(super) fn holds(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == self.base
    }

    /// The first address that a host can have.
    pub(super) fn first_host(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base.saturating_add(1))
    }

    /// All addresses but those of the network itself and of its broadcast.
    pub(super) fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let last = self.base | !self.mask();
        (self.base.saturating_add(1)..last).map(Ipv4Addr::from)
    }

    /// The ranges of this length within, in order.
    pub(super) fn parts(self, bits: u8) -> impl Iterator<Item = Self> {
        let last = self.base | !self.mask();
        let step = 1_usize << (32 - u32::from(bits.clamp(1, 32)));
        (self.base..=last).step_by(step).map(move |base| Self { base, bits })
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

/// A block of a firewall's rule in its canonical form, or nothing if it is none: a network with empty host bits, or one
/// host. IPv6 is written as RFC 5952 says.
pub(super) fn block(text: &str) -> Option<String> {
    let (address, bits) = text.split_once('/')?;
    let (is_clean, bits) = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => (Range::parse(text).is_some(), prefix(bits, 32)?),
        IpAddr::V6(address) => {
            let bits = prefix(bits, 128)?;
            let host = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
            (u128::from(address) & host == 0, bits)
        }
    };
    let address = address.parse::<Ipv6Addr>().map_or_else(|_| address.to_owned(), |address| address.to_string());
    is_clean.then(|| format!("{address}/{bits}"))
}

fn prefix(text: &str, most: u8) -> Option<u8> {
    text.parse().ok().filter(|bits| *bits <= most && !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        for (text, good) in [
            ("10.0.0.0/16", true),
            ("0.0.0.0/0", true),
            ("10.0.0.1/32", true),
            ("10.0.0.1/16", false),
            ("10.0.0.0/33", false),
            ("10.0.0.0/+8", false),
            ("10.0.0.0", false),
            ("10.0.0/8", false),
            ("fd00::/8", false),
        ] {
            assert_eq!(Range::parse(text).map(|range| range.to_string()), good.then(|| text.to_owned()), "{text}");
        }
    }

    #[test]
    fn ranges_know_what_lies_within() {
        let range = |text: &str| Range::parse(text).unwrap();
        let net = range("10.0.0.0/16");
        assert!(
            net.spans(range("10.0.255.0/24")) && !net.spans(range("10.1.0.0/24")) && !net.spans(range("10.0.0.0/8"))
        );
        assert!(net.overlaps(range("10.0.0.0/8")) && !net.overlaps(range("10.1.0.0/16")));
        let hosts: Vec<String> = range("10.0.0.4/30").hosts().map(|host| host.to_string()).collect();
        assert_eq!(hosts, ["10.0.0.5", "10.0.0.6"]);
        let parts: Vec<String> = range("10.0.0.0/23").parts(24).map(|part| part.to_string()).collect();
        assert_eq!(parts, ["10.0.0.0/24", "10.0.1.0/24"]);
        for (text, private) in
            [("192.168.0.0/16", true), ("172.31.0.0/16", true), ("172.32.0.0/16", false), ("10.0.0.0/7", false)]
        {
            assert_eq!(Range::parse(text).is_some_and(Range::is_private), private, "{text}");
        }
    }

    #[test]
    fn blocks_take_their_canonical_form() {
        for (text, written) in [
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("2001:0db8:9a3b:ee58:5ca:990c:8bc9:c03b/128", Some("2001:db8:9a3b:ee58:5ca:990c:8bc9:c03b/128")),
            ("2001:db8:ff00:42::/64", Some("2001:db8:ff00:42::/64")),
            ("2001:db8::1/64", None),
            ("10.0.1.1/24", None),
            ("10.0.1.1", None),
            ("example.com/32", None),
        ] {
            assert_eq!(block(text).as_deref(), written, "{text}");
        }
    }
}

//! Bindings: the destinations whose connections are steered.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ebpf_common::{Destination, PORT_BITS};
use thiserror::Error;

/// Prefix of IP addresses, such as `192.0.2.0/24`, or a single address.
///
/// The bits behind its length are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpPrefix {
    address: IpAddr,
    length: u8,
}

/// Errors of parsing an [`IpPrefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// The text is not an address, optionally with a slash and a length.
    #[error("expected an address or a prefix such as `192.0.2.0/24` or `2001:db8::/32`")]
    Form,
    /// The length is greater than the number of bits of the address.
    #[error("the prefix is longer than the address")]
    Length,
    /// The address has bits that are not zero behind this length.
    #[error("the address has bits that are set after the first {0}")]
    Behind(u8),
}

impl FromStr for IpPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Form)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) if length.starts_with('+') => return Err(PrefixError::Form),
            Some(length) => length.parse().map_err(|_| PrefixError::Form)?,
            None => bits,
        };
        if length > bits {
            return Err(PrefixError::Length);
        }
        let prefix = Self { address, length };
        if prefix.truncated() == address {
            Ok(prefix)
        } else {
            Err(PrefixError::Behind(length))
        }
    }
}

impl From<IpAddr> for IpPrefix {
    fn from(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl IpPrefix {
    /// All IPv4 addresses, `0.0.0.0/0`.
    pub const ALL_IPV4: Self = Self {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        length: 0,
    };

    /// The sources that share a ban with this one: only itself if it is an IPv4 address, else all
    /// IPv6 addresses with the same first 64 bits.
    pub fn banned_with(source: IpAddr) -> Self {
        let address = source.to_canonical();
        let length = if address.is_ipv4() { 32 } else { 64 };
        let whole = Self { address, length };
        Self {
            address: whole.truncated(),
            length,
        }
    }

    /// Returns true if some address is in both prefixes.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Returns true if the address is in this prefix; false for one of the other family.
    pub fn contains(self, address: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        let there = Self { address, ..self };
        same_family && there.truncated() == self.address
    }

    fn truncated(self) -> IpAddr {
        let length = u32::from(self.length);
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                Ipv4Addr::from(u32::from(address) & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                Ipv6Addr::from(u128::from(address) & mask).into()
            }
        }
    }
}

/// Binding of a port: connections to it are steered to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortBinding {
    /// The port at every address.
    Port(u16),
    /// The port at the addresses of a prefix.
    At(u16, IpPrefix),
}

impl PortBinding {
    /// The port of the binding.
    pub fn port(self) -> u16 {
        match self {
            Self::Port(port) | Self::At(port, _) => port,
        }
    }
}

impl fmt::Display for PortBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "*:{port}"),
            Self::At(port, prefix) if prefix.address.is_ipv6() => write!(f, "[{prefix}]:{port}"),
            Self::At(port, prefix) => write!(f, "{prefix}:{port}"),
        }
    }
}

/// Size of a key of a `BPF_MAP_TYPE_LPM_TRIE`: the length in bits, then the destination.
pub(crate) const PREFIX_KEY: usize = 4 + size_of::<Destination>();

/// Makes the map's key of a port and a prefix; IPv4 addresses are mapped to IPv6.
pub(crate) fn key(port: u16, prefix: IpPrefix) -> [u8; PREFIX_KEY] {
    let (address, outer) = match prefix.address {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 96),
        IpAddr::V6(address) => (address, 0),
    };
    let length = PORT_BITS + outer + u32::from(prefix.length);
    let mut key = [0; PREFIX_KEY];
    key[..4].copy_from_slice(&length.to_ne_bytes());
    key[4..].copy_from_slice(&Destination::new(port, address.octets()).to_bytes());
    key
}

/// Decodes the length and the destination of a map's key, as [`key`] makes it.
pub(crate) fn from_key(length: u32, destination: [u8; PREFIX_KEY - 4]) -> Option<(u16, IpPrefix)> {
    let (port, address) = destination.split_first_chunk::<2>()?;
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?);
    let length = u8::try_from(length.checked_sub(PORT_BITS)?).ok()?;
    let prefix = match address.to_ipv4_mapped() {
        Some(address) if length >= 96 => IpPrefix {
            address: address.into(),
            length: length - 96,
        },
        _ => IpPrefix {
            address: address.into(),
            length,
        },
    };
    Some((u16::from_be_bytes(*port), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_an_address_and_the_bits_that_count() {
        for text in [
            "192.0.2.0/24",
            "0.0.0.0/0",
            "2001:db8::/32",
            "::/0",
            "::1/128",
        ] {
            assert_eq!(text.parse::<IpPrefix>().unwrap().to_string(), text);
        }
        let has = |prefix: &str, address: &str| {
            let prefix: IpPrefix = prefix.parse().unwrap();
            prefix.contains(address.parse().unwrap())
        };
        assert!(has("192.0.2.0/24", "192.0.2.9") && !has("192.0.2.0/24", "192.0.3.9"));
        assert!(has("::/0", "::1") && !has("::/0", "192.0.2.9"));
        let overlap = |a: &str, b: &str| {
            let (a, b): (IpPrefix, IpPrefix) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.overlaps(b), b.overlaps(a));
            a.overlaps(b)
        };
        assert!(overlap("2001:db8::/64", "2001:db8::5") && overlap("::/0", "2001:db8::/64"));
        assert!(!overlap("2001:db8::/64", "2001:db8:0:1::5") && !overlap("::/0", "0.0.0.0/0"));
        let whole: IpPrefix = "192.0.2.1".parse().unwrap();
        assert_eq!(whole.to_string(), "192.0.2.1/32");
        for (text, error) in [
            ("", PrefixError::Form),
            ("192.0.2", PrefixError::Form),
            ("192.0.2.0/x", PrefixError::Form),
            ("192.0.2.0/33", PrefixError::Length),
            ("::/129", PrefixError::Length),
            ("192.0.2.1/24", PrefixError::Behind(24)),
            ("2001:db8::1/32", PrefixError::Behind(32)),
        ] {
            assert_eq!(text.parse::<IpPrefix>(), Err(error), "{text}");
        }
    }

    #[test]
    fn keys_have_the_length_in_bits_then_port_and_address_in_the_order_of_the_wire() {
        let key4 = key(443, "192.0.2.0/24".parse().unwrap());
        assert_eq!(key4[..4], (16 + 96 + 24_u32).to_ne_bytes());
        assert_eq!(key4[4..6], [1, 187]);
        assert_eq!(key4[16..], [0xff, 0xff, 192, 0, 2, 0]);
        for text in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0"] {
            let prefix = text.parse().unwrap();
            let key = key(443, prefix);
            let length = u32::from_ne_bytes(key[..4].try_into().unwrap());
            let back = from_key(length, key[4..].try_into().unwrap());
            assert_eq!(back, Some((443, prefix)), "{text}");
        }
        let key6 = key(443, "2001:db8::/32".parse().unwrap());
        assert_eq!(key6[..4], (16 + 32_u32).to_ne_bytes());
        assert_eq!(key6[6..10], [0x20, 1, 0x0d, 0xb8]);
    }
}

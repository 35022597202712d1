//! Bindings: the destinations whose connections are steered.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_common::{Destination, PORT_BITS};

/// Prefix of IP addresses, such as `192.0.2.0/24`, or a single address.
///
/// The bits behind its length are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    address: IpAddr,
    length: u8,
}

/// The prefix of this address only.
impl From<IpAddr> for IpPrefix {
    fn from(address: IpAddr) -> Self {
        Self::new(address, u8::MAX)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl IpPrefix {
    /// Creates the prefix of the first `length` bits of an address. A length beyond that of the
    /// address is all of its bits.
    pub fn new(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(address) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                let address = Ipv4Addr::from(u32::from(address) & mask).into();
                Self { address, length }
            }
            IpAddr::V6(address) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let address = Ipv6Addr::from(u128::from(address) & mask).into();
                Self { address, length }
            }
        }
    }
}

/// Binding of a port: connections to it are steered to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    fn prefix(address: &str, length: u8) -> IpPrefix {
        IpPrefix::new(address.parse().unwrap(), length)
    }

    #[test]
    fn a_prefix_keeps_the_bits_that_count() {
        for (address, length, text) in [
            ("192.0.2.9", 24, "192.0.2.0/24"),
            ("192.0.2.9", 32, "192.0.2.9/32"),
            ("192.0.2.9", 0, "0.0.0.0/0"),
            ("192.0.2.9", 128, "192.0.2.9/32"),
            ("2001:db8:1::1", 32, "2001:db8::/32"),
            ("2001:db8::1", 0, "::/0"),
            ("::1", 255, "::1/128"),
        ] {
            assert_eq!(prefix(address, length).to_string(), text);
        }
    }

    #[test]
    fn keys_have_the_length_in_bits_then_port_and_address_in_the_order_of_the_wire() {
        let key4 = key(443, prefix("192.0.2.0", 24));
        assert_eq!(key4[..4], (16 + 96 + 24_u32).to_ne_bytes());
        assert_eq!(key4[4..6], [1, 187]);
        assert_eq!(key4[16..], [0xff, 0xff, 192, 0, 2, 0]);
        for (address, length) in [
            ("192.0.2.0", 24),
            ("0.0.0.0", 0),
            ("2001:db8::", 32),
            ("::", 0),
        ] {
            let prefix = prefix(address, length);
            let key = key(443, prefix);
            let length = u32::from_ne_bytes(key[..4].try_into().unwrap());
            let back = from_key(length, key[4..].try_into().unwrap());
            assert_eq!(back, Some((443, prefix)), "{address}");
        }
        let key6 = key(443, prefix("2001:db8::", 32));
        assert_eq!(key6[..4], (16 + 32_u32).to_ne_bytes());
        assert_eq!(key6[6..10], [0x20, 1, 0x0d, 0xb8]);
    }
}

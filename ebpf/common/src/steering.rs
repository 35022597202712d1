//! Which connections the gateway takes, by where they go.

/// TCP, as IP headers number it.
const TCP: u32 = 6;
/// `AF_INET`.
const IPV4: u32 = 2;
/// `AF_INET6`.
const IPV6: u32 = 10;

/// The bits of a [`Destination`] that are its port: a prefix has these and then bits of the address.
pub const PORT_BITS: u32 = 16;

/// Where a connection goes: the key of the prefix table, most significant bit first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Destination {
    port: [u8; 2],
    address: [u8; 16],
}

impl Destination {
    /// A port of an IPv6 address, or of an IPv4 address in its mapped form (RFC 4291, 2.5.5.2).
    #[inline]
    pub const fn new(port: u16, address: [u8; 16]) -> Self {
        let port = port.to_be_bytes();
        Self { port, address }
    }

    /// The bytes in the map.
    pub fn to_bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[..2].copy_from_slice(&self.port);
        bytes[2..].copy_from_slice(&self.address);
        bytes
    }
}

/// Who shares a ban: an IPv4 address in its mapped form, or the first 64 bits of an IPv6 address, which
/// is what a single site has at its disposal (RFC 6177).
pub type Source = [u8; 16];

/// Who an IPv6 address shares a ban with.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the kernel's verifier sees one function"
)]
pub const fn network(address: [u8; 16]) -> Source {
    (u128::from_be_bytes(address) & (u128::MAX << 64)).to_be_bytes()
}

/// What came to one port since steering began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Connections that were handed to the gateway.
    pub steered: u64,
    /// Connections that were refused because no gateway was there.
    pub unserved: u64,
    /// Connections that were refused because their source is banned.
    pub banned: u64,
}

/// What the kernel knows of an arriving connection: the fields of `struct bpf_sk_lookup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The address family.
    pub family: u32,
    /// The protocol above IP.
    pub protocol: u32,
    /// The destination, if it is an IPv4 address, in the order of memory.
    pub ip4: [u8; 4],
    /// The destination, if it is an IPv6 address.
    pub ip6: [u8; 16],
    /// The destination's port.
    pub port: u16,
    /// The source, if it is an IPv4 address, in the order of memory.
    pub source4: [u8; 4],
    /// The source, if it is an IPv6 address.
    pub source6: [u8; 16],
}

/// The rules, wherever they are kept.
pub trait Tables {
    /// Whether this port is the gateway's, whatever the address.
    fn has_port(&self, port: u16) -> bool;
    /// Whether this port is the gateway's at this address.
    fn has_destination(&self, destination: &Destination) -> bool;
    /// Whether this source may not come now.
    fn is_banned(&self, source: &Source) -> bool;
}

/// What is to become of an arriving connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is none of the gateway's: the kernel looks for a listener as ever.
    Pass,
    /// It is the gateway's.
    Steer,
    /// It is refused: it would be the gateway's, but its source is banned.
    Refuse,
}

/// Decides about an arriving connection.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the kernel's verifier sees one function"
)]
pub fn verdict(tables: &impl Tables, arrival: &Arrival) -> Verdict {
    if arrival.protocol != TCP {
        return Verdict::Pass;
    }
    let (address, source) = match arrival.family {
        IPV4 => (mapped(arrival.ip4), mapped(arrival.source4)),
        IPV6 => (arrival.ip6, network(arrival.source6)),
        _ => return Verdict::Pass,
    };
    let destination = Destination::new(arrival.port, address);
    if !tables.has_port(arrival.port) && !tables.has_destination(&destination) {
        return Verdict::Pass;
    }
    if tables.is_banned(&source) {
        return Verdict::Refuse;
    }
    Verdict::Steer
}

/// An IPv4 address in its mapped form.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the kernel's verifier sees one function"
)]
pub const fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// The tables as the kernel keeps them: ports, and prefixes of bits.
    #[derive(Debug, Default)]
    struct Rules {
        ports: HashSet<u16>,
        prefixes: Vec<(u32, Destination)>,
        banned: Vec<Source>,
    }

    impl Tables for Rules {
        fn has_port(&self, port: u16) -> bool {
            self.ports.contains(&port)
        }

        fn has_destination(&self, destination: &Destination) -> bool {
            let bits = |d: &Destination| {
                let bytes = [&[0; 14][..], &d.port[..], &d.address[..]].concat();
                let (high, low) = bytes.split_at(16);
                let number = |half: &[u8]| u128::from_be_bytes(half.try_into().unwrap());
                (number(high), number(low))
            };
            self.prefixes.iter().any(|(length, prefix)| {
                let (port, address) = bits(destination);
                let (known_port, known) = bits(prefix);
                let length = length - PORT_BITS;
                let differs = (address ^ known).checked_shr(128 - length).unwrap_or(0);
                port == known_port && differs == 0
            })
        }

        fn is_banned(&self, source: &Source) -> bool {
            self.banned.contains(source)
        }
    }

    struct Everything;

    impl Tables for Everything {
        fn has_port(&self, _: u16) -> bool {
            true
        }

        fn has_destination(&self, _: &Destination) -> bool {
            true
        }

        fn is_banned(&self, _: &Source) -> bool {
            false
        }
    }

    fn arrival(address: IpAddr, port: u16) -> Arrival {
        let (family, ip4, ip6) = match address {
            IpAddr::V4(address) => (IPV4, address.octets(), [0; 16]),
            IpAddr::V6(address) => (IPV6, [0; 4], address.octets()),
        };
        Arrival {
            family,
            protocol: TCP,
            ip4,
            ip6,
            port,
            source4: [192, 0, 2, 7],
            source6: [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8],
        }
    }

    fn prefix(address: &str, length: u32, port: u16) -> (u32, Destination) {
        let (address, more) = match address.parse().unwrap() {
            IpAddr::V4(address) => (mapped(address.octets()), 96),
            IpAddr::V6(address) => (address.octets(), 0),
        };
        (PORT_BITS + more + length, Destination::new(port, address))
    }

    #[test]
    fn a_port_is_steered_at_every_address_and_a_prefix_at_its_own() {
        let rules = Rules {
            ports: [5432].into(),
            prefixes: vec![
                prefix("192.0.2.0", 24, 443),
                prefix("2001:db8::", 32, 443),
                prefix("0.0.0.0", 0, 22),
            ],
            banned: Vec::new(),
        };
        for (address, port, verdict_is) in [
            ("198.51.100.1", 5432, Verdict::Steer),
            ("2001:db8::1", 5432, Verdict::Steer),
            ("192.0.2.9", 443, Verdict::Steer),
            ("192.0.3.9", 443, Verdict::Pass),
            ("192.0.2.9", 444, Verdict::Pass),
            ("2001:db8:1::1", 443, Verdict::Steer),
            ("2001:db9::1", 443, Verdict::Pass),
            ("203.0.113.1", 22, Verdict::Steer),
            ("2001:db8::1", 22, Verdict::Pass),
        ] {
            let arrival = arrival(address.parse().unwrap(), port);
            assert_eq!(verdict(&rules, &arrival), verdict_is, "{address} {port}");
        }
    }

    #[test]
    fn a_banned_source_is_refused_where_it_would_be_steered_and_only_there() {
        let mut rules = Rules {
            ports: [443].into(),
            ..Rules::default()
        };
        let (v4, v6) = (
            arrival([127, 0, 0, 1].into(), 443),
            arrival([0; 16].into(), 443),
        );
        rules.banned.push(mapped(v4.source4));
        assert_eq!(verdict(&rules, &v4), Verdict::Refuse);
        assert_eq!(verdict(&rules, &v6), Verdict::Steer);
        assert_eq!(verdict(&rules, &Arrival { port: 80, ..v4 }), Verdict::Pass);

        rules.banned.push(network(v6.source6));
        let mut neighbour = v6;
        neighbour.source6[15] ^= 0xff;
        assert_eq!(
            verdict(&rules, &neighbour),
            Verdict::Refuse,
            "of the same 64 bits"
        );
        neighbour.source6[7] ^= 1;
        assert_eq!(verdict(&rules, &neighbour), Verdict::Steer);
    }

    proptest! {
        #[test]
        fn nothing_but_tcp_over_ip_is_ever_steered(
            family: u32, protocol: u32, ip4: [u8; 4], ip6: [u8; 16], port: u16,
        ) {
            let arrival = Arrival { family, protocol, ip4, ip6, port, source4: ip4, source6: ip6 };
            let ours = protocol == TCP && (family == IPV4 || family == IPV6);
            prop_assert_eq!(verdict(&Everything, &arrival) == Verdict::Steer, ours);
        }

        #[test]
        fn what_no_rule_names_passes(address: [u8; 16], own: u16, port: u16) {
            prop_assume!(own != port);
            let rules = Rules { ports: [own].into(), prefixes: vec![(PORT_BITS, Destination::new(own, [0; 16]))], banned: Vec::new() };
            let address = IpAddr::V6(Ipv6Addr::from(address));
            prop_assert_eq!(verdict(&rules, &arrival(address, port)), Verdict::Pass);
        }

        #[test]
        fn a_prefix_covers_the_addresses_that_begin_with_it(a: u32, b: u32, length in 0u32..=32) {
            let rules = Rules {
                prefixes: vec![prefix(&Ipv4Addr::from(a).to_string(), length, 1)],
                ..Rules::default()
            };
            let same = (a ^ b).checked_shr(32 - length).unwrap_or(0) == 0;
            let found = verdict(&rules, &arrival(IpAddr::V4(Ipv4Addr::from(b)), 1));
            prop_assert_eq!(found == Verdict::Steer, same);
        }
    }
}

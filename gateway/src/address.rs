//! Addresses of clients: the form in which they are reported, and the source that they count as.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Returns an IPv4 address that is mapped into IPv6 as the IPv4 address; any other address
/// unchanged.
pub(crate) fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns the source that an address is counted as: an IPv4 address itself, also if it is mapped,
/// or the IPv6 network of 64 bits, which is what a single site has at its disposal (RFC 6177).
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_told_as_the_v4_address_it_is() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
        assert_eq!(unmapped(mapped), "192.0.2.1:5".parse().unwrap());
    }

    #[test]
    fn a_v6_site_is_one_source_and_a_mapped_v4_address_is_itself() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}

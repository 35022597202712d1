//! Prefixes of IP addresses, as the policy writes them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// Number of bits of an IPv6 address that a single site has at its disposal (RFC 6177). The rest is
/// its own choice, so a ban covers all of it.
const SITE: u8 = 64;

/// Prefix of IP addresses, such as `192.0.2.0/24`, or a single address.
///
/// The bits behind its length are zero.
///
/// # Examples
///
/// ```
/// use policy::{IpPrefix, IpPrefixError};
///
/// let network: IpPrefix = "192.0.2.0/24".parse()?;
/// assert!(network.contains([192, 0, 2, 9].into()));
/// assert_eq!("192.0.2.9/24".parse::<IpPrefix>(), Err(IpPrefixError::Behind(24)));
/// # Ok::<(), IpPrefixError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    address: IpAddr,
    length: u8,
}

/// Reason why a text is not an [`IpPrefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IpPrefixError {
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
    type Err = IpPrefixError;

    fn from_str(text: &str) -> Result<Self, IpPrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| IpPrefixError::Form)?;
        let most = width(address);
        let length = match length {
            Some(length) if length.starts_with('+') => return Err(IpPrefixError::Form),
            Some(length) => length.parse().map_err(|_| IpPrefixError::Form)?,
            None => most,
        };
        if length > most {
            return Err(IpPrefixError::Length);
        }
        if bits(address) & !mask(length) != 0 {
            return Err(IpPrefixError::Behind(length));
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl IpPrefix {
    /// Returns the first address of the prefix.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Returns the number of bits that all addresses of the prefix have in common.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Returns true if the address is in this prefix; false for one of the other family.
    pub fn contains(self, address: IpAddr) -> bool {
        self.shares(address, self.length)
    }

    /// Returns true if a ban of `source` concerns an address in this prefix. A ban covers an IPv4
    /// address, or all IPv6 addresses with the same first 64 bits.
    pub(crate) fn meets_ban_of(self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        let banned = if source.is_ipv4() {
            width(source)
        } else {
            SITE
        };
        self.shares(source, self.length.min(banned))
    }

    /// Returns true if the first `length` bits of an address of the same family are those of this
    /// prefix.
    fn shares(self, address: IpAddr, length: u8) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        same_family && (bits(self.address) ^ bits(address)) & mask(length) == 0
    }
}

/// Returns the number of bits of an address of this family.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the bits of an address, the first one uppermost.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << (128 - 32),
        IpAddr::V6(address) => address.into(),
    }
}

/// Returns a mask of the first `length` bits, at most 128.
fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_an_address_and_the_bits_that_count() {
        for text in [
            "192.0.2.0/24",
            "0.0.0.0/0",
            "2001:db8::/32",
            "::/0",
            "::1/128",
        ] {
            assert_eq!(prefix(text).to_string(), text);
        }
        let has = |of: &str, address: &str| prefix(of).contains(address.parse().unwrap());
        assert!(has("192.0.2.0/24", "192.0.2.9") && !has("192.0.2.0/24", "192.0.3.9"));
        assert!(has("::/0", "::1") && !has("::/0", "192.0.2.9"));
        let whole = prefix("192.0.2.1");
        assert_eq!(whole.to_string(), "192.0.2.1/32");
        assert_eq!(
            (whole.address(), whole.length()),
            ([192, 0, 2, 1].into(), 32)
        );
        for (text, error) in [
            ("", IpPrefixError::Form),
            ("192.0.2", IpPrefixError::Form),
            ("192.0.2.0/x", IpPrefixError::Form),
            ("192.0.2.0/+8", IpPrefixError::Form),
            ("192.0.2.0/33", IpPrefixError::Length),
            ("::/129", IpPrefixError::Length),
            ("192.0.2.1/24", IpPrefixError::Behind(24)),
            ("2001:db8::1/32", IpPrefixError::Behind(32)),
        ] {
            assert_eq!(text.parse::<IpPrefix>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_ban_meets_the_prefixes_of_all_whom_it_covers() {
        let meets = |of: &str, source: &str| prefix(of).meets_ban_of(source.parse().unwrap());
        assert!(meets("192.0.2.0/24", "192.0.2.9") && !meets("192.0.2.0/24", "192.0.3.9"));
        assert!(meets("192.0.2.9", "::ffff:192.0.2.9") && !meets("192.0.2.8", "192.0.2.9"));
        assert!(meets("2001:db8::/32", "2001:db8:0:1::1") && meets("::/0", "2001:db8::5"));
        assert!(meets("2001:db8::5", "2001:db8::6") && !meets("2001:db8:0:1::5", "2001:db8::5"));
        assert!(!meets("::/0", "192.0.2.9") && !meets("0.0.0.0/0", "2001:db8::5"));
    }
}

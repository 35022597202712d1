//! Names by which clients reach a server.

use std::net::IpAddr;

use rcgen::SanType;
use rustls_pki_types::DnsName;

use crate::error::CertgenError;
use crate::name::NameError;

/// A name by which clients reach and verify a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A DNS name, possibly with `*` as its first label; in lower case.
    Dns(String),
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
}

impl HostName {
    /// Parses a DNS name, a wildcard such as `*.example.test`, or an IP address.
    ///
    /// # Errors
    ///
    /// [`CertgenError::Name`] with [`NameError::NotAHost`].
    pub fn parse(text: &str) -> Result<Self, CertgenError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let name = text.to_ascii_lowercase();
        let parent = name.strip_prefix("*.").unwrap_or(&name);
        if parent.ends_with('.') || DnsName::try_from(parent).is_err() {
            return Err(CertgenError::name(text)(NameError::NotAHost));
        }
        Ok(Self::Dns(name))
    }

    /// Converts the name to a subject alternative name.
    pub(crate) fn san(self) -> Result<SanType, CertgenError> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.try_into()?),
            Self::Ip(address) => SanType::IpAddress(address),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_dns_name_a_wildcard_or_an_address() {
        assert!(
            matches!(HostName::parse("*.Example.test"), Ok(HostName::Dns(name)) if name == "*.example.test")
        );
        assert!(matches!(HostName::parse("::1"), Ok(HostName::Ip(_))));
        for bad in [
            "", "*", "a b", "a..b", "a.*.b", "a.", "1.2.3", "*.", "-a", "ü.test",
        ] {
            assert!(HostName::parse(bad).is_err(), "{bad:?}");
        }
    }
}

//! The PROXY protocol header, version 2, which reports to an upstream the client of a connection.
//!
//! Format and type numbers: the PROXY protocol specification (`proxy-protocol.txt`), section 2.2.

use std::io;
use std::net::SocketAddr;

use ppp::v2::{Addresses, Builder, Command, Protocol, Type, Version};

/// Flags of `PP2_TYPE_SSL`: `PP2_CLIENT_SSL`, `PP2_CLIENT_CERT_CONN` and `PP2_CLIENT_CERT_SESS`.
const CLIENT_FLAGS: u8 = 0x01 | 0x02 | 0x04;

/// The properties of a connection that its upstream is informed of.
#[derive(Debug, Clone, Copy)]
pub struct ProxyHeader<'a> {
    /// The address that the client connected from.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// The SNI name (`PP2_TYPE_AUTHORITY`).
    pub authority: Option<&'a str>,
    /// The protocol that ALPN chose (`PP2_TYPE_ALPN`).
    pub alpn: Option<&'a [u8]>,
    /// The cipher suite's name (`PP2_SUBTYPE_SSL_CIPHER`).
    pub cipher: &'a str,
    /// The client's name (`PP2_SUBTYPE_SSL_CN`).
    pub client: &'a str,
}

/// Returns the header of a connection of the gateway's own, such as a probe's (command `LOCAL`). It
/// names no client.
///
/// # Panics
///
/// Not in practice: the header has a fixed length, which is allowed.
pub fn local() -> Vec<u8> {
    let addresses = Addresses::Unspecified;
    Builder::with_addresses(
        Version::Two | Command::Local,
        Protocol::Unspecified,
        addresses,
    )
    .build()
    .expect("nothing in it is too long")
}

impl ProxyHeader<'_> {
    /// Returns the header's bytes.
    ///
    /// # Errors
    ///
    /// A value is longer than the length of a TLV can express. No admitted name is.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let addresses = (self.source, self.destination);
        let mut header =
            Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
        if let Some(alpn) = self.alpn {
            header = header.write_tlv(Type::ALPN, alpn)?;
        }
        if let Some(authority) = self.authority {
            header = header.write_tlv(Type::Authority, authority.as_bytes())?;
        }
        header.write_tlv(Type::SSL, &self.ssl()?)?.build()
    }

    /// Returns the value of `PP2_TYPE_SSL`: flags, a verification result of 0 for success, then
    /// TLVs.
    fn ssl(&self) -> io::Result<Vec<u8>> {
        let mut value = vec![CLIENT_FLAGS, 0, 0, 0, 0];
        let parts = [
            (Type::SSLVersion, "TLSv1.3"),
            (Type::SSLCipher, self.cipher),
            (Type::SSLCommonName, self.client),
        ];
        for (kind, text) in parts {
            let length = u16::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            value.push(kind.into());
            value.extend(length.to_be_bytes());
            value.extend(text.as_bytes());
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use ppp::v2::Header;

    use super::*;

    #[test]
    fn an_upstream_reads_back_what_was_said() {
        let header = ProxyHeader {
            source: "192.0.2.1:40000".parse().unwrap(),
            destination: "192.0.2.2:443".parse().unwrap(),
            authority: Some("ledger"),
            alpn: Some(b"postgresql"),
            cipher: "TLS_AES_128_GCM_SHA256",
            client: "billing",
        };

        let bytes = header.encode().unwrap();
        let read = Header::try_from(bytes.as_slice()).unwrap();
        let tlvs: Vec<_> = read.tlvs().map(Result::unwrap).collect();

        assert_eq!(tlvs.len(), 3);
        assert_eq!(
            (tlvs[0].kind, &tlvs[0].value[..]),
            (0x01, &b"postgresql"[..])
        );
        assert_eq!((tlvs[1].kind, &tlvs[1].value[..]), (0x02, &b"ledger"[..]));
        assert_eq!(tlvs[2].kind, 0x20);
        assert_eq!(
            tlvs[2].value[..5],
            [0x07, 0, 0, 0, 0],
            "certificate seen and verified"
        );
        assert!(tlvs[2].value.ends_with(b"\x22\0\x07billing"));
    }

    #[test]
    fn a_header_of_the_gateways_own_names_nobody() {
        let bytes = local();
        let read = Header::try_from(bytes.as_slice()).unwrap();
        assert_eq!(
            (read.command, read.addresses, bytes.len()),
            (Command::Local, Addresses::Unspecified, 16)
        );
    }
}

//! Whatever clients and names are called within their limits, the upstream is told the same.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use arbitrary::Arbitrary;
use gateway::proxy_header::ProxyHeader;
use libfuzzer_sys::fuzz_target;
use policy::ClientName;
use policy::SniName;
use ppp::v2::{Addresses, Header};

/// The longest protocol that ALPN can name (RFC 7301 3.1).
const LONGEST_PROTOCOL: usize = 255;
const CIPHERS: [&str; 4] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "",
];

#[derive(Debug, Arbitrary)]
struct Told<'a> {
    hosts: Hosts,
    ports: (u16, u16),
    sni: Option<&'a str>,
    alpn: Option<&'a [u8]>,
    cipher: usize,
    client: &'a str,
}

#[derive(Debug, Arbitrary)]
enum Hosts {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fuzz_target!(|told: Told<'_>| {
    let Ok(client) = ClientName::new(told.client) else {
        return;
    };
    let alpn = told
        .alpn
        .filter(|alpn| (1..=LONGEST_PROTOCOL).contains(&alpn.len()));
    let authority = told.sni.filter(|name| SniName::new(name).is_ok());
    let (source, destination) = match told.hosts {
        Hosts::V4(source, destination) => (IpAddr::V4(source), IpAddr::V4(destination)),
        Hosts::V6(source, destination) => (IpAddr::V6(source), IpAddr::V6(destination)),
    };
    let header = ProxyHeader {
        source: SocketAddr::new(source, told.ports.0),
        destination: SocketAddr::new(destination, told.ports.1),
        authority,
        alpn,
        cipher: CIPHERS[told.cipher % CIPHERS.len()],
        client: client.as_str(),
    };

    let bytes = header.encode().expect("names that were let in fit");
    let read = Header::try_from(bytes.as_slice()).expect("a header can be read");

    assert_eq!(read.len(), bytes.len(), "nothing comes after it");
    assert_eq!(
        read.addresses,
        Addresses::from((header.source, header.destination))
    );
    let tlvs: Vec<(u8, Vec<u8>)> = read
        .tlvs()
        .map(|tlv| tlv.expect("a whole TLV"))
        .map(|tlv| (tlv.kind, tlv.value.to_vec()))
        .collect();
    let mut expected = Vec::new();
    expected.extend(alpn.map(|alpn| (0x01, alpn.to_vec())));
    expected.extend(authority.map(|name| (0x02, name.as_bytes().to_vec())));
    expected.push((0x20, ssl(&header)));
    assert_eq!(tlvs, expected);
});

/// `PP2_TYPE_SSL` as the specification lays it out, section 2.2.6.
fn ssl(header: &ProxyHeader<'_>) -> Vec<u8> {
    let mut value = vec![0x07, 0, 0, 0, 0];
    for (kind, text) in [
        (0x21, "TLSv1.3"),
        (0x23, header.cipher),
        (0x22, header.client),
    ] {
        value.push(kind);
        let length = u16::try_from(text.len()).expect("short texts");
        value.extend(length.to_be_bytes());
        value.extend(text.as_bytes());
    }
    value
}

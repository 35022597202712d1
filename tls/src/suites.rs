//! The cipher suites and key exchanges that are supported, and the order of suites.

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::server::ClientHello;

/// The supported cipher suites with their names (RFC 9846, B.4).
const SUITES: [(CipherSuite, &str); 3] = [
    (
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
];

/// Order by which the suite of a connection is chosen among those that both sides support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherOrder {
    /// The gateway's order, which begins with the suites that are fastest on most processors.
    Gateway,
    /// The client's order.
    Client,
}

impl CipherOrder {
    /// Returns the client's order if its processor is faster with `ChaCha20` than with AES, as the
    /// first suite that it offers indicates, and otherwise the gateway's.
    pub fn of(hello: &ClientHello<'_>) -> Self {
        let mut offered = hello.cipher_suites().iter();
        let first = offered.find(|one| SUITES.iter().any(|(suite, _)| suite == *one));
        if first == Some(&CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) {
            Self::Client
        } else {
            Self::Gateway
        }
    }
}

/// Returns a suite's registered name; an empty text if it is not supported.
pub(crate) fn registered_name(suite: CipherSuite) -> &'static str {
    let known = SUITES.iter().find(|(one, _)| *one == suite);
    known.map_or("", |(_, name)| name)
}

/// Creates the provider of the supported suites and key exchanges. The first suite in its order
/// that the client offers is chosen: processors have instructions for AES and SHA-256, and few have
/// them for SHA-384, which half of the clients prefer.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..default_provider()
    }
}

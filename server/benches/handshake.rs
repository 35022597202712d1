//! What a handshake costs the gateway, by what the client shows.
//!
//! `cargo bench -p portcullis --bench handshake`. Both sides run in memory on one thread; only the
//! gateway's side is timed. The kinds take turns, the figures are medians, and the ratio is to a
//! handshake that succeeds.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use certgen::{Authority, AuthoritySpec};
use gateway::snapshot::GatewaySnapshot;
use gateway::verifier::Verifier;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

#[path = "scene/gateway.rs"]
mod scene;

use scene::{PORT, load, policy, roots, save};

const ROUNDS: usize = 500;
fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(&AuthoritySpec::default()).expect("an authority");
    save(&authority, dir.path());
    let gateway = load(policy(["alice".to_owned()]), dir.path());
    let kinds = [
        ("a good one", client(&authority, "alice", 0), true),
        (
            "an unknown client's",
            client(&authority, "mallory", 0),
            false,
        ),
        (
            "with 3 junk certificates",
            client(&authority, "alice", 3),
            true,
        ),
        (
            "with 151 junk certificates",
            client(&authority, "alice", 151),
            false,
        ),
    ];
    let mut times = kinds.each_ref().map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for ((_, client, good), times) in kinds.iter().zip(&mut times) {
            times.push(handshake(&gateway, client, *good));
        }
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    for ((what, ..), median) in kinds.iter().zip(medians) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        println!("{what:<28} {median:>10.1?}   {ratio:.2}");
    }
}

/// The gateway's time in one handshake, which ends as it should.
fn handshake(gateway: &Arc<GatewaySnapshot>, config: &Arc<ClientConfig>, good: bool) -> Duration {
    let name = "db".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut flight = Vec::new();
    client.write_tls(&mut flight).expect("memory takes it");

    let begin = Instant::now();
    let mut acceptor = Acceptor::default();
    acceptor
        .read_tls(&mut flight.as_slice())
        .expect("it is there");
    let accepted = acceptor
        .accept()
        .expect("TLS")
        .expect("a whole ClientHello");
    let verifier = Verifier::new(Arc::clone(gateway), &accepted.client_hello(), PORT);
    let mut server = accepted
        .into_connection(verifier.configuration())
        .expect("parameters that both have");
    flight.clear();
    while server.wants_write() {
        server.write_tls(&mut flight).expect("memory takes it");
    }
    let answered = begin.elapsed();

    let mut bytes = flight.as_slice();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("it is there");
        client.process_new_packets().expect("the gateway's flight");
    }
    flight.clear();
    while client.wants_write() {
        client.write_tls(&mut flight).expect("memory takes it");
    }

    let begin = Instant::now();
    let mut bytes = flight.as_slice();
    let mut ended = Ok(());
    while ended.is_ok() && !bytes.is_empty() {
        server.read_tls(&mut bytes).expect("it is there");
        ended = server.process_new_packets().map(drop);
    }
    let permit = verifier.take_permit(HandshakeKind::Full);
    let took = answered + begin.elapsed();
    assert_eq!(ended.is_ok(), good, "{ended:?}");
    assert_eq!(permit.is_ok(), good);
    took
}

/// A client that shows so many certificates behind its own, none of which helps.
fn client(authority: &Authority, name: &str, junk: usize) -> Arc<ClientConfig> {
    let issued = authority.client(name).expect("a certificate");
    // The worst that is known: certificates of the right name, so that each has to be tried.
    let other = Authority::new(&AuthoritySpec::default()).expect("an authority");
    let mut chain = vec![issued.certificate_der()];
    chain.extend(std::iter::repeat_n(other.certificate_der().clone(), junk));
    let key = any_supported_type(&issued.key_der()).expect("a key");
    let shown: Arc<dyn ResolvesClientCert> =
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots(authority))
        .with_client_cert_resolver(shown);
    Arc::new(config)
}

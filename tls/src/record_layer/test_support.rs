//! Sessions after a handshake and their peers, for tests.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use certgen::{Authority, AuthoritySpec};
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::ServerName;

use super::RecordLayer;

static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::new(&AuthoritySpec::default()).unwrap());

pub(crate) static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let own = AUTHORITY.server(&["gateway"]).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.certificate_der()], own.key_der())
        .unwrap();
    config.enable_secret_extraction = true;
    Arc::new(config)
});

pub(crate) fn client(suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.certificate_der().clone()).unwrap();
    let provider = CryptoProvider {
        cipher_suites: vec![suite],
        ..default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("gateway").unwrap()
}

/// Takes whatever step an end can take. Says whether its handshake is over.
macro_rules! step {
    ($end:expr, $from:expr, $to:expr) => {{
        let status = $end.process_tls_records($from);
        let discard = status.discard;
        let over = match status.state.unwrap() {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = [0; 8192];
                let length = data.encode(&mut room).unwrap();
                $to.extend_from_slice(&room[..length]);
                false
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                false
            }
            ConnectionState::WriteTraffic(_) => true,
            _ => false,
        };
        $from.drain(..discard);
        over
    }};
}

/// A session, and the client of its handshake.
pub(super) fn ends(suite: SupportedCipherSuite) -> (RecordLayer, UnbufferedClientConnection) {
    let mut server = UnbufferedServerConnection::new(Arc::clone(&SERVER)).unwrap();
    let mut client = UnbufferedClientConnection::new(client(suite), name()).unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let over = step!(client, &mut down, up) & step!(server, &mut up, down);
        if over && up.is_empty() {
            return (RecordLayer::after(server).unwrap(), client);
        }
    }
    panic!("the handshake does not end");
}

/// A session, and rustls as its peer.
pub(crate) fn pair(suite: SupportedCipherSuite) -> (RecordLayer, ClientConnection) {
    let mut server = UnbufferedServerConnection::new(Arc::clone(&SERVER)).unwrap();
    let mut client = ClientConnection::new(client(suite), name()).unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        client.write_tls(&mut up).unwrap();
        let over = step!(server, &mut up, down);
        client.read_tls(&mut &down[..]).unwrap();
        down.clear();
        client.process_new_packets().unwrap();
        if over && up.is_empty() && !client.wants_write() {
            return (RecordLayer::after(server).unwrap(), client);
        }
    }
    panic!("the handshake does not end");
}

/// Result of rustls for the bytes that it was sent.
pub(crate) fn hear(client: &mut ClientConnection, mut sent: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !sent.is_empty() {
        client.read_tls(&mut sent).unwrap();
        let state = client.process_new_packets().unwrap();
        let mut some = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut some).unwrap();
        all.extend(some);
    }
    all
}

pub(crate) fn say(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut pieces = plain.chunks(30_000);
    while let Some(piece) = pieces.next().or(client.wants_write().then_some(&[])) {
        client.writer().write_all(piece).unwrap();
        client.write_tls(&mut sent).unwrap();
    }
    sent
}

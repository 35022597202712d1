//! Configurations for one handshake of a server and a client with each suite, and that handshake.

use std::sync::{Arc, LazyLock};

use rustls::client::UnbufferedClientConnection;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::UnbufferedServerConnection;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::unbuffered::ConnectionState;
use rustls::version::TLS13;
use rustls::{
    CipherSuiteCommon, ClientConfig, ServerConfig, SupportedCipherSuite, Tls13CipherSuite,
};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::toy::{Constant, Toy};

/// How many records a key seals before there is a key update: so few that it is seen.
const RECORDS: u64 = 24;

pub(crate) struct Configs {
    pub(crate) server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// One for each suite.
static CONFIGS: LazyLock<Vec<Configs>> = LazyLock::new(|| {
    let suites = default_provider().cipher_suites;
    let tls13 = suites.iter().filter_map(SupportedCipherSuite::tls13);
    tls13.map(configs).collect()
});

/// The configurations for one of the suites.
pub(crate) fn of(suite: u8) -> &'static Configs {
    &CONFIGS[usize::from(suite) % CONFIGS.len()]
}

fn configs(suite: &Tls13CipherSuite) -> Configs {
    let suite = Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: &Toy::EMPTY,
            confidentiality_limit: RECORDS,
        },
        hkdf_provider: &Toy::EMPTY,
        aead_alg: suite.aead_alg,
        quic: None,
    };
    let provider = Arc::new(CryptoProvider {
        // There are three, and as long as the process.
        cipher_suites: vec![SupportedCipherSuite::Tls13(Box::leak(Box::new(suite)))],
        kx_groups: vec![&Constant],
        secure_random: &Constant,
        ..default_provider()
    });
    let own = CertifiedKey::new(vec![CertificateDer::from(vec![7; 8])], Arc::new(Constant));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("suites for TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("suites for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Constant))
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    client.resumption = rustls::client::Resumption::disabled();
    Configs {
        server: Arc::new(server),
        client: Arc::new(client),
    }
}

/// Takes whatever step an end can take. Says whether its handshake is over.
macro_rules! step {
    ($end:expr, $from:expr, $to:expr) => {{
        let status = $end.process_tls_records($from);
        let discard = status.discard;
        let over = match status.state.expect("both keep to the protocol") {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = [0; 2048];
                let length = data.encode(&mut room).expect("it has room");
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

/// Both ends after a handshake.
pub(crate) struct Ends {
    pub(crate) server: UnbufferedServerConnection,
    pub(crate) client: UnbufferedClientConnection,
    /// All that the client has sent.
    pub(crate) sent: Vec<u8>,
}

/// A handshake.
pub(crate) fn handshake(configs: &Configs) -> Ends {
    let name = ServerName::try_from("gateway").expect("a name");
    let server = UnbufferedServerConnection::new(Arc::clone(&configs.server));
    let client = UnbufferedClientConnection::new(Arc::clone(&configs.client), name);
    let (mut server, mut client) = (server.expect("a server"), client.expect("a client"));
    let (mut up, mut down, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let begin = up.len();
        let over = step!(client, &mut down, up);
        sent.extend_from_slice(&up[begin..]);
        if over & step!(server, &mut up, down) && up.is_empty() {
            return Ends {
                server,
                client,
                sent,
            };
        }
    }
}

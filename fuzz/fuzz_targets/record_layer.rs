//! Whatever a client seals, and however it is cut on its way, no more is heard than was said, and all of it
//! unless the client broke the protocol.
#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use certgen::{Authority, AuthoritySpec};
use libfuzzer_sys::fuzz_target;
use portcullis::record_layer::Session;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::kernel::KernelConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore,
    ServerConfig,
};
use rustls_pki_types::ServerName;

#[derive(Arbitrary, Debug)]
enum Move {
    Say(Vec<u8>),
    SayMuch { byte: u8, length: u16 },
    UpdateKey { and_theirs: bool },
    Seal { kind: u8, content: Vec<u8> },
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    moves: Vec<Move>,
    pieces: Vec<u16>,
}

static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let authority = Authority::new(&AuthoritySpec::default()).expect("an authority");
    let own = authority.server(&["gateway"]).expect("a certificate");
    let provider = Arc::new(default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("suites for TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![own.certificate_der()], own.key_der())
        .expect("its key");
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    let added = roots.add(authority.certificate_der().clone());
    added.expect("an anchor");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("suites for TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
});

/// A client that has its own idea of what may follow a handshake.
struct Peer {
    schedule: KernelConnection<ClientConnectionData>,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Peer {
    fn seal(&mut self, kind: ContentType, content: &[u8], wire: &mut Vec<u8>) {
        let message = OutboundPlainMessage {
            typ: kind,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        let sealed = self.encrypter.encrypt(message, self.sequence);
        wire.extend(sealed.expect("it is short enough").encode());
        self.sequence += 1;
    }

    fn say(&mut self, content: &[u8], wire: &mut Vec<u8>) {
        self.seal(ContentType::ApplicationData, content, wire);
    }

    fn update_key(&mut self, request: bool, wire: &mut Vec<u8>) {
        let message = [24, 0, 0, 1, u8::from(request)];
        self.seal(ContentType::Handshake, &message, wire);
        let (sequence, secrets) = self.schedule.update_tx_secret().expect("TLS 1.3");
        self.sequence = sequence;
        self.encrypter = encrypter(&self.schedule, secrets);
    }
}

fn encrypter(
    schedule: &KernelConnection<ClientConnectionData>,
    secrets: ConnectionTrafficSecrets,
) -> Box<dyn MessageEncrypter> {
    let suite = schedule.negotiated_cipher_suite();
    let aead = suite.tls13().expect("TLS 1.3").aead_alg;
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => aead.encrypter(key, iv),
        _ => unreachable!("no other AEAD was offered"),
    }
}

/// Takes whatever step an end can take. Says whether its handshake is over.
macro_rules! step {
    ($end:expr, $from:expr, $to:expr) => {{
        let status = $end.process_tls_records($from);
        let discard = status.discard;
        let over = match status.state.expect("both keep to the protocol") {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = [0; 8192];
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

fn pair() -> (Session, Peer) {
    let (server, client) = &*CONFIGS;
    let name = ServerName::try_from("gateway").expect("a name");
    let mut server = UnbufferedServerConnection::new(Arc::clone(server)).expect("a server");
    let mut client = UnbufferedClientConnection::new(Arc::clone(client), name).expect("a client");
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while !(step!(client, &mut down, up) & step!(server, &mut up, down) && up.is_empty()) {}
    let (secrets, schedule) = client
        .dangerous_into_kernel_connection()
        .expect("the handshake is over");
    let peer = Peer {
        sequence: secrets.tx.0,
        encrypter: encrypter(&schedule, secrets.tx.1),
        schedule,
    };
    (Session::after(server).expect("here as well"), peer)
}

fuzz_target!(|input: Input| {
    let (mut session, mut peer) = pair();
    let (mut said, mut wire, mut honest) = (Vec::new(), Vec::new(), true);
    for one in input.moves.iter().take(31) {
        match one {
            Move::Say(content) => {
                said.extend_from_slice(content);
                peer.say(content, &mut wire);
            }
            &Move::SayMuch { byte, length } => {
                let content = vec![byte; usize::from(length) % (1 << 14)];
                peer.say(&content, &mut wire);
                said.extend(content);
            }
            &Move::UpdateKey { and_theirs } => peer.update_key(and_theirs, &mut wire),
            Move::Seal { kind, content } => {
                // It may be data with padding.
                said.extend_from_slice(content);
                peer.seal(ContentType::from(*kind), content, &mut wire);
                honest = false;
            }
            Move::Raw(bytes) => {
                wire.extend_from_slice(bytes);
                honest = false;
            }
        }
    }

    let (mut heard, mut space, mut end) = (Vec::new(), Vec::new(), None);
    let mut pieces = input
        .pieces
        .iter()
        .map(|&piece| usize::from(piece).max(1))
        .cycle();
    let mut left = &wire[..];
    while !left.is_empty() && end.is_none() {
        let piece = pieces.next().unwrap_or(left.len()).min(left.len());
        space.extend_from_slice(&left[..piece]);
        left = &left[piece..];
        let opened = session.open(&mut space, std::time::Instant::now);
        heard.extend_from_slice(&space[..opened.data]);
        space.drain(..opened.rest.start);
        end = opened.end;
    }
    if honest {
        assert_eq!(end, None);
        assert!(heard == said, "what was said arrives");
    } else {
        assert!(
            heard.len() <= said.len(),
            "nothing is heard that was not said"
        );
    }
});

//! After the same handshake and the same bytes of a client, the gateway's record layer hears what rustls'
//! own hears, ends where it ends, and answers with the same bytes.
//!
//! Both are servers of one handshake: its randomness, key exchange and signature are constants, so that two
//! servers which get the same bytes have the same keys. Nothing of it is slow, and no part is left to chance.
#![no_main]

use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use portcullis::record_layer::{Breach, Session};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::kernel::KernelConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::unbuffered::ConnectionState;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, ClientConfig, ConnectionTrafficSecrets, ContentType, DigitallySignedStruct,
    Error, InvalidMessage, NamedGroup, PeerMisbehaved, ProtocolVersion, ServerConfig,
    ServerConnection, SignatureAlgorithm, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

#[derive(Arbitrary, Debug)]
enum Move {
    Say(Vec<u8>),
    SayMuch { byte: u8, length: u16 },
    Pad { content: Vec<u8>, zeros: u8 },
    UpdateKey { and_theirs: bool },
    Alert { level: u8, description: u8 },
    Seal { kind: u8, content: Vec<u8> },
    Tamper { at: u8, with: u8 },
    Raw(Vec<u8>),
}

impl Move {
    /// Handshake content, if the record has any or is of that type: what stands before its padding.
    fn handshake(&self) -> Option<&[u8]> {
        let Self::Seal { kind, content } = self else {
            return None;
        };
        if *kind != 0 {
            return (*kind == 22).then_some(content);
        }
        let end = content.iter().rposition(|&byte| byte != 0)?;
        (content[end] == 22).then_some(&content[..end])
    }

    /// Whether a key update may be asked for in return.
    fn may_request(&self) -> bool {
        matches!(self, Self::UpdateKey { and_theirs: true }) || self.handshake().is_some()
    }

    /// An empty handshake record is refused (RFC 9846, 5.4). rustls passes over it.
    fn is_empty_handshake(&self) -> bool {
        self.handshake().is_some_and(<[u8]>::is_empty)
    }
}

#[derive(Arbitrary, Debug)]
struct Input {
    suite: u8,
    moves: Vec<Move>,
    pieces: Vec<u16>,
    answer: u16,
}

/// Randomness, a key exchange and a signature that are always the same.
#[derive(Debug)]
struct Constant;

impl SecureRandom for Constant {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        bytes.fill(7);
        Ok(())
    }
}

impl SupportedKxGroup for Constant {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Self))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Constant {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, Error> {
        Ok(SharedSecret::from(&[7_u8; 32][..]))
    }

    fn pub_key(&self) -> &[u8] {
        &[7; 32]
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl SigningKey for Constant {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Constant {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![7; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl ServerCertVerifier for Constant {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

type Configs = (Arc<ServerConfig>, Arc<ClientConfig>);

/// One for each suite.
static CONFIGS: LazyLock<Vec<Configs>> = LazyLock::new(|| {
    let suites = default_provider().cipher_suites;
    let tls13 = suites.into_iter().filter(|suite| suite.tls13().is_some());
    tls13.map(configs).collect()
});

fn configs(suite: rustls::SupportedCipherSuite) -> Configs {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
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
    (Arc::new(server), Arc::new(client))
}

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

    fn update_key(&mut self, request: bool, wire: &mut Vec<u8>) {
        let message = [24, 0, 0, 1, u8::from(request)];
        self.seal(ContentType::Handshake, &message, wire);
        let (sequence, secrets) = self.schedule.update_tx_secret().expect("TLS 1.3");
        self.sequence = sequence;
        self.encrypter = encrypter(&self.schedule, secrets);
    }

    fn make(&mut self, one: &Move, wire: &mut Vec<u8>) {
        let data = ContentType::ApplicationData;
        match one {
            Move::Say(content) => self.seal(data, content, wire),
            &Move::SayMuch { byte, length } => {
                let content = vec![byte; usize::from(length) % (1 << 14)];
                self.seal(data, &content, wire);
            }
            Move::Pad { content, zeros } => {
                // What stands behind the type is padding; the seal adds a zero as its type.
                let mut inner = content.clone();
                inner.push(23);
                inner.extend(vec![0; usize::from(*zeros)]);
                self.seal(ContentType::from(0), &inner, wire);
            }
            &Move::UpdateKey { and_theirs } => self.update_key(and_theirs, wire),
            &Move::Alert { level, description } => {
                self.seal(ContentType::Alert, &[level, description], wire);
            }
            Move::Seal { kind, content } => self.seal(ContentType::from(*kind), content, wire),
            &Move::Tamper { at, with } => {
                let at = usize::from(at);
                if let Some(byte) = wire
                    .len()
                    .checked_sub(at + 1)
                    .and_then(|at| wire.get_mut(at))
                {
                    *byte ^= with;
                }
            }
            Move::Raw(bytes) => wire.extend_from_slice(bytes),
        }
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

/// The gateway's record layer, rustls' own, and a client of both.
fn servers(suite: u8) -> (Session, ServerConnection, Peer) {
    let (config, client) = &CONFIGS[usize::from(suite) % CONFIGS.len()];
    let name = ServerName::try_from("gateway").expect("a name");
    let mut ours = UnbufferedServerConnection::new(Arc::clone(config)).expect("a server");
    let mut client = UnbufferedClientConnection::new(Arc::clone(client), name).expect("a client");
    let (mut up, mut down, mut said) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let begin = up.len();
        let over = step!(client, &mut down, up);
        said.extend_from_slice(&up[begin..]);
        if over & step!(ours, &mut up, down) && up.is_empty() {
            break;
        }
    }
    let mut theirs = ServerConnection::new(Arc::clone(config)).expect("a server");
    theirs.set_buffer_limit(None);
    let mut said = &said[..];
    while !said.is_empty() {
        theirs.read_tls(&mut said).expect("it has room");
        theirs.process_new_packets().expect("the same handshake");
    }
    theirs
        .write_tls(&mut std::io::sink())
        .expect("it takes everything");
    assert!(!theirs.is_handshaking() && !theirs.wants_write());
    let (secrets, schedule) = client
        .dangerous_into_kernel_connection()
        .expect("the handshake is over");
    let peer = Peer {
        sequence: secrets.tx.0,
        encrypter: encrypter(&schedule, secrets.tx.1),
        schedule,
    };
    (Session::after(ours).expect("here as well"), theirs, peer)
}

/// What one side made of the client's bytes.
#[derive(Debug, PartialEq, Eq)]
struct Heard<E> {
    data: Vec<u8>,
    /// `None` if more may come, `Ok` after a `close_notify`.
    end: Option<Result<(), E>>,
}

fn pieces<'a>(wire: &'a [u8], sizes: &'a [u16]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().map(|&size| usize::from(size).max(1)).cycle();
    let mut left = wire;
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(left.len()).min(left.len());
        let (piece, rest) = left.split_at(size);
        left = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Each look at the clock comes an hour after the one before: limits by time are not compared.
fn clock() -> impl Fn() -> Instant {
    let begin = Instant::now();
    let looks = Cell::new(0);
    move || {
        looks.set(looks.get() + 1);
        begin + looks.get() * Duration::from_secs(3600)
    }
}

fn we_hear(session: &mut Session, wire: &[u8], sizes: &[u16]) -> Heard<Breach> {
    let (mut data, mut space) = (Vec::new(), Vec::new());
    let clock = clock();
    for piece in pieces(wire, sizes) {
        space.extend_from_slice(piece);
        let opened = session.open(&mut space, &clock);
        data.extend_from_slice(&space[..opened.data]);
        space.drain(..opened.rest.start);
        if opened.end.is_some() {
            return Heard {
                data,
                end: opened.end,
            };
        }
    }
    Heard { data, end: None }
}

fn they_hear(server: &mut ServerConnection, wire: &[u8], sizes: &[u16]) -> Heard<Error> {
    let mut data = Vec::new();
    for mut piece in pieces(wire, sizes) {
        while !piece.is_empty() {
            server
                .read_tls(&mut piece)
                .expect("what came is read at once");
            let processed = server.process_new_packets();
            let mut some = [0; 4096];
            while let Ok(read @ 1..) = server.reader().read(&mut some) {
                data.extend_from_slice(&some[..read]);
            }
            match processed {
                Err(error) => {
                    return Heard {
                        data,
                        end: Some(Err(error)),
                    };
                }
                Ok(state) if state.peer_has_closed() => {
                    return Heard {
                        data,
                        end: Some(Ok(())),
                    };
                }
                Ok(_) => {}
            }
        }
    }
    Heard { data, end: None }
}

/// Whether the version in a header is not TLS 1.2's. It is sealed with the record (RFC 9846, 5.2), so the gateway
/// refuses it as forged. rustls looks at the first byte at once, and not at the second.
fn has_other_version(mut wire: &[u8]) -> bool {
    loop {
        match *wire {
            [23, 3, 3, high, low, ref rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                wire = rest.get(length..).unwrap_or_default();
            }
            [23, ref version @ ..] => {
                let come = version.len().min(2);
                return version[..come] != [3, 3][..come];
            }
            _ => return false,
        }
    }
}

/// Limits that rustls counts in a row and the gateway by time.
fn is_limit(error: &Error) -> bool {
    matches!(
        error,
        Error::PeerMisbehaved(
            PeerMisbehaved::TooManyKeyUpdateRequests | PeerMisbehaved::TooManyWarningAlertsReceived
        )
    )
}

/// What is sent after all that: data, behind a key update if one is owed, or an alert.
fn we_answer(session: &mut Session, end: Option<Result<(), Breach>>, answer: &[u8]) -> Vec<u8> {
    let mut room = vec![0; answer.len() + 4096];
    let written = match end {
        Some(Err(breach)) => match breach.alert() {
            Some(alert) => session.seal_alert(alert, &mut room),
            None => Ok(0),
        },
        Some(Ok(())) | None => session.seal(answer, &mut room).map(|(_, written)| written),
    };
    room.truncate(written.expect("it has room"));
    room
}

fn they_answer(server: &mut ServerConnection, failed: bool, answer: &[u8]) -> Vec<u8> {
    if !failed {
        server
            .writer()
            .write_all(answer)
            .expect("it takes everything");
    }
    let mut wire = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut wire).expect("it takes everything");
    }
    wire
}

fuzz_target!(|input: Input| {
    let (mut ours, mut theirs, mut peer) = servers(input.suite);
    let mut wire = Vec::new();
    for one in input.moves.iter().take(24) {
        peer.make(one, &mut wire);
    }
    if has_other_version(&wire) || input.moves.iter().any(Move::is_empty_handshake) {
        return;
    }
    let heard = they_hear(&mut theirs, &wire, &input.pieces);
    if matches!(&heard.end, Some(Err(error)) if is_limit(error)) {
        return;
    }
    let we_heard = we_hear(&mut ours, &wire, &input.pieces);
    if let Some(Err(Error::AlertReceived(alert))) = &heard.end {
        assert!(
            is_same_alert(*alert, we_heard.end),
            "{alert:?} {we_heard:?}"
        );
        return;
    }
    assert!(we_heard.data == heard.data, "the same data");
    match (we_heard.end, &heard.end) {
        (Some(Err(breach)), Some(Err(error))) => {
            let same =
                we_answer(&mut ours, we_heard.end, &[]) == they_answer(&mut theirs, true, &[]);
            // rustls sends a key update that is owed before an alert, the gateway before data only.
            let may_owe = input.moves.iter().any(Move::may_request);
            assert!(
                same || may_owe || is_other_alert(breach, error),
                "{breach:?} {error:?}"
            );
        }
        (Some(Err(breach)), None) => assert!(is_early(breach), "{breach:?}"),
        (end, theirs_end) => {
            let end_of_theirs = theirs_end.as_ref().map(Result::is_ok);
            assert_eq!(end.map(|end| end.is_ok()), end_of_theirs, "{theirs_end:?}");
            let answer = vec![3; usize::from(input.answer)];
            let same =
                we_answer(&mut ours, end, &answer) == they_answer(&mut theirs, false, &answer);
            assert!(same, "the same answer");
        }
    }
});

/// The gateway ignores the level of an alert, as RFC 9846 (6) says: an orderly end is one at any level, and so
/// is `user_canceled` nothing. rustls refuses levels that it does not know.
fn is_same_alert(alert: AlertDescription, ours: Option<Result<(), Breach>>) -> bool {
    match ours {
        Some(Err(breach)) => {
            // What followed an alert that ends nothing here was looked at.
            breach == Breach::Alert(alert) || alert == AlertDescription::UserCanceled
        }
        Some(Ok(())) => {
            alert == AlertDescription::CloseNotify || alert == AlertDescription::UserCanceled
        }
        None => alert == AlertDescription::UserCanceled,
    }
}

/// Only a key update may come: another handshake message is refused at its first byte, and a wrong length at
/// its own, where rustls waits until the message is whole. So is a record whose header has a length that no
/// record has.
fn is_early(breach: Breach) -> bool {
    matches!(
        breach,
        Breach::Unexpected | Breach::Malformed | Breach::Oversized | Breach::Forged
    )
}

/// Failures that both end with an alert, where more than one alert fits.
fn is_other_alert(breach: Breach, error: &Error) -> bool {
    match error {
        // rustls sends none here, where `unexpected_message` is due (5.4).
        Error::PeerMisbehaved(PeerMisbehaved::IllegalTlsInnerPlaintext) => {
            breach == Breach::Unexpected
        }
        // A record that is not `application_data` is `unexpected_message` (5.2). rustls tries to open it.
        Error::DecryptError => breach == Breach::Unexpected,
        // A type of record that may not come is `unexpected_message` (5), whether it is known or not, and too
        // large a length `record_overflow` (5.2).
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::InvalidEmptyPayload
            | InvalidMessage::InvalidCcs
            | InvalidMessage::MessageTooLarge,
        ) => matches!(breach, Breach::Unexpected | Breach::Oversized),
        _ => false,
    }
}

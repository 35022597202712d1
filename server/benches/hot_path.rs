//! What the pieces of a connection cost, each by itself.
//!
//! `cargo bench -p portcullis --bench hot_path` takes times. `bench/instructions` counts
//! instructions instead, which come out the same on a machine that is busy: it runs this under
//! callgrind with `--count PIECE`, and only what is done in functions whose names begin with
//! `counted_` counts.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use certgen::{Authority, AuthoritySpec};
use criterion::{BatchSize, Criterion, Throughput};
use gateway::access_record::{Outcome, Record, Recorder, lost_line};
use gateway::client_identity::Identity;
use gateway::snapshot::{GatewaySnapshot, Permit};
use gateway::verifier::Verifier;
use host::log_writer::{LogOutput, Sink};
use policy::{Destination, OpenedRecords};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tls::record_layer::RecordLayer;

#[path = "scene/gateway.rs"]
mod scene;

use scene::{PORT, load, policy, roots, save};

/// How often a piece is done when its instructions are counted.
const TIMES: usize = 100;
/// What a relay moves at once.
const MUCH: usize = 64 * 1024;
/// A small message.
const LITTLE: usize = 64;

struct Scene {
    gateway: Arc<GatewaySnapshot>,
    identity: Identity,
    client: Arc<ClientConfig>,
    _dir: tempfile::TempDir,
}

fn clients(most: usize) -> impl Iterator<Item = String> {
    (0..most).map(|number| format!("client-{number}"))
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(&AuthoritySpec::default()).expect("an authority");
        save(&authority, dir.path());
        let issued = authority.client("client-500").expect("a certificate");
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots(&authority))
            .with_client_auth_cert(vec![issued.certificate_der()], issued.key_der())
            .expect("a certificate and its key");
        Self {
            gateway: load(policy(clients(1000)), dir.path()),
            identity: Identity::of(&issued.certificate_der()).expect("a name"),
            client: Arc::new(client),
            _dir: dir,
        }
    }

    /// A whole handshake, or one with a ticket if there is one.
    fn connect(&self, client: &Arc<ClientConfig>) -> (Connection, ClientConnection) {
        let name = "db".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::clone(client), name).expect("a client");
        let mut sent = Vec::new();
        client.write_tls(&mut sent).expect("memory takes it");
        let mut connection = Connection::counted_hello(&self.gateway, &sent);
        loop {
            let mut said = &connection.said[..];
            while !said.is_empty() {
                client.read_tls(&mut said).expect("it is there");
                client.process_new_packets().expect("the gateway's flight");
            }
            connection.said.clear();
            if !client.is_handshaking() && !client.wants_write() {
                return (connection, client);
            }
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).expect("memory takes it");
            }
            connection.counted_step(&sent);
        }
    }
}

/// The gateway's side of a handshake.
struct Connection {
    session: UnbufferedServerConnection,
    verifier: Arc<Verifier>,
    heard: Vec<u8>,
    said: Vec<u8>,
}

impl Connection {
    #[inline(never)]
    fn counted_hello(gateway: &Arc<GatewaySnapshot>, hello: &[u8]) -> Self {
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &*hello).expect("it is there");
        let accepted = acceptor.accept().expect("TLS").expect("a whole hello");
        let verifier = Verifier::new(Arc::clone(gateway), &accepted.client_hello(), PORT);
        let session = UnbufferedServerConnection::new(verifier.configuration());
        let mut connection = Self {
            session: session.expect("a configuration"),
            verifier,
            heard: Vec::new(),
            said: Vec::new(),
        };
        connection.step(hello);
        connection
    }

    #[inline(never)]
    fn counted_step(&mut self, heard: &[u8]) {
        self.step(heard);
    }

    /// Goes on until more has to be heard.
    fn step(&mut self, heard: &[u8]) {
        self.heard.extend_from_slice(heard);
        loop {
            let status = self.session.process_tls_records(&mut self.heard);
            let discard = status.discard;
            let state = status.state.expect("a good client");
            let waits = if let ConnectionState::EncodeTlsData(mut data) = state {
                let mut room = [0; 8192];
                let length = data.encode(&mut room).expect("it has room");
                self.said.extend_from_slice(&room[..length]);
                false
            } else if let ConnectionState::TransmitTlsData(data) = state {
                data.done();
                false
            } else {
                true
            };
            self.heard.drain(..discard);
            if waits {
                return;
            }
        }
    }

    #[inline(never)]
    fn counted_end(self) -> (Permit, RecordLayer) {
        let kind = self.session.handshake_kind().expect("it is over");
        let permit = self.verifier.take_permit(kind).expect("a good client");
        (
            permit,
            RecordLayer::after(self.session).expect("its secrets"),
        )
    }
}

#[inline(never)]
fn counted_open(session: &mut RecordLayer, records: &mut [u8]) -> usize {
    session.open(records, std::time::Instant::now).data
}

#[inline(never)]
fn counted_seal(session: &mut RecordLayer, plain: &[u8], room: &mut [u8]) -> usize {
    session.seal(plain, room).expect("it has room").1
}

fn authorize(scene: &Scene, destination: &Destination) -> Permit {
    let identity = scene.identity.clone();
    scene
        .gateway
        .authorize(identity, destination)
        .expect("it is granted")
}

#[inline(never)]
fn counted_record(recorder: &Arc<Recorder>, permit: &Permit) {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut record = Record::begin(recorder, address, address);
    record.hello_read(1, Some("db".to_owned()));
    record.authorized(permit.identity().clone(), &permit.group().name);
    record.dialed(Some(address), 1);
    record.relay_begins(OpenedRecords::Off);
    record.end(Outcome::Finished);
}

#[inline(never)]
fn counted_lease(permit: &Permit) {
    drop(black_box(permit.upstreams().lease(&[])));
}

/// What a client sends that says this.
fn said(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    client.writer().write_all(plain).expect("memory takes it");
    while client.wants_write() {
        client.write_tls(&mut sent).expect("memory takes it");
    }
    sent
}

fn recorder() -> Arc<Recorder> {
    let null = LogOutput::File("/dev/null".into());
    let sink = Sink::open(null, lost_line).expect("it is always there");
    Arc::new(Recorder::new(sink))
}

fn destination() -> Destination {
    Destination {
        sni: Some("db".to_owned()),
        port: PORT,
    }
}

fn pair(scene: &Scene) -> (RecordLayer, ClientConnection) {
    let (connection, mut client) = scene.connect(&scene.client);
    client.set_buffer_limit(None);
    (connection.counted_end().1, client)
}

fn times() {
    let scene = Scene::new();
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("record layer");
    for (name, size) in [("64 KiB", MUCH), ("64 bytes", LITTLE)] {
        group.throughput(Throughput::Bytes(size as u64));
        let (mut session, mut client) = pair(&scene);
        group.bench_function(format!("open {name}"), |b| {
            b.iter_batched_ref(
                || said(&mut client, &vec![7; size]),
                |records| assert_eq!(counted_open(&mut session, records), size),
                BatchSize::NumIterations(1),
            );
        });
        let (plain, mut room) = (vec![7; size], vec![0; 2 * MUCH]);
        group.bench_function(format!("seal {name}"), |b| {
            b.iter(|| counted_seal(&mut session, &plain, &mut room));
        });
    }
    group.finish();
    let destination = destination();
    criterion.bench_function("authorize one of 1,000 clients", |b| {
        b.iter(|| authorize(&scene, &destination));
    });
    let permit = authorize(&scene, &destination);
    let recorder = recorder();
    criterion.bench_function("access record", |b| {
        b.iter(|| counted_record(&recorder, &permit));
    });
    let (old, new) = (policy(clients(1000)), policy(clients(1001)));
    criterion.bench_function("changes of one client among 1,000", |b| {
        b.iter(|| assert_eq!(old.changes(&new).len(), 1));
    });
    criterion.final_summary();
}

fn count(piece: &str) {
    let scene = Scene::new();
    // What happens once happens now.
    let (connection, _) = scene.connect(&scene.client);
    let (permit, _) = connection.counted_end();
    match piece {
        "nothing" => {}
        "handshake" | "resumed" => {
            for _ in 0..TIMES {
                let (connection, client) = match piece {
                    "resumed" => scene.connect(&scene.client),
                    _ => scene.connect(&without_tickets(&scene.client)),
                };
                let resumed = client.handshake_kind() == Some(HandshakeKind::Resumed);
                assert_eq!(resumed, piece == "resumed");
                drop(connection.counted_end());
            }
        }
        "open" | "open-little" => {
            let (mut session, mut client) = pair(&scene);
            let size = if piece == "open" { MUCH } else { LITTLE };
            for _ in 0..TIMES {
                let mut records = said(&mut client, &vec![7; size]);
                assert_eq!(counted_open(&mut session, &mut records), size);
            }
        }
        "seal" | "seal-little" => {
            let (mut session, mut client) = pair(&scene);
            let size = if piece == "seal" { MUCH } else { LITTLE };
            let (plain, mut room) = (vec![7; size], vec![0; 2 * MUCH]);
            for _ in 0..TIMES {
                let written = counted_seal(&mut session, &plain, &mut room);
                let mut sent = &room[..written];
                let mut heard = Vec::new();
                while !sent.is_empty() {
                    client.read_tls(&mut sent).expect("it is there");
                    let state = client.process_new_packets().expect("records");
                    heard.resize(state.plaintext_bytes_to_read(), 0);
                    client.reader().read_exact(&mut heard).expect("it is there");
                }
            }
        }
        "record" => {
            let recorder = recorder();
            (0..TIMES).for_each(|_| counted_record(&recorder, &permit));
        }
        "lease" => (0..TIMES).for_each(|_| counted_lease(&permit)),
        other => panic!("there is no piece {other:?}"),
    }
}

/// The same client, who has no ticket yet.
fn without_tickets(client: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = (**client).clone();
    config.resumption = rustls::client::Resumption::in_memory_sessions(1);
    Arc::new(config)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|one| one == "--count") {
        Some(place) => count(&arguments[place + 1]),
        None => times(),
    }
}

//! What a large policy costs: its load, its memory, the reload of one line, and what new
//! connections notice of that reload.
//!
//! `cargo bench -p portcullis --bench reload [-- GROUPS CLIENTS]` (100,000 of each by default).
//! Starts a gateway process on loopback, connects to it without a pause from four threads, and
//! changes one line of its policy ten times.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use certgen::{Authority, AuthoritySpec, Overwrite};
use policy::{Policy, generate};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::ServerName;
use serde_json::Value;

const RELOADS: usize = 10;
const CLIENTS: usize = 4;
const QUIET: Duration = Duration::from_secs(5);

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let (groups, clients) = (
        numbers.first().copied().unwrap_or(100_000),
        numbers.get(1).copied().unwrap_or(100_000),
    );
    let dir = tempfile::tempdir().expect("a folder for the policy");
    let authority = issue_into(&dir.path().join("certs"));
    let upstream = echo();
    let text = generate(groups, clients)
        .replace("listen: [\"127.0.0.1:8443\"]", "listen: [\"127.0.0.1:0\"]")
        .replacen("\"127.0.0.1:2023\"", &format!("\"{upstream}\""), 1);

    let begin = Instant::now();
    let policy = Policy::parse("policy.yaml", &text).expect("the generated policy is valid");
    println!(
        "parse {groups} groups, {clients} clients: {:?}",
        begin.elapsed()
    );
    drop(policy);
    let path = dir.path().join("policy.yaml");
    put(&path, &text);

    let mut gateway = Gateway::start(&path);
    println!(
        "full load: {} ms",
        gateway.load["load_ms"].as_str().unwrap_or("?")
    );
    println!(
        "memory after the load: {} MiB resident",
        resident(gateway.process.id()) / 1024
    );

    let config = configuration(&authority);
    let quiet = connect_while(&config, gateway.address, || thread::sleep(QUIET));
    println!("new connections, quiet:            {}", spread(quiet));
    let during = connect_while(&config, gateway.address, || {
        for number in 0..RELOADS {
            let line = format!(
                "client-5: {{groups: [group-5], max_connections: {}}}",
                number + 2000
            );
            let changed = text.replace("client-5: {groups: [group-5], max_connections: 6}", &line);
            assert!(changed != text, "the line is there");
            let begin = Instant::now();
            put(&path, &changed);
            let event = gateway.logged("policy reloaded");
            println!(
                "reload: {} ms from the file's change; apply {} us",
                begin.elapsed().as_millis(),
                event["apply_us"].as_str().unwrap_or("?"),
            );
        }
    });
    println!("new connections, during 10 reloads: {}", spread(during));
    println!(
        "memory after the reloads: {} MiB resident",
        resident(gateway.process.id()) / 1024
    );
    gateway.process.kill().expect("the gateway ends");
    gateway.process.wait().expect("the gateway has ended");
}

/// Saves an authority and the gateway's certificate.
fn issue_into(certs: &Path) -> Authority {
    let authority = Authority::new(&AuthoritySpec::default()).expect("an authority");
    authority
        .save(certs, Overwrite::Refuse)
        .expect("the authority is saved");
    let own = authority
        .server(&["group-999.example.test"])
        .expect("a certificate");
    own.save(certs, "server", Overwrite::Refuse)
        .expect("the certificate is saved");
    authority
}

fn put(path: &Path, text: &str) {
    let aside = path.with_extension("aside");
    fs::write(&aside, text).expect("the policy is written");
    fs::rename(aside, path).expect("the policy is in place");
}

struct Gateway {
    process: Child,
    log: BufReader<ChildStderr>,
    load: Value,
    address: SocketAddr,
}

impl Gateway {
    fn start(policy: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "--log-format", "json", "--policy"])
            .arg(policy)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let log = BufReader::new(process.stderr.take().expect("a pipe"));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self {
            process,
            log,
            load: Value::Null,
            address,
        };
        gateway.load = gateway.logged("policy in force");
        let serving = gateway.logged("serving TLS 1.3 with client certificates");
        gateway.address = serving["addresses"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("an address");
        gateway
    }

    fn logged(&mut self, message: &str) -> Value {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).expect("the log can be read");
            assert_ne!(read, 0, "the gateway lives");
            let event: Value = serde_json::from_str(&line).expect("the log is JSON");
            if event["message"] == message {
                return event;
            }
        }
    }
}

/// An upstream that answers one byte with one byte.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    address
}

fn configuration(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.certificate_der().clone())
        .expect("the authority is an anchor");
    let issued = authority.client("client-999").expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![issued.certificate_der()], issued.key_der())
        .expect("the key is the certificate's");
    Arc::new(config)
}

/// How long each new connection took to its first byte back, while `action` went on.
fn connect_while(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
    action: impl FnOnce(),
) -> Vec<Duration> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    while !over.load(Relaxed) {
                        times.push(connect(config, address));
                        thread::sleep(Duration::from_millis(5));
                    }
                    times
                })
            })
            .collect();
        action();
        over.store(true, Relaxed);
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client ends"))
            .collect()
    })
}

fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> Duration {
    let begin = Instant::now();
    let name = ServerName::try_from("group-999.example.test").expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let mut stream = StreamOwned::new(session, TcpStream::connect(address).expect("a connection"));
    stream.write_all(b"x").expect("the gateway takes a byte");
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("the upstream answers");
    begin.elapsed()
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    format!(
        "{} of them; p50 {:?}, p99 {:?}, p99.9 {:?}, slowest {:?}",
        times.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    )
}

/// Resident memory in KiB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .expect("its memory");
    line.split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

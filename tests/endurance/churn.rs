//! Clients that come, transfer and go in every way, many at once.

use std::collections::BTreeSet;
use std::io;
use std::iter::StepBy;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::client::{Client, connect_from, reset_on_drop};
use crate::dice::Dice;
use crate::process::{Gateway, suppressed};
use crate::stage::Stage;
use crate::{number, soon, until};

const SEED: u64 = 20_261_121;
/// Most transfers are short, some fill every buffer on the way.
const SHORT: usize = 4 * 1024;
const LONG: usize = 1024 * 1024;
/// How many source addresses there are, so that ports do not run out.
const HOSTS: usize = 50;

/// How many workers the gateway has. Each opens one socket of its own when it first asks the kernel
/// what a peer has not taken (`sock_diag(7)`), and keeps it.
const WORKERS: usize = 2;

/// How many threads the clients have.
const THREADS: usize = 2;

/// What became of all connections.
#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    served: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    reset: AtomicU64,
    corrupt: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn add(count: &AtomicU64) {
        count.fetch_add(1, Relaxed);
    }
}

#[derive(Debug)]
enum Failure {
    /// What came back is not what was sent.
    Corrupt,
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

#[tokio::test]
async fn after_a_churn_no_byte_no_record_and_no_descriptor_is_missing() {
    let clients = number("PORTCULLIS_CHURN_CLIENTS", 200);
    let seconds = number("PORTCULLIS_CHURN_SECONDS", 5);
    let seed = number("PORTCULLIS_CHURN_SEED", usize::try_from(SEED).unwrap());
    let stage = Stage::with(&[
        "timeouts: {handshake: 1m, connect: 30s}",
        "limits: {handshakes: 100000, handshakes_per_source: 100000}",
    ])
    .await;
    let mut gateway = stage.start().await;
    let alice = stage.alice();
    alice.visit(gateway.address).await.unwrap();
    let (descriptors, memory) = (gateway.descriptors(), gateway.memory());

    let end = Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap());
    let counts = Arc::new(Counts::default());
    let mut threads = JoinSet::new();
    for thread in 0..THREADS {
        let crowd = Crowd {
            seeds: (seed + thread..seed + clients).step_by(THREADS),
            alice: alice.clone(),
            gateway: gateway.address,
            end,
            counts: Arc::clone(&counts),
        };
        threads.spawn_blocking(move || crowd.churn());
    }
    let mut most = 0;
    while !threads.is_empty() {
        most = most.max(gateway.memory());
        let ended = timeout(Duration::from_millis(100), threads.join_next()).await;
        ended.ok().flatten().map(Result::unwrap);
    }

    println!(
        "{clients} clients for {seconds} s, seed {seed}: {counts:?}; memory {} KiB before, {} KiB \
         at the end",
        memory / 1024,
        most / 1024
    );
    assert_eq!(
        counts.corrupt.load(Relaxed),
        0,
        "what came back was altered"
    );
    assert_eq!(counts.failed.load(Relaxed), 0, "a connection broke");
    assert!(counts.served.load(Relaxed) > 0);
    let kept = descriptors + WORKERS;
    until(async || (gateway.descriptors() <= kept).then_some(())).await;
    assert!(gateway.stop().await.success(), "SIGTERM ends it cleanly");
    // The visit at the beginning was one, too.
    every_connection_has_one_record(&gateway, 1 + counts.connected.load(Relaxed));
}

fn every_connection_has_one_record(gateway: &Gateway, connected: u64) {
    let records = gateway.records();
    let sum = |key: &str| -> u64 {
        records
            .iter()
            .filter_map(|record| record[key].as_u64())
            .sum()
    };
    let numbers: Vec<&str> = records
        .iter()
        .filter_map(|record| record["connection"].as_str())
        .collect();
    let different: BTreeSet<&str> = numbers.iter().copied().collect();
    let suppressed: u64 = records.iter().map(suppressed).sum();
    let written = u64::try_from(numbers.len()).unwrap();
    println!("{connected} connections: {written} records, {suppressed} suppressed");
    assert_eq!(
        different.len(),
        numbers.len(),
        "a connection has two records of its end"
    );
    assert_eq!(sum("lost"), 0, "the writer kept up");
    assert_eq!(
        written + suppressed,
        connected,
        "a connection has no record"
    );
}

/// The clients of one thread.
#[derive(Debug)]
struct Crowd {
    seeds: StepBy<Range<usize>>,
    alice: Client,
    gateway: SocketAddr,
    end: Instant,
    counts: Arc<Counts>,
}

impl Crowd {
    fn churn(self) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut clients = JoinSet::new();
        for seed in self.seeds {
            let dice = Dice::new(u64::try_from(seed).unwrap());
            let counts = Arc::clone(&self.counts);
            let client = churn(dice, self.alice.clone(), self.gateway, counts, self.end);
            clients.spawn_on(client, runtime.handle());
        }
        runtime.block_on(clients.join_all());
    }
}

/// Comes again and again until the end.
async fn churn(
    mut dice: Dice,
    alice: Client,
    gateway: SocketAddr,
    counts: Arc<Counts>,
    end: Instant,
) {
    while Instant::now() < end {
        match soon(come(&mut dice, &alice, gateway, &counts)).await {
            Ok(()) => {}
            Err(Failure::Corrupt) => Counts::add(&counts.corrupt),
            Err(Failure::Broken(error)) => {
                println!("broken: {error}");
                Counts::add(&counts.failed);
            }
        }
        sleep(Duration::from_millis(
            u64::try_from(dice.below(50)).unwrap(),
        ))
        .await;
    }
}

/// Connects once, and does one of the things that clients do.
async fn come(
    dice: &mut Dice,
    alice: &Client,
    gateway: SocketAddr,
    counts: &Counts,
) -> Result<(), Failure> {
    let host = u8::try_from(2 + dice.below(HOSTS)).unwrap();
    let socket = connect_from(host, gateway).await?;
    Counts::add(&counts.connected);
    if dice.below(10) == 0 {
        Counts::add(&counts.dropped);
        return Ok(leave_early(dice, alice, socket).await?);
    }
    let stream = alice.greet(socket).await?;
    let most = if dice.below(20) == 0 { LONG } else { SHORT };
    let count = 1 + dice.below(most);
    let bytes = dice.bytes(count);
    counts
        .bytes
        .fetch_add(u64::try_from(bytes.len()).unwrap(), Relaxed);
    match dice.below(4) {
        0 => break_off(stream, &bytes, counts).await?,
        1 => half_close(stream, bytes).await?,
        _ => transfer(stream, bytes).await?,
    }
    Counts::add(&counts.served);
    Ok(())
}

/// Goes away before the handshake, or somewhere in its midst.
async fn leave_early(dice: &mut Dice, alice: &Client, mut socket: TcpStream) -> io::Result<()> {
    if dice.below(2) == 0 {
        reset_on_drop(&socket);
    }
    let hello = alice.hello("db");
    let said = dice.below(hello.len() + 1);
    socket.write_all(&hello[..said]).await?;
    if said == hello.len() || dice.below(2) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Sends everything, and resets when the first byte has come back.
async fn break_off(
    mut stream: TlsStream<TcpStream>,
    bytes: &[u8],
    counts: &Counts,
) -> Result<(), Failure> {
    // An echo of more than the buffers hold would wait for its reader.
    let some = &bytes[..bytes.len().min(SHORT)];
    stream.write_all(some).await?;
    let mut first = [0];
    stream.read_exact(&mut first).await?;
    reset_on_drop(stream.get_ref().0);
    Counts::add(&counts.reset);
    if first[0] == bytes[0] {
        Ok(())
    } else {
        Err(Failure::Corrupt)
    }
}

/// Sends everything, says that this is all, and reads to the end.
async fn half_close(stream: TlsStream<TcpStream>, bytes: Vec<u8>) -> Result<(), Failure> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut echo = Vec::with_capacity(bytes.len());
    let (sent, received) = tokio::join!(
        async {
            write.write_all(&bytes).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut echo)
    );
    sent?;
    received?;
    if echo == bytes {
        Ok(())
    } else {
        Err(Failure::Corrupt)
    }
}

/// Sends everything, reads as much, and only then leaves.
async fn transfer(stream: TlsStream<TcpStream>, bytes: Vec<u8>) -> Result<(), Failure> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut echo = vec![0; bytes.len()];
    let (sent, received) = tokio::join!(
        async {
            write.write_all(&bytes).await?;
            write.flush().await
        },
        read.read_exact(&mut echo)
    );
    sent?;
    received?;
    if echo == bytes {
        Ok(())
    } else {
        Err(Failure::Corrupt)
    }
}

//! Clients that begin a handshake and do not go on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::process::{Gateway, suppressed};
use crate::stage::Stage;
use crate::{number, soon};

const LIMIT: Duration = Duration::from_secs(2);
/// How much later than at the limit a client may be gone.
const LATE: Duration = Duration::from_secs(2);
/// What one of them may take of the gateway's memory.
const MEMORY_EACH: u64 = 10 * 1024;
/// From how many on that can be measured.
const MEASURABLE: usize = 1000;

#[derive(Debug, Clone, Copy)]
enum Manner {
    Silent,
    HalfAHello,
    AByteASecond,
}

#[tokio::test]
async fn clients_that_stall_are_gone_in_time_cost_little_and_hinder_nobody() {
    let count = number("PORTCULLIS_STALLED", 300);
    let stage = Stage::with(&[
        "timeouts: {handshake: 2s}",
        "limits: {handshakes: 10000, handshakes_per_source: 10000}",
    ])
    .await;
    let mut gateway = stage.start().await;
    let alice = stage.alice();
    for _ in 0..20 {
        alice.visit(gateway.address).await.unwrap();
    }
    let (memory, descriptors) = (gateway.memory(), gateway.descriptors());

    let hello = alice.hello("db");
    let mut stalled = JoinSet::new();
    for n in 0..count {
        let manner = [Manner::Silent, Manner::HalfAHello, Manner::AByteASecond][n % 3];
        let socket = TcpStream::connect(gateway.address).await.unwrap();
        stalled.spawn(stall(socket, manner, hello.clone()));
    }
    let (mut most, mut visits, mut slowest) = (0, 0, Duration::ZERO);
    while gateway.descriptors() > descriptors {
        let begin = Instant::now();
        alice.visit(gateway.address).await.unwrap();
        slowest = slowest.max(begin.elapsed());
        visits += 1;
        most = most.max(gateway.memory());
        sleep(Duration::from_millis(10)).await;
    }
    let waited = soon(stalled.join_all()).await;

    let (shortest, longest) = (waited.iter().min().unwrap(), waited.iter().max().unwrap());
    let each = most.saturating_sub(memory) / u64::try_from(count).unwrap();
    println!(
        "{count} stalled clients: gone after {shortest:.2?} to {longest:.2?} (limit {LIMIT:?}), \
         {each} bytes of memory each; meanwhile {visits} visits, the slowest in {slowest:.2?}"
    );
    assert!(*shortest > LIMIT / 2, "nobody is sent away early");
    assert!(*longest < LIMIT + LATE, "nobody stays");
    assert!(visits > 0, "others are served meanwhile");
    if count >= MEASURABLE {
        assert!(each < MEMORY_EACH, "{each} bytes each");
    }
    all_are_accounted_for(&gateway, count);
    assert!(gateway.stop().await.success());
}

/// Waits for the end of a connection, and says how long that took.
async fn stall(mut socket: TcpStream, manner: Manner, hello: Vec<u8>) -> Duration {
    let begin = Instant::now();
    let half = hello.len() / 2;
    let mut bytes = hello.into_iter();
    if let Manner::HalfAHello = manner {
        let beginning: Vec<u8> = bytes.by_ref().take(half).collect();
        socket.write_all(&beginning).await.unwrap();
    }
    let mut ticks = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = socket.read_u8() => return begin.elapsed(),
            _ = ticks.tick() => if let (Manner::AByteASecond, Some(byte)) = (manner, bytes.next()) {
                // The gateway may be gone by now, which reading tells.
                drop(socket.write_all(&[byte]).await);
            },
        }
    }
}

fn all_are_accounted_for(gateway: &Gateway, count: usize) {
    let records = gateway.records();
    let suppressed: u64 = records.iter().map(suppressed).sum();
    let suppressed = usize::try_from(suppressed).unwrap();
    let timed_out = gateway.recorded("handshake_timeout");
    assert!(
        timed_out > 0 && timed_out + suppressed <= count,
        "{timed_out} recorded and {suppressed} not, of {count}"
    );
}

#[tokio::test]
async fn a_client_without_end_of_bytes_that_are_no_handshake_is_gone_too() {
    let stage = Stage::with(&["timeouts: {handshake: 2s}"]).await;
    let gateway = stage.start().await;
    let garbage = flood(gateway.address, &[0x16, 3, 1, 0x40, 0]);
    let words = flood(gateway.address, b"GET / HTTP/1.1\r\n");
    let (garbage, words) = tokio::join!(garbage, words);
    assert!(garbage.max(words) < LIMIT + LATE, "{garbage:?}, {words:?}");
    stage.alice().visit(gateway.address).await.unwrap();
}

/// Writes the same again and again until nobody takes it any more.
async fn flood(gateway: SocketAddr, bytes: &[u8]) -> Duration {
    let begin = Instant::now();
    let mut socket = TcpStream::connect(gateway).await.unwrap();
    soon(async { while socket.write_all(bytes).await.is_ok() {} }).await;
    begin.elapsed()
}

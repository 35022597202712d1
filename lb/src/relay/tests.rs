//! What each side may expect of the other, over real sockets.

mod each_end;
mod kernel;
mod pump;
mod slow;
mod times;
mod upstreams;

use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, duplex, repeat, sink,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::clock::{NEVER, WakeReason};
use super::course::TO_CLIENT;
use super::pump::{BUFFERS_A_TURN, Pump, PumpEvent};
use super::*;
use crate::cause::FailureCause;
use crate::dial::{DialReport, dial};
use crate::group::UpstreamGroup;
use crate::group_config::{GroupConfig, HealthConfig, OnDown, UpstreamConfig};
use crate::health::UpstreamHealth;
use crate::probe_kind::ProbeKind;
use crate::tcp;

const BOUND: Duration = Duration::from_secs(20);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (near, far)
}

/// A client and an upstream with a relay between them.
struct World {
    client: TcpStream,
    upstream: TcpStream,
    traffic: Arc<Traffic>,
    relay: JoinHandle<Result<RelayEnd, RelayError>>,
}

impl World {
    async fn new(config: RelayConfig) -> Self {
        Self::over([pair().await, pair().await], config)
    }

    fn over(pairs: [(TcpStream, TcpStream); 2], config: RelayConfig) -> Self {
        let [(client, mut downstream), (mut near, upstream)] = pairs;
        let traffic = Arc::new(Traffic::new());
        let counted = Arc::clone(&traffic);
        let relay = TaskTracker::new()
            .spawn(async move { relay(&mut downstream, &mut near, &config, &counted).await });
        Self {
            client,
            upstream,
            traffic,
            relay,
        }
    }

    async fn quiet() -> Self {
        Self::new(RelayConfig::default()).await
    }

    async fn ended(self) -> (Result<RelayEnd, RelayError>, u64, u64) {
        let ended = timeout(BOUND, self.relay).await.unwrap().unwrap();
        (ended, self.traffic.sent(), self.traffic.received())
    }
}

async fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(BOUND, stream.read_to_end(&mut bytes))
        .await
        .unwrap()?;
    Ok(bytes)
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(BOUND, stream.read_exact(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    bytes
}

async fn expect_reset(stream: &mut TcpStream) {
    let reset = read_to_end(stream).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_that_has_said_everything_still_gets_its_answer() {
    let mut world = World::quiet().await;
    world.client.write_all(b"question").await.unwrap();
    world.client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut world.upstream).await.unwrap(), b"question");
    world.upstream.write_all(b"the answer").await.unwrap();
    world.upstream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut world.client).await.unwrap(), b"the answer");
    assert!(matches!(world.ended().await, (Ok(RelayEnd::Both), 10, 8)));
}

#[tokio::test]
async fn an_upstream_that_has_said_everything_still_listens() {
    let mut world = World::quiet().await;
    world.upstream.write_all(b"greeting").await.unwrap();
    world.upstream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut world.client).await.unwrap(), b"greeting");
    world.client.write_all(b"thanks").await.unwrap();
    world.client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut world.upstream).await.unwrap(), b"thanks");
    assert!(matches!(world.ended().await, (Ok(RelayEnd::Both), 8, 6)));
}

#[tokio::test]
async fn a_reset_by_the_upstream_is_a_reset_for_the_client_and_no_clean_end() {
    let mut world = World::quiet().await;
    world.upstream.write_all(b"half of the ans").await.unwrap();
    assert_eq!(read(&mut world.client, 15).await, b"half of the ans");
    world.upstream.set_zero_linger().unwrap();
    drop(world.upstream);
    expect_reset(&mut world.client).await;
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::Upstream(_))), "{ended:?}");
    assert_eq!(
        world.traffic.sent(),
        15,
        "what was relayed before is counted"
    );
}

#[tokio::test]
async fn a_reset_by_the_client_is_a_reset_for_the_upstream() {
    let mut world = World::quiet().await;
    world.client.write_all(b"half of the que").await.unwrap();
    assert_eq!(read(&mut world.upstream, 15).await, b"half of the que");
    world.client.set_zero_linger().unwrap();
    drop(world.client);
    expect_reset(&mut world.upstream).await;
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::Downstream(_))), "{ended:?}");
    assert_eq!(world.traffic.received(), 15);
}

#[tokio::test]
async fn a_relay_that_is_cut_off_resets_both_sides_and_has_counted_every_byte() {
    let mut world = World::quiet().await;
    world.client.write_all(&[1; 1000]).await.unwrap();
    read(&mut world.upstream, 1000).await;
    world.upstream.write_all(&[2; 300]).await.unwrap();
    read(&mut world.client, 300).await;
    world.relay.abort();
    expect_reset(&mut world.client).await;
    expect_reset(&mut world.upstream).await;
    assert_eq!(
        (world.traffic.sent(), world.traffic.received()),
        (300, 1000)
    );
}

#[tokio::test]
async fn much_traffic_both_ways_arrives_whole_and_is_counted_to_the_byte() {
    const LENGTH: usize = 8 * 1024 * 1024 + 7;
    let bytes: Vec<u8> = (0..LENGTH)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let World {
        client,
        upstream,
        traffic,
        relay,
    } = World::quiet().await;
    let exchange = |stream: TcpStream| {
        let bytes = bytes.clone();
        async move {
            let (mut reader, mut writer) = stream.into_split();
            let write = async {
                writer.write_all(&bytes).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
            read.unwrap();
            assert!(received == bytes, "what arrives is what was sent");
        }
    };
    let both = async { tokio::join!(exchange(client), exchange(upstream)) };
    timeout(BOUND, both).await.unwrap();
    assert_eq!(
        timeout(BOUND, relay).await.unwrap().unwrap().unwrap(),
        RelayEnd::Both
    );
    assert_eq!(
        (traffic.sent(), traffic.received()),
        (LENGTH as u64, LENGTH as u64)
    );
}

#[tokio::test]
async fn a_connection_that_is_silent_for_too_long_is_reset() {
    let idle = Some(Duration::from_mins(5));
    let mut world = World::new(RelayConfig {
        idle,
        ..RelayConfig::default()
    })
    .await;
    world.client.write_all(b"hello").await.unwrap();
    read(&mut world.upstream, 5).await;
    tokio::time::pause();
    let before = Instant::now();
    let ended = (&mut world.relay).await.unwrap();
    assert!(matches!(ended, Err(RelayError::Idle)), "{ended:?}");
    assert!(
        before.elapsed() <= Duration::from_secs(301),
        "{:?}",
        before.elapsed()
    );
    tokio::time::resume();
    expect_reset(&mut world.client).await;
    expect_reset(&mut world.upstream).await;
}

#[tokio::test]
async fn a_connection_that_moves_now_and_then_is_not_silent() {
    let mut world = World::new(RelayConfig {
        idle: Some(Duration::from_mins(5)),
        ..RelayConfig::default()
    })
    .await;
    tokio::time::pause();
    for _ in 0..4 {
        world.client.write_all(b"client").await.unwrap();
        read(&mut world.upstream, 6).await;
        tokio::time::sleep(Duration::from_mins(3)).await;
        world.upstream.write_all(b"upstream").await.unwrap();
        read(&mut world.client, 8).await;
        tokio::time::sleep(Duration::from_mins(3)).await;
    }
    assert!(!world.relay.is_finished());
    let ended = (&mut world.relay).await.unwrap();
    assert!(matches!(ended, Err(RelayError::Idle)), "{ended:?}");
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_reset() {
    let lifetime = Some(Duration::from_hours(1));
    let config = RelayConfig {
        idle: None,
        lifetime,
        ..RelayConfig::default()
    };
    let mut world = World::new(config).await;
    tokio::time::pause();
    let ended = (&mut world.relay).await.unwrap();
    assert!(matches!(ended, Err(RelayError::Lifetime)), "{ended:?}");
    tokio::time::resume();
    expect_reset(&mut world.client).await;
}

#[test]
fn traffic_puts_idleness_off_but_not_the_end_of_the_lifetime() {
    let second = Duration::from_secs(1);
    let config = RelayConfig {
        idle: Some(10 * second),
        lifetime: Some(100 * second),
        lifetime_jitter: 0.1,
        ..RelayConfig::default()
    };
    let start = Instant::now();
    let at = |seconds| start + seconds * second;
    let open = ends::rule(SideState::default(), SideState::default());
    let mut clock = RelayClock::new(&config, open, start, 0.0);
    assert_eq!(clock.next(), at(10), "idle, and time to set keepalive");
    clock.moved(at(7));
    assert_eq!(clock.due(at(10)), Some(WakeReason::Settled));
    assert_eq!(clock.due(at(10)), None);
    assert_eq!(clock.next(), at(17));
    assert_eq!(clock.due(at(17)), Some(WakeReason::Silence));
    clock.moved(at(95));
    assert_eq!(clock.next(), at(100));
    assert_eq!(clock.due(at(100)), Some(WakeReason::Lifetime));

    let mut shortened = RelayClock::new(&config, open, start, 1.0);
    shortened.moved(at(90));
    assert_eq!(
        shortened.due(at(90)),
        Some(WakeReason::Lifetime),
        "chance only shortens"
    );
    let unbounded = RelayConfig {
        idle: None,
        lifetime: None,
        ..config
    };
    let mut clock = RelayClock::new(&unbounded, open, start, 0.5);
    clock.due(at(10));
    assert_eq!(clock.next(), start + NEVER);
}

#[tokio::test]
async fn a_relay_is_a_small_future() {
    let ((mut downstream, _client), (mut upstream, _server)) = (pair().await, pair().await);
    let (config, traffic) = (RelayConfig::default(), Traffic::new());
    let size = size_of_val(&relay(&mut downstream, &mut upstream, &config, &traffic));
    assert!(size <= 768, "{size} bytes");
}

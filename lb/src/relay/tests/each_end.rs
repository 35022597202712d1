//! Each cell of the table of connection ends, over real sockets.

use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::ReadBuf;
use tokio::time::sleep;

use super::*;
use crate::ends::LINGER;
use crate::relay::clock::{DeliveryProgress, DeliveryState};

const SHORT: Option<Duration> = Some(Duration::from_millis(200));
/// More than goes in one piece, and less than the kernel holds for a peer that does not read.
const MUCH: usize = 200_000;

/// A client's stream whose end on the socket is announced, or not; a nudge is one byte.
struct Framed {
    socket: TcpStream,
    announced: bool,
}

impl Downstream for Framed {
    fn abort(&mut self) {
        Downstream::abort(&mut self.socket);
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn nudge(&mut self, _: &mut Context<'_>) {
        self.socket.try_write(b".").ok();
    }
}

impl AsyncRead for Framed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, room);
        match read {
            Poll::Ready(Ok(())) if room.filled().len() == before && !self.announced => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            read @ (Poll::Ready(_) | Poll::Pending) => read,
        }
    }
}

impl AsyncWrite for Framed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A world whose client's ends are announced, or not.
async fn framed(announced: bool, config: RelayConfig) -> World {
    let ((client, socket), (mut near, upstream)) = (pair().await, pair().await);
    let traffic = Arc::new(Traffic::new());
    let counted = Arc::clone(&traffic);
    let mut downstream = Framed { socket, announced };
    let relay = TaskTracker::new()
        .spawn(async move { relay(&mut downstream, &mut near, &config, &counted).await });
    World {
        client,
        upstream,
        traffic,
        relay,
    }
}

/// Waits until the peer's kernel has everything that was written.
async fn arrived(stream: &TcpStream) {
    let arrives = async {
        while tcp::queued(stream.as_fd()) != Some(0) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(BOUND, arrives).await.unwrap();
}

/// What can be read until a reset.
async fn read_until_reset(stream: &mut TcpStream) -> usize {
    let (mut all, mut bytes) = (0, vec![0; 16 * 1024]);
    loop {
        match timeout(BOUND, stream.read(&mut bytes)).await.unwrap() {
            Ok(0) => panic!("that is no reset"),
            Ok(read) => all += read,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                return all;
            }
        }
    }
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

#[tokio::test]
async fn what_a_client_sent_before_it_broke_off_arrives_and_then_the_upstream_sees_a_reset() {
    for resets in [true, false] {
        let mut world = framed(false, RelayConfig::default()).await;
        world.client.write_all(&vec![7; MUCH]).await.unwrap();
        arrived(&world.client).await;
        if resets {
            reset(world.client);
        } else {
            drop(world.client);
        }
        // The upstream reads only now, and slowly enough that the relay has to wait for it.
        sleep(Duration::from_millis(50)).await;
        assert_eq!(read_until_reset(&mut world.upstream).await, MUCH);
        let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
        assert!(matches!(ended, Err(RelayError::Downstream(_))), "{ended:?}");
        assert_eq!(world.traffic.received(), MUCH as u64);
    }
}

#[tokio::test]
async fn what_an_upstream_sent_before_it_broke_off_arrives_and_then_the_client_sees_a_reset() {
    let mut world = World::quiet().await;
    world.upstream.write_all(&vec![7; MUCH]).await.unwrap();
    arrived(&world.upstream).await;
    reset(world.upstream);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(read_until_reset(&mut world.client).await, MUCH);
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::Upstream(_))), "{ended:?}");
}

#[tokio::test]
async fn an_upstream_that_refuses_the_rest_of_a_request_is_still_heard() {
    let mut world = World::quiet().await;
    world.client.write_all(b"a long request").await.unwrap();
    world.upstream.write_all(b"it is too long").await.unwrap();
    arrived(&world.upstream).await;
    world.upstream.peek(&mut [0]).await.unwrap();
    // It has read nothing, so that its end is a reset.
    drop(world.upstream);
    world.client.write_all(b"and more of it").await.ok();
    assert_eq!(read_until_reset(&mut world.client).await, 14);
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::Upstream(_))), "{ended:?}");
}

#[tokio::test]
async fn an_upstream_that_neither_reads_nor_ends_holds_a_lost_clients_bytes_only_so_long() {
    let config = RelayConfig {
        half_closed: SHORT,
        ..RelayConfig::default()
    };
    let mut world = World::new(config).await;
    let writes = async { while world.client.write_all(&[7; 16_384]).await.is_ok() {} };
    timeout(Duration::from_millis(300), writes).await.ok();
    reset(world.client);
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::Downstream(_))), "{ended:?}");
    drop(world.upstream);
}

#[tokio::test]
async fn a_client_that_closed_its_write_side_without_a_word_gets_what_is_on_its_way() {
    let mut world = framed(false, RelayConfig::default()).await;
    world.client.write_all(&vec![7; MUCH]).await.unwrap();
    world.client.shutdown().await.unwrap();
    let echo = async {
        let (mut echoed, mut bytes) = (0, vec![0; 16 * 1024]);
        while echoed < MUCH {
            let read = world.upstream.read(&mut bytes).await.unwrap();
            world.upstream.write_all(&bytes[..read]).await.unwrap();
            echoed += read;
        }
    };
    let ((), mut heard) = tokio::join!(echo, read(&mut world.client, MUCH));
    heard.retain(|byte| *byte == 7);
    assert!(heard.len() + 1 >= MUCH, "a nudge may be among them");
    tokio::time::pause();
    assert!(read_until_reset(&mut world.client).await <= 1);
    assert_eq!(
        read_until_reset(&mut world.upstream).await,
        0,
        "no clean end"
    );
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::Downstream(_))), "{ended:?}");
}

#[tokio::test]
async fn an_answer_to_a_client_that_closed_its_write_side_without_a_word_may_take_a_moment() {
    let mut world = framed(false, RelayConfig::default()).await;
    world.client.write_all(b"question").await.unwrap();
    world.client.shutdown().await.unwrap();
    assert_eq!(read(&mut world.upstream, 8).await, b"question");
    sleep(Duration::from_millis(500)).await;
    world.upstream.write_all(b"the answer").await.unwrap();
    let heard = read(&mut world.client, 11).await;
    assert_eq!(heard, b".the answer", "behind a nudge");
}

#[tokio::test]
async fn a_client_that_said_goodbye_and_is_gone_waits_for_no_stuck_upstream() {
    let mut world = framed(true, RelayConfig::default()).await;
    world.client.write_all(b"question").await.unwrap();
    assert_eq!(read(&mut world.upstream, 8).await, b"question");
    tokio::time::pause();
    let begun = Instant::now();
    drop(world.client);
    let ended = (&mut world.relay).await.unwrap();
    assert!(matches!(ended, Ok(RelayEnd::ClientLeft)), "{ended:?}");
    assert!(begun.elapsed() < 2 * LINGER, "{:?}", begun.elapsed());
    tokio::time::resume();
    let rest = read_to_end(&mut world.upstream).await.unwrap();
    assert!(rest.is_empty(), "the upstream sees an end in order");
}

#[tokio::test]
async fn an_upstream_that_ends_after_its_client_said_goodbye_and_left_has_finished() {
    let mut world = framed(true, RelayConfig::default()).await;
    world.client.shutdown().await.unwrap();
    assert!(read_to_end(&mut world.upstream).await.unwrap().is_empty());
    drop(world.client);
    sleep(Duration::from_millis(100)).await;
    world.upstream.write_all(b"goodbye").await.unwrap();
    world.upstream.shutdown().await.unwrap();
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Ok(RelayEnd::Both)), "{ended:?}");
}

#[tokio::test]
async fn an_upstream_that_floods_a_client_which_left_is_reset() {
    let mut world = framed(true, RelayConfig::default()).await;
    drop(world.client);
    let flood = async { while world.upstream.write_all(&[7; 16_384]).await.is_ok() {} };
    timeout(BOUND, flood).await.unwrap();
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::Downstream(_))), "{ended:?}");
}

#[tokio::test]
async fn half_a_connection_that_moves_nothing_is_reset() {
    let config = RelayConfig {
        half_closed: SHORT,
        ..RelayConfig::default()
    };
    for by_client in [true, false] {
        let mut world = World::new(config).await;
        let (ends, waits) = if by_client {
            (&mut world.client, &mut world.upstream)
        } else {
            (&mut world.upstream, &mut world.client)
        };
        ends.shutdown().await.unwrap();
        assert!(read_to_end(waits).await.unwrap().is_empty());
        expect_reset(ends).await;
        let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
        assert!(matches!(ended, Err(RelayError::HalfClosed)), "{ended:?}");
    }
}

#[tokio::test]
async fn half_a_connection_that_moves_goes_on() {
    let config = RelayConfig {
        half_closed: Some(Duration::from_secs(2)),
        ..RelayConfig::default()
    };
    let mut world = World::new(config).await;
    world.client.shutdown().await.unwrap();
    assert!(read_to_end(&mut world.upstream).await.unwrap().is_empty());
    for _ in 0..5 {
        sleep(Duration::from_millis(500)).await;
        world.upstream.write_all(b"a piece of it").await.unwrap();
        read(&mut world.client, 13).await;
    }
    world.upstream.shutdown().await.unwrap();
    assert!(matches!(world.ended().await, (Ok(RelayEnd::Both), 65, 0)));
}

#[tokio::test]
async fn a_side_that_takes_nothing_of_what_waits_for_it_is_reset() {
    let config = RelayConfig {
        stall: SHORT,
        ..RelayConfig::default()
    };
    for client_stalls in [true, false] {
        let mut world = World::new(config).await;
        let floods = if client_stalls {
            &mut world.upstream
        } else {
            &mut world.client
        };
        let flood = async { while floods.write_all(&[7; 16_384]).await.is_ok() {} };
        timeout(BOUND, flood).await.unwrap();
        let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
        assert!(
            matches!(ended, Err(RelayError::ClientStalled)) == client_stalls
                && matches!(ended, Err(RelayError::UpstreamStalled)) != client_stalls,
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_client_that_has_not_acknowledged_a_few_bytes_is_stalled_too() {
    let config = RelayConfig {
        stall: SHORT,
        ..RelayConfig::default()
    };
    let mut world = World::new(config).await;
    // The client's window is closed to the last byte, and the relay's buffer is empty.
    let mut written = 0;
    while let Ok(Ok(more)) = timeout(
        Duration::from_millis(50),
        world.upstream.write(&[7; 16_384]),
    )
    .await
    {
        written += more;
    }
    assert!(written > 0);
    let ended = timeout(BOUND, world.relay).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::ClientStalled)), "{ended:?}");
}

#[test]
fn whoever_takes_a_little_is_not_stalled() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let nothing_for = |seconds| DeliveryState::NothingFor(Duration::from_secs(seconds));
    let mut taking = DeliveryProgress::new(start);
    assert_eq!(taking.look(Some(100), false, at(1)), nothing_for(1));
    assert_eq!(taking.look(Some(99), true, at(2)), DeliveryState::Some);
    assert_eq!(taking.look(Some(99), true, at(5)), nothing_for(3));
    assert_eq!(taking.look(Some(0), true, at(6)), DeliveryState::Some);
    assert_eq!(taking.look(Some(0), false, at(9)), DeliveryState::All);
    // A kernel that says nothing.
    assert_eq!(taking.look(None, true, at(9)), nothing_for(3));
    let written = DeliveryState::WrittenFor(Duration::from_secs(3));
    assert_eq!(taking.look(None, false, at(9)), written);
}

#[test]
fn a_client_that_was_told_the_end_has_a_third_of_the_time() {
    let config = RelayConfig {
        half_closed: Some(Duration::from_mins(1)),
        ..RelayConfig::default()
    };
    let start = Instant::now();
    let (open, ended) = (
        SideState::default(),
        SideState {
            stream: ends::StreamState::Ended,
            gone: false,
        },
    );
    for (client, upstream, seconds) in [(ended, open, 60), (open, ended, 20)] {
        let mut clock = RelayClock::new(&config, ends::rule(open, open), start, 0.0);
        clock.enter(ends::rule(client, upstream), start);
        let end = start + Duration::from_secs(seconds);
        let just_before = end - Duration::from_millis(1);
        while let Some(due) = clock.due(just_before) {
            assert_ne!(due, WakeReason::Silence);
        }
        while clock.due(end) == Some(WakeReason::Look) {}
        assert_eq!(clock.due(end), Some(WakeReason::Silence));
    }
}

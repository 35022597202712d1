//! What the kernel is told about the sockets of a relay.

use std::os::fd::AsFd;

use socket2::{SockRef, Socket};
use tokio::time::sleep;

use super::*;
use crate::tcp;

const KIB: usize = 1024;

/// A world, and the relay's own sockets: the client's, and the upstream's.
async fn watched(config: RelayConfig) -> (World, [Socket; 2]) {
    let pairs = [pair().await, pair().await];
    let [clients, upstreams] = &pairs;
    let sockets = [&clients.1, &upstreams.0];
    let sockets = sockets.map(|socket| SockRef::from(socket).try_clone().unwrap());
    (World::over(pairs, config), sockets)
}

#[tokio::test(start_paused = true)]
async fn the_kernel_asks_after_silent_peers_of_a_connection_that_has_lasted_ten_seconds() {
    for (keepalive, settled) in [(60, 10_000), (4, 4000)] {
        let (keepalive, settled) = (
            Duration::from_secs(keepalive),
            Duration::from_millis(settled),
        );
        let (_world, sockets) = watched(RelayConfig {
            keepalive,
            ..RelayConfig::default()
        })
        .await;
        let are_asked = || sockets.each_ref().map(|socket| socket.keepalive().unwrap());
        let moment = Duration::from_millis(100);
        sleep(settled.saturating_sub(moment)).await;
        assert_eq!(are_asked(), [false; 2], "most connections are shorter");
        sleep(2 * moment).await;
        assert_eq!(are_asked(), [true; 2]);
        for socket in &sockets {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive);
        }
    }
}

#[tokio::test]
async fn the_kernel_holds_little_that_was_not_sent_of_what_moves_much() {
    let (mut world, [client, upstream]) = watched(RelayConfig::default()).await;
    let bounds = || [&client, &upstream].map(|socket| socket.tcp_notsent_lowat().unwrap());
    let [unbounded, _] = bounds();
    let bound = 128 * 1024;
    for (length, told) in [(KIB, [unbounded; 2]), (256 * KIB, [bound, unbounded])] {
        let bytes = vec![7; length];
        let write = world.upstream.write_all(&bytes);
        let (written, _) = tokio::join!(write, read(&mut world.client, length));
        written.unwrap();
        assert_eq!(bounds(), told);
    }
    let bytes = vec![7; 256 * KIB];
    let write = world.client.write_all(&bytes);
    let (written, _) = tokio::join!(write, read(&mut world.upstream, 256 * KIB));
    written.unwrap();
    assert_eq!(bounds(), [bound; 2]);
}

#[tokio::test]
async fn the_kernel_holds_little_of_what_an_upstream_sends_to_a_client_that_does_not_read() {
    let (mut world, [_, upstream]) = watched(RelayConfig::default()).await;
    let (other, _far) = pair().await;
    tcp::bound_unread(other.as_fd());
    let bound = SockRef::from(&other).recv_buffer_size().unwrap();
    assert_ne!(upstream.recv_buffer_size().unwrap(), bound);
    let flood = async { while world.upstream.write_all(&[7; 16_384]).await.is_ok() {} };
    let told = async {
        while upstream.recv_buffer_size().unwrap() != bound {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let told = timeout(BOUND, async {
        tokio::select! { () = told => {}, () = flood => panic!("the relay goes on") }
    });
    told.await.unwrap();
}

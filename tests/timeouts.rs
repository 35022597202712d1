//! Nothing lasts for ever unless it was granted for ever.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Refusal, Upstream, World, soon, source_of};

#[tokio::test]
async fn a_client_that_never_speaks_is_gone_at_the_handshakes_time_limit() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("timeouts: {handshake: 200ms}");
    let gateway = world.start().await;

    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    let mut halting = TcpStream::connect(gateway.address).await.unwrap();
    halting.write_all(&[0x16, 0x03, 0x01]).await.unwrap();

    let mut nothing = Vec::new();
    for stream in [&mut silent, &mut halting] {
        // Closed or reset, either will do.
        drop(soon(stream.read_to_end(&mut nothing)).await);
    }
    assert!(nothing.is_empty());
    for (stream, detail) in [
        (
            &silent,
            "the client did not begin TLS in time: no bytes; if the server speaks first in this \
             protocol, configure the client to start with TLS",
        ),
        (&halting, "the TLS handshake took too long"),
    ] {
        let source = stream.local_addr().unwrap().to_string();
        let record = gateway.record(|record| source_of(record) == source).await;
        assert_eq!(record["reason"], "handshake_timeout");
        assert_eq!(record["detail"], detail);
    }
}

#[tokio::test]
async fn a_connection_without_a_byte_ends_and_one_that_moves_does_not() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("db", &[&upstream], "timeouts: {idle: 500ms}");
    let gateway = world.start().await;
    let alice = world.identity("alice");
    let mut idle = alice.visit(gateway.address, "db").await.unwrap();
    let mut busy = alice.visit(gateway.address, "db").await.unwrap();

    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let ended = loop {
        tokio::select! {
            ended = idle.end() => break ended,
            _ = beat.tick() => assert_eq!(busy.ask("beat").await.unwrap(), "a: beat"),
        }
    };

    assert_eq!(ended, Refusal::Reset);
    assert_eq!(gateway.record_of(&idle).await["reason"], "idle");
    assert_eq!(busy.ask("more").await.unwrap(), "a: more");
}

#[tokio::test]
async fn a_lifetime_ends_even_a_connection_that_moves() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("db", &[&upstream], "timeouts: {lifetime: 300ms}");
    let gateway = world.start().await;
    let mut connection = world.visit(&gateway, "alice").await;

    soon(async { while connection.ask("beat").await.is_ok() {} }).await;

    assert_eq!(gateway.record_of(&connection).await["reason"], "lifetime");
}

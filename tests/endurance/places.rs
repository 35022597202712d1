//! Limits that hold before any cryptography is done.

use std::net::SocketAddr;

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, connect_from, was_reset};
use crate::process::Gateway;
use crate::stage::Stage;
use crate::until;

/// Waits until a client is served.
async fn served(alice: &Client, gateway: SocketAddr) {
    until(async || alice.visit(gateway).await.ok()).await;
}

/// Takes out of `silent` the one that was refused for this reason. Two workers accept, so it need not
/// be the last.
async fn take_refused(
    gateway: &Gateway,
    reason: &str,
    silent: &mut Vec<io::Result<TcpStream>>,
) -> io::Result<TcpStream> {
    gateway.records_of(reason, 1).await;
    let records = gateway.records();
    let record = records.iter().find(|record| record["reason"] == reason);
    let source: SocketAddr = record.unwrap()["source"].as_str().unwrap().parse().unwrap();
    let at = silent.iter().position(|connected| {
        let socket = connected.as_ref().ok();
        socket.is_none_or(|socket| socket.local_addr().unwrap() == source)
    });
    silent.swap_remove(at.expect("it is one of them"))
}

#[tokio::test]
async fn a_source_with_too_many_handshakes_is_reset_and_others_are_served() {
    let stage = Stage::with(&["limits: {handshakes_per_source: 3}"]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(gateway.address).await);
    }

    let surplus = take_refused(&gateway, "source_handshakes_full", &mut silent).await;
    assert!(was_reset(surplus).await);
    let other = connect_from(2, gateway.address).await.unwrap();
    alice.greet(other).await.unwrap();

    drop(silent.pop());
    served(&alice, gateway.address).await;
}

#[tokio::test]
async fn too_many_handshakes_in_all_are_reset_whoever_comes() {
    let stage = Stage::with(&["limits: {handshakes: 3}"]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    let mut silent = Vec::new();
    for host in 2..6 {
        silent.push(connect_from(host, gateway.address).await);
    }

    let surplus = take_refused(&gateway, "handshakes_full", &mut silent).await;
    assert!(was_reset(surplus).await);

    drop(silent);
    served(&alice, gateway.address).await;
}

#[tokio::test]
async fn connections_over_the_gateways_limit_are_reset_until_one_ends() {
    let stage = Stage::with(&["limits: {connections: 3}"]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(alice.stay(gateway.address).await.unwrap());
    }

    let fourth = TcpStream::connect(gateway.address).await;
    assert!(was_reset(fourth).await);
    gateway.records_of("gateway_full", 1).await;

    drop(held.pop());
    served(&alice, gateway.address).await;
    let mut last = held.pop().unwrap();
    is_still_served(&mut last).await;
}

async fn is_still_served(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(b"still").await.unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still");
}

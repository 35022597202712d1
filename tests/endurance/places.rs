//! Limits that hold before any cryptography is done.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, connect_from, was_reset};
use crate::stage::Stage;
use crate::{number, soon, until};

/// Waits until a client is served.
async fn served(alice: &Client, gateway: SocketAddr) {
    until(async || alice.visit(gateway).await.ok()).await;
}

/// A client that says hello and nothing more.
async fn stall(host: u8, alice: &Client, gateway: SocketAddr) -> TcpStream {
    let mut socket = connect_from(host, gateway).await.unwrap();
    socket.write_all(&alice.hello("db")).await.unwrap();
    socket
}

/// Waits until the gateway has answered, and so holds a slot for the handshake.
async fn answered(socket: &TcpStream) {
    soon(socket.readable()).await.unwrap();
}

#[tokio::test]
async fn a_source_with_too_many_handshakes_is_reset_and_others_are_served() {
    let stage = Stage::with(&["limits: {handshakes_per_source: 3}"]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let socket = stall(1, &alice, gateway.address).await;
        answered(&socket).await;
        stalled.push(socket);
    }

    let surplus = stall(1, &alice, gateway.address).await;
    assert!(was_reset(Ok(surplus)).await);
    gateway.records_of("source_handshakes_full", 1).await;
    let other = connect_from(2, gateway.address).await.unwrap();
    alice.greet(other).await.unwrap();

    drop(stalled.pop());
    served(&alice, gateway.address).await;
}

#[tokio::test]
async fn too_many_handshakes_of_as_many_sources_are_reset_whoever_comes() {
    let stage = Stage::with(&["limits: {handshakes: 3}"]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    let mut stalled = Vec::new();
    for host in 2..5 {
        let socket = stall(host, &alice, gateway.address).await;
        answered(&socket).await;
        stalled.push(socket);
    }

    let surplus = stall(5, &alice, gateway.address).await;
    assert!(was_reset(Ok(surplus)).await);
    gateway.records_of("handshakes_full", 1).await;

    drop(stalled);
    served(&alice, gateway.address).await;
}

#[tokio::test]
async fn handshakes_that_stall_give_way_to_a_source_that_has_fewer() {
    let stage = Stage::with(&["timeouts: {handshake: 5m}", "limits: {handshakes: 8}"]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    let mut stalled = Vec::new();
    for n in 0..8 {
        let socket = stall(2 + n % 2, &alice, gateway.address).await;
        answered(&socket).await;
        stalled.push(socket);
    }

    served(&alice, gateway.address).await;

    gateway.records_of("handshake_evicted", 1).await;
}

#[tokio::test]
async fn thousands_of_silent_clients_keep_nobody_out_and_the_oldest_of_the_loudest_go() {
    let silent_clients = number("PORTCULLIS_SILENT_PER_SOURCE", 10);
    let most = 4 * silent_clients;
    let limits = format!("limits: {{silent: {most}, handshakes: 8, handshakes_per_source: 3}}");
    let stage = Stage::with(&["timeouts: {handshake: 5m}", &limits]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    let patient = connect_from(100, gateway.address).await.unwrap();
    let descriptors = gateway.descriptors();

    let mut silent = Vec::new();
    for n in 0..30 * silent_clients {
        let host = 2 + u8::try_from(n % 30).unwrap();
        silent.push(connect_from(host, gateway.address).await.unwrap());
        if n % 20 == 0 {
            alice.visit(gateway.address).await.unwrap();
        }
    }
    for _ in 0..20 {
        alice.visit(gateway.address).await.unwrap();
    }

    until(async || (gateway.descriptors() < descriptors + most).then_some(())).await;
    assert!(was_reset(Ok(silent.swap_remove(0))).await);
    let early = gateway.records().into_iter().filter(|record| {
        record["reason"] == "silent_evicted"
            && record["source_port"] == patient.local_addr().unwrap().port()
            && record["source_address"] == patient.local_addr().unwrap().ip().to_string()
    });
    assert_eq!(
        early.count(),
        0,
        "who came first and has one is not the one to go"
    );
    assert!(gateway.recorded("silent_evicted") > 0);
    assert_eq!(gateway.recorded("handshakes_full"), 0);
    alice.greet(patient).await.unwrap();
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
    assert!(was_reset(fourth).await, "before it says anything");
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

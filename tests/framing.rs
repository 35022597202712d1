//! How bytes are cut on their way changes nothing, and bytes that were changed end nothing cleanly.

use std::io::Write;

use rustls::AlertDescription::AccessDenied;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Identity, Refusal, Upstream, Wire, World, soon, until};

#[tokio::test]
async fn a_handshake_in_any_pieces_is_the_same_handshake() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let alice = world.identity("alice");

    for wire in [Wire::Straight, Wire::ByteByByte, Wire::SplitRecords] {
        let mut connection = alice.over_wire(gateway.address, "db", wire).await.unwrap();
        assert_eq!(
            connection.ask("hello").await.unwrap(),
            "a: hello",
            "{wire:?}"
        );
    }
}

#[tokio::test]
async fn a_record_that_was_tampered_with_ends_nothing_cleanly() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let alice = world.identity("alice");
    let mut connection = alice
        .over_wire(gateway.address, "db", Wire::Straight)
        .await
        .unwrap();
    connection.ask("hello").await.unwrap();

    connection.tamper();
    connection.say("tampered").await.unwrap();

    let end = connection.end().await;
    assert!(!matches!(end, Refusal::Closed), "{end:?}");
    until(async || (upstream.broken() == 1).then_some(())).await;
    assert_eq!(
        gateway.record_of(&connection).await["reason"],
        "client_broke_off"
    );
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_is_told_so_and_not_cut_off_before_it_can_read_it() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let alice = world.identity("alice");
    let mut connection = alice
        .over_wire(gateway.address, "db", Wire::Straight)
        .await
        .unwrap();
    connection.ask("hello").await.unwrap();

    connection.tamper();
    for _ in 0..4 {
        // Records behind the bad one stay unread.
        connection.say(&"x".repeat(16_000)).await.unwrap();
    }

    let mut told = Vec::new();
    let end = soon(connection.socket().read_to_end(&mut told)).await;
    end.expect("an end and no reset");
    assert_eq!(told.len(), 5 + 2 + 1 + 16, "a sealed alert");
}

/// A socket that is closed while bytes are unread resets, and a reset can overtake the alert.
#[tokio::test]
async fn a_refused_client_that_goes_on_talking_is_still_told_why() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut session = world.identity("mallory").session("db");
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let mut flight = Vec::new();
    session.write_tls(&mut flight).unwrap();
    socket.write_all(&flight).await.unwrap();
    while session.is_handshaking() {
        let mut bytes = [0; 4096];
        let read = soon(socket.read(&mut bytes)).await.unwrap();
        session.read_tls(&mut &bytes[..read]).unwrap();
        session.process_new_packets().unwrap();
    }

    session.writer().write_all(&vec![0; 32 * 1024]).unwrap();
    flight.clear();
    while session.wants_write() {
        session.write_tls(&mut flight).unwrap();
    }
    socket.write_all(&flight).await.unwrap();

    let mut answer = Vec::new();
    let ended = soon(socket.read_to_end(&mut answer)).await;
    ended.expect("the end is no reset");
    session.read_tls(&mut answer.as_slice()).unwrap();
    assert_eq!(
        session.process_new_packets().unwrap_err(),
        rustls::Error::AlertReceived(AccessDenied)
    );
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn the_suite_is_what_processors_do_best_unless_the_clients_does_not() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let gateway = world.start().await;
    let alice = world.authority.client("alice").unwrap();
    let [a128, a256, chacha] = [
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ];
    for (offered, agreed) in [
        (&[a256, a128, chacha][..], a128),
        (&[a256, chacha], a256),
        (&[chacha, a256, a128], chacha),
        (&[a256], a256),
    ] {
        let client = Identity::preferring(&alice, offered);
        let connection = client.visit(gateway.address, "db").await.unwrap();
        assert_eq!(connection.suite(), agreed.suite());
    }
}

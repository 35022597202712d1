//! How bytes are cut on their way changes nothing, and bytes that were changed end nothing cleanly.

use crate::harness::{Refusal, Upstream, Wire, World, until};

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
async fn no_ticket_is_given_and_no_handshake_is_shortened() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let alice = world.identity("alice");

    for _ in 0..3 {
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        assert_eq!(connection.ask("more").await.unwrap(), "a: more");
        assert_eq!(connection.handshake(), rustls::HandshakeKind::Full);
        assert_eq!(connection.tickets(), 0);
    }
}

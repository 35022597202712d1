//! A ticket spares a client its certificate and nothing else.

use std::io::Write;

use certgen::{Authority, AuthoritySpec, LeafSpec};
use rustls::AlertDescription::{AccessDenied, CertificateExpired, CertificateRevoked, UnknownCA};
use rustls::{ClientConnection, HandshakeKind};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Gateway, Identity, Refusal, Returning, Upstream, World, soon, source_of};
use crate::revocation::revoke;

/// How a client is served that goes there.
async fn visit(client: &Returning, gateway: &Gateway, sni: &str) -> Result<HandshakeKind, Refusal> {
    let connection = client.visit(gateway.address, sni).await?;
    Ok(connection.handshake())
}

const FULL: Result<HandshakeKind, Refusal> = Ok(HandshakeKind::Full);
const RESUMED: Result<HandshakeKind, Refusal> = Ok(HandshakeKind::Resumed);

/// A world in which alice has a ticket for `db`.
async fn world(upstream: &Upstream) -> (World, Gateway, Returning) {
    let mut world = World::with_db(&[upstream]);
    world.group("queue", &[upstream], "");
    world.client("alice", "groups: [db, queue]");
    let gateway = world.start().await;
    let alice = world.identity("alice").returning();
    assert_eq!(visit(&alice, &gateway, "db").await, FULL);
    (world, gateway, alice)
}

#[tokio::test]
async fn who_comes_again_is_resumed_and_recorded_as_ever() {
    let upstream = Upstream::start("a").await;
    let (_world, gateway, alice) = world(&upstream).await;
    for _ in 0..3 {
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        assert_eq!(connection.handshake(), HandshakeKind::Resumed);
        assert_eq!(connection.tickets(), 1);
        connection.finish().await;
        connection.end().await;
        let record = gateway.record_of(&connection).await;
        assert_eq!(record["resumed"], true);
        assert_eq!(record["client"], "alice");
        assert_eq!(record["group"], "db");
        assert_eq!(record["reason"], "finished");
        assert!(record["certificate"].is_string());
    }
}

#[tokio::test]
async fn limits_hold_for_whoever_is_resumed() {
    let upstream = Upstream::start("a").await;
    let (mut world, mut gateway, alice) = world(&upstream).await;
    world.client("alice", "groups: [db], max_connections: 1");
    gateway.reload(&world).await;
    let held = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(held.handshake(), HandshakeKind::Resumed);
    assert_eq!(visit(&alice, &gateway, "db").await, Err(Refusal::Reset));
    gateway.record_with("client_connections").await;
}

#[tokio::test]
async fn a_reload_that_does_not_concern_a_client_leaves_it_its_ticket() {
    let upstream = Upstream::start("a").await;
    let (mut world, mut gateway, alice) = world(&upstream).await;
    world.client("bob", "groups: [queue]");
    gateway.reload(&world).await;
    assert_eq!(visit(&alice, &gateway, "db").await, RESUMED);
}

#[tokio::test]
async fn a_removed_client_is_refused_with_its_ticket() {
    let upstream = Upstream::start("a").await;
    let (mut world, mut gateway, alice) = world(&upstream).await;
    world.client("bob", "groups: [db, queue]");
    world.remove_client("alice");
    gateway.reload(&world).await;
    assert_eq!(
        visit(&alice, &gateway, "db").await,
        Err(Refusal::Alert(AccessDenied))
    );
    gateway.record_with("unknown_client").await;
}

#[tokio::test]
async fn a_client_whose_grant_was_withdrawn_is_refused_with_its_ticket() {
    let upstream = Upstream::start("a").await;
    let (mut world, mut gateway, alice) = world(&upstream).await;
    world.client("alice", "groups: [queue]");
    gateway.reload(&world).await;
    assert_eq!(
        visit(&alice, &gateway, "db").await,
        Err(Refusal::Alert(AccessDenied))
    );
    gateway.record_with("not_granted").await;
    assert_eq!(visit(&alice, &gateway, "queue").await, FULL);
}

#[tokio::test]
async fn a_ticket_of_one_name_is_nothing_under_another() {
    let upstream = Upstream::start("a").await;
    let (_world, gateway, alice) = world(&upstream).await;
    assert_eq!(visit(&alice, &gateway, "queue").await, FULL);
}

#[tokio::test]
async fn a_client_is_authorized_anew_with_its_ticket_when_its_name_leads_to_another_group() {
    let upstream = Upstream::start("a").await;
    let (mut world, mut gateway, alice) = world(&upstream).await;
    world.group("db", &[&upstream], "sni: [elsewhere]");
    world.group("queue", &[&upstream], "sni: [db]");
    gateway.reload(&world).await;
    let mut connection = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(connection.handshake(), HandshakeKind::Resumed);
    connection.finish().await;
    connection.end().await;
    assert_eq!(gateway.record_of(&connection).await["group"], "queue");

    world.client("alice", "groups: [db]");
    gateway.reload(&world).await;
    assert_eq!(
        visit(&alice, &gateway, "db").await,
        Err(Refusal::Alert(AccessDenied))
    );
    let record = gateway.record_with("not_granted").await;
    assert_eq!(record["client"], "alice", "her ticket proves it");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_with_its_ticket() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    revoke(&world, &[], 1);
    let mut gateway = world.start().await;
    let issued = world.authority.client("alice").unwrap();
    let alice = Identity::of(&world.authority, &issued).returning();
    assert_eq!(visit(&alice, &gateway, "db").await, FULL);
    assert_eq!(visit(&alice, &gateway, "db").await, RESUMED);

    revoke(&world, &[&issued], 2);
    gateway.logged("policy reloaded").await;

    assert_eq!(
        visit(&alice, &gateway, "db").await,
        Err(Refusal::Alert(CertificateRevoked))
    );
}

#[tokio::test]
async fn a_client_of_an_authority_that_is_believed_no_more_is_refused_with_its_ticket() {
    let upstream = Upstream::start("a").await;
    let (world, mut gateway, alice) = world(&upstream).await;
    let other = Authority::new(&AuthoritySpec::default()).unwrap();
    world.write("ca.crt", other.certificate_pem());
    gateway.logged("policy reloaded").await;
    assert_eq!(
        visit(&alice, &gateway, "db").await,
        Err(Refusal::Alert(UnknownCA))
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_ticket() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let not_after = OffsetDateTime::now_utc() + Duration::seconds(3);
    let spec = LeafSpec {
        not_after,
        ..LeafSpec::client("alice")
    };
    let issued = world.authority.issue(&spec).unwrap();
    let alice = Identity::of(&world.authority, &issued).returning();
    assert_eq!(visit(&alice, &gateway, "db").await, FULL);
    let mut resumed = 0;
    let refused = loop {
        match visit(&alice, &gateway, "db").await {
            Ok(HandshakeKind::Resumed) => resumed += 1,
            // In its last second.
            Ok(_) => {}
            Err(refusal) => break refusal,
        }
        assert!(OffsetDateTime::now_utc() < not_after + Duration::seconds(2));
    };
    assert_eq!(refused, Refusal::Alert(CertificateExpired));
    assert!(resumed > 0);
}

#[tokio::test]
async fn a_ticket_is_nothing_to_another_process() {
    let upstream = Upstream::start("a").await;
    let (world, gateway, alice) = world(&upstream).await;
    assert_eq!(visit(&alice, &gateway, "db").await, RESUMED);
    drop(gateway);
    let gateway = world.start().await;
    assert_eq!(visit(&alice, &gateway, "db").await, FULL);
}

/// Sends what a client has to say, and returns it.
async fn send(client: &mut ClientConnection, socket: &mut TcpStream) -> Vec<u8> {
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight).unwrap();
    }
    socket.write_all(&flight).await.unwrap();
    flight
}

/// What comes next.
async fn hear(
    client: &mut ClientConnection,
    socket: &mut TcpStream,
) -> Result<usize, rustls::Error> {
    let mut bytes = [0; 4096];
    let length = soon(socket.read(&mut bytes)).await.unwrap();
    client.read_tls(&mut &bytes[..length]).unwrap();
    Ok(client.process_new_packets()?.plaintext_bytes_to_read())
}

#[tokio::test]
async fn what_a_resumed_client_sent_is_worth_nothing_a_second_time() {
    let upstream = Upstream::start("a").await;
    let (_world, gateway, alice) = world(&upstream).await;
    let mut client = alice.session("db");
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let hello = send(&mut client, &mut socket).await;
    while client.is_handshaking() {
        hear(&mut client, &mut socket).await.unwrap();
    }
    assert_eq!(client.handshake_kind(), Some(HandshakeKind::Resumed));
    client.writer().write_all(b"transfer\n").unwrap();
    let rest = send(&mut client, &mut socket).await;
    while hear(&mut client, &mut socket).await.unwrap() == 0 {}
    let served = upstream.accepted();

    let mut replay = TcpStream::connect(gateway.address).await.unwrap();
    let source = replay.local_addr().unwrap().to_string();
    replay.write_all(&hello).await.unwrap();
    replay.write_all(&rest).await.unwrap();

    let record = gateway.record(|record| source_of(record) == source);
    let record = record.await;
    assert_eq!(record["reason"], "tls_failed", "{record:?}");
    assert!(record.get("client").is_none(), "{record:?}");
    assert_eq!(record["claimed_client"], "alice", "{record:?}");
    assert_eq!(upstream.accepted(), served);
}

/// What somebody says who has seen a client's ticket and does not know its secret.
fn without_secret(owner: &Returning) -> Vec<u8> {
    let mut hello = Vec::new();
    owner.session("db").write_tls(&mut hello).unwrap();
    // The binder, which proves that the client knows the ticket's secret, is the last of a hello.
    *hello.last_mut().unwrap() ^= 1;
    hello
}

/// All that the gateway answers to these bytes, and its record.
async fn answer(gateway: &Gateway, bytes: &[u8]) -> (Vec<u8>, serde_json::Value) {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let source = socket.local_addr().unwrap().to_string();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    soon(socket.read_to_end(&mut answer)).await.unwrap();
    drop(socket);
    let record = gateway.record(|record| source_of(record) == source);
    (answer, record.await)
}

/// A fatal `decrypt_error` before any key was agreed on.
const DECRYPT_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 51];

#[tokio::test]
async fn a_ticket_is_nothing_without_its_secret() {
    let upstream = Upstream::start("a").await;
    let (_world, gateway, alice) = world(&upstream).await;
    let served = upstream.accepted();
    let (told, record) = answer(&gateway, &without_secret(&alice)).await;
    assert_eq!(told, DECRYPT_ERROR);
    assert_eq!(record["reason"], "tls_failed", "{record:?}");
    assert!(record.get("client").is_none(), "{record:?}");
    assert_eq!(record["claimed_client"], "alice", "{record:?}");
    assert_eq!(upstream.accepted(), served);
}

#[tokio::test]
async fn a_ticket_without_its_secret_does_not_tell_what_its_owner_may_reach() {
    let upstream = Upstream::start("a").await;
    let (mut world, mut gateway, alice) = world(&upstream).await;
    let hello = without_secret(&alice);
    assert_eq!(answer(&gateway, &hello).await.0, DECRYPT_ERROR, "granted");
    world.client("alice", "groups: [queue]");
    gateway.reload(&world).await;
    assert_eq!(answer(&gateway, &hello).await.0, DECRYPT_ERROR, "withdrawn");
    world.client("bob", "groups: [queue]");
    world.remove_client("alice");
    gateway.reload(&world).await;
    assert_eq!(answer(&gateway, &hello).await.0, DECRYPT_ERROR, "unknown");
    world.remove_group("db");
    gateway.reload(&world).await;
    assert_eq!(answer(&gateway, &hello).await.0, DECRYPT_ERROR, "no group");
}

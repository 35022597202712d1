//! However a connection ends, what was taken in arrives, each side learns of it, and nothing is
//! held.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Connection, Gateway, Refusal, Upstream, World, soon, source_of, until};

const MUCH: usize = 2_000_000;

/// A listener in the place of an upstream, whose connections a test holds in its hands.
async fn bare_upstream() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A world with one group `db` of this upstream, and a client `alice` with one place.
fn world_over(upstream: SocketAddr, more: &str) -> World {
    let mut world = World::new();
    world.group_of("db", &format!("\"{upstream}\""), more);
    world.client("alice", "groups: [db], max_connections: 1");
    world
}

/// Connects as `alice`, says a word, and is at the upstream.
async fn arrive(
    world: &World,
    gateway: &Gateway,
    upstream: &TcpListener,
) -> (Connection, TcpStream) {
    let alice = world.identity("alice");
    let mut connection = alice.connect(gateway.address, "db").await.unwrap();
    connection.say("question").await.unwrap();
    let (mut far, _) = soon(upstream.accept()).await.unwrap();
    let mut heard = [0; 9];
    soon(far.read_exact(&mut heard)).await.unwrap();
    (connection, far)
}

/// Reads slowly until a reset. How much there was.
async fn read_until_reset(far: &mut TcpStream) -> usize {
    let (mut all, mut bytes) = (0, vec![0; 64 * 1024]);
    loop {
        match soon(far.read(&mut bytes)).await {
            Ok(0) => panic!("the end is no clean one"),
            Ok(read) => all += read,
            Err(_) => return all,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_a_client_sent_arrives_though_it_left_without_a_word() {
    let (upstream, address) = bare_upstream().await;
    let world = world_over(address, "");
    let gateway = world.start().await;
    let (mut connection, mut far) = arrive(&world, &gateway, &upstream).await;

    connection.say(&"x".repeat(MUCH)).await.unwrap();
    // The socket is closed, and TLS says nothing.
    let source = connection.source.to_string();
    drop(connection);

    assert_eq!(read_until_reset(&mut far).await, MUCH + 1);
    let record = gateway.record(|record| source_of(record) == source).await;
    assert_eq!(record["reason"], "client_broke_off");
    assert_eq!(record["received_bytes"], MUCH + 10);
}

#[tokio::test]
async fn a_client_that_closed_its_write_side_without_a_word_hears_the_rest() {
    let (upstream, address) = bare_upstream().await;
    let world = world_over(address, "");
    let gateway = world.start().await;
    let (mut connection, far) = arrive(&world, &gateway, &upstream).await;

    let echo = async {
        let (mut reader, mut writer) = far.into_split();
        tokio::io::copy(&mut reader, &mut writer).await.ok();
    };
    let talk = async {
        let all = "x".repeat(MUCH);
        let half = Box::pin(connection.say(&all));
        half.await.unwrap();
        connection.socket().shutdown().await.unwrap();
        assert_eq!(connection.hear().await.unwrap().len(), MUCH);
        connection.end().await
    };
    let (ended, ()) = soon(async { tokio::join!(talk, echo) }).await;

    assert_eq!(ended, Refusal::Reset);
    let record = gateway.record_of(&connection).await;
    assert_eq!(record["reason"], "client_broke_off");
}

#[tokio::test]
async fn an_upstream_of_a_killed_gateway_sees_a_reset_and_no_end() {
    let (upstream, address) = bare_upstream().await;
    let world = world_over(address, "");
    let gateway = world.start().await;
    let (mut connection, mut far) = arrive(&world, &gateway, &upstream).await;
    connection.say("half of an upload").await.unwrap();
    soon(far.read_exact(&mut [0; 18])).await.unwrap();

    gateway.signal("KILL");

    let end = soon(far.read(&mut [0])).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// Ways to go while the upstream neither reads nor ends.
#[derive(Debug, Clone, Copy)]
enum Goes {
    Reset,
    Fin,
    Goodbye,
    GoodbyeAndReset,
}

#[tokio::test]
async fn whoever_is_gone_holds_no_place_at_a_stuck_upstream() {
    let each = [
        (Goes::Reset, "client_broke_off"),
        (Goes::Fin, "client_broke_off"),
        (Goes::Goodbye, "client_left"),
        (Goes::GoodbyeAndReset, "client_left"),
    ]
    .map(|(how, reason)| async move {
        let (upstream, address) = bare_upstream().await;
        let world = world_over(address, "timeouts: {half_closed: unlimited}");
        let gateway = world.start().await;
        let (mut connection, _far) = arrive(&world, &gateway, &upstream).await;
        let source = connection.source.to_string();
        if matches!(how, Goes::Goodbye | Goes::GoodbyeAndReset) {
            connection.say_goodbye().await;
        }
        if matches!(how, Goes::Reset | Goes::GoodbyeAndReset) {
            connection.socket().reset();
        }
        drop(connection);
        let record = gateway.record(|record| source_of(record) == source).await;
        assert_eq!(record["reason"], reason, "{how:?}");
        // The place is free again.
        arrive(&world, &gateway, &upstream).await;
    });
    let [reset, fin, goodbye, both] = each;
    tokio::join!(reset, fin, goodbye, both);
}

#[tokio::test]
async fn an_upstream_that_has_ended_is_not_held_by_a_client_that_does_not_look() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("db", &[&upstream], "timeouts: {half_closed: 300ms}");
    let gateway = world.start().await;
    let alice = world.identity("alice");
    let mut connection = alice.visit(gateway.address, "db").await.unwrap();

    connection.say("close").await.unwrap();

    let record = gateway.record_of(&connection).await;
    assert_eq!(record["reason"], "half_closed");
}

#[tokio::test]
async fn a_client_whose_upstream_never_answers_its_end_is_told_in_time() {
    let (upstream, address) = bare_upstream().await;
    let mut world = world_over(address, "");
    world.gateway_line("timeouts: {half_closed: 300ms}");
    let gateway = world.start().await;
    let (mut connection, _far) = arrive(&world, &gateway, &upstream).await;

    connection.finish().await;

    assert_eq!(connection.end().await, Refusal::Reset);
    let record = gateway.record_of(&connection).await;
    assert_eq!(record["reason"], "half_closed");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_what_waits_for_it_is_reset() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("db", &[&upstream], "timeouts: {stall: 300ms}");
    let gateway = world.start().await;
    let alice = world.identity("alice");
    let mut connection = alice.visit(gateway.address, "db").await.unwrap();

    connection.say("flood").await.unwrap();

    let record = gateway.record_of(&connection).await;
    assert_eq!(record["reason"], "stalled");
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.contains("client"), "{detail}");
    until(async || (upstream.broken() == 1).then_some(())).await;
}

#[tokio::test]
async fn clients_of_an_upstream_that_goes_down_are_told_if_the_group_wants_that() {
    for on_down in ["cut", "keep"] {
        let upstream = Upstream::start("a").await;
        let mut world = World::with_db(&[&upstream]);
        let health = format!(
            "health: {{interval: 20ms, timeout: 1s, rise: 1, fall: 2, on_down: {on_down}}}"
        );
        world.group("db", &[&upstream], &health);
        let gateway = world.start().await;
        let alice = world.identity("alice");
        let mut connection = until(async || alice.visit(gateway.address, "db").await.ok()).await;

        // Probes fail, and the connection is as good as it was.
        upstream.accept_no_more().await;

        if on_down == "cut" {
            assert_eq!(connection.end().await, Refusal::Reset);
            let record = gateway.record_of(&connection).await;
            assert_eq!(record["reason"], "upstream_down");
            continue;
        }
        until(async || alice.visit(gateway.address, "db").await.err()).await;
        assert_eq!(
            connection.ask("still there").await.unwrap(),
            "a: still there"
        );
    }
}

#[tokio::test]
async fn an_upstream_that_accepts_and_ends_at_once_gets_few_clients() {
    let (bad, address) = bare_upstream().await;
    let ends = tokio::task::spawn(async move { while bad.accept().await.is_ok() {} });
    let good = Upstream::start("good").await;
    let mut world = World::new();
    let both = format!("\"{address}\", \"{}\"", good.address());
    world.group_of("db", &both, "");
    world.client("alice", "groups: [db]");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    let mut served = 0;
    for _ in 0..20 {
        served += usize::from(alice.visit(gateway.address, "db").await.is_ok());
    }

    assert!(served >= 15, "{served} of 20");
    ends.abort();
}

#[tokio::test]
async fn no_group_asks_silent_peers_less_often_than_the_gateway_allows() {
    let (_upstream, address) = bare_upstream().await;
    let mut world = world_over(address, "timeouts: {keepalive: 2m}");
    world.write_policy();
    let check = async || {
        let checked = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("check")
            .arg(world.path("policy.yaml"))
            .output();
        soon(checked).await.unwrap()
    };
    let refused = check().await;
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned()
        + &String::from_utf8_lossy(&refused.stdout);
    assert!(told.contains("`keepalive` of this group"), "{told}");

    world.gateway_line("timeouts: {keepalive: 3m}");
    world.write_policy();
    let checked = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("check")
        .arg(world.path("policy.yaml"))
        .output();
    assert!(soon(checked).await.unwrap().status.success());
}

//! An upstream takes connections once it has passed, none when it fails, and again when it is back.

use crate::harness::{Refusal, Upstream, World, until};

const FAST: &str = "health: {check: tcp, interval: 50ms, timeout: 1s, rise: 2, fall: 2}";

#[tokio::test]
async fn an_upstream_that_dies_is_left_out_and_one_that_comes_back_is_taken_in() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let mut world = World::with_db(&[]);
    world.group("db", &[&a, &b], FAST);
    let mut gateway = world.start().await;
    for _ in 0..2 {
        gateway.logged("upstream is up").await;
    }

    let address = a.die().await;
    gateway.logged("upstream is down").await;
    let alice = world.identity("alice");
    for _ in 0..4 {
        assert_eq!(
            alice
                .visit(gateway.address, "db")
                .await
                .unwrap()
                .upstream()
                .await,
            "b"
        );
    }

    let _a = Upstream::start_at("a", address).await;
    gateway.logged("upstream is up").await;
    until(async || {
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        (connection.upstream().await == "a").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failed_dial_moves_on_to_the_next_upstream() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let world = World::with_db(&[&a, &b]);
    let gateway = world.start().await;
    a.die().await;

    let alice = world.identity("alice");
    for _ in 0..6 {
        assert_eq!(
            alice
                .visit(gateway.address, "db")
                .await
                .unwrap()
                .upstream()
                .await,
            "b"
        );
    }
}

#[tokio::test]
async fn a_group_with_no_healthy_upstream_refuses_at_once() {
    let gone = Upstream::start("gone").await;
    let mut world = World::with_db(&[&gone]);
    world.group("db", &[&gone], "health: {check: tcp, interval: 1h}");
    gone.die().await;
    let gateway = world.start().await;

    let refused = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap_err();
    assert_eq!(refused, Refusal::Reset);
    let record = gateway.record_with("none_healthy").await;
    assert_eq!(record["tries"], 0, "nobody was asked");
}

#[tokio::test]
async fn try_all_tries_upstreams_that_are_down() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[]);
    // The probe wants an answer that never comes; the upstream itself is fine.
    let health = "health: {check: {send: \"ping\\n\", expect: \"pong\"}, interval: 50ms, fall: 1}";
    world.group(
        "db",
        &[&upstream],
        &format!("{health}, when_all_down: try_all"),
    );
    let mut gateway = world.start().await;
    gateway.logged("upstream is down").await;

    let mut connection = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    assert_eq!(connection.upstream().await, "a");
}

#[tokio::test]
async fn a_probe_may_ask_for_an_answer() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[]);
    let health = "health: {check: {send: \"ping\\n\", expect: \"a: ping\"}, interval: 50ms}";
    world.group("db", &[&upstream], health);
    let mut gateway = world.start().await;

    gateway.logged("upstream is up").await;
    world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upstream_that_is_drained_keeps_its_connections_and_gets_no_new_ones() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let mut world = World::with_db(&[&a]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut early = alice.visit(gateway.address, "db").await.unwrap();

    let upstreams = format!(
        "{{address: \"{}\", state: drain}}, \"{}\"",
        a.address(),
        b.address()
    );
    world.group_of("db", &upstreams, "");
    gateway.reload(&world).await;

    for _ in 0..4 {
        assert_eq!(
            alice
                .visit(gateway.address, "db")
                .await
                .unwrap()
                .upstream()
                .await,
            "b"
        );
    }
    assert_eq!(early.upstream().await, "a");
}

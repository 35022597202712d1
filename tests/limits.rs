//! A client gets as many connections, and as often, as it is granted.

use crate::harness::{Refusal, Upstream, World};

#[tokio::test]
async fn a_client_over_its_connections_is_refused_until_one_of_them_ends() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.client("alice", "groups: [db], max_connections: 2");
    world.client("bob", "groups: [db]");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    let mut first = alice.visit(gateway.address, "db").await.unwrap();
    let _second = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(
        alice.visit(gateway.address, "db").await.unwrap_err(),
        Refusal::Reset
    );
    gateway.record_with("client_connections").await;
    world.visit(&gateway, "bob").await;

    first.finish().await;
    assert_eq!(first.hear().await.unwrap(), "bye");
    gateway.record_of(&first).await;
    alice.visit(gateway.address, "db").await.unwrap();
}

#[tokio::test]
async fn a_client_over_its_rate_is_refused() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.client("alice", "groups: [db], rate: 3/h");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    for _ in 0..3 {
        alice.visit(gateway.address, "db").await.unwrap();
    }
    assert_eq!(
        alice.visit(gateway.address, "db").await.unwrap_err(),
        Refusal::Reset
    );
    gateway.record_with("client_rate").await;
}

#[tokio::test]
async fn a_group_that_is_full_refuses() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("db", &[&upstream], "max_connections: 1");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    let _held = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(
        alice.visit(gateway.address, "db").await.unwrap_err(),
        Refusal::Reset
    );
    gateway.record_with("group_connections").await;
}

#[tokio::test]
async fn a_lowered_limit_refuses_new_ones_and_cuts_nobody() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(alice.visit(gateway.address, "db").await.unwrap());
    }

    world.client("alice", "groups: [db], max_connections: 1");
    gateway.reload(&world).await;

    assert_eq!(
        alice.visit(gateway.address, "db").await.unwrap_err(),
        Refusal::Reset
    );
    for connection in &mut held {
        assert_eq!(connection.ask("still").await.unwrap(), "a: still");
    }
}

#[tokio::test]
async fn counts_outlive_the_client_that_they_count() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("on_revoke: keep");
    world.client("alice", "groups: [db], max_connections: 1");
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();

    world.remove_client("alice");
    gateway.reload(&world).await;
    world.client("alice", "groups: [db], max_connections: 1");
    gateway.reload(&world).await;

    assert_eq!(held.ask("still").await.unwrap(), "a: still");
    assert_eq!(
        alice.visit(gateway.address, "db").await.unwrap_err(),
        Refusal::Reset
    );
}

#[tokio::test]
async fn a_client_may_change_its_key_now_and_then_and_not_without_end() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut alice = world.visit(&gateway, "alice").await;
    for _ in 0..20 {
        alice.refresh_key();
        assert_eq!(alice.ask("still").await.unwrap(), "a: still");
    }

    let mut sent = 0;
    while sent < 10_000 && alice.say("with data between").await.is_ok() {
        alice.refresh_key();
        sent += 1;
    }

    assert!(sent < 10_000, "it goes on for ever");
    let record = gateway.record_of(&alice).await;
    assert_eq!(record["reason"], "too_many_messages");
}

#[tokio::test]
async fn without_memory_for_more_clients_they_are_refused_and_a_reload_still_works() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();

    world.gateway_line("limits: {memory: 1MiB}");
    gateway.reload(&world).await;
    assert!(alice.visit(gateway.address, "db").await.is_err());
    gateway.record_with("memory_full").await;
    assert_eq!(held.ask("still").await.unwrap(), "a: still");

    world.forget_gateway_line("limits: {memory: 1MiB}");
    gateway.reload(&world).await;
    alice.visit(gateway.address, "db").await.unwrap();
}

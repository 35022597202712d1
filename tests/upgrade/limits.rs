//! What is counted, over all processes.

use tokio::net::TcpStream;

use super::{descriptors, echoes, is_alive, leave, world};
use crate::harness::{Refusal, Upstream, Wire, signal, until};

#[tokio::test]
async fn a_clients_limit_holds_across_both_processes() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.client("alice", "groups: [db], max_connections: 3");
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let visit = async || alice.visit(gateway.address, "db").await;
    let (one, _two) = (visit().await.unwrap(), visit().await.unwrap());
    // Three processes: the oldest is counted through the one between.
    gateway.upgrade(&[]).await.unwrap();
    let visit = async || alice.visit(gateway.address, "db").await;
    let three = visit().await.unwrap();
    assert_eq!(visit().await.unwrap_err(), Refusal::Reset);
    gateway.upgrade(&[]).await.unwrap();
    let visit = async || alice.visit(gateway.address, "db").await;
    assert_eq!(visit().await.unwrap_err(), Refusal::Reset);
    gateway.record_with("client_connections").await;

    let mut again = Vec::new();
    for connection in [one, three] {
        leave(connection).await;
        again.push(until(async || visit().await.ok()).await);
        assert_eq!(visit().await.unwrap_err(), Refusal::Reset);
    }
}

#[tokio::test]
async fn handshakes_that_wait_for_the_upgrade_get_nobody_past_a_limit() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.client("alice", "groups: [db], max_connections: 2");
    let mut gateway = world.start().await;
    let old = gateway.process();
    let alice = world.identity("alice");
    let before = descriptors(old);
    let mut parked = Vec::new();
    for _ in 0..5 {
        parked.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    until(async || (descriptors(old) == before + parked.len()).then_some(())).await;
    gateway.upgrade(&[]).await.unwrap();
    let mut new = alice.visit(gateway.address, "db").await.unwrap();

    let (mut held, mut refused) = (Vec::new(), 0);
    for socket in parked {
        let mut connection = alice.over(socket, "db", Wire::Straight).await.unwrap();
        match connection.ask("from the old process").await {
            Ok(_) => held.push(connection),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Reset);
                refused += 1;
            }
        }
    }
    assert_eq!((held.len(), refused), (1, 4), "one of two places was taken");
    assert!(is_alive(old));
    assert!(alice.visit(gateway.address, "db").await.is_err());
    // What ends here or there is free for both.
    leave(held.remove(0)).await;
    let _again = until(async || alice.visit(gateway.address, "db").await.ok()).await;
    echoes(&mut new, "still").await;
}

#[tokio::test]
async fn the_old_processes_connections_count_when_an_upstream_is_chosen() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let world = world(&[&a, &b]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(alice.visit(gateway.address, "db").await.unwrap());
    }
    // All that are left are on one upstream.
    let mut on_a = Vec::new();
    for mut connection in held {
        if connection.upstream().await == "a" {
            on_a.push(connection);
        }
    }
    until(async || (b.open() == 0).then_some(())).await;
    gateway.upgrade(&[]).await.unwrap();
    for _ in 0..3 {
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        assert_eq!(connection.upstream().await, "b");
        on_a.push(connection);
    }
}

#[tokio::test]
async fn a_process_that_is_killed_is_no_longer_counted() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.client("alice", "groups: [db], max_connections: 1");
    let mut gateway = world.start().await;
    // The first process stays.
    gateway.upgrade(&[]).await.unwrap();
    let old = gateway.process();
    let alice = world.identity("alice");
    let _held = alice.visit(gateway.address, "db").await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
    assert!(alice.visit(gateway.address, "db").await.is_err());
    signal(old, "KILL");
    until(async || alice.visit(gateway.address, "db").await.ok()).await;
}

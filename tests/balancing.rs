//! The least-loaded upstream gets the connection, exactly.

use std::collections::BTreeMap;

use crate::harness::{Upstream, World, until};

#[tokio::test]
async fn connections_that_arrive_together_are_spread_evenly() {
    let upstreams = [
        Upstream::start("a").await,
        Upstream::start("b").await,
        Upstream::start("c").await,
    ];
    let world = World::with_db(&upstreams.each_ref());
    let gateway = world.start().await;
    let alice = world.identity("alice");

    let mut visits = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (alice, address) = (alice.clone(), gateway.address);
        visits.spawn(async move { alice.visit(address, "db").await.unwrap() });
    }
    let held = visits.join_all().await;

    assert_eq!(held.len(), 30);
    assert_eq!(upstreams.each_ref().map(Upstream::open), [10, 10, 10]);
}

#[tokio::test]
async fn weight_decides_the_share_and_a_place_that_is_left_is_taken_next() {
    let (light, heavy) = (
        Upstream::start("light").await,
        Upstream::start("heavy").await,
    );
    let mut world = World::new();
    let upstreams = format!(
        "\"{}\", {{address: \"{}\", weight: 2}}",
        light.address(),
        heavy.address()
    );
    world.group_of("db", &upstreams, "");
    world.client("alice", "groups: [db]");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    let mut held = Vec::new();
    let mut counts = BTreeMap::new();
    for _ in 0..12 {
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        *counts.entry(connection.upstream().await).or_insert(0) += 1;
        held.push(connection);
    }
    assert_eq!(
        counts,
        [("heavy".to_owned(), 8), ("light".to_owned(), 4)].into()
    );

    let mut left = None;
    for mut connection in held.drain(..) {
        if left.is_none() && connection.upstream().await == "light" {
            connection.finish().await;
            assert_eq!(connection.hear().await.unwrap(), "bye");
            gateway.record_of(&connection).await;
            left = Some(connection);
        } else {
            // Held open until the end of the test.
            std::mem::drop(tokio::task::spawn(async move {
                drop(connection.end().await);
            }));
        }
    }
    until(async || (light.open() == 3).then_some(())).await;
    let mut next = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(next.upstream().await, "light");
}

#[tokio::test]
async fn a_backup_serves_only_when_no_other_can() {
    let (main, backup) = (
        Upstream::start("main").await,
        Upstream::start("backup").await,
    );
    let mut world = World::new();
    let upstreams = format!(
        "\"{}\", {{address: \"{}\", backup: true}}",
        main.address(),
        backup.address()
    );
    world.group_of("db", &upstreams, "");
    world.client("alice", "groups: [db]");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    for _ in 0..5 {
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        assert_eq!(connection.upstream().await, "main");
    }
    main.die().await;
    let mut connection = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(connection.upstream().await, "backup");
}

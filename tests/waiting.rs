//! A client with all of its connections open waits for one of them to end, if its line says so.

use tokio::task::JoinHandle;

use crate::harness::{Connection, Gateway, Identity, Refusal, Upstream, World, source_of};

/// What the gateway says when a client begins to wait.
const WAITS: &str = "a client waits for one of its connections to end";

type Visit = JoinHandle<Result<Connection, Refusal>>;

/// A world in which `alice` may have one connection, and `wait` for another.
fn world(db: &Upstream, wait: &str) -> World {
    let mut world = World::with_db(&[db]);
    world.gateway_line("admin: {socket: admin.sock}");
    limit(&mut world, 1, wait);
    world
}

fn limit(world: &mut World, most: u32, wait: &str) {
    let rules = format!("groups: [db], max_connections: {most}, when_full: {{wait: {wait}}}");
    world.client("alice", &rules);
}

/// Starts the gateway so that it tells of clients that wait.
async fn start(world: &World) -> Gateway {
    world.write_policy();
    Gateway::start_under(world, &["env", "PORTCULLIS_LOG=portcullis=debug"], 2).await
}

/// A client's visit that goes on by itself.
fn visit(client: &Identity, gateway: &Gateway) -> Visit {
    let (client, address) = (client.clone(), gateway.address);
    tokio::task::spawn(async move { client.visit(address, "db").await })
}

/// The same, once it waits.
async fn waiting(client: &Identity, gateway: &mut Gateway) -> Visit {
    let visit = visit(client, gateway);
    gateway.logged(WAITS).await;
    visit
}

async fn leave(mut connection: Connection) {
    connection.finish().await;
    assert_eq!(connection.hear().await.unwrap(), "bye");
}

#[tokio::test]
async fn one_connection_too_many_waits_for_the_next_that_ends_and_its_record_says_how_long() {
    let db = Upstream::start("db").await;
    let world = world(&db, "1m");
    let mut gateway = start(&world).await;
    let alice = world.identity("alice");
    let first = alice.visit(gateway.address, "db").await.unwrap();
    let second = waiting(&alice, &mut gateway).await;
    // As many wait as may be open.
    let third = alice.visit(gateway.address, "db").await;
    assert_eq!(third.unwrap_err(), Refusal::Reset);
    let refused = gateway.record_with("client_connections").await;
    assert!(refused.get("waited_seconds").is_none(), "{refused:?}");

    assert!(!second.is_finished());
    let source = first.source.to_string();
    leave(first).await;
    let record = gateway.record(|record| source_of(record) == source);
    assert!(record.await.get("waited_seconds").is_none());
    let second = second.await.unwrap().unwrap();
    let source = second.source.to_string();
    leave(second).await;
    let record = gateway.record(|record| source_of(record) == source);
    let record = record.await;
    assert_eq!(record["reason"], "finished");
    assert!(record["waited_seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_wait_that_comes_to_nothing_ends_in_a_reset_and_a_client_that_leaves_gives_its_turn_on() {
    let db = Upstream::start("db").await;
    let mut world = world(&db, "200ms");
    let mut gateway = start(&world).await;
    let alice = world.identity("alice");
    let first = alice.visit(gateway.address, "db").await.unwrap();
    let late = alice.visit(gateway.address, "db").await;
    assert_eq!(late.unwrap_err(), Refusal::Reset);
    let record = gateway.record_with("client_connections").await;
    assert!(record["waited_seconds"].as_f64().unwrap() >= 0.2);

    limit(&mut world, 1, "1m");
    gateway.reload(&world).await;
    waiting(&alice, &mut gateway).await.abort();
    let record = gateway.record_with("client_left").await;
    assert!(record["waited_seconds"].as_f64().unwrap() > 0.0);
    let next = waiting(&alice, &mut gateway).await;
    leave(first).await;
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_waits_hears_of_a_reload_and_of_the_gateways_end_at_once() {
    let db = Upstream::start("db").await;
    let mut world = world(&db, "1h");
    let mut gateway = start(&world).await;
    let alice = world.identity("alice");
    let _first = alice.visit(gateway.address, "db").await.unwrap();
    let second = waiting(&alice, &mut gateway).await;
    limit(&mut world, 2, "1h");
    gateway.reload(&world).await;
    let _second = second.await.unwrap().unwrap();

    let third = waiting(&alice, &mut gateway).await;
    world.gateway_line("on_revoke: keep");
    world.remove_client("alice");
    world.client("bob", "groups: [db]");
    gateway.reload(&world).await;
    assert_eq!(third.await.unwrap().unwrap_err(), Refusal::Reset);
    gateway.record_with("revoked").await;

    limit(&mut world, 1, "1h");
    gateway.reload(&world).await;
    let last = waiting(&alice, &mut gateway).await;
    gateway.signal("TERM");
    assert_eq!(last.await.unwrap().unwrap_err(), Refusal::Reset);
    gateway.record_with("client_connections").await;
}

#[tokio::test]
async fn whoever_waits_in_the_old_process_gets_the_next_place_of_all_processes() {
    let db = Upstream::start("db").await;
    let mut world = world(&db, "1h");
    limit(&mut world, 2, "1h");
    let mut gateway = start(&world).await;
    let alice = world.identity("alice");
    let one = alice.visit(gateway.address, "db").await.unwrap();
    let two = alice.visit(gateway.address, "db").await.unwrap();
    let old = waiting(&alice, &mut gateway).await;
    let mut gone = waiting(&alice, &mut gateway).await;
    gateway.upgrade(&[]).await.unwrap();
    // Both of the old process wait in the new one then.
    let moved = ["another process serves; draining", WAITS, WAITS];
    gateway.logged_in_any_order(&moved).await;
    // As many wait as may be open.
    let refused = alice.visit(gateway.address, "db").await;
    assert_eq!(refused.unwrap_err(), Refusal::Reset);
    assert!(!old.is_finished() && !gone.is_finished());

    gone.abort();
    assert!((&mut gone).await.unwrap_err().is_cancelled());
    gateway.record_with("client_left").await;
    // The new process may hear of it a moment after the old one has written the record.
    let mut new = loop {
        let mut new = visit(&alice, &gateway);
        tokio::select! {
            refused = &mut new => assert_eq!(refused.unwrap().unwrap_err(), Refusal::Reset),
            _ = gateway.logged(WAITS) => break new,
        }
    };
    leave(one).await;
    let old = old.await.unwrap().unwrap();
    assert!(!new.is_finished(), "it came later");
    leave(two).await;
    let new = (&mut new).await.unwrap().unwrap();

    let source = old.source.to_string();
    leave(old).await;
    let record = gateway.record(|record| source_of(record) == source);
    assert!(record.await["waited_seconds"].as_f64().unwrap() > 0.0);
    drop(new);
}

#[tokio::test]
async fn whoever_waits_in_an_old_process_is_refused_as_soon_as_the_new_one_denies_it() {
    let db = Upstream::start("db").await;
    let mut world = world(&db, "1h");
    let mut gateway = start(&world).await;
    let alice = world.identity("alice");
    let _held = alice.visit(gateway.address, "db").await.unwrap();
    let old = waiting(&alice, &mut gateway).await;
    gateway.upgrade(&[]).await.unwrap();
    gateway.logged("another process serves; draining").await;
    assert!(!old.is_finished());
    world.gateway_line("on_revoke: keep");
    world.remove_client("alice");
    world.client("bob", "groups: [db]");
    world.write_policy();
    assert_eq!(old.await.unwrap().unwrap_err(), Refusal::Reset);
    gateway.record_with("revoked").await;
}

//! Sources that fail over and over get no further than the kernel.

use std::net::SocketAddr;

use certgen::Overwrite;
use tokio::net::TcpStream;

use super::{clear, portcullis};
use crate::harness::{Upstream, World, destination_of, until};

const KNOCKS: usize = 50_000;

/// Connects so often, and counts how often that was refused.
async fn knock(address: SocketAddr, times: usize) -> usize {
    let mut refused = 0;
    for _ in 0..times {
        refused += usize::from(TcpStream::connect(address).await.is_err());
    }
    refused
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn a_source_that_fails_over_and_over_is_banned_for_a_while() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [443]}");
    world.gateway_line("ban: {failures: 5, within: 1m, for: 2s, never: [127.0.0.0/8]}");
    let mut gateway = world.start().await;
    let (alice, mallory) = (world.identity("alice"), world.identity("mallory"));
    // On loopback the source is the destination's address.
    let outside: SocketAddr = "192.0.2.1:443".parse().unwrap();
    let spared: SocketAddr = "127.0.0.1:443".parse().unwrap();

    for _ in 0..4 {
        mallory.visit(outside, "db").await.unwrap_err();
    }
    alice.visit(outside, "db").await.unwrap();
    mallory.visit(outside, "db").await.unwrap_err();
    let banned = gateway.logged("source banned").await;
    assert_eq!(
        (&banned["source_address"], &banned["seconds"]),
        (&"192.0.2.1".into(), &2.into())
    );
    let record = gateway.record_with("banned").await;
    assert_eq!(
        (
            &record["source_address"],
            &record["failures"],
            &record["ban_seconds"]
        ),
        (&"192.0.2.1".into(), &5.into(), &2.into())
    );
    assert_eq!(knock(outside, 10).await, 10);
    let listed = portcullis(&["bans"]);
    assert!(String::from_utf8_lossy(&listed.stdout).starts_with("192.0.2.1 for "));
    until(async || alice.visit(outside, "db").await.ok()).await;

    for _ in 0..20 {
        mallory.visit(spared, "db").await.unwrap_err();
    }
    alice.visit(spared, "db").await.unwrap();

    for _ in 0..5 {
        mallory.visit(outside, "db").await.unwrap_err();
    }
    gateway.logged("source banned").await;
    assert!(portcullis(&["unban", "192.0.2.1"]).status.success());
    assert_eq!(portcullis(&["unban", "192.0.2.1"]).status.code(), Some(1));
    alice.visit(outside, "db").await.unwrap();
}

/// What a client of another machine is told, with alice's certificate or without one.
async fn visit_from_afar(world: &World, address: &str, shows: bool) -> String {
    let certificate = if shows {
        "-cert alice.crt -key alice.key"
    } else {
        ""
    };
    let visit = format!(
        "printf 'hello\\nclose\\n' | ip netns exec clients timeout 20 \
         openssl s_client -quiet -connect {address} -servername db {certificate} 2>&1"
    );
    let shell = tokio::process::Command::new("sh")
        .args(["-c", &visit])
        .current_dir(world.folder())
        .output();
    String::from_utf8_lossy(&shell.await.unwrap().stdout).into_owned()
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn clients_of_another_machine_are_steered_and_banned() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [443]}");
    world.gateway_line("ban: {failures: 3, within: 1m, for: 1h}");
    let gateway = world.start().await;
    let alice = world.authority.client("alice").unwrap();
    alice
        .save(world.folder(), "alice", Overwrite::Refuse)
        .unwrap();
    let (v4, v6) = ("198.51.100.1:443", "[2001:db8:1::1]:443");
    for (address, source) in [(v4, "198.51.100.2"), (v6, "2001:db8:1::2")] {
        let said = visit_from_afar(&world, address, true).await;
        assert!(said.contains("db: hello"), "{said}");
        let record = gateway
            .record(|record| destination_of(record) == address)
            .await;
        assert_eq!(record["source_address"], source, "{record}");
    }

    for _ in 0..3 {
        let said = visit_from_afar(&world, v6, false).await;
        assert!(said.contains("alert certificate required"), "{said}");
    }
    let record = gateway.record_with("banned").await;
    assert_eq!(record["source_address"], "2001:db8:1::", "the whole site");
    let said = visit_from_afar(&world, v6, true).await;
    assert!(said.contains("Connection refused"), "{said}");
    let said = visit_from_afar(&world, v4, true).await;
    assert!(said.contains("db: hello"), "{said}");
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn a_banned_source_costs_the_gateway_nothing() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [443]}");
    world.gateway_line("ban: {failures: 1, for: 10m, never: [127.0.0.0/8]}");
    let mut gateway = world.start().await;

    let before = gateway.processor_time();
    assert_eq!(knock("127.0.0.1:443".parse().unwrap(), KNOCKS).await, 0);
    let without = gateway.processor_time().saturating_sub(before);
    // A probe that connects and leaves is no failed handshake.
    let outside: SocketAddr = "192.0.2.1:443".parse().unwrap();
    assert_eq!(knock(outside, 10).await, 0);
    let mut visited = world.identity("alice").visit(outside, "db").await.unwrap();
    visited.finish().await;
    let mallory = world.identity("mallory");
    mallory.visit(outside, "db").await.unwrap_err();
    gateway.logged("source banned").await;
    let before = gateway.processor_time();
    assert_eq!(knock(outside, KNOCKS).await, KNOCKS);
    let with = gateway.processor_time().saturating_sub(before);
    println!(
        "{KNOCKS} connections: the gateway's processor time is {without:?} without a ban, {with:?} with one"
    );
    assert!(with < without);
}

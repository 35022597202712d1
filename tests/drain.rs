//! A gateway that is told to end lets its connections end first, and says how it went.

use std::process::Stdio;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::harness::{Flood, Refusal, Upstream, World, signal, soon};

#[tokio::test]
async fn a_drain_lets_open_connections_finish_and_takes_no_new_ones() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let mut early = world.visit(&gateway, "alice").await;

    gateway.signal("TERM");
    gateway.logged("draining").await;

    assert_eq!(early.ask("during").await.unwrap(), "a: during");
    crate::harness::until(async || TcpStream::connect(gateway.address).await.err()).await;
    early.finish().await;
    assert_eq!(early.hear().await.unwrap(), "bye");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(gateway.record_of(&early).await["reason"], "finished");
}

#[tokio::test]
async fn connections_over_the_drains_deadline_are_cut_off_and_the_exit_code_tells() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("timeouts: {drain: 200ms}");
    let mut gateway = world.start().await;
    let mut held = world.visit(&gateway, "alice").await;

    gateway.signal("INT");

    assert_eq!(held.end().await, Refusal::Reset);
    assert_eq!(gateway.ended().await.code(), Some(4));
    assert_eq!(gateway.record_of(&held).await["reason"], "drain_deadline");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let mut held = world.visit(&gateway, "alice").await;

    gateway.signal("TERM");
    gateway.logged("draining").await;
    gateway.signal("TERM");

    assert_eq!(held.end().await, Refusal::Reset);
    assert_eq!(gateway.ended().await.code(), Some(4));
}

#[tokio::test]
async fn a_gateway_with_nothing_to_do_ends_at_once_and_well() {
    let upstream = Upstream::start("a").await;
    let mut gateway = World::with_db(&[&upstream]).start().await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_signal_ends_a_gateway_while_strangers_connect_without_pause() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("timeouts: {drain: 300ms}");
    let mut gateway = world.start().await;
    let flood = Flood::begin(gateway.address).await;

    gateway.signal("TERM");

    // It goes on until the process has ended.
    gateway.ended().await;
    flood.end().await;
}

#[tokio::test]
async fn a_signal_ends_a_gateway_that_still_waits_for_its_upstreams() {
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new();
    let upstream = format!("\"{}\"", silent.local_addr().unwrap());
    let probed = "health: {check: {send: \"ping\", expect: \"pong\"}, timeout: 1h}";
    world.group_of("db", &upstream, probed);
    world.client("alice", "groups: [db]");
    world.write_policy();
    let gateway = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--policy"])
        .arg(world.path("policy.yaml"))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _probe = soon(silent.accept()).await.unwrap();

    signal(gateway.id().unwrap(), "TERM");

    let ended = soon(gateway.wait_with_output()).await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{said}");
    assert!(!said.contains("serving TLS"), "{said}");
}

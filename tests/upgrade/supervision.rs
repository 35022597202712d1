//! Whoever supervises the gateway by the one process that it has started does not notice an
//! upgrade.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use tokio::net::TcpStream;

use super::{echoes, is_alive, leave, script, world};
use crate::harness::{Gateway, Refusal, Upstream, World, signal, soon, until};

/// What the first process says when it is nothing but the parent.
const STAYS: &str = "no connection is left; this process stays as the parent of the one that \
                     serves";

/// A gateway that has been upgraded twice, of which the first process is only the parent.
async fn upgraded_twice(world: &World) -> Gateway {
    let mut gateway = world.start().await;
    for _ in 0..2 {
        gateway.upgrade(&[]).await.unwrap();
    }
    gateway.logged(STAYS).await;
    gateway
}

#[tokio::test]
async fn a_supervisor_that_knows_only_the_first_process_ends_the_one_that_serves() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let first = gateway.first();
    gateway.upgrade(&[]).await.unwrap();
    let between = gateway.process();
    gateway.upgrade(&[]).await.unwrap();
    until(async || (!is_alive(between)).then_some(())).await;
    assert!(is_alive(first));
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();

    signal(first, "TERM");
    until(async || TcpStream::connect(gateway.address).await.err()).await;
    echoes(&mut held, "within the drain's time").await;
    assert!(is_alive(first));
    leave(held).await;
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(!is_alive(gateway.process()));
}

#[tokio::test]
async fn the_first_process_ends_as_the_one_does_that_serves() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = upgraded_twice(&world).await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    signal(gateway.first(), "TERM");
    until(async || TcpStream::connect(gateway.address).await.err()).await;
    signal(gateway.first(), "TERM");
    assert_eq!(held.end().await, Refusal::Reset);
    assert_eq!(gateway.ended().await.code(), Some(4), "cut off");

    let mut gateway = upgraded_twice(&world).await;
    signal(gateway.process(), "KILL");
    assert_eq!(gateway.ended().await, ExitStatus::from_raw(137 << 8));
}

#[tokio::test]
async fn the_loss_of_the_process_that_serves_is_told_and_is_the_gateways_end() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
    signal(gateway.process(), "KILL");
    let event = gateway
        .logged(
            "the process that serves has ended; clients cannot connect until the gateway is \
             started again",
        )
        .await;
    assert_eq!(
        (&event["level"], &event["open"]),
        (&"ERROR".into(), &1.into())
    );
    // A supervisor starts it again as soon as it has ended.
    assert_eq!(held.end().await, Refusal::Reset);
    assert_eq!(gateway.ended().await.code(), Some(137));
}

#[tokio::test]
async fn signals_to_the_first_process_reach_the_one_that_serves() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    let mut gateway = upgraded_twice(&world).await;
    let first = gateway.first();
    world.client("bob", "groups: [db]");
    signal(first, "HUP");
    gateway.logged("policy reloaded").await;

    let log = world.path("access.log");
    std::fs::rename(&log, world.path("access.log.1")).unwrap();
    signal(first, "USR1");
    until(async || log.exists().then_some(())).await;

    let before = gateway.process();
    signal(first, "USR2");
    let upgraded = gateway.logged("upgraded").await;
    let follower = upgraded["pid"].as_u64().unwrap().try_into().unwrap();
    gateway.is_followed_by(follower);
    until(async || (!is_alive(before)).then_some(())).await;
    let alice = world.identity("alice");
    alice.visit(gateway.address, "db").await.unwrap();
    assert!(is_alive(first));
}

#[tokio::test]
async fn the_end_of_the_first_process_is_the_end_of_the_gateway() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let gateway = upgraded_twice(&world).await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    signal(gateway.first(), "KILL");
    // A second gateway can be started beside it at once.
    until(async || TcpStream::connect(gateway.address).await.err()).await;
    echoes(&mut held, "within the drain's time").await;
    leave(held).await;
    until(async || (!is_alive(gateway.process())).then_some(())).await;
}

#[tokio::test]
async fn a_process_that_is_being_started_goes_with_the_one_that_starts_it() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let started = world.path("started");
    let text = format!("echo $$ > {}; exec sleep 600", started.display());
    let hangs = script(&world, "hangs", &text);
    for name in ["TERM", "KILL"] {
        let mut gateway = world.start().await;
        let upgrade = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["upgrade", "--policy"])
            .arg(world.path("policy.yaml"))
            .arg("--binary")
            .arg(&hangs)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let candidate = until(async || {
            let process = std::fs::read_to_string(&started).ok()?;
            process.trim().parse::<u32>().ok()
        });
        let candidate = candidate.await;
        assert!(is_alive(candidate));
        signal(gateway.first(), name);
        let ended = gateway.ended().await;
        assert_eq!(ended.success(), name == "TERM", "{ended}");
        until(async || (!is_alive(candidate)).then_some(())).await;
        let asked = soon(upgrade.wait_with_output()).await.unwrap();
        assert_eq!(asked.status.code(), Some(1), "the upgrade failed");
        std::fs::remove_file(&started).unwrap();
    }
}

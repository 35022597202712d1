//! A new process takes the old one's place, and no client notices.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tokio::net::TcpStream;

use crate::harness::{Connection, Gateway, Refusal, Upstream, World, source_of, until};

mod decisions;
mod descriptors;
mod ending;
mod failures;
mod limits;
pub(crate) mod load;
mod strangers;
mod supervision;

use load::{upgrade_under_load, with_a_limited_client};

const UPGRADES: usize = 10;

/// A world whose gateway can be asked for upgrades.
fn world(upstreams: &[&Upstream]) -> World {
    let mut world = World::with_db(upstreams);
    world.gateway_line("admin: {socket: admin.sock}");
    world
}

fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    // One that nobody has waited for yet is over all the same.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn descriptors(process: u32) -> usize {
    let all = std::fs::read_dir(format!("/proc/{process}/fd"));
    all.unwrap().count()
}

async fn echoes(connection: &mut Connection, said: &str) {
    assert_eq!(connection.ask(said).await.unwrap(), format!("db: {said}"));
}

async fn leave(mut connection: Connection) {
    connection.finish().await;
    assert_eq!(connection.hear().await.unwrap(), "bye");
}

#[tokio::test]
async fn the_old_process_keeps_its_connections_until_they_end_and_the_new_one_gets_the_others() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let first = gateway.process();
    let alice = world.identity("alice");
    let mut old = alice.visit(gateway.address, "db").await.unwrap();

    let upgraded = gateway.upgrade(&[]).await.unwrap();
    assert_eq!(upgraded["old_pid"], first);
    assert_eq!(
        (&upgraded["connections"], &upgraded["clients"]),
        (&1.into(), &1.into())
    );
    gateway.logged("another process serves; draining").await;
    let mut new = alice.visit(gateway.address, "db").await.unwrap();
    echoes(&mut old, "still here").await;
    echoes(&mut new, "just arrived").await;

    assert!(is_alive(first));
    let source = old.source.to_string();
    leave(old).await;
    gateway
        .logged("the old process has drained, and stays as the parent")
        .await;
    let record = gateway.record(|record| source_of(record) == source).await;
    assert_eq!(record["reason"], "finished");
    let mut of_it = gateway.all_records();
    of_it.retain(|record| source_of(record) == source);
    assert_eq!(of_it.len(), 2, "its opening and its end");
    assert_eq!(of_it[0]["connection"], of_it[1]["connection"]);
    echoes(&mut new, "and on it goes").await;

    gateway.signal("TERM");
    leave(new).await;
    let last = gateway.process();
    until(async || (!is_alive(last)).then_some(())).await;
    assert!(
        !world.path("admin.sock").exists(),
        "whoever serves last cleans up"
    );
}

#[tokio::test]
async fn upgrades_under_load_cost_nobody_a_connection() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    // Nothing is known about an upstream before its first probe, unless the old process knew it.
    world.group("db", &[&db], "health: {check: tcp, interval: 1h}");
    with_a_limited_client(&mut world);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    leave(until(async || alice.visit(gateway.address, "db").await.ok()).await).await;
    let addresses = [gateway.address];
    upgrade_under_load(&world, &mut gateway, &addresses, UPGRADES).await;
    // Every process but the one that serves is through with its connections.
    let ended = "no connection is left; this process stays as the parent of the one that serves";
    gateway.logged(ended).await;
}

/// A program that may be anything.
fn script(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, all).unwrap();
    path
}

#[tokio::test]
async fn a_switched_link_leads_to_the_other_version() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    world.write_policy();
    for version in ["v1", "v2"] {
        std::fs::create_dir(world.path(version)).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_portcullis");
    symlink(program, world.path("v1/portcullis")).unwrap();
    let marker = world.path("marker");
    let text = format!("touch {}; exec {program} \"$@\"", marker.display());
    let newer = script(&world, "v2/portcullis", &text);
    let current = world.path("current");
    let folder = current.display();
    for started in [
        format!("shift; exec {folder}/portcullis \"$@\""),
        format!("shift; PATH={folder}:$PATH; exec portcullis \"$@\""),
    ] {
        symlink("v1", &current).unwrap();
        let mut gateway = Gateway::start_under(&world, &["sh", "-c", &started, "sh"], 2).await;
        std::fs::remove_file(&current).unwrap();
        symlink("v2", &current).unwrap();
        let upgraded = gateway.upgrade(&[]).await.unwrap();
        assert!(marker.exists());
        assert_eq!(upgraded["binary"], format!("{folder}/portcullis"));
        let file = newer.canonicalize().unwrap();
        assert_eq!(upgraded["file"], file.to_str().unwrap());
        let logged = gateway.logged("upgraded").await;
        assert_eq!(logged["file"], upgraded["file"]);
        gateway.signal("TERM");
        assert!(gateway.ended().await.success());
        std::fs::remove_file(&marker).unwrap();
        std::fs::remove_file(&current).unwrap();
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_does_not_do_it() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    let answer = gateway.upgrade(&["--dry-run"]).await.unwrap();
    assert_eq!(answer["dry_run"], true);
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    // Two workers' listeners, and the admin socket.
    assert_eq!(
        (&answer["listeners"], &answer["connections"]),
        (&3.into(), &1.into())
    );
    let candidate = answer["pid"].as_u64().unwrap().try_into().unwrap();
    until(async || (!is_alive(candidate)).then_some(())).await;
    echoes(&mut held, "nothing happened").await;
    alice.visit(gateway.address, "db").await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
}

#[tokio::test]
async fn a_signal_upgrades_as_well() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    gateway.signal("USR2");
    let upgraded = gateway.logged("upgraded").await;
    let follower = upgraded["pid"].as_u64().unwrap();
    gateway.is_followed_by(follower.try_into().unwrap());
    gateway.logged("another process serves; draining").await;
    echoes(&mut held, "still").await;
    alice.visit(gateway.address, "db").await.unwrap();
}

#[tokio::test]
async fn a_revocation_and_the_gateways_end_reach_the_processes_that_drain() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let mut by_alice = alice.visit(gateway.address, "db").await.unwrap();
    let mut by_bob = bob.visit(gateway.address, "db").await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
    gateway.upgrade(&[]).await.unwrap();

    world.remove_client("bob");
    world.write_policy();
    assert_eq!(by_bob.end().await, Refusal::Reset);
    echoes(&mut by_alice, "still").await;

    gateway.signal("TERM");
    until(async || TcpStream::connect(gateway.address).await.err()).await;
    echoes(&mut by_alice, "within the drain's time").await;
    gateway.signal("TERM");
    assert_eq!(by_alice.end().await, Refusal::Reset);
    assert_eq!(gateway.ended().await.code(), Some(4), "cut off");
}

#[tokio::test]
async fn a_log_that_was_moved_away_is_left_by_all_processes() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let old = alice.visit(gateway.address, "db").await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
    std::fs::rename(world.path("access.log"), world.path("access.log.1")).unwrap();
    gateway.signal("USR1");
    // The oldest is told by the one between.
    let oldest = format!("/proc/{}/fd", gateway.first());
    until(async || {
        let open = std::fs::read_dir(&oldest).ok()?.flatten();
        let mut paths = open.filter_map(|one| std::fs::read_link(one.path()).ok());
        paths
            .any(|path| path == world.path("access.log"))
            .then_some(())
    })
    .await;
    let source = old.source.to_string();
    leave(old).await;
    let record = gateway.record(|record| source_of(record) == source);
    assert_eq!(record.await["reason"], "finished");
}

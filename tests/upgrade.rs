//! A new process takes the old one's place, and no client notices.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tokio::net::TcpStream;

use crate::harness::{
    Connection, Flood, Gateway, Refusal, Upstream, Wire, World, signal, soon, until,
};

mod decisions;
mod ending;
pub(crate) mod load;
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
        .logged("the process that was followed has drained, and stays as parent")
        .await;
    let record = gateway.record(|record| record["source"] == source.as_str());
    assert_eq!(record.await["reason"], "finished");
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
    let ended = "nothing is left here; this process stays as the parent of the one that serves";
    gateway.logged(ended).await;
}

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

/// A program that may be anything.
fn script(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, all).unwrap();
    path
}

#[tokio::test]
async fn what_cannot_serve_changes_nothing() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let (process, alice) = (gateway.process(), world.identity("alice"));
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    let hangs = script(&world, "hangs", "exec sleep 600");
    let ends = script(&world, "ends", "exit 7");
    let chatters = script(
        &world,
        "chatters",
        "printf '\\0\\0\\0\\04\"x\"\\n' >&0; exec sleep 600",
    );
    let nothing = world.path("access.log");
    let no_program = world.path("nowhere");
    for (binary, more, expected) in [
        (&hangs, ["--timeout", "1"], "was not ready within 1s"),
        (&ends, ["--timeout", "9"], "ended with exit status: 7"),
        (
            &chatters,
            ["--timeout", "9"],
            "does not answer as portcullis does",
        ),
        (
            &nothing,
            ["--timeout", "9"],
            "cannot be started: Permission denied",
        ),
        (&no_program, ["--timeout", "9"], "nowhere: No such file"),
    ] {
        let arguments = ["--binary", binary.to_str().unwrap(), more[0], more[1]];
        let error = gateway.upgrade(&arguments).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let policy = std::fs::read_to_string(world.path("policy.yaml")).unwrap();
    world.write(
        "policy.yaml",
        &policy.replace("groups: [db]", "groups: [bd]"),
    );
    let socket = world.path("admin.sock");
    let by_socket = ["--socket", socket.to_str().unwrap()];
    let error = gateway.upgrade(&by_socket).await.unwrap_err();
    assert!(
        error.contains("cannot serve") && error.contains("`bd`"),
        "{error}"
    );

    echoes(&mut held, "nothing happened").await;
    alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(gateway.process(), process);
    world.write("policy.yaml", &policy);
    // An upgrade fails if the policy is read again meanwhile.
    gateway.logged("policy reloaded").await;
    gateway.upgrade(&[]).await.unwrap();
    echoes(&mut held, "now it did").await;
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
async fn what_fails_at_the_last_moment_changes_nothing_either() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.client("alice", "groups: [db], max_connections: 2");
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let held = alice.visit(gateway.address, "db").await.unwrap();
    let policy = world.policy().replace("admin.sock", "nowhere/admin.sock");
    world.write("policy.yaml", &policy);
    gateway.logged("policy reloaded").await;
    let socket = world.path("admin.sock");
    let by_socket = ["--socket", socket.to_str().unwrap()];
    for _ in 0..3 {
        let error = gateway.upgrade(&by_socket).await.unwrap_err();
        assert!(
            error.contains("nowhere/admin.sock: cannot be opened"),
            "{error}"
        );
    }
    let second = alice.visit(gateway.address, "db").await.unwrap();
    assert!(alice.visit(gateway.address, "db").await.is_err());
    leave(held).await;
    let _third = until(async || alice.visit(gateway.address, "db").await.ok()).await;
    assert!(alice.visit(gateway.address, "db").await.is_err());
    leave(second).await;
}

#[tokio::test]
async fn a_process_that_may_have_read_an_older_policy_does_not_serve() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let (process, alice, bob) = (
        gateway.process(),
        world.identity("alice"),
        world.identity("bob"),
    );
    let (started, go) = (world.path("started"), world.path("go"));
    let waits = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.02; done; exec {} \"$@\"",
        started.display(),
        go.display(),
        env!("CARGO_BIN_EXE_portcullis")
    );
    let late = script(&world, "late", &waits);
    let upgrade = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["upgrade", "--policy"])
        .arg(world.path("policy.yaml"))
        .arg("--binary")
        .arg(&late)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until(async || started.exists().then_some(())).await;
    world.remove_client("bob");
    gateway.reload(&world).await;
    std::fs::write(&go, "").unwrap();
    let refused = soon(upgrade.wait_with_output()).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("reloaded meanwhile"), "{said}");

    assert_eq!(gateway.process(), process);
    alice.visit(gateway.address, "db").await.unwrap();
    assert!(bob.visit(gateway.address, "db").await.is_err());
    gateway.upgrade(&[]).await.unwrap();
    assert!(bob.visit(gateway.address, "db").await.is_err());
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
    let record = gateway.record(|record| record["source"] == source.as_str());
    assert_eq!(record.await["reason"], "finished");
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

#[tokio::test]
async fn the_old_process_stops_accepting_while_strangers_connect_without_pause() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let old = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    let first = gateway.process();
    let flood = Flood::begin(gateway.address).await;

    gateway.upgrade(&[]).await.unwrap();

    // It has closed all of its listeners, while the strangers go on.
    until(async || (listeners(first) == 0).then_some(())).await;
    leave(old).await;
    flood.end().await;
}

/// How many of a process's sockets listen at an address.
fn listeners(process: u32) -> usize {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    // proc_net_tcp(5): the state is the fourth field, 0A is a listener; the inode is the tenth.
    let listening = table.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(3) == Some(&"0A")
            && fields
                .get(9)
                .is_some_and(|inode| inodes.iter().any(|own| own == inode))
    });
    listening.count()
}

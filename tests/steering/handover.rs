//! One process gives way to another: killed, stopped, upgraded, or gone for a while.

use std::net::SocketAddr;

use ebpf::{Role, Steering};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{PORTCULLIS, clear, pin_dir, portcullis};
use crate::harness::{Gateway, Identity, Manager, Upstream, World, until};
use crate::service::{GONE, KEEPS, waiting};
use crate::upgrade::load::{upgrade_under_load, with_a_limited_client};

const ENDS: usize = 20;
const VISITORS: usize = 3;

/// A gateway that stands by for the world's own.
pub(super) fn stand_by(world: &World) -> tokio::process::Child {
    let standby = tokio::process::Command::new(PORTCULLIS)
        .args(["run", "--standby", "--workers", "2", "--policy"])
        .arg(world.path("policy.yaml"))
        .arg("--access-log")
        .arg(world.path("standby.log"))
        .stderr(std::fs::File::create(world.path("standby.err")).unwrap())
        .kill_on_drop(true)
        .spawn();
    standby.unwrap()
}

pub(super) async fn until_it_stands_by() {
    until(async || {
        let steering = Steering::open(&pin_dir(), Role::Standby).unwrap();
        steering.has_standby().unwrap().then_some(())
    })
    .await;
}

/// What became of connections that were made one after the other.
#[derive(Debug, Default)]
struct Visits {
    served: usize,
    refused: usize,
    /// In the hands of a process that was killed.
    lost: usize,
}

async fn visit_on(alice: Identity, address: SocketAddr, over: watch::Receiver<bool>) -> Visits {
    let mut visits = Visits::default();
    while !*over.borrow() {
        if TcpStream::connect(address).await.is_err() {
            visits.refused += 1;
        }
        let said = format!("{} {}", visits.served, "x".repeat(1000));
        let visited = async {
            let mut connection = alice.visit(address, "db").await?;
            connection.ask(&said).await
        };
        match visited.await {
            Ok(heard) => {
                assert_eq!(heard, format!("db: {said}"));
                visits.served += 1;
            }
            Err(_) => visits.lost += 1,
        }
    }
    visits
}

/// Ends the primary with a signal, again and again, beside a standby and under load.
async fn end_primaries(signal: &str) -> Visits {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [5432]}");
    world.write_policy();
    assert!(portcullis(&["steer", "load"]).status.success());
    let mut primary = world.start().await;
    let _standby = stand_by(&world);
    until_it_stands_by().await;
    let address: SocketAddr = "192.0.2.1:5432".parse().unwrap();
    let (over, watched) = watch::channel(false);
    let mut visitors = JoinSet::new();
    for _ in 0..VISITORS {
        let alice = world.identity("alice");
        visitors.spawn(visit_on(alice, address, watched.clone()));
    }

    let alice = world.identity("alice");
    for _ in 0..ENDS {
        primary.signal(signal);
        primary.ended().await;
        let standby = alice.visit(address, "db").await;
        standby.expect("the standby serves");
        primary = world.start().await;
        let primary = alice.visit(address, "db").await;
        primary.expect("the primary is back");
    }
    over.send(true).unwrap();
    let all = visitors.join_all().await;
    let sum = |count: fn(&Visits) -> usize| all.iter().map(count).sum();
    let visits = Visits {
        served: sum(|visits| visits.served),
        refused: sum(|visits| visits.refused),
        lost: sum(|visits| visits.lost),
    };
    println!("{ENDS} times SIG{signal}: {visits:?}");
    let records = std::fs::read_to_string(world.path("standby.log")).unwrap();
    assert!(records.lines().count() >= ENDS, "the standby served");
    visits
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn a_killed_primary_is_followed_by_the_standby_and_nobody_is_refused() {
    let visits = end_primaries("KILL").await;
    assert_eq!(visits.refused, 0);
    // Each visitor has one connection at a time.
    assert!(visits.lost <= VISITORS * ENDS, "{visits:?}");
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn a_primary_that_is_stopped_gives_way_to_the_standby_without_a_loss() {
    let visits = end_primaries("TERM").await;
    assert_eq!((visits.refused, visits.lost), (0, 0), "{visits:?}");
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn a_standby_with_the_primarys_policy_starts_beside_it_and_says_when_it_serves() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.gateway_line("steer: {mode: required, ports: [5432]}");
    world.write_policy();
    assert!(portcullis(&["steer", "load"]).status.success());
    let mut primary = world.start().await;
    let _standby = stand_by(&world);
    until_it_stands_by().await;
    for socket in ["admin.sock", "admin.sock.standby"] {
        let socket = world.path(socket);
        let dry = ["upgrade", "--dry-run", "--socket", socket.to_str().unwrap()];
        let asked = portcullis(&dry);
        assert!(asked.status.success(), "{socket:?}: {asked:?}");
    }
    let address: SocketAddr = "192.0.2.1:5432".parse().unwrap();
    let alice = world.identity("alice");
    alice.visit(address, "db").await.unwrap();
    let says = || {
        let log = std::fs::read_to_string(world.path("standby.err")).unwrap();
        log.contains("the standby serves: there is no primary")
    };
    assert!(!says(), "the primary serves");

    primary.signal("KILL");
    primary.ended().await;
    alice.visit(address, "db").await.unwrap();
    until(async || says().then_some(())).await;
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn fifty_upgrades_in_a_row_cost_nobody_a_connection() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.gateway_line("steer: {mode: required, ports: [443]}");
    with_a_limited_client(&mut world);
    let mut gateway = world.start().await;
    let addresses = ["192.0.2.1:443", "[2001:db8::1]:443"].map(|text| text.parse().unwrap());
    upgrade_under_load(&world, &mut gateway, &addresses, 50).await;
    gateway.signal("TERM");
    let is_gone = || (!pin_dir().path().exists()).then_some(());
    until(async || is_gone()).await;
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn what_is_steered_waits_while_a_service_manager_keeps_the_listeners() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [443]}");
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, KEEPS).await;
    let alice = world.identity("alice");
    for signal in ["KILL", "TERM", "KILL"] {
        gateway.signal(signal);
        gateway.ended().await;
        let clients: Vec<_> = ["192.0.2.1:443", "[2001:db8::1]:443"]
            .into_iter()
            .map(|address| waiting(&alice, address.parse().unwrap()))
            .collect();
        tokio::time::sleep(GONE).await;
        gateway = manager.start(&world, KEEPS).await;
        let mut served = 0;
        for clients in clients {
            served += clients.join_all().await.len();
        }
        println!("{signal}, and gone for {GONE:?}: {served} clients waited, all served");
    }
    let kept = [
        "anchor",
        "listen-127.0.0.1_0",
        "listen-127.0.0.1_0",
        "steered-0",
        "steered-1",
    ];
    assert_eq!(manager.kept(), kept, "nothing is kept twice");
    gateway.signal("KILL");
    gateway.ended().await;
    manager.forget();
    let nobody = alice.visit("192.0.2.1:443".parse().unwrap(), "db").await;
    assert!(nobody.is_err(), "nobody keeps the listeners any more");
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn no_stranger_has_a_program_run_as_the_gateways_user() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    let _gateway = world.start().await;
    let socket = world.path("admin.sock");
    // Even if somebody lets everybody at the socket.
    for path in [world.folder(), &socket] {
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, all).unwrap();
    }
    let traces = world.path("traces");
    let script = world.path("program");
    world.write(
        "program",
        &format!("#!/bin/sh\ntouch {}\n", traces.display()),
    );
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, all).unwrap();
    let setpriv = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    let refused = std::process::Command::new("setpriv")
        .args(setpriv)
        .args([PORTCULLIS, "upgrade", "--socket"])
        .arg(&socket)
        .arg("--binary")
        .arg(&script)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("only root and the gateway's own user"),
        "{said}"
    );
    assert!(!traces.exists());
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn the_first_process_of_a_container_stays_as_the_parent_of_the_one_that_serves() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.write_policy();
    let container = ["unshare", "--pid", "--fork", "--kill-child"];
    let gateway = Gateway::start_under(&world, &container, 2).await;
    let alice = world.identity("alice");
    let mut old = alice.visit(gateway.address, "db").await.unwrap();

    // The numbers of processes in the answer are those of the container.
    let answer = std::process::Command::new(PORTCULLIS)
        .args(["upgrade", "--json", "--socket"])
        .arg(world.path("admin.sock"))
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["old_pid"], 1);
    old.finish().await;
    assert_eq!(old.hear().await.unwrap(), "bye");

    // The end of process 1 would be the end of the container.
    for _ in 0..3 {
        alice.visit(gateway.address, "db").await.unwrap();
    }
    gateway
        .record(|record| record["generation"].as_u64() > Some(1))
        .await;
}

//! The kernel hands connections to the gateway, on ports that it does not listen on.
//!
//! `tests/steering.sh` runs these as root in a network namespace of its own, which has 192.0.2.1
//! and `2001:db8::1`, a pair of veth devices to the namespace `clients`, and `PORTCULLIS_BPFFS` for
//! a directory of pins.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use ebpf::{PinDir, Role, Steering};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::{Connection, Gateway, Identity, Upstream, World, destination_of, until};

mod bans;
mod handover;
mod status;

const WORKERS: usize = 4;
const CONNECTIONS: usize = 2000;
const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

fn portcullis(arguments: &[&str]) -> Output {
    let mut command = Command::new(PORTCULLIS);
    command.args(arguments);
    if arguments.first() != Some(&"upgrade") {
        // The running gateway knows where its own is.
        command.arg("--bpffs").arg(bpffs());
    }
    command.output().unwrap()
}

fn bpffs() -> PathBuf {
    std::env::var_os("PORTCULLIS_BPFFS")
        .expect("run steering.sh")
        .into()
}

fn pin_dir() -> PinDir {
    PinDir::new(&bpffs(), "default").unwrap()
}

/// Takes away what the gateway of another test, which was killed, left loaded.
fn clear() {
    portcullis(&["steer", "unload"]);
    assert!(!pin_dir().path().exists());
}

/// How much more the busiest worker has than the idlest, as a share of what they have on average.
fn spread() -> f64 {
    let loads = Steering::open(&pin_dir(), Role::Primary).unwrap().loads();
    let open: Vec<f64> = (0..WORKERS)
        .map(|worker| f64::from(u32::try_from(loads.open(worker)).unwrap()))
        .collect();
    let most = open.iter().copied().fold(0.0, f64::max);
    let least = open.iter().copied().fold(f64::MAX, f64::min);
    let average = open.iter().sum::<f64>() / open.iter().fold(0.0, |n, _| n + 1.0);
    println!("open connections of {WORKERS} workers: {open:?}");
    (most - least) / average
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn clients_are_served_on_ports_that_nobody_listens_on() {
    clear();
    let (db, queue) = (Upstream::start("db").await, Upstream::start("queue").await);
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [443, 5432]}");
    world.group("queue", &[&queue], "ports: [5672]");
    world.client("alice", "groups: [db, queue]");
    let mut gateway = world.start().await;
    let alice = world.identity("alice");

    for (address, name, reached) in [
        ("127.0.0.1:443", "db", "db"),
        ("192.0.2.1:5432", "db", "db"),
        ("[2001:db8::1]:443", "queue", "queue"),
        // No name, but a port of its own.
        ("192.0.2.1:5672", "192.0.2.1", "queue"),
    ] {
        let visit = alice.visit(address.parse().unwrap(), name).await;
        let mut connection = visit.unwrap_or_else(|refusal| panic!("{address}: {refusal:?}"));
        assert_eq!(connection.upstream().await, reached, "{address}");
        connection.finish().await;
        let record = gateway.record_of(&connection).await;
        assert_eq!(
            destination_of(&record),
            address,
            "as the client asked for it"
        );
    }

    let bindings = portcullis(&["bindings", "--json"]);
    let bindings: serde_json::Value = serde_json::from_slice(&bindings.stdout).unwrap();
    assert_eq!(bindings[0]["binding"], "*:443");
    assert_eq!(
        (&bindings[0]["steered"], &bindings[0]["unserved"]),
        (&2.into(), &0.into())
    );

    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    assert!(!pin_dir().path().exists(), "it loaded it and unloads it");
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn a_hundred_reloads_that_change_ports_cost_nobody_a_connection() {
    clear();
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let steer = |port: usize| format!("steer: {{mode: required, ports: [5432, {port}]}}");
    let clean = world.policy_with(&steer(7000));
    world.write("policy.yaml", &clean);
    let mut gateway = Gateway::start_as_it_is(&world).await;
    let alice = world.identity("alice");
    let address = "192.0.2.1:5432".parse().unwrap();
    let mut held = Vec::new();
    for _ in 0..55 {
        held.push(alice.visit(address, "db").await.unwrap());
    }

    let (stop, stopped) = watch::channel(false);
    let mut visitors = JoinSet::new();
    for _ in 0..3 {
        let (alice, stopped) = (alice.clone(), stopped.clone());
        visitors.spawn(async move {
            let mut visits = 0;
            while !*stopped.borrow() {
                let mut connection = alice.visit(address, "db").await.unwrap();
                let said = format!("{visits} {}", "x".repeat(1000));
                assert_eq!(connection.ask(&said).await.unwrap(), format!("db: {said}"));
                visits += 1;
            }
            visits
        });
    }
    for reload in 1..=100 {
        world.write("policy.yaml", &world.policy_with(&steer(7000 + reload)));
        gateway.logged("policy reloaded").await;
    }
    stop.send(true).unwrap();
    let visits: usize = visitors.join_all().await.into_iter().sum();
    println!("100 reloads: {visits} connections on an unchanged port, none failed");
    assert!(visits > 0);
    for connection in &mut held {
        assert_eq!(connection.ask("still").await.unwrap(), "db: still");
    }
    assert!(
        alice
            .visit("192.0.2.1:7000".parse().unwrap(), "db")
            .await
            .is_err()
    );
    alice
        .visit("192.0.2.1:7100".parse().unwrap(), "db")
        .await
        .unwrap();
}

/// Many connections at once, fifty of which arrive together.
async fn crowd(alice: &Identity, address: SocketAddr) -> Vec<Connection> {
    let mut held = Vec::new();
    while held.len() < CONNECTIONS {
        let mut arriving = JoinSet::new();
        for _ in 0..50 {
            let alice = alice.clone();
            let visit = async move { alice.visit(address, "db").await };
            arriving.spawn(visit);
        }
        held.extend(arriving.join_all().await.into_iter().map(Result::unwrap));
    }
    held
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn workers_get_equally_many_connections() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("limits: {handshakes: 10000, handshakes_per_source: 10000}");
    world.gateway_line("steer: {mode: required, ports: [5432]}");
    world.write_policy();
    let gateway = Gateway::start_under(&world, &["env"], WORKERS).await;
    let alice = world.identity("alice");
    let mut spreads = Vec::new();
    for address in [gateway.address, "127.0.0.1:5432".parse().unwrap()] {
        let held = crowd(&alice, address).await;
        spreads.push(spread());
        drop(held);
        let loads = Steering::open(&pin_dir(), Role::Primary).unwrap().loads();
        let idle = || (0..WORKERS).all(|worker| loads.open(worker) == 0);
        until(async || idle().then_some(())).await;
    }
    let [hashed, steered] = spreads[..] else {
        panic!("two spreads");
    };
    println!(
        "spread: {:.1} % by the kernel's hash, {:.1} % steered",
        hashed * 100.0,
        steered * 100.0
    );
    assert!(steered <= 0.02, "{steered}");
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn a_gateway_without_any_privilege_serves_what_root_loaded_for_it() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [22, 443]}");
    world.write_policy();
    world.give_to("nobody");
    let loaded = portcullis(&["steer", "load", "--user", "nobody"]);
    assert!(loaded.status.success(), "{loaded:?}");
    let setpriv = "setpriv --reuid nobody --regid nogroup --clear-groups --inh-caps=-all \
                   --bounding-set=-all --no-new-privs";
    let command: Vec<&str> = setpriv.split_whitespace().collect();
    let gateway = Gateway::start_under(&world, &command, 2).await;
    let alice = world.identity("alice");
    for address in ["127.0.0.1:22", "192.0.2.1:443", "[2001:db8::1]:443"] {
        alice.visit(address.parse().unwrap(), "db").await.unwrap();
    }

    // Killed, it leaves what is steered to nobody; the next one takes over.
    gateway.signal("KILL");
    drop(gateway);
    let alone = alice.visit("127.0.0.1:22".parse().unwrap(), "db").await;
    assert!(alone.is_err());
    let _next = Gateway::start_under(&world, &command, 2).await;
    alice
        .visit("127.0.0.1:22".parse().unwrap(), "db")
        .await
        .unwrap();

    let status = portcullis(&["steer", "status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("loaded, with 2 bindings"));
    assert!(portcullis(&["steer", "unload"]).status.success());
    assert_eq!(portcullis(&["steer", "status"]).status.code(), Some(1));
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn without_the_kernels_half_it_says_so_once_and_serves_its_own_addresses() {
    clear();
    let db = Upstream::start("db").await;
    for (hindrance, command) in [
        (
            "lacks CAP_BPF",
            "setpriv --bounding-set=-all --inh-caps=-all --reuid nobody --regid nogroup --clear-groups",
        ),
        ("is not in a bpffs", "env PORTCULLIS_BPFFS=/tmp"),
    ] {
        let mut world = World::with_db(&[&db]);
        world.gateway_line("steer: {mode: auto, ports: [443]}");
        world.write_policy();
        world.give_to("nobody");
        let command: Vec<&str> = command.split_whitespace().collect();
        let gateway = Gateway::start_under(&world, &command, 2).await;
        world.visit(&gateway, "alice").await;
        drop(gateway);

        let policy = world.policy().replace("mode: auto", "mode: required");
        world.write("policy.yaml", &policy);
        world.give_to("nobody");
        let refused = Command::new(command[0])
            .args(&command[1..])
            .args([PORTCULLIS, "run", "--policy"])
            .arg(world.path("policy.yaml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("steering is required") && said.contains(hindrance),
            "{said}"
        );
    }
}

//! What a service manager such as systemd is told, and what it keeps while there is no gateway.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::{Identity, Manager, Refusal, Upstream, World, signal, until};

/// The variable by which a service manager says that it keeps listeners, and how many.
pub(crate) const KEEPS: &[(&str, &str)] = &[("FDSTORE", "100")];
/// How many clients a policy has that takes long to read.
const MANY_CLIENTS: usize = 200_000;
/// How many clients come while there is no gateway.
const WAITING: usize = 50;
/// How long there is none.
pub(crate) const GONE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_service_manager_is_told_how_the_gateway_is() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, &[]).await;
    assert!(manager.kept().is_empty(), "it does not keep listeners");

    gateway.signal("HUP");
    let news = manager.told("RELOADING=1").await;
    let now = news
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(now.unwrap().parse::<u64>().unwrap() > 0);
    manager.told("READY=1").await;

    // Also when the policy that is read again is bad.
    world.write("policy.yaml", "version: 1");
    manager.told("RELOADING=1").await;
    manager.told("READY=1").await;

    gateway.signal("TERM");
    manager.told("STOPPING=1").await;
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn the_watchdog_is_told_again_and_again_also_by_a_process_that_follows() {
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, &[("WATCHDOG_USEC", "200000")]).await;
    for _ in 0..5 {
        manager.told("WATCHDOG=1").await;
    }
    gateway.upgrade(&[]).await.unwrap();
    // The manager listens to the new process from the moment that the old one names it.
    manager
        .told(&format!("MAINPID={}", gateway.process()))
        .await;
    manager.told("READY=1").await;
    assert!(gateway.ended().await.success());
    for _ in 0..5 {
        manager.told("WATCHDOG=1").await;
    }
}

#[tokio::test]
async fn a_long_reload_delays_neither_the_watchdog_nor_the_end() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, &[("WATCHDOG_USEC", "100000")]).await;
    let mut long = world.policy();
    for number in 0..MANY_CLIENTS {
        writeln!(long, "  client-{number}: {{groups: [db]}}").unwrap();
    }
    world.write("policy.yaml", &long);
    manager.told("RELOADING=1").await;

    let mut meanwhile = Vec::new();
    for _ in 0..3 {
        meanwhile.extend(manager.all_until("WATCHDOG=1").await);
    }
    // The low priority of reading is not that of a thread that takes the main loop's locks.
    let nice = nice_values(gateway.process());
    assert_eq!((nice["reading"], nice["reload"]), (19, nice["worker-0"]));
    gateway.signal("TERM");
    meanwhile.extend(manager.all_until("STOPPING=1").await);
    assert!(
        !meanwhile.iter().any(|news| news.contains("READY=1")),
        "the reload took too short a time: {meanwhile:?}"
    );
    assert!(gateway.ended().await.success());
}

/// The nice values of a process's threads, by their names.
fn nice_values(process: u32) -> HashMap<String, i32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let values = threads.map(|thread| {
        let thread = thread.unwrap().path();
        let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
        // proc_pid_stat(5): behind the name in brackets, `nice` is the 17th field.
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        let name = name.split_once('(').unwrap().1.to_owned();
        (name, fields.split(' ').nth(16).unwrap().parse().unwrap())
    });
    values.collect()
}

#[tokio::test]
async fn a_process_that_drains_says_nothing_to_the_manager() {
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, &[]).await;
    let old = gateway.process().to_string();
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    gateway.upgrade(&[]).await.unwrap();
    manager.told("READY=1").await;

    // Both read the policy again, and the old one is told to end.
    gateway.signal("HUP");
    for _ in 0..2 {
        gateway.logged("policy reloaded").await;
    }
    let ended = Command::new("kill").args(["-TERM", &old]).status();
    assert!(ended.unwrap().success());
    gateway.logged("draining").await;
    held.finish().await;
    assert_eq!(held.hear().await.unwrap(), "bye");
    assert!(gateway.ended().await.success());

    gateway.signal("TERM");
    let news = manager.all_until("STOPPING=1").await;
    let said = |line: &str| news.iter().filter(|news| news.starts_with(line)).count();
    assert_eq!(
        (said("RELOADING=1"), said("STOPPING=1")),
        (1, 1),
        "{news:?}"
    );
    gateway.logged("every connection ended by itself").await;
}

#[tokio::test]
async fn the_death_of_a_new_process_is_noticed_and_the_gateway_can_be_started_again_at_once() {
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, KEEPS).await;
    let first = gateway.process();
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    for _ in 0..2 {
        gateway.upgrade(&[]).await.unwrap();
        let named = format!("MAINPID={}", gateway.process());
        let news = manager.told(&named).await;
        assert!(news.contains("WATCHDOG=1"), "its time begins anew: {news}");
    }
    let main = gateway.process();
    // The one between goes on for as long as the first one has connections.
    signal(main, "KILL");
    assert_eq!(manager.lost(main).await, Some(9));
    let gone = "the process that serves has ended; clients cannot connect until the gateway is started \
         again";
    assert_eq!(gateway.logged(gone).await["level"], "ERROR");
    let status = format!("STATUS=process {main}, which served, has ended");
    manager.told(&status).await;
    assert_eq!(held.ask("still").await.unwrap(), "db: still");

    // A manager ends what is left before it starts the service again, and clients wait meanwhile.
    let clients = waiting(&alice, gateway.address);
    signal(first, "TERM");
    assert!(gateway.ended().await.code().is_some());
    assert_eq!(held.end().await, Refusal::Reset);
    let again = manager.start(&world, KEEPS).await;
    assert_eq!(again.address, gateway.address);
    clients.join_all().await;
}

#[tokio::test]
async fn a_manager_that_has_started_another_process_is_not_told_of_a_new_main_one() {
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.write_policy();
    let mut manager = Manager::new(&world);
    // A shell, or a supervisor that is a service itself.
    let mut gateway = manager.start(&world, &[("SYSTEMD_EXEC_PID", "1")]).await;
    let first = gateway.process();
    gateway.upgrade(&[]).await.unwrap();
    let stays = "no connection is left; this process stays as the parent of the one that serves";
    gateway.logged(stays).await;
    signal(first, "TERM");
    assert!(gateway.ended().await.success());
    let news = manager.all_until("STOPPING=1").await;
    assert!(
        !news.iter().any(|news| news.contains("MAINPID")),
        "{news:?}"
    );
}

/// Clients who connect and wait to be served.
pub(crate) fn waiting(alice: &Identity, address: SocketAddr) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..WAITING {
        let alice = alice.clone();
        clients.spawn(async move {
            let mut connection = alice.visit(address, "db").await.unwrap();
            assert_eq!(connection.ask("late").await.unwrap(), "db: late");
        });
    }
    clients
}

#[tokio::test]
async fn while_the_manager_keeps_the_listeners_nobody_is_refused() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    world.write_policy();
    let mut manager = Manager::new(&world);
    let gateway = manager.start(&world, KEEPS).await;
    let alice = world.identity("alice");
    assert_eq!(manager.kept(), ["listen-127.0.0.1_0"; 2]);
    let address = gateway.address;

    gateway.signal("KILL");
    drop(gateway);
    let clients = waiting(&alice, address);
    tokio::time::sleep(GONE).await;
    let mut gateway = manager.start(&world, KEEPS).await;
    assert_eq!(
        gateway.address, address,
        "its port 0 is the one that it was"
    );
    clients.join_all().await;
    println!("killed, and gone for {GONE:?}: {WAITING} clients waited, all served");
    assert_eq!(manager.kept().len(), 2, "nothing is kept twice");

    // Stopped and started again.
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let clients = waiting(&alice, address);
    let _gateway = manager.start(&world, KEEPS).await;
    clients.join_all().await;
}

#[tokio::test]
async fn listeners_that_the_manager_opened_are_served_by_every_worker() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let mut manager = Manager::new(&world);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    manager.open("portcullis.socket", listener);
    let policy = world.policy().replace("127.0.0.1:0", &address.to_string());
    world.write("policy.yaml", &policy);
    // From before the first process.
    let clients = waiting(&world.identity("alice"), address);
    let gateway = manager.start(&world, &[]).await;
    assert_eq!(gateway.address, address);
    clients.join_all().await;
}

#[tokio::test]
async fn what_is_no_longer_listened_at_is_no_longer_kept() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let both = world
        .policy()
        .replace("\"127.0.0.1:0\"", "\"127.0.0.1:0\", \"[::1]:0\"");
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, KEEPS).await;
    world.write("policy.yaml", &both);
    gateway.logged("policy reloaded").await;
    let sixth = ["listen-127.0.0.1_0", "listen-[__1]_0"]
        .map(|name| [name; 2])
        .concat();
    until(async || (manager.kept() == sixth).then_some(())).await;
    world.write_policy();
    gateway.logged("policy reloaded").await;
    until(async || (manager.kept().len() == 2).then_some(())).await;
}

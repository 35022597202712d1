//! Addresses of `listen` that are in use or that no interface has.

use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::harness::{Gateway, Upstream, World, signal, soon};

/// Log message while an address is tried again.
const RETRIES: &str = "cannot listen on an address; trying again";

/// A gateway process that may end before it serves.
struct Start {
    process: Child,
    events: Lines<BufReader<ChildStderr>>,
}

impl Start {
    fn of(world: &World) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "--workers", "2", "--log-format", "json", "--policy"])
            .arg(world.path("policy.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let events = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, events }
    }

    async fn logged(&mut self, message: &str) -> Value {
        soon(async {
            loop {
                let line = self.events.next_line().await.unwrap().expect("it goes on");
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["message"] == message {
                    return event;
                }
            }
        })
        .await
    }

    async fn ended(&mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        while let Some(line) = soon(self.events.next_line()).await.unwrap() {
            said += &line;
        }
        (soon(self.process.wait()).await.unwrap().code(), said)
    }
}

/// A world whose gateway listens at `address`, with more lines of its section.
fn world(db: &Upstream, address: &str, lines: &[&str]) -> World {
    let mut world = World::with_db(&[db]);
    for line in lines {
        world.gateway_line(line);
    }
    write(&world, address);
    world
}

fn write(world: &World, address: &str) {
    let policy = world.policy().replace("\"127.0.0.1:0\"", address);
    world.write("policy.yaml", &policy);
}

/// Another program's listener, and its address.
fn other_listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("\"{}\"", listener.local_addr().unwrap());
    (listener, address)
}

#[tokio::test]
async fn an_address_in_use_is_tried_again_until_it_is_free() {
    let db = Upstream::start("db").await;
    let (busy, address) = other_listener();
    let world = world(&db, &address, &["listen_retry: 1m"]);
    let mut start = Start::of(&world);
    let event = start.logged(RETRIES).await;
    let error = event["error"].as_str().unwrap();
    assert!(
        error.contains("another process uses the address"),
        "{error}"
    );
    let address = busy.local_addr().unwrap();
    drop(busy);
    start
        .logged("serving TLS 1.3 with client certificates")
        .await;
    let alice = world.identity("alice");
    // The kernel chooses among all listeners: one without a worker would keep a client waiting.
    for _ in 0..16 {
        drop(alice.visit(address, "db").await.unwrap());
    }
}

#[tokio::test]
async fn a_signal_ends_a_gateway_that_waits_for_its_address() {
    let db = Upstream::start("db").await;
    let (_busy, address) = other_listener();
    let world = world(&db, &address, &["listen_retry: 1d"]);
    let mut start = Start::of(&world);
    start.logged(RETRIES).await;
    signal(start.process.id().unwrap(), "TERM");
    let (code, said) = start.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stopped before it served"), "{said}");
}

#[tokio::test]
async fn an_address_that_stays_in_use_is_given_up_in_time() {
    let db = Upstream::start("db").await;
    let (_busy, address) = other_listener();
    let world = world(&db, &address, &["listen_retry: 300ms"]);
    let (code, said) = Start::of(&world).ended().await;
    assert_eq!(code, Some(1));
    assert_eq!(said.matches(RETRIES).count(), 1, "{said}");
    assert!(said.contains("another process uses the address"), "{said}");
}

#[tokio::test]
async fn an_address_that_no_interface_has_can_be_listened_at_if_that_is_wanted() {
    let db = Upstream::start("db").await;
    // RFC 5737 keeps these for documentation.
    let mut world = world(&db, "\"203.0.113.1:0\"", &[]);
    let (code, said) = Start::of(&world).ended().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("set `freebind: true`"), "{said}");

    world.gateway_line("freebind: true");
    write(&world, "\"203.0.113.1:0\"");
    let mut gateway = Gateway::start_as_it_is(&world).await;
    assert_eq!(gateway.address.ip().to_string(), "203.0.113.1");
    write(
        &world,
        "\"203.0.113.1:0\", \"127.0.0.1:0\", \"[2001:db8::1]:0\"",
    );
    gateway.logged("policy reloaded").await;

    world.forget_gateway_line("freebind: true");
    write(&world, "\"203.0.113.2:0\"");
    let event = gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    assert!(event["retry_ms"].as_u64().is_some(), "{event}");
    world.gateway_line("freebind: true");
    write(&world, "\"203.0.113.2:0\"");
    gateway.logged("policy reloaded").await;
}

//! The admin socket: who may use it, what it answers, and that nobody can clog it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::harness::{Gateway, Upstream, World, soon};

mod reads;

/// How many connections are served at a time.
const PLACES: usize = 8;

fn world(db: &Upstream) -> World {
    let mut world = World::with_db(&[db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world
}

/// Sends a request as it is written, and returns the answer.
/// Runs a gateway that is expected not to start.
async fn run(policy: &Path) -> Output {
    let running = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--log-format", "json", "--policy"])
        .arg(policy)
        .kill_on_drop(true)
        .output();
    soon(running).await.unwrap()
}

async fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    // Whoever sends too much may be cut off behind the answer.
    soon(stream.write_all(request.as_bytes())).await.ok();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8(answer).unwrap()
}

fn post(body: &str) -> String {
    let length = body.len();
    format!("POST /upgrade HTTP/1.1\r\nhost: gateway\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn what_is_asked_wrongly_is_answered_with_what_is_wrong() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    let _gateway = world.start().await;
    let socket = world.path("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let garbage = ask(&socket, "\x16\x03\x01 hello\r\n\r\n").await;
    assert!(
        garbage.is_empty() || garbage.starts_with("HTTP/1.1 400"),
        "{garbage}"
    );
    for (request, status, said) in [
        (post("{"), "400", "EOF while parsing"),
        (
            post("{\"binry\": \"/bin/false\"}"),
            "400",
            "unknown field `binry`",
        ),
        (post(&" ".repeat(100_000)), "400", "longer than 65536 bytes"),
        (
            post("{\"binary\": \"false\"}"),
            "409",
            "the path of the program must be absolute: false",
        ),
        (
            post("{\"binary\": \"/bin/false\"}"),
            "409",
            "(exit status: 1)",
        ),
        (post("{\"dry_run\": true}"), "200", "\"dry_run\":true"),
        (post(""), "200", "\"dry_run\":false"),
    ] {
        let answer = ask(&socket, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(said), "{answer}");
        let follower = answer.split("\"pid\":").nth(1);
        if let Some(follower) = follower.filter(|_| answer.contains("\"dry_run\":false")) {
            let follower = follower.split(',').next().unwrap();
            let killed = Command::new("kill")
                .args(["-KILL", follower])
                .status()
                .await;
            assert!(killed.unwrap().success());
        }
    }
}

#[tokio::test]
async fn silent_clients_are_gone_after_a_while() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    let mut gateway = world.start().await;
    let socket = world.path("admin.sock");
    let mut silent = Vec::new();
    for n in 0..2 * PLACES {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        // Some never ask, others never come to the end of what they ask.
        if n % 2 == 0 {
            let request = "POST /upgrade HTTP/1.1\r\nhost: gateway\r\ncontent-length: 10\r\n\r\n{";
            stream.write_all(request.as_bytes()).await.unwrap();
        }
        silent.push(stream);
    }
    // After two rounds of them.
    gateway.upgrade(&["--dry-run"]).await.unwrap();
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    let mut gateway = world.start().await;
    gateway.signal("KILL");
    gateway.ended().await;
    assert!(world.path("admin.sock").exists());
    let mut gateway = Gateway::start_as_it_is(&world).await;
    gateway.upgrade(&["--dry-run"]).await.unwrap();

    let second = run(&world.path("policy.yaml")).await;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        said.contains("admin.sock: Address already in use"),
        "{said}"
    );
    gateway.upgrade(&["--dry-run"]).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    world.write_policy();
    world.write("admin.sock", "precious");
    let refused = run(&world.path("policy.yaml")).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    let events: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is an event"))
        .collect();
    let last = events.last().unwrap();
    assert_eq!(last["message"], "the gateway did not start");
    let error = last["error"].as_str().unwrap();
    assert!(error.contains("exists and is not a socket"), "{error}");
    let left = std::fs::read_to_string(world.path("admin.sock")).unwrap();
    assert_eq!(left, "precious");
}

#[tokio::test]
async fn at_the_end_only_the_gateways_own_socket_is_removed() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    let mut gateway = world.start().await;
    world.write("admin.sock", "precious");
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    let left = std::fs::read_to_string(world.path("admin.sock")).unwrap();
    assert_eq!(left, "precious");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_address_does_not_start() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let gateway = world.start().await;
    let address = format!("\"{}\"", gateway.address);
    world.write(
        "second.yaml",
        &world.policy().replace("\"127.0.0.1:0\"", &address),
    );
    let second = run(&world.path("second.yaml")).await;
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another process uses the address"), "{said}");
}

//! What the running gateway says of itself: `status`, `groups`, `upstreams` and `clients`.

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Command;

use super::{ask, post, world};
use crate::harness::{Upstream, World, soon, until};

/// Runs a command without the environment's variables, and returns what it prints, or its error.
async fn run(world: &World, arguments: &[&str]) -> Result<String, String> {
    let command = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .current_dir(world.path("."))
        .env_remove("PORTCULLIS_SOCKET")
        .output();
    let output = soon(command).await.unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Err(String::from_utf8(output.stderr).unwrap())
}

async fn read(world: &World, what: &str) -> Value {
    let text = run(world, &[what, "--json"]).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns an address of the loopback that refuses connections.
async fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn status_says_which_process_serves_and_how_the_last_reload_ended() {
    let db = Upstream::start("db").await;
    let mut world = world(&db);
    let mut gateway = world.start().await;
    let status = read(&world, "status").await;
    assert_eq!(status["pid"], gateway.process());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["role"], "primary");
    assert_eq!(status["generation"], 1);
    assert_eq!(status["last_reload"], Value::Null);
    assert_eq!(status["listeners"][0], gateway.address.to_string());
    assert_eq!(status["connections"]["open"], 0);

    let alice = world.identity("alice");
    let mut connection = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(connection.upstream().await, "db");
    assert_eq!(read(&world, "status").await["connections"]["open"], 1);

    world.client("bob", "groups: [db]");
    gateway.reload(&world).await;
    let status = read(&world, "status").await;
    assert_eq!(status["generation"], 2);
    assert_eq!(status["last_reload"]["changes"], 1);
    assert_eq!(status["last_reload"]["error"], Value::Null);

    world.write("policy.yaml", "groups: {");
    gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    let status = run(&world, &["status", "--socket", "admin.sock"]).await;
    let status = status.unwrap();
    assert!(status.contains("last reload  FAILED 0s ago: "), "{status}");
    assert!(status.contains("generation 2\n"), "{status}");
}

#[tokio::test]
async fn after_an_upgrade_the_new_process_answers_and_says_until_when_the_old_one_drains() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    let mut gateway = world.start().await;
    let old = gateway.process();
    let alice = world.identity("alice");
    let mut connection = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(connection.upstream().await, "db");
    gateway.upgrade(&[]).await.unwrap();

    let status = read(&world, "status").await;
    assert_ne!(status["pid"], old);
    assert_eq!(status["old_process_drains"], true);
    // Its limits count over both processes.
    assert_eq!(status["connections"]["own"], 0);
    assert_eq!(
        read(&world, "clients").await["clients"][0]["connections"],
        1
    );
    assert_eq!(
        read(&world, "upstreams").await["upstreams"][0]["connections"],
        1
    );

    drop(connection);
    until(async || (read(&world, "status").await["old_process_drains"] == false).then_some(()))
        .await;
    assert_eq!(
        read(&world, "clients").await["clients"][0]["connections"],
        0
    );
}

#[tokio::test]
async fn an_upstream_that_is_down_comes_first_with_its_cause() {
    let db = Upstream::start("db").await;
    let mut world = world(&db);
    let dead = dead_address().await;
    let upstreams = format!("\"{}\", \"{dead}\"", db.address());
    let fast = "health: {check: tcp, interval: 50ms, fall: 1, rise: 1}";
    world.group_of("db", &upstreams, fast);
    let mut gateway = world.start().await;
    gateway.logged_at_all("upstream is down").await;
    let mut connection = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    assert_eq!(connection.upstream().await, "db");

    let text = run(&world, &["upstreams"]).await.unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .filter(|cell| !cell.is_empty())
                .map(str::trim)
                .collect()
        })
        .collect();
    let header = [
        "GROUP",
        "UPSTREAM",
        "HEALTH",
        "STATE",
        "CONNECTIONS",
        "WEIGHT",
        "CAUSE",
    ];
    assert_eq!(rows[0], header);
    assert_eq!(
        rows[1],
        ["db", &dead, "down", "ready", "0", "1", "connection refused"]
    );
    let alive = db.address().to_string();
    assert_eq!(rows[2], ["db", &alive, "up", "ready", "1", "1", "-"]);

    let groups = read(&world, "groups").await;
    let group = &groups["groups"][0];
    assert_eq!(
        (&group["name"], &group["upstreams"]),
        (&"db".into(), &2.into())
    );
    assert_eq!(
        (&group["available"], &group["connections"]),
        (&1.into(), &1.into())
    );
}

#[tokio::test]
async fn clients_are_listed_with_their_connections_limits_and_certificates() {
    let db = Upstream::start("db").await;
    let mut world = world(&db);
    world.client("alice", "groups: [db], max_connections: 1, rate: 100/s");
    world.client("zoe", "groups: [db]");
    let gateway = world.start().await;
    let mut connection = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    assert_eq!(connection.upstream().await, "db");
    let clients = read(&world, "clients").await;
    let [alice, zoe] = clients["clients"].as_array().unwrap().as_slice() else {
        panic!("{clients}");
    };
    assert_eq!(
        (&alice["name"], &alice["connections"]),
        (&"alice".into(), &1.into())
    );
    assert_eq!(
        (&alice["max_connections"], &alice["rate"]),
        (&1.into(), &"100/s".into())
    );
    assert_eq!(alice["groups"][0], "db");
    assert!(alice["certificate_ends"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        (&zoe["connections"], &zoe["max_connections"]),
        (&0.into(), &Value::Null)
    );
    assert_eq!(zoe["certificate_ends"], Value::Null);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_answered_with_what_there_is() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    let _gateway = world.start().await;
    for (request, status, said) in [
        (
            "GET /",
            "404",
            "\"not found; there is GET /status, GET /groups,",
        ),
        ("GET /status/", "404", "not found"),
        (
            "DELETE /upgrade",
            "405",
            "the method DELETE is not allowed at this path; there is",
        ),
        ("POST /status", "405", "GET /openapi.json, POST /upgrade\""),
        ("GET /openapi.json", "200", "\"openapi\": \"3.1.0\""),
        ("GET /status?x=1", "200", "\"generation\":1"),
    ] {
        let head = format!("{request} HTTP/1.1\r\nhost: gateway\r\n\r\n");
        let answer = ask(&world.path("admin.sock"), &head).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(said), "{answer}");
    }
}

#[tokio::test]
async fn a_command_without_a_gateway_says_what_to_do() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    world.write_policy();
    let error = run(&world, &["status"]).await.unwrap_err();
    assert!(
        error.contains("admin.sock") && error.contains("--socket"),
        "{error}"
    );

    let mut gateway = world.start().await;
    gateway.signal("KILL");
    gateway.ended().await;
    let error = run(&world, &["clients"]).await.unwrap_err();
    assert!(error.contains("no gateway runs there"), "{error}");

    let without = World::with_db(&[&db]);
    without.write_policy();
    let error = run(&without, &["groups", "--policy", "policy.yaml"]).await;
    let error = error.unwrap_err();
    assert!(error.contains("has no `gateway.admin.socket`"), "{error}");
}

#[tokio::test]
async fn a_thousand_connections_and_a_huge_body_change_nothing_and_keep_no_client_out() {
    let db = Upstream::start("db").await;
    let world = world(&db);
    let gateway = world.start().await;
    let socket = world.path("admin.sock");
    let refused = ask(&socket, &post(&" ".repeat(10_000_000))).await;
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");

    let mut silent = Vec::new();
    for _ in 0..1000 {
        // Further connections than the queue has room for are refused by the kernel.
        if let Ok(Ok(stream)) = tokio::time::timeout(
            std::time::Duration::from_millis(5),
            UnixStream::connect(&socket),
        )
        .await
        {
            silent.push(stream);
        }
    }
    if let Some(half) = silent.first_mut() {
        let request = "POST /upgrade HTTP/1.1\r\nhost: gateway\r\ncontent-length: 10\r\n\r\n{";
        half.write_all(request.as_bytes()).await.unwrap();
    }
    let mut connection = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    assert_eq!(connection.upstream().await, "db");
    drop(silent);
    let status = read(&world, "status").await;
    assert_eq!(status["pid"], gateway.process());
    assert_eq!(status["generation"], 1);
}

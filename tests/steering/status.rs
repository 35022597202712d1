//! `portcullis steer status` names the processes that have a role.

use serde_json::{Value, json};

use super::handover::{stand_by, until_it_stands_by};
use super::{clear, portcullis};
use crate::harness::{Upstream, World};

/// What is said of the primary and the standby, without the times.
fn gateways() -> Value {
    let status = portcullis(&["steer", "status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    let mut status: Value = serde_json::from_slice(&status.stdout).unwrap();
    for gateway in status["gateways"].as_array_mut().unwrap() {
        let since = gateway.as_object_mut().unwrap().remove("since");
        assert_eq!(since.is_some(), gateway["state"] == "attached");
    }
    status["gateways"].take()
}

fn attached(role: &str, pid: u32) -> Value {
    json!({"role": role, "state": "attached", "pid": pid})
}

fn none(role: &str) -> Value {
    json!({"role": role, "state": "none"})
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn the_status_names_the_processes_of_the_primary_and_the_standby() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("admin: {socket: admin.sock}");
    world.gateway_line("steer: {mode: required, ports: [5432]}");
    world.write_policy();
    assert!(portcullis(&["steer", "load"]).status.success());
    assert_eq!(gateways(), json!([none("primary"), none("standby")]));

    let mut primary = world.start().await;
    let first = primary.process();
    let alone = json!([attached("primary", first), none("standby")]);
    assert_eq!(gateways(), alone);

    let standby = stand_by(&world);
    until_it_stands_by().await;
    let standby = attached("standby", standby.id().unwrap());
    assert_eq!(gateways(), json!([attached("primary", first), standby]));
    let text = portcullis(&["steer", "status"]).stdout;
    let text = String::from_utf8(text).unwrap();
    let line = format!("\nprimary: process {first}, since 20");
    assert!(text.contains(&line), "{text}");

    primary.signal("KILL");
    primary.ended().await;
    let lost = json!({"role": "primary", "state": "lost", "pid": first});
    assert_eq!(gateways(), json!([lost, standby]));
    let text = portcullis(&["steer", "status"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("has ended, or cannot be seen"), "{text}");

    let mut primary = world.start().await;
    let second = attached("primary", primary.process());
    assert_eq!(gateways(), json!([second, standby]));
    let held = world.identity("alice").visit(primary.address, "db").await;
    primary.upgrade(&[]).await.unwrap();
    let third = attached("primary", primary.process());
    assert_ne!(second, third);
    assert_eq!(gateways(), json!([third, standby]), "the old one drains");

    drop(held);
    primary.signal("TERM");
    assert!(primary.ended().await.success());
    assert_eq!(gateways(), json!([none("primary"), standby]));
}

#[tokio::test]
#[ignore = "steering.sh runs it as root"]
async fn the_status_names_a_process_by_the_pid_that_the_caller_sees() {
    clear();
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    world.gateway_line("steer: {mode: required, ports: [5432]}");
    world.write_policy();
    let container = ["unshare", "--pid", "--fork", "--kill-child"];
    let gateway = crate::harness::Gateway::start_under(&world, &container, 2).await;
    // Process 1 of its own namespace, and the only child of `unshare` here.
    let of_unshare = gateway.first();
    let children = format!("/proc/{of_unshare}/task/{of_unshare}/children");
    let children = std::fs::read_to_string(children).unwrap();
    let pid = children.trim().parse().unwrap();
    assert_eq!(
        gateways(),
        json!([attached("primary", pid), none("standby")])
    );
}

//! `check` and the log of a gateway say the same of a policy that can be served, with its place.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Gateway, Upstream, World};

fn check(world: &World, arguments: &[&str]) -> Output {
    world.write_policy();
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(world.folder())
        .arg("check")
        .args(arguments)
        .output()
        .unwrap()
}

/// The warnings of `check --json`.
fn warnings(world: &World, arguments: &[&str]) -> Vec<Value> {
    let output = check(world, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "warnings are no errors");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["warnings"].as_array().unwrap().clone()
}

/// A world of whose policy there is much to say.
fn careless_world(upstream: &Upstream) -> World {
    let mut world = World::new();
    world.group("db", &[upstream], "");
    world.client("alice", "groups: [db]");
    world.client("bob", "groups: [db]");
    world.gateway_line("ban: {failures: 5}");
    world.gateway_line("limits: {connections: unlimited}");
    world.tail("tests: [{client: alice, sni: db, expect: allow}]\n");
    world
}

#[tokio::test]
async fn each_warning_of_check_has_its_place_and_the_next_step() {
    let upstream = Upstream::start("a").await;
    let mut world = careless_world(&upstream);
    world.gateway_line("admin: {socket: nowhere/admin.sock}");
    let told = warnings(&world, &["--access-log", "nowhere/access.log"]);
    let text = world.policy();
    let place = |begins: &str| {
        let found = text
            .lines()
            .position(|line| line.trim().starts_with(begins));
        found.unwrap() + 1
    };
    for (line, column, says, step) in [
        (
            place("ban:"),
            3,
            "`ban` has no effect without `steer`",
            "add `steer`",
        ),
        (
            place("limits:"),
            12,
            "limits.connections: the open-file limit",
            "LimitNOFILE=",
        ),
        (
            place("admin:"),
            11,
            "gateway.admin.socket: the directory nowhere does not exist",
            "create it",
        ),
        (place("db:"), 3, "is not valid for db", "issue it for them"),
        (
            place("bob:"),
            3,
            "client `bob` may reach `db`",
            "to `tests`",
        ),
    ] {
        let found = told
            .iter()
            .find(|one| one["message"].as_str().unwrap().contains(says));
        let found = found.unwrap_or_else(|| panic!("{says}: {told:?}"));
        assert_eq!(found["file"], "policy.yaml");
        assert_eq!(
            (&found["line"], &found["column"]),
            (&line.into(), &column.into()),
            "{says}"
        );
        assert!(found["message"].as_str().unwrap().contains(step), "{found}");
    }
    let log = told.iter().find(|one| one.get("line").is_none()).unwrap();
    let said = log["message"].as_str().unwrap();
    assert!(said.starts_with("--access-log: the directory nowhere does not exist"));
    assert_eq!(told.len(), 6, "{told:?}");
    let text = String::from_utf8(check(&world, &[]).stdout).unwrap();
    let ban = format!("policy.yaml:{}:3: warning: `ban` has", place("ban:"));
    assert!(text.contains(&ban), "{text}");
}

#[tokio::test]
async fn what_is_in_order_is_not_warned_of() {
    let upstream = Upstream::start("a").await;
    let mut world = World::new();
    world.group("localhost", &[&upstream], "");
    world.client("alice", "groups: [localhost]");
    world.gateway_line("limits: {connections: 10}");
    world.gateway_line("admin: {socket: admin.sock}");
    world.tail("tests: [{client: alice, sni: localhost, expect: allow}]\n");
    assert_eq!(
        warnings(&world, &["--access-log", "access.log"]),
        Vec::<Value>::new()
    );
    let device = warnings(&world, &["--access-log", "/dev/null"]);
    assert_eq!(device, Vec::<Value>::new());
}

#[tokio::test]
async fn the_log_says_at_the_start_and_on_reload_what_check_says() {
    let upstream = Upstream::start("a").await;
    let mut world = careless_world(&upstream);
    let told = warnings(&world, &[]);
    let mut gateway = world.start().await;
    assert_logged(&mut gateway, &told).await;
    world.client("carol", "groups: [db]");
    gateway.reload(&world).await;
    let told = warnings(&world, &[]);
    assert!(
        told.iter()
            .any(|one| one["message"].as_str().unwrap().contains("carol"))
    );
    assert_logged(&mut gateway, &told).await;
}

/// The next events of the log are these findings, in this order.
async fn assert_logged(gateway: &mut Gateway, told: &[Value]) {
    for finding in told {
        let event = gateway.logged_at_all("the policy needs attention").await;
        let said = event["finding"].as_str().unwrap();
        let at = event["at"]
            .as_str()
            .map(|at| format!("{at}: "))
            .unwrap_or_default();
        assert_eq!(finding["message"], format!("{at}{said}"));
        assert_eq!(
            (&finding["line"], &finding["column"]),
            (&event["line"], &event["column"]),
            "{said}"
        );
        assert_eq!(event["level"], "WARN");
    }
}

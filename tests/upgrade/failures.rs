//! Upgrades that fail: nothing changes, and it is said why.

use super::{echoes, leave, script, world};
use crate::harness::{Upstream, soon, until};

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
        (
            &ends,
            ["--timeout", "9"],
            "before it was ready (exit status: 7)",
        ),
        (
            &chatters,
            ["--timeout", "9"],
            "does not speak the upgrade protocol",
        ),
        (&nothing, ["--timeout", "9"], ": Permission denied"),
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
        assert!(error.contains("cannot open the admin socket"), "{error}");
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

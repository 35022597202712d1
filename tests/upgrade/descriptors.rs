//! Upgrades of a gateway, or to a process, that runs out of descriptors.

use super::{echoes, leave, script, world};
use crate::harness::{Connection, Gateway, Identity, Upstream, World, until};
use crate::reload::limit_descriptors;

/// A gateway with few descriptors.
async fn start_with_few(world: &World) -> Gateway {
    world.write_policy();
    let few = ["sh", "-c", "ulimit -n 160; exec \"$@\"", "sh"];
    Gateway::start_under(world, &few, 2).await
}

/// As many connections as a client can get.
async fn fill(alice: &Identity, gateway: &Gateway) -> Vec<Connection> {
    let mut held = Vec::new();
    while let Ok(connection) = alice.visit(gateway.address, "db").await {
        held.push(connection);
    }
    assert!(held.len() > 10, "{}", held.len());
    held
}

#[tokio::test]
async fn a_gateway_whose_clients_hold_all_descriptors_they_can_get_is_upgraded() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = start_with_few(&world).await;
    let alice = world.identity("alice");
    let held = fill(&alice, &gateway).await;

    let upgraded = gateway.upgrade(&[]).await.unwrap();
    assert_eq!(upgraded["connections"], held.len());
    let mut new = alice.visit(gateway.address, "db").await.unwrap();
    echoes(&mut new, "the new process has its own").await;
    for mut connection in held {
        echoes(&mut connection, "nothing is lost").await;
        leave(connection).await;
    }
}

#[tokio::test]
async fn an_upgrade_of_a_process_without_a_descriptor_fails_and_says_why() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    limit_descriptors(&gateway, 10);

    gateway.signal("USR2");
    let failed = gateway
        .logged("the upgrade failed; this process goes on serving")
        .await;
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("Too many open files"), "{error}");

    limit_descriptors(&gateway, 1000);
    echoes(&mut held, "nothing is lost").await;
    until(async || alice.visit(gateway.address, "db").await.ok()).await;
    gateway.upgrade(&[]).await.unwrap();
    alice.visit(gateway.address, "db").await.unwrap();
    echoes(&mut held, "still").await;
}

#[tokio::test]
async fn a_new_process_that_runs_out_of_descriptors_changes_nothing_and_says_so() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();
    let program = env!("CARGO_BIN_EXE_portcullis");
    let mut failures = 0;
    // At each number it runs out of them at another step, until they are enough to serve.
    for most in 14..200 {
        let text = format!("ulimit -n {most}; exec {program} \"$@\"");
        let few = script(&world, "few", &text);
        let arguments = ["--binary", few.to_str().unwrap()];
        let Err(error) = gateway.upgrade(&arguments).await else {
            break;
        };
        let is_clear = ["Too many open files", "file descriptors are in use"]
            .iter()
            .any(|words| error.contains(words));
        assert!(is_clear, "{most}: {error}");
        echoes(&mut held, "nothing has changed").await;
        leave(alice.visit(gateway.address, "db").await.unwrap()).await;
        failures += 1;
    }
    assert!((10..180).contains(&failures), "{failures}");
    echoes(&mut held, "nothing is lost").await;
    let mut new = alice.visit(gateway.address, "db").await.unwrap();
    echoes(&mut new, "the new process serves").await;
}

//! The process that serves decides about the connections of those that drain.

use std::path::PathBuf;

use tokio::net::TcpStream;

use super::{descriptors, echoes, script, world};
use crate::harness::{Identity, Refusal, Upstream, Wire, World, until};
use crate::revocation::revoke;

/// What a process says that cannot read the policy any more.
const CANNOT_READ: &str =
    "this process cannot read the policy; the one that serves decides about its connections";

/// A program whose policy is `newer.yaml`: what the old process reads is another file.
fn newer(world: &World) -> PathBuf {
    let text = format!(
        "exec {} run --log-format json --workers 2 --policy {} --access-log {} --inherit",
        env!("CARGO_BIN_EXE_portcullis"),
        world.path("newer.yaml").display(),
        world.path("access.log").display()
    );
    script(world, "newer", &text)
}

#[tokio::test]
async fn a_removed_client_leaves_an_old_process_that_cannot_read_the_policy() {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let mut by_alice = alice.visit(gateway.address, "db").await.unwrap();
    let mut by_bob = bob.visit(gateway.address, "db").await.unwrap();
    let old = gateway.process();
    let before = descriptors(old);
    let parked = TcpStream::connect(gateway.address).await.unwrap();
    until(async || (descriptors(old) > before).then_some(())).await;
    world.write("newer.yaml", &world.policy());
    let binary = newer(&world);
    let arguments = ["--binary", binary.to_str().unwrap()];
    gateway.upgrade(&arguments).await.unwrap();
    gateway.logged("another process serves; draining").await;

    world.write("policy.yaml", &world.policy_with("a_newer_key: 1"));
    assert_eq!(gateway.logged(CANNOT_READ).await["level"], "ERROR");
    echoes(&mut by_bob, "nothing has changed yet").await;
    world.remove_client("bob");
    world.write("newer.yaml", &world.policy());
    assert_eq!(gateway.logged("policy reloaded").await["revoked"], 1);

    assert_eq!(by_bob.end().await, Refusal::Reset);
    assert_eq!(gateway.record_of(&by_bob).await["reason"], "revoked");
    // One whose handshake the old process had begun is refused as well.
    let mut late = bob.over(parked, "db", Wire::Straight).await.unwrap();
    assert_eq!(late.ask("let me in").await.unwrap_err(), Refusal::Reset);
    echoes(&mut by_alice, "still").await;
}

#[tokio::test]
async fn a_revoked_certificate_leaves_all_processes_as_soon_as_one_serves_that_can_read_the_policy()
{
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    world.honour_revocations();
    world.client("bob", "groups: [db]");
    revoke(&world, &[], 1);
    let issued = world.authority.client("alice").unwrap();
    let mut gateway = world.start().await;
    let alice = Identity::of(&world.authority, &issued);
    let mut in_the_first = alice.visit(gateway.address, "db").await.unwrap();
    let mut other = world.visit(&gateway, "bob").await;
    gateway.upgrade(&[]).await.unwrap();
    gateway.logged("another process serves; draining").await;
    let mut in_the_second = alice.visit(gateway.address, "db").await.unwrap();

    world.write("newer.yaml", &world.policy());
    world.write("policy.yaml", &world.policy_with("a_newer_key: 1"));
    revoke(&world, &[&issued], 2);
    echoes(&mut in_the_first, "neither can read it").await;
    echoes(&mut in_the_second, "neither can read it").await;
    let (socket, binary) = (world.path("admin.sock"), newer(&world));
    let arguments = [
        "--socket",
        socket.to_str().unwrap(),
        "--binary",
        binary.to_str().unwrap(),
    ];
    gateway.upgrade(&arguments).await.unwrap();
    assert_eq!(in_the_first.end().await, Refusal::Reset);
    assert_eq!(in_the_second.end().await, Refusal::Reset);
    echoes(&mut other, "still").await;
    for connection in [&in_the_first, &in_the_second] {
        assert_eq!(gateway.record_of(connection).await["reason"], "revoked");
    }
}

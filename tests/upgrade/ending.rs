//! A gateway that is told to end while one process takes over from another.

use std::path::PathBuf;
use std::process::Stdio;

use super::{is_alive, script, world};
use crate::harness::{Manager, Upstream, World, signal, soon, until};

/// A new process that takes over when `go` is there, writes what it hears into `heard`, and `told`
/// when it gets SIGTERM.
fn waits_to_serve(world: &World) -> PathBuf {
    let folder = world.folder().display();
    let text = format!(
        "cd {folder}\n\
         say() {{ printf \"\\\\0\\\\0\\\\0\\\\$(printf %o ${{#1}})%s\" \"$1\" >&0; }}\n\
         trap 'touch told; exit 0' TERM\n\
         exec 3<&0\n\
         cat <&3 >heard &\n\
         say '{{\"Ready\":{{\"version\":\"0\",\"groups\":1,\"clients\":1,\"handover\":3}}}}'\n\
         while [ ! -e go ]; do sleep 0.02; done\n\
         say '\"Serving\"'\n\
         wait"
    );
    script(world, "waits", &text)
}

/// Has the process that serves hand over to one that waits to serve. Returns when it waits.
async fn hand_over(world: &World) -> tokio::process::Child {
    let upgrade = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["upgrade", "--policy"])
        .arg(world.path("policy.yaml"))
        .arg("--binary")
        .arg(waits_to_serve(world))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until(async || hears(world, "\"Serve\"").then_some(())).await;
    upgrade
}

/// Whether the process that waits has heard this.
fn hears(world: &World, message: &str) -> bool {
    let heard = std::fs::read(world.path("heard")).unwrap_or_default();
    String::from_utf8_lossy(&heard).contains(message)
}

#[tokio::test]
async fn a_manager_that_knows_only_the_old_process_ends_the_new_one_too() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    world.write_policy();
    let mut manager = Manager::new(&world);
    let mut gateway = manager.start(&world, &[]).await;
    let mut upgrade = hand_over(&world).await;
    signal(gateway.first(), "TERM");
    std::fs::write(world.path("go"), "").unwrap();
    until(async || hears(&world, "\"Drain\"").then_some(())).await;
    assert!(gateway.ended().await.success());
    soon(upgrade.wait()).await.unwrap();
}

#[tokio::test]
async fn a_first_process_that_knows_only_the_old_one_ends_the_new_one_too() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    gateway.upgrade(&[]).await.unwrap();
    let mut upgrade = hand_over(&world).await;
    signal(gateway.first(), "TERM");
    std::fs::write(world.path("go"), "").unwrap();
    until(async || world.path("told").exists().then_some(())).await;
    until(async || (!is_alive(gateway.process())).then_some(())).await;
    assert!(gateway.ended().await.success());
    soon(upgrade.wait()).await.unwrap();
}

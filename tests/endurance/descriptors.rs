//! A gateway that has few descriptors.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::client::was_reset;
use crate::process::Gateway;
use crate::stage::Stage;
use crate::until;

const DESCRIPTORS: usize = 256;
/// How many of them clients may use.
const USABLE: usize = DESCRIPTORS - 64;
const CLIENTS: usize = 1200;
const WATCHED: Duration = Duration::from_secs(2);
/// How much of one processor it may use meanwhile.
const BUSY: f64 = 0.2;
/// How often it may tell that it cannot accept: once a second.
const TOLD: usize = 6;

#[tokio::test]
async fn silent_clients_leave_descriptors_for_those_who_speak() {
    let stage = Stage::with(&["timeouts: {handshake: 5m}"]).await;
    let mut gateway = Gateway::start_with_descriptors(&stage, DESCRIPTORS / 2, DESCRIPTORS).await;
    let alice = stage.alice();
    alice.visit(gateway.address).await.unwrap();
    let base = gateway.descriptors();
    let mut findings = gateway.logged("the policy needs attention");
    findings.retain(|found| found["at"] == "gateway.limits.connections");
    assert_eq!(findings.len(), 1, "that they are few was said at the start");

    let mut silent = Vec::new();
    for _ in 0..CLIENTS {
        silent.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    until(async || (gateway.recorded("silent_evicted") > 0).then_some(())).await;
    for _ in 0..20 {
        alice.visit(gateway.address).await.unwrap();
    }
    let used = gateway.processor_time();
    sleep(WATCHED).await;
    let used = gateway.processor_time().saturating_sub(used);
    let busy = used.div_duration_f64(WATCHED);
    let failures = gateway.logged("cannot accept connections");
    println!(
        "{CLIENTS} silent clients and {DESCRIPTORS} descriptors: {:.1} % of one processor, {} log \
         lines of {}",
        100.0 * busy,
        failures.len(),
        gateway.log_lines(),
    );
    assert!(busy < BUSY, "{used:?} in {WATCHED:?}");
    assert!(failures.len() <= TOLD, "told {} times", failures.len());
    assert!(gateway.descriptors() <= base + USABLE);

    drop(silent);
    until(async || (gateway.descriptors() <= base).then_some(())).await;
    assert!(gateway.stop().await.success());
}

#[tokio::test]
async fn clients_who_stay_leave_descriptors_for_a_reload_that_ends_them() {
    let stage = Stage::with(&[]).await;
    let gateway = Gateway::start_with_descriptors(&stage, DESCRIPTORS / 2, DESCRIPTORS).await;
    let alice = stage.alice();
    let mut held = Vec::new();
    for _ in 0..USABLE / 2 {
        held.push(alice.stay(gateway.address).await.unwrap());
    }
    let surplus = TcpStream::connect(gateway.address).await;
    assert!(was_reset(surplus).await);
    gateway.records_of("descriptors_full", 1).await;

    let policy = std::fs::read_to_string(stage.path("policy.yaml")).unwrap();
    let policy = policy.replace("alice:", "bob:");
    std::fs::write(stage.path("aside"), policy).unwrap();
    std::fs::rename(stage.path("aside"), stage.path("policy.yaml")).unwrap();

    until(async || gateway.logged("policy reloaded").pop()).await;
    gateway.records_of("revoked", held.len()).await;
}

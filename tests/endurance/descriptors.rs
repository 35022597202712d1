//! A gateway that has no descriptor left.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::process::Gateway;
use crate::stage::Stage;
use crate::until;

const DESCRIPTORS: usize = 256;
const CLIENTS: usize = 1200;
const WATCHED: Duration = Duration::from_secs(2);
/// How much of one processor it may use meanwhile.
const BUSY: f64 = 0.2;
/// How often it may tell about it: once a second.
const TOLD: usize = 6;
const RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn without_descriptors_it_waits_quietly_and_serves_when_there_are_some_again() {
    let stage = Stage::with(&[
        "timeouts: {handshake: 5m}",
        "limits: {handshakes: 10000, handshakes_per_source: 10000}",
    ])
    .await;
    let mut gateway = Gateway::start_with_descriptors(&stage, DESCRIPTORS / 2, DESCRIPTORS).await;
    let alice = stage.alice();
    alice.visit(gateway.address).await.unwrap();
    let base = gateway.descriptors();

    let begin = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..CLIENTS {
        silent.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(
        gateway.descriptors(),
        DESCRIPTORS,
        "all that may be had are taken"
    );
    let warning = gateway.logged("the policy allows more connections");
    assert_eq!(warning.len(), 1, "that they are few was said at the start");
    let used = gateway.processor_time();
    sleep(WATCHED).await;
    let used = gateway.processor_time().saturating_sub(used);
    let busy = used.div_duration_f64(WATCHED);
    let failures = gateway.logged("connections cannot be accepted");
    let held = begin.elapsed();

    drop(silent);
    let begin = Instant::now();
    let served = timeout(RECOVERY, async {
        while alice.visit(gateway.address).await.is_err() {}
    });
    assert!(served.await.is_ok(), "it does not serve again");
    println!(
        "{CLIENTS} silent clients and {DESCRIPTORS} descriptors for {held:.1?}: {:.1} % of one \
         processor, {} log lines of {}; served again after {:.2?}",
        100.0 * busy,
        failures.len(),
        gateway.log_lines(),
        begin.elapsed()
    );
    assert!(busy < BUSY, "{used:?} in {WATCHED:?}");
    assert!(
        (1..=TOLD).contains(&failures.len()),
        "told {} times",
        failures.len()
    );
    until(async || (gateway.descriptors() <= base).then_some(())).await;
    assert!(gateway.stop().await.success());
}

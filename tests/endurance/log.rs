//! Records that cannot be written, or that nobody reads.

use std::time::{Duration, Instant};

use crate::process::Gateway;
use crate::stage::Stage;
use crate::{number, until};

/// How long the process may take to end when nobody is connected any more.
const END: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_full_disk_for_the_records_holds_up_nobody() {
    let stage = Stage::with(&[]).await;
    let mut gateway = Gateway::start(&stage, "/dev/full").await;
    let alice = stage.alice();
    for _ in 0..100 {
        alice.visit(gateway.address).await.unwrap();
    }
    let begin = Instant::now();
    assert!(gateway.stop().await.success());
    assert!(begin.elapsed() < END);
    println!("records on a full disk: {} log lines", gateway.log_lines());
}

#[tokio::test]
async fn records_that_nobody_reads_hold_up_neither_clients_nor_the_end() {
    // The pipe takes 64 KiB, which is less than 200 records.
    let visits = number("PORTCULLIS_UNREAD", 400);
    let stage = Stage::with(&[]).await;
    let mut gateway = Gateway::start(&stage, "-").await;
    let alice = stage.alice();
    for _ in 0..visits {
        alice.visit(gateway.address).await.unwrap();
    }
    let begin = Instant::now();
    assert!(gateway.stop().await.success());
    println!("{visits} records unread: ended in {:.2?}", begin.elapsed());
    assert!(begin.elapsed() < END);
    assert!(gateway.unread.is_some(), "the pipe is open until the end");
}

#[tokio::test]
async fn records_go_to_a_new_file_when_the_old_one_was_moved() {
    let stage = Stage::with(&[]).await;
    let gateway = stage.start().await;
    let alice = stage.alice();
    alice.visit(gateway.address).await.unwrap();
    gateway.records_of("finished", 1).await;

    std::fs::rename(stage.path("access.log"), stage.path("access.log.1")).unwrap();
    gateway.signal("USR1");
    until(async || stage.path("access.log").exists().then_some(())).await;
    alice.visit(gateway.address).await.unwrap();

    gateway.records_of("finished", 1).await;
    let old = std::fs::read_to_string(stage.path("access.log.1")).unwrap();
    assert_eq!(old.lines().count(), 2, "its opening and its end");
}

//! Every connection leaves exactly one record, and nobody else can write one.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Upstream, World, soon, until};

#[tokio::test]
async fn a_record_tells_who_went_where_when_and_how_much_it_moved() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world
        .identity("alice")
        .visit(gateway.address, "DB")
        .await
        .unwrap();
    connection.finish().await;
    connection.hear().await.unwrap();

    let record = gateway.record_of(&connection).await;

    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("client"), "alice");
    assert_eq!(text("sni"), "db");
    assert_eq!(text("group"), "db");
    assert_eq!(text("upstream"), upstream.address().to_string());
    assert_eq!(text("destination"), gateway.address.to_string());
    assert_eq!(text("reason"), "finished");
    assert_eq!(text("certificate").len(), 64);
    assert_eq!(record["received_bytes"], "hello\n".len());
    assert_eq!(record["sent_bytes"], "a: hello\nbye\n".len());
    assert_eq!(
        (&record["generation"], &record["tries"]),
        (&1.into(), &1.into())
    );
    let seconds = |key: &str| record[key].as_f64().unwrap();
    assert!(seconds("handshake_seconds") <= seconds("dialed_seconds"));
    assert!(seconds("dialed_seconds") <= seconds("duration_seconds"));
    assert!(text("time").ends_with('Z'));
}

#[tokio::test]
async fn bytes_count_on_a_connection_that_breaks_too() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    connection.say("reset").await.unwrap();
    connection.end().await;

    let record = gateway.record_of(&connection).await;
    assert_eq!(record["received_bytes"], "hello\nreset\n".len());
    assert_eq!(record["sent_bytes"], "a: hello\n".len());
}

#[tokio::test]
async fn strangers_are_recorded_at_a_bounded_rate_and_the_rest_is_counted() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("limits: {handshakes: unlimited, handshakes_per_source: unlimited}");
    let gateway = world.start().await;

    for _ in 0..400 {
        let mut stranger = TcpStream::connect(gateway.address).await.unwrap();
        // What is wrong with it may be told before all of it is written.
        drop(stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await);
        drop(soon(stranger.read_to_end(&mut Vec::new())).await);
    }

    let (written, counted) = until(async || {
        let records = gateway.records();
        let written = records
            .iter()
            .filter(|record| record["reason"] == "tls_failed")
            .count();
        let suppressed = |record: &serde_json::Value| record["suppressed"].as_u64().unwrap_or(0);
        let counted: u64 = records.iter().map(suppressed).sum();
        (written as u64 + counted == 400).then_some((written, counted))
    })
    .await;
    assert!(
        written < 400 && counted > 0,
        "{written} written, {counted} only counted"
    );
}

#[tokio::test]
async fn records_go_to_the_new_file_after_the_old_one_was_moved_away() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let alice = world.identity("alice");
    drop(alice.visit(gateway.address, "db").await.unwrap());
    until(async || (gateway.records().len() == 1).then_some(())).await;

    fs::rename(world.path("access.log"), world.path("access.log.1")).unwrap();
    gateway.signal("USR1");
    until(async || world.path("access.log").exists().then_some(())).await;
    drop(alice.visit(gateway.address, "db").await.unwrap());

    until(async || (gateway.records().len() == 1).then_some(())).await;
    let old = fs::read_to_string(world.path("access.log.1")).unwrap();
    assert_eq!(old.lines().count(), 1);
}

//! Every connection leaves exactly one record of its end, and one of its opening before that if it
//! was relayed; nobody else can write one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Gateway, Identity, Upstream, World, destination_of, soon, source_of, until};
use crate::revocation::revoke;

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
    assert_eq!(source_of(&record), connection.source.to_string());
    assert_eq!(destination_of(&record), gateway.address.to_string());
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
    assert!(has_fixed_width(&record["time"]), "{record}");
}

#[tokio::test]
async fn an_opening_is_recorded_with_what_is_known_then_and_the_identifier_of_the_end() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world.visit(&gateway, "alice").await;
    let opened = until(async || gateway.all_records().pop()).await;
    connection.finish().await;
    let closed = gateway.record_of(&connection).await;

    assert_eq!(
        (&opened["event"], &closed["event"]),
        (&"opened".into(), &"closed".into())
    );
    let known = [
        "connection",
        "generation",
        "source_address",
        "source_port",
        "destination_address",
        "destination_port",
        "sni",
        "client",
        "certificate",
        "group",
        "upstream",
        "tries",
        "handshake_seconds",
        "dialed_seconds",
    ];
    for key in known {
        assert!(!opened[key].is_null(), "{key}");
        assert_eq!(opened[key], closed[key], "{key}");
    }
    for key in [
        "duration_seconds",
        "received_bytes",
        "sent_bytes",
        "reason",
        "detail",
    ] {
        assert!(opened.get(key).is_none(), "{key}: {opened}");
    }
    let times = [&opened, &closed].map(|record| record["time"].as_str().unwrap().to_owned());
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(gateway.all_records().len(), 2);
}

#[tokio::test]
async fn an_opening_is_not_recorded_if_the_policy_says_so_and_a_refusal_has_none() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    strangers_come(&gateway, 1).await;
    assert_eq!(gateway.record_with("not_tls").await["event"], "refused");
    assert_eq!(gateway.all_records().len(), 1);
    let mut before = world.visit(&gateway, "alice").await;
    world.gateway_line("access_log: {opened: false}");
    gateway.reload(&world).await;

    let mut after = world.visit(&gateway, "alice").await;
    for connection in [&mut before, &mut after] {
        connection.finish().await;
        assert_eq!(gateway.record_of(connection).await["event"], "closed");
    }
    let opened = |record: &Value| record["event"] == "opened";
    let opened: Vec<Value> = gateway.all_records().into_iter().filter(opened).collect();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["source_port"], before.source.port());
}

#[tokio::test]
async fn bytes_count_on_a_connection_that_breaks_too() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let mut connection = world.visit(&gateway, "alice").await;
    connection.say("reset").await.unwrap();
    connection.end().await;

    let record = gateway.record_of(&connection).await;
    assert_eq!(record["received_bytes"], "hello\nreset\n".len());
    assert_eq!(record["sent_bytes"], "a: hello\n".len());
}

/// Whether a time is as wide as every other: six digits of a second, and UTC.
fn has_fixed_width(time: &Value) -> bool {
    let shape: String = time
        .as_str()
        .unwrap_or_default()
        .chars()
        .map(shape)
        .collect();
    shape == "0000-00-00T00:00:00.000000Z"
}

fn shape(c: char) -> char {
    if c.is_ascii_digit() { '0' } else { c }
}

/// The number of records with a reason, written and suppressed, as the file has it.
fn counted(gateway: &Gateway, reason: &str) -> (u64, u64) {
    let records = gateway.records();
    let written = records.iter().filter(|record| record["reason"] == reason);
    let suppressed = |record: &Value| record["suppressed"][reason].as_u64().unwrap_or(0);
    (
        written.count().try_into().unwrap(),
        records.iter().map(suppressed).sum(),
    )
}

async fn strangers_come(gateway: &Gateway, times: usize) {
    for _ in 0..times {
        let mut stranger = TcpStream::connect(gateway.address).await.unwrap();
        // What is wrong with it may be told before all of it is written.
        drop(stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await);
        drop(soon(stranger.read_to_end(&mut Vec::new())).await);
    }
}

#[tokio::test]
async fn strangers_are_recorded_at_a_bounded_rate_and_the_rest_is_counted_by_reason() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;

    strangers_come(&gateway, 400).await;
    gateway.signal("TERM");
    gateway.ended().await;

    let (written, suppressed) = counted(&gateway, "not_tls");
    assert_eq!(written + suppressed, 400, "the last are told at the end");
    assert!(suppressed > 0, "{written} written");
    let is_record = |record: &Value| {
        let is_told = record["reason"].is_string() && record["time"].is_string();
        // No policy has judged a stranger.
        is_told && (record["reason"] != "not_tls" || record.get("generation").is_none())
    };
    assert!(
        gateway.records().iter().all(is_record),
        "no line is only a count"
    );
}

#[tokio::test]
async fn strangers_hide_no_attempt_of_a_revoked_client() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    let [mallory, trudy] = ["mallory", "trudy"].map(|name| world.authority.client(name).unwrap());
    revoke(&world, &[&mallory, &trudy], 1);
    let gateway = world.start().await;

    strangers_come(&gateway, 200).await;
    // Both come from one address, and each has a budget of its own.
    for leaf in [&mallory, &trudy] {
        let revoked = Identity::of(&world.authority, leaf);
        for _ in 0..15 {
            assert!(revoked.visit(gateway.address, "db").await.is_err());
        }
    }

    until(async || (counted(&gateway, "certificate_revoked").0 == 30).then_some(())).await;
}

#[tokio::test]
async fn a_client_over_its_rate_cannot_fill_the_disk_with_its_refusals() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.client("alice", "groups: [db], rate: 1/h");
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    alice.visit(gateway.address, "db").await.unwrap();

    for _ in 0..100 {
        assert!(alice.visit(gateway.address, "db").await.is_err());
    }
    drop(bob.visit(gateway.address, "db").await.unwrap());
    gateway.signal("TERM");
    gateway.ended().await;

    let (written, suppressed) = counted(&gateway, "client_rate");
    assert_eq!(written + suppressed, 100);
    assert!(suppressed > 0, "{written} written");
    gateway.record(|record| record["client"] == "bob").await;
}

#[tokio::test]
async fn identifiers_stay_unique_and_generations_go_on_after_an_upgrade() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("admin: {socket: admin.sock}");
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut sources = Vec::new();
    for round in 0..3 {
        if round > 0 {
            gateway.upgrade(&[]).await.unwrap();
        }
        // What comes as soon as that is done may still be the old process's.
        let is_of_round = |record: &Value| record["generation"] == round + 1;
        while !sources.last().is_some_and(is_of_round) {
            let mut connection = alice.visit(gateway.address, "db").await.unwrap();
            connection.finish().await;
            connection.hear().await.unwrap();
            sources.push(gateway.record_of(&connection).await);
        }
    }
    let generations = sources.iter().map(|record| record["generation"].as_u64());
    assert!(generations.is_sorted(), "{sources:?}");
    let ids: BTreeSet<_> = sources
        .iter()
        .map(|record| record["connection"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), sources.len(), "no identifier comes twice");
}

#[tokio::test]
async fn what_did_not_happen_is_absent() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("db", &[&upstream], "health: {check: tcp}");
    let gateway = world.start().await;
    strangers_come(&gateway, 1).await;
    let stranger = gateway.record_with("not_tls").await;
    assert!(stranger.get("generation").is_none(), "no policy was asked");

    drop(upstream);
    let alice = world.identity("alice");
    until(async || {
        alice
            .visit(gateway.address, "db")
            .await
            .is_err()
            .then_some(())
    })
    .await;
    until(async || {
        drop(alice.visit(gateway.address, "db").await);
        let records = gateway.records();
        let mut untried = records
            .iter()
            .filter(|record| record["reason"] == "none_healthy");
        untried.next().map(|record| {
            assert_eq!(record["tries"], 0);
            assert!(record.get("dialed_seconds").is_none());
        })
    })
    .await;
}

#[tokio::test]
async fn events_have_the_same_time_as_records_and_numbers_are_numbers() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let event = gateway.reload(&world).await;
    assert!(has_fixed_width(&event["time"]), "{event}");
    assert!(event.get("timestamp").is_none());
    for number in ["took_ms", "apply_us", "changes", "generation"] {
        assert!(event[number].is_u64(), "{event}");
    }
}

#[tokio::test]
async fn a_process_says_once_which_it_is_and_of_which_version() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let started = gateway.logged_at_all("starting").await;
    assert_eq!(started["pid"], gateway.first());
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
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
    assert_eq!(old.lines().count(), 2, "its opening and its end");
}

#[tokio::test]
async fn a_log_on_a_full_disk_is_an_error_and_its_end_says_how_much_was_lost() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("access_log: {opened: false}");
    let log = world.path("access.log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    drop(alice.visit(gateway.address, "db").await.unwrap());
    let begins = gateway
        .logged("cannot write a log; its lines are lost")
        .await;
    assert_eq!(
        (&begins["level"], &begins["log"]),
        (&"ERROR".into(), &log.to_str().into())
    );

    fs::remove_file(&log).unwrap();
    gateway.signal("USR1");

    let ends = gateway.logged("a log can be written again").await;
    assert_eq!(ends["lost"], 1);
    let told = gateway.records();
    assert!(told.iter().any(|line| line["lost"] == 1), "{told:?}");
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

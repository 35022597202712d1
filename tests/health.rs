//! An upstream takes connections once it has passed, none when it fails, and again when it is back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::{Refusal, Upstream, World, until};

const FAST: &str = "health: {check: tcp, interval: 50ms, timeout: 1s, rise: 2, fall: 2}";

#[tokio::test]
async fn an_upstream_that_dies_is_left_out_and_one_that_comes_back_is_taken_in() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let mut world = World::with_db(&[]);
    world.group("db", &[&a, &b], FAST);
    let mut gateway = world.start().await;
    for _ in 0..2 {
        gateway.logged_at_all("upstream is up").await;
    }

    let address = a.die().await;
    let down = gateway.logged("upstream is down").await;
    assert_eq!(
        (&down["healthy"], &down["upstreams"]),
        (&1.into(), &2.into())
    );
    let alice = world.identity("alice");
    for _ in 0..4 {
        assert_eq!(
            alice
                .visit(gateway.address, "db")
                .await
                .unwrap()
                .upstream()
                .await,
            "b"
        );
    }

    let _a = Upstream::start_at("a", address).await;
    gateway.logged("upstream is up").await;
    until(async || {
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        (connection.upstream().await == "a").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failed_dial_moves_on_to_the_next_upstream() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let world = World::with_db(&[&a, &b]);
    let gateway = world.start().await;
    a.die().await;

    let alice = world.identity("alice");
    for _ in 0..6 {
        assert_eq!(
            alice
                .visit(gateway.address, "db")
                .await
                .unwrap()
                .upstream()
                .await,
            "b"
        );
    }
}

#[tokio::test]
async fn a_group_with_no_healthy_upstream_refuses_at_once() {
    let gone = Upstream::start("gone").await;
    let mut world = World::with_db(&[&gone]);
    world.group("db", &[&gone], "health: {check: tcp, interval: 1h}");
    gone.die().await;
    let gateway = world.start().await;

    let refused = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap_err();
    assert_eq!(refused, Refusal::Reset);
    let record = gateway.record_with("none_healthy").await;
    assert_eq!(record["tries"], 0, "nobody was asked");
}

#[tokio::test]
async fn try_all_tries_upstreams_that_are_down() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[]);
    // The probe wants an answer that never comes; the upstream itself is fine.
    let health = "health: {check: {send: \"ping\\n\", expect: \"pong\"}, interval: 50ms, fall: 1}";
    world.group(
        "db",
        &[&upstream],
        &format!("{health}, when_all_down: try_all"),
    );
    let mut gateway = world.start().await;
    gateway.logged_at_all("upstream is down").await;

    let mut connection = world.visit(&gateway, "alice").await;
    assert_eq!(connection.upstream().await, "a");
}

#[tokio::test]
async fn a_probe_may_ask_for_an_answer() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[]);
    let health = "health: {check: {send: \"ping\\n\", expect: \"a: ping\"}, interval: 50ms}";
    world.group("db", &[&upstream], health);
    let mut gateway = world.start().await;

    gateway.logged_at_all("upstream is up").await;
    world.visit(&gateway, "alice").await;
}

#[tokio::test]
async fn an_upstream_that_is_drained_keeps_its_connections_and_gets_no_new_ones() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let mut world = World::with_db(&[&a]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut early = alice.visit(gateway.address, "db").await.unwrap();

    let upstreams = format!(
        "{{address: \"{}\", state: drain}}, \"{}\"",
        a.address(),
        b.address()
    );
    world.group_of("db", &upstreams, "");
    gateway.reload(&world).await;

    for _ in 0..4 {
        assert_eq!(
            alice
                .visit(gateway.address, "db")
                .await
                .unwrap()
                .upstream()
                .await,
            "b"
        );
    }
    assert_eq!(early.upstream().await, "a");
}

#[tokio::test]
async fn a_client_that_comes_as_soon_as_the_gateway_serves_is_served() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[]);
    world.group(
        "db",
        &[&upstream],
        "health: {check: tcp, interval: 1s, rise: 5}",
    );
    let alice = world.identity("alice");
    for _ in 0..20 {
        let gateway = world.start().await;
        let mut connection = alice.visit(gateway.address, "db").await.unwrap();
        assert_eq!(connection.upstream().await, "a");
    }
}

#[tokio::test]
async fn the_gateway_serves_after_the_first_word_of_its_probes() {
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = slow.local_addr().unwrap();
    tokio::task::spawn(async move {
        loop {
            let (mut probe, _) = slow.accept().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            probe.write_all(b"pong").await.ok();
        }
    });
    let mut world = World::with_db(&[]);
    let check = "health: {check: {send: \"ping\", expect: \"pong\"}, rise: 5}";
    world.group_of("db", &format!("\"{address}\""), check);
    let gateway = world.start().await;
    assert!(gateway.had_logged("upstream is up"));
}

#[tokio::test]
async fn a_client_of_a_group_that_a_reload_adds_waits_for_the_first_probe() {
    let db = Upstream::start("db").await;
    let mut world = World::with_db(&[&db]);
    let mut gateway = world.start().await;
    let fresh = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = fresh.local_addr().unwrap();
    let check = "health: {check: {send: \"ping\", expect: \"pong\"}, timeout: 4s, rise: 5}";
    world.group_of("queue", &format!("\"{address}\""), check);
    world.client("alice", "groups: [db, queue]");
    gateway.reload(&world).await;

    let alice = world.identity("alice");
    let mut early = alice.connect(gateway.address, "queue").await.unwrap();
    // Only now the upstream answers its first probe.
    let (mut probe, _) = fresh.accept().await.unwrap();
    probe.write_all(b"pong").await.unwrap();
    let (asked, served) = tokio::join!(early.ask("hello"), async {
        let (mut relayed, _) = fresh.accept().await.unwrap();
        relayed.write_all(b"queue: hello\n").await.unwrap();
        relayed
    });
    assert_eq!(asked.unwrap(), "queue: hello");
    drop(served);
}

#[tokio::test]
async fn a_probe_that_takes_long_keeps_the_gateway_from_serving_for_a_bounded_time() {
    let db = Upstream::start("db").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut world = World::with_db(&[&db]);
    let check = "health: {check: {send: \"ping\", expect: \"pong\"}, timeout: 1h}";
    world.group_of("stuck", &format!("\"{address}\""), check);
    // It waits for the word `serving`, and the harness waits for 20 s at most.
    let gateway = world.start().await;
    let alice = world.identity("alice");
    let mut connection = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(connection.upstream().await, "db");
}

#[tokio::test]
async fn the_log_says_why_an_upstream_is_down() {
    // One that was listened at, one that never answers, one that answers something else.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = closed.local_addr().unwrap();
    drop(closed);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (silent_at, other_at) = (silent.local_addr().unwrap(), other.local_addr().unwrap());
    tokio::task::spawn(async move {
        loop {
            let (mut probe, _) = other.accept().await.unwrap();
            // What was asked is read, so that the answer is followed by no reset.
            let asked = probe.read(&mut [0; 1024]).await;
            if asked.is_ok_and(|asked| asked > 0) {
                probe.write_all(b"-LOADING the\x1b data\r\n").await.ok();
            }
        }
    });
    let rest = "interval: 50ms, timeout: 300ms, fall: 2";
    let ping = "{send: \"PING\\r\\n\", expect: \"+PONG\"}";
    let mut world = World::with_db(&[]);
    for (group, address, check) in [
        ("db", refused, "tcp"),
        ("silent", silent_at, ping),
        ("other", other_at, ping),
        ("not-tls", other_at, "tls"),
    ] {
        let health = format!("health: {{check: {check}, {rest}}}");
        world.group_of(group, &format!("\"{address}\""), &health);
    }
    let mut gateway = world.start().await;

    let mut causes = BTreeMap::new();
    while causes.len() < 4 {
        let down = gateway.logged_at_all("upstream is down").await;
        let text = |key: &str| down[key].as_str().unwrap().to_owned();
        causes.insert(text("group"), (text("upstream"), text("cause")));
    }
    let expected = [
        ("db", refused, "connection refused"),
        ("not-tls", other_at, "the answer is not TLS"),
        (
            "other",
            other_at,
            "unexpected answer: -LOADING the\\x1b data\\r\\n",
        ),
        ("silent", silent_at, "no answer in time"),
    ];
    let expected = expected.map(|(group, upstream, cause)| {
        let told = (upstream.to_string(), cause.to_owned());
        (group.to_owned(), told)
    });
    assert_eq!(causes, expected.into());
}

#[tokio::test]
async fn a_failed_dial_is_told_as_the_cause_too() {
    let gone = Upstream::start("gone").await;
    let mut world = World::with_db(&[]);
    world.group("db", &[&gone], "health: {check: off, fall: 1}");
    gone.die().await;
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    alice.visit(gateway.address, "db").await.unwrap_err();
    let down = gateway.logged("upstream is down").await;
    assert_eq!(down["cause"], "connection refused", "{down}");
    assert_eq!(
        (&down["healthy"], &down["upstreams"]),
        (&0.into(), &1.into())
    );
    let none = gateway.logged("group has no healthy upstream").await;
    assert_eq!(none["level"], "ERROR");
    assert_eq!(
        (&none["group"], &none["cause"]),
        (&"db".into(), &"connection refused".into())
    );
}

#[tokio::test]
async fn probes_send_the_proxy_header_as_the_groups_connections_do() {
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0PING";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, mut probes) = mpsc::channel(100);
    // It hangs up on what brings no header, as nginx and HAProxy do.
    tokio::task::spawn(async move {
        loop {
            let (mut probe, _) = listener.accept().await.unwrap();
            let mut said = [0; LOCAL.len()];
            let is_probe = probe.read_exact(&mut said).await.is_ok() && said == LOCAL;
            seen.send(is_probe).await.ok();
            if is_probe {
                probe.write_all(b"+PONG").await.ok();
            }
        }
    });
    let mut world = World::with_db(&[]);
    let check = "{send: \"PING\", expect: \"+PONG\"}";
    let health = format!("proxy_protocol: v2, health: {{check: {check}, fall: 1}}");
    world.group_of("db", &format!("\"{address}\""), &health);
    let mut gateway = world.start().await;
    assert_eq!(probes.recv().await, Some(true));
    gateway.logged_at_all("upstream is up").await;
}

#[tokio::test]
async fn the_log_says_when_a_drained_or_removed_upstream_has_lost_its_last_connection() {
    let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
    let mut world = World::with_db(&[&a]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");

    for (left, state) in [("{address: A, state: drain}, B", "drain"), ("B", "removed")] {
        world.group("db", &[&a], "");
        gateway.reload(&world).await;
        let mut held = alice.visit(gateway.address, "db").await.unwrap();
        assert_eq!(held.upstream().await, "a");
        let address = |upstream: &Upstream| format!("\"{}\"", upstream.address());
        let upstreams = left.replace('A', &address(&a)).replace('B', &address(&b));
        world.group_of("db", &upstreams, "");
        gateway.reload(&world).await;
        assert_eq!(held.upstream().await, "a", "it is still used");
        held.finish().await;
        let vacated = gateway.logged("upstream has no connection left").await;
        assert_eq!(vacated["upstream"], a.address().to_string());
        assert_eq!(
            (&vacated["group"], &vacated["state"]),
            (&"db".into(), &state.into())
        );
    }
}

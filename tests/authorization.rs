//! A client reaches what it is granted and nothing else.

use rustls::AlertDescription::{AccessDenied, NoApplicationProtocol};

use crate::harness::{Gateway, Refusal, Upstream, World};

#[tokio::test]
async fn a_client_reaches_the_groups_it_is_granted() {
    let (db, queue) = (Upstream::start("db").await, Upstream::start("queue").await);
    let mut world = World::with_db(&[&db]);
    world.group("queue", &[&queue], "");
    world.client("bob", "groups: [db, queue]");
    let gateway = world.start().await;
    let bob = world.identity("bob");

    assert_eq!(
        bob.visit(gateway.address, "db")
            .await
            .unwrap()
            .upstream()
            .await,
        "db"
    );
    assert_eq!(
        bob.visit(gateway.address, "queue")
            .await
            .unwrap()
            .upstream()
            .await,
        "queue"
    );
}

#[tokio::test]
async fn a_client_without_a_grant_is_denied_and_the_upstream_never_hears_of_it() {
    let (db, queue) = (Upstream::start("db").await, Upstream::start("queue").await);
    let mut world = World::with_db(&[&db]);
    world.group("queue", &[&queue], "");
    let gateway = world.start().await;

    let denied = world
        .identity("alice")
        .visit(gateway.address, "queue")
        .await
        .unwrap_err();
    assert_eq!(denied, Refusal::Alert(AccessDenied));
    let record = gateway.record_with("not_granted").await;
    assert_eq!(
        (&record["sni"], &record["sent_bytes"]),
        (&"queue".into(), &0.into())
    );
    assert_eq!(record["client"], "alice", "she has proven it");
    assert!(record["claimed_client"].is_null());
    assert!(record["certificate"].is_string());

    let denied = world
        .identity("mallory")
        .visit(gateway.address, "db")
        .await
        .unwrap_err();
    assert_eq!(denied, Refusal::Alert(AccessDenied));
    gateway.record_with("unknown_client").await;
    assert_eq!((db.accepted(), queue.accepted()), (0, 0));
}

#[tokio::test]
async fn the_exact_name_wins_over_a_wildcard_and_the_longest_wildcard_over_others() {
    let [exact, near, far] = [
        Upstream::start("exact").await,
        Upstream::start("near").await,
        Upstream::start("far").await,
    ];
    let mut world = World::new();
    world.group("exact", &[&exact], "sni: [a.b.example.test]");
    world.group("near", &[&near], "sni: [\"*.b.example.test\"]");
    world.group("far", &[&far], "sni: [\"*.example.test\"]");
    world.client("alice", "groups: [exact, near, far]");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    for (name, reached) in [
        ("a.b.example.test", "exact"),
        ("A.B.Example.TEST", "exact"),
        ("c.b.example.test", "near"),
        ("b.example.test", "far"),
        ("x.y.example.test", "far"),
    ] {
        let mut connection = alice.visit(gateway.address, name).await.unwrap();
        assert_eq!(connection.upstream().await, reached, "{name}");
    }
    let denied = alice
        .visit(gateway.address, "example.test")
        .await
        .unwrap_err();
    assert_eq!(
        denied,
        Refusal::Alert(AccessDenied),
        "a wildcard is below, not at"
    );
}

#[tokio::test]
async fn a_protocol_that_the_group_does_not_speak_is_denied_whatever_others_speak() {
    let (db, web) = (Upstream::start("db").await, Upstream::start("web").await);
    let mut world = World::new();
    world.group("db", &[&db], "alpn: [postgresql]");
    world.group("web", &[&web], "alpn: [http/1.1]");
    world.client("alice", "groups: [db, web]");
    let gateway = world.start().await;
    let alice = world.identity("alice");

    let postgres = alice.offering(&["postgresql"]);
    assert_eq!(
        postgres.visit(gateway.address, "db").await.unwrap().alpn(),
        "postgresql"
    );
    for (protocol, name) in [("postgresql", "web"), ("gopher", "db")] {
        let client = alice.offering(&[protocol]);
        let denied = client.visit(gateway.address, name).await.unwrap_err();
        assert_eq!(denied, Refusal::Alert(NoApplicationProtocol), "{name}");
        let record = gateway
            .record(|one| one["reason"] == "alpn_mismatch" && one["sni"] == name)
            .await;
        assert!(record["client"].is_null(), "nobody has said who it is");
    }
    assert_eq!(
        alice.visit(gateway.address, "web").await.unwrap().alpn(),
        "",
        "who offers nothing may speak anything"
    );
}

#[tokio::test]
async fn one_groups_protocols_are_nothing_to_the_clients_of_another() {
    let (db, web) = (Upstream::start("db").await, Upstream::start("web").await);
    let mut world = World::with_db(&[&db]);
    world.group("web", &[&web], "alpn: [http/1.1]");
    world.client("alice", "groups: [db, web]");
    let mut gateway = world.start().await;
    let browser = world.identity("alice").offering(&["h2", "http/1.1"]);
    let chosen = async |gateway: &Gateway, name| {
        let connection = browser.visit(gateway.address, name).await.unwrap();
        connection.alpn().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(chosen(&gateway, "db").await, "");
        assert_eq!(chosen(&gateway, "web").await, "http/1.1");
        world.group("grpc", &[&web], "alpn: [h2]");
        gateway.reload(&world).await;
    }
}

#[tokio::test]
async fn a_client_that_says_no_name_reaches_the_group_that_owns_the_port() {
    let upstream = Upstream::start("db").await;
    let mut world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    // RFC 6066, section 3: an address is no server name, so TLS sends none.
    let nameless = "127.0.0.1";

    let denied = alice.visit(gateway.address, nameless).await.unwrap_err();
    assert_eq!(denied, Refusal::Alert(AccessDenied));
    assert!(gateway.record_with("no_sni").await["sni"].is_null());

    let port = gateway.address.port();
    world.group("db", &[&upstream], &format!("ports: [{port}]"));
    gateway.reload(&world).await;
    let mut connection = alice.visit(gateway.address, nameless).await.unwrap();
    assert_eq!(connection.upstream().await, "db");

    world.group("queue", &[&upstream], "");
    world.client("bob", "groups: [queue]");
    gateway.reload(&world).await;
    let bob = world.identity("bob");
    let denied = bob.visit(gateway.address, nameless).await.unwrap_err();
    assert_eq!(denied, Refusal::Alert(AccessDenied), "a port is no grant");
}

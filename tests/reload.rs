//! A policy changes under live connections, and a bad one changes nothing.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use rustls::AlertDescription::AccessDenied;
use tokio::net::TcpStream;

use crate::harness::{Gateway, Refusal, Upstream, World, until};
use crate::revocation::revoke;

/// How often a slow writer writes.
const SLOWLY: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_changed_file_is_in_force_without_being_asked_for() {
    let (db, queue) = (Upstream::start("db").await, Upstream::start("queue").await);
    let mut world = World::with_db(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut early = alice.visit(gateway.address, "db").await.unwrap();

    world.group("queue", &[&queue], "");
    world.client("alice", "groups: [db, queue]");
    let reloaded = gateway.reload(&world).await;

    assert_eq!(
        (&reloaded["generation"], &reloaded["changes"]),
        (&2.into(), &2.into())
    );
    let mut late = alice.visit(gateway.address, "queue").await.unwrap();
    assert_eq!(late.upstream().await, "queue");
    assert_eq!(early.ask("still").await.unwrap(), "db: still");
}

#[tokio::test]
async fn a_hangup_reloads_what_no_event_told_of() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;

    gateway.signal("HUP");

    let reloaded = gateway.logged("policy reloaded").await;
    assert_eq!(reloaded["changes"], 0);
}

#[tokio::test]
async fn a_bad_policy_changes_nothing_and_says_where_it_is_bad() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut early = alice.visit(gateway.address, "db").await.unwrap();

    let bad = [
        ("clients:", "klients:", "unknown key `klients`"),
        ("groups: [db]", "groups: [bd]", "there is no group `bd`"),
        (
            "version: 1",
            "version: 2",
            "`2` is not a version of this file; expected `1`",
        ),
        ("alice", "\"\"", "the name is empty"),
    ];
    for (good, worse, says) in bad {
        world.write("policy.yaml", &world.policy().replace(good, worse));
        let event = gateway
            .logged("the policy was not reloaded; the old one stays in force")
            .await;
        let error = event["error"].as_str().unwrap();
        assert!(error.contains(says), "{error}");
        assert!(error.contains("policy.yaml:"), "{error}");
        assert_eq!(early.ask("still").await.unwrap(), "a: still");
        alice.visit(gateway.address, "db").await.unwrap();
    }

    world.tail("tests:\n  - {client: alice, sni: db, expect: deny}\n");
    world.write_policy();
    gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    alice.visit(gateway.address, "db").await.unwrap();
}

#[tokio::test]
async fn bad_certificates_change_nothing_and_good_ones_are_used_at_once() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let whole = fs::read_to_string(world.path("ca.crt")).unwrap();

    for bad in ["", "no certificate", &whole[..whole.len() / 2]] {
        world.write("ca.crt", bad);
        gateway
            .logged("the policy was not reloaded; the old one stays in force")
            .await;
        alice.visit(gateway.address, "db").await.unwrap();
    }

    let other = World::new();
    let both = format!("{whole}{}", other.authority.certificate_pem());
    world.write("ca.crt", &both);
    gateway.logged("policy reloaded").await;
    other
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    alice.visit(gateway.address, "db").await.unwrap();
}

#[tokio::test]
async fn a_policy_behind_swapped_links_is_followed() {
    let (db, queue) = (Upstream::start("db").await, Upstream::start("queue").await);
    let mut world = World::with_db(&[&db]);
    for folder in ["..1", "..2"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    // Certificates stay beside the link, where the policy's paths start.
    fs::write(world.path("..1/policy.yaml"), world.policy()).unwrap();
    symlink("..1", world.path("..data")).unwrap();
    symlink("..data/policy.yaml", world.path("policy.yaml")).unwrap();
    let mut gateway = Gateway::start_as_it_is(&world).await;

    world.group("queue", &[&queue], "");
    world.client("alice", "groups: [queue]");
    fs::write(world.path("..2/policy.yaml"), world.policy()).unwrap();
    symlink("..2", world.path("..data_tmp")).unwrap();
    fs::rename(world.path("..data_tmp"), world.path("..data")).unwrap();
    gateway.logged("policy reloaded").await;

    world
        .identity("alice")
        .visit(gateway.address, "queue")
        .await
        .unwrap();
    let denied = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap_err();
    assert_eq!(denied, Refusal::Alert(AccessDenied));
}

#[tokio::test]
async fn a_hundred_reloads_disturb_nobody() {
    let (db, other) = (Upstream::start("db").await, Upstream::start("other").await);
    let mut world = World::with_db(&[&db]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut held = alice.visit(gateway.address, "db").await.unwrap();

    for number in 0..100 {
        world.group("other", &[&other], &format!("sni: [name-{number}]"));
        world.write_policy();
        gateway.signal("HUP");
        gateway.logged("policy reloaded").await;
        assert_eq!(held.ask("still").await.unwrap(), "db: still");
        alice.visit(gateway.address, "db").await.unwrap();
    }
}

#[tokio::test]
async fn addresses_come_and_go_while_the_others_serve_on() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let mut early = alice.visit(gateway.address, "db").await.unwrap();

    // A port that was free a moment ago; nobody else on this host asks for a given one.
    let free = TcpListener::bind("127.0.0.2:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (one, two) = (
        "[\"127.0.0.1:0\"]",
        format!("[\"127.0.0.1:0\", \"{free}\"]"),
    );
    world.write("policy.yaml", &world.policy().replace(one, &two));
    gateway.logged("policy reloaded").await;
    let mut second = alice.visit(free, "db").await.unwrap();
    alice.visit(gateway.address, "db").await.unwrap();

    world.write_policy();
    gateway.logged("policy reloaded").await;
    until(async || TcpStream::connect(free).await.err()).await;
    assert_eq!(second.ask("still").await.unwrap(), "a: still");
    assert_eq!(early.ask("still").await.unwrap(), "a: still");
    alice.visit(gateway.address, "db").await.unwrap();
}

#[tokio::test]
async fn an_address_that_cannot_be_had_changes_nothing() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();

    let both = format!("[\"127.0.0.1:0\", \"{}\"]", taken.local_addr().unwrap());
    let policy = world
        .policy()
        .replace("[\"127.0.0.1:0\"]", &both)
        .replace("alice", "bob");
    world.write("policy.yaml", &policy);

    let event = gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    assert!(
        event["error"]
            .as_str()
            .unwrap()
            .contains("cannot listen on"),
        "{event}"
    );
    world.visit(&gateway, "alice").await;
}

#[tokio::test]
async fn a_policy_that_is_written_slowly_in_place_is_read_when_it_is_whole() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    for number in 0..10 {
        world.client(&format!("client-{number}"), "groups: [db]");
    }
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let mut held = world.visit(&gateway, "bob").await;

    world.client("carol", "groups: [db]");
    // Each part is a policy of its own, and in all but the last one bob is missing.
    let whole = world.policy();
    let mut file = fs::File::create(world.path("policy.yaml")).unwrap();
    for line in whole.split_inclusive('\n') {
        file.write_all(line.as_bytes()).unwrap();
        if line.contains("client-") {
            gateway.signal("HUP");
            tokio::time::sleep(SLOWLY).await;
            assert_eq!(held.ask("still").await.unwrap(), "a: still");
        }
    }
    drop(file);

    let reloaded = gateway.logged("policy reloaded").await;
    assert_eq!(
        (&reloaded["generation"], &reloaded["changes"]),
        (&2.into(), &1.into()),
        "the parts were never in force"
    );
    assert_eq!(held.ask("still").await.unwrap(), "a: still");
}

#[tokio::test]
async fn a_revocation_list_that_is_written_slowly_is_read_when_it_is_whole() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    revoke(&world, &[], 1);
    let mut gateway = world.start().await;
    let list = fs::read_to_string(world.path("ca.crl")).unwrap();

    let mut file = fs::File::create(world.path("ca.crl")).unwrap();
    let (one, two) = list.split_at(list.len() / 2);
    file.write_all(one.as_bytes()).unwrap();
    gateway.signal("HUP");
    let waits = gateway
        .logged("a file is still open for writing; it is read when its writer has closed it")
        .await;
    let named = waits["files"].as_str().unwrap();
    assert!(named.ends_with("/ca.crl"), "{waits}");
    file.write_all(two.as_bytes()).unwrap();
    drop(file);

    // A part of a list would have been an error.
    let reloaded = gateway.logged("policy reloaded").await;
    assert_eq!(reloaded["generation"], 2);
}

#[tokio::test]
async fn a_revocation_arrives_while_its_client_holds_all_descriptors_it_can_get() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.client("bob", "groups: [db]");
    let few = ["sh", "-c", "ulimit -n 160; exec \"$@\"", "sh"];
    world.write_policy();
    let mut gateway = Gateway::start_under(&world, &few, 2).await;
    let alice = world.identity("alice");
    let mut held = Vec::new();
    while let Ok(connection) = alice.visit(gateway.address, "db").await {
        held.push(connection);
    }
    assert!(held.len() > 10, "{}", held.len());

    world.remove_client("alice");
    let reloaded = gateway.reload(&world).await;

    assert_eq!(reloaded["revoked"], held.len());
    for mut connection in held {
        assert_eq!(connection.end().await, Refusal::Reset);
    }
    world.visit(&gateway, "bob").await;
}

#[tokio::test]
async fn a_reload_that_something_hinders_is_tried_again_until_it_is_done() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let mut held = world.visit(&gateway, "bob").await;
    limit_descriptors(&gateway, 1);

    world.remove_client("bob");
    world.write_policy();
    let hindered = gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    assert!(hindered["retry_ms"].is_number(), "{hindered}");
    assert_eq!(held.ask("still").await.unwrap(), "a: still");
    limit_descriptors(&gateway, 1000);

    let reloaded = gateway.logged("policy reloaded").await;
    assert_eq!(reloaded["revoked"], 1);
    assert_eq!(held.end().await, Refusal::Reset);
}

#[tokio::test]
async fn a_wrong_policy_is_not_tried_again_before_it_changes() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut gateway = world.start().await;
    world.write("policy.yaml", "nothing of the kind");
    let wrong = gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    assert!(wrong["retry_ms"].is_null(), "{wrong}");
}

/// From now on the gateway may have no more descriptors than that.
pub(crate) fn limit_descriptors(gateway: &Gateway, most: u64) {
    let process = i32::try_from(gateway.process()).unwrap();
    let process = rustix::process::Pid::from_raw(process);
    let now = rustix::process::getrlimit(Resource::Nofile);
    let limited = Rlimit {
        current: Some(most),
        maximum: now.maximum,
    };
    rustix::process::prlimit(process, Resource::Nofile, limited).unwrap();
}

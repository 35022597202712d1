//! Whoever may no longer be here leaves: client removed, grant withdrawn, certificate revoked.

use rustls::AlertDescription::{AccessDenied, CertificateRevoked};
use time::{Duration, OffsetDateTime};

use certgen::IssuedCertificate;

use crate::harness::{Identity, Refusal, Upstream, World};

#[tokio::test]
async fn a_removed_client_and_a_withdrawn_grant_are_cut_off_and_nobody_else_is() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("queue", &[&upstream], "sni: [queue]");
    world.client("alice", "groups: [db, queue]");
    world.client("bob", "groups: [db]");
    world.client("carol", "groups: [db]");
    let mut gateway = world.start().await;
    let (alice, bob, carol) = (
        world.identity("alice"),
        world.identity("bob"),
        world.identity("carol"),
    );
    let mut withdrawn = alice.visit(gateway.address, "queue").await.unwrap();
    let mut kept = alice.visit(gateway.address, "db").await.unwrap();
    let mut removed = bob.visit(gateway.address, "db").await.unwrap();
    let mut untouched = carol.visit(gateway.address, "db").await.unwrap();

    world.client("alice", "groups: [db]");
    world.remove_client("bob");
    let reloaded = gateway.reload(&world).await;

    assert_eq!(reloaded["revoked"], 2);
    assert_eq!(withdrawn.end().await, Refusal::Reset);
    assert_eq!(removed.end().await, Refusal::Reset);
    assert_eq!(gateway.record_of(&removed).await["reason"], "revoked");
    assert_eq!(kept.ask("still").await.unwrap(), "a: still");
    assert_eq!(untouched.ask("still").await.unwrap(), "a: still");
    let denied = bob.visit(gateway.address, "db").await.unwrap_err();
    assert_eq!(denied, Refusal::Alert(AccessDenied));
}

#[tokio::test]
async fn a_removed_group_takes_its_connections_with_it() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.group("queue", &[&upstream], "sni: [queue]");
    world.client("alice", "groups: [db, queue]");
    let mut gateway = world.start().await;
    let mut gone = world
        .identity("alice")
        .visit(gateway.address, "queue")
        .await
        .unwrap();

    world.remove_group("queue");
    world.client("alice", "groups: [db]");
    gateway.reload(&world).await;

    assert_eq!(gone.end().await, Refusal::Reset);
}

#[tokio::test]
async fn on_revoke_keep_lets_them_go_on() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("on_revoke: keep");
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let mut kept = world.visit(&gateway, "bob").await;

    world.remove_client("bob");
    let reloaded = gateway.reload(&world).await;

    assert_eq!(reloaded["revoked"], 1);
    // Longer than cutting off is spread over.
    for _ in 0..30 {
        assert_eq!(kept.ask("still").await.unwrap(), "a: still");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn on_revoke_drain_gives_them_the_drains_time() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("on_revoke: drain");
    world.gateway_line("timeouts: {drain: 500ms}");
    world.client("bob", "groups: [db]");
    let mut gateway = world.start().await;
    let mut drained = world.visit(&gateway, "bob").await;

    world.remove_client("bob");
    gateway.reload(&world).await;

    assert_eq!(drained.ask("still").await.unwrap(), "a: still");
    assert_eq!(drained.end().await, Refusal::Reset);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_connections_are_cut_off() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    world.client("bob", "groups: [db]");
    revoke(&world, &[], 1);
    let mut gateway = world.start().await;
    let issued = world.authority.client("alice").unwrap();
    let alice = Identity::of(&world.authority, &issued);
    let mut revoked = alice.visit(gateway.address, "db").await.unwrap();
    let mut other = world.visit(&gateway, "bob").await;

    revoke(&world, &[&issued], 2);
    let reloaded = gateway.logged("policy reloaded").await;

    assert_eq!(reloaded["revoked"], 1);
    assert_eq!(revoked.end().await, Refusal::Reset);
    let refused = alice.visit(gateway.address, "db").await.unwrap_err();
    assert_eq!(refused, Refusal::Alert(CertificateRevoked));
    gateway.record_with("certificate_revoked").await;
    assert_eq!(other.ask("still").await.unwrap(), "a: still");
    world.visit(&gateway, "alice").await;
}

#[tokio::test]
async fn a_bad_revocation_list_keeps_the_last_good_one() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    let issued = world.authority.client("alice").unwrap();
    revoke(&world, &[&issued], 1);
    let mut gateway = world.start().await;
    let revoked = Identity::of(&world.authority, &issued);
    let alice = world.identity("alice");

    let now = OffsetDateTime::now_utc();
    let day = Duration::days(1);
    let foreign = World::new().authority.crl(&[], now, now + day, 9).unwrap();
    for bad in ["", "no list", foreign.pem()] {
        world.write("ca.crl", bad);
        gateway
            .logged("the policy was not reloaded; the old one stays in force")
            .await;
        let refused = revoked.visit(gateway.address, "db").await.unwrap_err();
        assert_eq!(refused, Refusal::Alert(CertificateRevoked));
        alice.visit(gateway.address, "db").await.unwrap();
    }
}

#[tokio::test]
async fn an_older_list_takes_the_place_of_a_newer_one_only_after_a_restart() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    let issued = world.authority.client("alice").unwrap();
    let alice = Identity::of(&world.authority, &issued);
    revoke(&world, &[&issued], 2);
    let mut gateway = world.start().await;

    revoke(&world, &[], 1);
    let refused = gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    let error = refused["error"].as_str().unwrap();
    assert!(error.contains("restart to accept this one"), "{error}");
    let refused = alice.visit(gateway.address, "db").await.unwrap_err();
    assert_eq!(refused, Refusal::Alert(CertificateRevoked));

    let gateway = world.start().await;
    alice.visit(gateway.address, "db").await.unwrap();
}

pub(crate) fn revoke(world: &World, revoked: &[&IssuedCertificate], number: u64) {
    let now = OffsetDateTime::now_utc();
    let serials: Vec<_> = revoked
        .iter()
        .map(|issued| issued.serial().clone())
        .collect();
    let list = world
        .authority
        .crl(&serials, now, now + Duration::days(1), number)
        .unwrap();
    world.write("ca.crl", list.pem());
}

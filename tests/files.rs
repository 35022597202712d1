//! What is wrong with certificates and lists is said by `check`, at the start and on reload alike;
//! what has ended or will end soon keeps no change of the policy from being in force.

use std::process::Command;

use certgen::{Authority, AuthoritySpec, IssuedCertificate, LeafSpec, Overwrite};
use rcgen::{CertificateParams, KeyPair};
use rustls::AlertDescription::{AccessDenied, CertificateRevoked, UnknownCA};
use time::{Duration, OffsetDateTime};

use crate::harness::{Identity, Refusal, Upstream, World, until};

pub(crate) const DAY: Duration = Duration::DAY;

pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// What `portcullis check` prints, and whether it finds the policy valid.
pub(crate) fn check(world: &World) -> (bool, String) {
    world.write_policy();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("check")
        .arg(world.path("policy.yaml"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), text)
}

/// Why the gateway does not start.
pub(crate) fn start_error(world: &World) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--access-log", "/dev/null", "--policy"])
        .arg(world.path("policy.yaml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// A world whose group `localhost` has the name of the gateway's certificate.
pub(crate) fn quiet_world(upstream: &Upstream) -> World {
    let mut world = World::new();
    world.group("localhost", &[upstream], "");
    world.client("alice", "groups: [localhost]");
    world
}

pub(crate) fn save(world: &World, server: &IssuedCertificate) {
    server
        .save(world.folder(), "server", Overwrite::Replace)
        .unwrap();
}

/// A server's certificate of the world's authority.
pub(crate) fn server(
    world: &World,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> IssuedCertificate {
    let spec = LeafSpec {
        not_before,
        not_after,
        ..LeafSpec::server(&["localhost", "127.0.0.1"]).unwrap()
    };
    world.authority.issue(&spec).unwrap()
}

pub(crate) fn list(
    world: &World,
    revoked: &[&IssuedCertificate],
    dates: [OffsetDateTime; 2],
    number: u64,
) {
    let serials: Vec<_> = revoked.iter().map(|one| one.serial().clone()).collect();
    let [this_update, next_update] = dates;
    let list = world
        .authority
        .crl(&serials, this_update, next_update, number);
    world.write("ca.crl", list.unwrap().pem());
}

#[tokio::test]
async fn what_is_fine_has_no_warning() {
    let upstream = Upstream::start("a").await;
    let mut world = quiet_world(&upstream);
    world.honour_revocations();
    list(&world, &[], [now(), now() + 30 * DAY], 1);
    let (valid, said) = check(&world);
    assert!(valid && !said.contains("warning"), "{said}");
    assert!(said.contains("1 authority, 1 revocation list"), "{said}");
}

#[tokio::test]
async fn a_list_that_has_ended_keeps_nobody_else_out_and_no_change_from_being_made() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    world.client("bob", "groups: [db]");
    let other = Authority::new(&AuthoritySpec::default()).unwrap();
    let both = [world.authority.certificate_pem(), other.certificate_pem()].concat();
    world.write("ca.crt", &both);
    let others = other.crl(&[], now(), now() + 30 * DAY, 1).unwrap();
    let lists = |revoked: &[&IssuedCertificate], next_update| {
        list(&world, revoked, [now() - 2 * DAY, next_update], 1);
        let all = std::fs::read_to_string(world.path("ca.crl")).unwrap() + others.pem();
        world.write("ca.crl", &all);
    };
    let mallory = world.authority.client("alice").unwrap();
    lists(&[&mallory], now() - DAY);
    let (valid, said) = check(&world);
    assert!(valid && said.contains("(nextUpdate)"), "{said}");

    let mut gateway = world.start().await;
    let alice = world.identity("alice");
    let refused = Refusal::Alert(UnknownCA);
    assert_eq!(
        alice.visit(gateway.address, "db").await.unwrap_err(),
        refused
    );
    gateway.record_with("revocation_unknown").await;
    let mallory = Identity::of(&world.authority, &mallory);
    let revoked = mallory.visit(gateway.address, "db").await.unwrap_err();
    assert_eq!(
        revoked,
        Refusal::Alert(CertificateRevoked),
        "that much is known"
    );
    let bob = Identity::with_chain(&other.client("bob").unwrap(), &[]);
    let mut open = bob.visit(gateway.address, "db").await.unwrap();

    world.remove_client("bob");
    let reloaded = gateway.reload(&world).await;
    assert_eq!(reloaded["revoked"], 1);
    assert_eq!(open.end().await, Refusal::Reset);
    let denied = bob.visit(gateway.address, "db").await.unwrap_err();
    assert_eq!(denied, Refusal::Alert(AccessDenied));
}

#[tokio::test]
async fn connections_outlive_the_end_of_a_list_and_an_unrelated_change_of_it() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    list(&world, &[], [now() - DAY, now() + DAY], 1);
    let mut gateway = world.start().await;
    let mut open = world.visit(&gateway, "alice").await;
    list(&world, &[], [now() - DAY, now() - Duration::HOUR], 2);
    let reloaded = gateway.logged("policy reloaded").await;
    assert_eq!(reloaded["revoked"], 0);
    assert_eq!(open.ask("still").await.unwrap(), "a: still");
}

#[tokio::test]
async fn a_connection_ends_with_its_clients_certificate() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let gateway = world.start().await;
    let spec = LeafSpec {
        not_before: now() - DAY,
        not_after: now() + Duration::seconds(3),
        ..LeafSpec::client("alice")
    };
    let issued = world.authority.issue(&spec).unwrap();
    let alice = Identity::of(&world.authority, &issued);
    let mut open = alice.visit(gateway.address, "db").await.unwrap();
    assert_eq!(open.ask("still").await.unwrap(), "a: still");
    assert_eq!(open.end().await, Refusal::Reset);
    assert!(now() > spec.not_after, "in its last second it was valid");
    let record = gateway.record_of(&open).await;
    assert_eq!(record["reason"], "certificate_expired");
}

#[tokio::test]
async fn on_revoke_keep_lets_connections_outlive_the_certificate() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line("on_revoke: keep");
    let gateway = world.start().await;
    let spec = LeafSpec {
        not_before: now() - DAY,
        not_after: now() + Duration::seconds(2),
        ..LeafSpec::client("alice")
    };
    let issued = world.authority.issue(&spec).unwrap();
    let alice = Identity::of(&world.authority, &issued);
    let mut open = alice.visit(gateway.address, "db").await.unwrap();
    // Longer than the ends of connections are spread over.
    until(async || (now() > spec.not_after + Duration::seconds(3)).then_some(())).await;
    assert_eq!(open.ask("still").await.unwrap(), "a: still");
}

#[tokio::test]
async fn what_clients_cannot_verify_does_not_come_into_force() {
    let upstream = Upstream::start("a").await;
    let world = quiet_world(&upstream);
    let good = server(&world, now(), now() + 30 * DAY);
    save(&world, &good);
    let mut gateway = world.start().await;
    let nameless = world.authority.client("alice").unwrap();
    let unwritten = {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (now(), now() + 30 * DAY);
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
        world.authority.issue_custom(params).unwrap()
    };
    for (bad, says) in [
        (
            server(&world, now() - 9 * DAY, now() - DAY),
            "server.crt: expired on",
        ),
        (
            server(&world, now() + DAY, now() + 2 * DAY),
            "server.crt: is not valid before",
        ),
        (nameless, "server.crt: has no DNS name and no address"),
        (unwritten, "server.crt: clients cannot read certificate 1"),
    ] {
        save(&world, &bad);
        let (valid, said) = check(&world);
        assert!(!valid && said.contains(says), "check: {said}");
        let said = start_error(&world);
        assert!(said.contains(says), "start: {said}");
        // The two files are written one after the other, and may be read between.
        until(async || {
            let refused = gateway
                .logged("the policy was not reloaded; the old one stays in force")
                .await;
            let said = refused["error"].as_str().unwrap();
            said.contains(says).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn authorities_that_have_all_ended_do_not_come_into_force() {
    let upstream = Upstream::start("a").await;
    let world = quiet_world(&upstream);
    let mut gateway = world.start().await;
    let mut open = world
        .identity("alice")
        .visit(gateway.address, "localhost")
        .await
        .unwrap();
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "old");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (now() - 9 * DAY, now() - DAY);
    let old = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    world.write("ca.crt", &old.pem());
    let refused = gateway
        .logged("the policy was not reloaded; the old one stays in force")
        .await;
    let says = "ca.crt: no authority is valid now";
    assert!(refused["error"].as_str().unwrap().contains(says));
    assert_eq!(open.ask("still").await.unwrap(), "a: still");
    let (valid, said) = check(&world);
    assert!(!valid && said.contains(says), "{said}");
    assert!(start_error(&world).contains(says));
}

fn line_of(world: &World, begins: &str) -> usize {
    let text = world.policy();
    let mut lines = text.lines();
    lines.position(|line| line.starts_with(begins)).unwrap() + 1
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_have_is_said() {
    let upstream = Upstream::start("a").await;
    let mut world = quiet_world(&upstream);
    let own = world
        .authority
        .server(&["localhost", "*.web.test"])
        .unwrap();
    save(&world, &own);
    world.group("web", &[&upstream], "sni: ['*.web.test', a.web.test]");
    let (_, said) = check(&world);
    assert!(!said.contains("warning"), "{said}");
    world.group(
        "ledger",
        &[&upstream],
        "sni: [ledger.test, '*.ledger.test']",
    );
    let (valid, said) = check(&world);
    assert!(valid, "{said}");
    for name in [
        ": warning: groups.ledger: the gateway's certificate is not valid for ledger.test, \
         *.ledger.test; clients that ask for",
        &format!("policy.yaml:{}:3: warning", line_of(&world, "  ledger:")),
    ] {
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_chain_that_stops_below_the_root_is_said() {
    let upstream = Upstream::start("a").await;
    let world = quiet_world(&upstream);
    let root = AuthoritySpec {
        path_len: 2,
        ..AuthoritySpec::default()
    };
    let root = Authority::new(&root).unwrap();
    let middle = root.intermediate("middle").unwrap();
    let own = middle.server(&["localhost"]).unwrap();
    world.write("ca.crt", middle.certificate_pem());
    world.write("server.key", own.key_pem());
    let leaf = own.certificate_pem().to_owned();
    world.write("server.crt", &leaf);
    let (valid, said) = check(&world);
    assert!(valid, "{said}");
    assert!(
        said.contains("the certificate of CN=middle does not follow it"),
        "{said}"
    );
    world.write("server.crt", &(leaf.clone() + middle.certificate_pem()));
    let (_, said) = check(&world);
    assert!(!said.contains("missing"), "{said}");
    world.write("server.crt", &(leaf + root.certificate_pem()));
    let (_, said) = check(&world);
    assert!(
        said.contains("certificate 2 in the file did not issue the one before it"),
        "{said}"
    );
}

#[tokio::test]
async fn clients_of_any_of_many_authorities_get_in() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let mut bundle = String::new();
    for number in 0..700 {
        let spec = AuthoritySpec {
            common_name: Some(format!(
                "Tenant {number:05} of Example Holding, Device Authority"
            )),
            ..AuthoritySpec::default()
        };
        bundle += Authority::new(&spec).unwrap().certificate_pem();
    }
    bundle += world.authority.certificate_pem();
    world.write("ca.crt", &bundle);
    let (valid, said) = check(&world);
    assert!(
        valid && said.contains("the names of 701 authorities have"),
        "{said}"
    );
    let gateway = world.start().await;
    let alice = world.identity("alice");
    alice.visit(gateway.address, "db").await.unwrap();
}

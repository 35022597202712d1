//! Whom the gateway believes: authorities in their time, what they have revoked, and nobody because
//! of a slip.

use std::process::Command;

use certgen::{Authority, AuthoritySpec, IssuedCertificate, LeafSpec, Overwrite};
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::AlertDescription::{CertificateExpired, CertificateRevoked, DecryptError, UnknownCA};
use time::{Duration, OffsetDateTime};
use tls::claimed_certificate::ClaimedCertificate;

use crate::harness::{Identity, Record, Refusal, Upstream, World, source_of, until};

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A client called alice of an authority of one's own.
fn alice(authority: &Authority) -> IssuedCertificate {
    authority.client("alice").unwrap()
}

/// An authority's name.
fn name(authority: &Authority) -> String {
    let facts = certgen::CertificateFacts::parse(authority.certificate_der()).unwrap();
    facts.common_name().unwrap().to_owned()
}

/// The same authority's certificate with other dates.
fn again(authority: &Authority, not_before: OffsetDateTime, not_after: OffsetDateTime) -> String {
    let dir = tempfile::tempdir().unwrap();
    authority.save(dir.path(), Overwrite::Refuse).unwrap();
    let key = std::fs::read_to_string(dir.path().join("ca.key")).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = name(authority);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    (params.not_before, params.not_after) = (not_before, not_after);
    params
        .self_signed(&KeyPair::from_pem(&key).unwrap())
        .unwrap()
        .pem()
}

/// What becomes of a client that shows this chain to a gateway that believes these authorities.
async fn visit(
    world: &World,
    authorities: &str,
    leaf: &IssuedCertificate,
    chain: &[&Authority],
) -> Result<(), (Refusal, String)> {
    world.write("ca.crt", authorities);
    let gateway = world.start().await;
    let client = Identity::with_chain(leaf, chain);
    let (result, source) = client.try_visit(gateway.address, "db").await;
    match result {
        Ok(_) => Ok(()),
        Err(refusal) => {
            let record = gateway.record(|record| source_of(record) == source).await;
            says_when(&record);
            Err((refusal, record["reason"].as_str().unwrap().to_owned()))
        }
    }
}

/// Fails if the record of a chain that is out of date does not say since when or until when, and
/// whose it is.
fn says_when(record: &Record) {
    let detail = record["detail"].as_str().unwrap();
    let words = match record["reason"].as_str().unwrap() {
        "certificate_expired" => ("a certificate expired 1 day ago, at 2", "Z"),
        "certificate_not_yet_valid" => ("a certificate becomes valid in ", "Z"),
        _ => return,
    };
    let said = detail
        .strip_prefix("the certificate is not trusted: ")
        .unwrap();
    assert!(
        said.starts_with(words.0) && said.ends_with(words.1),
        "{said}"
    );
    assert!(
        record["claimed_subject"]
            .as_str()
            .unwrap()
            .contains("CN=alice")
    );
}

fn refused(alert: rustls::AlertDescription, reason: &str) -> Result<(), (Refusal, String)> {
    Err((Refusal::Alert(alert), reason.to_owned()))
}

#[tokio::test]
async fn an_authority_is_believed_in_its_time_only() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let day = Duration::days(1);
    // The leaf's dates are fine: an authority cannot issue beyond its own, so another copy does.
    let key_holder = AuthoritySpec {
        not_after: now() + 90 * day,
        ..AuthoritySpec::default()
    };
    let authority = Authority::new(&key_holder).unwrap();
    let (good, leaf) = (authority.certificate_pem(), alice(&authority));
    assert_eq!(visit(&world, good, &leaf, &[]).await, Ok(()));

    let other = world.authority.certificate_pem().to_owned();
    let expired = again(&authority, now() - 10 * day, now() - day);
    assert_eq!(
        visit(&world, &format!("{expired}{other}"), &leaf, &[]).await,
        refused(CertificateExpired, "certificate_expired")
    );
    let early = again(&authority, now() + day, now() + 10 * day);
    assert_eq!(
        visit(&world, &format!("{early}{other}"), &leaf, &[]).await,
        refused(CertificateExpired, "certificate_not_yet_valid")
    );
    assert_eq!(
        visit(&world, &format!("{expired}{good}"), &leaf, &[]).await,
        Ok(()),
        "one is in date"
    );
}

#[tokio::test]
async fn a_leaf_is_believed_in_its_time_only() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let day = Duration::days(1);
    let since = now() - 30 * day;
    let spec = AuthoritySpec {
        not_before: since,
        ..AuthoritySpec::default()
    };
    let authority = Authority::new(&spec).unwrap();
    let lasting = |not_before, not_after| {
        let spec = LeafSpec {
            not_before,
            not_after,
            ..LeafSpec::client("alice")
        };
        authority.issue(&spec).unwrap()
    };

    for (leaf, reason) in [
        (lasting(since, now() - day), "certificate_expired"),
        (
            lasting(now() + day, now() + 2 * day),
            "certificate_not_yet_valid",
        ),
    ] {
        assert_eq!(
            visit(&world, authority.certificate_pem(), &leaf, &[]).await,
            refused(CertificateExpired, reason)
        );
    }
}

#[tokio::test]
async fn a_stranger_with_a_known_name_is_still_a_stranger() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let forged = AuthoritySpec {
        common_name: Some(name(&world.authority)),
        ..AuthoritySpec::default()
    };
    let forged = Authority::new(&forged).unwrap();
    let other = AuthoritySpec {
        common_name: Some("other".to_owned()),
        ..AuthoritySpec::default()
    };
    let other = Authority::new(&other).unwrap();

    for stranger in [&forged, &other] {
        let leaf = alice(stranger);
        assert_eq!(
            visit(
                &world,
                world.authority.certificate_pem(),
                &leaf,
                &[stranger]
            )
            .await,
            refused(UnknownCA, "unknown_authority")
        );
    }
}

#[tokio::test]
async fn whom_an_untrusted_certificate_names_is_recorded_as_a_claim() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let gateway = world.start().await;
    let stranger = Authority::new(&AuthoritySpec::default()).unwrap();
    let leaf = alice(&stranger);
    let forged = Identity::of(&stranger, &leaf);
    let refused = forged.visit(gateway.address, "db").await.unwrap_err();
    assert_eq!(refused, Refusal::Alert(UnknownCA));
    let record = gateway.record_with("unknown_authority").await;
    assert_eq!(record["claimed_client"], "alice");
    assert!(record["client"].is_null());
    assert!(record["certificate"].is_null(), "that is for proven ones");
    let text = |key: &str| record[key].as_str().unwrap();
    let claimed = ClaimedCertificate::of(&leaf.certificate_der()).unwrap();
    assert_eq!(
        text("claimed_certificate"),
        claimed.fingerprint().to_string()
    );
    assert_eq!(text("claimed_serial"), claimed.serial());
    assert!(text("claimed_subject").contains("CN=alice"), "{record}");
    assert_eq!(text("claimed_issuer"), claimed.issuer());
    assert_eq!(
        record["detail"],
        "the certificate is not trusted: no client authority of the gateway issued it"
    );
}

#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing_however_well_known_it_is() {
    let db = Upstream::start("db").await;
    let world = World::with_db(&[&db]);
    let gateway = world.start().await;
    let [alices, mallorys] = ["alice", "mallory"].map(|name| world.authority.client(name).unwrap());
    let alice = Identity::of(&world.authority, &alices);
    let thief = Identity::thief(&alices, &mallorys);
    let refused = Refusal::Alert(DecryptError);
    for _ in 0..3 {
        assert_eq!(
            thief.visit(gateway.address, "db").await.unwrap_err(),
            refused
        );
        alice.visit(gateway.address, "db").await.unwrap();
    }
    until(async || {
        let records = gateway.records();
        let refused = records.iter().filter(|one| {
            one["reason"] == "key_not_proven"
                && one["claimed_client"] == "alice"
                && one["client"].is_null()
        });
        (refused.count() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn intermediates_are_followed_and_what_was_revoked_among_them_is_not() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    let root = AuthoritySpec {
        path_len: 2,
        ..AuthoritySpec::default()
    };
    let root = Authority::new(&root).unwrap();
    let middle = root.intermediate("middle").unwrap();
    let leaf = alice(&middle);
    assert_eq!(
        visit(&world, root.certificate_pem(), &leaf, &[&middle]).await,
        Ok(())
    );

    world.honour_revocations();
    let list = |authority: &Authority, revoked: &[certgen::CertificateSerial]| {
        authority
            .crl(revoked, now(), now() + Duration::days(1), 1)
            .unwrap()
            .pem()
            .to_owned()
    };
    let middles = format!("{}{}", list(&middle, &[]), middle.certificate_pem());
    world.write("ca.crl", &format!("{}{middles}", list(&root, &[])));
    assert_eq!(
        visit(&world, root.certificate_pem(), &leaf, &[&middle]).await,
        Ok(()),
        "nothing is revoked"
    );

    let serial = certgen::CertificateFacts::parse(middle.certificate_der())
        .unwrap()
        .serial()
        .clone();
    world.write("ca.crl", &format!("{}{middles}", list(&root, &[serial])));
    assert_eq!(
        visit(&world, root.certificate_pem(), &leaf, &[&middle]).await,
        refused(CertificateRevoked, "certificate_revoked"),
        "the intermediate is"
    );

    let middles = list(&middle, &[leaf.serial().clone()]);
    let middles = format!("{middles}{}", middle.certificate_pem());
    world.write("ca.crl", &format!("{}{middles}", list(&root, &[])));
    assert_eq!(
        visit(&world, root.certificate_pem(), &leaf, &[&middle]).await,
        refused(CertificateRevoked, "certificate_revoked"),
        "the leaf is"
    );

    world.write("ca.crl", &list(&root, &[]));
    assert_eq!(
        visit(&world, root.certificate_pem(), &leaf, &[&middle]).await,
        refused(UnknownCA, "revocation_unknown"),
        "no list speaks for the leaf's issuer"
    );
}

#[tokio::test]
async fn a_list_past_its_time_is_believed_only_on_demand() {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    let leaf = alice(&world.authority);
    let (day, hour) = (Duration::days(1), Duration::hours(1));
    let list = world
        .authority
        .crl(&[], now() - day, now() - hour, 1)
        .unwrap();
    world.write("ca.crl", list.pem());
    let client = Identity::with_chain(&leaf, &[]);
    {
        let gateway = world.start().await;
        let refused = client.visit(gateway.address, "db").await.unwrap_err();
        assert_eq!(refused, Refusal::Alert(UnknownCA));
        gateway.record_with("revocation_unknown").await;
    }

    world.write(
        "policy.yaml",
        &world
            .policy()
            .replace("ca.crl}", "ca.crl, expired_crl: accept}"),
    );
    let gateway = crate::harness::Gateway::start_as_it_is(&world).await;
    client.visit(gateway.address, "db").await.unwrap();
}

/// Why the gateway does not start on what is in the world's directory.
fn start_error(world: &World) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--access-log", "/dev/null", "--policy"])
        .arg(world.path("policy.yaml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// A world that honours revocations, with a policy for `db` and a list of nobody.
async fn world_with_a_list() -> (World, Upstream, String) {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.honour_revocations();
    world.write_policy();
    let list = empty_list(&world);
    world.write("ca.crl", &list);
    (world, upstream, list)
}

/// A list of the world's authority that takes nobody back.
fn empty_list(world: &World) -> String {
    let list = world
        .authority
        .crl(&[], now(), now() + Duration::days(1), 1);
    list.unwrap().pem().to_owned()
}

/// Has each of these texts in a file keep the gateway from starting, with an error about the file
/// that says this.
fn assert_refused<const N: usize>(world: &World, file: &str, texts: [(String, &str); N]) {
    for (text, says) in texts {
        world.write(file, &text);
        let error = start_error(world);
        assert!(
            error.contains(file) && error.contains(says),
            "{says}: {error}"
        );
    }
}

#[tokio::test]
async fn no_slip_in_a_file_makes_the_gateway_believe_anybody() {
    let (world, _upstream, _list) = world_with_a_list().await;
    let authority = world.authority.certificate_pem().to_owned();
    let leaf = alice(&world.authority);
    let authorities = [
        (String::new(), "contains no certificate"),
        (
            "no PEM at all".to_owned(),
            "ca.crt:1: expected a PEM section or a comment",
        ),
        (
            authority[..authority.len() / 2].to_owned(),
            "truncated PEM: the END line of the CERTIFICATE is missing",
        ),
        (
            format!("{authority}{}", &authority[..200]),
            "truncated PEM: the END line of the CERTIFICATE is missing",
        ),
        (
            authority.replacen("-----BEGIN", "----BEGIN", 1),
            "ca.crt:1: malformed BEGIN or END line",
        ),
        (
            authority.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
            "ca.crt:1: a TRUSTED CERTIFICATE does not belong in this file",
        ),
        (
            leaf.certificate_pem().to_owned(),
            "ca.crt:1: this certificate is not an authority's",
        ),
        (
            format!("{authority}{}", leaf.key_pem()),
            "a PRIVATE KEY does not belong in this file",
        ),
    ];
    assert_refused(&world, "ca.crt", authorities);
    std::fs::remove_file(world.path("ca.crt")).unwrap();
    assert!(start_error(&world).contains("ca.crt: No such file"));
}

#[tokio::test]
async fn no_slip_in_a_list_brings_anybody_back() {
    let (world, _upstream, list) = world_with_a_list().await;
    let lists = [
        (String::new(), "contains no revocation list"),
        (
            list[..list.len() / 2].to_owned(),
            "truncated PEM: the END line of the X509 CRL is missing",
        ),
        (
            empty_list(&World::new()),
            "was not signed by a client authority",
        ),
        (list.replace('A', "B"), "ca.crl"),
    ];
    assert_refused(&world, "ca.crl", lists);
}

#[tokio::test]
async fn no_authority_of_a_bundle_is_lost_however_its_file_is_written() {
    let upstream = Upstream::start("a").await;
    let world = World::with_db(&[&upstream]);
    let [first, last] = [(); 2].map(|()| Authority::new(&AuthoritySpec::default()).unwrap());
    let (one, other) = (first.certificate_pem(), last.certificate_pem());
    for bundle in [
        format!("{}{other}", one.trim_end()),
        format!("\u{feff}{one}{}", other.trim_end()),
        format!("# ours\n{}\r\n{}", one.replace('\n', "\r\n"), other),
        format!(
            "  {} {}",
            one.replace('\n', "\n  "),
            other.replace('\n', " ")
        ),
    ] {
        for authority in [&first, &last] {
            let leaf = alice(authority);
            assert_eq!(visit(&world, &bundle, &leaf, &[]).await, Ok(()), "{bundle}");
        }
    }
}

#[test]
fn an_encrypted_key_says_so() {
    let mut world = World::new();
    world.group_of("db", "\"127.0.0.1:1\"", "");
    world.client("alice", "groups: [db]");
    world.write_policy();
    let key = std::fs::read_to_string(world.path("server.key")).unwrap();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    world.write("server.key", &encrypted);
    let error = start_error(&world);
    assert!(
        error.contains("server.key:1: the PRIVATE KEY is encrypted"),
        "{error}"
    );
}

use time::Duration;
use x509_parser::extensions::KeyUsage;

use super::*;
use crate::LeafUsage;
use crate::certificate_facts::CertificateFacts;
use crate::signature::signed_by;
use crate::spec::now;
use crate::store::Overwrite;

fn authority() -> Authority {
    Authority::new(&AuthoritySpec::default()).unwrap()
}

fn parsed<'a>(der: &'a CertificateDer<'static>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

fn key_usage<'a>(certificate: &'a X509Certificate<'_>) -> &'a KeyUsage {
    let extension = certificate.key_usage().unwrap().unwrap();
    assert!(extension.critical);
    extension.value
}

#[test]
fn an_authority_signs_leaves_and_lists_and_nothing_else() {
    let authority = authority();
    let certificate = parsed(authority.certificate_der());
    let constraints = certificate.basic_constraints().unwrap().unwrap();

    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    assert_eq!(
        key_usage(&certificate).flags,
        0b110_0000,
        "keyCertSign and cRLSign"
    );
    assert!(matches!(
        authority.intermediate("below"),
        Err(CertgenError::PathLength)
    ));
}

#[test]
fn two_authorities_have_two_names_unless_they_are_given_one() {
    let name = |authority: &Authority| {
        let facts = CertificateFacts::parse(authority.certificate_der()).unwrap();
        facts.common_name().unwrap().to_owned()
    };
    let (one, other) = (authority(), authority());
    assert_ne!(name(&one), name(&other));
    assert!(name(&one).starts_with("Portcullis Authority "));

    let named = Authority::new(&AuthoritySpec {
        common_name: Some("Ours".to_owned()),
        ..AuthoritySpec::default()
    });
    assert_eq!(name(&named.unwrap()), "Ours");
}

#[test]
fn a_leaf_has_one_usage_and_may_not_sign_certificates() {
    let authority = authority();
    for (issued, usage) in [
        (authority.server(&["a.test"]).unwrap(), "serverAuth"),
        (authority.client("billing").unwrap(), "clientAuth"),
    ] {
        let der = issued.certificate_der();
        let leaf = parsed(&der);
        assert!(signed_by(&leaf, &parsed(authority.certificate_der())));
        assert_eq!(CertificateFacts::parse(&der).unwrap().usages(), [usage]);
        assert_eq!(key_usage(&leaf).flags, 1, "digitalSignature");
        assert!(!leaf.is_ca());
        let key = KeyPair::from_pem(issued.key_pem()).unwrap();
        assert!(belongs(&der, &key), "the key is the certificate's");
        assert!(leaf.raw_serial().len() <= 20 && leaf.raw_serial()[0] < 0x80);
    }
}

#[test]
fn a_common_name_is_a_utf8_string() {
    let der = authority().client("billing").unwrap().certificate_der();
    let leaf = parsed(&der);
    let name = leaf.subject().iter_common_name().next().unwrap();
    assert_eq!(
        name.attr_value().tag(),
        x509_parser::asn1_rs::Tag::Utf8String
    );
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let authority = Authority::new(&AuthoritySpec {
        not_after: now() + Duration::days(3),
        ..AuthoritySpec::default()
    })
    .unwrap();
    let leaf = authority.client("billing").unwrap();
    let end = CertificateFacts::parse(&leaf.certificate_der())
        .unwrap()
        .not_after();
    assert_eq!(end, authority.not_after());
}

#[test]
fn an_authority_that_has_ended_issues_nothing() {
    let authority = Authority::new(&AuthoritySpec {
        not_before: now() - Duration::days(9),
        not_after: now() - Duration::days(1),
        ..AuthoritySpec::default()
    })
    .unwrap();
    assert!(matches!(
        authority.client("billing"),
        Err(CertgenError::AuthorityExpired(_))
    ));
}

#[test]
fn bad_names_and_validities_are_errors() {
    let authority = authority();
    assert!(matches!(authority.server(&[]), Err(CertgenError::NoNames)));
    assert!(matches!(
        authority.server(&["a b"]),
        Err(CertgenError::Name { .. })
    ));
    assert!(matches!(
        authority.client("a\0"),
        Err(CertgenError::Name { .. })
    ));
    let spec = LeafSpec::client("billing");
    let empty = LeafSpec {
        not_after: spec.not_before,
        ..spec
    };
    assert!(matches!(
        authority.issue(&empty),
        Err(CertgenError::Validity)
    ));
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::UNIX_EPOCH - Duration::days(800_000);
    assert!(matches!(
        authority.issue_custom(params),
        Err(CertgenError::Validity)
    ));
}

#[test]
fn what_a_test_asks_for_is_signed_as_it_is() {
    let mut params = CertificateParams::default();
    params.serial_number = Some(7_u64.into());
    let issued = authority().issue_custom(params).unwrap();
    let facts = CertificateFacts::parse(&issued.certificate_der()).unwrap();
    assert_eq!(issued.serial().to_string(), "07");
    assert_eq!(facts.serial(), issued.serial());
    assert!(facts.usages().is_empty());
}

#[test]
fn an_intermediate_stands_below_and_has_less_room() {
    let root = Authority::new(&AuthoritySpec {
        path_len: 1,
        ..AuthoritySpec::default()
    })
    .unwrap();
    let below = root.intermediate("Below").unwrap();
    assert!(signed_by(
        &parsed(below.certificate_der()),
        &parsed(root.certificate_der())
    ));
    assert!(matches!(
        below.intermediate("Further"),
        Err(CertgenError::PathLength)
    ));

    let leaf = below.client("billing").unwrap().certificate_der();
    assert!(signed_by(&parsed(&leaf), &parsed(below.certificate_der())));
    assert!(!signed_by(&parsed(&leaf), &parsed(root.certificate_der())));
}

/// The certificates in a file.
fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    crate::certificate_facts::load_all(path).unwrap()
}

#[test]
fn a_leaf_of_an_intermediate_brings_the_chain_that_its_peers_need() {
    let root = Authority::new(&AuthoritySpec {
        path_len: 2,
        ..AuthoritySpec::default()
    })
    .unwrap();
    let middle = root.intermediate("Middle").unwrap();
    let below = middle.intermediate("Below").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let der = Authority::certificate_der;
    for (authority, behind) in [
        (&root, vec![]),
        (&middle, vec![der(&middle)]),
        (&below, vec![der(&below), der(&middle)]),
    ] {
        let leaf = authority.client("billing").unwrap();
        leaf.save(dir.path(), "billing", Overwrite::Replace)
            .unwrap();
        let found = certificates(&dir.path().join("billing.crt"));
        assert_eq!(found[0], leaf.certificate_der());
        assert_eq!(found[1..].iter().collect::<Vec<_>>(), behind);
    }

    // Loaded from a file, an authority has the chain that leads up from it there.
    below.save(dir.path(), Overwrite::Refuse).unwrap();
    let own = dir.path().join("ca.crt");
    let (other, strange) = (authority(), root.intermediate("Strange").unwrap());
    let all = [&below, &other, &root, &strange, &middle];
    let pem = all.map(Authority::certificate_pem);
    std::fs::write(&own, pem.concat()).unwrap();
    let loaded = Authority::load(dir.path()).unwrap();
    let leaf = loaded.client("billing").unwrap();
    leaf.save(dir.path(), "billing", Overwrite::Replace)
        .unwrap();
    let found = certificates(&dir.path().join("billing.crt"));
    assert_eq!(
        found[1..].iter().collect::<Vec<_>>(),
        [der(&below), der(&middle)]
    );

    let leaf_alone = leaf.certificate_pem();
    std::fs::write(dir.path().join("billing.crt"), leaf_alone).unwrap();
    let failed = || {
        let checks = crate::verify(dir.path(), &dir.path().join("billing.crt")).unwrap();
        checks.iter().any(crate::CertificateCheck::failed)
    };
    assert!(failed(), "peers would miss the intermediate");
    loaded
        .renew(dir.path(), &dir.path().join("billing.crt"), None)
        .unwrap();
    assert!(!failed());
}

#[test]
fn a_saved_authority_is_the_same_when_it_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let made = Authority::load_or_create(dir.path()).unwrap();
    let loaded = Authority::load_or_create(dir.path()).unwrap();
    assert_eq!(made.certificate_der(), loaded.certificate_der());

    let der = loaded.client("billing").unwrap().certificate_der();
    assert!(signed_by(&parsed(&der), &parsed(made.certificate_der())));
}

#[test]
fn many_that_come_at_once_share_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| Authority::load_or_create(dir.path())))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect()
    });
    assert!(
        made.iter()
            .all(|one| one.certificate_der() == made[0].certificate_der())
    );
}

#[test]
fn a_key_of_another_authority_is_noticed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority().save(dir.path(), Overwrite::Refuse).unwrap();
    authority().save(other.path(), Overwrite::Refuse).unwrap();
    std::fs::rename(other.path().join("ca.key"), dir.path().join("ca.key")).unwrap();
    assert!(matches!(
        Authority::load(dir.path()),
        Err(CertgenError::KeyMismatch { .. })
    ));
}

#[test]
fn a_leaf_is_no_authority() {
    let dir = tempfile::tempdir().unwrap();
    authority()
        .client("billing")
        .unwrap()
        .save(dir.path(), "ca", Overwrite::Refuse)
        .unwrap();
    assert!(matches!(
        Authority::load(dir.path()),
        Err(CertgenError::NotAnAuthority(_))
    ));
}

#[test]
fn a_list_ends_after_it_starts() {
    let at = now();
    let refused = authority().crl(&[], at, at, 1);
    assert!(matches!(refused, Err(CertgenError::Validity)));
}

#[test]
fn nothing_that_is_printed_for_debugging_shows_a_key() {
    let authority = authority();
    let issued = authority.issue(&LeafSpec::client("billing")).unwrap();
    assert_eq!(LeafSpec::client("billing").usage, LeafUsage::Client);
    assert!(!format!("{authority:?}{issued:?}").contains("PRIVATE"));
    assert!(format!("{authority:?}").contains("elided"));
}

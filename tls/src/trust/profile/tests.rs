use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType, SerialNumber, SigningKey as _,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

use super::bits;
use crate::files::SettingsFile;
use crate::trust::authority;
use crate::trust::crl::VerifiedCrl;
use crate::trust::tests::Files;

/// What is changed of a certificate that is fine.
type Change<'a> = &'a dyn Fn(&mut CertificateParams);

/// A certificate of an authority that signs itself, with a change.
fn root(change: impl FnOnce(&mut CertificateParams)) -> (Files, KeyPair, CertificateParams) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let files = Files(tempfile::tempdir().unwrap());
    let text = params.self_signed(&key).unwrap().pem();
    std::fs::write(files.0.path().join("ca.crt"), text).unwrap();
    (files, key, params)
}

/// An extension with a content that nobody looks at.
fn critical(oid: &[u64], content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(true);
    extension
}

/// A key identifier of four bytes in an authority's extension, and in a subject's.
const AUTHORITY_KEY: [u8; 8] = [0x30, 6, 0x80, 4, 1, 2, 3, 4];
const SUBJECT_KEY: [u8; 6] = [4, 4, 1, 2, 3, 4];

/// Loads an authority that says this about itself. Returns `fine`, or the error.
fn loaded(change: Change<'_>) -> String {
    match root(change).0.with(&[]) {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn purpose(purpose: ExtendedKeyUsagePurpose) -> impl Fn(&mut CertificateParams) {
    move |params| params.extended_key_usages = vec![purpose.clone()]
}

fn extended(extension: CustomExtension) -> impl Fn(&mut CertificateParams) {
    move |params| params.custom_extensions = vec![extension.clone()]
}

#[test]
fn an_authority_may_leave_out_its_usages_and_say_more_than_is_needed() {
    assert_eq!(loaded(&|_| {}), "fine");
    assert_eq!(loaded(&|params| params.key_usages.clear()), "fine");
    let client_auth = purpose(ExtendedKeyUsagePurpose::ClientAuth);
    assert_eq!(loaded(&client_auth), "fine");
    let plain = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    assert_eq!(
        loaded(&extended(plain)),
        "fine",
        "what is not critical may be ignored"
    );
}

#[test]
fn what_an_authority_says_about_itself_is_read() {
    let malformed = CustomExtension::from_oid_content(&[2, 5, 29, 35], vec![0x30, 9, 1]);
    let other_key = CustomExtension::from_oid_content(&[2, 5, 29, 35], AUTHORITY_KEY.to_vec());
    let cases: [(Change<'_>, &str); 8] = [
        (
            &extended(other_key),
            "its authority key identifier is not its own",
        ),
        (
            &|params| params.distinguished_name = DistinguishedName::new(),
            "it has no name",
        ),
        (
            &|params| params.key_usages = vec![KeyUsagePurpose::CrlSign],
            "lacks keyCertSign",
        ),
        (
            &purpose(ExtendedKeyUsagePurpose::ServerAuth),
            "its purposes lack clientAuth",
        ),
        (
            &extended(critical(&[1, 2, 3, 4], &[5, 0])),
            "critical extension that is not",
        ),
        (
            &extended(critical(&[2, 5, 29, 35], &AUTHORITY_KEY)),
            "a critical key identifier",
        ),
        (&extended(malformed), "a malformed extension"),
        (
            &|params| params.is_ca = IsCa::ExplicitNoCa,
            "basicConstraints does not say so",
        ),
    ];
    for (change, says) in cases {
        let said = loaded(change);
        assert!(
            said.contains("ca.crt:1: ") && said.contains(says),
            "{says}: {said}"
        );
    }
}

/// A good client's certificate, before it is signed.
fn client() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "alice");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from_slice(&[7; 20]));
    params
}

fn serial(bytes: &'static [u8]) -> impl Fn(&mut CertificateParams) {
    move |params| params.serial_number = Some(SerialNumber::from_slice(bytes))
}

#[test]
fn what_a_client_says_about_itself_is_read() {
    let (files, key, params) = root(|_| {});
    let issuer = Issuer::new(params, key);
    let trust = files.with(&[]).unwrap();
    let verdict = |change: Change<'_>| {
        let mut params = client();
        change(&mut params);
        let leaf = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        match trust.verify(leaf.der(), &[], UnixTime::now()) {
            Ok(_) => "good",
            Err(untrusted) => untrusted.reason(),
        }
    };
    assert_eq!(verdict(&|_| {}), "good");
    assert_eq!(verdict(&serial(&[1])), "good");
    let with = |last: u64, content: &[u8]| {
        extended(CustomExtension::from_oid_content(
            &[2, 5, 29, last],
            content.to_vec(),
        ))
    };
    let below_test: &[u8] = &[0x30, 10, 0xa0, 8, 0x30, 6, 0x82, 4, b't', b'e', b's', b't'];
    let no_mapping: &[u8] = &[0x30, 3, 0x81, 1, 0];
    let cases: [(Change<'_>, &str); 8] = [
        // Name constraints, constraints of policies, and a key identifier that cannot be read.
        (&with(30, below_test), "bad_certificate"),
        (&with(36, no_mapping), "bad_certificate"),
        (&with(35, &[0x30, 9, 1]), "bad_certificate"),
        (&serial(&[0]), "bad_certificate"),
        (&serial(&[7; 21]), "bad_certificate"),
        (
            &extended(critical(&[2, 5, 29, 35], &AUTHORITY_KEY)),
            "bad_certificate",
        ),
        (
            &extended(critical(&[2, 5, 29, 14], &SUBJECT_KEY)),
            "bad_certificate",
        ),
        (
            &|params| {
                params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::Any);
            },
            "certificate_purpose",
        ),
    ];
    for (change, reason) in cases {
        assert_eq!(verdict(change), reason);
    }
    let signs = |params: &mut CertificateParams| {
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
    };
    assert_eq!(verdict(&signs), "certificate_purpose");
}

/// A directory name with only an organization.
fn organization(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::OrganizationName, name);
    all
}

#[test]
fn under_a_constraint_on_directory_names_nobody_gets_in() {
    let subtree = |name| GeneralSubtree::DirectoryName(organization(name));
    for (permitted, excluded) in [
        (vec![subtree("here")], Vec::new()),
        (vec![subtree("elsewhere")], Vec::new()),
        (Vec::new(), vec![subtree("here")]),
        (Vec::new(), vec![subtree("elsewhere")]),
    ] {
        let (files, key, params) = root(|params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: permitted.clone(),
                excluded_subtrees: excluded.clone(),
            });
        });
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::default();
        params.distinguished_name = organization("elsewhere");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        let trust = files.with(&[]).unwrap();
        let refused = trust.verify(leaf.der(), &[], UnixTime::now()).unwrap_err();
        assert_eq!(
            refused.reason(),
            "bad_certificate",
            "{permitted:?} {excluded:?}"
        );
    }
}

#[test]
fn a_length_is_counted_in_bits() {
    for (number, length) in [
        (&[][..], 0),
        (&[0], 0),
        (&[0, 1], 1),
        (&[0, 0xff], 8),
        (&[15, 0], 12),
    ] {
        assert_eq!(bits(number), length, "{number:?}");
    }
}

#[test]
fn an_intermediate_that_constrains_nothing_or_by_policy_leads_nowhere() {
    let (files, key, params) = root(|_| {});
    let root = Issuer::new(params, key);
    let trust = files.with(&[]).unwrap();
    let names: &[u8] = &[0x30, 10, 0xa0, 8, 0x30, 6, 0x82, 4, b't', b'e', b's', b't'];
    for (last, content, is_good) in [
        (30, names, true),
        (30, &[0x30, 0], false),
        (30, &[0x30, 4, 0xa0, 0, 0xa1, 0], false),
        (36, &[0x30, 3, 0x81, 1, 0], false),
    ] {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "between");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, last], content.to_vec());
        params.custom_extensions = vec![extension];
        let key = KeyPair::generate().unwrap();
        let between = params.signed_by(&key, &root).unwrap();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        let verified = trust.verify(leaf.der(), &[between.der().clone()], UnixTime::now());
        assert_eq!(
            verified.is_ok(),
            is_good,
            "{last} {content:?}: {verified:?}"
        );
    }
}

/// DER of less than 64 KiB.
fn der(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let content = contents.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut all = match high {
        0 if low < 128 => vec![tag, low],
        0 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    all.extend(content);
    all
}

/// An extension of a list (RFC 5280, 4.1.2.9), by the last byte of its identifier below `id-ce`.
fn extension(id: u8, is_critical: bool, content: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if is_critical { &[1, 1, 0xff] } else { &[] };
    der(
        0x30,
        &[&[6, 3, 0x55, 0x1d, id], critical, &der(4, &[content])],
    )
}

/// A list of nobody with these extensions (RFC 5280, 5.1).
fn list(subject: &[u8], key: &KeyPair, extensions: &[Vec<u8>]) -> Vec<u8> {
    let algorithm = der(0x30, &[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
    let extensions: Vec<&[u8]> = extensions.iter().map(|one| &one[..]).collect();
    let to_sign = der(
        0x30,
        &[
            &[2, 1, 1],
            &algorithm,
            subject,
            &der(0x17, &[b"250101000000Z"]),
            &der(0x17, &[b"490101000000Z"]),
            &der(0xa0, &[&der(0x30, &extensions)]),
        ],
    );
    let signature = key.sign(&to_sign).unwrap();
    der(0x30, &[&to_sign, &algorithm, &der(3, &[&[0], &signature])])
}

#[test]
fn a_list_with_a_critical_number_or_key_identifier_is_refused() {
    const NUMBER: [u8; 3] = [2, 1, 7];
    let (_, key, params) = root(|_| {});
    let authority = params.self_signed(&key).unwrap();
    let parsed = authority::parse(authority.der()).unwrap();
    let subject = parsed.subject().as_raw();
    let plain = extension(20, false, &NUMBER);
    for (extensions, says) in [
        (vec![plain.clone()], None),
        (
            vec![plain.clone(), extension(35, false, &AUTHORITY_KEY)],
            None,
        ),
        (
            vec![extension(20, true, &NUMBER)],
            Some("a critical number or key identifier"),
        ),
        (
            vec![plain, extension(35, true, &AUTHORITY_KEY)],
            Some("a critical number or key identifier"),
        ),
        (
            vec![extension(35, false, &AUTHORITY_KEY)],
            Some("has no number"),
        ),
    ] {
        let list = list(subject, &key, &extensions);
        match (
            VerifiedCrl::read(&list, SettingsFile::List(0), &[authority.der().clone()]),
            says,
        ) {
            (Ok(_), None) => {}
            (Err(error), Some(says)) => assert!(error.contains(says), "{says}: {error}"),
            (result, _) => panic!("{says:?}: {result:?}"),
        }
    }
}

#[test]
fn a_name_constraint_that_cannot_be_judged_lets_nobody_in() {
    let named = SanType::Rfc822Name("alice@example.test".try_into().unwrap());
    for permitted in ["example.test", "elsewhere.test"] {
        let (files, key, params) = root(|params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::Rfc822Name(permitted.to_owned())],
                excluded_subtrees: Vec::new(),
            });
        });
        let issuer = Issuer::new(params, key);
        let trust = files.with(&[]).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![named.clone()];
        let leaf = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap();
        let refused = trust.verify(leaf.der(), &[], UnixTime::now()).unwrap_err();
        assert_eq!(refused.reason(), "bad_certificate");
    }
}

#[test]
fn a_list_of_an_authority_that_may_not_sign_lists_is_refused() {
    let may = [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    for (usages, says) in [(&may[..], None), (&may[..1], Some("lacks cRLSign"))] {
        let (files, key, mut params) = root(|params| params.key_usages = usages.to_vec());
        // Its certificate does not keep it from signing.
        params.key_usages.clear();
        let issuer = Issuer::new(params, key);
        let now = OffsetDateTime::now_utc();
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::DAY,
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&issuer).unwrap().pem().unwrap();
        match (files.with(&[&list]), says) {
            (Ok(_), None) => {}
            (Err(error), Some(says)) => assert!(error.to_string().contains(says), "{error}"),
            (result, _) => panic!("{says:?}: {result:?}"),
        }
    }
}

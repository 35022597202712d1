use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType, SerialNumber,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

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

#[test]
fn what_an_authority_says_about_itself_is_read() {
    let loaded = |change: &dyn Fn(&mut CertificateParams)| match root(change).0.with(&[]) {
        Ok(_) => "fine".to_owned(),
        Err(error) => error.to_string(),
    };
    assert_eq!(loaded(&|_| {}), "fine");
    assert_eq!(loaded(&|params| params.key_usages.clear()), "fine");
    let purposes = |purpose: ExtendedKeyUsagePurpose| {
        move |params: &mut CertificateParams| params.extended_key_usages = vec![purpose.clone()]
    };
    assert_eq!(
        loaded(&purposes(ExtendedKeyUsagePurpose::ClientAuth)),
        "fine"
    );
    let extended = |extension: CustomExtension| {
        move |params: &mut CertificateParams| params.custom_extensions = vec![extension.clone()]
    };
    let plain = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    assert_eq!(
        loaded(&extended(plain)),
        "fine",
        "what is not critical may be ignored"
    );
    let malformed = CustomExtension::from_oid_content(&[2, 5, 29, 35], vec![0x30, 9, 1]);
    let cases: [(Change<'_>, &str); 7] = [
        (
            &|params| params.distinguished_name = DistinguishedName::new(),
            "it has no name",
        ),
        (
            &|params| params.key_usages = vec![KeyUsagePurpose::CrlSign],
            "lacks keyCertSign",
        ),
        (
            &purposes(ExtendedKeyUsagePurpose::ServerAuth),
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
        (&extended(malformed), "an extension that cannot be read"),
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

#[test]
fn what_a_client_says_about_itself_is_read() {
    let (files, key, params) = root(|_| {});
    let issuer = Issuer::new(params, key);
    let trust = files.with(&[]).unwrap();
    let verdict = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(&[7; 20]));
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
    let serial = |bytes: &'static [u8]| {
        move |params: &mut CertificateParams| {
            params.serial_number = Some(SerialNumber::from_slice(bytes));
        }
    };
    assert_eq!(verdict(&serial(&[1])), "good");
    let cases: [(Change<'_>, &str); 5] = [
        (&serial(&[0]), "bad_certificate"),
        (&serial(&[7; 21]), "bad_certificate"),
        (
            &|params| params.custom_extensions = vec![critical(&[2, 5, 29, 35], &AUTHORITY_KEY)],
            "bad_certificate",
        ),
        (
            &|params| params.custom_extensions = vec![critical(&[2, 5, 29, 14], &SUBJECT_KEY)],
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

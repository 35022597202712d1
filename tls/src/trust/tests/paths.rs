//! Paths with intermediates, and authorities that are below others.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa};

use super::*;

/// An authority, or a client's certificate.
struct Made {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Made {
    fn new(serial: u64, is_ca: IsCa, above: Option<&Self>) -> Self {
        let mut params = CertificateParams::default();
        let name = format!("number {serial}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial.into());
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - DAY, now + DAY * 100);
        if !matches!(is_ca, IsCa::Ca(_)) {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer()),
            None => params.self_signed(&key),
        };
        let certificate = certificate.unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    fn authority(serial: u64, above: Option<&Self>) -> Self {
        Self::new(serial, IsCa::Ca(BasicConstraints::Unconstrained), above)
    }

    fn client(&self, serial: u64) -> CertificateDer<'static> {
        Self::new(serial, IsCa::NoCa, Some(self)).der
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_ca_cert_der(&self.der, &self.key).unwrap()
    }

    /// A list that ends in so many days, with this authority's certificate.
    fn list(&self, days: i32, revoked: &[u64]) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|&serial| RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now - DAY,
            next_update: now + DAY * days,
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer()).unwrap().pem().unwrap();
        format!("{}{list}", self.pem)
    }
}

fn trust(authorities: &[&Made], lists: &[&str]) -> ClientTrust {
    let files = Files::new(&[]);
    let all: String = authorities.iter().map(|one| &*one.pem).collect();
    std::fs::write(files.0.path().join("ca.crt"), all).unwrap();
    files.with(lists).unwrap()
}

fn verdict(trust: &ClientTrust, leaf: &CertificateDer<'_>, above: &[&Made]) -> &'static str {
    let above: Vec<_> = above.iter().map(|one| one.der.clone()).collect();
    match trust.verify(leaf, &above, UnixTime::now()) {
        Ok(_) => "good",
        Err(untrusted) => untrusted.reason(),
    }
}

#[test]
fn a_list_that_has_ended_hides_no_revocation_above_it() {
    let root = Made::authority(1, None);
    let below = Made::authority(2, Some(&root));
    let leaf = below.client(3);
    let late = UnixTime::since_unix_epoch(Duration::from_secs(
        UnixTime::now().as_secs() + 2 * 24 * 60 * 60,
    ));
    for (revoked, holds) in [(&[][..], true), (&[2][..], false)] {
        let trust = trust(&[&root], &[&root.list(9, revoked), &below.list(1, &[])]);
        let shown = [below.der.clone()];
        assert_eq!(trust.still_holds(&leaf, &shown, late), holds);
    }
}

#[test]
fn an_authority_that_its_issuer_has_taken_back_speaks_for_nobody() {
    let root = Made::authority(1, None);
    let below = Made::authority(2, Some(&root));
    // It has the serial number of `below`, and is of another issuer.
    let other = Made::authority(2, None);
    let all = [&root, &below, &other];
    let [direct, indirect, far] = [root.client(4), below.client(3), other.client(3)];
    let (of_below, of_other) = (below.list(9, &[]), other.list(9, &[]));
    for (revoked, expected) in [(&[][..], "good"), (&[2][..], "certificate_revoked")] {
        let trust = trust(&all, &[&root.list(9, revoked), &of_below, &of_other]);
        assert_eq!(verdict(&trust, &indirect, &[]), expected);
        assert_eq!(verdict(&trust, &indirect, &[&below]), expected);
        assert_eq!(verdict(&trust, &direct, &[]), "good");
        assert_eq!(verdict(&trust, &far, &[]), "good");
        let findings = trust.warnings(UnixTime::now());
        let told = findings.iter().filter(|one| one.what.contains("refused"));
        assert_eq!(told.count(), revoked.len(), "{findings:?}");
    }
}

#[test]
fn a_path_is_as_long_as_the_authority_at_its_end_allows() {
    for (longest, indirect) in [
        (BasicConstraints::Unconstrained, "good"),
        (BasicConstraints::Constrained(1), "good"),
        (BasicConstraints::Constrained(0), "bad_certificate"),
    ] {
        let root = Made::new(1, IsCa::Ca(longest), None);
        let below = Made::authority(2, Some(&root));
        let trust = trust(&[&root], &[]);
        assert_eq!(verdict(&trust, &root.client(3), &[]), "good");
        assert_eq!(verdict(&trust, &below.client(3), &[&below]), indirect);
    }
}

#[test]
fn an_authority_with_an_issuer_of_its_own_is_an_intermediate() {
    let root = Made::authority(1, None);
    let below = Made::authority(2, Some(&root));
    let trust = trust(&[&root, &below], &[]);
    let are: Vec<_> = trust
        .subjects()
        .iter()
        .map(|name| trust.is_intermediate(name.as_ref()))
        .collect();
    assert_eq!(are, [false, true]);
}

#[test]
fn a_list_brings_no_authority_of_its_own() {
    let (root, stranger) = (Made::authority(1, None), Made::authority(1, None));
    let files = Files::new(&[]);
    std::fs::write(files.0.path().join("ca.crt"), &root.pem).unwrap();
    let refused = files.with(&[&stranger.list(9, &[])]).unwrap_err();
    assert!(matches!(refused, TrustError::Revocations { .. }));
    assert!(files.with(&[&root.list(9, &[])]).is_ok());
}

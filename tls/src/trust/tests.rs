use std::time::Duration;

use certgen::{Authority, AuthoritySpec, CertificateSerial, IssuedCertificate};
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope,
    Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;

mod described;
mod limbo;
mod paths;

const DAY: time::Duration = time::Duration::days(1);

/// A directory with what a gateway believes.
pub(super) struct Files(pub(super) TempDir);

impl Files {
    fn new(authorities: &[&Authority]) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let all: String = authorities
            .iter()
            .map(|one| one.certificate_pem())
            .collect();
        std::fs::write(files.0.path().join("ca.crt"), all).unwrap();
        files
    }

    /// Loads the authorities with these lists, each of which is the text of a file.
    pub(super) fn with(&self, lists: &[&str]) -> Result<ClientTrust, TrustError> {
        let mut paths = Vec::new();
        for (index, list) in lists.iter().enumerate() {
            let path = self.0.path().join(format!("{index}.crl"));
            std::fs::write(&path, list).unwrap();
            paths.push(path);
        }
        let authorities = self.0.path().join("ca.crt");
        let trust = ClientTrust::load(&authorities, &paths, ExpiredLists::Refuse);
        trust.map_err(|mut faults| faults.remove(0).1)
    }
}

fn authority(name: &str) -> Authority {
    let spec = AuthoritySpec {
        common_name: Some(name.to_owned()),
        ..AuthoritySpec::default()
    };
    Authority::new(&spec).unwrap()
}

/// The text of a list of these certificates.
fn list(authority: &Authority, number: u64, revoked: &[&IssuedCertificate]) -> String {
    let serials: Vec<CertificateSerial> = revoked.iter().map(|one| one.serial().clone()).collect();
    let now = OffsetDateTime::now_utc();
    let list = authority.crl(&serials, now, now + DAY, number);
    list.unwrap().pem().to_owned()
}

/// What is recorded of a client with this certificate.
fn verdict(trust: &ClientTrust, client: &IssuedCertificate) -> &'static str {
    let leaf = client.certificate_der();
    match trust.verify(&leaf, &[], UnixTime::now()) {
        Ok(_) => "good",
        Err(untrusted) => untrusted.reason(),
    }
}

#[test]
fn of_one_authoritys_lists_the_newest_counts_wherever_it_stands() {
    let authority = authority("one");
    let files = Files::new(&[&authority]);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| authority.client(name).unwrap());
    let old = list(&authority, 9, &[&carol]);
    // As a number 10 is more than 9, as text it is not.
    let new = list(&authority, 10, &[&carol, &alice]);
    for lists in [
        &[&*old, &*new][..],
        &[&*new, &*old],
        &[&*format!("{old}{new}")],
        &[&*format!("{new}{old}")],
        &[&*new, &*new],
    ] {
        let trust = files.with(lists).unwrap();
        let verdicts = [&alice, &bob, &carol].map(|client| verdict(&trust, client));
        let revoked = "certificate_revoked";
        assert_eq!(verdicts, [revoked, "good", revoked]);
    }
}

#[test]
fn two_lists_that_are_equally_new_both_count() {
    let authority = authority("one");
    let files = Files::new(&[&authority]);
    let [alice, bob] = ["alice", "bob"].map(|name| authority.client(name).unwrap());
    let now = OffsetDateTime::now_utc();
    let [one, other] = [&alice, &bob].map(|revoked| {
        let list = authority.crl(&[revoked.serial().clone()], now, now + DAY, 1);
        list.unwrap().pem().to_owned()
    });
    let trust = files.with(&[&one, &other]).unwrap();
    for client in [alice, bob] {
        assert_eq!(verdict(&trust, &client), "certificate_revoked");
    }
}

#[test]
fn two_authorities_of_one_name_have_a_list_each() {
    let (old, new) = (authority("same"), authority("same"));
    let files = Files::new(&[&old, &new]);
    let [gone, late] = [&old, &new].map(|authority| authority.client("gone").unwrap());
    let [alice, bob] = [&old, &new].map(|authority| authority.client("good").unwrap());
    let lists = [list(&old, 7, &[&gone]), list(&new, 1, &[&late])];
    for lists in [[&*lists[0], &*lists[1]], [&*lists[1], &*lists[0]]] {
        let trust = files.with(&lists).unwrap();
        let verdicts = [&gone, &late, &alice, &bob].map(|client| verdict(&trust, client));
        let revoked = "certificate_revoked";
        assert_eq!(verdicts, [revoked, revoked, "good", "good"]);
    }
    let trust = files.with(&[&lists[0]]).unwrap();
    assert_eq!(
        verdict(&trust, &bob),
        "revocation_unknown",
        "the list of the other key does not speak for this one"
    );
}

#[test]
fn an_older_list_does_not_follow_a_newer_one() {
    let (one, other) = (authority("one"), authority("other"));
    let files = Files::new(&[&one, &other]);
    let of = |lists: &[&str]| files.with(lists).unwrap();
    let (first, second) = (list(&one, 1, &[]), list(&one, 2, &[]));
    let far = list(&other, 1, &[]);
    let before = of(&[&second]);
    let refused = of(&[&first]).follow(&before).unwrap_err().to_string();
    assert!(refused.contains("CN=one (number 1)"), "{refused}");
    assert!(refused.contains("in force (number 2)"), "{refused}");
    for fine in [
        &[&*second][..],
        &[&first, &second],
        &[&far, &second],
        &[&far],
    ] {
        assert_eq!(of(fine).follow(&before), Ok(()));
    }
    assert_eq!(of(&[&second]).follow(&of(&[&first])), Ok(()));
}

#[test]
fn an_older_list_does_not_come_back_after_a_time_without_any() {
    let (one, other) = (authority("one"), authority("other"));
    let files = Files::new(&[&one, &other]);
    let of = |lists: &[&str]| files.with(lists).unwrap();
    let (first, second) = (list(&one, 1, &[]), list(&one, 2, &[]));
    let far = list(&other, 1, &[]);
    let mut last = of(&[&second, &far]);
    for _ in 0..3 {
        for without in [of(&[&far]), of(&[])] {
            let before = std::mem::replace(&mut last, without);
            assert_eq!(last.follow(&before), Ok(()));
        }
    }
    assert!(of(&[&first, &far]).follow(&last).is_err());
    for fine in [&[&*far][..], &[&*second, &*far]] {
        assert_eq!(of(fine).follow(&last), Ok(()));
    }
}

/// Lists for a part of an authority's certificates each.
struct Parts {
    authority: Authority,
    issuer: Issuer<'static, KeyPair>,
}

impl Parts {
    fn new() -> Self {
        let authority = authority("one");
        let dir = tempfile::tempdir().unwrap();
        authority
            .save(dir.path(), certgen::Overwrite::Refuse)
            .unwrap();
        let key = std::fs::read_to_string(dir.path().join("ca.key")).unwrap();
        let key = KeyPair::from_pem(&key).unwrap();
        let issuer = Issuer::from_ca_cert_der(authority.certificate_der(), key).unwrap();
        Self { authority, issuer }
    }

    fn client(&self, list: &str) -> IssuedCertificate {
        self.custom(|params| {
            params.crl_distribution_points = vec![CrlDistributionPoint {
                uris: vec![list.to_owned()],
            }];
        })
    }

    fn custom(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> IssuedCertificate {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "alice");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) =
            (OffsetDateTime::now_utc(), OffsetDateTime::now_utc() + DAY);
        change(&mut params);
        self.authority.issue_custom(params).unwrap()
    }

    fn list(
        &self,
        uri: &str,
        scope: Option<CrlScope>,
        number: u64,
        revoked: &[&IssuedCertificate],
    ) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|one| RevokedCertParams {
            serial_number: SerialNumber::from_slice(one.serial().as_bytes()),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + DAY,
            crl_number: number.into(),
            issuing_distribution_point: Some(CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint {
                    uris: vec![uri.to_owned()],
                },
                scope,
            }),
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

#[test]
fn a_list_of_a_part_speaks_for_that_part_only() {
    let parts = Parts::new();
    let files = Files::new(&[&parts.authority]);
    let (a, b) = ("http://crl.test/a", "http://crl.test/b");
    let (here, gone, there) = (parts.client(a), parts.client(a), parts.client(b));
    let of_a = parts.list(a, None, 1, &[&gone]);
    let of_b = parts.list(b, None, 7, &[]);
    let trust = files.with(&[&of_a]).unwrap();
    let verdicts = [&here, &gone, &there].map(|client| verdict(&trust, client));
    assert_eq!(
        verdicts,
        ["good", "certificate_revoked", "revocation_unknown"]
    );
    // The numbers of different parts have nothing to do with each other.
    let trust = files.with(&[&of_b, &of_a]).unwrap();
    let verdicts = [&here, &gone, &there].map(|client| verdict(&trust, client));
    assert_eq!(verdicts, ["good", "certificate_revoked", "good"]);
    let of_authorities = parts.list(a, Some(CrlScope::CaCertsOnly), 1, &[]);
    let trust = files.with(&[&of_authorities]).unwrap();
    assert_eq!(verdict(&trust, &here), "revocation_unknown");
    let of_clients = parts.list(a, Some(CrlScope::UserCertsOnly), 1, &[]);
    let trust = files.with(&[&of_clients]).unwrap();
    assert_eq!(verdict(&trust, &here), "good");
}

#[test]
fn a_list_of_a_part_does_not_speak_for_a_certificate_that_does_not_say_its_part() {
    let parts = Parts::new();
    let files = Files::new(&[&parts.authority]);
    let of_a = parts.list("http://crl.test/a", None, 1, &[]);
    let trust = files.with(&[&of_a]).unwrap();
    assert_eq!(verdict(&trust, &parts.custom(|_| {})), "good");
    // Distribution points, and something that is none.
    let unread = parts.custom(|params| {
        let content = vec![0x30, 2, 1, 0];
        let points = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 31], content);
        params.custom_extensions = vec![points];
    });
    assert_eq!(verdict(&trust, &unread), "revocation_unknown");
}

#[test]
fn a_chain_holds_until_the_first_thing_on_its_path_ends() {
    let (one, other) = (authority("one"), authority("other"));
    let files = Files::new(&[&one, &other]);
    let now = OffsetDateTime::now_utc();
    let ends = |authority: &Authority, days: i32| {
        let list = authority.crl(&[], now, now + DAY * days, 1);
        list.unwrap().pem().to_owned()
    };
    let trust = files.with(&[&ends(&one, 3), &ends(&other, 1)]).unwrap();
    let leaf = one.client("alice").unwrap().certificate_der();
    let verified = trust.verify(&leaf, &[], UnixTime::now()).unwrap();
    let in_days = |days: u64| UnixTime::now().as_secs() + days * 24 * 60 * 60;
    let until = verified.holds_until().as_secs();
    assert!(
        until > in_days(3) - 60 && until <= in_days(3),
        "its own issuer's list"
    );
    assert!(
        verified.certificates_end.as_secs() > in_days(60),
        "leaves last longer"
    );
    let late = UnixTime::since_unix_epoch(Duration::from_secs(in_days(2)));
    assert!(
        trust.verify(&leaf, &[], late).is_ok(),
        "the other's list has ended"
    );
}

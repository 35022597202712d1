use certgen::{Authority, AuthoritySpec, Overwrite};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::files::ExpiredLists;

/// The gateway's side, with a revocation list that is to have a successor in an hour, and a
/// client's certificate.
fn tls(expired_lists: ExpiredLists) -> (TempDir, TlsSettings, CertificateDer<'static>) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(&AuthoritySpec::default()).unwrap();
    authority.save(dir.path(), Overwrite::Refuse).unwrap();
    let own = authority.server(&["localhost"]).unwrap();
    own.save(dir.path(), "server", Overwrite::Refuse).unwrap();
    let now = OffsetDateTime::now_utc();
    let list = authority.crl(&[], now, now + Duration::hours(1), 1);
    std::fs::write(dir.path().join("ca.crl"), list.unwrap().pem()).unwrap();
    let tls = TlsSettings::load(&files(expired_lists, &dir), UnixTime::now()).unwrap();
    let leaf = authority.client("alice").unwrap().certificate_der();
    (dir, tls, leaf)
}

fn files(expired_lists: ExpiredLists, dir: &TempDir) -> SettingsFiles {
    let dir = dir.path();
    SettingsFiles {
        certificate: dir.join("server.crt"),
        key: dir.join("server.key"),
        client_ca: dir.join("ca.crt"),
        lists: vec![dir.join("ca.crl")],
        expired_lists,
    }
}

/// So many seconds from now.
fn after(seconds: i64) -> UnixTime {
    let now = UnixTime::now().as_secs().checked_add_signed(seconds);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.unwrap()))
}

const HOUR: i64 = 60 * 60;
const YEAR: i64 = 365 * 24 * HOUR;

#[test]
fn a_chain_that_was_good_is_refused_before_and_after_its_time() {
    for (expired_lists, good, bad) in [
        (ExpiredLists::Refuse, HOUR / 2, 2 * HOUR),
        (ExpiredLists::Accept, 2 * HOUR, 50 * YEAR),
    ] {
        let (_dir, tls, leaf) = tls(expired_lists);
        for _ in 0..2 {
            for seconds in [1, good] {
                let identified = tls.identify(&leaf, &[], after(seconds)).unwrap();
                assert_eq!(identified.claim().common_name(), "alice");
                tls.cache(identified);
            }
            for seconds in [-YEAR, bad] {
                let refused = tls.identify(&leaf, &[], after(seconds)).unwrap_err();
                assert!(matches!(refused, IdentifyError::Untrusted(_)), "{refused}");
            }
        }
    }
}

#[test]
fn what_has_ended_while_it_is_in_force_holds_no_change_up_and_comes_in_force_no_more() {
    let (dir, tls, _) = tls(ExpiredLists::Refuse);
    let (files, late) = (files(ExpiredLists::Refuse, &dir), after(50 * YEAR));
    assert!(tls.load_next(&files, late).is_ok());
    let is_own = |refused: Result<TlsSettings, Vec<TlsFault>>| {
        let faults = refused.unwrap_err();
        matches!(faults[0].error, TlsError::Own { .. })
            && faults[0].file == SettingsFile::Certificate
    };
    assert!(is_own(TlsSettings::load(&files, late)), "at a start");
    let authority = Authority::load(dir.path()).unwrap();
    let own = authority.server(&["localhost"]).unwrap();
    own.save(dir.path(), "server", Overwrite::Replace).unwrap();
    let another = tls.load_next(&files, late);
    assert!(is_own(another), "another than is in force");
}

#[test]
fn whatever_is_shown_behind_a_leaf_it_has_one_entry() {
    let (_dir, tls, leaf) = tls(ExpiredLists::Refuse);
    for n in 0..1100_u32 {
        let junk = CertificateDer::from(n.to_be_bytes().to_vec());
        tls.cache(tls.identify(&leaf, &[junk], after(1)).unwrap());
    }
    assert_eq!(tls.cached_chains(), 1);
}

#[test]
fn what_is_shown_behind_a_good_leaf_is_bounded_all_the_same() {
    let (_dir, tls, leaf) = tls(ExpiredLists::Refuse);
    tls.cache(tls.identify(&leaf, &[], after(1)).unwrap());
    let junk = vec![leaf.clone(); trust::MOST_INTERMEDIATES + 1];
    assert!(tls.identify(&leaf, &junk, after(1)).is_err());
}

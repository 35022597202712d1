//! What a trust says about itself, and what it does not look at.

use super::*;

const LONG_AGO: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1));

#[test]
fn a_trust_names_its_authorities_and_the_lists_that_count() {
    let (one, other) = (authority("one"), authority("other"));
    let files = Files::new(&[&one, &other]);
    let bare = files.with(&[]).unwrap();
    let names: Vec<_> = bare.subjects().iter().map(AsRef::as_ref).collect();
    assert_eq!(names.len(), 2);
    for (name, expected) in names.iter().zip([&b"one"[..], b"other"]) {
        assert!(name.ends_with(expected), "{name:?}");
        assert!(!bare.is_intermediate(name), "it signs itself");
    }
    assert_eq!(bare.summary(), (2, Vec::new()));
    let (authorities, lists) = files.with(&[&list(&one, 7, &[])]).unwrap().summary();
    assert_eq!((authorities, lists.len()), (2, 1));
    assert!(lists[0].contains("CN=one (number 7)"), "{lists:?}");
}

#[test]
fn a_trust_is_the_same_if_it_verifies_the_same() {
    let (one, other) = (authority("one"), authority("other"));
    let files = Files::new(&[&one]);
    let bare = files.with(&[]).unwrap();
    assert!(bare.is_the_same(&files.with(&[]).unwrap()));
    assert!(!bare.is_the_same(&files.with(&[&list(&one, 1, &[])]).unwrap()));
    assert!(!bare.is_the_same(&Files::new(&[&other]).with(&[]).unwrap()));
    let authorities = files.0.path().join("ca.crt");
    let lenient = ClientTrust::load(&authorities, &[], ExpiredLists::Accept).unwrap();
    assert!(!bare.is_the_same(&lenient));
}

#[test]
fn authorities_that_are_not_valid_are_accepted_only_if_they_were_before() {
    let authority = authority("one");
    let files = Files::new(&[&authority]);
    let trust = files.with(&[]).unwrap();
    let (now, same) = (UnixTime::now(), files.with(&[]).unwrap());
    assert_eq!(trust.valid_authorities(now), (1, 1));
    assert_eq!(trust.valid_authorities(LONG_AGO), (0, 1));
    assert!(trust.check_dates(None, now));
    assert!(!trust.check_dates(None, LONG_AGO));
    assert!(trust.check_dates(Some(&same), LONG_AGO));
    let other = files.with(&[&list(&authority, 1, &[])]).unwrap();
    assert!(!trust.check_dates(Some(&other), LONG_AGO));
}

#[test]
fn a_chain_that_is_too_long_is_not_looked_at() {
    let chain = |lengths: &[usize]| {
        let mut ders = lengths.iter().map(|&length| vec![0; length].into());
        let leaf = ders.next().unwrap();
        bound(&leaf, &ders.collect::<Vec<_>>()).is_ok()
    };
    let most = LARGEST_CHAIN;
    assert!(chain(&[most]));
    assert!(!chain(&[most + 1]));
    assert!(chain(&[most - 3, 1, 1, 1]));
    assert!(!chain(&[most - 2, 1, 1, 1]), "all of them count");
    assert!(!chain(&[1, 1, 1, 1, 1]), "three intermediates are most");
}

#[test]
fn an_operator_is_told_of_authorities_and_lists_that_end() {
    let (one, other) = (authority("one"), authority("other"));
    let trust = Files::new(&[&one, &other]).with(&[&list(&one, 1, &[])]);
    let trust = trust.unwrap();
    let told = |now| -> Vec<_> {
        let warnings = trust.warnings(now);
        warnings.iter().map(|one| one.what.clone()).collect()
    };
    assert_eq!(told(UnixTime::now()), Vec::<String>::new());
    let told_early = told(LONG_AGO);
    assert_eq!(told_early, ["2 of 2 authorities are not valid now"]);

    let dated = trust.dated();
    let kinds: Vec<_> = dated.iter().map(|one| one.kind).collect();
    let authority = DatedKind::ClientAuthority;
    assert_eq!(kinds, [authority, authority, DatedKind::RevocationList]);
    assert_eq!(dated[2].file, SettingsFile::List(0));
    let late = UnixTime::since_unix_epoch(Duration::from_secs(dated[2].lifetime.end()));
    let ended = dated[2].describe(late);
    assert!(ended.starts_with("the list of CN=one (number 1) expired on "));
    assert!(ended.contains("(nextUpdate)"), "{ended}");
    let ending = dated[2].describe(UnixTime::now());
    assert!(ending.contains(" expires on "), "{ending}");
}

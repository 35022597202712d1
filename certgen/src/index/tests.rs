use std::fs;

use super::file::{path, read};
use super::*;

fn entry(serial: &str, name: &str, replaces: Option<&str>) -> IndexEntry {
    IndexEntry {
        serial: CertificateSerial::parse(serial).unwrap(),
        name: name.to_owned(),
        kind: "client".to_owned(),
        file: format!("{name}.crt"),
        from: now(),
        until: now() + time::Duration::days(1),
        authority: "ours".to_owned(),
        replaces: replaces.map(|serial| CertificateSerial::parse(serial).unwrap()),
    }
}

fn index(entries: Vec<IndexEntry>) -> CertificateIndex {
    let replaced_by = entries
        .iter()
        .filter_map(|entry| Some((entry.replaces.clone()?, entry.serial.clone())))
        .collect();
    CertificateIndex {
        entries,
        revoked: BTreeSet::new(),
        replaced_by,
        now: now(),
    }
}

#[test]
fn what_was_added_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let entries = [entry("0a", "a\n\"b\"", None), entry("0b", "ü", Some("0a"))];
    append(dir.path(), &lines(&entries[..1]).unwrap()).unwrap();
    append(dir.path(), &lines(&entries[1..]).unwrap()).unwrap();
    append_missing(dir.path(), &lines(&entries).unwrap()).unwrap();
    assert_eq!(read(dir.path()).unwrap(), entries);
}

#[test]
fn a_line_that_was_torn_by_a_crash_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (entry("0a", "a", None), entry("0b", "b", None));
    append(dir.path(), &lines(std::slice::from_ref(&first)).unwrap()).unwrap();
    let whole = fs::read(path(dir.path())).unwrap();
    for length in 0..whole.len() {
        fs::write(path(dir.path()), &whole[..length]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        append(dir.path(), &lines(std::slice::from_ref(&second)).unwrap()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), std::slice::from_ref(&second));
    }
}

#[test]
fn a_damaged_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = lines(&[entry("0a", "a", None)]).unwrap();
    fs::write(path(dir.path()), format!("{good}junk\n{good}")).unwrap();
    let damaged = read(dir.path());
    assert!(matches!(
        damaged,
        Err(CertgenError::IndexLine { line: 2, .. })
    ));
}

#[test]
fn an_index_that_has_another_name_too_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "").unwrap();
    fs::hard_link(&victim, path(dir.path())).unwrap();
    let refused = append(dir.path(), "line\n");
    assert!(matches!(refused, Err(CertgenError::NotOurs { .. })));

    fs::remove_file(path(dir.path())).unwrap();
    std::os::unix::fs::symlink(&victim, path(dir.path())).unwrap();
    append(dir.path(), "line\n").unwrap_err();
    assert_eq!(fs::read(&victim).unwrap(), b"");
}

#[test]
fn those_that_a_certificate_replaced_are_found_one_after_the_other() {
    let index = index(vec![
        entry("01", "a", None),
        entry("02", "a", Some("01")),
        entry("03", "a", Some("02")),
        entry("04", "b", None),
    ]);
    let replaced = |serial: &str| -> Vec<String> {
        let found = index.replaced(&CertificateSerial::parse(serial).unwrap());
        found.iter().map(|entry| entry.serial.to_string()).collect()
    };
    assert_eq!(replaced("03"), ["02", "01"]);
    assert_eq!(replaced("02"), ["01"]);
    assert!(replaced("01").is_empty());
    assert!(replaced("04").is_empty());
    assert!(replaced("05").is_empty());
}

#[test]
fn an_index_that_goes_round_ends() {
    let index = index(vec![
        entry("01", "a", Some("02")),
        entry("02", "a", Some("01")),
    ]);
    assert_eq!(
        index
            .replaced(&CertificateSerial::parse("01").unwrap())
            .len(),
        2
    );
}

#[test]
fn a_state_says_the_worst_that_became_of_a_certificate() {
    let mut old = entry("01", "a", None);
    old.until = now() - time::Duration::seconds(2);
    let mut index = index(vec![
        old,
        entry("02", "a", Some("01")),
        entry("03", "a", Some("02")),
        entry("04", "a", None),
    ]);
    index
        .revoked
        .insert(CertificateSerial::parse("04").unwrap());
    index
        .revoked
        .insert(CertificateSerial::parse("99").unwrap());
    let states: Vec<CertificateState> = index
        .entries()
        .iter()
        .map(|entry| index.state(entry))
        .collect();
    assert_eq!(
        states,
        [
            CertificateState::Ended,
            CertificateState::Replaced,
            CertificateState::Valid,
            CertificateState::Revoked
        ]
    );
    let live: Vec<&CertificateSerial> =
        index.named("a").iter().map(|entry| &entry.serial).collect();
    assert_eq!(live, [&index.entries[1].serial, &index.entries[2].serial]);
    assert!(
        index
            .to_string()
            .ends_with("\n99                                revoked \n")
    );
    assert_eq!(index.json()[4]["serial"], "99");
}

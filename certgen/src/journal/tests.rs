use rcgen::KeyPair;
use tempfile::TempDir;

use super::*;
use crate::certificate_facts;
use crate::directory::AuthorityDirectory;
use crate::paths;
use crate::signature::belongs;
use crate::{Authority, AuthoritySpec, CertificateIndex, IssuedCertificate};

/// A directory with an authority and its client `a`, and a second certificate of that client's.
fn stage() -> (TempDir, Authority, IssuedCertificate) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(&AuthoritySpec::default()).unwrap();
    authority.save(dir.path(), Overwrite::Refuse).unwrap();
    let first = authority.client("a").unwrap();
    first.save(dir.path(), "a", Overwrite::Refuse).unwrap();
    let second = authority.client("a").unwrap();
    (dir, authority, second)
}

/// The change that puts a client's certificate in place.
fn change(
    dir: &Path,
    leaf: &IssuedCertificate,
    stem: &str,
    overwrite: Overwrite,
) -> DirectoryChange {
    let file = paths::certificate_path(dir, stem);
    let draft = |path: &Path, text: &str| DraftFile::new(path, text, FileAccess::Owner).unwrap();
    let mut change = DirectoryChange::new(overwrite);
    change.pair(
        draft(&paths::key_path(dir, stem), leaf.key_pem()),
        draft(&file, leaf.certificate_pem()),
    );
    change.index(IndexEntry::of(
        &leaf.certificate_der(),
        leaf.issuer(),
        &file,
        None,
    ));
    change.remove(dir.join("obsolete"));
    change
}

fn is_pair(dir: &Path, stem: &str) -> bool {
    let key = fs::read_to_string(paths::key_path(dir, stem)).unwrap();
    let certificate = certificate_facts::load(&paths::certificate_path(dir, stem)).unwrap();
    belongs(&certificate, &KeyPair::from_pem(&key).unwrap())
}

fn drafts(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap();
    names
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".certgen-")
        })
        .count()
}

/// Does the first so many of the single things that a change does to the files.
fn take_some(dir: &Path, steps: &[JournalStep], count: usize) {
    let mut turns = 0..count;
    let mut next = || turns.next().is_some();
    for step in steps {
        match step {
            JournalStep::Pair {
                key,
                certificate,
                overwrite,
            } => {
                for file in [key, certificate] {
                    if next() {
                        file.make(*overwrite).unwrap();
                    }
                }
            }
            JournalStep::Index(_) | JournalStep::Remove(_) => {
                if next() {
                    step.take(dir, StepAttempt::First).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_change_that_was_cut_off_anywhere_is_finished_by_the_next_command() {
    for overwrite in [Overwrite::Replace, Overwrite::Refuse] {
        for taken in 0..=4 {
            let (dir, _, leaf) = stage();
            let dir = dir.path();
            fs::write(dir.join("obsolete"), "").unwrap();
            let stem = match overwrite {
                Overwrite::Replace => "a",
                Overwrite::Refuse => "b",
            };
            let steps = change(dir, &leaf, stem, overwrite).begin(dir).unwrap();
            assert_eq!(steps.len(), 3, "index, pair, removal");
            take_some(dir, &steps, taken);

            drop(AuthorityDirectory::lock(dir).unwrap());

            assert!(is_pair(dir, stem), "{overwrite:?} after {taken}");
            let there = certificate_facts::load(&paths::certificate_path(dir, stem)).unwrap();
            assert_eq!(there, leaf.certificate_der());
            let index = CertificateIndex::load(dir).unwrap();
            let serials = index.entries().iter().map(|entry| &entry.serial);
            assert_eq!(serials.filter(|serial| *serial == leaf.serial()).count(), 1);
            assert_eq!(drafts(dir), 0);
            assert!(!dir.join("obsolete").exists());
            assert!(!path(dir).exists());
        }
    }
}

#[test]
fn a_change_that_was_not_written_down_has_changed_nothing() {
    let (dir, _, leaf) = stage();
    let before = fs::read(dir.path().join("a.crt")).unwrap();
    let change = change(dir.path(), &leaf, "a", Overwrite::Replace);
    assert_eq!(drafts(dir.path()), 2);
    drop(change);
    assert_eq!(drafts(dir.path()), 0);
    assert_eq!(fs::read(dir.path().join("a.crt")).unwrap(), before);
    assert!(is_pair(dir.path(), "a"));
}

#[test]
fn a_file_that_appears_at_the_last_moment_is_not_overwritten() {
    for (name, other) in [("b.key", "b.crt"), ("b.crt", "b.key")] {
        for killed in [false, true] {
            let (dir, _, leaf) = stage();
            let dir = dir.path();
            let steps = change(dir, &leaf, "b", Overwrite::Refuse)
                .begin(dir)
                .unwrap();
            fs::write(dir.join(name), "theirs").unwrap();

            if killed {
                drop(AuthorityDirectory::lock(dir).unwrap());
            } else {
                let refused = finish(dir, &steps, StepAttempt::First);
                assert!(matches!(refused, Err(CertgenError::Exists(_))));
            }

            assert_eq!(fs::read(dir.join(name)).unwrap(), b"theirs");
            assert!(!dir.join(other).exists(), "half a pair is none");
            assert_eq!(drafts(dir), 0);
            assert!(!path(dir).exists());
        }
    }
}

#[test]
fn what_is_in_the_way_is_noticed_before_anything_changes() {
    let (dir, _, leaf) = stage();
    let dir = dir.path();
    std::os::unix::fs::symlink("nowhere", dir.join("b.crt")).unwrap();
    let refused = change(dir, &leaf, "b", Overwrite::Refuse).commit(dir);
    assert!(matches!(refused, Err(CertgenError::Exists(path)) if path == dir.join("b.crt")));
    assert!(!dir.join("b.key").exists());

    fs::create_dir(dir.join("c.crt")).unwrap();
    let refused = change(dir, &leaf, "c", Overwrite::Replace).commit(dir);
    assert!(matches!(refused, Err(CertgenError::NotAFile(path)) if path == dir.join("c.crt")));
    assert!(!dir.join("c.key").exists());
    assert!(!path(dir).exists());
}

#[test]
fn a_change_that_cannot_be_finished_is_told_and_not_forgotten() {
    let (dir, _, leaf) = stage();
    let dir = dir.path();
    drop(
        change(dir, &leaf, "a", Overwrite::Replace)
            .begin(dir)
            .unwrap(),
    );
    let certificate = dir.join("a.crt");
    let gone = dir.join("a.gone");
    fs::rename(&certificate, &gone).unwrap();
    fs::create_dir(&certificate).unwrap();

    let refused = AuthorityDirectory::lock(dir);
    assert!(matches!(refused, Err(CertgenError::Unfinished { .. })));

    fs::remove_dir(&certificate).unwrap();
    drop(AuthorityDirectory::lock(dir).unwrap());
    assert!(is_pair(dir, "a"));
}

#[test]
fn a_journal_that_is_a_link_is_not_followed() {
    let (dir, _, _) = stage();
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "[]").unwrap();
    std::os::unix::fs::symlink(&elsewhere, path(dir.path())).unwrap();
    let refused = AuthorityDirectory::lock(dir.path());
    assert!(matches!(refused, Err(CertgenError::Io { .. })));

    fs::remove_file(path(dir.path())).unwrap();
    fs::hard_link(&elsewhere, path(dir.path())).unwrap();
    let refused = AuthorityDirectory::lock(dir.path());
    assert!(matches!(refused, Err(CertgenError::NotOurs { .. })));
}

#[test]
fn a_journal_of_another_user_is_not_done() {
    if !geteuid().is_root() {
        return;
    }
    let (dir, _, _) = stage();
    let victim = dir.path().join("victim");
    fs::write(&victim, "").unwrap();
    let steps = [JournalStep::Remove(victim.clone())];
    fs::write(path(dir.path()), serde_json::to_string(&steps).unwrap()).unwrap();
    std::os::unix::fs::chown(path(dir.path()), Some(65_534), None).unwrap();
    let refused = AuthorityDirectory::lock(dir.path());
    assert!(matches!(refused, Err(CertgenError::NotOurs { .. })));
    assert!(victim.exists());

    std::os::unix::fs::chown(path(dir.path()), Some(0), None).unwrap();
    drop(AuthorityDirectory::lock(dir.path()).unwrap());
    assert!(!victim.exists());
}

#[test]
fn an_authority_that_was_cut_off_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let authority = Authority::new(&AuthoritySpec::default()).unwrap();
    let (key, certificate) = authority.drafts(dir).unwrap();
    let mut change = DirectoryChange::new(Overwrite::Refuse);
    change.pair(key, certificate);
    take_some(dir, &change.begin(dir).unwrap(), 1);
    assert!(!dir.join("ca.crt").exists());
    let finished = AuthorityDirectory::lock(dir).unwrap().authority().unwrap();
    assert_eq!(finished.certificate_der(), authority.certificate_der());
}

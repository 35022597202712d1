use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::process::geteuid;
use time::Duration;

use super::*;
use crate::paths::crl_path;
use crate::serial::CertificateSerial;
use crate::{AuthoritySpec, CertificateState, MatchCount};

fn stage() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(&AuthoritySpec::default()).unwrap();
    authority.save(dir.path(), Overwrite::Refuse).unwrap();
    (dir, authority)
}

fn client(
    dir: &AuthorityDirectory,
    authority: &Authority,
    name: &str,
    overwrite: Overwrite,
) -> IssuedCertificate {
    let leaf = (name.to_owned(), LeafSpec::client(name));
    dir.issue(authority, &[leaf], overwrite).unwrap().remove(0)
}

#[test]
fn the_lock_is_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(AuthorityDirectory::lock_new(dir.path()).unwrap());
    let path = dir.path().join("ca.lock");
    let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
    assert_eq!(mode(), 0o600);

    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    drop(AuthorityDirectory::lock_new(dir.path()).unwrap());
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_lock_that_root_makes_belongs_to_the_owner_of_the_directory() {
    if !geteuid().is_root() {
        return;
    }
    let other = Some(65_534);
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), other, other).unwrap();
    drop(AuthorityDirectory::lock_new(dir.path()).unwrap());
    index::append(dir.path(), "").unwrap();
    let path = dir.path().join("ca.lock");
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&path), 65_534);
    assert_eq!(owner(&dir.path().join("ca.index")), 65_534, "it grows");

    std::os::unix::fs::chown(&path, Some(65_533), None).unwrap();
    assert!(matches!(
        AuthorityDirectory::lock_new(dir.path()),
        Err(CertgenError::NotOurs { .. })
    ));
}

#[test]
fn a_lock_on_the_directory_itself_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let stranger = File::open(dir.path()).unwrap();
    stranger.lock().unwrap();
    drop(AuthorityDirectory::lock_new(dir.path()).unwrap());
}

#[test]
fn a_lock_that_somebody_else_placed_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (path, victim) = (dir.path().join("ca.lock"), dir.path().join("victim"));
    fs::write(&victim, "").unwrap();
    symlink(&victim, &path).unwrap();
    assert!(matches!(
        AuthorityDirectory::lock_new(dir.path()),
        Err(CertgenError::Io { .. })
    ));
    fs::remove_file(&path).unwrap();
    fs::hard_link(&victim, &path).unwrap();
    assert!(matches!(
        AuthorityDirectory::lock_new(dir.path()),
        Err(CertgenError::NotOurs { .. })
    ));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    AuthorityDirectory::lock_new(dir.path()).unwrap_err();
}

#[test]
fn a_lock_that_lost_its_name_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.lock");
    let opened = |path| File::create(path).unwrap();
    assert!(lock::lock(opened(&path), &path).unwrap().is_some());
    let old = opened(&path);
    fs::remove_file(&path).unwrap();
    assert!(
        lock::lock(old.try_clone().unwrap(), &path)
            .unwrap()
            .is_none()
    );
    fs::write(&path, "").unwrap();
    assert!(lock::lock(old, &path).unwrap().is_none());
}

#[test]
fn a_directory_is_locked_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = AuthorityDirectory::lock_new(dir.path()).unwrap();
    let second = File::open(dir.path().join("ca.lock")).unwrap();
    assert!(second.try_lock().is_err());
    drop(first);
    second.try_lock().unwrap();
}

#[test]
fn the_index_keeps_what_was_replaced() {
    let (dir, authority) = stage();
    let directory = AuthorityDirectory::lock(dir.path()).unwrap();
    let old = client(&directory, &authority, "a", Overwrite::Refuse);
    let forced = client(&directory, &authority, "a", Overwrite::Replace);
    let renewed = directory.renew(&authority, &dir.path().join("a.crt"), None);
    let renewed = renewed.unwrap();

    let index = CertificateIndex::load(dir.path()).unwrap();
    let found: Vec<(&CertificateSerial, CertificateState)> = index
        .entries()
        .iter()
        .map(|entry| (&entry.serial, index.state(entry)))
        .collect();
    assert_eq!(
        found,
        [
            (old.serial(), CertificateState::Replaced),
            (forced.serial(), CertificateState::Replaced),
            (renewed.serial(), CertificateState::Valid)
        ]
    );
    let targets = |text: &str| directory.targets(&authority, &[text.to_owned()], MatchCount::One);
    let serials = |text: &str| -> Vec<CertificateSerial> {
        let found = targets(text).unwrap();
        found.iter().map(|target| target.serial().clone()).collect()
    };
    assert_eq!(serials(&old.serial().to_string()), [old.serial().clone()]);
    let file = dir.path().join("a.crt");
    assert_eq!(
        serials(file.to_str().unwrap()),
        [renewed.serial(), forced.serial(), old.serial()].map(Clone::clone)
    );
    assert!(matches!(targets("a"), Err(CertgenError::Ambiguous { .. })));
}

#[test]
fn an_authority_from_before_the_index_is_adopted() {
    let (dir, authority) = stage();
    let foreign = Authority::new(&AuthoritySpec::default()).unwrap();
    for (signer, name) in [(&authority, "a"), (&foreign, "x"), (&authority, "b")] {
        let leaf = signer.client(name).unwrap();
        fs::write(
            dir.path().join(format!("{name}.crt")),
            leaf.certificate_pem(),
        )
        .unwrap();
    }
    fs::write(dir.path().join("junk.crt"), "junk").unwrap();
    let directory = AuthorityDirectory::lock(dir.path()).unwrap();
    assert!(
        CertificateIndex::load(dir.path())
            .unwrap()
            .entries()
            .is_empty()
    );

    client(&directory, &authority, "c", Overwrite::Refuse);

    let index = CertificateIndex::load(dir.path()).unwrap();
    let mut names: Vec<&str> = index.entries().iter().map(|entry| &*entry.name).collect();
    names[..2].sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(index.entries()[0].kind, "client");
    let bound = directory
        .targets(&authority, &["a".to_owned()], MatchCount::One)
        .unwrap();
    assert_eq!(bound.len(), 1);
}

#[test]
fn a_replaced_certificate_from_elsewhere_comes_into_the_index() {
    let (dir, authority) = stage();
    let directory = AuthorityDirectory::lock(dir.path()).unwrap();
    client(&directory, &authority, "a", Overwrite::Refuse);
    let elsewhere = tempfile::tempdir().unwrap();
    let old = authority.client("b").unwrap();
    let file = elsewhere.path().join("b.crt");
    fs::write(&file, old.certificate_pem()).unwrap();

    let new = directory.renew(&authority, &file, None).unwrap();

    let index = CertificateIndex::load(dir.path()).unwrap();
    let entry = index.get(old.serial()).unwrap();
    assert_eq!(index.state(entry), CertificateState::Replaced);
    assert_eq!(entry.file, file.display().to_string());
    assert_eq!(index.replaced(new.serial()), [entry]);
}

#[test]
fn the_index_of_a_new_authority_does_not_know_the_old_one() {
    let (dir, authority) = stage();
    authority
        .client("a")
        .unwrap()
        .save(dir.path(), "a", Overwrite::Refuse)
        .unwrap();
    authority
        .revoke(dir.path(), &[], Duration::days(1))
        .unwrap();
    assert_eq!(
        CertificateIndex::load(dir.path()).unwrap().entries().len(),
        1
    );

    let next = Authority::new(&AuthoritySpec::default()).unwrap();
    next.save(dir.path(), Overwrite::Replace).unwrap();

    assert!(
        CertificateIndex::load(dir.path())
            .unwrap()
            .entries()
            .is_empty()
    );
    assert!(!crl_path(dir.path()).exists());
}

#[test]
fn a_leaf_that_is_saved_elsewhere_is_not_indexed_there() {
    let (dir, authority) = stage();
    let (other, _) = stage();
    let leaf = authority.client("a").unwrap();
    leaf.save(other.path(), "a", Overwrite::Refuse).unwrap();
    assert!(
        CertificateIndex::load(other.path())
            .unwrap()
            .entries()
            .is_empty()
    );
    leaf.save(dir.path(), "a", Overwrite::Refuse).unwrap();
    assert_eq!(
        CertificateIndex::load(dir.path()).unwrap().entries().len(),
        1
    );
}

#[test]
fn a_short_hexadecimal_word_is_no_serial_unless_the_index_knows_it() {
    let (dir, authority) = stage();
    let directory = AuthorityDirectory::lock(dir.path()).unwrap();
    let found = |text: &str| directory.targets(&authority, &[text.to_owned()], MatchCount::One);
    for name in ["ada", "beef", "0123456789abcde"] {
        assert!(matches!(found(name), Err(CertgenError::UnknownTarget(_))));
    }
    for serial in ["0123456789abcdef", "ad:a0", "01:23:45:67:89:ab:cd:ef"] {
        assert_eq!(
            found(serial).unwrap()[0].serial(),
            &CertificateSerial::parse(serial).unwrap()
        );
    }
    client(&directory, &authority, "beef", Overwrite::Refuse);
    assert_eq!(found("beef").unwrap()[0].name(), "beef");
}

#[test]
fn a_renewal_beside_a_revocation_never_brings_a_client_back() {
    let (dir, authority) = stage();
    let file = dir.path().join("a.crt");
    for _ in 0..20 {
        drop(client(
            &AuthorityDirectory::lock(dir.path()).unwrap(),
            &authority,
            "a",
            Overwrite::Replace,
        ));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let directory = AuthorityDirectory::lock(dir.path()).unwrap();
                // It is renewed or refused, by who comes first.
                drop(directory.renew(&authority, &file, None));
            });
            scope.spawn(|| {
                let directory = AuthorityDirectory::lock(dir.path()).unwrap();
                let found =
                    directory.targets(&authority, &[file.display().to_string()], MatchCount::One);
                let serials: Vec<CertificateSerial> = found
                    .unwrap()
                    .into_iter()
                    .map(|target| target.serial().clone())
                    .collect();
                directory.revoke(&authority, &serials, None).unwrap();
            });
        });
        let index = CertificateIndex::load(dir.path()).unwrap();
        for entry in index.entries() {
            assert_eq!(index.state(entry), CertificateState::Revoked, "{entry:?}");
        }
    }
}

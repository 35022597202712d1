//! Files that are there whole or not at all, with the right mode from their first moment.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::CertgenError;

/// What the authority's files are named after.
pub const CA_STEM: &str = "ca";

/// What the server's files are named after.
pub const SERVER_STEM: &str = "server";

/// What happens to a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and saving fails, even if it appears at the last moment.
    Refuse,
    /// The new one takes its place and its owner, in one step.
    Replace,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Everybody: certificates and revocation lists.
    Public,
    /// The owner, who may also replace it: keys of leaves.
    Owner,
    /// The owner, who had better not touch it: the authority's key.
    Sealed,
    /// Whoever could read the file that it replaces.
    Mode(u32),
}

impl Secrecy {
    fn permissions(self) -> Permissions {
        Permissions::from_mode(match self {
            Self::Public => 0o644,
            Self::Owner => 0o600,
            Self::Sealed => 0o400,
            Self::Mode(mode) => mode,
        })
    }
}

/// The certificate's file of a stem.
pub fn certificate_path(dir: &Path, stem: &str) -> PathBuf {
    dir.join(format!("{stem}.crt"))
}

/// The key's file of a stem.
pub fn key_path(dir: &Path, stem: &str) -> PathBuf {
    dir.join(format!("{stem}.key"))
}

/// The file of the authority's revocation list.
pub fn crl_path(dir: &Path) -> PathBuf {
    dir.join(format!("{CA_STEM}.crl"))
}

/// A file that is written and safe on disk, but does not have its name yet.
///
/// Dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Draft {
    file: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    /// Writes a file beside the place it is meant for.
    pub(crate) fn new(path: &Path, text: &str, secrecy: Secrecy) -> Result<Self, CertgenError> {
        let failed = |source| CertgenError::io("write", path)(source);
        let dir = parent(path);
        fs::create_dir_all(dir).map_err(CertgenError::io("make the directory", dir))?;
        let mut file = Builder::new()
            .prefix(".certgen-")
            .permissions(secrecy.permissions())
            .tempfile_in(dir)
            .map_err(failed)?;
        // A umask may have taken bits away that others rely on.
        file.as_file()
            .set_permissions(secrecy.permissions())
            .map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Gives the file its name.
    pub(crate) fn persist(self, overwrite: Overwrite) -> Result<(), CertgenError> {
        let Self { file, path } = self;
        match overwrite {
            Overwrite::Refuse => file.persist_noclobber(&path),
            Overwrite::Replace => {
                check_replaceable(&path)?;
                keep_owner(file.as_file(), &path).map_err(CertgenError::io("replace", &path))?;
                file.persist(&path)
            }
        }
        .map_err(|refused| {
            if refused.error.kind() == ErrorKind::AlreadyExists {
                return CertgenError::Exists(path.clone());
            }
            CertgenError::io("write", &path)(refused.error)
        })?;
        let dir = parent(&path);
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(CertgenError::io("sync", dir))
    }
}

/// Names a key and its certificate; if the second cannot be, the first is not either.
pub(crate) fn persist_pair(
    key: Draft,
    certificate: Draft,
    overwrite: Overwrite,
) -> Result<(), CertgenError> {
    match overwrite {
        Overwrite::Replace => {
            key.persist(overwrite)?;
            certificate.persist(overwrite)
        }
        Overwrite::Refuse => {
            refuse_existing(&certificate.path)?;
            let key_path = key.path.clone();
            key.persist(overwrite)?;
            certificate.persist(overwrite).or_else(|refused| {
                fs::remove_file(&key_path).map_err(CertgenError::io("remove", &key_path))?;
                Err(refused)
            })
        }
    }
}

/// Fails if something has this name, be it a dangling link.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), CertgenError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(CertgenError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    }
}

/// Fails if something has this name that is no regular file, nor a link to one.
///
/// A rename would put a file in the place of a device, for everybody.
pub(crate) fn check_replaceable(path: &Path) -> Result<(), CertgenError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(CertgenError::NotAFile(path.to_owned())),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Makes those who change files of a directory wait for each other, until it is dropped.
pub(crate) fn lock(dir: &Path) -> Result<File, CertgenError> {
    fs::create_dir_all(dir).map_err(CertgenError::io("make the directory", dir))?;
    let file = File::open(dir).map_err(CertgenError::io("open", dir))?;
    file.lock().map_err(CertgenError::io("lock", dir))?;
    Ok(file)
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, CertgenError> {
    let octets = fs::read(path).map_err(CertgenError::io("read", path))?;
    String::from_utf8(octets).map_err(|_| CertgenError::Unreadable {
        path: path.to_owned(),
        what: "text",
    })
}

/// The directory that a file lies in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Gives a draft the owner of the file that it replaces, or a service could not read it again.
fn keep_owner(draft: &File, path: &Path) -> io::Result<()> {
    let Ok(old) = fs::metadata(path) else {
        return Ok(());
    };
    let new = draft.metadata()?;
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    fchown(draft, Some(old.uid()), Some(old.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_has_its_mode_before_it_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let draft = Draft::new(&path, "secret", Secrecy::Owner).unwrap();
        assert_eq!(mode(draft.file.path()), 0o600);
        assert!(!path.exists());
        draft.persist(Overwrite::Refuse).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Draft::new(&dir.path().join("a"), "text", Secrecy::Public).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_appears_at_the_last_moment_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (key_path(dir.path(), "a"), certificate_path(dir.path(), "a"));
        let draft = |path: &Path| Draft::new(path, "ours", Secrecy::Owner).unwrap();
        let pair = (draft(&key), draft(&certificate));
        fs::write(&key, "theirs").unwrap();

        let refused = persist_pair(pair.0, pair.1, Overwrite::Refuse);

        assert!(matches!(refused, Err(CertgenError::Exists(path)) if path == key));
        assert_eq!(fs::read(&key).unwrap(), b"theirs");
        assert!(!certificate.exists(), "half a pair is none");
    }

    #[test]
    fn a_certificate_that_is_in_the_way_leaves_no_key_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (key_path(dir.path(), "a"), certificate_path(dir.path(), "a"));
        let draft = |path: &Path| Draft::new(path, "ours", Secrecy::Owner).unwrap();
        std::os::unix::fs::symlink("nowhere", &certificate).unwrap();

        let refused = persist_pair(draft(&key), draft(&certificate), Overwrite::Refuse);

        assert!(matches!(refused, Err(CertgenError::Exists(path)) if path == certificate));
        assert!(!key.exists());
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();

        let refused = Draft::new(&path, "ours", Secrecy::Public).unwrap();
        let refused = refused.persist(Overwrite::Replace);

        assert!(matches!(refused, Err(CertgenError::NotAFile(kept)) if kept == path));
        assert!(!fs::metadata(&path).unwrap().is_file());
        drop(listener);
    }
}

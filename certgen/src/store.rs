//! Files that are there whole or not at all, with the right mode from their first moment.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, syncfs};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tempfile::{Builder, NamedTempFile};

use crate::error::CertgenError;

/// What the authority's files are named after.
pub const CA_STEM: &str = "ca";

/// What the server's files are named after.
pub const SERVER_STEM: &str = "server";

/// What the names of files begin with that do not have theirs yet.
const DRAFT_PREFIX: &str = ".certgen-";

/// The largest file that is read: the list of about a million certificates.
const LARGEST_FILE: u64 = 64 << 20;

/// The mode bits of a directory in which others than its owner can place files.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What happens to a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overwrite {
    /// It stays, and saving fails, even if it appears at the last moment.
    Refuse,
    /// The new one takes its place.
    ///
    /// A certificate keeps the owner of the old file. A private key belongs to this process's
    /// user, unless that is root and nobody else can place files in the directory.
    Replace,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileAccess {
    /// Everybody: certificates and revocation lists.
    Public,
    /// The owner, who may also replace it: keys of leaves.
    Owner,
    /// The owner, who had better not touch it: the authority's key.
    Sealed,
    /// Whoever could read the file that it replaces.
    Mode(u32),
}

impl FileAccess {
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

/// A file that is written, but does not have its name yet.
///
/// Dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct DraftFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl DraftFile {
    /// Writes a file beside the place it is meant for.
    pub(crate) fn new(path: &Path, text: &str, secrecy: FileAccess) -> Result<Self, CertgenError> {
        let failed = |source| CertgenError::io("write", path)(source);
        let dir = parent(path);
        fs::create_dir_all(dir).map_err(CertgenError::io("make the directory", dir))?;
        let mut file = Builder::new()
            .prefix(DRAFT_PREFIX)
            .permissions(secrecy.permissions())
            .tempfile_in(dir)
            .map_err(failed)?;
        // A umask may have taken bits away that others rely on.
        file.as_file()
            .set_permissions(secrecy.permissions())
            .map_err(failed)?;
        keep_owner(file.as_file(), path, secrecy).map_err(CertgenError::io("replace", path))?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// The name that the file is meant to have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file is safe on disk.
    pub(crate) fn sync(&self) -> Result<(), CertgenError> {
        self.file
            .as_file()
            .sync_all()
            .map_err(CertgenError::io("write", &self.path))
    }

    /// Makes sure that the name is free, or has a file that may be replaced.
    pub(crate) fn check(&self, overwrite: Overwrite) -> Result<(), CertgenError> {
        match overwrite {
            Overwrite::Refuse => refuse_existing(&self.path),
            Overwrite::Replace => check_replaceable(&self.path),
        }
    }

    /// Gives the file its name, in the place of any other, and waits until that is safe on disk.
    pub(crate) fn replace(self) -> Result<(), CertgenError> {
        self.sync()?;
        let Self { file, path } = self;
        check_replaceable(&path)?;
        file.persist(&path)
            .map_err(|refused| CertgenError::io("write", &path)(refused.error))?;
        sync_dir(parent(&path))
    }

    /// Keeps the file under the name that it has now; the value is that name.
    pub(crate) fn keep(self) -> Result<PathBuf, CertgenError> {
        let Self { file, path } = self;
        file.into_temp_path()
            .keep()
            .map_err(|refused| CertgenError::io("write", &path)(refused.error))
    }

    /// The name that the file has now.
    pub(crate) fn place(&self) -> &Path {
        self.file.path()
    }
}

/// Waits until the names in a directory are safe on disk.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), CertgenError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(CertgenError::io("sync", dir))
}

/// Waits until everything that was written to a directory's file system is safe on disk.
pub(crate) fn sync_all(dir: &Path) -> Result<(), CertgenError> {
    File::open(dir)
        .and_then(|dir| Ok(syncfs(&dir)?))
        .map_err(CertgenError::io("sync", dir))
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

/// Reads a text, which may come through a pipe.
pub(crate) fn read(path: &Path) -> Result<String, CertgenError> {
    let file = File::open(path).map_err(CertgenError::io("read", path))?;
    read_text(file, path)
}

/// Reads a text file; what is no regular file is refused, and never waited for.
pub(crate) fn read_file(path: &Path) -> Result<String, CertgenError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NONBLOCK))
        .open(path)
        .map_err(|refused| match Errno::from_io_error(&refused) {
            // A socket.
            Some(Errno::NXIO) => CertgenError::NotAFile(path.to_owned()),
            _ => CertgenError::io("read", path)(refused),
        })?;
    let metadata = file.metadata().map_err(CertgenError::io("read", path))?;
    if !metadata.is_file() {
        return Err(CertgenError::NotAFile(path.to_owned()));
    }
    read_text(file, path)
}

/// Opens a file without following a link or waiting; what it is has yet to be asked.
pub(crate) fn open_own(path: &Path) -> Result<File, CertgenError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
        .map_err(CertgenError::io("read", path))
}

/// Reads a text to its end; one that is too large is an error.
///
/// # Errors
///
/// A source that cannot be read, has too much, or is no UTF-8; the path is named in the error.
pub fn read_text(source: impl Read, path: &Path) -> Result<String, CertgenError> {
    let mut octets = Vec::new();
    let mut bounded = source.take(LARGEST_FILE + 1);
    let length = bounded
        .read_to_end(&mut octets)
        .map_err(CertgenError::io("read", path))?;
    if u64::try_from(length).is_ok_and(|length| length > LARGEST_FILE) {
        return Err(CertgenError::TooLarge(path.to_owned()));
    }
    String::from_utf8(octets).map_err(|_| CertgenError::Unreadable {
        path: path.to_owned(),
        what: "text",
    })
}

/// Flags of an open file, as the standard library takes them.
pub(crate) fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// The directory that a file lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Gives a draft the owner of the file that it replaces, or a service could not read it again.
///
/// A private key is given away by root alone, and only in a directory of root's in which nobody
/// else can place a file: there, root itself chose the owner of the old key.
fn keep_owner(draft: &File, path: &Path, secrecy: FileAccess) -> io::Result<()> {
    let private = matches!(secrecy, FileAccess::Owner | FileAccess::Sealed);
    let old = if private {
        fs::symlink_metadata(path)
    } else {
        fs::metadata(path)
    };
    let Ok(old) = old else {
        return Ok(());
    };
    let new = draft.metadata()?;
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) {
        return Ok(());
    }
    if private && !(geteuid().is_root() && is_closed(&fs::metadata(parent(path))?)) {
        return Ok(());
    }
    fchown(draft, Some(old.uid()), Some(old.gid()))
}

/// Whether only this process's user can place files in a directory.
fn is_closed(dir: &Metadata) -> bool {
    dir.uid() == geteuid().as_raw() && dir.mode() & WRITABLE_BY_OTHERS == 0
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
        let draft = DraftFile::new(&path, "secret", FileAccess::Owner).unwrap();
        assert_eq!(mode(draft.place()), 0o600);
        assert!(!path.exists());
        draft.replace().unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(DraftFile::new(&dir.path().join("a"), "text", FileAccess::Public).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();

        let refused = DraftFile::new(&path, "ours", FileAccess::Public).unwrap();
        let refused = refused.replace();

        assert!(matches!(refused, Err(CertgenError::NotAFile(kept)) if kept == path));
        assert!(!fs::metadata(&path).unwrap().is_file());
        drop(listener);
    }

    #[test]
    fn what_never_ends_is_not_read_to_its_end() {
        let endless = Path::new("/dev/zero");
        let refused = read(endless);
        assert!(matches!(refused, Err(CertgenError::TooLarge(path)) if path == endless));
        let refused = read_file(endless);
        assert!(matches!(refused, Err(CertgenError::NotAFile(path)) if path == endless));
    }

    /// Another user's number; only root can give files to it.
    const OTHER: u32 = 65_534;

    #[test]
    fn a_key_is_given_only_to_an_owner_that_root_chose() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        fs::write(&path, "old").unwrap();
        let owner = |secrecy| {
            let draft = DraftFile::new(&path, "new", secrecy).unwrap();
            draft.file.as_file().metadata().unwrap().uid()
        };
        assert_eq!(owner(FileAccess::Owner), geteuid().as_raw());
        if !geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(&path, Some(OTHER), None).unwrap();
        for (mode, key_owner) in [(0o755, OTHER), (0o775, 0), (0o777, 0)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(owner(FileAccess::Owner), key_owner, "{mode:o}");
            assert_eq!(owner(FileAccess::Sealed), key_owner, "{mode:o}");
            assert_eq!(owner(FileAccess::Public), OTHER, "{mode:o}");
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(OTHER), None).unwrap();
        assert_eq!(
            owner(FileAccess::Owner),
            0,
            "the directory is another user's"
        );
        std::os::unix::fs::chown(dir.path(), Some(0), None).unwrap();
        let (link, target) = (dir.path().join("link.key"), dir.path().join("a.key"));
        std::os::unix::fs::symlink(target, &link).unwrap();
        let draft = DraftFile::new(&link, "new", FileAccess::Owner).unwrap();
        assert_eq!(draft.file.as_file().metadata().unwrap().uid(), 0);
    }

    #[test]
    fn a_directory_is_closed_if_nobody_else_can_place_a_file_in_it() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, closed) in [(0o755, true), (0o775, false), (0o1777, false)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let metadata = fs::metadata(dir.path()).unwrap();
            assert_eq!(is_closed(&metadata), closed, "{mode:o}");
        }
    }
}

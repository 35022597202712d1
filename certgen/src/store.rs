//! Files that are written completely or not at all, and that have their final mode from the start.

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

/// Prefix of the temporary names of drafts.
const DRAFT_PREFIX: &str = ".certgen-";

/// Largest file that is read: 64 MiB, a list of about a million certificates.
const LARGEST_FILE: u64 = 64 << 20;

/// Mode bits of a directory that let users other than its owner place files in it.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Treatment of a file that already exists where a new one is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overwrite {
    /// The existing file is kept and saving fails, also if the file appears while saving.
    Refuse,
    /// The new one takes its place.
    ///
    /// A certificate keeps the owner of the old file. A private key belongs to this process's
    /// user; it keeps the old owner only if the user is root and no other user can place files in
    /// the directory.
    Replace,
}

/// Access to a file that is written, as its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileAccess {
    /// 0644, readable by all users: certificates and revocation lists.
    Public,
    /// 0600, readable and writable by the owner: keys of leaves, and the journal.
    Owner,
    /// 0400, readable by the owner only, and not writable: the authority's key.
    Sealed,
}

impl FileAccess {
    fn permissions(self) -> Permissions {
        Permissions::from_mode(match self {
            Self::Public => 0o644,
            Self::Owner => 0o600,
            Self::Sealed => 0o400,
        })
    }
}

/// A file that is written under a temporary name beside its final one.
///
/// Dropping the draft removes the file.
#[derive(Debug)]
pub(crate) struct DraftFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl DraftFile {
    /// Writes a draft in the directory of `path`, which is made if it does not exist.
    pub(crate) fn new(path: &Path, text: &str, secrecy: FileAccess) -> Result<Self, CertgenError> {
        let failed = |source| CertgenError::io("write", path)(source);
        let dir = parent(path);
        fs::create_dir_all(dir).map_err(CertgenError::io("create the directory", dir))?;
        let mut file = Builder::new()
            .prefix(DRAFT_PREFIX)
            .permissions(secrecy.permissions())
            .tempfile_in(dir)
            .map_err(failed)?;
        // The umask may have removed bits that other users need.
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

    /// The final path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the contents of the file are safe on disk.
    pub(crate) fn sync(&self) -> Result<(), CertgenError> {
        self.file
            .as_file()
            .sync_all()
            .map_err(CertgenError::io("write", &self.path))
    }

    /// Checks that the final name is free, or is of a file that may be replaced.
    pub(crate) fn check(&self, overwrite: Overwrite) -> Result<(), CertgenError> {
        match overwrite {
            Overwrite::Refuse => refuse_existing(&self.path),
            Overwrite::Replace => check_replaceable(&self.path),
        }
    }

    /// Gives the file its final name, replacing any other, and waits until that is safe on disk.
    pub(crate) fn replace(self) -> Result<(), CertgenError> {
        self.sync()?;
        let Self { file, path } = self;
        check_replaceable(&path)?;
        file.persist(&path)
            .map_err(|refused| CertgenError::io("write", &path)(refused.error))?;
        sync_dir(parent(&path))
    }

    /// Keeps the file under its temporary name, which is returned.
    pub(crate) fn keep(self) -> Result<PathBuf, CertgenError> {
        let Self { file, path } = self;
        file.into_temp_path()
            .keep()
            .map_err(|refused| CertgenError::io("write", &path)(refused.error))
    }

    /// The temporary path of the file.
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

/// Fails with [`CertgenError::Exists`] if anything has this name, even a dangling link.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), CertgenError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(CertgenError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    }
}

/// Fails with [`CertgenError::NotAFile`] if the name is of anything but a regular file or a link
/// to one.
///
/// A rename would put a file in the place of a device, for all users.
pub(crate) fn check_replaceable(path: &Path) -> Result<(), CertgenError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(CertgenError::NotAFile(path.to_owned())),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Reads a text file or pipe, as [`read_text`] does.
pub(crate) fn read(path: &Path) -> Result<String, CertgenError> {
    let file = File::open(path).map_err(CertgenError::io("read", path))?;
    read_text(file, path)
}

/// Reads a text file; fails without waiting if it is not a regular file.
pub(crate) fn read_file(path: &Path) -> Result<String, CertgenError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NONBLOCK))
        .open(path)
        .map_err(|refused| match Errno::from_io_error(&refused) {
            // The path is a socket.
            Some(Errno::NXIO) => CertgenError::NotAFile(path.to_owned()),
            _ => CertgenError::io("read", path)(refused),
        })?;
    let metadata = file.metadata().map_err(CertgenError::io("read", path))?;
    if !metadata.is_file() {
        return Err(CertgenError::NotAFile(path.to_owned()));
    }
    read_text(file, path)
}

/// Opens a file without following a link or waiting; the caller checks the type of the file.
pub(crate) fn open_own(path: &Path) -> Result<File, CertgenError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
        .map_err(CertgenError::io("read", path))
}

/// Reads a text of at most 64 MiB to its end.
///
/// # Errors
///
/// A source that cannot be read, is too large ([`CertgenError::TooLarge`]), or is not UTF-8;
/// `path` is named in the error.
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

/// Converts flags of open(2) to the type that the standard library takes.
pub(crate) fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// The directory of a file; `.` if the path has none.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Gives a draft the owner of the file that it replaces, so that a service can read it again.
///
/// A private key is given away by root alone, and only in a directory of root's in which no other
/// user can place a file: there, root itself chose the owner of the old key.
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

/// Returns true if only this process's user can place files in a directory.
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

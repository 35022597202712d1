//! Lock file of an authority's directory, which serialises its changes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::error::CertgenError;
use crate::paths::CA_STEM;
use crate::store;

/// Mode of the lock file: another user who can open it could block all commands.
const LOCK_MODE: u32 = 0o600;

/// Opens and locks a directory's lock file; waits for other holders.
///
/// The path still names the locked file when this returns; otherwise it opens the file again.
pub(crate) fn take(dir: &Path) -> Result<File, CertgenError> {
    let path = dir.join(format!("{CA_STEM}.lock"));
    loop {
        if let Some(file) = lock(open(dir, &path)?, &path)? {
            return Ok(file);
        }
    }
}

/// Locks an open file; `None` if the path names another file by then.
pub(crate) fn lock(file: File, path: &Path) -> Result<Option<File>, CertgenError> {
    file.lock().map_err(CertgenError::io("lock", path))?;
    let locked = file.metadata().map_err(CertgenError::io("lock", path))?;
    let named = fs::symlink_metadata(path);
    Ok(named
        .is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino()))
        .then_some(file))
}

/// Opens the lock file, or creates it, owned by the directory's owner with mode [`LOCK_MODE`].
fn open(dir: &Path, path: &Path) -> Result<File, CertgenError> {
    let failed = || CertgenError::io("open", path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(LOCK_MODE)
        .custom_flags(store::flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
        .map_err(failed())?;
    check_own(&file, dir, path)?;
    hand_over(&file, dir).map_err(failed())?;
    let (found, user) = (file.metadata().map_err(failed())?, geteuid());
    if (user.is_root() || user.as_raw() == found.uid()) && found.mode() & 0o7777 != LOCK_MODE {
        file.set_permissions(Permissions::from_mode(LOCK_MODE))
            .map_err(failed())?;
    }
    Ok(file)
}

/// Gives a file to the owner of its directory if root runs this: the owner's commands need it too.
pub(crate) fn hand_over(file: &File, dir: &Path) -> io::Result<()> {
    let (found, owner) = (file.metadata()?, fs::metadata(dir)?);
    if geteuid().is_root() && found.uid() != owner.uid() {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Fails if another user may have placed an open file in the directory.
///
/// It must be a regular file with one hard link that belongs to the calling user, to the
/// directory's owner or to root.
pub(crate) fn check_own(file: &File, dir: &Path, path: &Path) -> Result<(), CertgenError> {
    let refuse = |what| CertgenError::NotOurs {
        path: path.to_owned(),
        what,
    };
    let metadata = file.metadata().map_err(CertgenError::io("read", path))?;
    let owner = std::fs::metadata(dir).map_err(CertgenError::io("read", dir))?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file"));
    }
    if metadata.nlink() > 1 {
        return Err(refuse("has more than one hard link"));
    }
    if ![geteuid().as_raw(), owner.uid(), 0].contains(&metadata.uid()) {
        return Err(refuse("belongs to another user"));
    }
    Ok(())
}

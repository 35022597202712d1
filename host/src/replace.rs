//! Atomic replacement of a text file that was read before.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("motd");
//! std::fs::write(&path, "hello")?;
//! let file = host::replace::ReadFile::read(&path, 5)?;
//! let louder = file.text().to_uppercase();
//! file.replace(&louder)?;
//! assert_eq!(std::fs::read_to_string(&path)?, "HELLO");
//! # Ok(())
//! # }
//! ```

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::Builder;
use thiserror::Error;

use crate::file;

/// Prefix of the temporary name that the new file has until it is complete.
const DRAFT_PREFIX: &str = ".portcullis-";
/// Mode bits that a file keeps.
const MODE: u32 = 0o7777;

/// Reason why a file was not replaced; the old one is still there.
#[derive(Debug, Error)]
pub enum ReplaceError {
    /// The file is not what it was when it was read.
    #[error("another program changed the file meanwhile")]
    Changed,
    /// The new file cannot be written, cannot have the mode and owner of the old one, or cannot
    /// take its place.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A text file whose content was read to be replaced.
#[derive(Debug)]
pub struct ReadFile {
    /// Path without symbolic links: a link stays, and the file that it leads to is replaced.
    path: PathBuf,
    most: u64,
    text: String,
}

impl ReadFile {
    /// Reads a regular file of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`file::read_text`].
    pub fn read(path: &Path, most: u64) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let text = file::read_text(&path, most)?;
        Ok(Self { path, most, text })
    }

    /// Returns the content of the file when it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Gives the file this content and waits until it is safe on disk. Other processes see the old
    /// file or the new one, which has the old one's mode and owner.
    ///
    /// # Errors
    ///
    /// [`ReplaceError::Changed`] if the content is not what was read, or an error of the system.
    pub fn replace(self, text: &str) -> Result<(), ReplaceError> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let old = fs::metadata(&self.path)?;
        let mode = Permissions::from_mode(old.permissions().mode() & MODE);
        let mut draft = Builder::new()
            .prefix(DRAFT_PREFIX)
            .permissions(mode.clone())
            .tempfile_in(dir)?;
        let new = draft.as_file().metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(draft.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        // The umask may have removed bits that other users need.
        draft.as_file().set_permissions(mode)?;
        draft.write_all(text.as_bytes())?;
        draft.as_file().sync_all()?;
        if file::read_text(&self.path, self.most)? != self.text {
            return Err(ReplaceError::Changed);
        }
        draft.persist(&self.path).map_err(|refused| refused.error)?;
        Ok(File::open(dir)?.sync_all()?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Largest file of these tests.
    const MOST: u64 = 1 << 10;
    /// Another user's number; only root can give files to it.
    const OTHER: u32 = 65_534;

    fn directory(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn names(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path()).unwrap().count()
    }

    #[test]
    fn the_mode_and_the_owner_stay_and_a_link_stays_a_link() {
        for mode in [0o640, 0o666, 0o400] {
            let (dir, path) = directory(mode);
            let owner = fs::metadata(&path).unwrap().uid();
            let owner = if owner == 0 { OTHER } else { owner };
            std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
            let link = dir.path().join("link");
            symlink("file", &link).unwrap();

            ReadFile::read(&link, MOST).unwrap().replace("new").unwrap();

            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.mode() & MODE, metadata.uid()), (mode, owner));
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            assert_eq!(names(&dir), 2, "nothing is left beside it");
        }
    }

    #[test]
    fn a_file_that_changed_in_the_meantime_is_left_alone() {
        let (dir, path) = directory(0o644);
        let file = ReadFile::read(&path, MOST).unwrap();
        fs::write(&path, "other").unwrap();
        assert!(matches!(file.replace("new"), Err(ReplaceError::Changed)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
        assert_eq!(names(&dir), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_gone_or_no_longer_a_file_is_not_made_again() {
        let (dir, path) = directory(0o644);
        let file = ReadFile::read(&path, MOST).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.replace("new"), Err(ReplaceError::Io(_))));
        assert_eq!(names(&dir), 0);

        fs::write(&path, "old").unwrap();
        let file = ReadFile::read(&path, MOST).unwrap();
        fs::remove_file(&path).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(file.replace("new"), Err(ReplaceError::Io(_))));
        assert!(!fs::metadata(&path).unwrap().is_file());
        drop(listener);
    }

    #[test]
    fn what_is_not_a_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(ReadFile::read(&path, MOST).is_err());
        assert!(ReadFile::read(dir.path(), MOST).is_err());
        drop(listener);
    }
}

//! Check of a directory in which files will be created.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

/// Returns why this process cannot create files in a directory; `None` if it can.
pub fn fault(directory: &Path) -> Option<&'static str> {
    let flags = AtFlags::EACCESS;
    let usable = accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, flags);
    match usable {
        Ok(()) if directory.is_dir() => None,
        Err(Errno::NOENT) => Some("does not exist"),
        Ok(()) | Err(Errno::NOTDIR) => Some("is not a directory"),
        Err(_) if directory.is_file() => Some("is not a directory"),
        Err(_) => Some("is not writable for this user"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_exists_and_is_writable_has_no_fault() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fault(dir.path()), None);
        let path = dir.path().join("access.log");
        assert_eq!(fault(&path), Some("does not exist"));
        std::fs::write(&path, "").unwrap();
        assert_eq!(fault(&path), Some("is not a directory"));
        assert_eq!(fault(&path.join("below")), Some("is not a directory"));
    }
}

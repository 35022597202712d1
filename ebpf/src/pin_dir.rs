//! Directory in which an instance's programs and maps are pinned.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::SteerError;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPFFS: u64 = 0xcafe_4a11;

/// Directory of one instance in a bpffs: `<bpffs>/portcullis/<instance>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinDir(PathBuf);

impl PinDir {
    /// Makes the path of an instance below a mounted bpffs, usually `/sys/fs/bpf`.
    ///
    /// The name consists of one or more of `a-z A-Z 0-9 - _`; `None` for any other.
    pub fn new(bpffs: &Path, instance: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let named = !instance.is_empty() && instance.bytes().all(plain);
        named.then(|| Self(bpffs.join("portcullis").join(instance)))
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the missing directories, and checks all of them: a user who can change one can remove
    /// the link.
    pub(crate) fn make(&self) -> Result<(), SteerError> {
        self.walk(true)
    }

    /// Checks that only root and the calling user can change the pins; missing directories pass.
    pub(crate) fn check_owner(&self) -> Result<(), SteerError> {
        self.walk(false)
    }

    /// Opens each directory within the one before, so that the checked directory is the opened one.
    fn walk(&self, makes: bool) -> Result<(), SteerError> {
        let instances = self.0.parent().unwrap_or(&self.0);
        let bpffs = instances.parent().unwrap_or(instances);
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opening = |path: &Path| {
            let what = format!("cannot open {}", path.display());
            |error: Errno| SteerError::system(what)(error.into())
        };
        let mut directory = open(bpffs, how, Mode::empty()).map_err(opening(bpffs))?;
        trusted(bpffs, &directory, true)?;
        for path in [instances, &self.0] {
            let name = path.file_name().unwrap_or_default();
            if makes {
                match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => {
                        let what = format!("cannot create {}", path.display());
                        return Err(SteerError::system(what)(error.into()));
                    }
                }
            }
            let inner = match openat(&directory, name, how | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::NOENT) if !makes => return Ok(()),
                opened => opened.map_err(opening(path))?,
            };
            trusted(path, &inner, false)?;
            directory = inner;
        }
        Ok(())
    }

    /// Checks that the directory, or the nearest one above it that exists, is in a bpffs.
    pub(crate) fn check(&self) -> Result<(), SteerError> {
        let there = self.0.ancestors().find(|directory| directory.exists());
        let kind = there.and_then(|directory| rustix::fs::statfs(directory).ok());
        match kind {
            Some(kind) if u64::try_from(kind.f_type) == Ok(BPFFS) => Ok(()),
            _ => Err(SteerError::NoBpffs(self.0.clone())),
        }
    }
}

/// Checks that only root and the calling user can add files to a directory or remove them.
///
/// A sticky directory is accepted if `may_be_sticky`: other users can add files to it, but not
/// remove those of others.
fn trusted(path: &Path, directory: &OwnedFd, may_be_sticky: bool) -> Result<(), SteerError> {
    let found = fstat(directory).map_err(|error| {
        SteerError::system(format!("cannot inspect {}", path.display()))(error.into())
    })?;
    let is_own = found.st_uid == 0 || found.st_uid == geteuid().as_raw();
    let is_closed = found.st_mode & 0o022 == 0 || may_be_sticky && found.st_mode & 0o1000 != 0;
    if is_own && is_closed {
        return Ok(());
    }
    Err(SteerError::Unsafe {
        path: path.to_owned(),
        user: found.st_uid,
        mode: found.st_mode & 0o7777,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_plain_name() {
        let pin_dir = |name| PinDir::new(Path::new("/sys/fs/bpf"), name);
        assert_eq!(
            pin_dir("edge-1").unwrap().path(),
            Path::new("/sys/fs/bpf/portcullis/edge-1")
        );
        for name in ["", ".", "..", "a/b", "a b", "\u{e9}"] {
            assert_eq!(pin_dir(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_directory_that_is_in_no_bpffs_is_told_so() {
        let pin_dir = PinDir::new(&std::env::temp_dir(), "a").unwrap();
        assert!(matches!(pin_dir.check(), Err(SteerError::NoBpffs(_))));
    }
}

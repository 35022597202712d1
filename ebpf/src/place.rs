//! Where an instance's programs and maps are pinned.

use std::path::{Path, PathBuf};

use crate::SteerError;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPFFS: u64 = 0xcafe_4a11;

/// The folder of one instance in a bpffs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// The folder of an instance below a mounted bpffs, usually `/sys/fs/bpf`.
    ///
    /// The name becomes a folder's: one or more of `a-z A-Z 0-9 - _`, `None` for any other.
    pub fn new(bpffs: &Path, instance: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let named = !instance.is_empty() && instance.bytes().all(plain);
        named.then(|| Self(bpffs.join("portcullis").join(instance)))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether it can hold pins at all.
    pub(crate) fn check(&self) -> Result<(), SteerError> {
        let there = self.0.ancestors().find(|folder| folder.exists());
        let kind = there.and_then(|folder| rustix::fs::statfs(folder).ok());
        match kind {
            Some(kind) if u64::try_from(kind.f_type) == Ok(BPFFS) => Ok(()),
            _ => Err(SteerError::NoBpffs(self.0.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_plain_name() {
        let place = |name| Place::new(Path::new("/sys/fs/bpf"), name);
        assert_eq!(
            place("edge-1").unwrap().path(),
            Path::new("/sys/fs/bpf/portcullis/edge-1")
        );
        for name in ["", ".", "..", "a/b", "a b", "\u{e9}"] {
            assert_eq!(place(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_folder_that_is_in_no_bpffs_is_told_so() {
        let place = Place::new(&std::env::temp_dir(), "a").unwrap();
        assert!(matches!(place.check(), Err(SteerError::NoBpffs(_))));
    }
}

//! The program of this process: the path that it was started from, which is the default program of
//! an upgrade.
//!
//! ```
//! let program = host::program::running().expect("this program runs");
//! assert_eq!(
//!     host::program::resolved(&program),
//!     std::env::current_exe().unwrap().canonicalize().unwrap()
//! );
//! ```

use std::env;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Symbolic link to the program that runs now (`proc_pid_exe(5)`).
const RUNNING: &str = "/proc/self/exe";

/// Returns the absolute path that this process was started from. Symbolic links are kept: if
/// `current` is switched from one version to another, the path leads to the other version.
///
/// The path is the first argument, searched for in `PATH` if it has no slash, provided that it
/// leads to the program that runs now; else it is the path that the kernel reports. `None` if
/// neither is known.
pub fn started_from() -> Option<PathBuf> {
    let named = env::args_os().next().unwrap_or_default();
    let running = std::fs::metadata(RUNNING).ok();
    let found = find(&named, env::var_os("PATH").as_deref(), running.as_ref());
    found.or_else(|| env::current_exe().ok())
}

fn find(named: &OsStr, path: Option<&OsStr>, running: Option<&Metadata>) -> Option<PathBuf> {
    let suits = |candidate: &PathBuf| {
        let found = std::fs::metadata(candidate);
        found.is_ok_and(|found| is_program(&found) && is_same(&found, running))
    };
    if named.is_empty() {
        return None;
    }
    if named.as_encoded_bytes().contains(&b'/') {
        return std::path::absolute(named).ok().filter(suits);
    }
    let directories = env::split_paths(path?);
    let mut candidates =
        directories.filter_map(|directory| std::path::absolute(directory.join(named)).ok());
    candidates.find(suits)
}

fn is_program(found: &Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}

/// Returns true if the file is the program that runs now. Without `/proc` the name is trusted.
fn is_same(found: &Metadata, running: Option<&Metadata>) -> bool {
    running.is_none_or(|running| (found.dev(), found.ino()) == (running.dev(), running.ino()))
}

/// Returns a path that leads to the program that runs now, even if its file was removed; without
/// `/proc` the result of [`started_from`].
pub fn running() -> Option<PathBuf> {
    let known = PathBuf::from(RUNNING);
    if known.exists() {
        Some(known)
    } else {
        started_from()
    }
}

/// Returns the file that a path leads to now, for messages; the path itself if it cannot be
/// resolved.
pub fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with the program `v1/gate`, and the link `current` to `v1`.
    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            let directory = dir.path().join(version);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("gate"), version).unwrap();
            let all = PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(directory.join("gate"), all).unwrap();
        }
        symlink("v1", dir.path().join("current")).unwrap();
        dir
    }

    #[test]
    fn links_are_kept_whether_a_path_or_the_search_path_leads_to_the_program() {
        let dir = directory();
        let gate = dir.path().join("current/gate");
        let running = std::fs::metadata(dir.path().join("v1/gate")).unwrap();
        for running in [Some(&running), None] {
            assert_eq!(find(gate.as_os_str(), None, running), Some(gate.clone()));
            let path = env::join_paths([dir.path(), &dir.path().join("current")]).unwrap();
            let found = find(OsStr::new("gate"), Some(&path), running);
            assert_eq!(found, Some(gate.clone()));
        }
        assert_eq!(
            resolved(&gate),
            dir.path().join("v1/gate").canonicalize().unwrap()
        );
    }

    #[test]
    fn a_name_that_does_not_lead_to_the_running_program_is_not_believed() {
        let dir = directory();
        let running = std::fs::metadata(dir.path().join("v2/gate")).unwrap();
        let path = env::join_paths([dir.path().join("v1"), dir.path().join("v2")]).unwrap();
        let found = find(OsStr::new("gate"), Some(&path), Some(&running));
        assert_eq!(found, Some(dir.path().join("v2/gate")));
        for named in ["", "-gate", "nowhere/gate"] {
            assert_eq!(find(OsStr::new(named), Some(&path), None), None, "{named}");
        }
    }
}

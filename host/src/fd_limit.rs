//! The limit of open file descriptors of this process, which bounds the number of connections.
//!
//! ```
//! let limit = host::fd_limit::raise();
//! assert_eq!(host::fd_limit::raise(), limit, "it is as high as it can be");
//! ```

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that must be free when the gateway starts to serve: for one connection, and for
/// short-lived use beside it (a reload's file, a probe, the admin socket).
const LEAST: u64 = 10;

/// Raises the soft limit of open files to the hard limit, which needs no privileges. Returns the
/// limit that is in force then, which is the lower one if it cannot be raised; `None` if there is
/// not a limit.
///
/// Shells and service managers start processes with a low soft limit for the sake of select(2),
/// which nothing here uses.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    }
}

/// Returns the hard limit, to which [`raise`] would raise the soft one; `None` if there is not a
/// limit.
pub fn hard() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Returns the number of open descriptors if fewer than 10 of `most` are left, which is too few to
/// serve a client; otherwise `None`, also if `/proc` cannot be read.
pub fn too_many_open(most: u64) -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory, which is closed again.
    let open = u64::try_from(open).ok()?.saturating_sub(1);
    (most.saturating_sub(open) < LEAST).then_some(open)
}

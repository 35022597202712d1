//! The limit of open file descriptors, which bounds the number of connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::policy::Quota;

/// Descriptors of one connection: the client's socket and the upstream's.
pub(crate) const EACH: usize = 2;
/// Descriptors that are reserved, at least: listeners, logs, probes, a reload's files and the admin
/// socket need some at any time.
const KEPT: u64 = 64;
/// The same as a share of all descriptors: one in 16 is reserved.
const KEPT_SHARE: u64 = 16;

/// Descriptors that must be free when the gateway starts to serve: for one connection, and for
/// short-lived use beside it (a reload's file, a probe, the admin socket).
const LEAST: u64 = 10;

/// Returns how many of `descriptors` clients may use. The reserved ones are at most half of them.
pub(crate) fn for_clients(descriptors: u64) -> u64 {
    let kept = KEPT.max(descriptors / KEPT_SHARE);
    descriptors - kept.min(descriptors / 2)
}

/// Raises the soft limit of open files to the hard limit, which needs no privileges. Returns the
/// limit that is in force then, `None` if there is not a limit.
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

/// Returns the number of open descriptors if fewer than [`LEAST`] of `most` are left, which is too
/// few to serve a client; otherwise `None`, also if `/proc` cannot be read.
pub(crate) fn too_many_open(most: u64) -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory, which is closed again.
    let open = u64::try_from(open).ok()?.saturating_sub(1);
    (most.saturating_sub(open) < LEAST).then_some(open)
}

/// Logs a warning if the policy allows more connections than `descriptors` do.
pub fn warn(descriptors: Option<u64>, connections: Quota) {
    let Some(descriptors) = descriptors else {
        return;
    };
    let possible = for_clients(descriptors) / EACH as u64;
    let limit = match connections {
        Quota::Unlimited => None,
        Quota::AtMost(most) => Some(u64::from(most.get())),
    };
    if limit.is_none_or(|limit| limit > possible) {
        tracing::warn!(
            descriptors,
            possible,
            limit,
            "the policy allows more connections than descriptors do: raise the hard limit of open \
             files (LimitNOFILE=), or lower gateway.limits.connections"
        );
    }
}

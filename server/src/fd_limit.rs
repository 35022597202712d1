//! How many file descriptors the process may have, and so how many connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::policy::Quota;

/// A connection's descriptors: the client's socket and the upstream's.
pub(crate) const EACH: usize = 2;
/// How many descriptors clients leave alone: listeners, logs, probes, a reload's files and the admin
/// socket need some whatever clients do.
const KEPT: u64 = 64;
/// The same as a share, one in so many.
const KEPT_SHARE: u64 = 16;

/// How many descriptors must be left when the gateway is about to serve: for one connection, and for what comes and goes
/// beside it (a reload's file, a probe, the admin socket).
const LEAST: u64 = 10;

/// How many of so many descriptors clients may use.
pub(crate) fn for_clients(descriptors: u64) -> u64 {
    let kept = KEPT.max(descriptors / KEPT_SHARE);
    descriptors - kept.min(descriptors / 2)
}

/// Raises the limit to what an ordinary process may raise it to; returns it, `None` without limit.
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

/// How many descriptors are open, if so few of `most` are left that nobody could be served. Without `/proc` it is not
/// known.
pub(crate) fn too_many_open(most: u64) -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory, which is closed again.
    let open = u64::try_from(open).ok()?.saturating_sub(1);
    (most.saturating_sub(open) < LEAST).then_some(open)
}

/// Says so if the policy promises more connections than there can be.
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

//! How many file descriptors the process may have, and so how many connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::policy::Quota;

/// A connection's descriptors: the client's socket and the upstream's.
const EACH: u64 = 2;

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

/// Says so if the policy promises more connections than there can be.
pub fn warn(descriptors: Option<u64>, connections: Quota) {
    let Some(descriptors) = descriptors else {
        return;
    };
    let possible = descriptors / EACH;
    let promised = match connections {
        Quota::Unlimited => u64::MAX,
        Quota::AtMost(most) => most.get().into(),
    };
    if promised > possible {
        tracing::warn!(
            descriptors,
            possible,
            limit = %connections,
            "the policy allows more connections than descriptors do: raise the hard limit of open \
             files (LimitNOFILE=), or lower gateway.limits.connections"
        );
    }
}

//! The share of the process's file descriptors that clients may use.

use policy::Quota;

/// Descriptors of one connection: the client's socket and the upstream's.
pub(super) const EACH: usize = 2;
/// Descriptors that are reserved, at least: listeners, logs, probes, a reload's files and the admin
/// socket need some at any time.
const KEPT: u64 = 64;
/// The same as a share of all descriptors: one in 16 is reserved.
const KEPT_SHARE: u64 = 16;

/// Returns how many of `descriptors` clients may use. The reserved ones are at most half of them.
pub(super) fn for_clients(descriptors: u64) -> u64 {
    let kept = KEPT.max(descriptors / KEPT_SHARE);
    descriptors - kept.min(descriptors / 2)
}

/// Logs a warning if the policy allows more connections than `descriptors` do.
pub fn warn_if_few_descriptors(descriptors: Option<u64>, connections: Quota) {
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
            "the open-file limit is too low for gateway.limits.connections; raise the hard limit \
             (LimitNOFILE=), or lower the number of connections"
        );
    }
}

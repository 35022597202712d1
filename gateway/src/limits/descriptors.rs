//! The share of the process's file descriptors that clients may use.

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

/// Returns how many connections `descriptors` are enough for, beside those that are reserved.
pub fn possible_connections(descriptors: u64) -> u64 {
    for_clients(descriptors) / EACH as u64
}
